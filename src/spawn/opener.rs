//! How each channel's ends come about.

extern crate std;

use std::ffi::{CStr, CString, OsStr};
use std::format;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::vec::Vec;

use rustix::fs::OFlags;

use super::{SpawnError, Subject};
use crate::channel::{Channel, ChannelInfo, Name, Open, PassedFd};
use crate::command::{Mapped, PlanError};
use crate::sys::{Errno, fd};

/// How a channel's ends come about at a spawn.
#[derive(Clone, Debug)]
pub(super) enum Opener<'fd> {
    ReadPipe,
    WritePipe,
    SocketPair,
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
    /// as they are made now. `channel` is what an error is about, where we get an
    /// end.
    pub(super) fn open(
        &self,
        channel: Option<&ChannelInfo>,
    ) -> Result<(Option<OwnedFd>, Option<OwnedFd>), SpawnError> {
        Ok(match self {
            Self::ReadPipe => {
                let (reader, writer) = fd::pipe().map_err(failed_for("pipe2", channel))?;
                (Some(reader), Some(writer))
            }
            Self::WritePipe => {
                let (reader, writer) = fd::pipe().map_err(failed_for("pipe2", channel))?;
                (Some(writer), Some(reader))
            }
            Self::SocketPair => {
                let (ours, their) = fd::socket_pair().map_err(failed_for("socketpair", channel))?;
                (Some(ours), Some(their))
            }
            Self::File { path, flags } => {
                let opened = fd::open(path, *flags, Open::MODE);
                (None, Some(opened.map_err(not_opened(path))?))
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

/// An error of a call of the parent's.
pub(super) fn failed(call: &'static str) -> impl Fn(Errno) -> SpawnError {
    move |errno| SpawnError::in_parent(call, Subject::Nothing, errno)
}

/// A call that makes the ends of a channel.
fn failed_for(call: &'static str, channel: Option<&ChannelInfo>) -> impl Fn(Errno) -> SpawnError {
    move |errno| match channel {
        Some(channel) => {
            let words = match channel.name() {
                Name::Fd(fd) => format!("{call} for child fd {fd}"),
                Name::Text(name) => format!("{call} for channel {name:?}"),
            };
            SpawnError::in_parent(words, Subject::of_channel(channel), errno)
        }
        None => failed(call)(errno),
    }
}

fn not_opened(path: &CStr) -> impl Fn(Errno) -> SpawnError {
    move |errno| {
        let subject = Subject::Path(OsStr::from_bytes(path.to_bytes()).into());
        SpawnError::in_parent(format!("open {path:?}"), subject, errno)
    }
}
