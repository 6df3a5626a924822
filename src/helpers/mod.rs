//! The easy way: one call that runs one command, or many, to the end.
//!
//! * [`jobs`]: children in a pump, what they are fed and what is kept. All the
//!   others are made of it.
//! * [`capture`]: the beginning of an output, and how much is missing.
//! * [`captured`]: what came of one child.
//! * [`communicate`]: a conversation with limits.
//! * [`pipeline`]: commands connected to each other.
//! * [`parallel`]: a list of commands, some at a time.
//! * [`wait`]: children without their channels.

extern crate std;

use std::io;
use std::vec::Vec;

use self::captured::Captured;
use self::jobs::{Jobs, Terms, Told};
use crate::channel::{Channel, Name};
use crate::child::{Child, Exit};
use crate::command::Command;
use crate::pump::ChannelError;

pub(crate) mod capture;
pub(crate) mod captured;
pub(crate) mod communicate;
mod jobs;
pub(crate) mod parallel;
pub(crate) mod pipeline;
pub(crate) mod wait;

/// How a command ended and what it wrote: [`Command::output`].
///
/// ```
/// use forkplan::{Command, Output};
///
/// let Output { exit, stdout, stderr, .. } =
///     Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]).output()?;
/// assert_eq!((exit.code(), &stdout[..], &stderr[..]), (Some(3), &b"out\n"[..], &b"err\n"[..]));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// What came from the channel on its fd 1. Empty if that is none we read
    /// from.
    pub stdout: Vec<u8>,
    /// What came from the channel on its fd 2. Empty if that is none we read
    /// from, or is that of 1 too.
    pub stderr: Vec<u8>,
}

/// # The easy way
///
/// Each of these calls runs the command to the end and blocks as long: until the
/// child was reaped *and* every channel of ours is closed. None starts a thread;
/// each has a [`Pump`](crate::Pump) of its own for its time. A command may be run
/// again.
///
/// Of the child's 0, 1 and 2, those that nobody has named have the call's default;
/// all else is as the command says. Channels that we read from are read to the end,
/// so no child waits for us, and those that we write to and have nothing for are
/// closed at once, but for a terminal, which can't be.
///
/// The error is the spawn's, with the [`SpawnError`](crate::SpawnError) inside, or
/// the system's for a poll or a read; then the child, if there was one, is killed
/// and reaped. A child that fails is no error, but an [`Exit`].
///
/// What others call them:
///
/// | there | here |
/// |---|---|
/// | `getProcessValue(program)` | `command.status()?.code()` |
/// | `getProcessOutput(program)` | `command.output()?.stdout` |
/// | `getProcessOutput(program, errortoo=True)` | the same with `.fd(0, Null).fds([1, 2], ReadPipe)` |
/// | `getProcessOutputAndValue(program)` | `command.output()?` |
/// | `subprocess.run(args, input=.., timeout=..)`, `communicate` | [`communicate`](Self::communicate) |
/// | `one \| two` | [`Pipeline`](crate::Pipeline) |
/// | `make -j`, `xargs -P` | [`Parallel`](crate::Parallel) |
impl<'fd> Command<'fd> {
    /// Runs the command and says how it ended. As with std, 0, 1 and 2 are the
    /// parent's if nothing else is said. What comes from a channel that we read
    /// from is dropped.
    ///
    /// ```
    /// use forkplan::Command;
    ///
    /// assert!(Command::new("true").status()?.success());
    /// assert_eq!(Command::new("sh").args(["-c", "exit 7"]).status()?.code(), Some(7));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn status(&self) -> io::Result<Exit> {
        let child = self.with_stdio(inherited()).spawn()?;
        Ok(run_one(child, &Terms { limit: 0, ..Terms::default() }, &[])?.exit)
    }

    /// Runs the command and collects what it writes. As with std, 0 is `/dev/null`
    /// and 1 and 2 are read if nothing else is said.
    ///
    /// Memory grows with what the child writes, without a limit; and a grandchild
    /// that holds a channel keeps the call waiting. [`communicate`](Self::communicate)
    /// has bounds for both, and the other channels.
    ///
    /// ```
    /// use forkplan::{Channel, Command};
    ///
    /// let output = Command::new("tr").args(["a-z", "A-Z"]).stdin(Channel::bytes("loud")).output()?;
    /// assert_eq!(output.stdout, b"LOUD");
    ///
    /// let error = Command::new("/bin/nope").output().unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// let spawn = error.get_ref().unwrap().downcast_ref::<forkplan::SpawnError>();
    /// assert_eq!(spawn.unwrap().to_string(), "execve \"/bin/nope\": No such file or directory");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn output(&self) -> io::Result<Output> {
        let child = self.with_stdio(read()).spawn()?;
        run_one(child, &Terms::default(), &[])?.into_output()
    }

    /// With these on those of 0, 1 and 2 that nobody has named.
    fn with_stdio(&self, defaults: [Channel<'fd>; 3]) -> Self {
        let mut command = self.clone();
        for ((said, default), fd) in command.stdio.iter_mut().zip(defaults).zip(0..) {
            let mapped = command.channels.iter().any(|mapped| mapped.fds.contains(&fd));
            if said.is_none() && !mapped {
                *said = Some(default);
            }
        }
        command
    }

    /// Whether there will be a channel of this name to write to.
    fn check_input(&self, name: Name<'_>) -> Result<(), ChannelError> {
        let mapped = self.channels.iter().find(|mapped| match name {
            Name::Fd(fd) => mapped.fds.contains(&fd),
            Name::Text(name) => mapped.name.as_deref() == Some(name),
        });
        let stdio = || match name {
            Name::Fd(fd) => self.stdio.get(usize::try_from(fd).ok()?)?.as_ref(),
            Name::Text(_) => None,
        };
        let channel = mapped.map(|mapped| &mapped.channel).or_else(stdio);
        let end = channel.and_then(Channel::end_info).ok_or(ChannelError::NoChannel)?;
        if end.direction.writes() { Ok(()) } else { Err(ChannelError::NotWritable) }
    }
}

/// What a command has that shares ours.
fn inherited<'fd>() -> [Channel<'fd>; 3] {
    [Channel::stdin(), Channel::stdout(), Channel::stderr()]
}

/// What a command has whose output is wanted.
fn read<'fd>() -> [Channel<'fd>; 3] {
    [Channel::Null, Channel::ReadPipe, Channel::ReadPipe]
}

fn run_one(child: Child, terms: &Terms, inputs: &[jobs::Input<'_>]) -> io::Result<Captured> {
    let mut jobs = Jobs::new();
    jobs.add(0, child, terms, inputs)?;
    loop {
        let mut captured = None;
        jobs.turn(true, |told| {
            if let Told::Ended { captured: all, .. } = told {
                captured = Some(all);
            }
        })?;
        if let Some(captured) = captured {
            return Ok(captured);
        }
    }
}
