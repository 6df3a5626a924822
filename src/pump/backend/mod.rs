//! Waiting for many fds: poll(2) over an array that is kept, or an epoll set.

extern crate std;

use core::time::Duration;
use std::vec::Vec;

use self::set::Set;
use super::Token;
use crate::limits::POLLED_MAX;
use crate::sys::Errno;
use crate::sys::poll::{Interest, PollFd, Readiness, poll};

mod set;

/// How a [`Pump`](crate::Pump) waits for its children.
///
/// ```
/// use forkplan::{Backend, Command, Pump};
///
/// let mut pump = Pump::with_backend(Backend::Poll)?;
/// pump.add(Command::new("true").spawn()?);
/// while !pump.is_empty() {
///     pump.poll(None)?;
///     while pump.next_event().is_some() {}
/// }
/// assert_eq!(pump.backend(), Backend::Poll);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// poll(2) over all sources: cheap for a few, everywhere the same.
    Poll,
    /// One epoll set: what an event costs does not grow with the number of
    /// children. Linux.
    Epoll,
}

/// The sources that are waited for, each at a place that stays its own until it
/// is removed.
#[derive(Debug)]
pub(super) struct Sources {
    entries: Vec<Entry>,
    /// Places without a source.
    free: Vec<usize>,
    way: Way,
    /// Whether the way may change.
    fixed: bool,
}

/// One source, or a free place.
#[derive(Clone, Copy, Debug)]
struct Entry {
    token: Option<Token>,
    fd: i32,
    interest: Interest,
}

#[derive(Debug)]
enum Way {
    /// One for each entry. Those of free places have no fd.
    Array(Vec<PollFd>),
    Set(Set),
}

impl Entry {
    const FREE: Self = Self { token: None, fd: -1, interest: Interest::empty() };
}

impl Sources {
    /// Begins with an array, and goes over to a set when that serves better.
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), way: Way::Array(Vec::new()), fixed: false }
    }

    pub(super) fn with(backend: Backend) -> Result<Self, Errno> {
        let way = match backend {
            Backend::Poll => Way::Array(Vec::new()),
            Backend::Epoll => Way::Set(Set::new()?),
        };
        Ok(Self { way, fixed: true, ..Self::new() })
    }

    pub(super) fn backend(&self) -> Backend {
        match self.way {
            Way::Array(_) => Backend::Poll,
            Way::Set(_) => Backend::Epoll,
        }
    }

    /// Adds a source; its place.
    pub(super) fn add(&mut self, token: Token, fd: i32, interest: Interest) -> usize {
        let place = self.free.pop().unwrap_or(self.entries.len());
        if place == self.entries.len() {
            self.entries.push(Entry::FREE);
            if let Way::Array(polled) = &mut self.way {
                polled.push(PollFd::new(-1, Interest::empty()));
            }
        }
        self.entries[place] = Entry { token: Some(token), fd, interest: Interest::empty() };
        if !self.fixed && self.entries.len() - self.free.len() > POLLED_MAX {
            self.go_over_to_a_set();
        }
        self.set(place, interest);
        place
    }

    /// Changes what the source at `place` waits for.
    pub(super) fn set(&mut self, place: usize, interest: Interest) {
        let entry = &mut self.entries[place];
        let before = core::mem::replace(&mut entry.interest, interest);
        let fd = entry.fd;
        match &mut self.way {
            Way::Array(polled) => polled[place].set(fd, interest),
            Way::Set(set) => {
                if set.change(place, fd, before, interest).is_err() {
                    self.go_back_to_an_array();
                }
            }
        }
    }

    /// Removes a source, before its fd is closed.
    pub(super) fn remove(&mut self, place: usize) {
        self.set(place, Interest::empty());
        self.entries[place] = Entry::FREE;
        self.free.push(place);
    }

    /// Waits once; calls `ready` for each source that is. How many they are.
    /// Blocks as long as `timeout` says, `None` for ever.
    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut ready: impl FnMut(Token, Readiness),
    ) -> Result<usize, Errno> {
        let entries = &self.entries;
        match &mut self.way {
            Way::Array(polled) => {
                let count = poll(polled, timeout)?;
                let mut left = count;
                for (polled, entry) in polled.iter().zip(entries) {
                    if left == 0 {
                        break;
                    }
                    let readiness = polled.readiness();
                    if let (false, Some(token)) = (readiness.is_empty(), entry.token) {
                        ready(token, readiness);
                        left -= 1;
                    }
                }
                Ok(count)
            }
            Way::Set(set) => set.wait(timeout, |place, readiness| {
                if let Some(token) = entries[place].token {
                    ready(token, readiness);
                }
            }),
        }
    }

    /// Where the kernel gives no set, the array serves on.
    fn go_over_to_a_set(&mut self) {
        let Way::Array(_) = self.way else { return };
        let Ok(mut set) = Set::new() else { return };
        for (entry, place) in self.entries.iter().zip(0..) {
            if set.change(place, entry.fd, Interest::empty(), entry.interest).is_err() {
                return;
            }
        }
        self.way = Way::Set(set);
    }

    /// For a set that takes no more (`fs.epoll.max_user_watches`, `ENOMEM`).
    fn go_back_to_an_array(&mut self) {
        let polled = self.entries.iter().map(|entry| PollFd::new(entry.fd, entry.interest));
        self.way = Way::Array(polled.collect());
        self.fixed = true;
    }
}
