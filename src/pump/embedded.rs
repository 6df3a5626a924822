//! A pump in somebody else's loop, behind one fd.

extern crate std;

use core::ops::{Deref, DerefMut};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Instant;

use super::Pump;
use crate::sys::Errno;
use crate::sys::epoll::Epoll;
use crate::sys::poll::Interest;
use crate::sys::wake::Wake;

/// A pump that is one fd in a loop which is not ours: an epoll set, in which are
/// the pump's own set with all sources, what is due, and what was not told yet. Linux.
///
/// The fd is ready for reading exactly when `poll(Some(Duration::ZERO))` would
/// find something to do. **When the fd is ready, poll with a timeout of zero, and
/// drain.** Where it is watched level-triggered or one-shot, once is enough: it is
/// ready as long as there is more. Edge-triggered (tokio, mio), again until poll
/// returns false.
///
/// ```
/// use core::time::Duration;
/// use forkplan::{Command, EmbeddedPump, Event, Pump};
/// use rustix::event::{PollFd, PollFlags, poll};
///
/// let mut embedded = EmbeddedPump::new(Pump::new())?;
/// embedded.pump().add(Command::new("echo").arg("hello").spawn()?);
/// let mut said = Vec::new();
/// while !embedded.pump().is_empty() {
///     // Somebody's loop, which waits for other things too.
///     poll(&mut [PollFd::new(&embedded, PollFlags::IN)], None)?;
///
///     let mut pump = embedded.pump();
///     pump.poll(Some(Duration::ZERO))?;
///     while let Some(event) = pump.next_event() {
///         if let Event::Data { bytes, .. } = event {
///             said.extend_from_slice(bytes);
///         }
///     }
/// }
/// assert_eq!(said, b"hello\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Children without a pidfd are looked at every 10 ms, as ever: the fd becomes
/// ready for that.
///
/// The fd is this value's own, and the same as long as it lives. A caller who puts
/// another pump in the place of the embedded one (`core::mem::swap`, `take`) has
/// embedded that when the guard is dropped; the one taken out goes on as a pump with
/// [`Backend::Epoll`](crate::Backend::Epoll). Should the kernel refuse another set then,
/// the fd is always ready until it has one.
#[derive(Debug)]
pub struct EmbeddedPump {
    pump: Pump,
    /// What the other loop watches. Not the pump's, which the caller may replace.
    outer: Epoll,
    /// The pump's set as it is in `outer`, kept open: so it can be taken out of there,
    /// and a later one has neither its number nor its place.
    inner: Option<Arc<Epoll>>,
    wake: Wake,
    /// The event is ready.
    raised: bool,
    /// When the timer will be.
    armed: Option<Instant>,
}

/// The pump that is embedded. When this is dropped the fd is brought up to date.
///
/// ```
/// use forkplan::{Command, EmbeddedPump, Pump};
///
/// let mut embedded = EmbeddedPump::new(Pump::new())?;
/// let mut pump = embedded.pump();
/// let cat = pump.add(Command::new("cat").spawn()?);
/// pump.close(cat, 0)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PumpGuard<'a>(&'a mut EmbeddedPump);

impl EmbeddedPump {
    /// Embeds a pump, whatever its backend, with all that is in it. The error is
    /// the kernel's, for the four fds that this takes; the pump is lost then.
    pub fn new(pump: Pump) -> io::Result<Self> {
        let (outer, wake) = (Epoll::new()?, Wake::new()?);
        for fd in [wake.event(), wake.timer()] {
            outer.add(fd.as_raw_fd(), Interest::READ, 0)?;
        }
        let mut embedded = Self { pump, outer, inner: None, wake, raised: false, armed: None };
        embedded.bind()?;
        embedded.settle();
        Ok(embedded)
    }

    /// The pump, to do anything with. Nothing here blocks but a poll that is
    /// told to.
    pub fn pump(&mut self) -> PumpGuard<'_> {
        PumpGuard(self)
    }

    /// Puts the set of the pump that is here into the outer one, in place of that
    /// which is there.
    fn bind(&mut self) -> Result<(), Errno> {
        let set = self.pump.sources.share()?;
        // There is no other loop any more that has to forget these first.
        self.pump.leaving.clear();
        if self.inner.as_ref().is_some_and(|inner| Arc::ptr_eq(inner, &set)) {
            return Ok(());
        }
        if let Some(other) = self.inner.take() {
            // It is in there, and open.
            let _ = self.outer.remove(other.as_fd().as_raw_fd());
        }
        self.outer.add(set.as_fd().as_raw_fd(), Interest::READ, 0)?;
        self.inner = Some(set);
        Ok(())
    }

    /// Brings the fd up to date with the pump, what it has to tell and what is due.
    fn settle(&mut self) {
        let bound = self.bind().is_ok();
        let Self { pump, wake, raised, armed, .. } = self;
        if pump.timers.wait_for_clock() {
            let _ = pump.look_at_clock();
        }
        let ready = !bound || pump.has_events() || pump.sources.hides_some();
        // Neither call fails for a reason that could be mended: an eventfd that
        // is raised once and a timerfd with a valid time.
        if ready != *raised && wake.set_event(ready).is_ok() {
            *raised = ready;
        }
        // Who is ready anyway needs no timer.
        let due = if ready { *armed } else { pump.next_deadline() };
        // A clock of the caller's may be behind the timer, which has told of this once.
        let has_fired = || due.is_some_and(|due| due <= Instant::now());
        if due != *armed || !ready && has_fired() {
            let after = due.map(|due| due.saturating_duration_since(pump.now()));
            if wake.set_timer(after).is_ok() {
                *armed = due;
            }
        }
    }
}

impl Deref for PumpGuard<'_> {
    type Target = Pump;

    fn deref(&self) -> &Pump {
        &self.0.pump
    }
}

impl DerefMut for PumpGuard<'_> {
    fn deref_mut(&mut self) -> &mut Pump {
        &mut self.0.pump
    }
}

impl Drop for PumpGuard<'_> {
    fn drop(&mut self) {
        self.0.settle();
    }
}

/// The same as long as the value lives.
impl AsFd for EmbeddedPump {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.outer.as_fd()
    }
}

/// The same as long as the value lives.
impl AsRawFd for EmbeddedPump {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

static_assertions::assert_impl_all!(EmbeddedPump: Send);
