//! Children in a pump: what they are fed, what is kept of what they say, and when
//! their time is over.

extern crate std;

use core::time::Duration;
use std::boxed::Box;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;
use std::vec::Vec;

use super::capture::CaptureBuffer;
use super::captured::{Captured, ChannelOutput};
use crate::channel::{ChannelInfo, Name, OwnedName};
use crate::child::{Child, Exit, OnDrop};
use crate::limits::{EVENTS_PER_POLL_MAX, LINGER};
use crate::pump::{ChannelError, ChildKey, CloseReason, Event, Ladder, Pump};

/// Bytes for a channel.
pub(super) type Input<'i> = (OwnedName, &'i [u8]);

/// What a child is bounded by.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// How many bytes are kept of each channel.
    pub(super) limit: usize,
    /// And of these.
    pub(super) limits: Vec<(OwnedName, usize)>,
    pub(super) huge_pages: bool,
    pub(super) timeout: Option<(Duration, Ladder)>,
    pub(super) drain: Option<Duration>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            limit: usize::MAX,
            limits: Vec::new(),
            huge_pages: false,
            timeout: None,
            drain: None,
        }
    }
}

impl Terms {
    fn limit_of(&self, info: &ChannelInfo) -> usize {
        let said = self.limits.iter().rev().find(|(name, _)| info.is(name.get()));
        said.map_or(self.limit, |(_, limit)| *limit)
    }
}

/// What [`Jobs::turn`] tells, of the child that was added with this index.
pub(super) enum Told<'a> {
    Data { index: usize, channel: Name<'a>, bytes: &'a [u8] },
    Ended { index: usize, captured: Captured },
}

/// Children that run to their end. Dropped, it kills those that have not come to
/// it.
#[derive(Debug)]
pub(super) struct Jobs<'i> {
    pump: Pump,
    running: HashMap<ChildKey, Job<'i>>,
}

#[derive(Debug)]
struct Job<'i> {
    index: usize,
    infos: Arc<[ChannelInfo]>,
    channels: Box<[Kept<'i>]>,
    /// When its time is over, until it is.
    until: Option<Instant>,
    timed_out: bool,
    /// Whether the user has said how long its channels may stay open.
    drains: bool,
}

/// One channel of a child.
#[derive(Debug)]
struct Kept<'i> {
    captured: CaptureBuffer,
    unsent: usize,
    closed: CloseReason,
    /// What was not taken yet.
    input: &'i [u8],
}

/// What is to be done when an event is no longer looked at.
enum Next {
    Nothing,
    Feed(ChildKey, usize),
    TimeIsOver(ChildKey),
}

impl<'i> Jobs<'i> {
    pub(super) fn new() -> Self {
        Self { pump: Pump::new(), running: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// Takes a child and begins with its input.
    pub(super) fn add(
        &mut self,
        index: usize,
        mut child: Child,
        terms: &Terms,
        inputs: &[Input<'i>],
    ) -> Result<(), ChannelError> {
        child.set_on_drop(OnDrop::Kill);
        let key = self.pump.add(child);
        let infos = self.pump.channel_infos(key).unwrap_or_default();
        let kept = |info: &ChannelInfo| {
            let input = inputs.iter().rev().find(|(name, _)| info.is(name.get()));
            Kept {
                captured: CaptureBuffer::new(terms.limit_of(info)).huge_pages(terms.huge_pages),
                unsent: 0,
                closed: CloseReason::Us,
                input: input.map_or(&[], |(_, input)| input),
            }
        };
        let channels: Box<[Kept<'i>]> = infos.iter().map(kept).collect();
        let writers = infos.iter().enumerate().filter(|(_, info)| info.end.direction.writes());
        let writers: Vec<usize> = writers.map(|(place, _)| place).collect();
        let mut until = None;
        if let Some((after, ladder)) = &terms.timeout {
            until = Instant::now().checked_add(*after);
            self.pump.set_deadline(key, until, ladder.clone())?;
        }
        self.pump.set_drain_limit(key, terms.drain)?;
        let drains = terms.drain.is_some();
        let job = Job { index, infos, channels, until, timed_out: false, drains };
        self.running.insert(key, job);
        for place in writers {
            self.feed(key, place)?;
        }
        Ok(())
    }

    /// Brings all that run to their end. A ladder without signals leaves them alone,
    /// and their deadlines where they are.
    pub(super) fn stop(&mut self, ladder: &Ladder) {
        if *ladder == Ladder::new() {
            return;
        }
        for (&key, job) in &self.running {
            // One that has ended meanwhile needs no signal.
            let _ = self.pump.stop(key, ladder.clone());
            if !job.drains {
                let _ = self.pump.set_drain_limit(key, Some(LINGER));
            }
        }
    }

    /// Looks once, or `waits` once, and tells what came of it, but not for ever: a
    /// channel that never falls silent must not hide a deadline.
    pub(super) fn turn(&mut self, waits: bool, mut tell: impl FnMut(Told<'_>)) -> io::Result<()> {
        let until = self.running.values().filter_map(|job| job.until).min();
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        self.pump.poll(if waits { left } else { Some(Duration::ZERO) })?;
        for _ in 0..EVENTS_PER_POLL_MAX {
            let Some(event) = self.pump.next_event() else { break };
            match note(&mut self.running, event, &mut tell) {
                Next::Nothing => {}
                Next::Feed(key, place) => self.feed(key, place)?,
                Next::TimeIsOver(key) => self.time_is_over(key),
            }
        }
        if until.is_some() {
            let now = Instant::now();
            let late = |job: &Job<'_>| job.until.is_some_and(|until| until <= now);
            let keys = self.running.iter().filter(|(_, job)| late(job));
            for key in keys.map(|(key, _)| *key).collect::<Vec<_>>() {
                self.time_is_over(key);
            }
        }
        Ok(())
    }

    /// The ladder ends the process. A grandchild that it does not reach, or one
    /// that outlives an exit in time, must not keep us longer.
    fn time_is_over(&mut self, key: ChildKey) {
        let Some(job) = self.running.get_mut(&key) else { return };
        job.until = None;
        job.timed_out = true;
        if !job.drains {
            job.drains = true;
            let _ = self.pump.set_drain_limit(key, Some(LINGER));
        }
    }

    /// Gives a channel as much as it takes, and its end after the last byte.
    fn feed(&mut self, key: ChildKey, place: usize) -> Result<(), ChannelError> {
        let Some(job) = self.running.get_mut(&key) else { return Ok(()) };
        let (name, kept) = (job.infos[place].name(), &mut job.channels[place]);
        if !kept.input.is_empty() {
            match self.pump.write(key, name, kept.input) {
                Ok(taken) => kept.input = &kept.input[taken..],
                Err(ChannelError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if kept.input.is_empty() {
            match self.pump.close_write(key, name) {
                Ok(()) | Err(ChannelError::NoHalfClose) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Keeps what an event brings.
fn note(
    running: &mut HashMap<ChildKey, Job<'_>>,
    event: Event<'_>,
    tell: &mut impl FnMut(Told<'_>),
) -> Next {
    let key = event.child();
    let Some(job) = running.get_mut(&key) else { return Next::Nothing };
    match event {
        Event::Data { channel, bytes, .. } => {
            if let Some(place) = job.place(channel) {
                job.channels[place].captured.push(bytes);
            }
            tell(Told::Data { index: job.index, channel, bytes });
        }
        Event::Drained { channel, .. } => {
            return job.place(channel).map_or(Next::Nothing, |place| Next::Feed(key, place));
        }
        Event::Closed { channel, reason, unsent, .. } => {
            if let Some(place) = job.place(channel) {
                let kept = &mut job.channels[place];
                kept.unsent = unsent + kept.input.len();
                kept.closed = reason;
            }
        }
        Event::TimedOut { .. } => return Next::TimeIsOver(key),
        Event::Ended { exit, .. } => {
            if let Some(job) = running.remove(&key) {
                tell(Told::Ended { index: job.index, captured: job.captured(exit) });
            }
        }
        _ => {}
    }
    Next::Nothing
}

impl Job<'_> {
    fn place(&self, name: Name<'_>) -> Option<usize> {
        self.infos.iter().position(|info| info.is(name))
    }

    fn captured(self, exit: Exit) -> Captured {
        let channels = Vec::from(self.channels).into_iter().map(Kept::into_output).collect();
        Captured { exit, timed_out: self.timed_out, infos: self.infos, channels }
    }
}

impl Kept<'_> {
    fn into_output(self) -> ChannelOutput {
        let Self { captured, unsent, closed, .. } = self;
        let dropped = captured.dropped();
        ChannelOutput { bytes: captured.into_bytes(), dropped, unsent, closed }
    }
}
