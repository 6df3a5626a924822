//! What is in the pump, and how a child leaves it before its end.

extern crate std;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::vec::Vec;

use super::event::{ChannelError, ChildKey};
use super::slots::Slot;
use super::source::{AfterFlush, Source};
use super::turns::Note;
use super::{Part, Pump, Token};
use crate::channel::{Direction, Name};
use crate::child::Child;
use crate::sys::{Errno, fd};

/// A channel of a child, as [`Pump::channels`] finds it.
///
/// ```
/// use forkplan::{Command, Pump};
///
/// let mut pump = Pump::new();
/// let cat = pump.add(Command::new("cat").spawn()?);
/// pump.pause(cat, 1)?;
/// let paused: Vec<String> = pump
///     .channels(cat)?
///     .filter(|channel| channel.paused)
///     .map(|channel| channel.name.to_string())
///     .collect();
/// assert_eq!(paused, ["1"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelState<'a> {
    /// How it is known.
    pub name: Name<'a>,
    /// The child fds that it is mapped on, in the command's order. None, if it was
    /// [attached](Pump::attach) by a name.
    pub fds: &'a [i32],
    /// Which way its bytes go.
    pub direction: Direction,
    /// It is not closed. False too if its end was taken before the child was added.
    pub open: bool,
    /// It was [paused](Pump::pause).
    pub paused: bool,
    /// How many bytes wait to be written.
    pub queued: usize,
}

/// What [`Pump::remove`] gives back.
///
/// ```
/// use forkplan::{Channel::*, Command, Pump};
///
/// let mut pump = Pump::new();
/// // Never reads.
/// let sleep = pump.add(Command::new("sleep").arg("0.01").fd(0, WritePipe).spawn()?);
/// let taken = pump.write(sleep, 0, &[b'x'; 100_000])?;
/// let removed = pump.remove(sleep)?;
/// // A pipe holds 64 KiB or more; what it did not take is lost.
/// assert!(removed.lost(0).unsent < taken);
/// let mut child = removed.child;
/// assert!(child.wait()?.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Removed {
    /// The handle, with the ends of the channels that were open.
    pub child: Child,
    /// Events about this child that happened and were not told. What an end has
    /// that was not read is none of them: it is still there.
    pub untold: usize,
    lost: Vec<Lost>,
}

/// What the pump held of a channel when the child was [removed](Pump::remove), and
/// what nobody gets any more.
///
/// ```
/// use forkplan::{Command, Lost, Pump};
///
/// let mut pump = Pump::new();
/// let cat = pump.add(Command::new("cat").spawn()?);
/// assert_eq!(pump.remove(cat)?.lost(0), Lost::default());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// Bytes that were taken and not written.
    pub unsent: usize,
    /// Bytes that were read and not told: those that came with fds.
    pub unread: usize,
    /// Fds that were received and not taken. They are closed.
    pub fds: usize,
}

impl Removed {
    /// What was lost of a channel. Nothing, of one that there is not.
    pub fn lost<'n>(&self, channel: impl Into<Name<'n>>) -> Lost {
        let channel = channel.into();
        let part = self.child.infos().iter().position(|info| info.is(channel));
        part.map_or(Lost::default(), |part| self.lost[part])
    }
}

/// # State
impl Pump {
    /// The keys of the children, and of what was [attached](Self::attach), whose end
    /// was not told. In no order.
    pub fn children(&self) -> impl Iterator<Item = ChildKey> {
        self.slots.keys()
    }

    /// The channels of a child, those too that are closed, in the order of the
    /// command. An attached one that has two ends is one channel.
    ///
    /// The error: there is no such child.
    pub fn channels(
        &self,
        child: ChildKey,
    ) -> Result<impl Iterator<Item = ChannelState<'_>>, ChannelError> {
        let slot = self.slots.get(child).ok_or(ChannelError::NoChild)?;
        let first = |part: &u32| slot.whole(*part) == *part as usize;
        Ok((0..slot.sources.len() as u32).filter(first).map(|part| slot.state(part as usize)))
    }

    /// Takes a child out, alive or not: its handle, with the ends of all channels
    /// that are open put back into it. They block again, and the key names nobody.
    /// No event comes of it any more, and no deadline, limit or ladder has any
    /// effect.
    ///
    /// What is queued for it is dropped, as are fds to be sent; [`Lost`] counts it.
    /// [Close](Self::close) or flush what must not be lost, and look at
    /// [`queued`](Self::queued), before. A channel that was to be closed when its
    /// queue was written is closed. What the child wrote and was not read is in the
    /// channel still.
    ///
    /// In a loop [of the caller's own](crate::Backend::Foreign) the handle gets
    /// copies of the fds (`F_DUPFD_CLOEXEC`), and the pump closes its own when
    /// [`next_change`](Self::next_change) has told that they are to be waited for no
    /// more: so the caller may close or reuse his at once, and the child sees a
    /// channel closed when both are. Allocates; never blocks.
    ///
    /// # Errors
    ///
    /// There is no such child. It has no process: what is
    /// [attached](Self::attach) is not as it was given, and can't be given back
    /// ([`abort_all`](Self::abort_all) ends it). No number is left for a copy
    /// (`EMFILE`). All is as before then.
    pub fn remove(&mut self, child: ChildKey) -> io::Result<Removed> {
        let slot = self.slots.get(child).ok_or(ChannelError::NoChild)?;
        if slot.child.is_none() {
            return Err(ChannelError::NoProcess.into());
        }
        let mut copies = if self.is_foreign() { Copies::of(slot)? } else { Copies::default() };
        let Some(mut slot) = self.slots.remove(child) else {
            return Err(ChannelError::NoChild.into());
        };
        self.orphan_let_go(child, &slot);
        let Some(mut process) = slot.child.take() else {
            return Err(ChannelError::NoProcess.into());
        };
        self.unwatch(child);
        match slot.exit_place.take() {
            Some(place) => self.sources.remove(place),
            None if slot.life.has_exited() => {}
            None => self.ticking -= 1,
        }
        if let Some(old) = copies.pidfd.and_then(|copy| process.replace_pidfd(copy)) {
            self.leave(Token { child, part: Part::Process }, old);
        }
        let mut lost = Vec::with_capacity(slot.sources.len());
        for (at, source) in slot.sources.iter_mut().enumerate() {
            if source.end.is_some() {
                // Before the fd is the caller's to close.
                self.sources.remove(source.place);
            }
            let (end, stays, what) = give_back(source);
            lost.push(what);
            let copy = copies.ends.get_mut(at).and_then(Option::take);
            let end = match (end, copy) {
                (Some(end), Some(copy)) => {
                    self.leave(Token { child, part: Part::Channel(at as u32) }, end);
                    Some(copy)
                }
                (end, _) => end,
            };
            if let (Some(end), true) = (end, stays) {
                process.ends().put(at, end);
            }
        }
        self.notes.retain(|note| !matches!(note, Note::Producer(of, _) if of.child == child));
        let before = self.notes.len();
        self.notes.retain(|note| note.child() != child);
        self.removals += 1;
        Ok(Removed { child: process, untold: before - self.notes.len(), lost })
    }

    /// How many children were [removed](Self::remove).
    pub(crate) fn removals(&self) -> u64 {
        self.removals
    }

    /// Closes an fd of a source that has gone, when everybody has been told of
    /// that who has to be.
    pub(super) fn leave(&mut self, token: Token, fd: OwnedFd) {
        if self.sources.keeps_fds_open() {
            self.leaving.push((token, fd));
        }
    }
}

/// Copies of a child's fds, for one that leaves while another loop still has to be
/// told to forget the old ones.
#[derive(Default)]
struct Copies {
    pidfd: Option<OwnedFd>,
    /// One for each source.
    ends: Vec<Option<OwnedFd>>,
}

impl Copies {
    fn of(slot: &Slot) -> Result<Self, Errno> {
        let pidfd = slot.child.as_ref().and_then(Child::pidfd).map(fd::duplicate).transpose()?;
        let end =
            |source: &Source| source.end.as_ref().map(|end| fd::duplicate(end.as_fd())).transpose();
        Ok(Self { pidfd, ends: slot.sources.iter().map(end).collect::<Result<_, _>>()? })
    }
}

/// The end of a source that has left the backend, whether it stays open, and what
/// is lost.
fn give_back(source: &mut Source) -> (Option<OwnedFd>, bool, Lost) {
    let unread = source.held.as_ref().map_or(0, |held| held.len());
    let unsent = source.unsent + source.outbox.clear();
    let lost = Lost { unsent, unread, fds: source.fds.len() };
    let stays = match source.after_flush {
        AfterFlush::Stay => true,
        AfterFlush::ShutDown => {
            source.shut_down_writing();
            source.reading
        }
        AfterFlush::Close => false,
    };
    let end = source.close();
    if let Some(end) = &end {
        // It took the flag when the child was added, and takes this.
        let _ = fd::set_blocking(end.as_fd());
    }
    (end, stays, lost)
}

impl Slot {
    /// The channel of this part, which is the first of its halves.
    fn state(&self, part: usize) -> ChannelState<'_> {
        let (info, source) = (&self.infos[part], &self.sources[part]);
        let other = source.other_half.map(|other| &self.sources[other as usize]);
        let either = |is: fn(&Source) -> bool| is(source) || other.is_some_and(is);
        ChannelState {
            name: info.name(),
            fds: &info.fds,
            direction: if other.is_some() { Direction::Both } else { source.info.direction },
            open: either(|source| source.end.is_some()),
            paused: either(|source| source.paused),
            queued: source.outbox.len() + other.map_or(0, |other| other.outbox.len()),
        }
    }
}
