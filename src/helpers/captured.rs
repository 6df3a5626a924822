//! What came of one child.

extern crate std;

use std::boxed::Box;
use std::io;
use std::sync::Arc;
use std::vec::Vec;

use super::Output;
use crate::channel::{ChannelInfo, Name};
use crate::child::Exit;
use crate::pump::CloseReason;

/// How a command ended and what came of its channels:
/// [`Communicate::run`](crate::Communicate::run),
/// [`Parallel::run`](crate::Parallel::run).
///
/// ```
/// use forkplan::{Channel::*, Command};
///
/// let captured = Command::new("sh")
///     .args(["-c", "echo data; echo GOOD >&5"])
///     .channel("status", ReadPipe, [5])
///     .communicate(b"")
///     .run()?;
/// assert!(captured.exit.success() && !captured.timed_out);
/// assert_eq!(captured.stdout(), b"data\n");
/// assert_eq!(captured.channel("status").unwrap().bytes, b"GOOD\n");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Captured {
    /// How the process ended.
    pub exit: Exit,
    /// Whether it had not come to its end when its time was over. What had come
    /// until then, and until it was stopped, is kept.
    pub timed_out: bool,
    pub(super) infos: Arc<[ChannelInfo]>,
    pub(super) channels: Box<[ChannelOutput]>,
}

/// What came of one channel.
///
/// ```
/// use forkplan::{CloseReason, Command};
///
/// let captured = Command::new("echo").arg("twelve bytes").communicate(b"").limit(6).run()?;
/// let stdout = captured.channel(1).unwrap();
/// assert_eq!((&stdout.bytes[..], stdout.dropped), (&b"twelve"[..], 7));
/// assert_eq!(stdout.closed, CloseReason::Peer);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelOutput {
    /// What was read, up to the limit. Messages stand one after the other.
    pub bytes: Vec<u8>,
    /// How many bytes were read beyond the limit, and dropped.
    pub dropped: u64,
    /// How many bytes of the input were never written: nobody read them.
    pub unsent: usize,
    /// Who closed it. [`CloseReason::Abandoned`]: somebody holds it still, and
    /// what he writes is not here.
    pub closed: CloseReason,
}

impl Captured {
    /// A channel by its name or a child fd. `None` if it has no end of ours.
    pub fn channel<'n>(&self, channel: impl Into<Name<'n>>) -> Option<&ChannelOutput> {
        self.channels.get(self.place(channel.into())?)
    }

    /// What was read from a channel, taken out. Empty if it was taken before, and
    /// if there is no such channel.
    pub fn take<'n>(&mut self, channel: impl Into<Name<'n>>) -> Vec<u8> {
        let place = self.place(channel.into());
        place.map(|place| core::mem::take(&mut self.channels[place].bytes)).unwrap_or_default()
    }

    /// All channels with an end of ours.
    pub fn channels(&self) -> impl Iterator<Item = (Name<'_>, &ChannelOutput)> {
        self.infos.iter().map(ChannelInfo::name).zip(&self.channels)
    }

    /// What was read from the channel on child fd 1. Empty if that is none we read
    /// from.
    pub fn stdout(&self) -> &[u8] {
        self.channel(1).map_or(&[], |channel| &channel.bytes)
    }

    /// What was read from the channel on child fd 2. Empty if that is none we read
    /// from.
    pub fn stderr(&self) -> &[u8] {
        self.channel(2).map_or(&[], |channel| &channel.bytes)
    }

    /// Whether some channel has written more than its limit.
    pub fn truncated(&self) -> bool {
        self.channels.iter().any(|channel| channel.dropped > 0)
    }

    /// Whether some channel was still held by somebody when the time for that was
    /// over.
    pub fn abandoned(&self) -> bool {
        self.channels.iter().any(|channel| channel.closed == CloseReason::Abandoned)
    }

    /// Without what else is known. An error if a channel could not be read.
    pub(super) fn into_output(mut self) -> io::Result<Output> {
        for (info, channel) in self.infos.iter().zip(&self.channels) {
            if let (true, CloseReason::Error(errno)) = (info.end.direction.reads(), channel.closed)
            {
                return Err(io::Error::from_raw_os_error(errno));
            }
        }
        Ok(Output { exit: self.exit, stdout: self.take(1), stderr: self.take(2) })
    }

    fn place(&self, name: Name<'_>) -> Option<usize> {
        self.infos.iter().position(|info| info.is(name))
    }
}
