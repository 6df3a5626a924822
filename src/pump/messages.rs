//! Messages and fds that go through sockets.

extern crate std;

use std::os::fd::{AsFd, OwnedFd};
use std::vec::Vec;

use super::event::{ChannelError, ChildKey, CloseReason};
use super::{Part, Pump, Token};
use crate::channel::{Kind, Name};
use crate::limits::FDS_PER_MESSAGE_MAX;
use crate::sys::poll::Readiness;
use crate::sys::{Errno, socket};

/// # Fds that travel
///
/// Through channels that are sockets. None blocks.
impl Pump {
    /// Writes to a channel as [`write`](Self::write) does, and sends `fds` with
    /// the first of the bytes; how many bytes were taken. If that is none, which
    /// is for want of room and followed by [`Event::Drained`](crate::Event::Drained), the
    /// fds are left. Else `fds` is empty: ours are closed when they are sent, or
    /// with the channel.
    ///
    /// There has to be a byte, and 253 fds are the most at once. The child gets
    /// copies with the first byte, by `recvmsg` (`SCM_RIGHTS`). What the system
    /// refuses (`ETOOMANYREFS`: too many of this user's are on their way) closes
    /// the channel with that error.
    ///
    /// ```no_run
    /// use forkplan::{Channel::*, Command, Pump};
    ///
    /// let mut pump = Pump::new();
    /// let worker = pump.add(Command::new("worker").fd(3, SocketPair).spawn()?);
    /// let client: std::os::fd::OwnedFd = std::net::TcpStream::connect("127.0.0.1:80")?.into();
    /// let taken = pump.send_fds(worker, 3, b"serve", &mut vec![client])?;
    /// assert_eq!(taken, 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_fds<'n>(
        &mut self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
        bytes: &[u8],
        fds: &mut Vec<OwnedFd>,
    ) -> Result<usize, ChannelError> {
        let (token, source) = self.slots.writable(child, channel.into())?;
        if !source.info.kind.is_socket() {
            return Err(ChannelError::NoSocket);
        }
        if bytes.is_empty() || fds.len() > FDS_PER_MESSAGE_MAX {
            return Err(ChannelError::BadFdCount);
        }
        if source.info.kind.keeps_messages() {
            return self.write_message(token, bytes, fds);
        }
        let mut taken = 0;
        if source.outbox.is_empty() {
            match source.write(&mut self.writer, bytes, fds) {
                Ok(written) => taken = written,
                Err(errno) => return Ok(self.not_written(token, bytes, fds, errno)),
            }
        }
        taken += match taken {
            0 => source.outbox.offer_with(bytes, fds),
            _ => source.outbox.offer(&bytes[taken..]),
        };
        if taken > 0 {
            fds.clear();
        }
        self.written(token, taken, bytes.len());
        Ok(taken)
    }

    /// Whether fds are received that come through a channel. Without this call
    /// they are not: the kernel makes none here, whatever the child sends, so
    /// that it can't fill our table.
    ///
    /// Each is CLOEXEC from birth. [`Event::Fds`](crate::Event::Fds) tells that some came, and
    /// they wait for [`take_fds`](Self::take_fds); with 253 or more waiting the
    /// channel is not read. One for which this process has no number left closes
    /// the channel with `EMFILE`.
    pub fn receive_fds<'n>(
        &mut self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
        receive: bool,
    ) -> Result<(), ChannelError> {
        let (_, source) = self.slots.find(child, channel.into())?;
        if !source.info.kind.is_socket() {
            return Err(ChannelError::NoSocket);
        }
        source.takes_fds = receive;
        Ok(())
    }

    /// The fds that came through a channel and that nobody took before, in their
    /// order. When the channel is closed they are too.
    pub fn take_fds<'n>(
        &mut self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
    ) -> Result<Vec<OwnedFd>, ChannelError> {
        let (token, source) = self.slots.find(child, channel.into())?;
        let fds = core::mem::take(&mut source.fds);
        self.update(token);
        Ok(fds)
    }
}

impl Pump {
    /// Sends one message or queues it; its length, or 0 if there is no room.
    pub(super) fn write_message(
        &mut self,
        token: Token,
        bytes: &[u8],
        fds: &mut Vec<OwnedFd>,
    ) -> Result<usize, ChannelError> {
        let Some(source) = self.slots.source(token) else { return Err(ChannelError::Closed) };
        if bytes.is_empty() {
            return Ok(0);
        }
        if !source.outbox.is_empty() {
            // Asked before it is queued; else the send says so.
            let longest = source.end.as_ref().map(|end| socket::longest_message(end.as_fd()));
            if longest.is_some_and(|longest| bytes.len() > longest) {
                return Err(ChannelError::MessageTooLong);
            }
        } else {
            match source.write(&mut self.writer, bytes, fds) {
                Ok(0) => {}
                Ok(sent) => {
                    fds.clear();
                    self.written(token, sent, sent);
                    return Ok(sent);
                }
                Err(Errno::MSGSIZE) => return Err(ChannelError::MessageTooLong),
                Err(errno) => return Ok(self.not_written(token, bytes, fds, errno)),
            }
        }
        let taken = if source.outbox.offer_message(bytes, fds) { bytes.len() } else { 0 };
        self.written(token, taken, bytes.len());
        Ok(taken)
    }

    /// Takes what can't be written, for nobody reads it: it counts as unsent.
    pub(super) fn not_written(
        &mut self,
        token: Token,
        bytes: &[u8],
        fds: &mut Vec<OwnedFd>,
        errno: Errno,
    ) -> usize {
        fds.clear();
        if let Some(source) = self.slots.source(token) {
            source.unsent += bytes.len();
        }
        self.writing_failed(token, errno);
        bytes.len()
    }

    /// Ends channels that have no end of file, when the process was reaped: what
    /// has arrived is read first.
    pub(super) fn hear_last_words(&mut self, child: ChildKey) {
        let count = self.slots.get(child).map_or(0, |slot| slot.sources.len());
        for part in 0..count as u32 {
            let token = Token { child, part: Part::Channel(part) };
            let Some(source) = self.slots.source(token) else { continue };
            if source.info.kind != Kind::Datagram {
                continue;
            }
            if !source.reading {
                self.close_channel(token, CloseReason::Peer);
                continue;
            }
            source.shut_down_for_last_words();
            self.slots.give_turn(&mut self.turns, token, Readiness::READ);
        }
    }
}
