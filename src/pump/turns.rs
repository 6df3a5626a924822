//! From readiness to events: what a source does when it has its turn.

extern crate std;

use std::os::fd::AsFd;

use super::event::{ChildKey, CloseReason, Event};
use super::feed::Ask;
use super::slots::Slot;
use super::source::{AfterFlush, Got};
use super::{Part, Pump, Token};
use crate::channel::{Direction, Kind, Name};
use crate::child::{Child, Exit};
use crate::limits::{PIPE_SIZE_MIN, WRITES_PER_TURN_MAX};
use crate::signal::Signal;
use crate::sys::poll::Readiness;
use crate::sys::{Errno, fd};

/// An event that needs no more work, until it is told, or what is for a producer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Note {
    Made {
        child: ChildKey,
        pid: Option<u32>,
    },
    Adopted {
        child: ChildKey,
        leader: ChildKey,
        pid: u32,
    },
    /// So many fds came.
    Fds(Token, usize),
    HalfClosed(Token),
    Drained(Token),
    TeeFailed(Token, Errno),
    Closed {
        token: Token,
        reason: CloseReason,
        unsent: usize,
    },
    Idle(Token),
    TimedOut {
        child: ChildKey,
    },
    Signalled {
        child: ChildKey,
        signal: Signal,
    },
    Stopped {
        child: ChildKey,
        signal: Signal,
    },
    Continued {
        child: ChildKey,
    },
    Exited {
        child: ChildKey,
        exit: Exit,
    },
    Ended {
        child: ChildKey,
        exit: Exit,
    },
    NotStarted {
        child: ChildKey,
    },
    Producer(Token, Ask),
}

impl Note {
    /// Whom it is about.
    pub(super) fn child(self) -> ChildKey {
        match self {
            Self::Made { child, .. }
            | Self::Adopted { child, .. }
            | Self::TimedOut { child }
            | Self::Signalled { child, .. }
            | Self::Stopped { child, .. }
            | Self::Continued { child }
            | Self::Exited { child, .. }
            | Self::NotStarted { child }
            | Self::Ended { child, .. } => child,
            Self::Fds(token, _)
            | Self::HalfClosed(token)
            | Self::Drained(token)
            | Self::TeeFailed(token, _)
            | Self::Closed { token, .. }
            | Self::Idle(token)
            | Self::Producer(token, _) => token.child,
        }
    }

    /// The note as an event; `name` says how its channel is known, if it is
    /// about one. None, if it is for a producer.
    pub(super) fn event<'a>(self, name: impl FnOnce(Token) -> Name<'a>) -> Option<Event<'a>> {
        Some(match self {
            Self::Producer(..) => return None,
            Self::Made { child, pid } => Event::Made { child, pid },
            Self::Adopted { child, leader, pid } => Event::Adopted { child, leader, pid },
            Self::Fds(token, count) => {
                Event::Fds { child: token.child, channel: name(token), count }
            }
            Self::TeeFailed(token, errno) => {
                let (child, errno) = (token.child, errno.raw_os_error());
                Event::TeeFailed { child, channel: name(token), errno }
            }
            Self::HalfClosed(token) => {
                Event::HalfClosed { child: token.child, channel: name(token) }
            }
            Self::Drained(token) => Event::Drained { child: token.child, channel: name(token) },
            Self::Closed { token, reason, unsent } => {
                Event::Closed { child: token.child, channel: name(token), reason, unsent }
            }
            Self::Idle(token) => Event::Idle { child: token.child, channel: name(token) },
            Self::TimedOut { child } => Event::TimedOut { child },
            Self::Signalled { child, signal } => Event::Signalled { child, signal },
            Self::Stopped { child, signal } => Event::Stopped { child, signal },
            Self::Continued { child } => Event::Continued { child },
            Self::Exited { child, exit } => Event::Exited { child, exit },
            Self::Ended { child, exit } => Event::Ended { child, exit },
            Self::NotStarted { child } => Event::NotStarted { child },
        })
    }
}

impl Pump {
    /// The note as an event. A child that has ended is gone with it.
    pub(super) fn tell(&mut self, note: Note) -> Option<Event<'_>> {
        self.forget_ended(note);
        note.event(|token| self.slots.name(token))
    }

    pub(super) fn forget_ended(&mut self, note: Note) {
        match note {
            Note::Ended { child, .. } => self.forget(child),
            Note::NotStarted { child } => self.forget_start(child),
            _ => {}
        }
    }

    /// A channel's turn: writes what is queued, then reads once. How many bytes
    /// it has put into `buffer`.
    pub(super) fn channel_turn(
        &mut self,
        token: Token,
        part: u32,
        buffer: &mut [u8],
    ) -> Option<usize> {
        debug_assert_eq!(token.part, Part::Channel(part));
        let source = self.slots.source(token)?;
        source.in_turn = false;
        let ready = core::mem::replace(&mut source.ready, Readiness::empty());
        let gone = ready.contains(Readiness::HANGUP);
        if gone && source.info.direction == Direction::Write {
            self.writing_failed(token, Errno::PIPE);
            return None;
        }
        if source.writing && ready.intersects(Readiness::WRITE | Readiness::HANGUP) {
            self.flush(token);
        }
        let source = self.slots.source(token)?;
        if !source.reading {
            if gone {
                self.close_channel(token, CloseReason::Peer);
            }
            return None;
        }
        if source.paused {
            return None;
        }
        if let Some(held) = source.held.take() {
            buffer[..held.len()].copy_from_slice(&held);
            self.goes_on(token, ready);
            return Some(held.len());
        }
        if source.stopped() || !ready.intersects(Readiness::READ | Readiness::HANGUP) {
            return None;
        }
        match source.read(buffer) {
            Got::Bytes(len) => {
                if len >= PIPE_SIZE_MIN {
                    source.grow();
                }
                self.goes_on(token, ready);
                return Some(len);
            }
            Got::Fds(len, count) => {
                // The fds are told first, and the buffer is not to be relied on
                // for longer than one call.
                source.held = Some(buffer[..len].into());
                source.ready = ready;
                source.in_turn = true;
                self.turns.push_front(token);
                self.notes.push_back(Note::Fds(token, count));
                // That may have been as many as wait for somebody.
                self.update(token);
            }
            Got::Nothing => self.last_words_were(token),
            Got::End => {
                self.reading_ended(token, gone);
                self.last_words_were(token);
            }
            Got::Failed(errno) => {
                self.close_channel(token, CloseReason::Error(errno.raw_os_error()));
            }
        }
        None
    }

    /// A channel was read: it may have more, and has its next turn after the others.
    fn goes_on(&mut self, token: Token, ready: Readiness) {
        let Some(source) = self.slots.source(token) else { return };
        source.reads_left = source.reads_left.saturating_sub(1);
        if let Some(last) = &mut source.last_words {
            last.reads = last.reads.saturating_sub(1);
            match last.reads {
                0 => return self.last_words_were(token),
                // Nobody waits for it to be ready once more.
                _ => source.reads_left = 1,
            }
        }
        if source.reads_left > 0 {
            source.ready = ready - Readiness::WRITE;
            source.in_turn = true;
            self.turns.push_back(token);
        } else {
            self.remember(token);
        }
        self.heard(token);
    }

    /// Closes a channel that was read for a last time.
    fn last_words_were(&mut self, token: Token) {
        let last = self.slots.source(token).and_then(|source| source.last_words);
        if let Some(last) = last {
            self.close_channel(token, last.reason);
        }
    }

    /// Writes what was read to the channel's file too, if it has one.
    pub(super) fn copy_to_tee(&mut self, token: Token, bytes: &[u8]) {
        let Some(source) = self.slots.source(token) else { return };
        let Some(file) = &source.tee else { return };
        if let Err(errno) = fd::write_all(file.as_fd(), bytes) {
            source.tee = None;
            self.notes.push_back(Note::TeeFailed(token, errno));
        }
    }

    /// A process's turn: reaps it if it has ended.
    pub(super) fn reap(&mut self, child: ChildKey) {
        self.look_before_reaping(child);
        let Some(slot) = self.slots.get_mut(child) else { return };
        slot.exit_in_turn = false;
        if slot.life.has_exited() {
            return;
        }
        let Some(process) = &mut slot.child else { return };
        let exit = match process.reap(false) {
            Ok(None) => return,
            Ok(Some(exit)) => exit,
            // Not to be known, and not to be asked for ever.
            Err(_) => process.miss(),
        };
        let ended = slot.life.exited();
        match slot.exit_place.take() {
            Some(place) => self.sources.remove(place),
            None => self.ticking -= 1,
        }
        self.notes.push_back(Note::Exited { child, exit });
        self.unwatch(child);
        self.orphans_reaped(child);
        self.bound_after_exit(child);
        match ended {
            true => self.notes.push_back(Note::Ended { child, exit }),
            false => self.hear_last_words(child),
        }
    }

    /// Tells the backend what a source waits for now.
    pub(super) fn update(&mut self, token: Token) {
        if let Some(source) = self.slots.source(token) {
            self.sources.set(source.place, source.interest());
        }
    }

    /// Does what is to be done when the queue is written, if it is.
    pub(super) fn after_flush(&mut self, token: Token) {
        let Some(source) = self.slots.source(token) else { return };
        if source.after_flush != AfterFlush::Stay {
            self.stop_producer(token);
        }
        let Some(source) = self.slots.source(token) else { return };
        if source.outbox.is_empty() {
            match source.after_flush {
                AfterFlush::Stay => {}
                AfterFlush::ShutDown if source.reading => {
                    source.shut_down_writing();
                }
                AfterFlush::ShutDown => {
                    if !self.close_half(token) {
                        self.close_channel(token, CloseReason::Us);
                    }
                    return;
                }
                AfterFlush::Close => return self.close_channel(token, CloseReason::Us),
            }
        }
        self.update(token);
    }

    /// A write has failed. A socket or a terminal may still have something to
    /// read; then that end closes it.
    pub(super) fn writing_failed(&mut self, token: Token, errno: Errno) {
        let Some(source) = self.slots.source(token) else { return };
        let gone = [Errno::PIPE, Errno::CONNRESET, Errno::CONNREFUSED, Errno::NOTCONN];
        let by_peer = match source.info.kind {
            Kind::Terminal => errno == Errno::IO,
            _ => gone.contains(&errno),
        };
        if by_peer && source.reading && source.after_flush != AfterFlush::Close {
            source.unsent += source.outbox.clear();
            source.writing = false;
            self.stop_producer(token);
            return self.update(token);
        }
        if by_peer && source.after_flush != AfterFlush::Close && self.close_half(token) {
            return;
        }
        let reason = match by_peer {
            true => CloseReason::Peer,
            false => CloseReason::Error(errno.raw_os_error()),
        };
        self.close_channel(token, reason);
    }

    /// Closes our end, or both halves of it, and says so.
    pub(super) fn close_channel(&mut self, token: Token, reason: CloseReason) {
        let other = self.slots.other_half(token);
        let Some((mut unsent, mut ended)) = self.shut(token) else { return };
        if let Some((more, last)) = other.and_then(|other| self.shut(other)) {
            (unsent, ended) = (unsent + more, last);
        }
        let exit = self.slots.get(token.child).and_then(Slot::exit);
        self.notes.push_back(Note::Closed { token, reason, unsent });
        if let (true, Some(exit)) = (ended, exit) {
            self.notes.push_back(Note::Ended { child: token.child, exit });
        }
    }

    /// Closes one half of a channel of which the other is open and stays so. False
    /// if there is no such other half.
    pub(super) fn close_half(&mut self, token: Token) -> bool {
        let Some(other) = self.slots.other_half(token) else { return false };
        let Some((unsent, _)) = self.shut(token) else { return false };
        if let Some(other) = self.slots.source(other) {
            other.unsent += unsent;
        }
        true
    }

    /// Leaves the backend and closes an fd, before anything else could get the
    /// number. What was not sent, and whether nothing is left of the child.
    fn shut(&mut self, token: Token) -> Option<(usize, bool)> {
        let source = self.slots.source(token)?;
        let unsent = source.unsent + source.outbox.clear();
        self.sources.remove(source.place);
        if let Some(end) = source.close() {
            self.leave(token, end);
        }
        self.stop_producer(token);
        let slot = self.slots.get_mut(token.child)?;
        Some((unsent, slot.life.channel_closed()))
    }

    /// A child that has ended, with all that is left of it.
    fn forget(&mut self, child: ChildKey) {
        let Some(mut slot) = self.slots.remove(child) else { return };
        let pidfd = slot.child.as_mut().and_then(Child::take_pidfd);
        if let Some(pidfd) = pidfd {
            self.leave(Token { child, part: Part::Process }, pidfd);
        }
    }

    fn flush(&mut self, token: Token) {
        // Another loop may not tell again that there is room.
        let writes = if self.is_foreign() { u32::MAX } else { WRITES_PER_TURN_MAX };
        let Some(source) = self.slots.source(token) else { return };
        if let Err(errno) = source.flush(&mut self.writer, writes) {
            return self.writing_failed(token, errno);
        }
        let ask = if source.outbox.is_low() { source.feed.has_room() } else { None };
        if source.outbox.take_drained() && source.after_flush == AfterFlush::Stay {
            self.notes.push_back(Note::Drained(token));
        }
        if let Some(ask) = ask {
            self.notes.push_back(Note::Producer(token, ask));
        }
        self.after_flush(token);
    }

    /// The end of file was read. `gone`: and the peer does not read either.
    fn reading_ended(&mut self, token: Token, gone: bool) {
        if self.close_half(token) {
            return self.notes.push_back(Note::HalfClosed(token));
        }
        let Some(source) = self.slots.source(token) else { return };
        source.reading = false;
        let by_halves = source.info.kind != Kind::Terminal;
        if source.writing && !gone && by_halves {
            self.notes.push_back(Note::HalfClosed(token));
            return self.after_flush(token);
        }
        self.close_channel(token, CloseReason::Peer);
    }
}
