//! An fd that is given away once, by whoever comes first.

use core::sync::atomic::{AtomicI32, Ordering};

use rustix::fd::{FromRawFd, IntoRawFd, OwnedFd};

/// An fd with one owner, which is this or who took it: shared by the clones of a
/// command, of which one spawn takes it and puts it back if it fails. No lock:
/// a second taker is not to wait for the first, he is to be told.
#[derive(Debug)]
pub(crate) struct OnceFd(AtomicI32);

/// In place of a number while the fd is somebody else's.
const TAKEN: i32 = -1;

impl OnceFd {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self(AtomicI32::new(fd.into_raw_fd()))
    }

    /// The number, while the fd is here. It may be taken by the time that the
    /// caller looks at it, so it is for words alone, not for a call.
    pub(crate) fn number(&self) -> Option<i32> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&number| number != TAKEN)
    }

    /// The fd, for one of all who ask.
    pub(crate) fn take(&self) -> Option<OwnedFd> {
        owned(self.0.swap(TAKEN, Ordering::Acquire))
    }

    /// Gives back what [`take`](Self::take) has got, for the next who asks.
    pub(crate) fn put_back(&self, fd: OwnedFd) {
        let previous = owned(self.0.swap(fd.into_raw_fd(), Ordering::Release));
        debug_assert!(previous.is_none(), "two fds in one place");
    }
}

impl Drop for OnceFd {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Owns a number that was swapped out of the cell.
fn owned(number: i32) -> Option<OwnedFd> {
    // SAFETY: a number in the cell comes from `into_raw_fd`, so it is open and
    // nobody else's. Whoever swaps it out is the only one who gets it.
    (number != TAKEN).then(|| unsafe { OwnedFd::from_raw_fd(number) })
}

static_assertions::assert_impl_all!(OnceFd: Send, Sync);

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::sys::fd;
    use rustix::fd::{AsFd, AsRawFd};
    use std::{thread, vec::Vec};

    /// A pipe's reader, and its writer in the cell: that is closed when the
    /// reader finds the end of file.
    fn pipe() -> (OwnedFd, OnceFd) {
        let (reader, writer) = fd::pipe().unwrap();
        fd::set_nonblocking(reader.as_fd()).unwrap();
        (reader, OnceFd::new(writer))
    }

    fn is_closed(reader: &OwnedFd) -> bool {
        fd::read(reader.as_fd(), &mut [0]) == Ok(0)
    }

    #[test]
    fn an_fd_is_taken_once_and_again_after_it_was_put_back() {
        let (reader, once) = pipe();
        let number = once.number();
        let taken = once.take().unwrap();
        assert_eq!(Some(taken.as_raw_fd()), number);
        assert_eq!(once.number(), None);
        assert!(once.take().is_none());
        once.put_back(taken);
        assert_eq!(once.number(), number);
        assert!(!is_closed(&reader));
        drop(once.take());
        assert!(is_closed(&reader));
    }

    #[test]
    fn an_fd_that_nobody_took_is_closed_with_its_cell_and_one_that_is_taken_is_not() {
        let (reader, once) = pipe();
        drop(once);
        assert!(is_closed(&reader));
        let (reader, once) = pipe();
        let taken = once.take();
        drop(once);
        assert!(!is_closed(&reader));
        drop(taken);
        assert!(is_closed(&reader));
    }

    #[test]
    fn of_many_threads_one_takes_the_fd() {
        for _ in 0..100 {
            let (_reader, once) = pipe();
            let takers = thread::scope(|scope| {
                let threads: Vec<_> =
                    (0..4).map(|_| scope.spawn(|| once.take().is_some())).collect();
                threads.into_iter().filter_map(|thread| thread.join().ok()).filter(|&t| t).count()
            });
            assert_eq!(takers, 1);
        }
    }
}
