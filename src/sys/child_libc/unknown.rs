//! What only Linux's raw syscalls have: a request for it is refused when the
//! command is prepared, so no plan here comes to these.

use core::ffi::{c_char, c_int};

use crate::sys::Errno;

macro_rules! unknown {
    ($(fn $name:ident($($argument:ident: $kind:ty),*);)*) => {$(
        pub(crate) fn $name($($argument: $kind),*) -> Result<(), Errno> {
            Err(Errno::NOSYS)
        }
    )*};
}

macro_rules! unknown_unsafe {
    ($(fn $name:ident($($argument:ident: $kind:ty),*);)*) => {$(
        /// # Safety
        ///
        /// Any arguments will do.
        pub(crate) unsafe fn $name($($argument: $kind),*) -> Result<(), Errno> {
            Err(Errno::NOSYS)
        }
    )*};
}

unknown! {
    fn unshare_fds(_first: c_int);
    fn mark_listed(_first: c_int);
    fn set_scheduler(_policy: c_int, _priority: c_int);
    fn set_io_priority(_priority: c_int);
    fn parent_death_signal(_signal: c_int);
    fn no_new_privs();
    fn keep_caps();
    fn secure_bits(_bits: u32);
    fn limit_bounding_set(_keep: u64);
    fn set_capabilities(_capabilities: u64, _setpcap: bool);
    fn raise_ambient(_capabilities: u64);
    fn setns(_namespace: c_int, _kind: u32);
    fn private_mounts();
    fn landlock(_ruleset: c_int);
    fn await_parent(_pipe: c_int);
}

unknown_unsafe! {
    fn set_affinity(_len: usize, _mask: *const u8);
    fn pivot_root(_root: *const c_char);
    fn seccomp(_count: u16, _filter: *const u8);
    fn write_file(_path: *const c_char, _contents: *const u8, _len: usize);
}

/// # Safety
///
/// Any arguments will do.
pub(crate) unsafe fn execve_fd(
    _program: c_int,
    _argv: *const *const c_char,
    _envp: *const *const c_char,
) -> Errno {
    Errno::NOSYS
}
