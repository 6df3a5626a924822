//! Files that are opened for a child.

extern crate std;

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// How a file is opened.
///
/// ```
/// use forkplan::{Channel, Command, Open};
///
/// let dir = tempfile::tempdir()?;
/// let log = dir.path().join("log");
/// for line in ["one", "two"] {
///     let mut echo = Command::new("echo");
///     echo.arg(line).fd(1, Channel::file(&log, Open::Append)).spawn()?.wait()?;
/// }
/// assert_eq!(std::fs::read_to_string(&log)?, "one\ntwo\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Files that are made get mode 0666 less the umask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Open {
    /// For reading; it has to be there.
    Read,
    /// For writing; made if it is not there, emptied if it is.
    Write,
    /// For writing at the end; made if it is not there.
    Append,
    /// For reading and writing; made if it is not there, and not emptied.
    ReadWrite,
    /// For writing; it must not be there.
    CreateNew,
}

impl Open {
    pub(crate) fn flags(self) -> OFlags {
        match self {
            Self::Read => OFlags::RDONLY,
            Self::Write => OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC,
            Self::Append => OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND,
            Self::ReadWrite => OFlags::RDWR | OFlags::CREATE,
            Self::CreateNew => OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL,
        }
    }

    pub(crate) const MODE: Mode = Mode::from_raw_mode(0o666);
}

/// A path and how it is opened: made by [`Channel::file`](super::Channel::file).
///
/// ```
/// use forkplan::{Channel, Open};
///
/// let channel = Channel::file("/etc/hosts", Open::Read);
/// assert!(matches!(channel, Channel::File(_)));
/// ```
#[derive(Clone, Debug)]
pub struct OpenFile {
    path: PathBuf,
    open: Open,
}

impl OpenFile {
    pub(super) fn new(path: PathBuf, open: Open) -> Self {
        Self { path, open }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path as the kernel takes it, and the flags. `None` if there is a NUL
    /// in it.
    pub(crate) fn freeze(&self) -> Option<(CString, OFlags)> {
        let path = CString::new(self.path.clone().into_os_string().into_vec()).ok()?;
        Some((path, self.open.flags()))
    }
}

/// A path and how the child opens it: made by
/// [`Channel::file_in_child`](crate::Channel::file_in_child).
///
/// ```
/// use forkplan::{Channel, Open};
///
/// let channel = Channel::file_in_child("/etc/hosts", Open::Read);
/// assert!(matches!(channel, Channel::FileInChild(_)));
/// ```
#[derive(Clone, Debug)]
pub struct FileInChild(OpenFile);

impl FileInChild {
    pub(super) fn new(file: OpenFile) -> Self {
        Self(file)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// As a step has them.
    pub(crate) fn flags(&self) -> i32 {
        self.0.open.flags().bits() as i32
    }
}
