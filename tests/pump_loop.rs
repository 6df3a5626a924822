//! The pump in the caller's loop: what poll waits for and when it returns, and
//! what becomes of keys.

#[path = "support/pump.rs"]
mod support;

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use forkplan::{Channel, ChannelError, Command, Features, OnDrop, Signal, SignalError};
use support::{Driver, Orphan, alone, refuse_syscall};

#[test]
fn a_poll_without_children_returns_at_once() {
    let mut pump = support::TestPump::new();
    assert!(pump.is_empty() && !pump.has_events());
    // `None` would wait for ever.
    assert!(!pump.poll(None).unwrap());
    assert_eq!(pump.next_event(), None);
    let key = pump.add(Command::new("true").spawn().unwrap());
    while !pump.is_empty() {
        pump.poll(None).unwrap();
        while pump.next_event().is_some() {}
    }
    assert!(pump.child(key).is_none());
    assert!(!pump.poll(None).unwrap());
}

#[test]
fn a_poll_with_events_left_does_not_wait() {
    let mut driver = Driver::new();
    let agent = driver.agent(|_| {});
    // Made is not told yet; the agent does nothing by itself.
    assert!(driver.pump.poll(None).unwrap());
    assert!(driver.pump.has_events());
    driver.drain();
    driver.assert_quiet();
    drop(agent);
    driver.finish();
}

#[test]
fn one_event_for_each_poll_loses_nothing() {
    // Not the loop that is advised, but nothing may go wrong by it.
    let mut driver = Driver::new();
    let keys = ["head -c 200000 /dev/zero", "head -c 100000 /dev/zero >&2"].map(|s| driver.sh(s));
    while !driver.pump.is_empty() {
        driver.pump.poll(None).unwrap();
        if let Some(event) = driver.pump.next_event() {
            driver.log.push(support::owned(event));
        }
    }
    driver.check();
    assert_eq!(driver.data(keys[0], "1").len(), 200_000);
    assert_eq!(driver.data(keys[1], "2").len(), 100_000);
}

#[test]
fn a_signal_handler_that_interrupts_poll_is_no_error() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    extern "C" fn handler(_: libc::c_int) {
        RUNS.fetch_add(1, Ordering::Relaxed);
    }
    alone("a_signal_handler_that_interrupts_poll_is_no_error", || {
        // SAFETY: all zero is a valid sigaction (no SA_RESTART, which poll does
        // not heed anyhow), and the handler only counts.
        let this = unsafe {
            let mut action: libc::sigaction = core::mem::zeroed();
            action.sa_sigaction = handler as *const () as libc::sighandler_t;
            libc::sigaction(libc::SIGUSR1, &action, core::ptr::null_mut());
            libc::pthread_self()
        };
        let mut driver = Driver::new();
        let agent = driver.agent(|_| {});
        driver.drain();
        let done = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Again and again: one alone could come before the poll.
                while done.load(Ordering::Relaxed) == 0 {
                    // SAFETY: the thread outlives this scope.
                    unsafe { libc::pthread_kill(this, libc::SIGUSR1) };
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            // Nothing else ends this wait.
            let found = driver.pump.poll(None);
            done.store(1, Ordering::Relaxed);
            assert!(!found.unwrap());
        });
        assert!(RUNS.load(Ordering::Relaxed) > 0);
        assert_eq!(driver.pump.next_event(), None);
        drop(agent);
        driver.finish();
    });
}

#[test]
fn the_key_of_a_child_that_has_ended_names_nobody_though_its_place_is_used_again() {
    let mut driver = Driver::new();
    let mut old = Vec::new();
    for _ in 0..5 {
        let key = driver.sh(":");
        driver.finish();
        old.push(key);
        let agent = driver.agent(|command| {
            command.fd(0, Channel::WritePipe).fd(1, Channel::ReadPipe);
        });
        for &key in &old {
            assert_ne!(key, agent.key);
            assert!(driver.pump.child(key).is_none());
            assert_eq!(driver.pump.write(key, 0, b"x"), Err(ChannelError::NoChild));
            assert_eq!(driver.pump.close(key, 0), Err(ChannelError::NoChild));
            assert_eq!(driver.pump.close_write(key, 0), Err(ChannelError::NoChild));
            assert_eq!(driver.pump.close_all(key), Err(ChannelError::NoChild));
            assert_eq!(driver.pump.pause(key, 1), Err(ChannelError::NoChild));
            assert_eq!(driver.pump.resume_all(key), Err(ChannelError::NoChild));
            assert_eq!(driver.pump.queued(key, 0), Err(ChannelError::NoChild));
            assert_eq!(driver.pump.set_high_water(key, 0, 1), Err(ChannelError::NoChild));
            assert_eq!(driver.pump.signal(key, Signal::KILL), Err(SignalError::AlreadyExited));
        }
        assert!(driver.pump.child(agent.key).unwrap().id().is_some());
        drop(agent);
        driver.finish();
    }
    assert_eq!(driver.pump.len(), 0);
}

#[test]
fn a_dropped_pump_does_with_its_children_what_was_asked() {
    for (on_drop, lives) in [(OnDrop::Kill, false), (OnDrop::Detach, true)] {
        let mut driver = Driver::new();
        let mut agent = driver.agent(|command| {
            command.fd(0, Channel::WritePipe);
        });
        let mut child = Command::new("sleep").arg("300").on_drop(on_drop).spawn().unwrap();
        let pid = child.id().unwrap() as i32;
        child.set_on_drop(on_drop);
        driver.pump.add(child);
        agent.ask(":");
        drop(driver);
        // The agent was to be killed.
        assert_eq!(agent.hear(), "");
        // SAFETY: no pointers; the child is ours and was not reaped if it lives.
        assert_eq!(unsafe { libc::kill(pid, 0) } == 0, lives);
        if lives {
            // SAFETY: as above.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, core::ptr::null_mut(), 0);
            }
        }
    }
}

// Whatever the reason for which a child can't be waited for: its end is told.
#[test]
fn a_child_that_cannot_be_waited_for_exits_and_ends_all_the_same() {
    alone("a_child_that_cannot_be_waited_for_exits_and_ends_all_the_same", || {
        let mut driver = Driver::new();
        let mut agent = driver.agent(|command| {
            command.fd(1, Channel::ReadPipe);
        });
        let key = agent.key;
        // Somebody holds the channel, so that its end comes after the exit.
        let said = agent.ask("sleep 300 & echo $! >&9");
        let grandchild = Orphan(said.trim().parse().unwrap());
        for call in [libc::SYS_waitid, libc::SYS_wait4] {
            refuse_syscall(call, libc::EPERM);
        }
        driver.pump.signal(key, Signal::KILL).unwrap();
        driver.until(|d| d.exit(key).is_some());
        assert_eq!(driver.exit(key).unwrap().status(), None);
        assert_eq!(driver.pump.child(key).unwrap().id(), None);
        driver.assert_quiet();
        drop(grandchild);
        driver.until(|d| d.closed(key, "1").is_some());
        assert!(driver.pump.is_empty(), "the child has not ended");
        driver.finish();
    });
}

#[test]
fn a_child_without_a_pidfd_is_found_to_have_ended_while_poll_waits() {
    let mut driver = Driver::new();
    let mut command = Command::new("sh");
    let key = driver.add(command.args(["-c", "sleep 0.05; exit 6"]).without(Features::PIDFD));
    driver.pump.close_all(key).unwrap();
    driver.drain();
    assert!(driver.pump.child(key).unwrap().pidfd().is_none());
    // Nothing but the tick can end these waits.
    while !driver.pump.is_empty() {
        driver.pump.poll(None).unwrap();
        driver.drain();
    }
    driver.check();
    assert_eq!(driver.exit(key).unwrap().code(), Some(6));
}
