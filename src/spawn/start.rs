//! A child that nobody waits for: the caller runs on, and asks later how it went.
//!
//! # Two in one memory
//!
//! On the fast path the child walks its plan in the parent's memory while the
//! parent runs on. That is sound for these reasons, which are all of them:
//!
//! **What the child reads stays as it is.** It reads the job, the steps, the text,
//! `argv`, `envp` and the arguments for a shell; it writes its stack, the report's
//! word and the room for its pid. The job, the stack and the word lie in the
//! region, a mapping; all else lies in the heap behind `Vec`s of [`Prepared`], none
//! of it behind a `Box`, so that a move of the value is a copy of pointers and
//! claims nothing of what they point to. [`Starting`] owns the `Prepared` from
//! before the clone on, lends nothing of it but the plan to be read, and gives it
//! back or drops it only when the child has left. Forgotten, it leaks. So that
//! nobody frees, moves or writes those bytes is not a rule for callers but a matter
//! of types.
//!
//! **That the child has left is shown by the kernel**, never taken from what the
//! child said, nor from an errno, which a filter may have made up. One of these is
//! seen: the end of file of a pipe whose other end is the child's (exec closes it
//! after it has changed the memory, an exit after it has let go of it); the
//! pidfd is ready, which it is for a zombie; or a plain wait sees a child that was
//! made without an exit signal, which exec gives it when it can no longer return.
//! Where the kernel refuses to say, the memory is kept, and a drop leaks it.
//!
//! **The child touches nothing else.** It makes raw syscalls: no `errno`, no
//! thread-local, no lock, no allocation (`.ci/check-child-code` follows its machine
//! code). Its thread pointer is that of the thread that made it, and neither
//! read nor written. Fds, directory, umask and signal handlers are its own from the
//! clone on, since none of `CLONE_FILES`, `CLONE_FS`, `CLONE_SIGHAND` is set; all
//! signals are blocked, and handlers gone (`CLONE_CLEAR_SIGHAND`) before any is not.
//!
//! **Nor does the kernel, for it.** A new task has no robust list and no address to
//! clear. Its registration for restartable sequences, which would be the parent
//! thread's, is dropped since Linux 5.5 where memory is shared; so `clone3` with
//! `CLONE_CLEAR_SIGHAND`, which came with that, is required, and without it there is
//! a fork. `oom_score_adj` is the same for all who share memory unless the parent
//! waits (vfork); a child that sets it is forked. Ids, capabilities, dump filter,
//! namespaces, hooks and files opened in the child are forked anyhow.
//!
//! **The parent may do as it likes.** It may allocate, map and unmap what is its
//! own. Its fork copies the region at some moment, where nobody runs in the copy;
//! its exec or exit leaves the memory to the child, by a count in the kernel. Another
//! start has another region. A thread that ends takes away its stack, which the
//! child does not use. What hits all who share memory (the out-of-memory killer;
//! before Linux 5.16, a child's core dump) hits them with a vfork too.
//!
//! Under a sanitizer, whose code in the child would use the thread's state, there is
//! a fork.

extern crate std;

use core::mem::{self, ManuallyDrop};
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Instant;

use super::launch::{Begun, pidfd};
use super::under_way::{Kept, State};
use super::{Opened, Prepared, SpawnError};
use crate::child::{Child, SignalError};
use crate::command::PlanError;
use crate::limits::{BUSY_SLEEP_MAX, BUSY_SLEEP_MIN, NOTICE_TICK, POLLS_REFUSED_MAX, REPORT_TICK};
use crate::plan::Plan;
use crate::signal::Signal;
use crate::sys::signals::SIGKILL;
use crate::sys::{Errno, process};

/// A child that was started and not waited for, until it is known whether it has
/// reached its program. See [`Prepared::start`].
///
/// It owns the prepared command, which [`finish`](Self::finish) gives back.
///
/// # Dropping it
///
/// Dropped in place of finished, it takes the start back: the child is killed and
/// reaped, whether it has reached its program or not, and what was opened for it is
/// closed. That waits for the kill to take effect: not long, unless the child is
/// stuck in the kernel, as on a file system that does not answer.
///
/// ```
/// use forkplan::{Channel, Command};
///
/// let command = Command::new("true").fd(0, Channel::Null).clone();
/// let mut starting = Vec::new();
/// for _ in 0..4 {
///     // None of these waits for a program to be loaded.
///     starting.push(command.prepare()?.start());
/// }
/// for started in starting {
///     let (prepared, child) = started.finish();
///     assert!(child?.wait()?.success());
///     drop(prepared); // or start it again
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropped, it kills what was started"]
pub struct Starting<'fd> {
    /// What a child in our memory reads. Not dropped where that may still be so.
    prepared: ManuallyDrop<Prepared<'fd>>,
    kept: Kept,
    state: State,
    /// A notice of which the last look has made an end, for who has yet to take it
    /// out of where it is registered.
    retired: Option<OwnedFd>,
    /// How long to wait before a busy program is tried again.
    sleep: Duration,
    /// `SIGKILL` was sent: then it is not.
    killed: AtomicBool,
}

impl<'fd> Prepared<'fd> {
    /// Spawns as [`spawn`](Self::spawn) does, and does not wait for the program to
    /// be reached: the caller runs on while the child does, and learns by the
    /// [`Starting`] how it went. So more than one may be on its way to its program;
    /// in a [`Pump`](crate::Pump) the outcome is an event
    /// ([`Pump::start`](crate::Pump::start)).
    ///
    /// The prepared command belongs to the child until then, since it runs on its
    /// stack and reads its strings. Several at once take several, by
    /// [`try_clone`](Self::try_clone). What fails before there is a child is an
    /// outcome as well, known at once.
    ///
    /// A child's end costs a pipe more than one of `spawn`, and the table of fds is
    /// always copied: a [`Launcher`](crate::Launcher) is of no use here, for a parent
    /// that runs on closes what the child is still to have. A program that another
    /// thread writes meanwhile stays open in the copy until exec, so whoever runs it
    /// finds it busy more often than beside `spawn`; it is tried again, as there.
    /// Allocates nothing, started again. Where the child can't share memory with a
    /// parent that runs on (what must fork,
    /// [`oom_score_adj`](crate::Command::oom_score_adj), no `clone3`, no pidfd) it gets a
    /// copy.
    ///
    /// What is [required](crate::Command::require) is required here too: with
    /// [`SHARED_FILES`](crate::Features::SHARED_FILES) that is an error.
    pub fn start(self) -> Starting<'fd> {
        let mut starting = Starting {
            prepared: ManuallyDrop::new(self),
            kept: Kept::default(),
            state: State::Told,
            retired: None,
            sleep: BUSY_SLEEP_MIN,
            killed: AtomicBool::new(false),
        };
        let Starting { prepared, kept, .. } = &mut starting;
        let missing = prepared.require - prepared.features_to_start();
        starting.state = match missing.is_empty() {
            true => match prepared.open_by(None, true) {
                Ok(opened) => opened.go(kept),
                Err(error) => State::Known(Err(error)),
            },
            false => State::Known(Err(PlanError::MissingFeature { features: missing }.into())),
        };
        starting
    }
}

impl<'fd> Starting<'fd> {
    /// What is ready for reading when there may be something to
    /// [look](Self::look) for. `None` while there is no child: the outcome is known,
    /// or a busy program waits to be tried again. It is another fd, or none, after a
    /// look: who has registered it takes it out before.
    ///
    /// A process that another thread has forked meanwhile may keep it from being
    /// ready; so look every [`tick`](Self::tick), too.
    pub fn notice(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Running(begun) => begun.notice.as_ref().map(AsFd::as_fd),
            _ => None,
        }
    }

    /// How long to wait at most before the next [look](Self::look): 50 ms for a child,
    /// less for a busy program. Zero if the outcome is known.
    pub fn tick(&self) -> Duration {
        match &self.state {
            State::Running(_) => NOTICE_TICK,
            State::Busy { until } => until.saturating_duration_since(Instant::now()),
            State::Known(_) | State::Told => Duration::ZERO,
        }
    }

    /// Looks whether it is known how it went, and goes on where that is not yet
    /// decided: a busy program whose time has come is tried again, and what the kernel
    /// refused is done without, as [`Prepared::spawn`] does. Does not block.
    ///
    /// ```
    /// use forkplan::{Channel, Command};
    /// use rustix::event::{PollFd, PollFlags, poll};
    ///
    /// let mut starting = Command::new("/nowhere/program").prepare()?.start();
    /// while !starting.look() {
    ///     let tick = starting.tick().try_into()?;
    ///     match starting.notice() {
    ///         Some(fd) => poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&tick))?,
    ///         None => poll(&mut [], Some(&tick))?,
    ///     };
    /// }
    /// let (_, result) = starting.finish(); // does not block now
    /// assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::NotFound);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn look(&mut self) -> bool {
        self.look_for(Duration::ZERO)
    }

    /// Waits until it is known how it went. The prepared command, and the child or the
    /// step that failed, as [`Prepared::spawn`] has them.
    pub fn finish(mut self) -> (Prepared<'fd>, Result<Child, SpawnError>) {
        let result = loop {
            if let State::Known(_) = self.state {
                if let State::Known(result) = mem::replace(&mut self.state, State::Told) {
                    break result;
                }
            }
            if let State::Busy { .. } = self.state {
                thread::sleep(self.tick());
            }
            self.look_for(NOTICE_TICK);
        };
        drop((mem::take(&mut self.kept), self.retired.take()));
        let this = ManuallyDrop::new(self);
        // SAFETY: read once, since `this` is not used again nor dropped; of what else
        // it has nothing is left to drop. The child has left, for that was known.
        (unsafe { ptr::read(&*this.prepared) }, result)
    }

    /// What the child does, or was to do. Of one that failed before its channels were
    /// open, what the one before did.
    ///
    /// It is not what [`Prepared::open`] shows of a spawn, which may share the table of
    /// fds. To see it before there is a child, open the command [without](crate::Command::without)
    /// [`SHARED_MEMORY`](crate::Features::SHARED_MEMORY): the steps are the same.
    ///
    /// ```
    /// use forkplan::{Channel, Command, Features};
    ///
    /// let mut command = Command::new("true");
    /// command.fd(0, Channel::Null).fd(1, Channel::ReadPipe);
    /// let mut copying = command.clone();
    /// let mut prepared = copying.without(Features::SHARED_MEMORY).prepare()?;
    /// let in_advance = prepared.open()?.plan().to_string();
    /// drop(prepared); // or other numbers would be free
    ///
    /// let starting = command.prepare()?.start();
    /// assert_eq!(starting.plan().to_string(), in_advance);
    /// # assert!(starting.finish().1?.wait()?.success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn plan(&self) -> Plan<'_> {
        self.prepared.plan()
    }

    /// Signals the child, on its way or past it. Until it has come to its program none
    /// but `SIGKILL` and `SIGSTOP` has an effect; after the first a busy program is not
    /// tried again. While one waits for that there is nobody to signal.
    pub fn signal(&self, signal: impl Into<Signal>) -> Result<(), SignalError> {
        let signal = signal.into();
        match &self.state {
            State::Running(begun) => {
                let sent = process::signal(begun.cloned.pid, pidfd(&begun.cloned), signal.number());
                if sent.is_ok() && signal == Signal::KILL {
                    self.killed.store(true, Ordering::Relaxed);
                }
                sent.map_err(|errno| match errno {
                    Errno::SRCH => SignalError::AlreadyExited,
                    errno => SignalError::Errno(errno.raw_os_error()),
                })
            }
            State::Known(Ok(child)) => child.signal(signal),
            _ => Err(SignalError::AlreadyExited),
        }
    }

    /// The notice of before the last look, if that was its end.
    pub(crate) fn take_retired(&mut self) -> Option<OwnedFd> {
        self.retired.take()
    }

    fn look_for(&mut self, timeout: Duration) -> bool {
        match &mut self.state {
            State::Known(_) | State::Told => return true,
            State::Busy { until } if Instant::now() < *until => return false,
            State::Running(begun) => match begun.has_left(timeout) {
                Some(true) => self.retired = begun.notice.take(),
                Some(false) => return false,
                None => {
                    thread::sleep(timeout);
                    return false;
                }
            },
            State::Busy { .. } => {}
        }
        let Self { prepared, kept, state, sleep, killed, .. } = self;
        let may_retry = *sleep <= BUSY_SLEEP_MAX && !*killed.get_mut();
        let mut opened = Opened::resume(prepared, kept);
        *state = match mem::replace(state, State::Told) {
            State::Running(begun) => match opened.conclude(begun) {
                Ok(child) => {
                    opened.settle();
                    State::Known(Ok(child))
                }
                Err(error) if opened.prepared.does_without(&error) => opened.go_again(kept),
                Err(error) if error.is_busy() && may_retry => {
                    let until = Instant::now() + *sleep;
                    *sleep *= 2;
                    *kept = opened.suspend();
                    State::Busy { until }
                }
                Err(error) => State::Known(Err(error)),
            },
            _ => opened.go_again(kept),
        };
        matches!(self.state, State::Known(_))
    }

    /// Kills the child and waits until it has left. Whether it has.
    fn take_back(begun: &Begun) -> bool {
        let (pid, pidfd) = (begun.cloned.pid, pidfd(&begun.cloned));
        let killed = process::signal(pid, pidfd, SIGKILL).is_ok();
        let mut refusals = 0;
        loop {
            match begun.has_left(NOTICE_TICK) {
                Some(true) => break,
                Some(false) => refusals = 0,
                None if refusals < POLLS_REFUSED_MAX => {
                    refusals += 1;
                    thread::sleep(REPORT_TICK);
                }
                None => return false,
            }
        }
        // One that could not be killed runs on, and is nobody's to wait for.
        let _ = process::wait(pid, pidfd, killed);
        true
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        match mem::replace(&mut self.state, State::Told) {
            State::Running(begun) if !Self::take_back(&begun) => return,
            State::Running(_) | State::Busy { .. } => {
                drop(Opened::resume(&mut self.prepared, &mut self.kept));
            }
            State::Known(Ok(mut child)) => {
                if child.signal(SIGKILL).is_ok() {
                    let _ = child.wait();
                }
            }
            State::Known(Err(_)) | State::Told => {}
        }
        // SAFETY: not used again. No child is in our memory: it has left, or there
        // was none.
        unsafe { ManuallyDrop::drop(&mut self.prepared) };
    }
}

static_assertions::assert_impl_all!(Starting<'static>: Send, Sync);
