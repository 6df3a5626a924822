//! How a child ended.

extern crate std;

use core::fmt;
use core::time::Duration;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::signal::Signal;
use crate::sys::process::{self, Reaped};

/// How a child ended, and what it used.
///
/// The status is unknown if somebody else has reaped the child, or the kernel
/// itself because the program ignores `SIGCHLD`; but Linux 6.15 and later tell
/// it then too. Whoever waits for such a child gets this, never a hang.
///
/// ```
/// use forkplan::{Command, Signal};
///
/// let exit = Command::new("sh").args(["-c", "exit 3"]).spawn()?.wait()?;
/// assert_eq!((exit.code(), exit.success()), (Some(3), false));
/// assert_eq!(exit.to_string(), "exit status: 3");
///
/// let exit = Command::new("sh").args(["-c", "kill -TERM $$"]).spawn()?.wait()?;
/// assert_eq!(exit.signal(), Some(Signal::TERM));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    status: Option<ExitStatus>,
    usage: Option<Usage>,
}

impl Exit {
    pub(crate) fn reaped(reaped: Reaped) -> Self {
        let status = Some(ExitStatus::from_raw(reaped.status));
        Self { status, usage: Some(Usage(reaped.usage)) }
    }

    /// Of a child that somebody else has reaped, or of none.
    pub(crate) fn missed(status: Option<i32>) -> Self {
        Self { status: status.map(ExitStatus::from_raw), usage: None }
    }

    /// std's status. `None`: unknown.
    pub fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    /// Whether it is known to have exited with 0.
    pub fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// What it exited with. `None` if a signal ended it or nobody knows.
    pub fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<Signal> {
        self.status.and_then(|status| status.signal()).map(Signal::from)
    }

    /// What it used. `None` if somebody else has reaped it.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => status.fmt(f),
            None => f.write_str("exit status unknown: not reaped by us"),
        }
    }
}

/// What a child, and those of its own children that it waited for, have used:
/// `getrusage(2)`.
///
/// ```
/// let exit = forkplan::Command::new("true").spawn()?.wait()?;
/// let usage = exit.usage().unwrap();
/// assert!(usage.max_rss() > 0);
/// println!("{:?} user, {:?} system", usage.user_time(), usage.system_time());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage(process::Usage);

impl Usage {
    /// CPU time in the program.
    pub fn user_time(&self) -> Duration {
        Duration::from_micros(self.0.user_micros)
    }

    /// CPU time in the kernel for it.
    pub fn system_time(&self) -> Duration {
        Duration::from_micros(self.0.system_micros)
    }

    /// The most memory that one process of them had resident, in bytes.
    pub fn max_rss(&self) -> u64 {
        self.0.max_rss_bytes
    }

    /// Page faults that needed no input.
    pub fn minor_faults(&self) -> u64 {
        self.0.minor_faults
    }

    /// Page faults that needed input.
    pub fn major_faults(&self) -> u64 {
        self.0.major_faults
    }

    /// Context switches because it waited.
    pub fn voluntary_switches(&self) -> u64 {
        self.0.voluntary_switches
    }

    /// Context switches because its time was over.
    pub fn involuntary_switches(&self) -> u64 {
        self.0.involuntary_switches
    }
}
