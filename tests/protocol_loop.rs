//! The dispatcher in somebody else's loop: what blocks, what is bounded, and what
//! the pump below it still does.

#[path = "support/protocol.rs"]
mod support;

use core::time::Duration;

use forkplan::{Channel, Command, Event, OnData, OnEvent, Process, Protocols, Pump, RunError};
use rustix::event::{PollFd, PollFlags, poll};
use support::{Log, alone, drive, finish, refuse_syscall, sh, spawn};

#[test]
fn dispatch_never_waits_and_says_how_much_it_told() {
    let log = Log::default();
    let mut protocols = Protocols::new();
    assert_eq!(protocols.dispatch(), 0);
    let mut cat = Command::new("cat");
    let key = protocols.add(spawn(cat.fd(0, Channel::WritePipe)), log.process("p"));
    // The child waits for us: with a dispatch that waited, this would hang.
    assert_eq!(protocols.dispatch(), 1);
    assert_eq!(protocols.dispatch(), 0);
    assert_eq!(log.taken().len(), 1);
    protocols.pump_mut().close(key, 0).unwrap();
    assert!(protocols.pump().has_events());
    finish(&mut protocols);
    assert_eq!(protocols.dispatch(), 0);
}

#[test]
fn dispatch_one_tells_one_event() {
    let log = Log::default();
    let mut protocols = Protocols::new();
    let key = protocols.add(sh("echo x"), log.process("p"));
    protocols.on(key, 2, log.channel("err")).unwrap();
    let watch = support::Watch::new();
    while !protocols.pump().is_empty() {
        watch.poll_plain(protocols.pump_mut());
        while protocols.dispatch_one() {
            let said = log.taken();
            // Made and Closed are for both.
            let both = said.len() == 2
                && (said[1] == "err made"
                    || said[0].starts_with("err closed") && said[1].starts_with("p closed 2"));
            assert!(said.len() == 1 || both, "{said:#?}");
        }
    }
    assert!(!protocols.dispatch_one());
}

#[test]
fn a_loop_that_polls_for_itself_dispatches_without_a_poll_that_waits() {
    // It knows of the child's pidfd and of its one channel's end.
    let mut said = Vec::new();
    let mut code = None;
    let mut protocols = Protocols::new();
    let mut command = Command::new("sh");
    command.args(["-c", "echo one; echo two; exit 2"]).fd(1, Channel::ReadPipe);
    let child = spawn(&mut command);
    let Some(pidfd) = child.pidfd() else {
        eprintln!("SKIPPED: no pidfd to poll");
        return;
    };
    let ends =
        [pidfd.try_clone_to_owned().unwrap(), child.end(1).unwrap().try_clone_to_owned().unwrap()];
    let key = protocols.add(
        child,
        OnEvent(|_, event| {
            if let Event::Ended { exit, .. } = event {
                code = exit.code();
            }
        }),
    );
    protocols.on(key, 1, OnData(|_, bytes| said.extend_from_slice(bytes))).unwrap();
    protocols.dispatch();
    while !protocols.pump().is_empty() {
        let mut fds = [&ends[0], &ends[1]].map(|end| PollFd::new(end, PollFlags::IN));
        poll(&mut fds, None).unwrap();
        protocols.pump_mut().poll(Some(Duration::ZERO)).unwrap();
        protocols.dispatch();
    }
    drop(protocols);
    assert_eq!((&said[..], code), (&b"one\ntwo\n"[..], Some(2)));
}

#[test]
fn a_pump_with_children_in_it_is_taken_over_and_given_back() {
    let log = Log::default();
    let mut pump = Pump::new();
    let key = pump.add(sh("echo one; read x; echo two"));
    // Told before there was a handler.
    assert!(matches!(pump.next_event(), Some(Event::Made { .. })));
    let mut protocols = Protocols::from(pump);
    protocols.on_process(key, log.process("p"));
    let watch = support::Watch::new();
    let said = loop {
        watch.poll_plain(protocols.pump_mut());
        protocols.dispatch();
        let said = log.taken();
        if !said.is_empty() {
            break said;
        }
    };
    assert_eq!(said, ["p data 1 \"one\\n\""]);
    let mut pump = protocols.into_pump();
    pump.write(key, 0, b"go\n").unwrap();
    let mut rest = Vec::new();
    while !pump.is_empty() {
        watch.poll_plain(&mut pump);
        while let Some(event) = pump.next_event() {
            if let Event::Data { bytes, .. } = event {
                rest.extend_from_slice(bytes);
            }
        }
    }
    assert_eq!(rest, b"two\n");
    assert_eq!(log.taken(), [""; 0], "the handlers are gone");
}

#[test]
fn a_child_without_handlers_is_drained_and_reaped() {
    let mut protocols = Protocols::new();
    let key = protocols.pump_mut().add(sh("head -c 1000000 /dev/zero; exit 3"));
    drive(&mut protocols);
    assert!(protocols.pump().child(key).is_none());
    // Nobody is called for it any more, and nothing is kept.
    protocols.on_process(key, OnEvent(|_: &mut Process<'_>, _: Event<'_>| unreachable!()));
    assert_eq!(protocols.dispatch(), 0);
}

#[test]
fn run_says_that_the_poll_failed_and_can_be_called_again() {
    alone("run_says_that_the_poll_failed_and_can_be_called_again", || {
        let mut protocols = Protocols::new();
        let mut ended = false;
        protocols
            .add(sh("echo x"), OnEvent(|_, event| ended |= matches!(event, Event::Ended { .. })));
        let thread = std::thread::scope(|scope| {
            // A filter is for a thread, and can't be taken away: a pump goes to
            // a thread with one, and comes back.
            let mut pump = Pump::new();
            pump.add(sh("echo y"));
            let refused = scope.spawn(move || {
                for call in
                    [libc::SYS_poll, libc::SYS_ppoll, libc::SYS_epoll_wait, libc::SYS_epoll_pwait]
                {
                    refuse_syscall(call, libc::ENOMEM);
                }
                let mut protocols = Protocols::from(pump);
                let error = protocols.run().unwrap_err();
                (error, protocols.into_pump())
            });
            refused.join().unwrap()
        });
        let (error, pump) = thread;
        let RunError::Poll(poll) = &error else { panic!("{error:?}") };
        assert_eq!(poll.raw_os_error(), Some(libc::ENOMEM));
        assert!(error.to_string().starts_with("poll: "));
        assert!(std::error::Error::source(&error).is_some());
        assert_eq!(pump.len(), 1);
        Protocols::from(pump).run().unwrap();
        protocols.run().unwrap();
        drop(protocols);
        assert!(ended);
    });
}
