//! The user's own code in the child.

use core::ffi::{c_int, c_void};

/// A function that a child calls before exec. It returns 0 or an errno.
pub type HookFunction = unsafe extern "C" fn(*mut c_void) -> c_int;

/// A function and its argument.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Hook {
    function: HookFunction,
    argument: *mut c_void,
}

// SAFETY: whoever made the hook has promised that it may be called with its
// argument from whichever thread spawns, by several at once.
unsafe impl Send for Hook {}
// SAFETY: as above.
unsafe impl Sync for Hook {}

impl Hook {
    /// Whoever calls this has made that promise; see
    /// [`Command::pre_exec`](crate::Command::pre_exec), which is `unsafe` for it.
    pub(crate) fn new(function: HookFunction, argument: *mut c_void) -> Self {
        Self { function, argument }
    }

    /// Calls it, in a child that has a copy of the memory. A function of its own,
    /// since it is the one place where the child's code leaves what can be
    /// followed; `extern "C"`, so that nothing unwinds into the walk.
    #[inline(never)]
    pub(crate) extern "C" fn call(self) -> c_int {
        // SAFETY: the promise above, and what `pre_exec` says of the child.
        unsafe { (self.function)(self.argument) }
    }
}
