//! One command, its inputs, and the bounds of what may come of it.

extern crate std;

use core::time::Duration;
use std::io;
use std::vec::Vec;

use super::captured::Captured;
use super::jobs::{Input, Terms};
use super::run_one;
use crate::channel::{Channel, Name};
use crate::command::Command;
use crate::pump::Ladder;

/// A command that is about to be run with inputs, limits and a deadline:
/// [`Command::communicate`].
///
/// All inputs are written and all channels read at the same time, whatever their
/// sizes, so neither side waits for the other for ever.
///
/// ```
/// use core::time::Duration;
/// use forkplan::{Channel::*, Command, Ladder};
///
/// let mut command = Command::new("sh");
/// command.args(["-c", "cat; cat <&3 >&4"]).stdin(WritePipe).fd(3, WritePipe).fd(4, ReadPipe);
/// let captured = command
///     .communicate("to stdin")
///     .input(3, "to 3")
///     .limit(1 << 20)
///     .timeout(Duration::from_secs(60), Ladder::terminate(Duration::from_secs(5)))
///     .run()?;
/// assert!(captured.exit.success() && !captured.timed_out);
/// assert_eq!(captured.stdout(), b"to stdin");
/// assert_eq!(captured.channel(4).unwrap().bytes, b"to 3");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing happens until it is run"]
pub struct Communicate<'fd, 'i> {
    command: Command<'fd>,
    inputs: Vec<Input<'i>>,
    terms: Terms,
}

impl<'fd> Command<'fd> {
    /// Begins a conversation: `input` is for the child's 0, and what it writes is
    /// collected, from 1, 2 and every other channel that we read from.
    ///
    /// If nothing else is said, 0 is a pipe that we write to and 1 and 2 are read.
    /// Copies the command, not the input.
    pub fn communicate<'i>(&self, input: &'i (impl AsRef<[u8]> + ?Sized)) -> Communicate<'fd, 'i> {
        let [_, stdout, stderr] = super::read();
        let command = self.with_stdio([Channel::WritePipe, stdout, stderr]);
        let talk = Communicate { command, inputs: Vec::new(), terms: Terms::default() };
        // Where 0 is somebody else's, having nothing to say to it is no mistake.
        if input.as_ref().is_empty() { talk } else { talk.input(0, input) }
    }
}

impl<'i> Communicate<'_, 'i> {
    /// What is written to a channel, which is closed after that: of a socket the
    /// writing half, and a terminal not at all. A channel without input is closed at
    /// once.
    pub fn input<'n>(
        mut self,
        channel: impl Into<Name<'n>>,
        input: &'i (impl AsRef<[u8]> + ?Sized),
    ) -> Self {
        self.inputs.push((channel.into().into(), input.as_ref()));
        self
    }

    /// How many bytes of each channel are kept. More are read, so that the child
    /// goes on, and counted. Without this call: all.
    pub fn limit(mut self, bytes: usize) -> Self {
        self.terms.limit = bytes;
        self
    }

    /// The same for one channel, whatever holds for the others.
    pub fn limit_of<'n>(mut self, channel: impl Into<Name<'n>>, bytes: usize) -> Self {
        self.terms.limits.push((channel.into().into(), bytes));
        self
    }

    /// Asks for huge pages for large outputs:
    /// [`CaptureBuffer::huge_pages`](crate::CaptureBuffer::huge_pages).
    pub fn huge_pages(mut self, prefer: bool) -> Self {
        self.terms.huge_pages = prefer;
        self
    }

    /// Stops the child by `ladder` if it has not come to its end so long after it
    /// was spawned: neither is its exit the end, nor are closed channels. What it
    /// has written is kept.
    ///
    /// Grandchildren that hold a channel are not waited for any longer then, but
    /// for what the [drain limit](Self::drain_limit) says, or a tenth of a second.
    /// With a ladder that does not end the child, the call waits until somebody else
    /// does.
    pub fn timeout(mut self, after: Duration, ladder: Ladder) -> Self {
        self.terms.timeout = Some((after, ladder));
        self
    }

    /// How long channels may stay open after the child's exit because a grandchild
    /// holds them. Without this call: until nobody does, or the time is over.
    pub fn drain_limit(mut self, limit: Duration) -> Self {
        self.terms.drain = Some(limit);
        self
    }

    /// Runs the command: blocks until the child was reaped and its channels are
    /// closed. May be called again.
    ///
    /// An input for a channel that is not there or not written to is the error
    /// [`ChannelError`](crate::ChannelError), before anything is spawned. Input that
    /// the child does not read is no error, but [told](crate::ChannelOutput::unsent).
    pub fn run(&self) -> io::Result<Captured> {
        for (name, _) in &self.inputs {
            self.command.check_input(name.get())?;
        }
        run_one(self.command.spawn()?, &self.terms, &self.inputs)
    }
}
