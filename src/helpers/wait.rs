//! Waiting for children without a pump.

extern crate std;

use core::time::Duration;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Instant;
use std::vec::Vec;

use crate::child::{Child, Exit};
use crate::limits::WAIT_TICK_MILLIS;
use crate::sys::Errno;
use crate::sys::poll::{Interest, PollFd, poll};

/// Waits until all have ended, and reaps them; how each has ended, in their order.
///
/// As [`Child::wait`] it first closes the write pipes that were not taken, those of
/// all of them. Read pipes stay open: a child that fills one which nobody reads
/// never ends. Blocks. After an error those that had ended are reaped, and the call
/// may be repeated.
///
/// ```
/// use forkplan::{Channel, Command, wait_all};
///
/// let spawn = |name| Command::new(name).fd(0, Channel::Null).spawn();
/// let exits = wait_all(&mut [spawn("true")?, spawn("false")?])?;
/// assert!(exits[0].success() && exits[1].code() == Some(1));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn wait_all(children: &mut [Child]) -> io::Result<Vec<Exit>> {
    // One may wait for the end of another that waits for us.
    children.iter_mut().for_each(Child::close_write_pipes);
    children.iter_mut().map(Child::wait).collect()
}

/// Waits until one has ended, and reaps it; which and how. `None`: the time was
/// over, or there are no children.
///
/// One that was reaped before counts too, so take it out of the list; of several,
/// the first is told. Closes nothing, for those that go on may still be written to.
/// Blocks until then, without a timeout for ever. Sleeps in poll(2) on the pidfds;
/// where there are none it looks every 10 ms. Allocates.
///
/// ```
/// use forkplan::{Channel, Command, Signal, wait_any};
///
/// let spawn = |name: &str, arg| Command::new(name).arg(arg).fd(0, Channel::Null).spawn();
/// let mut children = vec![spawn("sleep", "1000")?, spawn("true", "")?];
/// let (index, exit) = wait_any(&mut children, None)?.unwrap();
/// assert!(index == 1 && exit.success());
/// children.swap_remove(index);
/// children[0].kill()?;
/// let (_, exit) = wait_any(&mut children, None)?.unwrap();
/// assert_eq!(exit.signal(), Some(Signal::KILL));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn wait_any(
    children: &mut [Child],
    timeout: Option<Duration>,
) -> io::Result<Option<(usize, Exit)>> {
    let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let tick = children.iter().any(|child| child.pidfd().is_none());
    let tick = tick.then(|| Duration::from_millis(WAIT_TICK_MILLIS));
    let fds = children.iter().filter_map(Child::pidfd);
    let mut polled: Vec<PollFd> =
        fds.map(|pidfd| PollFd::new(pidfd.as_raw_fd(), Interest::READ)).collect();
    loop {
        for (index, child) in children.iter_mut().enumerate() {
            if let Some(exit) = child.try_wait()? {
                return Ok(Some((index, exit)));
            }
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if children.is_empty() || left.is_some_and(|left| left.is_zero()) {
            return Ok(None);
        }
        match poll(&mut polled, [left, tick].into_iter().flatten().min()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
