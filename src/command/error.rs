//! What can be wrong with a request, before anything has happened.

extern crate std;

use std::ffi::OsString;
use std::string::String;
use std::{fmt, io};

use crate::sys::Features;

/// A command that can't be carried out, found before any process was made.
///
/// Each names the entry that is wrong. As an `io::Error` its kind is
/// `InvalidInput`, but for a program that is nowhere to be looked for
/// (`NotFound`), a missing feature (`Unsupported`), and what the system refused.
///
/// ```
/// use forkplan::{Channel::*, Command, PlanError};
///
/// let error = Command::new("cat").fd(3, ReadPipe).fd(3, WritePipe).prepare().unwrap_err();
/// assert!(matches!(error, PlanError::DuplicateFd { fd: 3, .. }));
/// assert_eq!(error.to_string(), "child fd 3 is mapped twice: read pipe and write pipe");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// The program's name is empty.
    EmptyProgram,
    /// The program's name has no `/` and the child's `PATH` no element.
    EmptyPath {
        /// The program.
        program: OsString,
    },
    /// A string has a NUL byte in it.
    NulByte {
        /// Which one: `argument 2`, `value of environment variable "X"`.
        what: String,
    },
    /// The name of an environment variable is empty or has a `=` in it.
    BadEnvKey {
        /// The name.
        key: OsString,
    },
    /// A number that is no signal's.
    BadSignal {
        /// Its number.
        signal: i32,
    },
    /// A channel is mapped on no fd.
    NoFd {
        /// The channel.
        channel: String,
    },
    /// A child fd is below 0.
    NegativeFd {
        /// The child fd.
        fd: i32,
        /// The channel mapped on it.
        channel: String,
    },
    /// A child fd is not below the soft limit `RLIMIT_NOFILE`.
    FdAtLimit {
        /// The child fd.
        fd: i32,
        /// The channel mapped on it.
        channel: String,
        /// The limit.
        limit: i32,
    },
    /// Two channels are mapped on one child fd, or one twice.
    DuplicateFd {
        /// The child fd.
        fd: i32,
        /// What was mapped on it first.
        first: String,
        /// And then.
        second: String,
    },
    /// Two channels have one name.
    DuplicateName {
        /// The name.
        name: String,
    },
    /// The default writer is no channel of the map, or one that the parent does not
    /// write to.
    BadDefaultWriter {
        /// The name or child fd.
        name: String,
    },
    /// What was [given](crate::Channel::give) away is no longer here: an earlier
    /// spawn has succeeded with it, or another one is under way.
    AlreadyGiven {
        /// The child fd that was to get it.
        fd: i32,
    },
    /// A socket's name can't stand in `LISTEN_FDNAMES`.
    BadSocketName {
        /// The name.
        name: String,
    },
    /// What was [required](crate::Command::require) is not there.
    MissingFeature {
        /// The features that the kernel lacks, or that were excluded.
        features: Features,
    },
    /// This platform can't do that; or it is done with raw syscalls, which this
    /// architecture has not.
    Unsupported {
        /// What was asked for.
        what: &'static str,
    },
    /// Two things that can't both be.
    Contradiction {
        /// The one.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// The user is to change and nothing is said of the groups.
    UidWithoutGroups,
    /// There is no such user.
    UnknownUser {
        /// The name.
        name: OsString,
    },
    /// A number that can't be.
    OutOfRange {
        /// What it is for.
        what: &'static str,
        /// The number.
        value: i64,
    },
    /// There is no such CPU, nor can this machine get it.
    UnknownCpu {
        /// Its number.
        cpu: usize,
    },
    /// A PID namespace is to be joined. That would move the program's children and
    /// not the program: `setns(2)`.
    JoinedPidNamespace {
        /// The namespace's fd, or the pidfd.
        fd: i32,
    },
    /// The fd of the program is open on a script, whose interpreter could not
    /// open it.
    ScriptByFd,
    /// All strings together are longer than 4 GiB.
    TooLong,
    /// The system refused what preparing needs.
    System {
        /// The call.
        call: &'static str,
        /// Its errno.
        errno: i32,
    },
}

impl PlanError {
    /// The kind that this has as an `io::Error`.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::EmptyPath { .. } => io::ErrorKind::NotFound,
            Self::UnknownUser { .. } => io::ErrorKind::NotFound,
            Self::MissingFeature { .. } | Self::Unsupported { .. } => io::ErrorKind::Unsupported,
            Self::System { errno, .. } => io::Error::from_raw_os_error(*errno).kind(),
            _ => io::ErrorKind::InvalidInput,
        }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyProgram => f.write_str("the program's name is empty"),
            Self::EmptyPath { program } => {
                write!(f, "{program:?} is nowhere to be looked for: the child's PATH is empty")
            }
            Self::NulByte { what } => write!(f, "{what} has a NUL byte in it"),
            Self::BadEnvKey { key } => {
                write!(f, "{key:?} can't name an environment variable: it is empty or has a '='")
            }
            Self::BadSignal { signal } => write!(f, "{signal} is no signal"),
            Self::NoFd { channel } => write!(f, "{channel} is mapped on no child fd"),
            Self::NegativeFd { fd, channel } => {
                write!(f, "child fd {fd} is negative: {channel}")
            }
            Self::FdAtLimit { fd, channel, limit } => {
                write!(f, "child fd {fd} is not below RLIMIT_NOFILE, {limit}: {channel}")
            }
            Self::DuplicateFd { fd, first, second } => {
                write!(f, "child fd {fd} is mapped twice: {first} and {second}")
            }
            Self::DuplicateName { name } => write!(f, "two channels have the name {name:?}"),
            Self::BadDefaultWriter { name } => {
                write!(f, "the default writer, {name}, is no channel that the parent writes to")
            }
            Self::AlreadyGiven { fd } => {
                write!(f, "what child fd {fd} was to get was given to another spawn")
            }
            Self::BadSocketName { name } => write!(
                f,
                "{name:?} can't name a socket: up to 255 printable characters of ASCII, no ':'"
            ),
            Self::MissingFeature { features } => {
                write!(f, "required and not there: ")?;
                bitflags::parser::to_writer(features, f)
            }
            Self::Unsupported { what } => write!(f, "{what}: not on this platform"),
            Self::Contradiction { first, second } => write!(f, "{first} contradicts {second}"),
            Self::UidWithoutGroups => f.write_str(
                "the user changes and nothing is said of the groups: \
                 groups, init_groups or keep_groups",
            ),
            Self::UnknownUser { name } => write!(f, "there is no user {name:?}"),
            Self::OutOfRange { what, value } => write!(f, "{what} can't be {value}"),
            Self::UnknownCpu { cpu } => write!(f, "there is no CPU {cpu}"),
            Self::JoinedPidNamespace { fd } => {
                write!(f, "joining a PID namespace (fd {fd}) moves the program's children only")
            }
            Self::ScriptByFd => f.write_str(
                "the program's fd is open on a script, whose interpreter could not open it",
            ),
            Self::TooLong => f.write_str("arguments and environment are longer than 4 GiB"),
            Self::System { call, errno } => {
                write!(f, "{call}: {}", crate::sys::Message(*errno))
            }
        }
    }
}

impl core::error::Error for PlanError {}

impl From<PlanError> for io::Error {
    fn from(error: PlanError) -> Self {
        Self::new(error.kind(), error)
    }
}
