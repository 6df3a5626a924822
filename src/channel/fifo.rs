//! Named pipes: FIFOs of the file system.

extern crate std;

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::{Channel, Direction};

/// A FIFO, of which both ends are opened by the parent at each spawn, one for
/// itself and one for the child.
///
/// Neither opening waits for anybody, nor does the child's exec: each end is
/// there before the other is looked for. Nobody else has to open the FIFO, but
/// whoever does shares it: bytes go to one of its readers, and the end of file
/// comes when all writers are gone.
///
/// The parent has to be allowed to read and to write it. What is at the path and
/// is no FIFO is an error that says so. A relative path is taken from the
/// parent's directory at the time of the spawn.
///
/// ```
/// use forkplan::{Command, NamedPipe};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("fifo");
/// let fifo = NamedPipe::read(&path).create(0o600).unlink();
/// let mut echo = Command::new("echo").arg("hi").fd(1, fifo).spawn()?;
/// assert!(!path.exists()); // the child has it, no name is needed
/// let end = std::fs::File::from(echo.take(1).unwrap());
/// assert_eq!(std::io::read_to_string(end)?, "hi\n");
/// assert!(echo.wait()?.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "maps nothing by itself"]
pub struct NamedPipe {
    path: PathBuf,
    direction: Direction,
    create: Option<u32>,
    unlink: bool,
}

impl NamedPipe {
    /// The FIFO at `path`: the child writes, the parent reads.
    pub fn read(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), direction: Direction::Read, create: None, unlink: false }
    }

    /// The FIFO at `path`: the parent writes, the child reads.
    pub fn write(path: impl Into<PathBuf>) -> Self {
        Self { direction: Direction::Write, ..Self::read(path) }
    }

    /// Has a spawn make the FIFO if nothing is there, with this mode less the
    /// umask. One that is there is used as it is. A spawn that fails removes what
    /// it has made.
    pub fn create(self, mode: u32) -> Self {
        Self { create: Some(mode), ..self }
    }

    /// Has the FIFO removed as soon as a spawn has succeeded, whoever made it.
    /// If it is another one by then that stays.
    pub fn unlink(self) -> Self {
        Self { unlink: true, ..self }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }

    /// The mode that it is made with.
    pub(crate) fn mode(&self) -> Option<u32> {
        self.create
    }

    pub(crate) fn is_unlinked(&self) -> bool {
        self.unlink
    }

    /// The path as the kernel takes it. `None` if there is a NUL in it.
    pub(crate) fn freeze(&self) -> Option<CString> {
        CString::new(self.path.clone().into_os_string().into_vec()).ok()
    }
}

impl From<NamedPipe> for Channel<'_> {
    fn from(fifo: NamedPipe) -> Self {
        Self::NamedPipe(fifo)
    }
}
