//! A handler that panics: its child is torn down, the others go on, and the
//! payload is kept.

#[path = "support/protocol.rs"]
mod support;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use forkplan::{
    Channel, ChannelError, Command, Event, OnData, OnDrop, OnEvent, Process, ProcessHandler,
    Protocols, RunError, Transport,
};
use support::{Log, drive, finish, sh, spawn};

/// As a panic, but for the message on stderr.
fn fail(with: &'static str) -> ! {
    resume_unwind(Box::new(with))
}

/// Which of the calls is the one that panics.
const PLACES: [&str; 6] = ["made", "data", "closed", "exited", "ended", "drop"];

fn name(event: &Event<'_>) -> &'static str {
    match event {
        Event::Made { .. } => "made",
        Event::Data { .. } => "data",
        Event::Closed { .. } => "closed",
        Event::Exited { .. } => "exited",
        Event::Ended { .. } => "ended",
        _ => "other",
    }
}

/// Panics at one place, and says whether it is called after that.
struct Fragile<'a> {
    at: &'static str,
    failed: bool,
    called_again: &'a Cell<bool>,
}

impl ProcessHandler for Fragile<'_> {
    fn event(&mut self, _: &mut Process<'_>, event: Event<'_>) {
        if self.failed {
            self.called_again.set(true);
        } else if name(&event) == self.at {
            self.failed = true;
            fail(self.at);
        }
    }
}

impl Drop for Fragile<'_> {
    fn drop(&mut self) {
        if self.at == "drop" {
            fail(self.at);
        }
    }
}

// T.test_errorInProcessEnded, I.test_processExitedRaises
#[test]
fn a_process_s_handler_that_panics_anywhere_stops_neither_its_tear_down_nor_another_child() {
    for at in PLACES {
        let called_again = Cell::new(false);
        let log = Log::default();
        let mut protocols = Protocols::new();
        let fragile = Fragile { at, failed: false, called_again: &called_again };
        let failing = protocols.add(sh("echo one; echo two >&2; exit 1"), fragile);
        let other = protocols.add(sh("read x; echo still here"), log.process("other"));
        // It ends when the failing one has.
        protocols.dispatch();
        let watch = support::Watch::new();
        while protocols.pump().child(failing).is_some() {
            watch.poll_plain(protocols.pump_mut());
            protocols.dispatch();
        }
        protocols.pump_mut().write(other, 0, b"go\n").unwrap();
        drive(&mut protocols);
        let said = log.taken();
        assert!(said.contains(&"other data 1 \"still here\\n\"".to_string()), "{at}: {said:#?}");
        assert_eq!(said.last().unwrap(), "other ended exit status: 0", "{at}");
        let panic = protocols.take_panic().unwrap();
        assert_eq!((panic.child(), panic.message()), (failing, Some(at)));
        assert_eq!(panic.into_payload().downcast_ref(), Some(&at));
        assert!(protocols.take_panic().is_none(), "{at}");
        drop(protocols);
        assert!(!called_again.get(), "{at}");
    }
}

#[test]
fn a_channel_s_handler_that_panics_takes_down_all_handlers_of_its_child() {
    let log = Log::default();
    let mut protocols = Protocols::new();
    let mut command = Command::new("sh");
    // Would go on for ever, and ends by SIGPIPE.
    command.args(["-c", "while echo more; do :; done"]).on_drop(OnDrop::Detach);
    let key = protocols.add(command.spawn().unwrap(), log.process("p"));
    protocols.on(key, 1, OnData(|_, _| fail("at the first byte"))).unwrap();
    protocols.on(key, 2, log.channel("err")).unwrap();
    drive(&mut protocols);
    let said = log.taken();
    assert!(said[0].starts_with("p made"), "{said:#?}");
    assert_eq!(said[1..], ["err made"], "nobody is told after the panic");
    assert_eq!(protocols.take_panic().unwrap().message(), Some("at the first byte"));
}

#[test]
fn a_torn_down_child_has_its_channels_closed_and_is_killed_if_it_was_to_be() {
    let mut protocols = Protocols::new();
    // Reads nothing, and has queued bytes that nobody will take.
    let mut command = Command::new("sleep");
    command.arg("1000").fd(0, Channel::WritePipe).fd(1, Channel::ReadPipe);
    let key = protocols.add(
        spawn(&mut command),
        OnEvent(|process, _| {
            while process.write(0, &[0; 65_536]) == Ok(65_536) {}
            fail("with a full queue");
        }),
    );
    assert!(protocols.dispatch_one());
    let pump = protocols.pump_mut();
    assert!(!pump.is_open(key, 0) && !pump.is_open(key, 1));
    assert_eq!(protocols.on(key, 1, ()), Err(ChannelError::Closed));
    // What is set for it now is never called.
    protocols.on_process(key, OnEvent(|_, _| unreachable!("its handlers are gone")));
    drive(&mut protocols);
    assert!(protocols.take_panic().is_some());
    assert!(protocols.take_panic().is_none());
}

#[test]
fn control_without_a_panic_the_same_child_is_left_running() {
    let mut protocols = Protocols::new();
    let mut command = Command::new("sleep");
    command.arg("1000").fd(0, Channel::WritePipe).fd(1, Channel::ReadPipe);
    let key = protocols.add(
        spawn(&mut command),
        OnEvent(|process, _| while process.write(0, &[0; 65_536]) == Ok(65_536) {}),
    );
    protocols.dispatch();
    let pump = protocols.pump_mut();
    assert!(pump.is_open(key, 0) && pump.is_open(key, 1));
    assert!(!pump.poll(Some(core::time::Duration::ZERO)).unwrap());
    assert!(pump.child(key).unwrap().id().is_some());
}

/// What catching is for: the same handlers without it.
#[test]
fn control_uncaught_a_panic_leaves_the_loop_with_children_in_it() {
    let mut pump = forkplan::Pump::new();
    pump.add(sh("echo one"));
    pump.add(sh("echo two"));
    let looped = catch_unwind(AssertUnwindSafe(|| {
        while !pump.is_empty() {
            pump.poll(None).unwrap();
            if pump.next_event().is_some() {
                fail("in the loop");
            }
        }
    }));
    assert!(looped.is_err());
    assert_eq!(pump.len(), 2);
}

#[test]
fn what_a_handler_added_before_it_panicked_is_served() {
    let ended = Rc::new(Cell::new(false));
    let seen = ended.clone();
    let mut protocols = Protocols::new();
    protocols.add(
        sh("exit 0"),
        OnEvent(move |process, event| {
            if let Event::Made { .. } = event {
                let seen = seen.clone();
                let other = OnEvent(move |_: &mut Process<'_>, event: Event<'_>| {
                    if let Event::Ended { exit, .. } = event {
                        assert_eq!(exit.code(), Some(9));
                        seen.set(true);
                    }
                });
                process.add(sh("exit 9"), other);
                // Of its own nothing is set any more.
                process.on(1, OnData(|_, _| unreachable!("torn down"))).unwrap();
                fail("after adding another");
            }
        }),
    );
    drive(&mut protocols);
    assert!(ended.get());
    assert_eq!(protocols.take_panic().unwrap().message(), Some("after adding another"));
    assert!(protocols.take_panic().is_none());
    // The handlers are dropped, also that of the child that was torn down.
    drop(protocols);
    assert_eq!(Rc::strong_count(&ended), 1);
}

#[test]
fn run_goes_on_to_the_end_and_then_says_which_handler_panicked_first() {
    let ends = RefCell::new(0);
    let mut protocols = Protocols::new();
    let mut failing = Vec::new();
    for _ in 0..3 {
        let key = protocols.add(sh("echo x"), ());
        protocols
            .on(key, 1, OnData(|_: &mut Transport<'_>, _: &[u8]| fail("one of three")))
            .unwrap();
        failing.push(key);
        protocols.add(
            sh("echo y"),
            OnEvent(|_, event| *ends.borrow_mut() += usize::from(name(&event) == "ended")),
        );
    }
    let error = protocols.run().unwrap_err();
    assert_eq!(error.to_string(), "a handler panicked: one of three");
    let RunError::HandlerPanicked { child: first, .. } = error else { panic!("{error}") };
    assert!(protocols.pump().is_empty());
    assert_eq!(*ends.borrow(), 3);
    let mut panicked = Vec::new();
    while let Some(panic) = protocols.take_panic() {
        panicked.push(panic.child());
    }
    assert_eq!(panicked[0], first);
    panicked.sort();
    failing.sort();
    assert_eq!(panicked, failing);
    // Taken, and so no error any more.
    protocols.run().unwrap();
}

#[test]
fn a_shared_handler_that_is_borrowed_elsewhere_is_a_panic_and_no_more() {
    let shared = Rc::new(RefCell::new(()));
    let mut protocols = Protocols::new();
    let key = protocols.add(sh("echo x"), shared.clone());
    let borrowed = shared.borrow();
    drive(&mut protocols);
    drop(borrowed);
    let panic = protocols.take_panic().unwrap();
    assert_eq!(panic.child(), key);
    assert!(panic.message().unwrap().contains("already"), "{panic:?}");
}

/// Nothing of a panic is left in the dispatcher: it serves others afterwards.
#[test]
fn a_dispatcher_is_as_good_as_new_after_a_panic() {
    let mut said = Vec::new();
    let mut protocols = Protocols::new();
    protocols.add(sh("echo x"), OnEvent(|_, _| fail("once")));
    drive(&mut protocols);
    assert!(protocols.take_panic().is_some());
    let key = protocols.add(sh("head -c 300000 /dev/zero"), ());
    protocols.on(key, 1, OnData(|_, bytes| said.extend_from_slice(bytes))).unwrap();
    finish(&mut protocols);
    drop(protocols);
    assert_eq!(said.len(), 300_000);
}
