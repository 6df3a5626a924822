//! How each channel's ends come about.

extern crate std;

use std::ffi::CString;
use std::format;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::vec::Vec;

use rustix::fs::OFlags;

use super::SpawnError;
use crate::channel::{Channel, Open, OpenError, PassedFd, Pty};
use crate::command::{Mapped, PlanError};
use crate::sys::{Errno, fd};

/// How a channel's ends come about at a spawn.
#[derive(Clone, Debug)]
pub(super) enum Opener<'fd> {
    ReadPipe,
    WritePipe,
    SocketPair,
    Pty(Pty),
    File { path: CString, flags: OFlags },
    Shared(Arc<OwnedFd>),
    Passthrough(PassedFd<'fd>),
}

impl Opener<'_> {
    /// The child's end, if it is there before the spawn.
    pub(super) fn number(&self) -> Option<i32> {
        match self {
            Self::Shared(fd) => Some(fd.as_raw_fd()),
            Self::Passthrough(source) => Some(source.as_fd().as_raw_fd()),
            _ => None,
        }
    }

    /// Opens the channel for one spawn: the parent's end and the child's, as far
    /// as they are made now.
    pub(super) fn open(&self) -> Result<(Option<OwnedFd>, Option<OwnedFd>), SpawnError> {
        Ok(match self {
            Self::ReadPipe => {
                let (reader, writer) = fd::pipe().map_err(failed("pipe2"))?;
                (Some(reader), Some(writer))
            }
            Self::WritePipe => {
                let (reader, writer) = fd::pipe().map_err(failed("pipe2"))?;
                (Some(writer), Some(reader))
            }
            Self::SocketPair => {
                let (ours, their) = fd::socket_pair().map_err(failed("socketpair"))?;
                (Some(ours), Some(their))
            }
            Self::Pty(pty) => {
                let (master, slave) = pty.open().map_err(no_terminal)?;
                (Some(master), Some(slave))
            }
            Self::File { path, flags } => {
                let opened = fd::open(path, *flags, Open::MODE);
                let subject =
                    |e: Errno| SpawnError::in_parent(format!("open {path:?}"), e.raw_os_error());
                (None, Some(opened.map_err(subject)?))
            }
            Self::Shared(_) | Self::Passthrough(_) => (None, None),
        })
    }
}

/// One for each channel. `/dev/null` is opened once.
pub(super) fn openers<'fd>(channels: &[Mapped<'fd>]) -> Result<Vec<Opener<'fd>>, PlanError> {
    let mut null: Option<Arc<OwnedFd>> = None;
    channels.iter().map(|mapped| opener(&mapped.channel, &mut null)).collect()
}

fn opener<'fd>(
    channel: &Channel<'fd>,
    null: &mut Option<Arc<OwnedFd>>,
) -> Result<Opener<'fd>, PlanError> {
    Ok(match channel {
        Channel::ReadPipe => Opener::ReadPipe,
        Channel::WritePipe => Opener::WritePipe,
        Channel::SocketPair => Opener::SocketPair,
        Channel::Pty(pty) => Opener::Pty(pty.clone()),
        Channel::Passthrough(source) => Opener::Passthrough(source.clone()),
        Channel::File(file) => {
            let nul = || PlanError::NulByte { what: "path of a file".into() };
            let (path, flags): (CString, OFlags) = file.freeze().ok_or_else(nul)?;
            Opener::File { path, flags }
        }
        Channel::Null => Opener::Shared(match null {
            Some(null) => null.clone(),
            None => {
                let opened = fd::open_null();
                let opened = opened.map_err(|e| PlanError::System {
                    call: "open \"/dev/null\"",
                    errno: e.raw_os_error(),
                })?;
                null.insert(Arc::new(opened)).clone()
            }
        }),
    })
}

fn no_terminal(error: OpenError) -> SpawnError {
    match error {
        OpenError::Call(call, errno) => failed(call)(errno),
        OpenError::Gone => failed("the adopted PTY, which another child has got")(Errno::BADF),
    }
}

/// An error of a call of the parent's.
pub(super) fn failed(call: &'static str) -> impl Fn(Errno) -> SpawnError {
    move |errno| SpawnError::in_parent(call, errno.raw_os_error())
}
