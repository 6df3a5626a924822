//! The parent's handle of one child: its pid and pidfd, our ends of its
//! channels, signals, waiting.

extern crate std;

use core::fmt;
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Instant;

use crate::channel::{ChannelInfo, Direction, Name};
use crate::limits::WAIT_TICK_MILLIS;
use crate::signal::Signal;
use crate::sys::poll::{Interest, PollFd, poll};
use crate::sys::stops::{self, Stop};
use crate::sys::{Errno, process};

mod cgroup;
mod ends;
mod exit;

pub use self::cgroup::kill_cgroup;
pub(crate) use self::ends::Ends;
pub use self::exit::{Exit, Usage};

/// A child: a process that has reached its program.
///
/// The handle is the one owner of the process's end: it reaps it, by its pidfd
/// where there is one, and never signals a pid that might be somebody else's by
/// now. (Where the kernel has no pidfds, and somebody else has reaped the child
/// and another child of this program has got its number, nobody can tell.) Channels are known by a name or by any child fd they are mapped on.
///
/// # Dropping it
///
/// Dropped, it closes our ends of the channels that were not taken. A process
/// that has ended is reaped. What happens to one that runs is the command's
/// [`on_drop`](crate::Command::on_drop): with [`OnDrop::Detach`], the default,
/// it runs on, and when it ends it stays a zombie until this program ends;
/// with [`OnDrop::Kill`] it is killed and reaped.
///
/// ```
/// use std::io::{Read, Write};
/// use std::process::{ChildStdin, ChildStdout};
/// use forkplan::Command;
///
/// let mut child = Command::new("tr").args(["a-z", "A-Z"]).spawn()?;
/// ChildStdin::from(child.take(0).unwrap()).write_all(b"loud")?;
/// let mut loud = String::new();
/// ChildStdout::from(child.take(1).unwrap()).read_to_string(&mut loud)?;
/// assert_eq!(loud, "LOUD");
/// assert!(child.wait()?.success());
/// assert_eq!(child.id(), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Child {
    pid: i32,
    pidfd: Option<OwnedFd>,
    exit: Option<Exit>,
    ends: Ends,
    on_drop: OnDrop,
    /// Somebody else waits for it.
    detached: bool,
}

/// What happens to a child whose handle is dropped while it runs.
///
/// ```
/// use forkplan::{Command, OnDrop};
///
/// let child = Command::new("sleep").arg("1000").on_drop(OnDrop::Kill).spawn()?;
/// drop(child); // killed and reaped
/// # Ok::<(), forkplan::SpawnError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnDrop {
    /// It runs on, and nobody reaps it before this program ends.
    #[default]
    Detach,
    /// It gets `SIGKILL` and is reaped, for which the drop blocks: not long,
    /// unless it is stuck in the kernel. One that has become somebody else's and
    /// may not be killed runs on, as with [`Detach`](Self::Detach).
    Kill,
}

/// A signal that was not sent.
///
/// ```
/// use forkplan::{Command, Signal, SignalError};
///
/// let mut child = Command::new("true").spawn()?;
/// child.wait()?;
/// assert_eq!(child.signal(Signal::TERM), Err(SignalError::AlreadyExited));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignalError {
    /// The child has ended and was reaped. Nothing was sent to anybody.
    AlreadyExited,
    /// The kernel's errno: `EINVAL` for a number that is no signal, `EPERM` for
    /// a child that has become somebody else's.
    Errno(i32),
}

impl Child {
    pub(crate) fn new(pid: i32, pidfd: Option<OwnedFd>, ends: Ends, on_drop: OnDrop) -> Self {
        Self { pid, pidfd, exit: None, ends, on_drop, detached: false }
    }

    /// The process id. `None` once it has been reaped: the number may be
    /// somebody else's.
    pub fn id(&self) -> Option<u32> {
        self.exit.is_none().then(|| self.pid.unsigned_abs())
    }

    /// The pidfd, if the kernel has them: readable when the process has ended.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Our end of a channel, which is the caller's from now on. `None` if there
    /// is no such channel, it has no end of ours, or it was taken.
    ///
    /// It blocks, and converts into what std has: `ChildStdin`, `ChildStdout`,
    /// `PipeReader`, `PipeWriter`, `UnixStream`, `File`, `Stdio`.
    pub fn take<'n>(&mut self, channel: impl Into<Name<'n>>) -> Option<OwnedFd> {
        self.ends.take(self.ends.find(channel.into())?)
    }

    /// Our end of a channel, on loan.
    pub fn end<'n>(&self, channel: impl Into<Name<'n>>) -> Option<BorrowedFd<'_>> {
        self.ends.get(self.ends.find(channel.into())?).map(AsFd::as_fd)
    }

    /// The names of the channels of which we have or had an end.
    pub fn channels(&self) -> impl Iterator<Item = Name<'_>> {
        self.ends.infos().iter().map(|info| info.name())
    }

    /// The channel that is written to where none is named: the command's
    /// [`default_writer`](crate::Command::default_writer), or the one on child fd 0
    /// if that is one we write to.
    pub fn default_writer(&self) -> Option<Name<'_>> {
        let infos = self.ends.infos().iter();
        infos.filter(|info| info.default_writer).map(ChannelInfo::name).next()
    }

    /// Waits until the child has ended and reaps it. Called again, it gives the
    /// same answer at once.
    ///
    /// First closes the write pipes that were not taken, as std closes stdin:
    /// a child that reads to the end would wait for us for ever. Read pipes
    /// stay open; a child that fills one which nobody reads never ends.
    pub fn wait(&mut self) -> io::Result<Exit> {
        self.close_write_pipes();
        loop {
            if let Some(exit) = self.reap(true)? {
                return Ok(exit);
            }
        }
    }

    /// Reaps the child if it has ended. Never blocks, closes nothing.
    pub fn try_wait(&mut self) -> io::Result<Option<Exit>> {
        self.reap(false)
    }

    /// As [`wait`](Self::wait), but gives up at `deadline` with `None`; the
    /// child runs on.
    ///
    /// Sleeps in poll(2) on the pidfd. Where there is none it looks every
    /// 10 ms.
    pub fn wait_deadline(&mut self, deadline: Instant) -> io::Result<Option<Exit>> {
        self.close_write_pipes();
        loop {
            if let Some(exit) = self.reap(false)? {
                return Ok(Some(exit));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            match self.pidfd() {
                Some(pidfd) => {
                    use std::os::fd::AsRawFd;
                    let mut polled = [PollFd::new(pidfd.as_raw_fd(), Interest::READ)];
                    match poll(&mut polled, Some(left)) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                None => thread::sleep(left.min(Duration::from_millis(WAIT_TICK_MILLIS))),
            }
        }
    }

    /// As [`wait_deadline`](Self::wait_deadline), so much later than now.
    pub fn wait_timeout(&mut self, timeout: Duration) -> io::Result<Option<Exit>> {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.wait_deadline(deadline),
            None => self.wait().map(Some),
        }
    }

    /// Sends a signal. One that has ended and is not reaped takes it silently,
    /// as the kernel has it.
    pub fn signal(&self, signal: impl Into<Signal>) -> Result<(), SignalError> {
        if self.exit.is_some() {
            return Err(SignalError::AlreadyExited);
        }
        match process::signal(self.pid, self.pidfd(), signal.into().number()) {
            Ok(()) => Ok(()),
            Err(Errno::SRCH) => Err(SignalError::AlreadyExited),
            Err(errno) => Err(SignalError::Errno(errno.raw_os_error())),
        }
    }

    /// Sends a signal to every process of the group that the child leads: that
    /// of [`process_group(0)`](crate::Command::process_group) or
    /// [`setsid`](crate::Command::setsid).
    ///
    /// Where the kernel can (Linux 6.9), by the pidfd: also after the child's own
    /// exit, and never to another group. Elsewhere by number, and only until the
    /// child was reaped, since the number may be another group's after that.
    ///
    /// [`SignalError::AlreadyExited`]: the child was reaped, and the rest of its
    /// group is gone or can't be told from another. `Errno(ESRCH)`: it leads no
    /// group.
    pub fn signal_group(&self, signal: impl Into<Signal>) -> Result<(), SignalError> {
        let reaped = self.exit.is_some();
        match process::signal_group(self.pid, self.pidfd(), signal.into().number(), reaped) {
            Ok(()) => Ok(()),
            Err(Errno::SRCH) if reaped => Err(SignalError::AlreadyExited),
            Err(errno) => Err(SignalError::Errno(errno.raw_os_error())),
        }
    }

    /// Sends `SIGKILL`.
    pub fn kill(&self) -> Result<(), SignalError> {
        self.signal(Signal::KILL)
    }

    /// Changes what happens when the handle is dropped.
    pub fn set_on_drop(&mut self, on_drop: OnDrop) {
        self.on_drop = on_drop;
    }

    pub(crate) fn on_drop(&self) -> OnDrop {
        self.on_drop
    }

    /// Lets the process go, whatever was to happen on drop: closes our ends,
    /// and returns the pidfd by which somebody may still wait for it.
    pub fn detach(mut self) -> Option<OwnedFd> {
        self.detached = true;
        self.pidfd.take()
    }

    /// How it ended, if it was reaped.
    pub fn exit(&self) -> Option<Exit> {
        self.exit
    }

    /// Reaps the child if it has ended, or when it has.
    pub(crate) fn reap(&mut self, block: bool) -> io::Result<Option<Exit>> {
        if self.exit.is_none() {
            self.exit = match process::wait(self.pid, self.pidfd(), block) {
                Ok(reaped) => reaped.map(Exit::reaped),
                Err(Errno::CHILD) => {
                    Some(Exit::missed(self.pidfd().and_then(process::status_after_reap)))
                }
                Err(error) => return Err(error.into()),
            };
        }
        Ok(self.exit)
    }

    /// Gives up on a process that can't be waited for: its end is not to be
    /// known.
    pub(crate) fn miss(&mut self) -> Exit {
        *self.exit.get_or_insert(Exit::missed(None))
    }

    /// Of a child that was reaped: it needs it no more.
    pub(crate) fn take_pidfd(&mut self) -> Option<OwnedFd> {
        self.pidfd.take()
    }

    /// Has it use another fd of the same pidfd; the one that it had.
    pub(crate) fn replace_pidfd(&mut self, pidfd: OwnedFd) -> Option<OwnedFd> {
        self.pidfd.replace(pidfd)
    }

    /// Whether it has ended, and was not reaped yet. `None`: somebody has reaped it,
    /// and its number may be another's.
    pub(crate) fn has_ended(&self) -> Option<bool> {
        if self.exit.is_some() {
            return None;
        }
        process::has_ended(self.pid, self.pidfd()).ok()
    }

    /// Whether it was stopped or goes on, since this was asked last. Reaps
    /// nobody.
    pub(crate) fn last_stop(&self) -> Option<Stop> {
        if self.exit.is_some() {
            return None;
        }
        // An error is that of a child that has ended, which reaping tells.
        stops::last_stop(self.pid, self.pidfd()).ok().flatten()
    }

    pub(crate) fn infos(&self) -> &[ChannelInfo] {
        self.ends.infos()
    }

    pub(crate) fn ends(&mut self) -> &mut Ends {
        &mut self.ends
    }

    pub(crate) fn close_write_pipes(&mut self) {
        for index in 0..self.ends.infos().len() {
            if self.ends.infos()[index].end.direction == Direction::Write {
                drop(self.ends.take(index));
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.detached {
            return;
        }
        let running = matches!(self.reap(false), Ok(None));
        if running && self.on_drop == OnDrop::Kill {
            // One that could not be killed runs on, for as long as it likes.
            let killed = self.kill().is_ok();
            let _ = self.reap(killed);
        }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("id", &self.id())
            .field("pidfd", &self.pidfd)
            .field("exit", &self.exit)
            .field("ends", &self.ends)
            .field("on_drop", &self.on_drop)
            .finish()
    }
}

impl SignalError {
    fn errno(self) -> i32 {
        match self {
            Self::AlreadyExited => Errno::SRCH.raw_os_error(),
            Self::Errno(errno) => errno,
        }
    }
}

impl fmt::Display for SignalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyExited => f.write_str("the child has already exited"),
            Self::Errno(errno) => {
                write!(f, "the signal was not sent: {}", crate::sys::Message(*errno))
            }
        }
    }
}

impl core::error::Error for SignalError {}

impl From<SignalError> for io::Error {
    fn from(error: SignalError) -> Self {
        Self::new(Self::from_raw_os_error(error.errno()).kind(), error)
    }
}

// Here and not in `sys`, which has no std.
impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.raw_os_error())
    }
}

static_assertions::assert_impl_all!(Child: Send, Sync);
