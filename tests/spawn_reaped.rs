//! Others who wait for all children, or for none: a child that was killed on its
//! way is told from a program all the same, and no stranger gets a signal.

#![cfg(target_os = "linux")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use forkplan::{Channel, Command, Features, Signal, SignalError};
use support::seccomp::{Rule, under};
use support::{EXCLUSIONS, PATHS, in_subprocess, no_child_is_left, pause};

/// Every spawn of a program whose exec kills names the signal.
fn check_that_killed_is_never_started(rounds: usize) {
    for without in PATHS {
        let mut prepared = Command::new("/bin/true").without(without).prepare().unwrap();
        under(&[Rule::kill(libc::SYS_execve)], || {
            for _ in 0..rounds {
                let error = prepared.spawn().expect_err("its exec was killed");
                assert_eq!(error.signal(), Some(Signal::SYS), "{without:?}: {error}");
            }
        });
        // Control: without the filter it starts.
        prepared.spawn().unwrap().wait().unwrap();
    }
}

#[test]
fn a_killed_child_is_no_program_where_sigchld_is_ignored() {
    in_subprocess("a_killed_child_is_no_program_where_sigchld_is_ignored", || {
        // SAFETY: no handler of anybody's; the process is the test's own.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        check_that_killed_is_never_started(20);
        assert!(no_child_is_left());
    });
}

#[test]
fn a_killed_child_is_no_program_beside_a_thread_that_reaps_all_it_can() {
    in_subprocess("a_killed_child_is_no_program_beside_a_thread_that_reaps_all_it_can", || {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // SAFETY: no pointers. What is reaped here is what this test
                    // is about.
                    unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
                }
            });
            check_that_killed_is_never_started(300);
            done.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn a_failed_spawn_sends_no_sigchld() {
    in_subprocess("a_failed_spawn_sends_no_sigchld", || {
        static SEEN: AtomicBool = AtomicBool::new(false);
        extern "C" fn note(_: libc::c_int) {
            SEEN.store(true, Ordering::Relaxed);
        }
        // SAFETY: the handler stores to an atomic.
        unsafe { libc::signal(libc::SIGCHLD, note as *const () as libc::sighandler_t) };
        for without in EXCLUSIONS {
            Command::new("/nowhere").without(without).spawn().unwrap_err();
            assert!(!SEEN.load(Ordering::Relaxed), "{without:?}");
            // Control: a program that ends does.
            Command::new("/bin/true").without(without).spawn().unwrap().wait().unwrap();
            assert!(SEEN.swap(false, Ordering::Relaxed), "{without:?}");
        }
    });
}

#[test]
fn a_child_without_a_pidfd_that_somebody_else_has_reaped_gets_no_signal() {
    in_subprocess("a_child_without_a_pidfd_that_somebody_else_has_reaped_gets_no_signal", || {
        let mut command = Command::new("/bin/true");
        let child = command.without(Features::PIDFD).spawn().unwrap();
        let pid = child.id().unwrap() as i32;
        // SAFETY: no pointers but null.
        assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
        assert_eq!(child.signal(Signal::TERM), Err(SignalError::AlreadyExited));
        // The number goes to a process that is not our child: a grandchild.
        let Some(sitter) = take_number(pid) else {
            return eprintln!("SKIPPED: no process can be given the number {pid}");
        };
        assert_eq!(child.signal(Signal::KILL), Err(SignalError::AlreadyExited));
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "it was killed");
        drop(sitter);
    });
}

/// Ends a grandchild when dropped.
struct Sitter {
    child: i32,
    pid: i32,
}

impl Drop for Sitter {
    fn drop(&mut self) {
        // SAFETY: no pointers but null. The grandchild was made here and nobody
        // reaps it before its parent, which is our child, has ended.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::kill(self.child, libc::SIGKILL);
            libc::waitpid(self.child, std::ptr::null_mut(), 0);
        }
    }
}

/// Has a process that is no child of ours run under this number: root may say
/// which number is next. `None` where that can't be had.
fn take_number(pid: i32) -> Option<Sitter> {
    let (mut reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    // SAFETY: the process is the test's own; the child allocates, which glibc
    // makes safe after fork, and never returns.
    let child = unsafe { libc::fork() };
    if child == 0 {
        for _ in 0..200 {
            let set = std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string());
            // SAFETY: as above.
            let grandchild = if set.is_ok() { unsafe { libc::fork() } } else { -1 };
            if grandchild == 0 || grandchild == pid {
                if grandchild == pid {
                    std::io::Write::write_all(&mut &writer, b"y").unwrap();
                }
                // SAFETY: waits to be killed.
                unsafe { libc::pause() };
            }
            // SAFETY: the wrong number; the process was made here.
            unsafe {
                if grandchild > 0 {
                    libc::kill(grandchild, libc::SIGKILL);
                    libc::waitpid(grandchild, std::ptr::null_mut(), 0);
                }
            }
        }
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) };
    }
    drop(writer);
    let told = std::io::Read::read_exact(&mut reader, &mut [0]).is_ok();
    let sitter = Sitter { child, pid: if told { pid } else { child } };
    told.then_some(sitter)
}

#[test]
fn one_threads_filter_does_not_change_what_the_kernel_has_for_the_others() {
    in_subprocess("one_threads_filter_does_not_change_what_the_kernel_has_for_the_others", || {
        let before = Features::of_this_kernel();
        let mut prepared = Command::new(pause()).prepare().unwrap();
        under(&[Rule::errno(libc::SYS_clone3, libc::ENOSYS)], || {
            let mut child = prepared.spawn().unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
        });
        assert_eq!(Features::of_this_kernel(), before);
    });
}

#[test]
fn the_null_device_does_not_stand_in_for_a_closed_stdin() {
    in_subprocess("the_null_device_does_not_stand_in_for_a_closed_stdin", || {
        // SAFETY: this process is the test's own.
        unsafe { libc::close(0) };
        let mut command = Command::new("/bin/true");
        command.fd(0, Channel::stdin()).fd(3, Channel::Null);
        assert_eq!(command.spawn().unwrap_err().raw_os_error(), Some(libc::EBADF));
    });
}
