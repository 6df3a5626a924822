//! What libc's wrappers say of a failure. `core` alone: the child of the
//! portable path reads it too.

use core::ffi::{CStr, c_int};
use core::fmt;

use super::Errno;

/// −1 as the errno that goes with it.
pub(crate) fn check(result: c_int) -> Result<c_int, Errno> {
    if result == -1 { Err(last_errno()) } else { Ok(result) }
}

/// The errno that the last failing call of libc left in this thread.
pub(crate) fn last_errno() -> Errno {
    #[cfg(any(target_os = "illumos", target_os = "solaris"))]
    use libc::___errno as location;
    #[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))]
    use libc::__errno as location;
    #[cfg(target_os = "linux")]
    use libc::__errno_location as location;
    #[cfg(any(target_vendor = "apple", target_os = "freebsd", target_os = "dragonfly"))]
    use libc::__error as location;
    // SAFETY: the location is this thread's own, valid as long as the thread.
    Errno::from_raw_os_error(unsafe { *location() })
}

/// An errno in words, without its number: `Bad file descriptor`.
pub(crate) struct Message(pub(crate) c_int);

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0; 128];
        // SAFETY: libc writes at most the length given, with a NUL in it. Of
        // the two functions with this name the libc crate has POSIX's.
        let failed =
            unsafe { libc::strerror_r(self.0, buffer.as_mut_ptr().cast(), buffer.len()) } != 0;
        match CStr::from_bytes_until_nul(&buffer).map(CStr::to_str) {
            Ok(Ok(words)) if !failed => f.write_str(words),
            _ => write!(f, "errno {}", self.0),
        }
    }
}
