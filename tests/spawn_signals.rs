//! Signals around a spawn: none of the parent's handlers runs in the child, the
//! program starts with a clean state, and SIGCHLD may be anybody's.

#![cfg(target_os = "linux")]

mod support;

use core::ffi::{c_int, c_void};
use core::ptr;
use core::time::Duration;
use std::thread;

use forkplan::Channel::Null;
use forkplan::{Command, Features, OnDrop, Signal};
use support::storm::{count_handlers, hits_in_children, hits_in_parent, in_a_storm};
use support::{
    EXCLUSIONS, PATHS, in_subprocess, in_subprocesses, no_child_is_left, pause, signal_set,
};

fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

fn set_disposition(signal: c_int, disposition: libc::sighandler_t) {
    // SAFETY: the disposition is a default one, or a function that keeps to
    // what a handler may do. The process is the test's own.
    assert_ne!(unsafe { libc::signal(signal, disposition) }, libc::SIG_ERR);
}

fn block(signals: &[c_int]) {
    // SAFETY: all zero is a valid set; the calls fill and read it.
    unsafe {
        let mut set: libc::sigset_t = core::mem::zeroed();
        signals.iter().for_each(|&signal| assert_eq!(libc::sigaddset(&mut set, signal), 0));
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut()), 0);
    }
}

#[test]
fn no_handler_of_the_parent_runs_in_the_child() {
    in_subprocess("no_handler_of_the_parent_runs_in_the_child", || {
        count_handlers();
        let older = [Features::empty(), Features::CLONE3, Features::SHARED_MEMORY, Features::all()];
        in_a_storm(|| {
            for without in older {
                for blocked in [&[][..], &[Signal::USR1]] {
                    let mut command = Command::new("/bin/true");
                    // Fewer numbers for the slowest way of closing.
                    command.without(without - Features::PROC_FD).block_signals(blocked.to_vec());
                    let mut prepared = command.fd(0, Null).prepare().unwrap();
                    for _ in 0..250 {
                        // The signal's default ends the child, before its exec
                        // or after, unless it is blocked.
                        let ended = match prepared.spawn() {
                            Ok(mut child) => child.wait().unwrap().signal(),
                            Err(error) => Some(error.signal().expect("a signal")),
                        };
                        assert!(
                            ended.is_none() || (ended == Some(Signal::USR1) && blocked.is_empty())
                        );
                    }
                }
            }
        });
        assert_eq!(hits_in_children(), 0);
        assert_ne!(hits_in_parent(), 0);
        assert!(no_child_is_left());
    });
}

/// What the storm does to a child that shares memory and blocks nothing, whether it
/// stops its parent or not.
#[test]
fn control_a_child_without_protection_runs_the_handler() {
    extern "C" fn wait_for_a_hit(_: *mut c_void) -> c_int {
        for _ in 0..10_000_000 {
            // SAFETY: no pointers.
            unsafe { libc::getppid() };
            if hits_in_children() > 0 {
                break;
            }
        }
        // SAFETY: ends this process and runs nothing of the parent's.
        unsafe { libc::_exit(0) }
    }

    in_subprocesses("control_a_child_without_protection_runs_the_handler", 2, |case| {
        let stops = [libc::CLONE_VFORK, 0][case];
        count_handlers();
        let mut stack = vec![0u128; 16 * 1024];
        in_a_storm(|| {
            let top = stack.as_mut_ptr_range().end.cast();
            let flags = libc::CLONE_VM | stops | libc::SIGCHLD;
            // SAFETY: the stack is large, aligned, and the child's alone until its
            // end, for which the parent waits. No call of either fails meanwhile
            // that would write the `errno` that they have in common.
            let pid = unsafe { libc::clone(wait_for_a_hit, top, flags, ptr::null_mut()) };
            assert!(pid > 0);
            // SAFETY: a child of this process, whose status nobody needs.
            assert_eq!(unsafe { libc::waitpid(pid, ptr::null_mut(), 0) }, pid);
        });
        assert_ne!(hits_in_children(), 0);
    });
}

fn ignore_by_the_kernel(signal: c_int) {
    let action = [libc::SIG_IGN as u64, 0, 0, 0];
    let old = ptr::null_mut::<u64>();
    // SAFETY: the kernel reads one of its own sigactions, the handler first.
    let done = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const action, old, 8) };
    assert_eq!(done, 0);
}

extern "C" fn nothing(_signal: c_int) {}

#[test]
fn the_program_starts_with_no_signal_ignored_blocked_or_caught() {
    in_subprocess("the_program_starts_with_no_signal_ignored_blocked_or_caught", || {
        pause();
        set_disposition(libc::SIGHUP, libc::SIG_IGN);
        set_disposition(libc::SIGRTMAX(), libc::SIG_IGN);
        set_disposition(libc::SIGUSR1, nothing as extern "C" fn(c_int) as usize);
        block(&[libc::SIGTERM, libc::SIGUSR2, libc::SIGRTMIN()]);
        // One that libc keeps for itself and will not touch; the kernel does.
        ignore_by_the_kernel(32);
        let own = std::process::id();
        let ignored = signal_set(own, "SigIgn:");
        for signal in [libc::SIGHUP, libc::SIGPIPE, 32, libc::SIGRTMAX()] {
            assert_ne!(ignored & bit(signal), 0);
        }
        for without in EXCLUSIONS {
            let mut command = Command::new(pause());
            command.without(without).on_drop(OnDrop::Kill);
            let sets = |command: &Command<'_>| {
                let child = command.spawn().unwrap();
                let pid = child.id().unwrap();
                ["SigIgn:", "SigBlk:", "SigCgt:"].map(|set| signal_set(pid, set))
            };
            assert_eq!(sets(&command), [0, 0, 0], "{without:?}");
            // The control: there is something to inherit.
            command.inherit_ignored_signals(true);
            assert_eq!(sets(&command), [ignored, 0, 0], "{without:?}");
            command.inherit_ignored_signals(false);
            command.block_signals([Signal::INT, Signal::from(64)]);
            let blocked = bit(libc::SIGINT) | bit(64);
            assert_eq!(sets(&command), [0, blocked, 0], "{without:?}");
        }
        // What the parent has is as it was.
        assert_eq!(signal_set(own, "SigIgn:"), ignored);
        assert_ne!(signal_set(own, "SigCgt:") & bit(libc::SIGUSR1), 0);
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let blocked = bit(libc::SIGTERM) | bit(libc::SIGUSR2) | bit(libc::SIGRTMIN());
        assert!(status.contains(&format!("SigBlk:\t{blocked:016x}")), "{status}");
    });
}

#[test]
fn a_failed_spawn_restores_the_parents_mask() {
    in_subprocess("a_failed_spawn_restores_the_parents_mask", || {
        block(&[libc::SIGUSR2]);
        for without in PATHS {
            Command::new("/nowhere/program").without(without).spawn().unwrap_err();
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let blocked = bit(libc::SIGUSR2);
            assert!(status.contains(&format!("SigBlk:\t{blocked:016x}")), "{status}");
        }
    });
}

/// Spawns where nobody but the kernel, or somebody else, gets to reap.
fn check_status_that_was_missed(reap: impl Fn(c_int)) {
    for without in EXCLUSIONS {
        let mut prepared =
            Command::new("sh").args(["-c", "exit 3"]).without(without).prepare().unwrap();
        // An end that nobody but the child has tells when it is over.
        for way in 0..4 {
            let mut child = prepared.spawn().unwrap();
            let pid = child.id().unwrap() as c_int;
            reap(pid);
            let exit = match way {
                0 => child.wait().unwrap(),
                1 => child.wait_timeout(Duration::MAX).unwrap().unwrap(),
                2 => child.wait_timeout(Duration::from_secs(3600)).unwrap().unwrap(),
                _ => loop {
                    if let Some(exit) = child.try_wait().unwrap() {
                        break exit;
                    }
                    thread::yield_now();
                },
            };
            // Known by the pidfd since Linux 6.15, else by nobody.
            let by_pidfd = child.pidfd().is_some();
            match exit.code() {
                Some(code) => assert!(by_pidfd && code == 3),
                None => {
                    assert_eq!(exit.status(), None);
                    assert_eq!(exit.to_string(), "exit status unknown: not reaped by us");
                    assert!(!exit.success() && exit.signal().is_none());
                }
            }
            assert_eq!(exit.usage(), None);
            assert_eq!(child.id(), None);
            assert_eq!(child.kill(), Err(forkplan::SignalError::AlreadyExited));
            assert_eq!(child.wait().unwrap(), exit);
        }
        // A drop that kills neither waits for ever nor hits a stranger.
        let mut command = Command::new("/bin/true");
        let child = command.without(without).on_drop(OnDrop::Kill).spawn().unwrap();
        reap(child.id().unwrap() as c_int);
        drop(child);
        // A failure is told all the same.
        let error = Command::new("/nowhere/program").without(without).spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }
    assert!(no_child_is_left());
}

#[test]
fn where_sigchld_is_ignored_a_wait_ends_all_the_same() {
    in_subprocess("where_sigchld_is_ignored_a_wait_ends_all_the_same", || {
        set_disposition(libc::SIGCHLD, libc::SIG_IGN);
        check_status_that_was_missed(|_| {});
    });
}

#[test]
fn where_somebody_else_reaps_a_wait_ends_all_the_same() {
    in_subprocess("where_somebody_else_reaps_a_wait_ends_all_the_same", || {
        check_status_that_was_missed(|pid| {
            // SAFETY: a child of this process, whose status is thrown away.
            assert_eq!(unsafe { libc::waitpid(pid, ptr::null_mut(), 0) }, pid);
        });
    });
}
