//! Deadlines, silence, and the bound on waiting after an exit.

extern crate std;

use core::fmt;
use core::time::Duration;
use std::boxed::Box;
use std::time::Instant;

use super::event::{ChannelError, ChildKey, CloseReason};
use super::ladder::Ladder;
use super::source::LastWords;
use super::timers::{Timer, TimerKey, What};
use super::turns::Note;
use super::{Part, Pump, Token};
use crate::channel::Name;
use crate::child::SignalError;
use crate::limits::{LAST_READS_MAX, WAIT_TICK_MILLIS};
use crate::sys::Errno;
use crate::sys::poll::Readiness;

/// What a child's time is bounded by.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    /// How it is stopped, the next rung, and when that is taken.
    stop: Option<(Ladder, usize)>,
    stop_timer: Timer,
    /// How long its channels may stay open after its exit.
    drain: Option<Duration>,
    drain_timer: Timer,
}

/// Where the time comes from.
pub(super) struct Clock(Option<Box<dyn FnMut() -> Instant + Send>>);

impl Clock {
    pub(super) fn system() -> Self {
        Self(None)
    }

    fn now(&mut self) -> Instant {
        self.0.as_mut().map_or_else(Instant::now, |clock| clock())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Clock(given)" } else { "Clock(system)" })
    }
}

/// # Time
///
/// What is due is found by [`poll`](Self::poll), which reads the clock once, and
/// only if a bound is set, and waits no longer than until the next is due. A
/// span of time begins at the first reading after what it follows.
impl Pump {
    /// Brings a child to its end: sends the ladder's first signal now, and each
    /// other when the one before has had its time. Tells each by
    /// [`Event::Signalled`](super::Event::Signalled). Takes the place of an
    /// earlier ladder or deadline.
    pub fn stop(&mut self, child: ChildKey, ladder: Ladder) -> Result<(), ChannelError> {
        let slot = self.slots.get_mut(child).ok_or(ChannelError::NoChild)?;
        slot.bounds.stop_timer.clear();
        slot.bounds.stop = Some((ladder, 0));
        self.climb(child);
        Ok(())
    }

    /// Sets when a child that has not ended by then is stopped: at `deadline`
    /// comes [`Event::TimedOut`](super::Event::TimedOut), and what
    /// [`stop`](Self::stop) does. Takes the place of an earlier ladder or
    /// deadline; `None` takes it away.
    pub fn set_deadline(
        &mut self,
        child: ChildKey,
        deadline: Option<Instant>,
        ladder: Ladder,
    ) -> Result<(), ChannelError> {
        let slot = self.slots.get_mut(child).ok_or(ChannelError::NoChild)?;
        slot.bounds.stop_timer.clear();
        slot.bounds.stop = deadline.map(|_| (ladder, 0));
        if let Some(at) = deadline {
            let key = TimerKey { child, what: What::Stop };
            self.timers.set(&mut slot.bounds.stop_timer, key, at);
        }
        Ok(())
    }

    /// Sets how long a child's channels may stay open after its exit, because a
    /// grandchild holds them. Then what lies in them is told (of a channel that is
    /// paused, nothing; of one into which more and more is written, a thousand reads),
    /// they are closed, with [`CloseReason::Abandoned`], and the child has ended. Whoever
    /// pauses one meanwhile, or leaves its fds untaken, is waited for. `None`, as without
    /// this call: as long as they are held.
    pub fn set_drain_limit(
        &mut self,
        child: ChildKey,
        limit: Option<Duration>,
    ) -> Result<(), ChannelError> {
        let slot = self.slots.get_mut(child).ok_or(ChannelError::NoChild)?;
        slot.bounds.drain = limit;
        slot.bounds.drain_timer.clear();
        if slot.life.has_exited() {
            self.bound_drain(child);
        }
        Ok(())
    }

    /// Sets after how much silence [`Event::Idle`](super::Event::Idle) comes: no
    /// byte read from the channel, though it was not paused. Once for each
    /// silence. `None`, as without this call: never.
    pub fn set_idle_limit<'n>(
        &mut self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
        limit: Option<Duration>,
    ) -> Result<(), ChannelError> {
        let (token, source) = self.slots.find(child, channel.into())?;
        if !source.info.direction.reads() {
            return Err(ChannelError::NotReadable);
        }
        source.idle_limit = limit;
        source.idle_timer.clear();
        source.idle_waits = false;
        self.heard(token);
        Ok(())
    }

    /// When [`poll`](Self::poll) has to be called at the latest, for a loop that
    /// waits by itself: a past time if there is more to do at once, such as events
    /// that were not asked for yet. `None`: whenever a source is ready.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        let more = self.has_events() || !self.unfinished.is_empty() || self.sources.hides_some();
        if self.timers.wait_for_clock() || more {
            return Some(self.read_at);
        }
        let tick = self.ticks().then(|| self.now() + Duration::from_millis(WAIT_TICK_MILLIS));
        [self.next_due(), tick].into_iter().flatten().min()
    }

    /// When the first of the timers that run is due, or the next look for orphans.
    fn next_due(&mut self) -> Option<Instant> {
        let look = self.orphans.due();
        while let Some((at, key)) = self.timers.head() {
            if self.timers.head_is_right(self.slots.timer(key)) {
                return Some(look.map_or(at, |look| look.min(at)));
            }
        }
        look
    }

    pub(super) fn now(&mut self) -> Instant {
        self.clock.now()
    }

    /// Reads the time from `clock` from now on, in place of `Instant::now`: for
    /// tests, and for loops that have read it already.
    pub fn set_clock(&mut self, clock: impl FnMut() -> Instant + Send + 'static) {
        self.clock = Clock(Some(Box::new(clock)));
    }

    /// Reads the clock, if anybody waits for a time: does what is due, and says
    /// how long may be waited for what is not.
    pub(super) fn look_at_clock(&mut self) -> Option<Duration> {
        if !self.timers.are_running() && self.orphans.due().is_none() {
            return None;
        }
        let now = self.clock.now();
        self.read_at = now;
        let Self { timers, slots, .. } = self;
        timers.sweep_if_crowded(|at, key| slots.timer(key).is_some_and(|timer| timer.comes(at)));
        while let Some(key) = self.timers.next_fresh() {
            if let Some(timer) = self.slots.timer(key) {
                self.timers.run(timer, key, now);
            }
        }
        self.do_what_is_due(now);
        if self.timers.wait_for_clock() {
            // What was done now has begun a span: it is read once more, and not after
            // a wait that may be for ever.
            return Some(Duration::ZERO);
        }
        self.next_due().map(|at| at.saturating_duration_since(now))
    }

    /// So much time has passed since the clock was read.
    pub(super) fn time_passed(&mut self, time: Duration) {
        self.read_at += time;
        self.do_what_is_due(self.read_at);
    }

    /// A channel was read: its silence begins anew.
    pub(super) fn heard(&mut self, token: Token) {
        let Part::Channel(part) = token.part else { return };
        let Some(source) = self.slots.source(token) else { return };
        if let Some(limit) = source.idle_limit {
            let key = TimerKey { child: token.child, what: What::Idle(part) };
            self.timers.begin(&mut source.idle_timer, key, limit);
        }
    }

    /// A process was reaped: it needs no signal any more, and its channels have
    /// a bound.
    pub(super) fn bound_after_exit(&mut self, child: ChildKey) {
        let Some(slot) = self.slots.get_mut(child) else { return };
        if let Some((ladder, _)) = &slot.bounds.stop {
            if !ladder.is_to_group() {
                slot.bounds.stop = None;
                slot.bounds.stop_timer.clear();
            }
        }
        self.bound_drain(child);
    }

    /// Has the limit for the channels of a child that has exited begin.
    fn bound_drain(&mut self, child: ChildKey) {
        let Some(slot) = self.slots.get_mut(child) else { return };
        if let Some(limit) = slot.bounds.drain {
            let key = TimerKey { child, what: What::Drain };
            self.timers.begin(&mut slot.bounds.drain_timer, key, limit);
        }
    }

    fn do_what_is_due(&mut self, now: Instant) {
        self.orphans_are_due(now);
        while let Some(entry) = self.timers.next_entry(now) {
            let key = entry.1;
            let Some(timer) = self.slots.timer(key) else { continue };
            if !self.timers.came(timer, entry, now) {
                continue;
            }
            match key.what {
                What::Stop => self.stop_is_due(key.child),
                What::Drain => self.abandon(key.child),
                What::Idle(_) => self.idle_is_due(key.token()),
                What::Start => self.look_at_start(key.child),
            }
        }
    }

    fn stop_is_due(&mut self, child: ChildKey) {
        // Nothing comes after the end, which may have yet to be told.
        let Some(slot) = self.slots.get(child).filter(|slot| !slot.life.has_ended()) else {
            return;
        };
        let first = matches!(slot.bounds.stop, Some((_, 0)));
        // Where there is no process, the channels are all that may take too long.
        if first && (slot.child.is_none() || !slot.life.has_exited()) {
            self.note_after_made(Note::TimedOut { child });
        }
        self.climb(child);
    }

    /// Sends the ladder's next signal, if there is one and somebody to get it.
    pub(super) fn climb(&mut self, child: ChildKey) {
        let Some(slot) = self.slots.get_mut(child).filter(|slot| !slot.life.has_ended()) else {
            return;
        };
        let Some((ladder, next)) = &mut slot.bounds.stop else { return };
        let Some((signal, wait)) = ladder.rung(*next) else { return };
        let sent = match (&slot.child, ladder.is_to_group(), &mut slot.start) {
            (Some(process), true, _) => match process.signal_group(signal) {
                // It leads none, and is alone in what is to end.
                Err(SignalError::Errno(errno)) if errno == Errno::SRCH.raw_os_error() => {
                    process.signal(signal).is_ok()
                }
                sent => sent.is_ok(),
            },
            (Some(process), false, _) => process.signal(signal).is_ok(),
            (None, _, Some(start)) => {
                let sent = start.signal(signal);
                if start.owes_signal(sent) {
                    return;
                }
                sent.is_ok()
            }
            (None, _, None) => false,
        };
        *next += 1;
        if ladder.rung(*next).is_some() {
            let key = TimerKey { child, what: What::Stop };
            self.timers.begin(&mut slot.bounds.stop_timer, key, wait);
        }
        if sent {
            self.note_after_made(Note::Signalled { child, signal });
        }
    }

    /// Closes what is still open of a child that has exited, and reads what lies there
    /// before.
    fn abandon(&mut self, child: ChildKey) {
        let reason = CloseReason::Abandoned;
        let count = self.slots.get(child).map_or(0, |slot| slot.sources.len());
        for part in 0..count as u32 {
            let token = Token { child, part: Part::Channel(part) };
            let Some(source) = self.slots.source(token) else { continue };
            if source.reading && !source.stopped() {
                // One whose process was its end is read to that already.
                source.last_words.get_or_insert(LastWords { reason, reads: LAST_READS_MAX });
                self.slots.give_turn(&mut self.turns, token, Readiness::READ);
            } else if source.reading || !self.close_half(token) {
                self.close_channel(token, reason);
            }
        }
    }

    fn idle_is_due(&mut self, token: Token) {
        let Some(source) = self.slots.source(token) else { return };
        match (source.reading, source.paused) {
            (false, _) => {}
            // Silence that was asked for. It begins anew when it is so no more.
            (true, true) => source.idle_waits = true,
            (true, false) => self.notes.push_back(Note::Idle(token)),
        }
    }
}

impl TimerKey {
    /// The channel, of a key that is one's.
    fn token(self) -> Token {
        let part = match self.what {
            What::Idle(part) => Part::Channel(part),
            What::Stop | What::Drain | What::Start => Part::Process,
        };
        Token { child: self.child, part }
    }
}

impl super::slots::Slots {
    /// The timer of a child that is still there, or of a channel that is open.
    fn timer(&mut self, key: TimerKey) -> Option<&mut Timer> {
        match key.what {
            What::Stop => self.get_mut(key.child).map(|slot| &mut slot.bounds.stop_timer),
            What::Drain => self.get_mut(key.child).map(|slot| &mut slot.bounds.drain_timer),
            What::Idle(_) => self.source(key.token()).map(|source| &mut source.idle_timer),
            What::Start => Some(&mut self.get_mut(key.child)?.start.as_mut()?.timer),
        }
    }
}
