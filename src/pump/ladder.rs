//! How a process is brought to its end.

extern crate std;

use core::time::Duration;
use std::vec::Vec;

use crate::signal::Signal;

/// Signals with waits between them, for a process that has to end:
/// [`Pump::stop`](super::Pump::stop).
///
/// ```
/// use core::time::Duration;
/// use forkplan::{Command, Event, Ladder, Pump, Signal};
///
/// let mut pump = Pump::new();
/// // Does not care for a friendly word, and says so when it is ready to hear one.
/// let script = "trap '' TERM; echo ready; while :; do sleep 1; done";
/// let child = pump.add(Command::new("sh").args(["-c", script]).process_group(0).spawn()?);
/// let mut signals = Vec::new();
/// while !pump.is_empty() {
///     pump.poll(None)?;
///     while let Some(event) = pump.next_event() {
///         match event {
///             Event::Data { .. } => {
///                 let ladder = Ladder::terminate(Duration::from_millis(10)).to_group();
///                 pump.stop(child, ladder)?;
///             }
///             Event::Signalled { signal, .. } => signals.push(signal),
///             _ => {}
///         }
///     }
/// }
/// assert_eq!(signals, [Signal::TERM, Signal::KILL]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ladder {
    rungs: Vec<(Signal, Duration)>,
    to_group: bool,
}

impl Ladder {
    /// Without any signal: a deadline that is only told.
    pub fn new() -> Self {
        Self::default()
    }

    /// `SIGKILL`, at once.
    pub fn kill() -> Self {
        Self::new().then(Signal::KILL, Duration::ZERO)
    }

    /// `SIGTERM`, and `SIGKILL` for who has not ended within `grace`.
    pub fn terminate(grace: Duration) -> Self {
        Self::new().then(Signal::TERM, grace).then(Signal::KILL, Duration::ZERO)
    }

    /// One more signal, and how long is waited before the one after it.
    pub fn then(mut self, signal: impl Into<Signal>, wait: Duration) -> Self {
        self.rungs.push((signal.into(), wait));
        self
    }

    /// Each signal goes to the process group that the child leads, as
    /// [`Child::signal_group`](crate::Child::signal_group) has it, and the
    /// ladder goes on after the child's own exit until all of its channels are
    /// closed. A child that leads no group gets them alone.
    pub fn to_group(mut self) -> Self {
        self.to_group = true;
        self
    }

    pub(super) fn rung(&self, index: usize) -> Option<(Signal, Duration)> {
        self.rungs.get(index).copied()
    }

    pub(super) fn is_to_group(&self) -> bool {
        self.to_group
    }
}
