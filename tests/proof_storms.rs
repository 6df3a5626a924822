//! Many spawns at the worst of times: among signals, writers of programs, careless
//! openers of fds, other threads that spawn, others that reap.
//!
//! The suite has a short form of each. The long one, 100,000 spawns and 20,000
//! programs:
//!
//!     FORKPLAN_TEST_SPAWNS=100000 FORKPLAN_TEST_PROGRAMS=20000 \
//!         cargo test --release --test proof_storms
#![cfg(target_os = "linux")]

#[path = "support/pid_namespace.rs"]
mod pid_namespace;
mod support;

use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::FromRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use forkplan::Channel::{Null, ReadPipe};
use forkplan::{Command, Features, OnDrop, Signal, SignalError};
use pid_namespace::{in_a_pid_namespace, next_pid};
use rustix::fs::{SeekFrom, seek};
use support::storm::{count_handlers, hits_in_children, hits_in_parent, in_a_storm};
use support::{
    EXCLUSIONS, amount, beside, fds_of_self, in_subprocess, marker, no_child_is_left, pause, say,
};

/// The kinds of child that differ in what could go wrong here. Not the slowest
/// way of closing, which adds nothing but time.
const KINDS: [Features; 4] = [
    Features::empty(),
    Features::CLONE3,
    Features::SHARED_MEMORY,
    Features::all().difference(Features::PROC_FD),
];

fn spawns(short: usize) -> usize {
    amount("FORKPLAN_TEST_SPAWNS", short)
}

#[test]
fn ten_thousand_spawns_under_a_signal_storm_run_no_handler_and_leave_nothing() {
    let name = "ten_thousand_spawns_under_a_signal_storm_run_no_handler_and_leave_nothing";
    in_subprocess(name, || {
        marker();
        count_handlers();
        let before = fds_of_self();
        let each = spawns(10_000) / (2 * KINDS.len());
        let mut died = 0;
        in_a_storm(|| {
            for (without, blocked) in KINDS.into_iter().flat_map(|w| [(w, false), (w, true)]) {
                let mut command = Command::new(marker());
                command.without(without).fd(0, Null).fd(1, ReadPipe);
                if blocked {
                    command.block_signals([Signal::USR1]);
                }
                let mut prepared = command.prepare().unwrap();
                for _ in 0..each {
                    // The signal's default ends the child, before its exec or
                    // after, unless it is blocked.
                    let ended = match prepared.spawn() {
                        Ok(mut child) => child.wait().unwrap().signal(),
                        Err(error) => Some(error.signal().expect("a signal")),
                    };
                    assert!(ended.is_none() || ended == Some(Signal::USR1) && !blocked);
                    died += usize::from(ended.is_some());
                }
            }
        });
        say(&format!("{} spawns, {died} died, {} hits", 8 * each, hits_in_parent()));
        assert_eq!(hits_in_children(), 0);
        assert!(no_child_is_left());
        assert_eq!(fds_of_self(), before);
        // The premise: there was a storm, and it reached children.
        assert!(hits_in_parent() > 0 && died > 0);
    });
}

/// Writes and runs a program, as a compiler or a test runner does.
fn write_and_run<T>(path: &Path, run: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    fs::write(path, "#!/bin/true\n")?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    let result = run(path);
    fs::remove_file(path)?;
    result
}

/// Two threads do it at once, `times` in all; returns how often a program was
/// busy. Any other error is a failure.
fn two_writers<T>(times: usize, run: impl Fn(&Path) -> io::Result<T> + Sync) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let busy = AtomicUsize::new(0);
    thread::scope(|scope| {
        for name in ["one", "other"] {
            let (path, run, busy) = (dir.path().join(name), &run, &busy);
            scope.spawn(move || {
                for _ in 0..times / 2 {
                    match write_and_run(&path, run) {
                        Ok(_) => {}
                        Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => {
                            busy.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    busy.into_inner()
}

#[test]
fn two_threads_that_write_and_run_programs_find_none_busy() {
    let times = amount("FORKPLAN_TEST_PROGRAMS", 2000);
    for without in [Features::empty(), Features::SHARED_MEMORY] {
        let run = |path: &Path| {
            let mut child = Command::new(path).without(without).spawn()?;
            assert!(child.wait()?.success());
            Ok(())
        };
        assert_eq!(two_writers(times / 2, run), 0, "{without:?}");
    }
}

/// What std has of it: `fork` and exec, with everything in the child between.
#[test]
fn control_programs_are_busy_where_nobody_tries_again() {
    let mut busy = 0;
    for _ in 0..100 {
        busy += two_writers(200, |path| std::process::Command::new(path).status());
        if busy > 0 {
            return;
        }
    }
    panic!("none of 20,000 was busy");
}

/// Opens and closes files without care for exec, and sees whether a child had one
/// of them: `marker` leaves a trace in the offset of what it finds.
fn careless(leaked: &AtomicUsize) {
    let files: Vec<File> = (0..6)
        .map(|_| {
            // SAFETY: the name is a C string; the fd is new, and nobody else's.
            unsafe {
                let made = libc::memfd_create(c"stranger".as_ptr(), 0);
                assert!((3..16).contains(&made), "{made}: out of the marker's sight");
                File::from_raw_fd(made)
            }
        })
        .collect();
    thread::yield_now();
    let is_marked = |file: &File| seek(file, SeekFrom::Current(0)).unwrap() != 0;
    leaked.fetch_add(files.iter().filter(|file| is_marked(file)).count(), Ordering::Relaxed);
}

#[test]
fn no_fd_that_a_stranger_opens_meanwhile_reaches_a_child() {
    in_subprocess("no_fd_that_a_stranger_opens_meanwhile_reaches_a_child", || {
        marker();
        let leaked = AtomicUsize::new(0);
        let each = spawns(4000) / KINDS.len();
        beside(
            || careless(&leaked),
            || {
                for without in KINDS {
                    let mut command = Command::new(marker());
                    let mut prepared = command.without(without).fd(0, Null).prepare().unwrap();
                    for _ in 0..each {
                        assert!(prepared.spawn().unwrap().wait().unwrap().success());
                    }
                }
            },
        );
        assert_eq!(leaked.into_inner(), 0);
        assert!(no_child_is_left());
    });
}

#[test]
fn control_a_strangers_fds_reach_a_child_that_inherits_all() {
    in_subprocess("control_a_strangers_fds_reach_a_child_that_inherits_all", || {
        marker();
        let leaked = AtomicUsize::new(0);
        let mut command = Command::new(marker());
        let mut prepared = command.inherit_unnamed_fds(true).fd(0, Null).prepare().unwrap();
        beside(
            || careless(&leaked),
            || {
                for _ in 0..20_000 {
                    prepared.spawn().unwrap().wait().unwrap();
                    if leaked.load(Ordering::Relaxed) > 0 {
                        return;
                    }
                }
                panic!("none reached 20,000 children");
            },
        );
    });
}

#[test]
fn sixteen_threads_spawn_at_once_and_each_has_its_own_child() {
    in_subprocess("sixteen_threads_spawn_at_once_and_each_has_its_own_child", || {
        const THREADS: usize = 16;
        let before = fds_of_self();
        let each = spawns(1600) / THREADS;
        thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || {
                    let without = EXCLUSIONS[thread % EXCLUSIONS.len()] - Features::PROC_FD;
                    for turn in 0..each {
                        let word = format!("{thread} {turn}\n");
                        let mut command = Command::new("printf");
                        command.arg(&word).fd(1, ReadPipe).without(without);
                        let mut child = command.spawn().unwrap();
                        // Ends at the end of this child, whoever else runs.
                        let mut text = String::new();
                        let mut pipe = File::from(child.take(1).unwrap());
                        pipe.read_to_string(&mut text).unwrap();
                        assert_eq!(text, word);
                        assert!(child.wait().unwrap().success());
                    }
                });
            }
        });
        assert!(no_child_is_left());
        assert_eq!(fds_of_self(), before);
    });
}

/// Reaps whatever there is, as fast as it can, until told to stop.
fn reap_all(over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        // SAFETY: no pointers but null. What is reaped here is what the tests
        // are about.
        unsafe { libc::waitpid(-1, ptr::null_mut(), 0) };
    }
}

/// Spawns where somebody else gets the status, and asks each child for its own.
fn check_that_waits_end(spawns: usize) -> usize {
    let mut missed = 0;
    for without in KINDS {
        let mut command = Command::new("sh");
        let mut prepared = command.args(["-c", "exit 3"]).without(without).prepare().unwrap();
        for _ in 0..spawns / KINDS.len() {
            let mut child = prepared.spawn().unwrap();
            let exit = child.wait().unwrap();
            // Known by the pidfd since Linux 6.15, else by whoever was first.
            assert!(matches!(exit.code(), Some(3) | None), "{exit}");
            missed += usize::from(exit.usage().is_none());
            assert_eq!(child.kill(), Err(SignalError::AlreadyExited));
        }
    }
    missed
}

#[test]
fn waits_end_beside_a_thread_that_waits_for_all() {
    in_subprocess("waits_end_beside_a_thread_that_waits_for_all", || {
        let before = fds_of_self();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| reap_all(&over));
            let missed = check_that_waits_end(spawns(2000));
            over.store(true, Ordering::Relaxed);
            // The premise: it took some from us.
            assert!(missed > 0);
        });
        assert!(no_child_is_left());
        assert_eq!(fds_of_self(), before);
    });
}

#[test]
fn waits_end_where_sigchld_is_ignored() {
    in_subprocess("waits_end_where_sigchld_is_ignored", || {
        // SAFETY: no handler; the process is the test's own.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        let before = fds_of_self();
        let spawns = spawns(2000);
        // The premise: nobody but the kernel reaps.
        assert_eq!(check_that_waits_end(spawns), spawns / KINDS.len() * KINDS.len());
        assert!(no_child_is_left());
        assert_eq!(fds_of_self(), before);
    });
}

#[test]
fn a_kill_that_races_with_a_reap_hits_nobody_who_has_the_number_now() {
    let name = "a_kill_that_races_with_a_reap_hits_nobody_who_has_the_number_now";
    in_subprocess(name, || {
        marker();
        pause();
        in_a_pid_namespace(|| {
            let over = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| reap_all(&over));
                let mut taken = 0;
                for without in [Features::empty(), Features::SHARED_MEMORY] {
                    taken += kill_and_count(without, spawns(2000) / 2);
                }
                say(&format!("{taken} numbers came round"));
                over.store(true, Ordering::Relaxed);
                // The premise, without which nothing was shown.
                assert!(taken > 0);
            });
        });
    });
}

/// Makes short-lived children, each followed by a long-lived one that gets its
/// number if it is free by then, and kills the former: how often the latter had
/// the number, and so would have been hit.
fn kill_and_count(without: Features, times: usize) -> usize {
    let mut brief = Command::new(marker()).without(without).fd(0, Null).prepare().unwrap();
    let mut command = Command::new(pause());
    let mut long = command.without(without).on_drop(OnDrop::Kill).prepare().unwrap();
    let mut taken = 0;
    for _ in 0..times {
        let child = brief.spawn().unwrap();
        let pid = child.id().unwrap();
        next_pid(pid).unwrap();
        let mut sitter = long.spawn().unwrap();
        let sits = sitter.id() == Some(pid);
        let result = child.kill();
        if sits {
            taken += 1;
            assert_eq!(result, Err(SignalError::AlreadyExited));
            // The control: the number alone is good for a signal to the sitter.
            // SAFETY: no pointers; signal 0 is none.
            assert_eq!(unsafe { libc::kill(pid as i32, 0) }, 0);
        }
        // It runs, and not for being slow to die: a signal that is sent is
        // pending at once.
        assert_eq!(sitter.try_wait().unwrap(), None);
        let pending = support::signal_set(sitter.id().unwrap(), "SigPnd:");
        assert_eq!(pending, 0);
        sitter.kill().unwrap();
        sitter.wait().unwrap();
        drop(child);
    }
    taken
}

/// The number space of the machine, once round and some more: handles of children
/// that were reaped long ago hit nobody, though their numbers are taken again.
#[test]
fn old_handles_hit_nobody_after_the_numbers_have_come_round() {
    in_subprocess("old_handles_hit_nobody_after_the_numbers_have_come_round", || {
        pause();
        in_a_pid_namespace(|| {
            let mut prepared = Command::new("/bin/true").prepare().unwrap();
            let mut old: Vec<_> = (0..50).map(|_| prepared.spawn().unwrap()).collect();
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
            let mut standing = command.on_drop(OnDrop::Kill).prepare().unwrap();
            let round: Vec<_> = (0..40).map(|_| standing.spawn().unwrap()).collect();
            assert!(round.iter().any(|child| child.id().unwrap() > most - 20));
            assert!(round.iter().any(|child| child.id().unwrap() < most - 20), "it wrapped");
            next_pid(first).unwrap();
            let mut sitters: Vec<_> = (0..50).map(|_| standing.spawn().unwrap()).collect();
            let taken = sitters.iter().filter(|s| numbers.contains(&s.id().unwrap())).count();
            assert!(taken > 0, "no number was taken again");
            for child in &old {
                assert_eq!(child.kill(), Err(SignalError::AlreadyExited));
            }
            drop(old);
            for sitter in &mut sitters {
                assert_eq!(sitter.try_wait().unwrap(), None);
                let pending = support::signal_set(sitter.id().unwrap(), "SigPnd:");
                assert_eq!(pending, 0);
            }
        });
    });
}
