//! What libc's wrappers say of a failure. `core` alone: the child of the
//! portable path reads it too.

use core::ffi::{CStr, c_int};
use core::fmt;

/// An error number.
///
/// Not rustix's type of this name: that one asserts the kernel's range when it
/// is made, and a child must have no way to panic.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(c_int);

macro_rules! errnos {
    ($($name:ident = $number:ident),* $(,)?) => {
        #[allow(dead_code, reason = "not every platform's code names each")]
        impl Errno {$(
            pub(crate) const $name: Self = Self(libc::$number);
        )*}
    };
}

errnos! {
    ACCESS = EACCES, AGAIN = EAGAIN, BADF = EBADF, BADMSG = EBADMSG, CHILD = ECHILD,
    CONNREFUSED = ECONNREFUSED, CONNRESET = ECONNRESET, EXIST = EEXIST, FBIG = EFBIG, INTR = EINTR,
    INVAL = EINVAL, IO = EIO, MFILE = EMFILE, MSGSIZE = EMSGSIZE, NFILE = ENFILE, NOENT = ENOENT,
    NOEXEC = ENOEXEC, NOMEM = ENOMEM, NOSYS = ENOSYS, NOTCONN = ENOTCONN, NOTDIR = ENOTDIR,
    NOTTY = ENOTTY, OPNOTSUPP = EOPNOTSUPP, PERM = EPERM,
    PIPE = EPIPE, SRCH = ESRCH, TOOBIG = E2BIG, TXTBSY = ETXTBSY,
}

impl Errno {
    pub(crate) const fn from_raw_os_error(number: c_int) -> Self {
        Self(number)
    }

    pub(crate) const fn raw_os_error(self) -> c_int {
        self.0
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(errno.raw_os_error())
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, Message(self.0))
    }
}

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
