//! epoll(7), for sources that are too many to be asked each time.

#[cfg(linux)]
pub(crate) use self::linux::{Epoll, Found};
#[cfg(not(linux))]
pub(crate) use self::nowhere::{Epoll, Found};

#[cfg(linux)]
mod linux {
    use core::time::Duration;

    use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

    use super::super::poll::{Interest, Readiness, millis};
    use super::super::{Errno, check};

    /// A set of fds, each with a number of the caller's. Level-triggered.
    #[derive(Debug)]
    pub(crate) struct Epoll(OwnedFd);

    /// One `struct epoll_event`.
    #[derive(Clone, Copy)]
    #[repr(transparent)]
    pub(crate) struct Found(libc::epoll_event);

    impl Epoll {
        /// An empty set, CLOEXEC.
        pub(crate) fn new() -> Result<Self, Errno> {
            // SAFETY: no pointers.
            let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
            // SAFETY: just made, and nobody else's.
            Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
        }

        /// Adds an fd. `EPERM`: one that is always ready, a regular file.
        pub(crate) fn add(&self, fd: i32, interest: Interest, number: u64) -> Result<(), Errno> {
            self.control(libc::EPOLL_CTL_ADD, fd, interest, number)
        }

        /// Changes what an fd in the set waits for.
        pub(crate) fn set(&self, fd: i32, interest: Interest, number: u64) -> Result<(), Errno> {
            self.control(libc::EPOLL_CTL_MOD, fd, interest, number)
        }

        /// Removes an fd. Before it is closed: a child that was just forked has
        /// copies of it, and the set would go on to report those.
        pub(crate) fn remove(&self, fd: i32) -> Result<(), Errno> {
            self.control(libc::EPOLL_CTL_DEL, fd, Interest::empty(), 0)
        }

        fn control(
            &self,
            what: i32,
            fd: i32,
            interest: Interest,
            number: u64,
        ) -> Result<(), Errno> {
            let mut events = 0;
            if interest.contains(Interest::READ) {
                events |= libc::EPOLLIN;
            }
            if interest.contains(Interest::WRITE) {
                events |= libc::EPOLLOUT;
            }
            let mut event = libc::epoll_event { events: events as u32, u64: number };
            // SAFETY: the kernel reads the event.
            check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd, &raw mut event) })?;
            Ok(())
        }

        /// Waits as [`poll`](super::super::poll::poll) does; how many entries of
        /// `found` were written.
        pub(crate) fn wait(
            &self,
            found: &mut [Found],
            timeout: Option<Duration>,
        ) -> Result<usize, Errno> {
            let room = found.len().min(i32::MAX as usize) as i32;
            // SAFETY: `Found` is an `epoll_event`, and the kernel writes at most
            // so many.
            let ready = check(unsafe {
                let found = found.as_mut_ptr().cast();
                libc::epoll_wait(self.0.as_raw_fd(), found, room, millis(timeout))
            })?;
            Ok(ready as usize)
        }
    }

    impl AsFd for Epoll {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl Found {
        pub(crate) const NONE: Self = Self(libc::epoll_event { events: 0, u64: 0 });

        /// The number that came with the fd.
        pub(crate) fn number(self) -> u64 {
            self.0.u64
        }

        pub(crate) fn readiness(self) -> Readiness {
            let events = self.0.events as i32;
            let mut found = Readiness::empty();
            found.set(Readiness::READ, events & libc::EPOLLIN != 0);
            found.set(Readiness::WRITE, events & libc::EPOLLOUT != 0);
            found.set(Readiness::HANGUP, events & (libc::EPOLLHUP | libc::EPOLLERR) != 0);
            found
        }
    }
}

#[cfg(not(linux))]
mod nowhere {
    use core::time::Duration;

    use rustix::fd::{AsFd, BorrowedFd};

    use super::super::Errno;
    use super::super::poll::{Interest, Readiness};

    /// Never made: Linux alone has it.
    #[derive(Debug)]
    pub(crate) enum Epoll {}

    #[derive(Clone, Copy)]
    pub(crate) struct Found;

    impl Epoll {
        pub(crate) fn new() -> Result<Self, Errno> {
            Err(Errno::NOSYS)
        }

        pub(crate) fn add(&self, _: i32, _: Interest, _: u64) -> Result<(), Errno> {
            match *self {}
        }

        pub(crate) fn set(&self, _: i32, _: Interest, _: u64) -> Result<(), Errno> {
            match *self {}
        }

        pub(crate) fn remove(&self, _: i32) -> Result<(), Errno> {
            match *self {}
        }

        pub(crate) fn wait(&self, _: &mut [Found], _: Option<Duration>) -> Result<usize, Errno> {
            match *self {}
        }
    }

    impl AsFd for Epoll {
        fn as_fd(&self) -> BorrowedFd<'_> {
            match *self {}
        }
    }

    impl Found {
        pub(crate) const NONE: Self = Self;

        pub(crate) fn number(self) -> u64 {
            0
        }

        pub(crate) fn readiness(self) -> Readiness {
            Readiness::empty()
        }
    }
}
