//! An epoll set, and what it refuses.

extern crate std;

use core::time::Duration;
use std::boxed::Box;
use std::sync::Arc;
use std::vec;

use crate::limits::FOUND_MAX;
use crate::sys::Errno;
use crate::sys::epoll::{Epoll, Found};
use crate::sys::poll::{Interest, Readiness};

/// Sources by their places.
pub(super) struct Set {
    epoll: Arc<Epoll>,
    /// Room for what one wait finds. What is ready beyond that is found by the
    /// next: the kernel moves whom it has reported to the end of its list.
    found: Box<[Found]>,
    /// Somebody waits for the set itself.
    shared: bool,
}

impl Set {
    pub(super) fn new() -> Result<Self, Errno> {
        let found = vec![Found::NONE; FOUND_MAX].into();
        Ok(Self { epoll: Arc::new(Epoll::new()?), found, shared: false })
    }

    /// Changes what the source at `place` waits for, from `before` to `now`.
    ///
    /// Who waits for nothing is not in the set, which would report its hang-up
    /// again and again. `EPERM` says that epoll does not take such a file.
    pub(super) fn change(
        &self,
        place: usize,
        fd: i32,
        before: Interest,
        now: Interest,
    ) -> Result<(), Errno> {
        match (before.is_empty(), now.is_empty()) {
            _ if before == now => Ok(()),
            (true, _) => self.epoll.add(fd, now, place as u64),
            (_, true) => self.epoll.remove(fd),
            _ => self.epoll.set(fd, now, place as u64),
        }
    }

    /// The set, for somebody else to wait for.
    pub(super) fn share(&mut self) -> Arc<Epoll> {
        self.shared = true;
        self.epoll.clone()
    }

    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut ready: impl FnMut(usize, Readiness),
    ) -> Result<usize, Errno> {
        let count = self.epoll.wait(&mut self.found, timeout)?;
        for found in &self.found[..count] {
            ready(found.number() as usize, found.readiness());
        }
        Ok(count)
    }
}

impl core::fmt::Debug for Set {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { epoll, found: _, shared } = self;
        f.debug_struct("Set").field("epoll", epoll).field("shared", shared).finish()
    }
}
