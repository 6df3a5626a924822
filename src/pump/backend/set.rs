//! An epoll set, and what it refuses.

extern crate std;

use core::time::Duration;
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use crate::limits::FOUND_MAX;
use crate::sys::Errno;
use crate::sys::epoll::{Epoll, Found};
use crate::sys::poll::{Interest, Readiness};

/// Sources by their places.
pub(super) struct Set {
    epoll: Epoll,
    /// Room for what one wait finds. What is ready beyond that is found by the
    /// next: the kernel moves whom it has reported to the end of its list.
    found: Box<[Found]>,
    /// Those that epoll refuses, for they are always ready: regular files.
    always: Vec<(usize, Interest)>,
}

impl Set {
    pub(super) fn new() -> Result<Self, Errno> {
        let found = vec![Found::NONE; FOUND_MAX].into();
        Ok(Self { epoll: Epoll::new()?, found, always: Vec::new() })
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

    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut ready: impl FnMut(usize, Readiness),
    ) -> Result<usize, Errno> {
        let timeout = if self.always.is_empty() { timeout } else { Some(Duration::ZERO) };
        let count = self.epoll.wait(&mut self.found, timeout)?;
        for found in &self.found[..count] {
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

impl core::fmt::Debug for Set {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { epoll, found: _, always } = self;
        f.debug_struct("Set").field("epoll", epoll).field("always", always).finish()
    }
}
