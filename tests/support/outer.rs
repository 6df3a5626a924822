//! A pump for tests, in its own loop or in one that is not its own.

// Each test file uses a part of this.
#![allow(dead_code)]

use core::ops::{Deref, DerefMut};
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use forkplan::{Backend, Change, Interest, Pump, Readiness, SourceKey};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// A pump whose `poll` waits wherever its backend says.
pub(crate) struct TestPump {
    pump: Pump,
    /// For one that does not wait by itself.
    outer: Option<Outer>,
}

/// An epoll loop, as a user may have one. What it says to the pump is what epoll
/// said, and no more.
pub(crate) struct Outer {
    set: OwnedFd,
    /// How each source is watched.
    flags: EventFlags,
    /// Says of each source that was found all that it might be ready for: a hint
    /// may say too much.
    is_vague: bool,
    watched: BTreeMap<SourceKey, Interest>,
    loses: Option<Loss>,
    seen: Traffic,
}

/// What a broken loop loses, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// That a source is to be watched for more than it is, or once more.
    Change(usize),
    /// A source that was found, and that the pump does not hear of.
    Event(usize),
}

/// What went between the pump and a loop that is not its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Changes by which a source is watched for more than it was, or once more.
    pub(crate) changes: usize,
    /// Sources that were found ready.
    pub(crate) events: usize,
}

impl TestPump {
    /// The backend is that of `FORKPLAN_TEST_BACKEND`: `poll`, `epoll`, or a
    /// loop that is not the pump's, level-triggered (`level`), edge-triggered
    /// (`edge`), one event at a time (`oneshot`), or edge-triggered with hints
    /// that say too much (`vague`).
    pub(crate) fn new() -> Self {
        let forced = |backend| Pump::with_backend(backend).unwrap();
        let none = EventFlags::empty();
        let wanted = std::env::var("FORKPLAN_TEST_BACKEND");
        let (pump, flags) = match wanted.as_deref() {
            Err(_) => (Pump::new(), none),
            Ok("poll") => (forced(Backend::Poll), none),
            Ok("epoll") => (forced(Backend::Epoll), none),
            Ok("level") => (forced(Backend::Foreign), none),
            Ok("edge" | "vague") => (forced(Backend::Foreign), EventFlags::ET),
            Ok("oneshot") => (forced(Backend::Foreign), EventFlags::ET | EventFlags::ONESHOT),
            Ok(other) => panic!("no such backend: {other}"),
        };
        let mut made = Self::in_loop(pump, flags);
        if let Some(outer) = &mut made.outer {
            outer.is_vague = wanted.as_deref() == Ok("vague");
        }
        made
    }

    pub(crate) fn in_loop(mut pump: Pump, flags: EventFlags) -> Self {
        let foreign = pump.backend() == Backend::Foreign;
        let outer = foreign.then(|| Outer::new(&mut pump, flags));
        Self { pump, outer }
    }

    /// The pump, and the loop that is not its own, for who has another use for both.
    pub(crate) fn into_parts(self) -> (Pump, Option<Outer>) {
        (self.pump, self.outer)
    }

    /// A pump in a loop that is not its own and that is broken, if it loses
    /// something.
    pub(crate) fn in_broken_loop(flags: EventFlags, loses: Option<Loss>) -> Self {
        let mut broken = Self::in_loop(Pump::with_backend(Backend::Foreign).unwrap(), flags);
        if let Some(outer) = &mut broken.outer {
            outer.loses = loses;
        }
        broken
    }

    /// What has gone between the pump and a loop that is not its own.
    pub(crate) fn traffic(&self) -> Traffic {
        self.outer.as_ref().map_or(Traffic::default(), |outer| outer.seen)
    }

    /// Has the other loop do what the pump asks for.
    pub(crate) fn follow(&mut self) {
        if let Some(outer) = &mut self.outer {
            outer.follow(&mut self.pump);
        }
    }

    /// As `Pump::poll`.
    pub(crate) fn poll(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        match &mut self.outer {
            Some(outer) => outer.poll(&mut self.pump, timeout),
            None => self.pump.poll(timeout),
        }
    }
}

impl Outer {
    /// A loop for a pump that is told of readiness.
    fn new(pump: &mut Pump, flags: EventFlags) -> Self {
        pump.set_one_shot(flags.contains(EventFlags::ONESHOT));
        Self {
            set: epoll::create(CreateFlags::CLOEXEC).unwrap(),
            flags,
            is_vague: false,
            watched: BTreeMap::new(),
            loses: None,
            seen: Traffic::default(),
        }
    }

    /// Waits as the pump asks for, and then polls it.
    pub(crate) fn poll(&mut self, pump: &mut Pump, timeout: Option<Duration>) -> io::Result<bool> {
        self.follow(pump);
        let due = pump.next_deadline();
        let due = due.map(|due| due.saturating_duration_since(Instant::now()));
        let at_once = pump.has_events() || pump.is_empty();
        let at_once = at_once.then_some(Duration::ZERO);
        let timeout = [timeout, due, at_once].into_iter().flatten().min();
        self.wait(pump, timeout);
        pump.poll(timeout)
    }

    fn follow(&mut self, pump: &mut Pump) {
        while let Some(change) = pump.next_change() {
            match change {
                Change::Add { source, fd, interest } => {
                    let data = EventData::new_u64(source.into());
                    epoll::add(&self.set, fd, data, self.events(interest)).unwrap();
                    self.watched.insert(source, interest);
                }
                Change::Modify { source, fd, interest } => {
                    let data = EventData::new_u64(source.into());
                    if !self.loses_change(source, interest) {
                        epoll::modify(&self.set, fd, data, self.events(interest)).unwrap();
                    }
                }
                // It has to be the same file still: nothing else is in the set.
                Change::Remove { source, fd } => {
                    epoll::delete(&self.set, fd).unwrap();
                    self.watched.remove(&source);
                }
                other => panic!("a change that the tests do not know: {other:?}"),
            }
        }
    }

    fn loses_change(&mut self, source: SourceKey, interest: Interest) -> bool {
        let before = self.watched.insert(source, interest).unwrap_or(Interest::empty());
        if before.contains(interest) {
            return false;
        }
        self.seen.changes += 1;
        self.loses == Some(Loss::Change(self.seen.changes - 1))
    }

    fn loses_event(&mut self, source: SourceKey) -> bool {
        self.seen.events += 1;
        if self.flags.contains(EventFlags::ONESHOT) {
            self.watched.insert(source, Interest::empty());
        }
        self.loses == Some(Loss::Event(self.seen.events - 1))
    }

    fn events(&self, interest: Interest) -> EventFlags {
        let mut events = self.flags;
        events.set(EventFlags::IN, interest.contains(Interest::READ));
        events.set(EventFlags::OUT, interest.contains(Interest::WRITE));
        events
    }

    fn wait(&mut self, pump: &mut Pump, timeout: Option<Duration>) {
        // Rounded up, so that no wait ends before its time.
        let millis = timeout.map_or(-1, |timeout| timeout.as_nanos().div_ceil(1_000_000) as i32);
        let mut found = [libc::epoll_event { events: 0, u64: 0 }; 64];
        // SAFETY: the kernel writes at most so many events.
        let count =
            unsafe { libc::epoll_wait(self.set.as_raw_fd(), found.as_mut_ptr(), 64, millis) };
        for event in &found[..count.max(0) as usize] {
            let source = SourceKey::from(event.u64);
            if !self.loses_event(source) {
                let said = EventFlags::from_bits_retain(event.events);
                pump.on_ready(source, self.hint(said));
            }
        }
    }

    fn hint(&self, said: EventFlags) -> Readiness {
        let mut hint = Readiness::empty();
        hint.set(Readiness::READ, said.contains(EventFlags::IN));
        hint.set(Readiness::WRITE, said.contains(EventFlags::OUT));
        hint.set(Readiness::HANGUP, said.intersects(EventFlags::HUP | EventFlags::ERR));
        if self.is_vague { Readiness::all() } else { hint }
    }
}

impl Deref for TestPump {
    type Target = Pump;

    fn deref(&self) -> &Pump {
        &self.pump
    }
}

impl DerefMut for TestPump {
    fn deref_mut(&mut self) -> &mut Pump {
        &mut self.pump
    }
}
