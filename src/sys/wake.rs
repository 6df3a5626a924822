//! An fd that is ready when somebody says so, and one when a time has come.

#[cfg(linux)]
pub(crate) use self::linux::Wake;
#[cfg(not(linux))]
pub(crate) use self::nowhere::Wake;

#[cfg(linux)]
mod linux {
    use core::time::Duration;

    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };

    use super::super::Errno;

    /// An eventfd and a timerfd, both CLOEXEC and not blocking.
    #[derive(Debug)]
    pub(crate) struct Wake {
        event: OwnedFd,
        timer: OwnedFd,
    }

    const NEVER: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

    impl Wake {
        pub(crate) fn new() -> Result<Self, Errno> {
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            Ok(Self {
                event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
                timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            })
        }

        pub(crate) fn event(&self) -> BorrowedFd<'_> {
            self.event.as_fd()
        }

        pub(crate) fn timer(&self) -> BorrowedFd<'_> {
            self.timer.as_fd()
        }

        /// Makes the event ready, or not.
        pub(crate) fn set_event(&self, ready: bool) -> Result<(), Errno> {
            let mut count = [0; 8];
            match ready {
                true => rustix::io::write(&self.event, &1u64.to_ne_bytes())?,
                false => rustix::io::read(&self.event, &mut count)?,
            };
            Ok(())
        }

        /// Makes the timer ready after this time, or not before it is set again.
        pub(crate) fn set_timer(&self, after: Option<Duration>) -> Result<(), Errno> {
            let span = |after: Duration| Timespec {
                // Longer than the machine runs.
                tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(after.subsec_nanos()) as _,
            };
            // Zero would be never.
            let it_value = after.map_or(NEVER, |after| span(after.max(Duration::from_nanos(1))));
            let once = Itimerspec { it_interval: NEVER, it_value };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
            Ok(())
        }
    }
}

#[cfg(not(linux))]
mod nowhere {
    use core::time::Duration;

    use rustix::fd::BorrowedFd;

    use super::super::Errno;

    /// Never made: Linux alone has them.
    #[derive(Debug)]
    pub(crate) enum Wake {}

    impl Wake {
        pub(crate) fn new() -> Result<Self, Errno> {
            Err(Errno::NOSYS)
        }

        pub(crate) fn event(&self) -> BorrowedFd<'_> {
            match *self {}
        }

        pub(crate) fn timer(&self) -> BorrowedFd<'_> {
            match *self {}
        }

        pub(crate) fn set_event(&self, _ready: bool) -> Result<(), Errno> {
            match *self {}
        }

        pub(crate) fn set_timer(&self, _after: Option<Duration>) -> Result<(), Errno> {
            match *self {}
        }
    }
}
