//! poll(2), with names for its bits.

use core::time::Duration;

use bitflags::bitflags;

use super::{Errno, check};

bitflags! {
    /// What a source of a pump waits for, in a loop that is not the pump's:
    /// [`Change`](crate::Change).
    ///
    /// ```
    /// use forkplan::Interest;
    ///
    /// // What poll(2) is asked for.
    /// let events = |interest: Interest| {
    ///     let read = if interest.contains(Interest::READ) { libc::POLLIN } else { 0 };
    ///     let write = if interest.contains(Interest::WRITE) { libc::POLLOUT } else { 0 };
    ///     read | write
    /// };
    /// assert_eq!(events(Interest::READ), libc::POLLIN);
    /// // A hang-up is reported unasked.
    /// assert_eq!(events(Interest::HANGUP), 0);
    /// ```
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Interest: u8 {
        /// Something to read, or the end of file.
        const READ = 1 << 0;
        /// Room to write.
        const WRITE = 1 << 1;
        /// Nothing but that the other side is gone.
        const HANGUP = 1 << 2;
    }
}

bitflags! {
    /// What a source of a pump was found ready for, by a loop that is not the
    /// pump's: [`Pump::on_ready`](crate::Pump::on_ready).
    ///
    /// ```
    /// use forkplan::Readiness;
    ///
    /// // What poll(2) has answered.
    /// let readiness = |revents: i16| {
    ///     let gone = libc::POLLHUP | libc::POLLERR | libc::POLLNVAL;
    ///     let mut ready = Readiness::empty();
    ///     ready.set(Readiness::READ, revents & libc::POLLIN != 0);
    ///     ready.set(Readiness::WRITE, revents & libc::POLLOUT != 0);
    ///     ready.set(Readiness::HANGUP, revents & gone != 0);
    ///     ready
    /// };
    /// assert_eq!(readiness(libc::POLLIN | libc::POLLHUP), Readiness::READ | Readiness::HANGUP);
    /// ```
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Readiness: u8 {
        /// There is something to read, or the end of file.
        const READ = 1 << 0;
        /// There is room to write.
        const WRITE = 1 << 1;
        /// The other side is gone, or the fd is in error: a read or a write
        /// tells which.
        const HANGUP = 1 << 2;
    }
}

/// One `struct pollfd`. The array of them is the caller's and kept from call
/// to call.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct PollFd(libc::pollfd);

impl PollFd {
    pub(crate) fn new(fd: i32, interest: Interest) -> Self {
        let mut polled = Self(libc::pollfd { fd, events: 0, revents: 0 });
        polled.set(fd, interest);
        polled
    }

    /// Without any interest the fd is left out: poll would report a hang-up
    /// again and again, to somebody who does not want to read.
    pub(crate) fn set(&mut self, fd: i32, interest: Interest) {
        self.0.fd = if interest.is_empty() { -1 } else { fd };
        self.0.events = 0;
        if interest.contains(Interest::READ) {
            self.0.events |= libc::POLLIN;
        }
        if interest.contains(Interest::WRITE) {
            self.0.events |= libc::POLLOUT;
        }
        self.0.revents = 0;
    }

    pub(crate) fn readiness(self) -> Readiness {
        let mut found = Readiness::empty();
        found.set(Readiness::READ, self.0.revents & libc::POLLIN != 0);
        found.set(Readiness::WRITE, self.0.revents & libc::POLLOUT != 0);
        let gone = libc::POLLHUP | libc::POLLERR | libc::POLLNVAL;
        found.set(Readiness::HANGUP, self.0.revents & gone != 0);
        found
    }
}

impl core::fmt::Debug for PollFd {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let libc::pollfd { fd, events, revents } = self.0;
        write!(f, "PollFd({fd}, {events:#x} -> {revents:#x})")
    }
}

/// Waits until one is ready or the time is over; how many are ready. `None`
/// waits for ever. A part of a millisecond counts as a whole one, so that no
/// wait ends before its time.
pub(crate) fn poll(fds: &mut [PollFd], timeout: Option<Duration>) -> Result<usize, Errno> {
    // SAFETY: `PollFd` is a `pollfd`, and the kernel writes their `revents`.
    let ready = unsafe { libc::poll(fds.as_mut_ptr().cast(), fds.len() as _, millis(timeout)) };
    check(ready).map(|ready| ready as usize)
}

/// A timeout as poll and epoll take it.
pub(super) fn millis(timeout: Option<Duration>) -> i32 {
    timeout.map_or(-1, |timeout| {
        let millis = timeout.as_nanos().div_ceil(1_000_000);
        i32::try_from(millis).unwrap_or(i32::MAX)
    })
}
