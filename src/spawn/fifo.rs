//! Named pipes at a spawn: both ends, and the name that may have to go again.

extern crate std;

use std::ffi::{CString, OsStr};
use std::format;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use super::{SpawnError, Subject};
use crate::channel::{Direction, NamedPipe};
use crate::command::PlanError;
use crate::sys::Errno;
use crate::sys::fifo::{self, FileId};

/// A named pipe as every spawn opens it.
#[derive(Clone, Debug)]
pub(super) struct Fifo {
    path: CString,
    direction: Direction,
    /// The mode that it is made with if it is not there.
    create: Option<u32>,
    unlink: bool,
}

/// The name that one spawn has found or made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    id: FileId,
    made: bool,
}

impl Fifo {
    pub(super) fn new(pipe: &NamedPipe) -> Result<Self, PlanError> {
        let nul = || PlanError::NulByte { what: "path of a named pipe".into() };
        let path = pipe.freeze().ok_or_else(nul)?;
        if let Some(mode) = pipe.mode().filter(|mode| *mode > 0o777) {
            return Err(PlanError::OutOfRange { what: "mode of a named pipe", value: mode.into() });
        }
        let (create, unlink) = (pipe.mode(), pipe.is_unlinked());
        Ok(Self { path, direction: pipe.direction(), create, unlink })
    }

    /// Opens both ends: ours, the child's, and what is to be done about the
    /// name. Waits for nobody. Removes what it has made if it fails.
    pub(super) fn open(&self) -> Result<(OwnedFd, OwnedFd, Named), SpawnError> {
        let made = match self.create {
            Some(mode) => fifo::make(&self.path, mode).map_err(|e| self.failed("mkfifo", "", e))?,
            None => None,
        };
        self.open_ends(made).inspect_err(|_| self.remove(made))
    }

    fn open_ends(&self, made: Option<FileId>) -> Result<(OwnedFd, OwnedFd, Named), SpawnError> {
        let opening = |errno| self.failed("open", "", errno);
        let reader = fifo::open_reader(&self.path).map_err(opening)?;
        let id = fifo::id(reader.as_fd()).map_err(|e| self.failed("fstat", "", e))?;
        let no_fifo = || self.failed("open", ", which is no FIFO", Errno::INVAL);
        let id = id.ok_or_else(no_fifo)?;
        // There is a reader, so that this does not have to wait for one.
        let writer = fifo::open_writer(&self.path).map_err(opening)?;
        let again = fifo::id(writer.as_fd()).map_err(|e| self.failed("fstat", "", e))?;
        if again != Some(id) || made.is_some_and(|made| made != id) {
            return Err(self.failed("open", ", which was replaced meanwhile", Errno::INVAL));
        }
        for end in [&reader, &writer] {
            fifo::set_blocking(end.as_fd()).map_err(|e| self.failed("ioctl FIONBIO", "", e))?;
        }
        let named = Named { id, made: made.is_some() };
        Ok(match self.direction {
            Direction::Read => (reader, writer, named),
            _ => (writer, reader, named),
        })
    }

    /// After a spawn that succeeded.
    pub(super) fn settle(&self, named: Named) {
        self.remove(Some(named.id).filter(|_| self.unlink));
    }

    /// After one that failed.
    pub(super) fn take_back(&self, named: Named) {
        self.remove(Some(named.id).filter(|_| named.made));
    }

    fn remove(&self, fifo: Option<FileId>) {
        if let Some(fifo) = fifo {
            fifo::remove(&self.path, fifo);
        }
    }

    fn failed(&self, call: &str, what: &str, errno: Errno) -> SpawnError {
        let subject = Subject::Path(OsStr::from_bytes(self.path.to_bytes()).into());
        SpawnError::in_parent(format!("{call} {:?}{what}", self.path), subject, errno)
    }
}
