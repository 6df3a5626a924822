//! Processes that a child has left behind: adopted, told, and reaped.
#![cfg(target_os = "linux")]

#[path = "support/pump.rs"]
mod support;

use core::time::Duration;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use forkplan::{
    AdoptError, Channel, ChildKey, Command, EmbeddedPump, End, Event, Exit, Features, Ladder,
    OnDrop, OnEvent, Process, ProcessHandler, Protocols, Pump, Signal,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use support::orphans::{
    LEAVES_ONE, LEAVES_ONE_AT_ONCE, adopted, become_subreaper, hurry, leader, look, position,
    pumps, said_pid, wait_for_zombie, waited,
};
use support::{Driver, Seen, alone, refuse_syscall};

#[test]
fn one_that_outlives_its_leader_is_adopted_and_its_exit_told() {
    alone("one_that_outlives_its_leader_is_adopted_and_its_exit_told", || {
        become_subreaper();
        for mut driver in pumps() {
            let sh = driver.add(&mut leader(LEAVES_ONE));
            driver.pump.adopt_orphans(sh).unwrap();
            let pid = said_pid(&mut driver, sh);
            assert_eq!(adopted(&driver, sh), [], "it has its parent");
            driver.pump.write(sh, 0, b"go\n").unwrap();
            driver.until(|driver| driver.exit(sh).is_some());
            assert_eq!(driver.exit(sh).and_then(|exit| exit.code()), Some(3));
            let [(orphan, told)] = adopted(&driver, sh)[..] else { panic!("{:?}", driver.log) };
            assert_eq!(told, pid);
            let exited = position(&driver, sh, |seen| matches!(seen, Seen::Exited(_)));
            assert!(position(&driver, orphan, |seen| matches!(seen, Seen::Adopted(..))) < exited);
            assert_eq!(driver.pump.child(orphan).unwrap().id(), Some(pid));

            driver.pump.write(sh, 5, b"7\n").unwrap();
            driver.finish();
            assert_eq!(driver.exit(orphan).and_then(|exit| exit.code()), Some(7));
            assert_eq!(waited(pid).unwrap_err().raw_os_error(), Some(libc::ECHILD), "reaped");
            assert_eq!(driver.pump.next_deadline(), None, "nobody is looked for any more");
        }
    });
}

#[test]
fn a_signal_that_ends_one_is_told() {
    alone("a_signal_that_ends_one_is_told", || {
        become_subreaper();
        let mut driver = Driver::new();
        let sh = driver.add(&mut leader(LEAVES_ONE));
        driver.pump.adopt_orphans(sh).unwrap();
        said_pid(&mut driver, sh);
        driver.pump.write(sh, 0, b"go\n").unwrap();
        driver.until(|driver| !adopted(driver, sh).is_empty());
        let orphan = adopted(&driver, sh)[0].0;
        driver.pump.set_deadline(orphan, Some(Instant::now()), Ladder::kill()).unwrap();
        driver.finish();
        assert!(driver.has(orphan, &Seen::TimedOut));
        assert!(driver.has(orphan, &Seen::Signalled(Signal::KILL)));
        assert_eq!(driver.exit(orphan).and_then(|exit| exit.signal()), Some(Signal::KILL));
    });
}

#[test]
fn one_that_nothing_announces_is_found_while_its_leader_runs() {
    alone("one_that_nothing_announces_is_found_while_its_leader_runs", || {
        become_subreaper();
        // Each takes up to a second.
        for mut driver in pumps().into_iter().step_by(3) {
            let sh = driver.add(&mut leader(LEAVES_ONE_AT_ONCE));
            driver.pump.adopt_orphans(sh).unwrap();
            let pid = said_pid(&mut driver, sh);
            driver.until(|driver| !adopted(driver, sh).is_empty());
            let (orphan, told) = adopted(&driver, sh)[0];
            assert_eq!(told, pid);
            driver.pump.write(sh, 5, b"9\n").unwrap();
            driver.until(|driver| driver.exit(orphan).is_some());
            assert_eq!(driver.exit(orphan).and_then(|exit| exit.code()), Some(9));
            assert_eq!(driver.exit(sh), None);
            driver.pump.write(sh, 0, b"go\n").unwrap();
            driver.finish();
        }
    });
}

#[test]
fn those_that_end_before_they_are_found_are_told_with_their_status() {
    alone("those_that_end_before_they_are_found_are_told_with_their_status", || {
        become_subreaper();
        for mut driver in pumps() {
            let script = "for i in 1 2 3; do (sh -c \"read x <&5; exit $i\" & echo $!); done; \
                 echo done; read go; exit 4";
            let sh = driver.add(&mut leader(script));
            driver.until(|driver| driver.data(sh, "1").ends_with(b"done\n"));
            let said = String::from_utf8(driver.data(sh, "1")).unwrap();
            let pids: Vec<u32> = said.lines().take(3).map(|pid| pid.parse().unwrap()).collect();
            driver.pump.write(sh, 5, b"x\nx\nx\n").unwrap();
            pids.iter().for_each(|&pid| wait_for_zombie(pid));
            // Those are told that have come before it was asked for.
            driver.pump.adopt_orphans(sh).unwrap();
            driver.pump.write(sh, 0, b"go\n").unwrap();
            driver.finish();
            let orphans = adopted(&driver, sh);
            let code = |pid| {
                let (key, _) = orphans.iter().find(|(_, of)| *of == pid).unwrap();
                driver.exit(*key).and_then(|exit| exit.code())
            };
            assert_eq!(pids.iter().map(|&pid| code(pid)).collect::<Vec<_>>(), [1, 2, 3].map(Some));
            assert_eq!(orphans.len(), 3);
        }
    });
}

/// An orphan leaves one itself, and so on.
#[test]
fn a_line_of_orphans_is_followed_to_its_end() {
    alone("a_line_of_orphans_is_followed_to_its_end", || {
        become_subreaper();
        let mut driver = Driver::new();
        let script = "(((read code <&5; exit $code) & read x <&7; exit 2) & read x <&6; exit 1) & \
             read go; exit 0";
        let mut command = leader(script);
        command.fd(6, Channel::WritePipe).fd(7, Channel::WritePipe);
        let sh = driver.add(&mut command);
        driver.pump.adopt_orphans(sh).unwrap();
        driver.pump.write(sh, 0, b"go\n").unwrap();
        driver.until(|driver| driver.exit(sh).is_some());
        assert_eq!(adopted(&driver, sh).len(), 1);
        for (channel, found) in [(6, 2), (7, 3)] {
            driver.pump.write(sh, channel, b"\n").unwrap();
            driver.until(|driver| adopted(driver, sh).len() == found);
        }
        driver.pump.write(sh, 5, b"8\n").unwrap();
        driver.finish();
        let exit = |key| driver.exit(key).and_then(|exit: Exit| exit.code()).unwrap();
        let mut codes: Vec<_> = adopted(&driver, sh).iter().map(|(key, _)| exit(*key)).collect();
        codes.sort();
        assert_eq!(codes, [1, 2, 8]);
    });
}

#[test]
fn one_that_is_removed_is_the_callers_and_not_adopted_again() {
    alone("one_that_is_removed_is_the_callers_and_not_adopted_again", || {
        become_subreaper();
        for mut driver in pumps() {
            hurry(&mut driver.pump);
            let sh = driver.add(&mut leader(LEAVES_ONE_AT_ONCE));
            driver.pump.adopt_orphans(sh).unwrap();
            let pid = said_pid(&mut driver, sh);
            driver.until(|driver| !adopted(driver, sh).is_empty());
            let (orphan, _) = adopted(&driver, sh)[0];
            let mut removed = driver.pump.remove(orphan).unwrap().child;
            driver.log.retain(|(key, _)| *key != orphan);
            assert_eq!(removed.id(), Some(pid));
            look(&mut driver);
            driver.pump.write(sh, 5, b"7\n").unwrap();
            wait_for_zombie(pid);
            look(&mut driver);
            driver.pump.write(sh, 0, b"go\n").unwrap();
            driver.finish();
            assert_eq!(adopted(&driver, sh), []);
            assert_eq!(removed.wait().unwrap().code(), Some(7));
        }
    });
}

#[test]
fn without_pidfds_they_are_looked_at_too() {
    alone("without_pidfds_they_are_looked_at_too", || {
        become_subreaper();
        for mut driver in pumps() {
            let sh = driver.add(leader(LEAVES_ONE).without(Features::PIDFD));
            refuse_syscall(libc::SYS_pidfd_open, libc::ENOSYS);
            driver.pump.adopt_orphans(sh).unwrap();
            let pid = said_pid(&mut driver, sh);
            driver.pump.write(sh, 0, b"go\n").unwrap();
            driver.until(|driver| !adopted(driver, sh).is_empty());
            let (orphan, told) = adopted(&driver, sh)[0];
            assert_eq!(told, pid);
            assert!(driver.pump.child(orphan).unwrap().pidfd().is_none());
            driver.pump.write(sh, 5, b"7\n").unwrap();
            driver.finish();
            assert_eq!(driver.exit(orphan).and_then(|exit| exit.code()), Some(7));
        }
    });
}

#[test]
fn an_embedded_pump_is_ready_for_them() {
    alone("an_embedded_pump_is_ready_for_them", || {
        become_subreaper();
        let mut embedded = EmbeddedPump::new(Pump::new()).unwrap();
        let mut pump = embedded.pump();
        let sh = pump.add(leader(LEAVES_ONE_AT_ONCE).spawn().unwrap());
        pump.adopt_orphans(sh).unwrap();
        drop(pump);
        let (mut orphan, mut code) = (None, None);
        while !embedded.pump().is_empty() {
            let patience = Timespec { tv_sec: 120, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&embedded, PollFlags::IN)], Some(&patience));
            assert_eq!(ready, Ok(1), "hung");
            let mut pump = embedded.pump();
            pump.poll(Some(Duration::ZERO)).unwrap();
            let mut adopted = None;
            while let Some(event) = pump.next_event() {
                match event {
                    Event::Adopted { child, .. } => adopted = Some(child),
                    Event::Ended { child, exit } if Some(child) == orphan => code = exit.code(),
                    _ => {}
                }
            }
            if adopted.is_some() {
                orphan = adopted;
                pump.write(sh, 5, b"7\n").unwrap();
                pump.write(sh, 0, b"go\n").unwrap();
            }
        }
        assert_eq!(code, Some(7));
    });
}

#[test]
fn a_handler_is_told_and_may_give_the_orphan_one() {
    struct Adopts(Rc<RefCell<Vec<String>>>);

    impl ProcessHandler for Adopts {
        fn adopted(&mut self, process: &mut Process<'_>, orphan: ChildKey, pid: u32) {
            assert_eq!(process.other(orphan).id(), Some(pid));
            self.0.borrow_mut().push("adopted".into());
            let log = self.0.clone();
            process.write(5, b"7\n").unwrap();
            process.other(orphan).on_process(OnEvent(
                move |_: &mut Process<'_>, event: Event<'_>| {
                    if let Event::Exited { exit, .. } = event {
                        log.borrow_mut().push(exit.to_string());
                    }
                },
            ));
        }
    }

    alone("a_handler_is_told_and_may_give_the_orphan_one", || {
        become_subreaper();
        let log = Rc::default();
        let mut protocols = Protocols::new();
        let sh = protocols.add(leader(LEAVES_ONE).spawn().unwrap(), Adopts(Rc::clone(&log)));
        protocols.pump_mut().adopt_orphans(sh).unwrap();
        protocols.pump_mut().write(sh, 0, b"go\n").unwrap();
        protocols.run().unwrap();
        assert_eq!(log.take(), ["adopted", "exit status: 7"]);
    });
}

#[test]
fn what_keeps_orphans_away_is_an_error() {
    alone("what_keeps_orphans_away_is_an_error", || {
        let mut driver = Driver::new();
        let sh = driver.add(&mut leader("read go"));
        assert_eq!(driver.pump.adopt_orphans(sh), Err(AdoptError::NoSubreaper));
        become_subreaper();
        let group = driver.add(Command::new("cat").process_group(0));
        assert_eq!(driver.pump.adopt_orphans(group), Err(AdoptError::NoSession));
        driver.pump.close(group, 0).unwrap();
        let (end, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let attached = driver.attach([End::new("end", end).unwrap()]);
        assert_eq!(driver.pump.adopt_orphans(attached), Err(AdoptError::NoProcess));
        drop(other);
        let gone = driver.add(&mut leader("exec >&-; exit 0"));
        driver.pump.set_drain_limit(gone, None).unwrap();
        driver.until(|driver| driver.exit(gone).is_some());
        let error = driver.pump.adopt_orphans(gone).unwrap_err();
        assert!(matches!(error, AdoptError::AlreadyExited | AdoptError::NoChild), "{error}");
        driver.pump.close(sh, 0).unwrap();
        driver.finish();
        assert_eq!(driver.pump.adopt_orphans(sh), Err(AdoptError::NoChild));
        assert_eq!(driver.pump.next_deadline(), None);
    });
}

#[test]
fn a_system_that_lists_no_children_says_so() {
    let name = "a_system_that_lists_no_children_says_so";
    alone(name, || {
        become_subreaper();
        let mut driver = Driver::new();
        let sh = driver.add(&mut leader(LEAVES_ONE));
        // Errors of one thread do not reach another's.
        let refused = |pump: &mut Driver, errno| {
            let pump = &mut pump.pump;
            std::thread::scope(|scope| {
                let refused = scope.spawn(|| {
                    refuse_syscall(libc::SYS_openat, errno);
                    #[cfg(target_arch = "x86_64")]
                    refuse_syscall(libc::SYS_open, errno);
                    Pump::adopt_orphans(pump, sh)
                });
                refused.join().unwrap()
            })
        };
        assert_eq!(refused(&mut driver, libc::ENOENT), Err(AdoptError::Unsupported));
        let error = refused(&mut driver, libc::EMFILE).unwrap_err();
        assert_eq!(error, AdoptError::Errno(libc::EMFILE));
        assert_eq!(
            io::Error::from(error).kind(),
            io::Error::from_raw_os_error(libc::EMFILE).kind()
        );
        driver.pump.adopt_orphans(sh).unwrap();
        driver.pump.write(sh, 0, b"go\n").unwrap();
        driver.pump.write(sh, 5, b"0\n").unwrap();
        driver.finish();
    });
}

#[test]
fn who_does_not_ask_is_not_woken() {
    let mut pump = Pump::new();
    let cat = pump.add(Command::new("cat").setsid().on_drop(OnDrop::Kill).spawn().unwrap());
    while pump.next_event().is_some() {}
    assert_eq!(pump.next_deadline(), None);
    assert!(pump.child(cat).is_some());
}
