//! What goes wrong without the cures: for each hazard a careless spawn, made by
//! hand, that is bitten, beside one of the crate's that is not. The table is at the
//! end of `VERIFICATION.md`.
#![cfg(target_os = "linux")]

mod support;

use core::ffi::{c_int, c_long, c_void};
use core::sync::atomic::{AtomicI32, Ordering};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::{io, ptr};

use forkplan::Channel::{Null, ReadPipe};
use forkplan::{Command, Resource};
use rustix::pipe::PipeFlags;
use support::isolation::is_root;
use support::state::State;
use support::{end, in_subprocess, no_child_is_left, place_at, with_fd};

/// Some user and group that nobody is.
const ID: u32 = 12_345;

type Body = extern "C" fn(*mut c_void) -> c_int;

/// A child that shares with this process what `flags` say and runs `body`: the raw
/// clone of a careless spawn.
fn raw_child(flags: c_int, body: Body) -> c_int {
    let mut stack = vec![0u128; 16 * 1024];
    let top = stack.as_mut_ptr_range().end.cast();
    let flags = flags | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack is large, aligned, and the child's alone until the call
    // returns, since the parent waits for its end; what it runs makes syscalls.
    let pid = unsafe { libc::clone(body, top, flags, ptr::null_mut()) };
    assert!(pid > 0, "{}", io::Error::last_os_error());
    pid
}

fn reap(pid: c_int) -> c_int {
    let mut status = 0;
    // SAFETY: a child of this process.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    status
}

fn raw(call: c_long, numbers: [c_long; 3]) -> c_long {
    // SAFETY: called with numbers alone.
    unsafe { libc::syscall(call, numbers[0], numbers[1], numbers[2]) }
}

/// Beside `setup_identity::a_change_of_ids_is_made_in_a_copy_and_leaves_the_parent_dumpable`.
#[test]
fn control_a_change_of_ids_in_shared_memory_takes_the_parents_dumpability() {
    extern "C" fn change(_: *mut c_void) -> c_int {
        let id = c_long::from(ID);
        raw(libc::SYS_setresuid, [id; 3]);
        0
    }
    let test = "control_a_change_of_ids_in_shared_memory_takes_the_parents_dumpability";
    if !is_root(test) {
        return;
    }
    in_subprocess(test, || {
        let before = State::now();
        // The crate's: nothing.
        let mut command = Command::new(end());
        command.fd(0, Null).uid(ID).gid(ID).groups([]);
        assert!(command.spawn().unwrap().wait().unwrap().success());
        State::now().assert_is(&before, "a spawn");
        // A copy: nothing either. Shared: the flag is gone.
        reap(raw_child(0, change));
        State::now().assert_is(&before, "a fork");
        reap(raw_child(libc::CLONE_VM, change));
        assert_eq!(before.changed(&State::now()), ["dumpable"]);
    });
}

/// Beside `setup_identity::groups_gid_uid_is_the_order_whatever_the_order_of_the_calls`.
#[test]
fn control_groups_after_the_user_are_refused_and_groups_forgotten_are_kept() {
    extern "C" fn user_first(_: *mut c_void) -> c_int {
        let id = c_long::from(ID);
        raw(libc::SYS_setresuid, [id; 3]);
        // Both are refused: a bit for each.
        let groups = raw(libc::SYS_setgroups, [0; 3]);
        let gid = raw(libc::SYS_setresgid, [id; 3]);
        c_int::from(groups == -1) | c_int::from(gid == -1) << 1
    }
    extern "C" fn no_groups(_: *mut c_void) -> c_int {
        let id = c_long::from(ID);
        raw(libc::SYS_setresgid, [id; 3]);
        raw(libc::SYS_setresuid, [id; 3]);
        // How many are left.
        raw(libc::SYS_getgroups, [0; 3]) as c_int
    }
    let test = "control_groups_after_the_user_are_refused_and_groups_forgotten_are_kept";
    if !is_root(test) {
        return;
    }
    in_subprocess(test, || {
        let mine = [3, 5, 8];
        // SAFETY: three ids are read; the process is the test's own.
        assert_eq!(unsafe { libc::setgroups(mine.len(), mine.as_ptr()) }, 0);
        assert_eq!(libc::WEXITSTATUS(reap(raw_child(0, user_first))), 0b11);
        assert_eq!(libc::WEXITSTATUS(reap(raw_child(0, no_groups))), 3);
        // The crate's: a user without a word on groups is refused, and none is none.
        let mut command = Command::new("id");
        command.arg("-G").fd(0, Null).fd(1, ReadPipe).uid(ID).gid(ID);
        command.clone().prepare().unwrap_err();
        let mut child = command.groups([]).spawn().unwrap();
        let text = io::read_to_string(File::from(child.take(1).unwrap())).unwrap();
        assert_eq!((text.trim(), child.wait().unwrap().success()), ("12345", true));
    });
}

/// Beside `setup_directories::a_planted_directory_is_no_way_out_of_a_root`.
#[test]
fn control_a_directory_that_stays_open_is_a_way_out_of_a_root() {
    extern "C" fn escape(_: *mut c_void) -> c_int {
        // SAFETY: strings that end with NUL.
        unsafe {
            let shut_in =
                libc::fchdir(78) | libc::chroot(c".".as_ptr()) | libc::chdir(c"/".as_ptr());
            let beyond = libc::access(c"/proc".as_ptr(), libc::F_OK) == 0;
            let secret = libc::openat(77, c"secret".as_ptr(), libc::O_RDONLY) >= 0;
            let outside =
                libc::fchdir(77) == 0 && libc::access(c"secret".as_ptr(), libc::F_OK) == 0;
            // A bit for each.
            [shut_in == 0, beyond, secret, outside]
                .iter()
                .rev()
                .fold(0, |bits, &bit| bits << 1 | c_int::from(bit))
        }
    }
    let test = "control_a_directory_that_stays_open_is_a_way_out_of_a_root";
    if !is_root(test) {
        return;
    }
    in_subprocess(test, || {
        let [host, root] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        fs::write(host.path().join("secret"), "of the host").unwrap();
        place_at(File::open(root.path()).unwrap(), 78);
        assert_eq!(libc::WEXITSTATUS(reap(raw_child(0, escape))), 0b0001);
        place_at(File::open(host.path()).unwrap(), 77);
        assert_eq!(libc::WEXITSTATUS(reap(raw_child(0, escape))), 0b1101);
    });
}

/// Which of 0, 1 and 2 a program would have, by bits: those that are open, and not
/// only until exec.
fn standard() -> c_int {
    // SAFETY: takes integers alone.
    let stays = |fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } == 0;
    (0..3).fold(0, |bits, fd| bits | c_int::from(stays(fd)) << fd)
}

/// Beside `spawn_fds::any_of_the_parents_first_three_fds_may_be_closed`.
#[test]
fn control_pipes_on_the_first_three_numbers_are_lost_by_one_dup2_each() {
    static PIPES: [AtomicI32; 3] = [const { AtomicI32::new(-1) }; 3];
    extern "C" fn one_dup2_each(_: *mut c_void) -> c_int {
        for (pipe, target) in PIPES.iter().zip(0..) {
            let fd = pipe.load(Ordering::Relaxed);
            // SAFETY: takes integers alone; the table is the child's.
            unsafe { libc::dup2(fd, target) };
        }
        standard()
    }
    let test = "control_pipes_on_the_first_three_numbers_are_lost_by_one_dup2_each";
    in_subprocess(test, || {
        let saved = [0, 1, 2].map(|fd| rustix::io::fcntl_dupfd_cloexec(with_fd(fd), 100).unwrap());
        for (closed, whole) in [(0..0, true), (0..1, false), (0..3, false)] {
            for fd in closed.clone() {
                // SAFETY: put back below.
                unsafe { libc::close(fd) };
            }
            let pipes = [(); 3].map(|()| rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap());
            let theirs = [&pipes[0].0, &pipes[1].1, &pipes[2].1];
            for (slot, fd) in PIPES.iter().zip(theirs) {
                slot.store(fd.as_raw_fd(), Ordering::Relaxed);
            }
            let left = libc::WEXITSTATUS(reap(raw_child(0, one_dup2_each)));
            drop(pipes);
            for fd in closed {
                place_at(&saved[fd as usize], fd);
            }
            assert_eq!(left == 0b111, whole, "{left:#b}");
        }
    });
}

/// Beside `spawn_errors::a_thousand_failed_spawns_leave_no_fd_and_no_process`.
#[test]
fn control_a_failed_exec_that_nobody_cleans_up_after_is_seen() {
    extern "C" fn fail(_: *mut c_void) -> c_int {
        let argv = [ptr::null()];
        // SAFETY: a string that ends with NUL, and a list that ends with NULL.
        unsafe { libc::execv(c"/nowhere/program".as_ptr(), argv.as_ptr()) };
        127
    }
    in_subprocess("control_a_failed_exec_that_nobody_cleans_up_after_is_seen", || {
        let before = State::now();
        Command::new("/nowhere/program").spawn().unwrap_err();
        assert!(no_child_is_left());
        State::now().assert_is(&before, "a spawn that failed");
        // The wait that is forgotten, and the pipe.
        let pipe = rustix::pipe::pipe().unwrap();
        let pid = raw_child(libc::CLONE_VM, fail);
        assert!(!no_child_is_left());
        assert_eq!(State::now().changed(&before), ["fds"]);
        drop(pipe);
        // SAFETY: writes nothing. It may have been reaped by the look at it.
        unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
        assert!(no_child_is_left());
        State::now().assert_is(&before, "cleaned up");
    });
}

/// Beside `setup_limits::a_limit_of_fds_below_those_mapped_does_not_forbid_the_map`.
#[test]
fn control_a_limit_that_is_set_first_forbids_the_map() {
    extern "C" fn limit_first(_: *mut c_void) -> c_int {
        let four = libc::rlimit { rlim_cur: 4, rlim_max: 4 };
        // SAFETY: reads the limit; the table is the child's.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &four) | libc::dup2(0, 40) }
    }
    extern "C" fn map_first(_: *mut c_void) -> c_int {
        let four = libc::rlimit { rlim_cur: 4, rlim_max: 4 };
        // SAFETY: as above.
        unsafe {
            c_int::from(libc::dup2(0, 40) != 40) | libc::setrlimit(libc::RLIMIT_NOFILE, &four)
        }
    }
    in_subprocess("control_a_limit_that_is_set_first_forbids_the_map", || {
        assert_eq!(libc::WEXITSTATUS(reap(raw_child(0, limit_first))), 255);
        assert_eq!(libc::WEXITSTATUS(reap(raw_child(0, map_first))), 0);
        // The crate's.
        let mut command = Command::new(end());
        command.fd(40, Null).rlimit(Resource::NOFILE, 4, 4);
        assert!(command.spawn().unwrap().wait().unwrap().success());
    });
}
