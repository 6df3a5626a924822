//! A spawn without care for a sanitizer, and for comparison one with it.

use core::arch::asm;
use core::hint::black_box;
use core::ptr;
use std::fs::File;
use std::io;

use forkplan::Channel::{Null, ReadPipe};
use forkplan::{Command, Exit};

use super::{EXCLUSIONS, end, far_side_without_stderr};

/// As large as the crate's own.
pub(crate) const STACK_SIZE: usize = 64 * 1024;

/// How many functions a careless child enters and never leaves.
pub(crate) const DEPTH: usize = 50;

/// A mapping for a careless child's stack.
pub(crate) fn stack() -> *mut u8 {
    let usable = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let stack = unsafe { libc::mmap(ptr::null_mut(), STACK_SIZE, usable, flags, -1, 0) };
    assert_ne!(stack, libc::MAP_FAILED);
    stack.cast()
}

/// Makes a child that shares memory and runs on `stack`, by the bare call: before
/// libc's function a sanitizer may have put one of its own.
pub(crate) fn child(stack: *mut u8) {
    let flags = (libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD) as usize;
    let mut pid = libc::SYS_clone as isize;
    // SAFETY: the stack is the child's alone until the call returns, since the parent
    // waits for its end; of this function's nothing is touched by it.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov edi, {depth}",
            "call r12",
            "ud2",
            "2:",
            depth = const DEPTH,
            inlateout("rax") pid,
            in("rdi") flags,
            in("rsi") stack.add(STACK_SIZE),
            in("rdx") 0,
            in("r10") 0,
            in("r8") 0,
            in("r12") descend as extern "C" fn(usize) -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    let pid = i32::try_from(pid).unwrap();
    assert!(pid > 0, "{pid}");
    // SAFETY: a child of this process.
    assert_eq!(unsafe { libc::waitpid(pid, ptr::null_mut(), 0) }, pid);
}

/// Has an array, and comes to the process's end in a function so many below.
#[inline(never)]
extern "C" fn descend(functions: usize) -> ! {
    let mut array = [0u8; 64];
    black_box(&mut array);
    if functions > 1 {
        descend(functions - 1);
    }
    // SAFETY: ends this process, with nothing done of what is registered for its end.
    unsafe {
        asm!("syscall", "ud2", in("rax") libc::SYS_exit_group, in("rdi") 0, options(noreturn));
    }
}

/// Spawns of the crate's that succeed and that fail, in all ways.
pub(crate) fn spawns() {
    for without in EXCLUSIONS {
        for program in [end().as_os_str(), "/nowhere/program".as_ref()] {
            let mut command = Command::new(program);
            let mut prepared = command.without(without).fd(0, Null).prepare().unwrap();
            for _ in 0..4 {
                if let Ok(mut child) = prepared.spawn() {
                    assert!(child.wait().unwrap().success());
                }
            }
        }
    }
}

/// Runs the far side of a test with a variable for the sanitizer: its end, and what it
/// has written to 2.
pub(crate) fn run(test: &str, case: &str, (key, value): (&str, &str)) -> (Exit, String) {
    let mut command = far_side_without_stderr(test, case);
    command.env(key, value).fd(0, Null).fd(1, Null).fd(2, ReadPipe);
    let mut child = command.spawn().unwrap();
    let text = io::read_to_string(File::from(child.take(2).unwrap())).unwrap();
    (child.wait().unwrap(), text)
}
