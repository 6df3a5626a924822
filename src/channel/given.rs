//! Fds that one child gets and the parent loses.

extern crate std;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Channel;
use crate::sys::fd;
use crate::sys::once::OnceFd;

/// An fd that is given away: made by [`Channel::give`].
///
/// ```
/// use forkplan::{Channel, Command, PlanError};
///
/// let log = std::fs::File::open("/dev/null")?;
/// let mut prepared = Command::new("true").fd(3, Channel::give(log)).prepare()?;
/// prepared.spawn()?.wait()?;
/// let error = prepared.spawn().unwrap_err();
/// assert_eq!(error.plan_error(), Some(&PlanError::AlreadyGiven { fd: 3 }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct GivenFd(Arc<OnceFd>);

impl GivenFd {
    /// Where it is, until a spawn takes it.
    pub(crate) fn cell(&self) -> &Arc<OnceFd> {
        &self.0
    }
}

impl Channel<'_> {
    /// An fd that the parent gives away. When a spawn succeeds the parent's is
    /// closed, so that the child alone has it; one that fails leaves it here,
    /// for the next. A second spawn that would need it is an error,
    /// [`PlanError::AlreadyGiven`](crate::PlanError::AlreadyGiven).
    ///
    /// A clone of the channel, the command or what was prepared from it has the
    /// same fd, not another: of all their spawns one gets it. If none does it is
    /// closed when the last of them is dropped. Allocates.
    pub fn give(fd: impl Into<OwnedFd>) -> Channel<'static> {
        Channel::Given(GivenFd(Arc::new(OnceFd::new(fd.into()))))
    }

    /// A new pipe between two children: its write end for the one and its read
    /// end for the other, each [given](Self::give). No byte goes through the
    /// parent, which keeps neither end once both are spawned; so the end of the
    /// writer is the end of file for the reader.
    ///
    /// The error is `pipe2`'s.
    ///
    /// ```
    /// use forkplan::{Channel::{self, *}, Command};
    ///
    /// let (to_sort, from_printf) = Channel::connected()?;
    /// let mut printf = Command::new("printf").arg("b\\na\\n").fd(1, to_sort).spawn()?;
    /// let mut sort = Command::new("sort").fd(0, from_printf).fd(1, ReadPipe).spawn()?;
    /// let sorted = std::fs::File::from(sort.take(1).unwrap());
    /// assert_eq!(std::io::read_to_string(sorted)?, "a\nb\n");
    /// assert!(printf.wait()?.success() && sort.wait()?.success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn connected() -> io::Result<(Channel<'static>, Channel<'static>)> {
        let (reader, writer) = fd::pipe()?;
        Ok((Self::give(writer), Self::give(reader)))
    }
}
