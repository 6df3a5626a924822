//! The user's own code in the child: it runs there, and what becomes of it is
//! told.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use core::ffi::{c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::fs;

use forkplan::plan::Step;
use forkplan::{Command, Signal};
use rustix::process::{Resource, Rlimit, setrlimit};
use support::{EXCLUSIONS, in_subprocess, no_child_is_left, pause};

/// What the parent has, which no child may write.
static CALLS: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn count_and_mask(argument: *mut c_void) -> c_int {
    CALLS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_umask, argument.addr()) };
    0
}

unsafe extern "C" fn fail_with(argument: *mut c_void) -> c_int {
    argument.addr() as c_int
}

unsafe extern "C" fn kill_self(_: *mut c_void) -> c_int {
    // SAFETY: no pointers.
    unsafe {
        let pid = libc::syscall(libc::SYS_getpid);
        libc::syscall(libc::SYS_kill, pid, libc::SIGKILL);
    }
    0
}

fn umask_of(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.unwrap().trim().into()
}

#[test]
fn the_hook_runs_in_the_child_and_never_on_shared_memory() {
    for without in EXCLUSIONS {
        let mut command = Command::new(pause());
        let argument = ptr::without_provenance_mut(0o123);
        // SAFETY: the hook makes one raw syscall and counts.
        unsafe { command.umask(0o77).without(without).pre_exec(count_and_mask, argument) };
        let mut child = command.spawn().unwrap();
        // After our own steps.
        assert_eq!(umask_of(child.id().unwrap()), "0123");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(CALLS.load(Ordering::Relaxed), 0);
    }
    // Control: here it does count.
    let old = umask_of(std::process::id());
    let old = usize::from_str_radix(&old, 8).unwrap();
    // SAFETY: the mask is the one that this process has.
    unsafe { count_and_mask(ptr::without_provenance_mut(old)) };
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
}

/// Writes to every page of so much stack.
unsafe extern "C" fn use_stack<const SIZE: usize>(_: *mut c_void) -> c_int {
    let mut room = [0u8; SIZE];
    for byte in room.iter_mut().step_by(512) {
        // SAFETY: a byte of `room`.
        unsafe { ptr::from_mut(byte).write_volatile(1) };
    }
    0
}

#[test]
fn the_hook_has_the_stack_that_it_is_told_and_no_more() {
    in_subprocess("the_hook_has_the_stack_that_it_is_told_and_no_more", || {
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        setrlimit(Resource::Core, none).unwrap();
        for without in EXCLUSIONS {
            let mut command = Command::new("true");
            // SAFETY: the hook writes to its stack, also where that is too small: the
            // page below may not be touched.
            unsafe {
                command.without(without).pre_exec(use_stack::<{ 56 << 10 }>, ptr::null_mut());
                assert!(command.spawn().unwrap().wait().unwrap().success());
                command.pre_exec(use_stack::<{ 64 << 10 }>, ptr::null_mut());
            }
            let error = command.spawn().unwrap_err();
            assert_eq!(error.signal(), Some(Signal::SEGV), "{error}");
            assert_eq!(error.description(), Some("the hook"));
            assert!(no_child_is_left());
        }
    });
}

#[test]
fn the_hooks_errno_is_the_spawns() {
    in_subprocess("the_hooks_errno_is_the_spawns", || {
        for without in EXCLUSIONS {
            for errno in [libc::EXFULL, libc::EPERM, libc::ENOENT] {
                let mut command = Command::new("true");
                let argument = ptr::without_provenance_mut(errno as usize);
                // SAFETY: the hook only returns.
                unsafe { command.without(without).pre_exec(fail_with, argument) };
                let error = command.spawn().unwrap_err();
                assert_eq!(error.raw_os_error(), Some(errno));
                let text = std::io::Error::from_raw_os_error(errno).to_string();
                let text = text.split(" (os error").next().unwrap();
                assert_eq!(error.to_string(), format!("the hook: {text}"));
                assert!(no_child_is_left());
            }
        }
    });
}

#[test]
fn a_negative_number_from_the_hook_is_the_hooks_failure_too() {
    // What a C function returns that has failed.
    for number in [-1, c_int::MIN] {
        let mut command = Command::new("true");
        let argument = ptr::without_provenance_mut(number as isize as usize);
        // SAFETY: the hook only returns.
        unsafe { command.pre_exec(fail_with, argument) };
        let mut prepared = command.prepare().unwrap();
        let opened = prepared.open().unwrap();
        let steps = opened.plan().steps();
        let hook = steps.iter().position(|step| *step == Step::Hook).unwrap();
        let error = opened.spawn().unwrap_err();
        assert_eq!((error.step(), error.step_index()), (Some(Step::Hook), Some(hook)));
        assert_eq!((error.raw_os_error(), error.description()), (Some(number), Some("the hook")));
    }
}

#[test]
fn a_child_killed_in_the_hook_is_told_so() {
    in_subprocess("a_child_killed_in_the_hook_is_told_so", || {
        for without in EXCLUSIONS {
            let mut command = Command::new("true");
            // SAFETY: the hook makes two raw syscalls.
            unsafe { command.without(without).pre_exec(kill_self, ptr::null_mut()) };
            let error = command.spawn().unwrap_err();
            assert_eq!((error.raw_os_error(), error.signal()), (None, Some(Signal::KILL)));
            assert_eq!(error.to_string(), "the hook: the child was killed by SIGKILL");
            assert!(no_child_is_left());
        }
    });
}
