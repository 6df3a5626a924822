//! A start between its clone and its outcome: what is kept of it, how it goes on,
//! and when the child has left. Why that is sound, [`start`](super::start) says.

extern crate std;

use core::mem;
use core::time::Duration;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Instant;

use super::launch::{Begun, pidfd};
use super::{Opened, Prepared, SpawnError};
use crate::child::{Child, Ends};
use crate::sys::memory::SharedWord;
use crate::sys::poll::{Interest, PollFd, Readiness, poll};
use crate::sys::{CHILD_IS_INSTRUMENTED, Errno, Features, process};

#[derive(Debug)]
pub(super) enum State {
    /// There is a child.
    Running(Begun),
    /// The program was open for writing. It is tried again.
    Busy { until: Instant },
    /// It is known how it went.
    Known(Result<Child, SpawnError>),
    /// And was told.
    Told,
}

/// What an [`Opened`] has besides the `Prepared` that it borrows, between the clone
/// and its outcome.
#[derive(Debug, Default)]
pub(super) struct Kept {
    ends: Ends,
    shared_word: Option<SharedWord>,
}

impl Prepared<'_> {
    /// What a child that nobody waits for may use. See the reasons at the top.
    pub(super) fn features_to_start(&self) -> Features {
        /// What it takes to share memory.
        const TO_SHARE: Features =
            Features::SHARED_MEMORY.union(Features::CLONE3).union(Features::PIDFD);
        let features = self.features - Features::SHARED_FILES;
        match features.contains(TO_SHARE) && !self.starts_by_fork && !CHILD_IS_INSTRUMENTED {
            true => features,
            false => features - Features::SHARED_MEMORY,
        }
    }
}

impl<'p, 'fd> Opened<'p, 'fd> {
    /// Makes the child, without what the kernel refuses to make it with.
    pub(super) fn go(mut self, kept: &mut Kept) -> State {
        loop {
            let error = match self.begin() {
                Ok(begun) => {
                    *kept = self.suspend();
                    return State::Running(begun);
                }
                Err(error) => error,
            };
            if !self.prepared.does_without(&error) && !self.forks_instead(&error) {
                return State::Known(Err(error));
            }
            if let Err(error) = self.complete_plan() {
                return State::Known(Err(error));
            }
        }
    }

    /// The same, with a plan made anew.
    pub(super) fn go_again(mut self, kept: &mut Kept) -> State {
        match self.complete_plan() {
            Ok(()) => self.go(kept),
            Err(error) => State::Known(Err(error)),
        }
    }

    /// Whether the kernel refuses a child of this kind and none of another, so that
    /// the next is to be a fork.
    fn forks_instead(&mut self, error: &SpawnError) -> bool {
        let refused = [Errno::NOSYS, Errno::PERM, Errno::INVAL].map(Errno::raw_os_error);
        let refused = error.raw_os_error().is_some_and(|errno| refused.contains(&errno));
        let shared = self.features().contains(Features::SHARED_MEMORY);
        let may = !self.prepared.require.contains(Features::SHARED_MEMORY);
        let forks = error.is_from_clone() && refused && shared && may;
        self.prepared.starts_by_fork |= forks;
        forks
    }

    /// Puts it aside while the child is on its way. What is opened stays so.
    pub(super) fn suspend(mut self) -> Kept {
        let kept = Kept { ends: mem::take(&mut self.ends), shared_word: self.shared_word.take() };
        self.notice = None;
        // All else is empty, or borrowed.
        mem::forget(self);
        kept
    }

    pub(super) fn resume(prepared: &'p mut Prepared<'fd>, kept: &mut Kept) -> Self {
        let Kept { ends, shared_word } = mem::take(kept);
        let (notice, id_maps, lent) = (None, None, None);
        Self { prepared, ends, runs_on: true, notice, shared_word, id_maps, lent }
    }
}

impl Begun {
    /// Whether the child has left our memory, or is past its plan: it has reached exec
    /// or ended. Waits for that at most so long. `None`: the kernel does not say.
    pub(super) fn has_left(&self, timeout: Duration) -> Option<bool> {
        let number = |fd: Option<BorrowedFd<'_>>| fd.map_or(-1, |fd| fd.as_raw_fd());
        let notice = number(self.notice.as_ref().map(AsFd::as_fd));
        let mut polled =
            [notice, number(pidfd(&self.cloned))].map(|number| PollFd::new(number, Interest::READ));
        let waited = poll(&mut polled, Some(timeout));
        let is_ready =
            |polled: &PollFd| polled.readiness().intersects(Readiness::READ | Readiness::HANGUP);
        if waited.is_ok() && polled.iter().any(is_ready) {
            return Some(true);
        }
        let pid = self.cloned.pid;
        // Of one in our memory no error is believed.
        let left = match self.is_among_us {
            true => process::has_exit_signal(pid) == Some(true),
            false => {
                process::reached_exec(pid, self.cloned.exit_signal) == Some(true)
                    || process::has_ended(pid, pidfd(&self.cloned)) != Ok(false)
            }
        };
        match waited {
            _ if left => Some(true),
            Ok(_) | Err(Errno::INTR) => Some(false),
            Err(_) => None,
        }
    }
}
