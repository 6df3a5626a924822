//! A pump whose sources somebody else waits for, one by one.

extern crate std;

use std::os::fd::{AsFd, BorrowedFd};

use super::backend::{Backend, SourceKey, What};
use super::{Part, Pump, Token};
use crate::sys::poll::{Interest, PollFd, Readiness, poll};

/// What a loop of the caller's own has to do for a pump with
/// [`Backend::Foreign`].
///
/// **Deregister, then close:** the fd of a source that is removed stays open
/// until [`next_change`](Pump::next_change) has returned `None`, and no other
/// source has the key or the number meanwhile.
///
/// ```
/// use std::collections::HashMap;
/// use core::time::Duration;
/// use forkplan::{Backend, Change, Command, Event, Interest, Pump, Readiness, SourceKey};
/// use std::os::fd::{AsRawFd, RawFd};
///
/// let mut pump = Pump::with_backend(Backend::Foreign)?;
/// pump.add(Command::new("echo").arg("hello").spawn()?);
/// let mut watched: HashMap<SourceKey, (RawFd, Interest)> = HashMap::new();
/// let mut said = Vec::new();
/// loop {
///     while let Some(event) = pump.next_event() {
///         if let Event::Data { bytes, .. } = event {
///             said.extend_from_slice(bytes);
///         }
///     }
///     while let Some(change) = pump.next_change() {
///         match change {
///             Change::Add { source, fd, interest } | Change::Modify { source, fd, interest } => {
///                 watched.insert(source, (fd.as_raw_fd(), interest));
///             }
///             Change::Remove { source, .. } => drop(watched.remove(&source)),
///             _ => {}
///         }
///     }
///     if pump.is_empty() {
///         break;
///     }
///     // Any loop: this one is poll(2), and asks for what the pump waits for.
///     let keys: Vec<SourceKey> = watched.keys().copied().collect();
///     let mut fds: Vec<libc::pollfd> = watched
///         .values()
///         .map(|(fd, interest)| libc::pollfd {
///             fd: *fd,
///             events: if interest.contains(Interest::READ) { libc::POLLIN } else { 0 },
///             revents: 0,
///         })
///         .collect();
///     unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as _, -1) };
///     for (polled, key) in fds.iter().zip(keys) {
///         if polled.revents != 0 {
///             pump.on_ready(key, Readiness::all());
///         }
///     }
///     pump.poll(Some(Duration::ZERO))?; // what is due; waits for nothing
/// }
/// assert_eq!(said, b"hello\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Change<'a> {
    /// Wait for a source.
    Add {
        /// The source, for [`Pump::on_ready`].
        source: SourceKey,
        /// Its fd.
        fd: BorrowedFd<'a>,
        /// What for. [`Interest::HANGUP`] alone: for nothing but that the other
        /// side is gone, which poll(2) and epoll report unasked; a loop that has
        /// to ask for something asks for reading, edge-triggered.
        interest: Interest,
    },
    /// Wait for something else, or (one-shot) once more.
    Modify {
        /// The source.
        source: SourceKey,
        /// Its fd.
        fd: BorrowedFd<'a>,
        /// What for.
        interest: Interest,
    },
    /// Wait no longer.
    Remove {
        /// The source.
        source: SourceKey,
        /// Its fd, which is still open.
        fd: BorrowedFd<'a>,
    },
}

/// # In a loop of the caller's own
///
/// With [`Backend::Foreign`] the caller's loop waits. It is told by
/// [`next_change`](Self::next_change) what for, and says by
/// [`on_ready`](Self::on_ready) what was found. **Before each wait: events until
/// there are none, then changes until there are none, then
/// [`next_deadline`](Self::next_deadline). After it: `on_ready` for each source
/// that is, then a poll, for what is due.**
impl Pump {
    /// The next source that has come, changed or gone since it was told of.
    /// `None`: all was told, and the fds of those that have gone are closed.
    pub fn next_change(&mut self) -> Option<Change<'_>> {
        let Some((source, token, what)) = self.sources.next_change() else {
            self.leaving.clear();
            return None;
        };
        // Who is told of has an fd until all was told.
        let fd = self.fd_of(token, what == What::Remove)?;
        Some(match what {
            What::Add(interest) => Change::Add { source, fd, interest },
            What::Modify(interest) => Change::Modify { source, fd, interest },
            What::Remove => Change::Remove { source, fd },
        })
    }

    /// A source was found ready: the next events look at it, and those after the
    /// next polls, until there is no more of what it is ready for. So it may be
    /// watched edge-triggered or one-shot ([`set_one_shot`](Self::set_one_shot))
    /// as well.
    ///
    /// `readiness` is a hint. Too much of it costs a syscall and does no harm;
    /// whether the other side is gone is asked of the kernel. A key of a source
    /// that is gone is passed over.
    pub fn on_ready(&mut self, source: SourceKey, readiness: Readiness) {
        if let Some(token) = self.sources.token(source) {
            let mut hint = readiness - Readiness::HANGUP;
            // The end of file of an empty pipe is told as a hang-up and nothing else.
            hint.set(Readiness::READ, readiness.intersects(Readiness::READ | Readiness::HANGUP));
            self.look_at(token, hint);
        }
    }

    /// Looks at every source, as if it had been found ready: for a loop that may
    /// have missed something.
    pub fn look_at_all(&mut self) {
        let tokens: std::vec::Vec<Token> = self.sources.tokens().collect();
        for token in tokens {
            self.look_at(token, Readiness::READ | Readiness::WRITE);
        }
    }

    /// Whether a source that was found ready is told again by
    /// [`Change::Modify`] when it was looked at, for loops that watch for one
    /// event alone.
    pub fn set_one_shot(&mut self, one_shot: bool) {
        self.one_shot = one_shot;
    }

    /// Gives a source its turn. What a read does not tell is asked for.
    fn look_at(&mut self, token: Token, mut readiness: Readiness) {
        if let Some(source) = self.slots.source(token) {
            if source.writing {
                let mut polled = [PollFd::new(source.number(), Interest::HANGUP)];
                if poll(&mut polled, Some(core::time::Duration::ZERO)) == Ok(1) {
                    readiness |= polled[0].readiness();
                }
            }
        }
        self.slots.give_turn(&mut self.turns, token, readiness);
        if self.one_shot {
            if let Some(place) = self.slots.place(token) {
                self.sources.tell_again(place);
            }
        }
    }

    /// A source has had its turn and may have more. Another loop may not tell of
    /// it again, so it has one more turn after the next poll.
    pub(super) fn remember(&mut self, token: Token) {
        if self.is_foreign() {
            self.unfinished.push(token);
        }
    }

    /// Gives those their turns that had not finished. Who is paused meanwhile is
    /// told of again when he goes on.
    pub(super) fn go_on(&mut self) {
        while let Some(token) = self.unfinished.pop() {
            if self.slots.source(token).is_some_and(|source| !source.stopped()) {
                self.slots.give_turn(&mut self.turns, token, Readiness::READ);
            }
        }
    }

    /// The source's fd, or if it `goes` the one that it had: of a start it may have
    /// another already.
    fn fd_of(&self, token: Token, goes: bool) -> Option<BorrowedFd<'_>> {
        let slot = self.slots.get(token.child);
        let held = match token.part {
            Part::Channel(part) => {
                slot.and_then(|slot| slot.sources[part as usize].end.as_ref().map(AsFd::as_fd))
            }
            Part::Process => slot.and_then(|slot| slot.child.as_ref()?.pidfd()),
            Part::Start => slot.and_then(|slot| slot.start.as_ref()?.notice()),
        };
        let left = self.leaving.iter().find(|(left, _)| *left == token).map(|(_, fd)| fd.as_fd());
        if goes { left.or(held) } else { held.or(left) }
    }

    pub(super) fn is_foreign(&self) -> bool {
        self.sources.backend() == Backend::Foreign
    }
}
