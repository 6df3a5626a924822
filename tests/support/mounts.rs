//! Mounts of one's own.

use core::ptr;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{fs, io};

/// Gives this thread mounts of its own, which its children's namespaces share
/// with it: as most systems have them. Only as root.
pub(crate) fn with_shared_mounts() {
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
    propagate(libc::MS_PRIVATE);
    propagate(libc::MS_SHARED);
}

/// Sets how all mounts propagate.
fn propagate(how: libc::c_ulong) {
    let (none, root): (_, &CStr) = (ptr::null(), c"/");
    // SAFETY: the kernel reads the one string; no other is looked at.
    let result = unsafe { libc::mount(none, root.as_ptr(), none, libc::MS_REC | how, none.cast()) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// Where something is mounted, for this thread.
pub(crate) fn mounted() -> Vec<String> {
    let info = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    info.lines().map(|line| line.split(' ').nth(4).unwrap().into()).collect()
}

/// Takes away what is mounted there.
pub(crate) fn unmount(at: &Path) {
    let at = CString::new(at.as_os_str().as_bytes()).unwrap();
    // SAFETY: the kernel reads the string.
    let result = unsafe { libc::umount2(at.as_ptr(), 0) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}
