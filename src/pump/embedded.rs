//! A pump in somebody else's loop, behind one fd.

extern crate std;

use core::ops::{Deref, DerefMut};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Instant;

use super::Pump;
use super::backend::{Backend, Sources};
use crate::sys::Errno;
use crate::sys::wake::Wake;

/// A pump that is one fd in a loop which is not ours: an epoll set of its own, in
/// which are all sources, what is due, and what was not told yet. Linux.
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
#[derive(Debug)]
pub struct EmbeddedPump {
    pump: Pump,
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
    /// the kernel's, for the three fds that this takes; the pump is lost then.
    pub fn new(mut pump: Pump) -> io::Result<Self> {
        let wake = Wake::new()?;
        pump.sources.go_over_to(Sources::with(Backend::Epoll)?)?;
        let set = pump.sources.as_set_mut().ok_or(Errno::NOSYS)?;
        set.share_with(wake.event())?;
        set.share_with(wake.timer())?;
        let mut embedded = Self { pump, wake, raised: false, armed: None };
        embedded.settle();
        Ok(embedded)
    }

    /// The pump, to do anything with. Nothing here blocks but a poll that is
    /// told to.
    pub fn pump(&mut self) -> PumpGuard<'_> {
        PumpGuard(self)
    }

    /// Brings the fd up to date with what the pump has to tell and what is due.
    fn settle(&mut self) {
        let Self { pump, wake, raised, armed } = self;
        if pump.timers.wait_for_clock() {
            let _ = pump.look_at_clock();
        }
        let ready = pump.has_events() || pump.sources.hides_some();
        // Neither call fails for a reason that could be mended: an eventfd that
        // is raised once and a timerfd with a valid time.
        if ready != *raised && wake.set_event(ready).is_ok() {
            *raised = ready;
        }
        // Who is ready anyway needs no timer.
        let due = if ready { *armed } else { pump.next_deadline() };
        if due != *armed {
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

/// The set's.
impl AsFd for EmbeddedPump {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // Who puts another pump in this one's place has embedded none.
        self.pump.sources.as_set().map_or(self.wake.event(), AsFd::as_fd)
    }
}

/// The set's.
impl AsRawFd for EmbeddedPump {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

static_assertions::assert_impl_all!(EmbeddedPump: Send);
