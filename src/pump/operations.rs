//! What the caller does with a child's channels: write, close, pause.

extern crate std;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::vec::Vec;

use super::event::{ChannelError, ChildKey, CloseReason};
use super::source::AfterFlush;
use super::{Part, Pump, Token};
use crate::channel::{ChannelInfo, Direction, Kind, Name, Terminal};
use crate::sys::fd;
use crate::sys::poll::Readiness;

/// # Channels
///
/// Each call names a child and one of its channels, by its name or by any child
/// fd that it is mapped on. None blocks.
impl Pump {
    /// Writes to a channel; how many of the bytes were taken.
    ///
    /// If nothing is queued it writes at once what there is room for, and
    /// queues the rest up to the high-water mark. Who had fewer bytes taken than
    /// he gave gets [`Event::Drained`](crate::Event::Drained) when the queue is empty, or at its
    /// [low-water mark](Self::set_low_water). Bytes that are
    /// taken are written, or counted as unsent by [`Event::Closed`](crate::Event::Closed) if nobody
    /// reads them any more.
    ///
    /// To a channel that keeps message boundaries a write is one message, which
    /// is taken whole or not at all (0). One that is longer than the high-water
    /// mark is never queued: it is taken when there is room for it at once. An
    /// empty one is not sent.
    pub fn write<'n>(
        &mut self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
        bytes: &[u8],
    ) -> Result<usize, ChannelError> {
        let (token, source) = self.slots.writable(child, channel.into())?;
        if source.info.kind.keeps_messages() {
            return self.write_message(token, bytes, &mut Vec::new());
        }
        let mut taken = 0;
        while source.outbox.is_empty() && taken < bytes.len() {
            match source.write(&mut self.writer, &bytes[taken..], &[]) {
                Ok(written) => taken += written,
                Err(errno) => {
                    source.unsent += bytes.len() - taken;
                    self.writing_failed(token, errno);
                    return Ok(bytes.len());
                }
            }
            // Once more only into a pipe that holds more now.
            if taken < bytes.len() && !source.grow() {
                break;
            }
        }
        taken += source.outbox.offer(&bytes[taken..]);
        self.written(token, taken, bytes.len());
        Ok(taken)
    }

    /// Writes to the child's [default writer](crate::Child::default_writer) as
    /// [`write`](Self::write) does. [`ChannelError::NoChannel`] if it has none.
    pub fn write_default(&mut self, child: ChildKey, bytes: &[u8]) -> Result<usize, ChannelError> {
        let slot = self.slots.get(child).ok_or(ChannelError::NoChild)?;
        let default = slot.infos.iter().position(|info| info.default_writer);
        // By a child fd, which is a name that borrows nothing.
        let fd = default.and_then(|part| slot.infos[part].fds.first().copied());
        self.write(child, fd.ok_or(ChannelError::NoChannel)?, bytes)
    }

    /// Closes a channel: at once if nothing is queued, else when the queue is
    /// written; until then its data still come. What the child has written and
    /// nobody has read is lost, and it gets `SIGPIPE` or `EPIPE` for more. No
    /// error if it is closed already.
    pub fn close<'n>(
        &mut self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
    ) -> Result<(), ChannelError> {
        let channel = channel.into();
        // The half that has a queue, or the one that is left.
        let (token, source) = match self.slots.find_writing(child, channel) {
            Err(ChannelError::Closed) => match self.slots.find(child, channel) {
                Err(ChannelError::Closed) => return Ok(()),
                found => found?,
            },
            found => found?,
        };
        source.after_flush = AfterFlush::Close;
        self.after_flush(token);
        Ok(())
    }

    /// Closes a channel at once, whatever is queued for it: that is what
    /// [`Event::Closed`](crate::Event::Closed) counts as unsent then. For a channel that somebody
    /// holds and never reads. No error if it is closed already.
    pub fn abort<'n>(
        &mut self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
    ) -> Result<(), ChannelError> {
        match self.slots.find(child, channel.into()) {
            Err(ChannelError::Closed) => Ok(()),
            found => {
                let (token, _) = found?;
                self.close_channel(token, CloseReason::Us);
                Ok(())
            }
        }
    }

    /// Closes our writing half of a channel when its queue is written: the child
    /// reads the end of file, and of a socket pair we still read. A write pipe
    /// is closed. The child is not told of a datagram pair, which has no end of
    /// file. A [`Pty`](crate::Pty) can't do that: the end of its input is a
    /// character.
    pub fn close_write<'n>(
        &mut self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
    ) -> Result<(), ChannelError> {
        let (token, source) = match self.slots.find_writing(child, channel.into()) {
            Err(ChannelError::Closed) => return Ok(()),
            found => found?,
        };
        if !source.info.direction.writes() {
            return Err(ChannelError::NotWritable);
        }
        if source.info.kind == Kind::Terminal {
            return Err(ChannelError::NoHalfClose);
        }
        if source.after_flush == AfterFlush::Stay {
            source.after_flush = AfterFlush::ShutDown;
        }
        self.after_flush(token);
        Ok(())
    }

    /// Closes our reading half of a channel at once: who writes to it gets `EPIPE`
    /// (and `SIGPIPE`), and what has come and was not told is lost. To a socket
    /// pair we still write. A read pipe is closed, as is a socket pair whose
    /// writing half is closed.
    pub fn close_read<'n>(
        &mut self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
    ) -> Result<(), ChannelError> {
        let (token, source) = match self.slots.find(child, channel.into()) {
            Err(ChannelError::Closed) => return Ok(()),
            found => found?,
        };
        if !source.info.direction.reads() {
            return Err(ChannelError::NotReadable);
        }
        if source.info.kind == Kind::Terminal {
            return Err(ChannelError::NoHalfClose);
        }
        if !source.writing {
            self.close_channel(token, CloseReason::Us);
            return Ok(());
        }
        source.shut_down_reading();
        self.update(token);
        Ok(())
    }

    /// Closes every channel of a child, each as [`close`](Self::close) does.
    pub fn close_all(&mut self, child: ChildKey) -> Result<(), ChannelError> {
        let count = self.slots.get(child).ok_or(ChannelError::NoChild)?.sources.len();
        for part in 0..count as u32 {
            let token = Token { child, part: Part::Channel(part) };
            let by_other_half = self.slots.other_half(token).is_some();
            if let Some(source) = self.slots.source(token) {
                // It is closed with the half that has the queue.
                if by_other_half && source.info.direction == Direction::Read {
                    continue;
                }
                source.after_flush = AfterFlush::Close;
                self.after_flush(token);
            }
        }
        Ok(())
    }

    /// Closes every channel of a child, each as [`abort`](Self::abort) does.
    pub fn abort_all(&mut self, child: ChildKey) -> Result<(), ChannelError> {
        let count = self.slots.get(child).ok_or(ChannelError::NoChild)?.sources.len();
        for part in 0..count as u32 {
            self.close_channel(Token { child, part: Part::Channel(part) }, CloseReason::Us);
        }
        Ok(())
    }

    /// Whether a child has a channel of this name that is not closed.
    pub fn is_open<'n>(&self, child: ChildKey, channel: impl Into<Name<'n>>) -> bool {
        let Some(slot) = self.slots.get(child) else { return false };
        let Some(part) = slot.part(channel.into()) else { return false };
        let other = slot.sources[part].other_half.map_or(part, |other| other as usize);
        [part, other].into_iter().any(|half| slot.sources[half].end.is_some())
    }

    /// Closes a channel at once, with an errno as the reason.
    pub(crate) fn fail(
        &mut self,
        child: ChildKey,
        channel: Name<'_>,
        errno: i32,
    ) -> Result<(), ChannelError> {
        let (token, _) = self.slots.find(child, channel)?;
        self.close_channel(token, CloseReason::Error(errno));
        Ok(())
    }

    /// What is known of a child's channels. `None` once it has ended.
    pub(crate) fn channel_infos(&self, child: ChildKey) -> Option<Arc<[ChannelInfo]>> {
        self.slots.get(child).map(|slot| slot.infos.clone())
    }

    /// The place of an open channel among the child's.
    pub(crate) fn place(
        &mut self,
        child: ChildKey,
        channel: Name<'_>,
    ) -> Result<usize, ChannelError> {
        let (token, _) = self.slots.find(child, channel)?;
        match (self.slots.get(child), token.part) {
            (Some(slot), Part::Channel(part)) => Ok(slot.whole(part)),
            _ => Err(ChannelError::NoChannel),
        }
    }

    /// Stops reading from a channel, also what is ready already. The child
    /// blocks when the channel is full.
    ///
    /// While it is paused and nothing is queued for it, the other side's end
    /// goes unnoticed.
    pub fn pause<'n>(
        &mut self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
    ) -> Result<(), ChannelError> {
        self.set_paused(child, channel.into(), true)
    }

    /// Reads from a channel again.
    pub fn resume<'n>(
        &mut self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
    ) -> Result<(), ChannelError> {
        self.set_paused(child, channel.into(), false)
    }

    /// Pauses every channel of a child that is read from.
    pub fn pause_all(&mut self, child: ChildKey) -> Result<(), ChannelError> {
        self.set_all_paused(child, true)
    }

    /// Resumes every channel of a child that is read from.
    pub fn resume_all(&mut self, child: ChildKey) -> Result<(), ChannelError> {
        self.set_all_paused(child, false)
    }

    /// The terminal of which a channel is our end: to resize it, to ask for its
    /// name, foreground group and attributes.
    pub fn terminal<'n>(
        &self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
    ) -> Result<Terminal<'_>, ChannelError> {
        let slot = self.slots.get(child).ok_or(ChannelError::NoChild)?;
        let part = slot.part(channel.into()).ok_or(ChannelError::NoChannel)?;
        let source = &slot.sources[part];
        if source.info.kind != Kind::Terminal {
            return Err(ChannelError::NotATerminal);
        }
        let end = source.end.as_ref().ok_or(ChannelError::Closed)?;
        Ok(Terminal::of(end.as_fd()))
    }

    /// Writes what is read from a channel to `file` too, before it is told: at the
    /// file's offset, or at its end if it was opened to append. The file is
    /// closed with the channel; a second call replaces it.
    ///
    /// It has to be a regular file, so that nobody can keep us waiting; such a
    /// write waits for the disk at most. One that fails is
    /// [`Event::TeeFailed`](crate::Event::TeeFailed), and reading goes on without the
    /// tee. (Beyond `RLIMIT_FSIZE` the kernel sends `SIGXFSZ` first, as for every
    /// write.)
    ///
    /// ```
    /// use forkplan::{Channel::*, Command, Pump};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let log = dir.path().join("log");
    /// let mut pump = Pump::new();
    /// let echo = pump.add(Command::new("echo").arg("kept").fd(1, ReadPipe).spawn()?);
    /// pump.tee(echo, 1, std::fs::File::create(&log)?)?;
    /// while !pump.is_empty() {
    ///     pump.poll(None)?;
    ///     while pump.next_event().is_some() {}
    /// }
    /// assert_eq!(std::fs::read_to_string(&log)?, "kept\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tee<'n>(
        &mut self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
        file: impl Into<OwnedFd>,
    ) -> Result<(), ChannelError> {
        let (_, source) = self.slots.find(child, channel.into())?;
        if !source.info.direction.reads() {
            return Err(ChannelError::NotReadable);
        }
        let file = file.into();
        if !fd::is_regular(file.as_fd()) {
            return Err(ChannelError::NoFile);
        }
        source.tee = Some(file);
        Ok(())
    }

    /// Our end of a channel, on loan: to ask who its peer is, or for a lock or an
    /// option of a socket. Of two ends the one that is read from, as long as it is
    /// open. Whoever reads, writes or changes its flags disturbs the pump.
    pub fn end<'n>(
        &self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
    ) -> Result<BorrowedFd<'_>, ChannelError> {
        let slot = self.slots.get(child).ok_or(ChannelError::NoChild)?;
        let channel = channel.into();
        let part = slot.part(channel).ok_or(ChannelError::NoChannel)?;
        let writing = || slot.sources[slot.writing_part(channel)?].end.as_ref();
        let end = slot.sources[part].end.as_ref().or_else(writing);
        end.map(AsFd::as_fd).ok_or(ChannelError::Closed)
    }

    /// How many bytes are queued for a channel.
    pub fn queued<'n>(
        &self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
    ) -> Result<usize, ChannelError> {
        let slot = self.slots.get(child).ok_or(ChannelError::NoChild)?;
        let part = slot.writing_part(channel.into()).ok_or(ChannelError::NoChannel)?;
        Ok(slot.sources[part].outbox.len())
    }

    /// Sets how many bytes a channel queues at most; 65,536 without this call.
    /// What is queued above that stays. With 0 nothing is ever queued: a write
    /// takes what the kernel takes.
    pub fn set_high_water<'n>(
        &mut self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
        bytes: usize,
    ) -> Result<(), ChannelError> {
        let (_, source) = self.slots.find_writing(child, channel.into())?;
        source.outbox.set_high_water(bytes);
        Ok(())
    }

    fn set_paused(
        &mut self,
        child: ChildKey,
        channel: Name<'_>,
        paused: bool,
    ) -> Result<(), ChannelError> {
        let (token, source) = self.slots.find(child, channel)?;
        if !source.info.direction.reads() {
            // Of a channel of two halves, the one that was read from is closed.
            return Err(match source.other_half {
                Some(_) => ChannelError::Closed,
                None => ChannelError::NotReadable,
            });
        }
        source.paused = paused;
        self.stopped_or_not(token);
        Ok(())
    }

    fn set_all_paused(&mut self, child: ChildKey, paused: bool) -> Result<(), ChannelError> {
        let count = self.slots.get(child).ok_or(ChannelError::NoChild)?.sources.len();
        for part in 0..count as u32 {
            let token = Token { child, part: Part::Channel(part) };
            if let Some(source) = self.slots.source(token) {
                source.paused = paused && source.info.direction.reads();
                self.stopped_or_not(token);
            }
        }
        Ok(())
    }

    /// Waits for what is wanted now. What was held back has its turn again.
    fn stopped_or_not(&mut self, token: Token) {
        self.update(token);
        let Some(source) = self.slots.source(token) else { return };
        let silence_begins = !source.paused && core::mem::take(&mut source.idle_waits);
        let (held, last) = (source.held.is_some(), source.last_words.is_some());
        if held || last {
            // Nobody waits for last words to be ready.
            let ready = if last { Readiness::READ } else { Readiness::empty() };
            self.slots.give_turn(&mut self.turns, token, ready);
        }
        if silence_begins {
            self.heard(token);
        }
    }
}
