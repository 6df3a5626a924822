//! A pump for tests, in its own loop or in one that is not its own.

// Each test file uses a part of this.
#![allow(dead_code)]

use core::ops::{Deref, DerefMut};
use core::time::Duration;
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

/// An epoll loop, as a user may have one.
pub(crate) struct Outer {
    set: OwnedFd,
    /// How each source is watched.
    flags: EventFlags,
}

impl TestPump {
    /// The backend is that of `FORKPLAN_TEST_BACKEND`: `poll`, `epoll`, or a
    /// loop that is not the pump's, level-triggered (`level`), edge-triggered
    /// (`edge`) or one event at a time (`oneshot`).
    pub(crate) fn new() -> Self {
        let forced = |backend| Pump::with_backend(backend).unwrap();
        let none = EventFlags::empty();
        let (pump, flags) = match std::env::var("FORKPLAN_TEST_BACKEND").as_deref() {
            Err(_) => (Pump::new(), none),
            Ok("poll") => (forced(Backend::Poll), none),
            Ok("epoll") => (forced(Backend::Epoll), none),
            Ok("level") => (forced(Backend::Foreign), none),
            Ok("edge") => (forced(Backend::Foreign), EventFlags::ET),
            Ok("oneshot") => (forced(Backend::Foreign), EventFlags::ET | EventFlags::ONESHOT),
            Ok(other) => panic!("no such backend: {other}"),
        };
        Self::in_loop(pump, flags)
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

    /// Has the other loop do what the pump asks for.
    pub(crate) fn follow(&mut self) {
        if let Some(outer) = &self.outer {
            outer.follow(&mut self.pump);
        }
    }

    /// As `Pump::poll`.
    pub(crate) fn poll(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        match &self.outer {
            Some(outer) => outer.poll(&mut self.pump, timeout),
            None => self.pump.poll(timeout),
        }
    }
}

impl Outer {
    /// A loop for a pump that is told of readiness.
    fn new(pump: &mut Pump, flags: EventFlags) -> Self {
        pump.set_one_shot(flags.contains(EventFlags::ONESHOT));
        Self { set: epoll::create(CreateFlags::CLOEXEC).unwrap(), flags }
    }

    /// Waits as the pump asks for, and then polls it.
    pub(crate) fn poll(&self, pump: &mut Pump, timeout: Option<Duration>) -> io::Result<bool> {
        self.follow(pump);
        let due = pump.next_deadline();
        let due = due.map(|due| due.saturating_duration_since(Instant::now()));
        let at_once = pump.has_events() || pump.is_empty();
        let at_once = at_once.then_some(Duration::ZERO);
        let timeout = [timeout, due, at_once].into_iter().flatten().min();
        self.wait(pump, timeout);
        pump.poll(timeout)
    }

    fn follow(&self, pump: &mut Pump) {
        while let Some(change) = pump.next_change() {
            match change {
                Change::Add { source, fd, interest } => {
                    let data = EventData::new_u64(source.into());
                    epoll::add(&self.set, fd, data, self.events(interest)).unwrap();
                }
                Change::Modify { source, fd, interest } => {
                    let data = EventData::new_u64(source.into());
                    epoll::modify(&self.set, fd, data, self.events(interest)).unwrap();
                }
                // It has to be the same file still: nothing else is in the set.
                Change::Remove { fd, .. } => epoll::delete(&self.set, fd).unwrap(),
                other => panic!("a change that the tests do not know: {other:?}"),
            }
        }
    }

    fn events(&self, interest: Interest) -> EventFlags {
        let mut events = self.flags;
        events.set(EventFlags::IN, interest.contains(Interest::READ));
        events.set(EventFlags::OUT, interest.contains(Interest::WRITE));
        events
    }

    fn wait(&self, pump: &mut Pump, timeout: Option<Duration>) {
        // Rounded up, so that no wait ends before its time.
        let millis = timeout.map_or(-1, |timeout| timeout.as_nanos().div_ceil(1_000_000) as i32);
        let mut found = [libc::epoll_event { events: 0, u64: 0 }; 64];
        // SAFETY: the kernel writes at most so many events.
        let count =
            unsafe { libc::epoll_wait(self.set.as_raw_fd(), found.as_mut_ptr(), 64, millis) };
        for event in &found[..count.max(0) as usize] {
            // All that it might be: a hint may say too much.
            pump.on_ready(SourceKey::from(event.u64), Readiness::all());
        }
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
