//! One channel in the pump: its end, what is queued for it, what it waits for.

extern crate std;

use core::time::Duration;
use std::boxed::Box;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::vec::Vec;

use super::event::CloseReason;
use super::feed::Feed;
use super::outbox::Outbox;
use super::timers::Timer;
use crate::channel::{EndInfo, Kind};
use crate::limits::{FDS_WAITING_MAX, PIPE_SIZE_MAX, READ_SIZE};
use crate::sys::fd::{self, PipeWriter};
use crate::sys::poll::{Interest, Readiness};
use crate::sys::{Errno, shared, socket};

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
    pub(super) feed: Feed,
    /// Queued bytes that a failed write has lost.
    pub(super) unsent: usize,
    /// It is read until nothing is there, and then closed.
    pub(super) last_words: Option<LastWords>,
    /// Fds may come with what is read.
    pub(super) takes_fds: bool,
    /// Fds that have come and wait for somebody to take them.
    pub(super) fds: Vec<OwnedFd>,
    /// Bytes that came with fds, while those are told first.
    pub(super) held: Option<Box<[u8]>>,
    /// A file that gets what is read.
    pub(super) tee: Option<OwnedFd>,
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
    /// A silence was over while it was paused. The next begins when it is read again.
    pub(super) idle_waits: bool,
}

/// Of a channel that nobody waits for any longer.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastWords {
    /// As what it is closed.
    pub(super) reason: CloseReason,
    /// How often it is read at most.
    pub(super) reads: u32,
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
    /// So many bytes; none if that is a message.
    Bytes(usize),
    /// The same, and so many fds.
    Fds(usize, usize),
    /// Nothing for now.
    Nothing,
    /// The end of file.
    End,
    /// The read failed.
    Failed(Errno),
}

impl From<Errno> for Got {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::AGAIN => Self::Nothing,
            // A socket whose peer closed with our bytes unread.
            Errno::CONNRESET => Self::End,
            errno => Self::Failed(errno),
        }
    }
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
            feed: Feed::None,
            unsent: 0,
            last_words: None,
            takes_fds: false,
            fds: Vec::new(),
            held: None,
            tee: None,
            grown: false,
            ready: Readiness::empty(),
            in_turn: false,
            reads_left: 0,
            idle_limit: None,
            idle_timer: Timer::default(),
            idle_waits: false,
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
        interest.set(Interest::READ, self.reading && !self.stopped());
        let wants_room = self.outbox.wants_room() || self.feed.wants_room();
        interest.set(Interest::WRITE, self.writing && wants_room);
        let both_open = self.reading && self.writing;
        interest.set(Interest::HANGUP, self.writing && !(both_open && self.stopped()));
        interest
    }

    /// Whether nothing is to be read for now: it is paused, or nobody has taken
    /// the fds that came.
    pub(super) fn stopped(&self) -> bool {
        self.paused || self.fds.len() >= FDS_WAITING_MAX
    }

    /// Writes bytes that nothing is queued before, and sends the fds with the
    /// first of them. `Ok(0)` if there is no room. A message goes as a whole.
    pub(super) fn write(
        &self,
        writer: &mut PipeWriter,
        bytes: &[u8],
        fds: &[OwnedFd],
    ) -> Result<usize, Errno> {
        let Some(end) = &self.end else { return Err(Errno::PIPE) };
        let mut bytes = bytes;
        if self.asks_before() {
            if !shared::is_ready(end.as_fd(), Interest::WRITE)? {
                return Ok(0);
            }
            let piece = match self.info.kind {
                Kind::Pipe => shared::PIPE_PIECE_MAX,
                _ => shared::TERMINAL_PIECE_MAX,
            };
            bytes = &bytes[..bytes.len().min(piece)];
        }
        loop {
            let written = match self.info.kind {
                Kind::Socket | Kind::Datagram | Kind::Seqpacket => {
                    socket::send_fds(end.as_fd(), bytes, fds)
                }
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

    /// Writes what is queued, in at most so many writes. An error says that
    /// nobody reads any more, or that the write failed.
    pub(super) fn flush(&mut self, writer: &mut PipeWriter, writes: u32) -> Result<(), Errno> {
        for _ in 0..writes {
            if self.outbox.is_empty() {
                break;
            }
            if self.info.kind.keeps_messages() {
                self.outbox.gather();
            }
            let (bytes, fds) = self.outbox.front();
            match self.write(writer, bytes, fds)? {
                0 => break,
                written => self.outbox.advance(written),
            }
        }
        Ok(())
    }

    /// One read.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Got {
        if self.info.kind.keeps_messages() || self.takes_fds {
            return self.receive(buffer);
        }
        let Some(end) = &self.end else { return Got::Nothing };
        if self.asks_before() {
            match shared::is_ready(end.as_fd(), Interest::READ) {
                Ok(true) => {}
                Ok(false) | Err(Errno::INTR) => return Got::Nothing,
                Err(errno) => return Got::Failed(errno),
            }
        }
        let room = buffer.len().min(READ_SIZE);
        let buffer = &mut buffer[..room];
        loop {
            let read = match self.shared && self.info.kind == Kind::Socket {
                true => fd::receive(end.as_fd(), buffer),
                false => fd::read(end.as_fd(), buffer),
            };
            match read {
                Ok(0) => return Got::End,
                Ok(len) => return Got::Bytes(len),
                Err(Errno::INTR) => {}
                // A terminal that nobody has open any more, or that was hung up,
                // and all was read.
                Err(Errno::IO) if matches!(self.info.kind, Kind::Terminal | Kind::Device) => {
                    return Got::End;
                }
                Err(errno) => return Got::from(errno),
            }
        }
    }

    /// One read of a message, or of what fds may come with.
    fn receive(&mut self, buffer: &mut [u8]) -> Got {
        let Self { end: Some(end), fds, takes_fds, info, .. } = self else { return Got::Nothing };
        let before = fds.len();
        let mut take = |fd| fds.push(fd);
        let received = loop {
            let accept: Option<&mut dyn FnMut(OwnedFd)> =
                if *takes_fds { Some(&mut take) } else { None };
            match socket::receive(end.as_fd(), buffer, accept) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                // Told once, and of messages before what is still queued.
                Err(Errno::CONNRESET) if info.kind.keeps_messages() => {}
                Err(errno) => return Got::from(errno),
            }
        };
        let count = fds.len() - before;
        match info.kind {
            _ if received.truncated => Got::Failed(Errno::MSGSIZE),
            // There was no number for one that was wanted.
            _ if received.fds_lost && *takes_fds => Got::Failed(Errno::MFILE),
            _ if count > 0 => Got::Fds(received.len, count),
            Kind::Seqpacket if received.len == 0 && socket::is_at_end(end.as_fd()) => Got::End,
            Kind::Socket if received.len == 0 => Got::End,
            _ => Got::Bytes(received.len),
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

    /// The peer gets an error for what it writes from now on.
    pub(super) fn shut_down_reading(&mut self) {
        if let Some(end) = self.end.as_ref().filter(|_| self.reading) {
            // As above, and writing tells.
            let _ = socket::shutdown_read(end.as_fd());
        }
        self.reading = false;
        self.held = None;
    }

    /// The process was reaped. A datagram socket has no other end: it takes no
    /// more, and what it holds is read.
    pub(super) fn shut_down_for_last_words(&mut self) {
        if let Some(end) = self.end.as_ref().filter(|_| self.reading) {
            let _ = socket::shutdown_read(end.as_fd());
        }
        self.last_words = Some(LastWords { reason: CloseReason::Peer, reads: u32::MAX });
    }

    /// Gives up our end, to be closed. It has left the backend.
    pub(super) fn close(&mut self) -> Option<OwnedFd> {
        self.tee = None;
        self.fds = Vec::new();
        self.held = None;
        self.reading = false;
        self.writing = false;
        self.end.take()
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
