//! Why an inherited fd was not handed out.

extern crate std;

use std::string::String;
use std::{fmt, io};

use crate::channel::EndError;
use crate::sys::{FdKind, Message};

/// An inherited fd that was not handed out, or that is not what it should be.
///
/// Nothing has changed then: an fd that is not of the expected kind may be asked
/// for again. Of [`Errno`](Self::Errno) that can't be said.
///
/// ```
/// use forkplan::{FdKind, Inherited, InheritedError};
///
/// // SAFETY: nothing of this program owns an fd yet.
/// let mut inherited = unsafe { Inherited::new() }?;
/// let wrong = inherited.take(2, FdKind::DIRECTORY).unwrap_err();
/// assert!(matches!(wrong, InheritedError::WrongKind { fd: 2, .. }));
/// assert!(wrong.to_string().starts_with("fd 2 is not a directory but "));
/// # Ok::<(), InheritedError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InheritedError {
    /// There is no such fd.
    NotOpen {
        /// The number.
        fd: i32,
    },
    /// The fd is open, but the program was not started with it: it is this
    /// program's own, opened later or marked close-on-exec.
    NotInherited {
        /// The number.
        fd: i32,
    },
    /// The fd was handed out before.
    TakenAlready {
        /// The number.
        fd: i32,
    },
    /// The fd is something else.
    WrongKind {
        /// The number.
        fd: i32,
        /// What was asked for.
        expected: FdKind,
        /// What it is.
        found: FdKind,
    },
    /// The fd can't be the end of a channel.
    NoEnd {
        /// The number.
        fd: i32,
        /// Why.
        error: EndError,
    },
    /// The program has a record of its inherited fds already.
    Recorded,
    /// An environment variable of `sd_listen_fds(3)` has a value that makes no
    /// sense.
    Variable {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A call failed.
    Errno {
        /// The number that it was about, if it was about one.
        fd: Option<i32>,
        /// Why.
        errno: i32,
    },
}

impl fmt::Display for InheritedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpen { fd } => write!(f, "fd {fd} is not open"),
            Self::NotInherited { fd } => {
                write!(f, "fd {fd} was opened by this program, which was not started with it")
            }
            Self::TakenAlready { fd } => write!(f, "fd {fd} was taken already"),
            Self::WrongKind { fd, expected, found } => {
                write!(f, "fd {fd} is not {expected} but {found}")
            }
            Self::NoEnd { fd, error } => write!(f, "fd {fd} is no end of a channel: {error}"),
            Self::Recorded => f.write_str("the inherited fds of this program were recorded before"),
            Self::Variable { name, value, problem } => write!(f, "{name}={value:?}: {problem}"),
            Self::Errno { fd: Some(fd), errno } => write!(f, "fd {fd}: {}", Message(*errno)),
            Self::Errno { fd: None, errno } => {
                write!(f, "the open fds can't be listed: {}", Message(*errno))
            }
        }
    }
}

impl core::error::Error for InheritedError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::NoEnd { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<InheritedError> for io::Error {
    fn from(error: InheritedError) -> Self {
        let kind = match error {
            InheritedError::NotOpen { .. } => io::ErrorKind::NotFound,
            InheritedError::NotInherited { .. } => io::ErrorKind::PermissionDenied,
            InheritedError::TakenAlready { .. } | InheritedError::Recorded => {
                io::ErrorKind::AlreadyExists
            }
            InheritedError::Errno { errno, .. } => return Self::from_raw_os_error(errno),
            _ => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}
