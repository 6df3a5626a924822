//! The syscall instruction, and a clone that continues on another stack.
//!
//! libc's wrappers write `errno`, which in a child that shares memory is the
//! suspended parent's; and no wrapper can return twice into Rust. So these two
//! are written out, for each architecture that has the fast path.

use core::arch::asm;
use core::ffi::c_void;

/// What a child runs: it never comes back.
pub(crate) type Entry = unsafe extern "C" fn(*mut c_void) -> !;

/// Makes a syscall; −4095..0 is the negated errno. Unused arguments are zero.
///
/// # Safety
///
/// The kernel does with the arguments what the call's manual says: pointers
/// must be valid for that.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) unsafe fn syscall(number: i64, args: [usize; 6]) -> isize {
    let result;
    // SAFETY: the kernel's calling convention: the number in rax, arguments in
    // rdi, rsi, rdx, r10, r8, r9; rcx and r11 are overwritten. What the call
    // does to memory is the caller's contract.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// As above: the number in x8, arguments in x0 to x5.
///
/// # Safety
///
/// As above.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub(crate) unsafe fn syscall(number: i64, args: [usize; 6]) -> isize {
    let result;
    // SAFETY: the kernel's calling convention: the number in x8, arguments in
    // x0 to x5, the result in x0, nothing else overwritten. What the call does
    // to memory is the caller's contract.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] as isize => result,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x5") args[5],
            options(nostack),
        );
    }
    result
}

/// Makes a clone or clone3 call whose child continues in `entry(argument)` on
/// the stack that the call's arguments name. Returns in the parent only.
///
/// # Safety
///
/// The arguments name a stack of the child's own, 16-byte aligned at its top
/// and large enough for `entry`; and they have neither `CLONE_THREAD` nor
/// `CLONE_SETTLS`. `entry` and what it reads through `argument` keep to what a
/// child after fork may do.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn clone_into(
    number: i64,
    args: [usize; 5],
    entry: Entry,
    argument: *mut c_void,
) -> isize {
    let result;
    // SAFETY: in the parent this is a syscall like any other. The child gets a
    // copy of the registers and the new stack, never touches the parent's
    // stack, and calls `entry` with the stack aligned as the C ABI wants it
    // (16 bytes before the call). `entry` does not return.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") number as isize => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r12") entry,
            in("r13") argument,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// As above.
///
/// # Safety
///
/// As above.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn clone_into(
    number: i64,
    args: [usize; 5],
    entry: Entry,
    argument: *mut c_void,
) -> isize {
    let result;
    // SAFETY: in the parent this is a syscall like any other. The child gets a
    // copy of the registers and the new stack, never touches the parent's
    // stack, and calls `entry`, which does not return.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x21",
            "blr x20",
            "brk 1",
            "2:",
            in("x8") number,
            inlateout("x0") args[0] as isize => result,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x20") entry,
            in("x21") argument,
        );
    }
    result
}
