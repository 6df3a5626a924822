//! Handlers that note what they are told, and a loop that fails where it would
//! hang.

// Each test file uses a part of this.
#![allow(dead_code, unused_imports)]

#[path = "pump.rs"]
mod pump;

use core::time::Duration;
use std::cell::RefCell;
use std::rc::Rc;

use forkplan::{
    ChannelHandler, Child, Command, Event, OnDrop, Process, ProcessHandler, Protocols, Transport,
};

use self::pump::outer::Outer;
pub(crate) use self::pump::{Random, TestPump, Watch, alone, refuse_syscall};

/// Spawns. Should the test fail, the child is killed.
pub(crate) fn spawn(command: &mut Command<'_>) -> Child {
    command.on_drop(OnDrop::Kill).spawn().expect("spawn")
}

/// `sh -c script` with the channels of the default map.
pub(crate) fn sh(script: &str) -> Child {
    spawn(Command::new("sh").args(["-c", script]))
}

/// Goes on until all children have ended. No handler may have panicked.
pub(crate) fn finish(protocols: &mut Protocols<'_>) {
    drive(protocols);
    assert!(protocols.take_panic().is_none());
}

/// The same, whatever handlers do.
pub(crate) fn drive(protocols: &mut Protocols<'_>) {
    let watch = Watch::new();
    protocols.dispatch();
    while !protocols.pump().is_empty() {
        watch.poll_plain(protocols.pump_mut());
        protocols.dispatch();
    }
    assert!(!protocols.pump().has_events());
}

/// Handlers in the loop of a [`TestPump`].
pub(crate) struct Looped<'h> {
    pub(crate) protocols: Protocols<'h>,
    outer: Option<Outer>,
    watch: Watch,
}

impl Looped<'_> {
    pub(crate) fn new() -> Self {
        Self::with(TestPump::new())
    }

    pub(crate) fn with(pump: TestPump) -> Self {
        let (pump, outer) = pump.into_parts();
        Self { protocols: pump.into(), outer, watch: Watch::new() }
    }

    /// One poll, and all that it found; how much was told.
    pub(crate) fn step(&mut self, timeout: Duration) -> usize {
        self.watch.check(self.protocols.pump());
        let pump = self.protocols.pump_mut();
        match &mut self.outer {
            Some(outer) => outer.poll(pump, Some(timeout)),
            None => pump.poll(Some(timeout)),
        }
        .expect("poll");
        self.protocols.dispatch()
    }

    /// Goes on until what is wanted is seen.
    pub(crate) fn until(&mut self, mut seen: impl FnMut(&mut Protocols<'_>) -> bool) {
        self.protocols.dispatch();
        while !seen(&mut self.protocols) {
            assert!(!self.protocols.pump().is_empty(), "all ended, and not seen");
            self.step(Duration::from_secs(1));
        }
    }

    /// Goes on until all children have ended.
    pub(crate) fn finish(&mut self) {
        self.until(|protocols| protocols.pump().is_empty());
        assert!(!self.protocols.pump().has_events());
    }

    /// Nobody is told of anything. Only for children that wait for us.
    pub(crate) fn assert_quiet(&mut self) {
        self.protocols.dispatch();
        for _ in 0..5 {
            assert_eq!(self.step(Duration::from_millis(10)), 0);
        }
    }
}

/// What handlers were told, a line each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    pub(crate) fn note(&self, line: String) {
        self.0.borrow_mut().push(line);
    }

    pub(crate) fn taken(&self) -> Vec<String> {
        self.0.take()
    }

    /// A handler for a process that notes all, as `name`.
    pub(crate) fn process(&self, name: &'static str) -> Noting {
        Noting { log: self.clone(), name }
    }

    /// The same for a channel.
    pub(crate) fn channel(&self, name: &'static str) -> Noting {
        self.process(name)
    }
}

pub(crate) struct Noting {
    log: Log,
    name: &'static str,
}

impl Noting {
    /// Notes, and then calls another.
    pub(crate) fn then<H>(self, next: H) -> Both<H> {
        Both(self, next)
    }

    fn note(&self, event: &Event<'_>, with_channel: bool) {
        let on = |channel: &forkplan::Name<'_>| match with_channel {
            true => format!("{channel} "),
            false => String::new(),
        };
        let line = match event {
            Event::Made { pid, .. } if with_channel => format!("made {pid:?}"),
            Event::Made { .. } => "made".to_string(),
            Event::Data { channel, bytes, .. } => {
                format!("data {}{:?}", on(channel), String::from_utf8_lossy(bytes))
            }
            Event::HalfClosed { channel, .. } => format!("half closed {}", on(channel)),
            Event::Drained { channel, .. } => format!("drained {}", on(channel)),
            Event::Closed { channel, reason, unsent, .. } => {
                format!("closed {}{reason:?} {unsent}", on(channel))
            }
            Event::Exited { exit, .. } => format!("exited {exit}"),
            Event::Ended { exit, .. } => format!("ended {exit}"),
            other => panic!("an event that the tests do not know: {other:?}"),
        };
        self.log.note(format!("{} {}", self.name, line.trim_end()));
    }
}

impl ProcessHandler for Noting {
    fn event(&mut self, _: &mut Process<'_>, event: Event<'_>) {
        self.note(&event, true);
    }
}

impl ChannelHandler for Noting {
    fn event(&mut self, _: &mut Transport<'_>, event: Event<'_>) {
        self.note(&event, false);
    }
}

/// One handler after another.
pub(crate) struct Both<H>(Noting, H);

impl<H: ProcessHandler> ProcessHandler for Both<H> {
    fn event(&mut self, process: &mut Process<'_>, event: Event<'_>) {
        ProcessHandler::event(&mut self.0, process, event.clone());
        self.1.event(process, event);
    }
}

impl<H: ChannelHandler> ChannelHandler for Both<H> {
    fn event(&mut self, channel: &mut Transport<'_>, event: Event<'_>) {
        ChannelHandler::event(&mut self.0, channel, event.clone());
        self.1.event(channel, event);
    }
}
