//! What a sanitizer notes of a child's functions does not stay with the parent, in
//! whose memory they have run. Only a build with that sanitizer can show it:
//! `.ci/tools asan` and `.ci/tools tsan`.
#![cfg(target_os = "linux")]

mod support;

use support::skipped;
#[cfg(all(any(asan, tsan), target_arch = "x86_64"))]
use support::{assert_done, careless, if_far_side};

/// A test that says so where it was not built with the sanitizer.
macro_rules! under {
    ($sanitizer:ident, fn $name:ident() $body:block) => {
        #[test]
        fn $name() {
            #[cfg(all($sanitizer, target_arch = "x86_64"))]
            $body
            #[cfg(not(all($sanitizer, target_arch = "x86_64")))]
            skipped(stringify!($name), concat!("not built for ", stringify!($sanitizer)))
        }
    };
}

under! { tsan, fn what_a_child_never_leaves_is_not_on_its_parents_stack_of_calls() {
    let test = "what_a_child_never_leaves_is_not_on_its_parents_stack_of_calls";
    let depths = tsan::depths(test, careless::spawns);
    assert_eq!(depths, [depths[0]; 3]);
} }

under! { tsan, fn control_what_a_careless_child_never_leaves_stays_on_its_parents_stack_of_calls() {
    let test = "control_what_a_careless_child_never_leaves_stays_on_its_parents_stack_of_calls";
    let stack = careless::stack();
    let depths = tsan::depths(test, || careless::child(stack));
    let more = [1, 2].map(|at| depths[at] - depths[at - 1]);
    // The functions, the first, and the one that never came back from the call.
    assert_eq!(more, [careless::DEPTH; 2]);
} }

under! { asan, fn what_a_child_never_leaves_is_not_marked_on_its_stack() {
    let test = "what_a_child_never_leaves_is_not_marked_on_its_stack";
    if_far_side(test, |_| {
        let before = asan::guarded();
        careless::spawns();
        let mut stacks = asan::guarded();
        stacks.retain(|stack| !before.contains(stack));
        // One was enough, and is kept for the next.
        assert_eq!(stacks.len(), 1);
        assert!(!asan::is_marked(stacks[0]));
    });
    let (exit, text) = asan::run(test, "");
    assert_eq!(text, "");
    assert_done(exit);
} }

under! { asan, fn control_what_a_careless_child_never_leaves_is_marked_on_its_stack() {
    let test = "control_what_a_careless_child_never_leaves_is_marked_on_its_stack";
    if_far_side(test, |case| {
        let stack = careless::stack();
        assert!(!asan::is_marked(stack));
        if case != "no child" {
            careless::child(stack);
            assert!(asan::is_marked(stack));
        }
        // SAFETY: the mapping, which nobody uses any more.
        unsafe { stack.write_bytes(0, careless::STACK_SIZE) };
    });
    // Whoever has the memory next is taken for one that writes beyond its arrays.
    let (exit, text) = asan::run(test, "a child");
    assert!(text.contains("AddressSanitizer: stack-buffer-"), "{text}");
    assert_eq!(exit.code(), Some(asan::FOUND), "{exit}");
    let (exit, text) = asan::run(test, "no child");
    assert_eq!(text, "");
    assert_done(exit);
} }

#[cfg(all(tsan, target_arch = "x86_64"))]
mod tsan {
    use super::{assert_done, careless, if_far_side};

    /// How deep the sanitizer takes this thread's calls to be, at first, when `work` is
    /// done and when it is done again.
    pub(super) fn depths(test: &str, work: impl Fn()) -> [usize; 3] {
        if_far_side(test, |_| {
            for again in [true, true, false] {
                have_the_stack_printed();
                if again {
                    work();
                }
            }
        });
        // Without what takes time, and without what would leave a report out.
        let options = "symbolize=0:suppress_equal_stacks=0:suppress_equal_addresses=0";
        let (exit, text) = careless::run(test, "", ("TSAN_OPTIONS", options));
        assert_done(exit);
        let mut reports = text.split("WARNING: ThreadSanitizer: ").skip(1);
        let depths = [(); 3].map(|()| {
            // After its name a report has this thread's stack, and an empty line.
            let mut lines = reports.next().unwrap().lines();
            assert!(lines.next().unwrap().starts_with("destroy of a locked mutex"), "{text}");
            lines.take_while(|line| !line.is_empty()).count()
        });
        assert_eq!(reports.next(), None);
        depths
    }

    /// Something that is wrong and harmless.
    fn have_the_stack_printed() {
        let mut mutex = libc::PTHREAD_MUTEX_INITIALIZER;
        // SAFETY: nobody else has it.
        unsafe {
            libc::pthread_mutex_lock(&mut mutex);
            libc::pthread_mutex_destroy(&mut mutex);
        }
    }
}

#[cfg(all(asan, target_arch = "x86_64"))]
mod asan {
    use core::ffi::c_void;
    use core::ptr;
    use std::fs;

    use forkplan::Exit;

    use super::careless;

    unsafe extern "C" {
        fn __asan_region_is_poisoned(begin: *mut c_void, size: usize) -> *mut c_void;
    }

    /// What the process ends with if something is found.
    pub(super) const FOUND: i32 = 77;

    /// Runs the far side with all arrays on the stack, and not, as many as there is
    /// room for, elsewhere.
    pub(super) fn run(test: &str, case: &str) -> (Exit, String) {
        let options = format!("detect_stack_use_after_return=0:exitcode={FOUND}");
        careless::run(test, case, ("ASAN_OPTIONS", &options))
    }

    /// Whether something on this stack is not to be touched.
    pub(super) fn is_marked(stack: *mut u8) -> bool {
        // SAFETY: looks at the sanitizer's notes about these addresses.
        !unsafe { __asan_region_is_poisoned(stack.cast(), careless::STACK_SIZE) }.is_null()
    }

    /// What lies above a single page that may not be touched, as the crate's stacks do.
    pub(super) fn guarded() -> Vec<*mut u8> {
        const PAGE: usize = 4096;
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let number = |hex| usize::from_str_radix(hex, 16).unwrap();
        let mut guard_ends = 0;
        let mut stacks = Vec::new();
        for line in maps.lines() {
            let (range, rest) = line.split_once(' ').unwrap();
            let (begin, end) = range.split_once('-').unwrap();
            let (begin, end) = (number(begin), number(end));
            if begin == guard_ends && rest.starts_with("rw-p 00000000 00:00 0") {
                stacks.push(ptr::with_exposed_provenance_mut(begin));
            }
            let is_guard = rest.starts_with("---p") && end - begin == PAGE;
            guard_ends = if is_guard { end } else { 0 };
        }
        stacks
    }
}
