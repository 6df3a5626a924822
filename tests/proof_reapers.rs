//! Children beside others who reap: the kernel where `SIGCHLD` is ignored, a thread that
//! waits for all, and numbers that another process has by now. Spawned, started, and
//! started by a pump.
//!
//! The suite has a short form. The long one:
//!
//!     FORKPLAN_TEST_SPAWNS=100000 cargo test --release --test proof_reapers
#![cfg(target_os = "linux")]

#[path = "support/pid_namespace.rs"]
mod pid_namespace;
mod support;

use core::ptr;
use std::fs;

use forkplan::Channel::Null;
use forkplan::{Child, Command, Features, OnDrop, Pump, Signal, SignalError};
use pid_namespace::{in_a_pid_namespace, next_pid};
use support::storm::{KINDS, SPAWNS};
use support::{
    By, MAKERS, Maker, PATHS, amount, beside, fds_of_self, in_subprocess, in_subprocesses, marker,
    no_child_is_left, optimized, pause, say, signal_set,
};

/// Children of which somebody else gets the status.
const SHORT: usize = optimized(2000, 400);

/// Reaps whatever there is, once.
fn reap_any(options: i32) {
    // SAFETY: no pointers but null. What is reaped here is what the tests are about.
    unsafe { libc::waitpid(-1, ptr::null_mut(), options) };
}

/// Makes children where somebody else gets the status, and asks each for its own.
fn check_that_waits_end(by: By, children: usize) -> usize {
    let mut missed = 0;
    for without in KINDS {
        let mut command = Command::new("sh");
        let mut maker = Maker::new(by, command.args(["-c", "exit 3"]).without(without), 1);
        for _ in 0..children / KINDS.len() {
            let mut child = maker.make_one().unwrap();
            let exit = child.wait().unwrap();
            // Known by the pidfd since Linux 6.15, else by whoever was first.
            assert!(matches!(exit.code(), Some(3) | None), "{exit}");
            missed += usize::from(exit.usage().is_none());
            assert_eq!(child.kill(), Err(SignalError::AlreadyExited));
        }
        // What is told of a failure is the child's own report.
        let mut maker = Maker::new(by, Command::new("/nowhere/at/all").without(without), 1);
        for _ in 0..children / KINDS.len() / 10 {
            assert_eq!(maker.make_one().unwrap_err().raw_os_error(), Some(libc::ENOENT));
        }
    }
    missed
}

/// Also one that gets children before their exec, which have no exit signal.
#[test]
fn waits_end_beside_a_thread_that_waits_for_all() {
    let name = "waits_end_beside_a_thread_that_waits_for_all";
    in_subprocesses(name, 2 * MAKERS.len(), |case| {
        let options = [0, libc::__WALL][case % 2];
        let before = fds_of_self();
        let reap = || reap_any(options);
        beside(reap, || {
            let missed = check_that_waits_end(MAKERS[case / 2], amount(SPAWNS, SHORT));
            // The premise: it took some from us.
            assert!(missed > 0);
        });
        assert!(no_child_is_left());
        assert_eq!(fds_of_self(), before);
    });
}

#[test]
fn waits_end_where_sigchld_is_ignored() {
    in_subprocesses("waits_end_where_sigchld_is_ignored", MAKERS.len(), |case| {
        // SAFETY: no handler; the process is the test's own.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        let before = fds_of_self();
        let children = amount(SPAWNS, SHORT) / KINDS.len() * KINDS.len();
        // The premise: nobody but the kernel reaps.
        assert_eq!(check_that_waits_end(MAKERS[case], children), children);
        assert!(no_child_is_left());
        assert_eq!(fds_of_self(), before);
    });
}

#[test]
fn a_kill_that_races_with_a_reap_hits_nobody_who_has_the_number_now() {
    let name = "a_kill_that_races_with_a_reap_hits_nobody_who_has_the_number_now";
    in_subprocesses(name, MAKERS.len(), |case| {
        marker();
        pause();
        in_a_pid_namespace(|| {
            let reap = || reap_any(0);
            beside(reap, || {
                let mut taken = 0;
                for without in PATHS {
                    taken += kill_and_count(MAKERS[case], without, amount(SPAWNS, 2000) / 2);
                }
                say(&format!("{:?}: {taken} numbers came round", MAKERS[case]));
                // The premise, without which nothing was shown.
                assert!(taken > 0);
            });
        });
    });
}

/// Makes short-lived children, each followed by a long-lived one that gets its
/// number if it is free by then, and kills the former: how often the latter had
/// the number, and so would have been hit.
fn kill_and_count(by: By, without: Features, times: usize) -> usize {
    let mut brief = Maker::new(by, Command::new(marker()).without(without).fd(0, Null), 1);
    let mut command = Command::new(pause());
    let mut long = Maker::new(by, command.without(without).on_drop(OnDrop::Kill), 1);
    let mut taken = 0;
    for _ in 0..times {
        let child = brief.make_one().unwrap();
        let pid = child.id().unwrap();
        next_pid(pid).unwrap();
        let mut sitter = long.make_one().unwrap();
        let sits = sitter.id() == Some(pid);
        let result = child.kill();
        if sits {
            taken += 1;
            assert_eq!(result, Err(SignalError::AlreadyExited));
            // The control: the number alone is good for a signal to the sitter.
            // SAFETY: no pointers; signal 0 is none.
            assert_eq!(unsafe { libc::kill(pid as i32, 0) }, 0);
        }
        assert_is_unhurt(&mut sitter);
        sitter.kill().unwrap();
        sitter.wait().unwrap();
        drop(child);
    }
    taken
}

/// It runs, and not for being slow to die: a signal that is sent is pending at once.
fn assert_is_unhurt(sitter: &mut Child) {
    assert_eq!(sitter.try_wait().unwrap(), None);
    assert_eq!(signal_set(sitter.id().unwrap(), "SigPnd:"), 0);
}

/// Reaps the child that was made last when it has ended, and has another one get its
/// number. In a namespace in which nobody else makes any.
fn last_one_replaced() -> Child {
    let last = fs::read_to_string("/proc/sys/kernel/ns_last_pid").unwrap();
    let pid: u32 = last.trim().parse().unwrap();
    // SAFETY: no pointers but null.
    let reaped = unsafe { libc::waitpid(pid as i32, ptr::null_mut(), libc::__WALL) };
    assert_eq!(reaped, pid as i32);
    next_pid(pid).unwrap();
    let sitter = Command::new(pause()).on_drop(OnDrop::Kill).spawn().unwrap();
    assert_eq!(sitter.id(), Some(pid));
    sitter
}

#[test]
fn a_start_whose_number_is_anothers_before_it_is_looked_at_hits_nobody() {
    let name = "a_start_whose_number_is_anothers_before_it_is_looked_at_hits_nobody";
    in_subprocess(name, || {
        marker();
        pause();
        in_a_pid_namespace(|| {
            for without in PATHS {
                let mut command = Command::new(marker());
                command.without(without).fd(0, Null);
                for is_dropped in [false, true] {
                    let starting = command.prepare().unwrap().start();
                    let mut sitter = last_one_replaced();
                    assert_eq!(starting.signal(Signal::KILL), Err(SignalError::AlreadyExited));
                    if is_dropped {
                        drop(starting);
                    } else {
                        let mut child = starting.finish().1.unwrap();
                        assert_eq!(child.kill(), Err(SignalError::AlreadyExited));
                        child.wait().unwrap();
                    }
                    assert_is_unhurt(&mut sitter);
                }
                let mut pump = Pump::new();
                let key = pump.start(command.prepare().unwrap());
                let mut sitter = last_one_replaced();
                assert_eq!(pump.signal(key, Signal::KILL), Err(SignalError::AlreadyExited));
                drop(pump);
                assert_is_unhurt(&mut sitter);
            }
        });
    });
}

/// The number space of the machine, once round and some more: handles of children
/// that were reaped long ago hit nobody, though their numbers are taken again.
#[test]
fn old_handles_hit_nobody_after_the_numbers_have_come_round() {
    let name = "old_handles_hit_nobody_after_the_numbers_have_come_round";
    in_subprocesses(name, MAKERS.len(), |case| {
        pause();
        in_a_pid_namespace(|| {
            let mut maker = Maker::new(MAKERS[case], &Command::new("/bin/true"), 50);
            let mut old: Vec<_> = maker.make().into_iter().map(Result::unwrap).collect();
            let first = old[0].id().unwrap();
            let numbers: Vec<_> = old.iter().map(|child| child.id().unwrap()).collect();
            // Half of them reaped by us, half by somebody else.
            for (child, pid) in old.iter_mut().zip(&numbers).step_by(2) {
                assert!(child.wait().unwrap().success());
                assert_eq!(child.id(), None);
                // SAFETY: a child of this process, if it is one still.
                assert_eq!(unsafe { libc::waitpid(*pid as i32, ptr::null_mut(), 0) }, -1);
            }
            for pid in numbers.iter().skip(1).step_by(2) {
                // SAFETY: a child of this process.
                let reaped = unsafe { libc::waitpid(*pid as i32, ptr::null_mut(), 0) };
                assert_eq!(reaped, *pid as i32);
            }
            // From the end of the space to its beginning.
            let most: u32 =
                fs::read_to_string("/proc/sys/kernel/pid_max").unwrap().trim().parse().unwrap();
            next_pid(most - 20).unwrap();
            let mut command = Command::new(pause());
            command.on_drop(OnDrop::Kill);
            let standing = |count| {
                let made = Maker::new(MAKERS[case], &command, count).make().into_iter();
                made.map(Result::unwrap).collect::<Vec<_>>()
            };
            let round = standing(40);
            assert!(round.iter().any(|child| child.id().unwrap() > most - 20));
            assert!(round.iter().any(|child| child.id().unwrap() < most - 20), "it wrapped");
            next_pid(first).unwrap();
            let mut sitters = standing(50);
            let taken = sitters.iter().filter(|s| numbers.contains(&s.id().unwrap())).count();
            assert!(taken > 0, "no number was taken again");
            for child in &old {
                assert_eq!(child.kill(), Err(SignalError::AlreadyExited));
            }
            drop(old);
            sitters.iter_mut().for_each(assert_is_unhurt);
        });
    });
}
