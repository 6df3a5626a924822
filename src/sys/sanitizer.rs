//! What a sanitizer notes of a child in our memory, kept apart from what it knows of
//! us.
//!
//! In a build with `-Zsanitizer` the child's functions call the sanitizer's runtime as
//! all others do, and those of them that end in an exec are never left. What was noted
//! when they were entered would stay for ever, and each spawn would add to it.
//!
//! ThreadSanitizer has a stack of calls for each thread, whose end nobody checks. So the
//! child runs as a fiber, which has a stack of its own. AddressSanitizer marks what lies
//! around a function's arrays until that is left, and calls it an error if somebody
//! else, such as the next child, writes there. So the marks are wiped off the stack.

#[cfg(any(asan, tsan))]
use core::ffi::c_void;

use super::memory::Region;

#[cfg(asan)]
unsafe extern "C" {
    fn __asan_unpoison_memory_region(address: *const c_void, size: usize);
}

#[cfg(tsan)]
unsafe extern "C" {
    fn __tsan_get_current_fiber() -> *mut c_void;
    fn __tsan_create_fiber(flags: u32) -> *mut c_void;
    fn __tsan_destroy_fiber(fiber: *mut c_void);
    fn __tsan_switch_to_fiber(fiber: *mut c_void, flags: u32);
}

/// Runs `clones`, which makes a child on the region's stack. One that shares memory has
/// left it when that returns.
#[inline]
pub(crate) fn beside_child<T>(region: &Region, clones: impl FnOnce() -> T) -> T {
    #[cfg(tsan)]
    // SAFETY: the thread runs as one fiber or another. The new one is the thread's alone,
    // and destroyed after the thread has left it.
    let (own, childs) = unsafe {
        let fibers = (__tsan_get_current_fiber(), __tsan_create_fiber(0));
        // Until the switch back, what the parent enters it leaves.
        __tsan_switch_to_fiber(fibers.1, 0);
        fibers
    };
    let result = clones();
    #[cfg(tsan)]
    // SAFETY: as above.
    unsafe {
        __tsan_switch_to_fiber(own, 0);
        __tsan_destroy_fiber(childs);
    }
    #[cfg(asan)]
    // SAFETY: the stack is mapped as long as the region, and no child is on it now: one
    // that nobody waits for is a fork (`CHILD_IS_INSTRUMENTED`), with a copy of the marks.
    unsafe {
        let (low, top) = (region.stack(), region.stack_top());
        __asan_unpoison_memory_region(low, top.addr() - low.addr());
    }
    #[cfg(not(asan))]
    let _ = region;
    result
}
