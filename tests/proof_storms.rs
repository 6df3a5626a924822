//! Many children made at the worst of times: among signals, writers of programs,
//! careless openers of fds, other threads that make children. Spawned, started, and
//! started by a pump. Beside others who reap: `tests/proof_reapers.rs`.
//!
//! The suite has a short form of each. The long one, 100,000 children each way and
//! 20,000 programs:
//!
//!     FORKPLAN_TEST_SPAWNS=100000 FORKPLAN_TEST_PROGRAMS=20000 \
//!         cargo test --release --test proof_storms
#![cfg(target_os = "linux")]

mod support;

use core::sync::atomic::{AtomicUsize, Ordering};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::FromRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use forkplan::Channel::{Null, ReadPipe};
use forkplan::{Command, Features, Signal};
use rustix::fs::{SeekFrom, seek};
use support::storm::{KINDS, SPAWNS, count_handlers, hits_in_children, hits_in_parent, in_a_storm};
use support::{
    By, EXCLUSIONS, MAKERS, Maker, PATHS, STARTS, amount, beside, fds_of_self, in_subprocess,
    in_subprocesses, marker, no_child_is_left, optimized, say,
};

#[test]
fn spawns_under_a_signal_storm_run_no_handler_and_leave_nothing() {
    let name = "spawns_under_a_signal_storm_run_no_handler_and_leave_nothing";
    in_subprocess(name, || make_in_a_storm(By::Spawn, amount(SPAWNS, optimized(10_000, 2000)), 1));
}

#[test]
fn starts_under_a_signal_storm_run_no_handler_and_leave_nothing() {
    let name = "starts_under_a_signal_storm_run_no_handler_and_leave_nothing";
    in_subprocesses(name, STARTS.len(), |case| {
        make_in_a_storm(STARTS[case], amount(SPAWNS, optimized(4000, 800)), 5);
    });
}

/// So many children in all, and so many on their way at once.
fn make_in_a_storm(by: By, children: usize, at_once: usize) {
    marker();
    count_handlers();
    let before = fds_of_self();
    let rounds = children / (2 * KINDS.len() * at_once);
    let (mut died, mut ran) = (0, 0);
    in_a_storm(|| {
        for (without, blocked) in KINDS.into_iter().flat_map(|w| [(w, false), (w, true)]) {
            let mut command = Command::new(marker());
            command.without(without).fd(0, Null).fd(1, ReadPipe);
            if blocked {
                command.block_signals([Signal::USR1]);
            }
            let mut maker = Maker::new(by, &command, at_once);
            for made in (0..rounds).flat_map(|_| maker.make()) {
                // The signal's default ends the child, before its exec or after,
                // unless it is blocked.
                let ended = match made {
                    Ok(mut child) => child.wait().unwrap().signal(),
                    Err(error) => Some(error.signal().expect("a signal")),
                };
                assert!(ended.is_none() || ended == Some(Signal::USR1) && !blocked);
                *if ended.is_some() { &mut died } else { &mut ran } += 1;
            }
        }
    });
    say(&format!("{by:?}: {ran} ran, {died} died, {} hits", hits_in_parent()));
    assert_eq!(hits_in_children(), 0);
    assert!(no_child_is_left());
    assert_eq!(fds_of_self(), before);
    // The premise: there was a storm, and it reached children.
    assert!(hits_in_parent() > 0 && died > 0 && ran > 0);
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

/// A child that is started has a copy of all fds until its exec, so here programs are
/// busy: it is the retry that hides it.
#[test]
fn two_threads_that_write_and_start_programs_find_none_busy() {
    let times = amount("FORKPLAN_TEST_PROGRAMS", 2000);
    for without in PATHS {
        let again = AtomicUsize::new(0);
        let started = |path: &Path| {
            let mut starting = Command::new(path).without(without).prepare().unwrap().start();
            while !starting.look() {
                // While it waits to be tried again there is no child.
                if starting.notice().is_none() {
                    again.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                thread::yield_now();
            }
            assert!(starting.finish().1?.wait()?.success());
            Ok(())
        };
        assert_eq!(two_writers(times / 2, started), 0, "{without:?}");
        eprintln!("{again:?} of {} starts were tried again, without {without:?}", times / 2);
        let by_a_pump = |path: &Path| {
            let mut command = Command::new(path);
            assert!(By::Pump.make(command.without(without))?.wait()?.success());
            Ok(())
        };
        assert_eq!(two_writers(times / 2, by_a_pump), 0, "{without:?}");
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
    let name = "no_fd_that_a_stranger_opens_meanwhile_reaches_a_child";
    in_subprocesses(name, MAKERS.len(), |case| {
        marker();
        let leaked = AtomicUsize::new(0);
        let each = amount(SPAWNS, optimized(4000, 800)) / KINDS.len();
        beside(
            || careless(&leaked),
            || {
                for without in KINDS {
                    let mut command = Command::new(marker());
                    let mut maker =
                        Maker::new(MAKERS[case], command.without(without).fd(0, Null), 1);
                    for _ in 0..each {
                        assert!(maker.make_one().unwrap().wait().unwrap().success());
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
    let name = "control_a_strangers_fds_reach_a_child_that_inherits_all";
    in_subprocesses(name, MAKERS.len(), |case| {
        marker();
        let leaked = AtomicUsize::new(0);
        let mut command = Command::new(marker());
        command.inherit_unnamed_fds(true).fd(0, Null);
        let mut maker = Maker::new(MAKERS[case], &command, 1);
        beside(
            || careless(&leaked),
            || {
                for _ in 0..20_000 {
                    maker.make_one().unwrap().wait().unwrap();
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
        sixteen_threads(|_| By::Spawn, 1);
    });
}

#[test]
fn sixteen_threads_start_at_once_and_each_has_its_own_children() {
    in_subprocess("sixteen_threads_start_at_once_and_each_has_its_own_children", || {
        sixteen_threads(|turn| STARTS[turn % STARTS.len()], 4);
    });
}

/// Each makes so many children at once, by another call at each turn.
fn sixteen_threads(by: fn(usize) -> By, at_once: usize) {
    const THREADS: usize = 16;
    let before = fds_of_self();
    let turns = amount(SPAWNS, 1600) / THREADS / at_once;
    let run = |thread: usize| {
        let without = EXCLUSIONS[thread % EXCLUSIONS.len()] - Features::PROC_FD;
        for turn in 0..turns {
            let word = |at| format!("{thread} {turn} {at}\n");
            let commands = (0..at_once).map(|at| {
                let mut command = Command::new("printf");
                command.arg(word(at)).fd(1, ReadPipe).without(without);
                command
            });
            let mut prepared = commands.map(|command| command.prepare().unwrap()).collect();
            for (made, at) in by(turn).make_all(&mut prepared).into_iter().zip(0..) {
                let mut child = made.unwrap();
                // Ends at the end of this child, whoever else runs.
                let mut text = String::new();
                File::from(child.take(1).unwrap()).read_to_string(&mut text).unwrap();
                assert_eq!(text, word(at));
                assert!(child.wait().unwrap().success());
            }
        }
    };
    thread::scope(|scope| (0..THREADS).for_each(|thread| drop(scope.spawn(move || run(thread)))));
    assert!(no_child_is_left());
    assert_eq!(fds_of_self(), before);
}
