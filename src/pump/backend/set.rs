//! An epoll set, and what it refuses.

extern crate std;

use core::time::Duration;
use std::boxed::Box;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::vec;
use std::vec::Vec;

use crate::limits::FOUND_MAX;
use crate::sys::Errno;
use crate::sys::epoll::{Epoll, Found};
use crate::sys::poll::{Interest, Readiness};

/// Sources by their places.
pub(in crate::pump) struct Set {
    epoll: Epoll,
    /// Room for what one wait finds. What is ready beyond that is found by the
    /// next: the kernel moves whom it has reported to the end of its list.
    found: Box<[Found]>,
    /// Those that epoll refuses, for they are always ready: regular files.
    always: Vec<(usize, Interest)>,
    /// Somebody waits for the set itself.
    shared: bool,
}

/// The number of what is in the set and no source.
const NO_PLACE: u64 = u64::MAX;

impl Set {
    pub(super) fn new() -> Result<Self, Errno> {
        let found = vec![Found::NONE; FOUND_MAX].into();
        Ok(Self { epoll: Epoll::new()?, found, always: Vec::new(), shared: false })
    }

    /// Changes what the source at `place` waits for, from `before` to `now`.
    ///
    /// Who waits for nothing is not in the set, which would report its hang-up
    /// again and again.
    pub(super) fn change(
        &mut self,
        place: usize,
        fd: i32,
        before: Interest,
        now: Interest,
    ) -> Result<(), Errno> {
        if let Some(at) = self.always.iter().position(|&(at, _)| at == place) {
            match now.is_empty() {
                true => drop(self.always.swap_remove(at)),
                false => self.always[at].1 = now,
            }
            return Ok(());
        }
        let changed = match (before.is_empty(), now.is_empty()) {
            _ if before == now => Ok(()),
            (true, _) => self.epoll.add(fd, now, place as u64),
            (_, true) => self.epoll.remove(fd),
            _ => self.epoll.set(fd, now, place as u64),
        };
        match changed {
            Err(Errno::PERM) => {
                self.always.push((place, now));
                Ok(())
            }
            changed => changed,
        }
    }

    /// This source can't be in the set: it counts as ready.
    pub(super) fn watch_always(&mut self, place: usize, interest: Interest) {
        self.always.push((place, interest));
    }

    /// Makes the set ready whenever `fd` is, for those who wait for the set.
    pub(in crate::pump) fn share_with(&mut self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        self.shared = true;
        self.epoll.add(fd.as_raw_fd(), Interest::READ, NO_PLACE)
    }

    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Whether sources are ready that the set does not show.
    pub(in crate::pump) fn hides_some(&self) -> bool {
        !self.always.is_empty()
    }

    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut ready: impl FnMut(usize, Readiness),
    ) -> Result<usize, Errno> {
        let timeout = if self.always.is_empty() { timeout } else { Some(Duration::ZERO) };
        let count = self.epoll.wait(&mut self.found, timeout)?;
        for found in self.found[..count].iter().filter(|found| found.number() != NO_PLACE) {
            ready(found.number() as usize, found.readiness());
        }
        for &(place, interest) in &self.always {
            let mut readiness = Readiness::empty();
            readiness.set(Readiness::READ, interest.contains(Interest::READ));
            readiness.set(Readiness::WRITE, interest.contains(Interest::WRITE));
            ready(place, readiness);
        }
        Ok(count + self.always.len())
    }
}

impl AsFd for Set {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl core::fmt::Debug for Set {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { epoll, found: _, always, shared } = self;
        let mut shown = f.debug_struct("Set");
        shown.field("epoll", epoll).field("always", always).field("shared", shared).finish()
    }
}
