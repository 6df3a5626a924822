//! Processes that are stopped and go on, for who wants to know.

use super::Pump;
use super::event::{ChannelError, ChildKey};
use super::turns::Note;
use crate::child::Child;
use crate::signal::Signal;
use crate::sys::stops::Stop;

impl Pump {
    /// Whether a child's stops are told: [`Event::Stopped`](super::Event::Stopped)
    /// when it was stopped by a signal, [`Event::Continued`](super::Event::Continued)
    /// when it goes on.
    ///
    /// No fd becomes ready for that, so such a child is asked for once a poll, and
    /// no poll waits for longer than 10 ms as long as there is one. What comes and
    /// goes between two polls is not told: of a stop that is over by then only that
    /// the child goes on.
    ///
    /// Only this child is asked for, and it is not reaped by it. Not for a child
    /// that this program traces, whose tracer waits for its stops.
    ///
    /// ```
    /// use forkplan::{Command, Event, OnDrop, Pump, Signal};
    ///
    /// let mut pump = Pump::new();
    /// let mut sleep = Command::new("sleep");
    /// let sleep = pump.add(sleep.arg("1000").on_drop(OnDrop::Kill).spawn()?);
    /// pump.watch_stops(sleep, true)?;
    /// pump.signal(sleep, Signal::STOP)?;
    /// while !pump.is_empty() {
    ///     pump.poll(None)?;
    ///     while let Some(event) = pump.next_event() {
    ///         match event {
    ///             Event::Stopped { signal, .. } => {
    ///                 assert_eq!(signal, Signal::STOP);
    ///                 pump.signal(sleep, Signal::CONT)?;
    ///             }
    ///             Event::Continued { .. } => pump.signal(sleep, Signal::KILL)?,
    ///             _ => {}
    ///         }
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// There is no such child, or it [has no process](Self::attach).
    pub fn watch_stops(&mut self, child: ChildKey, watch: bool) -> Result<(), ChannelError> {
        let slot = self.slots.get(child).ok_or(ChannelError::NoChild)?;
        if slot.child.is_none() {
            return Err(ChannelError::NoProcess);
        }
        let watch = watch && !slot.life.has_exited();
        self.unwatch(child);
        if watch {
            self.watched.push(child);
        }
        Ok(())
    }

    /// The child has ended, or leaves.
    pub(super) fn unwatch(&mut self, child: ChildKey) {
        self.watched.retain(|&watched| watched != child);
    }

    /// Whether some process has to be looked at from time to time.
    pub(super) fn ticks(&self) -> bool {
        self.ticking > 0 || !self.watched.is_empty()
    }

    /// Looks at those that are watched, once each.
    pub(super) fn look_for_stops(&mut self) {
        let Self { watched, slots, notes, .. } = self;
        for &child in watched.iter() {
            let process = slots.get(child).and_then(|slot| slot.child.as_ref());
            notes.extend(process.and_then(Child::last_stop).map(|stop| match stop {
                Stop::Stopped(signal) => Note::Stopped { child, signal: Signal::from(signal) },
                Stop::Continued => Note::Continued { child },
            }));
        }
    }
}
