//! One channel in the pump: its end, what is queued for it, what it waits for.

extern crate std;

use core::time::Duration;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::outbox::Outbox;
use super::timers::Timer;
use crate::channel::{EndInfo, Kind};
use crate::limits::{PIPE_SIZE_MAX, WRITES_PER_TURN_MAX};
use crate::sys::Errno;
use crate::sys::fd::{self, PipeWriter};
use crate::sys::poll::{Interest, Readiness};
use crate::sys::shared;

/// What our end of a channel can still do, and what it was asked to.
#[derive(Debug)]
pub(super) struct Source {
    /// `None` once the channel is closed.
    pub(super) end: Option<OwnedFd>,
    pub(super) info: EndInfo,
    /// The source that is the other half of the same channel: this reads and that
    /// writes, or the other way round.
    pub(super) other_half: Option<u32>,
    /// The open file is somebody else's too, so it has no `O_NONBLOCK` of ours:
    /// whether a call would block is asked just before.
    shared: bool,
    /// Its place in the backend, as long as it has an end.
    pub(super) place: usize,
    /// We have not read the end of file.
    pub(super) reading: bool,
    /// We may still queue, or have something queued.
    pub(super) writing: bool,
    pub(super) paused: bool,
    /// What becomes of it when the queue is written.
    pub(super) after_flush: AfterFlush,
    pub(super) outbox: Outbox,
    /// Queued bytes that a failed write has lost.
    pub(super) unsent: usize,
    /// Its pipe was made to hold more, or refused to.
    grown: bool,
    /// What it was found ready for and has not used up.
    pub(super) ready: Readiness,
    /// It waits for its turn, with this many reads left.
    pub(super) in_turn: bool,
    pub(super) reads_left: u32,
    /// After how much silence somebody is to be told.
    pub(super) idle_limit: Option<Duration>,
    pub(super) idle_timer: Timer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterFlush {
    /// It stays open.
    Stay,
    /// Our writing half is closed.
    ShutDown,
    /// The whole channel is closed.
    Close,
}

/// What one read got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The end of file.
    End,
    /// The read failed.
    Failed(Errno),
}

impl Source {
    pub(super) fn new(end: Option<OwnedFd>, info: EndInfo) -> Self {
        Self {
            reading: end.is_some() && info.direction.reads(),
            writing: end.is_some() && info.direction.writes(),
            end,
            info,
            other_half: None,
            shared: false,
            place: usize::MAX,
            paused: false,
            after_flush: AfterFlush::Stay,
            outbox: Outbox::new(),
            unsent: 0,
            grown: false,
            ready: Readiness::empty(),
            in_turn: false,
            reads_left: 0,
            idle_limit: None,
            idle_timer: Timer::default(),
        }
    }

    /// An end that somebody else has made. Nothing of it is changed that others
    /// would see. `shared`: nor is it an open file of our own.
    pub(super) fn attached(end: OwnedFd, info: EndInfo, shared: bool) -> Self {
        Self { shared, grown: true, ..Self::new(Some(end), info) }
    }

    pub(super) fn number(&self) -> i32 {
        self.end.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// What to wait for. Nothing for a reader that is paused: its hang-up would
    /// be reported again and again. A writer with nothing to write waits to
    /// learn that its reader is gone, and so does a socket whose peer writes no
    /// more.
    pub(super) fn interest(&self) -> Interest {
        let mut interest = Interest::empty();
        interest.set(Interest::READ, self.reading && !self.paused);
        interest.set(Interest::WRITE, self.writing && self.outbox.wants_room());
        let both_open = self.reading && self.writing;
        interest.set(Interest::HANGUP, self.writing && !(both_open && self.paused));
        interest
    }

    /// Writes bytes that nothing is queued before. `Ok(0)` if there is no room.
    pub(super) fn write(&self, writer: &mut PipeWriter, bytes: &[u8]) -> Result<usize, Errno> {
        let Some(end) = &self.end else { return Err(Errno::PIPE) };
        let mut bytes = bytes;
        if self.asks_before() {
            if !shared::is_ready(end.as_fd(), Interest::WRITE)? {
                return Ok(0);
            }
            bytes = &bytes[..bytes.len().min(shared::PIECE_MAX)];
        }
        loop {
            let written = match self.info.kind {
                Kind::Socket => fd::send(end.as_fd(), bytes),
                Kind::Pipe => writer.write(end.as_fd(), bytes),
                Kind::Terminal | Kind::Device | Kind::File => fd::write(end.as_fd(), bytes),
            };
            match written {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(0),
                // A terminal that was hung up.
                Err(Errno::IO) if self.info.kind == Kind::Device => return Err(Errno::PIPE),
                result => return result,
            }
        }
    }

    /// Writes what is queued, in a bounded number of writes. An error says that
    /// nobody reads any more, or that the write failed.
    pub(super) fn flush(&mut self, writer: &mut PipeWriter) -> Result<(), Errno> {
        for _ in 0..WRITES_PER_TURN_MAX {
            if self.outbox.is_empty() {
                break;
            }
            match self.write(writer, self.outbox.front())? {
                0 => break,
                written => self.outbox.advance(written),
            }
        }
        Ok(())
    }

    /// One read.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Got {
        let Some(end) = &self.end else { return Got::Nothing };
        if self.asks_before() {
            match shared::is_ready(end.as_fd(), Interest::READ) {
                Ok(true) => {}
                Ok(false) | Err(Errno::INTR) => return Got::Nothing,
                Err(errno) => return Got::Failed(errno),
            }
        }
        loop {
            let read = match self.shared && self.info.kind == Kind::Socket {
                true => fd::receive(end.as_fd(), buffer),
                false => fd::read(end.as_fd(), buffer),
            };
            match read {
                Ok(0) => return Got::End,
                Ok(len) => return Got::Bytes(len),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Got::Nothing,
                // A socket whose peer closed with our bytes unread.
                Err(Errno::CONNRESET) => return Got::End,
                // The same, and all was read.
                Err(Errno::IO) if matches!(self.info.kind, Kind::Terminal | Kind::Device) => {
                    return Got::End;
                }
                Err(errno) => return Got::Failed(errno),
            }
        }
    }

    /// Whether a call could block. A socket is asked not to, call by call, and a
    /// file does not.
    fn asks_before(&self) -> bool {
        self.shared && matches!(self.info.kind, Kind::Pipe | Kind::Device)
    }

    /// Has a pipe hold more from now on, for it was found full. Once; a kernel
    /// that refuses (a user's pipes hold too much in all, or it is not Linux's)
    /// leaves it as it is. Whether it holds more now.
    pub(super) fn grow(&mut self) -> bool {
        let Some(end) = self.end.as_ref().filter(|_| !self.grown) else { return false };
        self.grown = true;
        self.info.kind == Kind::Pipe && fd::grow_pipe(end.as_fd(), PIPE_SIZE_MAX) == Ok(true)
    }

    /// The peer reads the end of file.
    pub(super) fn shut_down_writing(&mut self) {
        if let Some(end) = self.end.as_ref().filter(|_| self.writing) {
            // It fails only if the peer is gone, which reading tells.
            let _ = fd::shutdown_write(end.as_fd());
        }
        self.writing = false;
    }

    /// Closes our end. It has left the backend.
    pub(super) fn close(&mut self) {
        self.end = None;
        self.reading = false;
        self.writing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Direction;

    #[test]
    fn a_pipe_is_made_to_hold_more_once_and_a_socket_is_left_alone() {
        let (reader, writer) = fd::pipe().unwrap();
        // Whether it is had at all is the platform's to say.
        let can_grow = fd::grow_pipe(reader.as_fd(), PIPE_SIZE_MAX / 2).unwrap();
        let mut source =
            Source::new(Some(writer), EndInfo { kind: Kind::Pipe, direction: Direction::Write });
        assert_eq!(source.grow(), can_grow);
        // Now it holds that much.
        assert_eq!(fd::grow_pipe(reader.as_fd(), PIPE_SIZE_MAX), Ok(false));
        assert!(!source.grow());
        let (ours, _theirs) = fd::socket_pair().unwrap();
        let both = EndInfo { kind: Kind::Socket, direction: Direction::Both };
        assert!(!Source::new(Some(ours), both).grow());
    }
}
