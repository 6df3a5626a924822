//! Waiting for many fds: poll(2) over an array that is kept, an epoll set, or a
//! loop that is not ours and is told what to wait for.

extern crate std;

use core::time::Duration;
use std::sync::Arc;
use std::vec::Vec;

use self::changes::Changes;
pub(super) use self::changes::What;
use self::set::Set;
use super::Token;
use crate::limits::POLLED_MAX;
use crate::sys::Errno;
use crate::sys::epoll::Epoll;
use crate::sys::poll::{Interest, PollFd, Readiness, poll};

mod changes;
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
    /// A loop of the caller's own, which is told of each source by
    /// [`Pump::next_change`](crate::Pump::next_change). The pump never waits.
    Foreign,
}

/// One source of a pump, for a loop that is not the pump's. It is not another's
/// when this one has gone.
///
/// ```
/// use forkplan::{Backend, Change, Command, Pump, Readiness, SourceKey};
///
/// let mut pump = Pump::with_backend(Backend::Foreign)?;
/// pump.add(Command::new("true").spawn()?);
/// let Some(Change::Add { source, .. }) = pump.next_change() else { panic!() };
/// // As an epoll set keeps it, or a `mio::Token`.
/// let number = u64::from(source);
/// assert_eq!(SourceKey::from(number), source);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceKey {
    place: u32,
    generation: u32,
}

impl From<SourceKey> for u64 {
    fn from(key: SourceKey) -> Self {
        Self::from(key.generation) << 32 | Self::from(key.place)
    }
}

/// Any number is a key; one that names no source is heeded nowhere.
impl From<u64> for SourceKey {
    fn from(number: u64) -> Self {
        Self { place: number as u32, generation: (number >> 32) as u32 }
    }
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
    /// Places of sources that want to read or write, and that a set or another loop
    /// does not take: they are always ready.
    always: Vec<usize>,
}

/// One source, or a free place.
#[derive(Clone, Copy, Debug)]
struct Entry {
    token: Option<Token>,
    fd: i32,
    interest: Interest,
    /// It is always ready: a regular file, which epoll does not take.
    always: bool,
    /// Which of the sources that were here.
    generation: u32,
}

#[derive(Debug)]
enum Way {
    /// One for each entry. Those of free places have no fd.
    Array(Vec<PollFd>),
    Set(Set),
    Told(Changes),
}

impl Entry {
    const FREE: Self =
        Self { token: None, fd: -1, interest: Interest::empty(), always: false, generation: 0 };
}

impl Sources {
    /// Begins with an array, and goes over to a set when that serves better.
    pub(super) fn new() -> Self {
        let way = Way::Array(Vec::new());
        Self { entries: Vec::new(), free: Vec::new(), way, fixed: false, always: Vec::new() }
    }

    pub(super) fn with(backend: Backend) -> Result<Self, Errno> {
        let way = match backend {
            Backend::Poll => Way::Array(Vec::new()),
            Backend::Epoll => Way::Set(Set::new()?),
            Backend::Foreign => Way::Told(Changes::default()),
        };
        Ok(Self { way, fixed: true, ..Self::new() })
    }

    pub(super) fn backend(&self) -> Backend {
        match self.way {
            Way::Array(_) => Backend::Poll,
            Way::Set(_) => Backend::Epoll,
            Way::Told(_) => Backend::Foreign,
        }
    }

    /// Adds a source; its place. `is_file`: a regular file.
    pub(super) fn add(
        &mut self,
        token: Token,
        fd: i32,
        interest: Interest,
        is_file: bool,
    ) -> usize {
        let place = self.free.pop().unwrap_or(self.entries.len());
        if place == self.entries.len() {
            self.entries.push(Entry::FREE);
            if let Way::Array(polled) = &mut self.way {
                polled.push(PollFd::new(-1, Interest::empty()));
            }
        }
        let Entry { generation, interest: none, .. } = self.entries[place];
        self.entries[place] =
            Entry { token: Some(token), fd, interest: none, always: is_file, generation };
        let is_array = matches!(self.way, Way::Array(_));
        if is_array && !self.fixed && self.entries.len() - self.free.len() > POLLED_MAX {
            // Where the kernel gives no set, the array serves on.
            let _ = Set::new()
                .and_then(|set| self.go_over_to(Self { way: Way::Set(set), ..Self::new() }));
        }
        self.set(place, interest);
        place
    }

    /// Changes what the source at `place` waits for.
    pub(super) fn set(&mut self, place: usize, interest: Interest) {
        let entry = &mut self.entries[place];
        let before = core::mem::replace(&mut entry.interest, interest);
        let Entry { fd, always, .. } = *entry;
        match &mut self.way {
            Way::Array(polled) => polled[place].set(fd, interest),
            _ if always => self.note_always(place),
            Way::Set(set) => match set.change(place, fd, before, interest) {
                Ok(()) => {}
                // The kernel does not take this one for now
                // (`fs.epoll.max_user_watches`, `ENOMEM`), or never. A set that
                // others wait for can't be left: there the source counts as always
                // ready, which costs time and loses nothing.
                Err(errno) if errno == Errno::PERM || set.is_shared() => {
                    self.entries[place].always = true;
                    self.note_always(place);
                }
                Err(_) => self.go_back_to_an_array(),
            },
            Way::Told(changes) => changes.note(place),
        }
    }

    fn note_always(&mut self, place: usize) {
        self.always.retain(|&at| at != place);
        // That the other side is gone is nothing that a file could ever tell.
        if self.entries[place].interest.intersects(Interest::READ | Interest::WRITE) {
            self.always.push(place);
        }
    }

    /// Whether a source is ready that no set and no other loop shows.
    pub(super) fn hides_some(&self) -> bool {
        !self.always.is_empty()
    }

    /// Removes a source, before its fd is closed.
    pub(super) fn remove(&mut self, place: usize) {
        self.set(place, Interest::empty());
        match &mut self.way {
            // Until that is told the place, and the fd, are not used again.
            Way::Told(changes) if !self.entries[place].always => changes.note_end(place),
            _ => self.leave(place),
        }
    }

    fn leave(&mut self, place: usize) {
        let generation = self.entries[place].generation.wrapping_add(1);
        self.entries[place] = Entry { generation, ..Entry::FREE };
        self.free.push(place);
    }

    /// Whether somebody else has yet to be told of a source that has left: its
    /// fd is not to be closed.
    pub(super) fn keeps_fds_open(&self) -> bool {
        matches!(&self.way, Way::Told(changes) if !changes.is_empty())
    }

    /// What has changed and was not told: which source, whose it is, and what.
    pub(super) fn next_change(&mut self) -> Option<(SourceKey, Token, What)> {
        loop {
            let Way::Told(changes) = &mut self.way else { return None };
            let (place, what) = changes.next(|place| self.entries[place].interest)?;
            let Entry { token, generation, .. } = self.entries[place];
            if changes.has_left(place) {
                changes.forget(place);
                self.leave(place);
            }
            if let (Some(token), Some(what)) = (token, what) {
                return Some((SourceKey { place: place as u32, generation }, token, what));
            }
        }
    }

    /// Tells once more of a source that is still there, for who was asked to
    /// watch it for one event alone.
    pub(super) fn tell_again(&mut self, place: usize) {
        if let Way::Told(changes) = &mut self.way {
            changes.note(place);
        }
    }

    /// Whose source this is, if it is still there.
    pub(super) fn token(&self, key: SourceKey) -> Option<Token> {
        let entry = self.entries.get(key.place as usize)?;
        entry.token.filter(|_| entry.generation == key.generation)
    }

    /// All that are waited for, in no order.
    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> {
        self.entries.iter().filter_map(|entry| entry.token)
    }

    /// Takes the way of another one, which has no sources, for good. On an error
    /// all is as before.
    fn go_over_to(&mut self, other: Self) -> Result<(), Errno> {
        let Way::Set(set) = &other.way else { return Err(Errno::INVAL) };
        let mut always = Vec::new();
        for (entry, place) in self.entries.iter().zip(0..) {
            let added = match entry.always {
                true => Err(Errno::PERM),
                false => set.change(place, entry.fd, Interest::empty(), entry.interest),
            };
            match added {
                Err(Errno::PERM) => always.push(place),
                added => added?,
            }
        }
        for place in always {
            self.entries[place].always = true;
            self.note_always(place);
        }
        let before = core::mem::replace(&mut self.way, other.way);
        self.fixed = other.fixed;
        if let Way::Told(changes) = before {
            // Of these nobody is told any more.
            changes.left().for_each(|place| self.leave(place));
        }
        Ok(())
    }

    /// The set, for somebody else to wait for; where there is none, all go over to
    /// one. On an error all is as before.
    pub(super) fn share(&mut self) -> Result<Arc<Epoll>, Errno> {
        if !matches!(self.way, Way::Set(_)) {
            self.go_over_to(Self::with(Backend::Epoll)?)?;
        }
        match &mut self.way {
            Way::Set(set) => Ok(set.share()),
            _ => Err(Errno::NOSYS),
        }
    }

    /// Waits once; calls `ready` for each source that is. How many they are.
    /// Blocks as long as `timeout` says, `None` for ever.
    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut ready: impl FnMut(Token, Readiness),
    ) -> Result<usize, Errno> {
        let (entries, hides_some) = (&self.entries, self.hides_some());
        let mut count = match &mut self.way {
            Way::Array(polled) => return wait_for_array(polled, entries, timeout, ready),
            Way::Set(set) => {
                let timeout = if hides_some { Some(Duration::ZERO) } else { timeout };
                set.wait(timeout, |place, readiness| {
                    if let Some(token) = entries[place].token {
                        ready(token, readiness);
                    }
                })?
            }
            Way::Told(_) => 0,
        };
        for entry in self.always.iter().map(|&place| entries[place]) {
            let mut readiness = Readiness::empty();
            readiness.set(Readiness::READ, entry.interest.contains(Interest::READ));
            readiness.set(Readiness::WRITE, entry.interest.contains(Interest::WRITE));
            if let Some(token) = entry.token {
                ready(token, readiness);
                count += 1;
            }
        }
        Ok(count)
    }

    /// For a set that takes no more.
    fn go_back_to_an_array(&mut self) {
        let polled = self.entries.iter().map(|entry| PollFd::new(entry.fd, entry.interest));
        self.way = Way::Array(polled.collect());
        self.always.clear();
        self.fixed = true;
    }
}

fn wait_for_array(
    polled: &mut [PollFd],
    entries: &[Entry],
    timeout: Option<Duration>,
    mut ready: impl FnMut(Token, Readiness),
) -> Result<usize, Errno> {
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
