//! A list of commands, some at a time.

extern crate std;

use core::borrow::Borrow;
use core::ops::ControlFlow;
use core::time::Duration;
use std::io;
use std::vec::Vec;

use super::captured::Captured;
use super::jobs::{Jobs, Terms, Told};
use super::read;
use crate::channel::Name;
use crate::command::Command;
use crate::limits::STARTS_PER_POLL_MAX;
use crate::pump::Ladder;
use crate::spawn::SpawnError;

/// Runs commands side by side, so many at a time: what a build tool or a test
/// runner needs.
///
/// ```
/// use core::ops::ControlFlow::Continue;
/// use forkplan::{Command, Parallel, Progress};
///
/// let commands = ["1", "2", "3", "4"].map(|text| {
///     let mut command = Command::new("echo");
///     command.arg(text);
///     command
/// });
/// let mut done = 0;
/// let results = Parallel::new(2).run(&commands, |progress| {
///     if let Progress::Ended { .. } = progress {
///         done += 1;
///         println!("{done} of 4");
///     }
///     Continue(())
/// })?;
/// assert_eq!(results[3].as_ref().unwrap().stdout(), b"4\n");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Parallel {
    at_most: usize,
    terms: Terms,
}

/// What [`Parallel::run`] tells while it runs. `index` is the command's place in
/// the list.
///
/// For one command: `Started` and later `Ended`, with its `Data` between them, or
/// `Failed` alone. Commands start in the order of the list, and end as they do.
///
/// ```
/// use core::ops::ControlFlow::{Break, Continue};
/// use forkplan::{Command, Ladder, Parallel, Progress};
///
/// let [fine, bad] = [Command::new("true"), Command::new("false")];
/// // As make does: after a failure nothing new, and what runs goes on.
/// let results = Parallel::new(1).run([&fine, &bad, &fine], |progress| match progress {
///     Progress::Ended { captured, .. } if !captured.exit.success() => Break(Ladder::new()),
///     Progress::Failed { .. } => Break(Ladder::new()),
///     _ => Continue(()),
/// })?;
/// assert_eq!(results.len(), 2);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// A command was started.
    Started {
        /// Which.
        index: usize,
        /// Its process id.
        pid: Option<u32>,
        /// How many run now.
        running: usize,
    },
    /// It was not.
    Failed {
        /// Which.
        index: usize,
        /// Why.
        error: &'a SpawnError,
    },
    /// Bytes came from a channel, limit or not.
    Data {
        /// Whose.
        index: usize,
        /// The channel.
        channel: Name<'a>,
        /// At least one.
        bytes: &'a [u8],
    },
    /// A command has come to its end.
    Ended {
        /// Which.
        index: usize,
        /// What came of it.
        captured: &'a Captured,
    },
}

impl Parallel {
    /// With so many children at a time; 0 is taken for 1.
    pub fn new(at_most: usize) -> Self {
        Self { at_most: at_most.max(1), terms: Terms::default() }
    }

    /// How many bytes of each channel are kept. More are read, told and counted.
    /// Without this call: all.
    pub fn limit(mut self, bytes: usize) -> Self {
        self.terms.limit = bytes;
        self
    }

    /// How long each command may take, as
    /// [`Communicate::timeout`](crate::Communicate::timeout) has it.
    pub fn timeout(mut self, after: Duration, ladder: Ladder) -> Self {
        self.terms.timeout = Some((after, ladder));
        self
    }

    /// How long channels may stay open after a child's exit, as
    /// [`Communicate::drain_limit`](crate::Communicate::drain_limit) has it.
    pub fn drain_limit(mut self, limit: Duration) -> Self {
        self.terms.drain = Some(limit);
        self
    }

    /// Runs the commands; blocks until all have come to their end. The list is asked
    /// for a command when there is room for one. Of the child's 0, 1 and 2, 0 is
    /// `/dev/null` and 1 and 2 are read if nothing else is said.
    ///
    /// What comes back stands in the list's order. A command that can't be spawned
    /// keeps none of the others from it.
    ///
    /// `progress` is called from within and decides how it goes on: after a `Break`
    /// no command is started any more, so there are fewer results than commands, and
    /// those that run are stopped by the ladder, or left alone, with the time that they
    /// have, by an empty one.
    ///
    /// The error is the system's, of the poll alone. Then, or if `progress` panics,
    /// all that run are killed and reaped.
    pub fn run<'fd>(
        &self,
        commands: impl IntoIterator<Item = impl Borrow<Command<'fd>>>,
        mut progress: impl FnMut(Progress<'_>) -> ControlFlow<Ladder>,
    ) -> io::Result<Vec<Result<Captured, SpawnError>>> {
        let mut jobs = Jobs::new();
        let mut commands = Some(commands.into_iter().fuse());
        let mut results: Vec<Option<Result<Captured, SpawnError>>> = Vec::new();
        loop {
            let mut left = STARTS_PER_POLL_MAX;
            while jobs.len() < self.at_most && left > 0 {
                left -= 1;
                let Some(command) = commands.as_mut().and_then(Iterator::next) else { break };
                let index = results.len();
                let told = match command.borrow().with_stdio(read()).spawn() {
                    Ok(child) => {
                        let pid = child.id();
                        jobs.add(index, child, &self.terms, &[])?;
                        results.push(None);
                        progress(Progress::Started { index, pid, running: jobs.len() })
                    }
                    Err(error) => {
                        let told = progress(Progress::Failed { index, error: &error });
                        results.push(Some(Err(error)));
                        told
                    }
                };
                if let ControlFlow::Break(ladder) = told {
                    commands = None;
                    jobs.stop(&ladder);
                }
            }
            // There may be more to start.
            let goes_on = left == 0 && commands.is_some();
            if jobs.len() == 0 && !goes_on {
                return Ok(results.into_iter().flatten().collect());
            }
            let mut stop = None;
            jobs.turn(!goes_on, |told| {
                let told = match told {
                    Told::Data { index, channel, bytes } => {
                        progress(Progress::Data { index, channel, bytes })
                    }
                    Told::Ended { index, captured } => {
                        let told = progress(Progress::Ended { index, captured: &captured });
                        results[index] = Some(Ok(captured));
                        told
                    }
                };
                stop = told.break_value().or(stop.take());
            })?;
            if let Some(ladder) = stop {
                commands = None;
                jobs.stop(&ladder);
            }
        }
    }
}
