//! What the pump tells and what it refuses.

extern crate std;

use std::{fmt, io};

use crate::channel::Name;
use crate::child::Exit;
use crate::signal::Signal;

/// A child in a pump: its place and which of the children that were there.
/// Never names another child of that pump, even when that one has the same
/// place. It means nothing to another pump, which can't tell it from its own.
///
/// ```
/// use std::collections::HashMap;
/// use forkplan::{ChildKey, Command, Event, Pump};
///
/// let mut pump = Pump::new();
/// let mut names: HashMap<ChildKey, &str> = HashMap::new();
/// for name in ["true", "false"] {
///     names.insert(pump.add(Command::new(name).spawn()?), name);
/// }
/// while !pump.is_empty() {
///     pump.poll(None)?;
///     while let Some(event) = pump.next_event() {
///         if let Event::Ended { child, exit } = event {
///             assert_eq!(exit.success(), names[&child] == "true");
///         }
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChildKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// What happened to a child.
///
/// For one child: `Made` is first and `Ended` last, each once; an orphan's first is
/// `Adopted`, and `NotStarted` is first and last. A channel's
/// `Data` precede its `Closed`, which comes once. `Exited` comes when the
/// process is reaped, whatever is still open: a grandchild that holds a channel
/// delays `Ended` alone. No order is promised between channels, nor between
/// `Exited` and the channels' events.
///
/// ```
/// use forkplan::{Channel::*, Command, Event, Pump};
///
/// let mut pump = Pump::new();
/// pump.add(Command::new("echo").arg("hi").channel("said", ReadPipe, [1]).spawn()?);
/// let mut told = Vec::new();
/// while !pump.is_empty() {
///     pump.poll(None)?;
///     while let Some(event) = pump.next_event() {
///         told.push(match event {
///             Event::Made { .. } => "made".to_string(),
///             Event::Data { channel, bytes, .. } => format!("{channel}: {}", bytes.len()),
///             Event::Closed { channel, .. } => format!("{channel} closed"),
///             Event::Exited { exit, .. } => exit.to_string(),
///             Event::Ended { .. } => "ended".to_string(),
///             _ => unreachable!("neither sockets nor queues here"),
///         });
///     }
/// }
/// assert_eq!(told[0], "made");
/// assert_eq!(told[4], "ended");
/// // When the exit comes among these two, nobody can say.
/// told.retain(|event| event.starts_with("said"));
/// assert_eq!(told, ["said: 3", "said closed"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The child was added, or has come to its program after a
    /// [start](super::Pump::start).
    Made {
        /// The child.
        child: ChildKey,
        /// Its process id, until `Exited`. `None` if it was reaped before it
        /// came here, or [has no process](super::Pump::attach).
        pid: Option<u32>,
    },
    /// A process that a child has left behind is a child now:
    /// [`Pump::adopt_orphans`](super::Pump::adopt_orphans). It has no channels.
    Adopted {
        /// The orphan.
        child: ChildKey,
        /// The child that leads, or led, its session. It may have ended.
        leader: ChildKey,
        /// Its process id, until `Exited`.
        pid: u32,
    },
    /// Bytes came from a channel: at least one, or one message, which may be
    /// empty. They lie in the pump's buffer until its next call.
    Data {
        /// The child.
        child: ChildKey,
        /// The channel.
        channel: Name<'a>,
        /// What the child wrote.
        bytes: &'a [u8],
    },
    /// Fds came from a channel of which they are
    /// [received](super::Pump::receive_fds); [`take_fds`](super::Pump::take_fds)
    /// has them. The `Data` with which they came is this channel's next.
    Fds {
        /// The child.
        child: ChildKey,
        /// The channel.
        channel: Name<'a>,
        /// How many came.
        count: usize,
    },
    /// The other side of a socket pair or of a duplex writes no more, or somebody
    /// has typed the end of file at a terminal. We still may.
    HalfClosed {
        /// The child.
        child: ChildKey,
        /// The channel.
        channel: Name<'a>,
    },
    /// A channel took fewer bytes than it was given, or somebody has
    /// [asked](super::Pump::notify_drained), and now its queue is
    /// empty, or at its [low-water mark](super::Pump::set_low_water).
    Drained {
        /// The child.
        child: ChildKey,
        /// The channel.
        channel: Name<'a>,
    },
    /// What was read from a channel could not be written to its
    /// [tee](super::Pump::tee), which is closed. A part of the `Data` before this
    /// may be in it; that and all that follow are told as without a tee.
    TeeFailed {
        /// The child.
        child: ChildKey,
        /// The channel.
        channel: Name<'a>,
        /// Why.
        errno: i32,
    },
    /// A channel is closed: the last event of it.
    Closed {
        /// The child.
        child: ChildKey,
        /// The channel.
        channel: Name<'a>,
        /// Who closed it.
        reason: CloseReason,
        /// Bytes that were taken and never written.
        unsent: usize,
    },
    /// A channel was silent for as long as
    /// [`set_idle_limit`](super::Pump::set_idle_limit) says.
    Idle {
        /// The child.
        child: ChildKey,
        /// The channel.
        channel: Name<'a>,
    },
    /// The child's [deadline](super::Pump::set_deadline) came, and it has not
    /// exited.
    TimedOut {
        /// The child.
        child: ChildKey,
    },
    /// A [`Ladder`](super::Ladder)'s signal was sent.
    Signalled {
        /// The child.
        child: ChildKey,
        /// The signal.
        signal: Signal,
    },
    /// The process was stopped, and was found so at a poll:
    /// [`Pump::watch_stops`](super::Pump::watch_stops).
    Stopped {
        /// The child.
        child: ChildKey,
        /// By which signal.
        signal: Signal,
    },
    /// The process goes on after a stop:
    /// [`Pump::watch_stops`](super::Pump::watch_stops).
    Continued {
        /// The child.
        child: ChildKey,
    },
    /// The process ended and was reaped.
    Exited {
        /// The child.
        child: ChildKey,
        /// How.
        exit: Exit,
    },
    /// The process, if there is one, was reaped and every channel is closed. The key names
    /// nobody any more.
    Ended {
        /// The child.
        child: ChildKey,
        /// How the process ended: unknown, if there was none.
        exit: Exit,
    },
    /// A [start](super::Pump::start) has failed: the only event of it. No process is
    /// left, and the key names nobody any more, but for
    /// [`take_spawn_error`](super::Pump::take_spawn_error) and
    /// [`take_prepared`](super::Pump::take_prepared), until the next event is asked for.
    NotStarted {
        /// What was to be the child.
        child: ChildKey,
    },
}

impl Event<'_> {
    /// The child that this is about: of `Adopted` the orphan.
    pub fn child(&self) -> ChildKey {
        match *self {
            Self::Made { child, .. }
            | Self::Adopted { child, .. }
            | Self::Data { child, .. }
            | Self::Fds { child, .. }
            | Self::HalfClosed { child, .. }
            | Self::Drained { child, .. }
            | Self::TeeFailed { child, .. }
            | Self::Closed { child, .. }
            | Self::Idle { child, .. }
            | Self::TimedOut { child }
            | Self::Signalled { child, .. }
            | Self::Stopped { child, .. }
            | Self::Continued { child }
            | Self::NotStarted { child }
            | Self::Exited { child, .. }
            | Self::Ended { child, .. } => child,
        }
    }
}

/// Who closed a channel.
///
/// ```
/// use forkplan::{CloseReason, Command, Event, Pump};
///
/// let mut pump = Pump::new();
/// let cat = pump.add(Command::new("cat").spawn()?);
/// pump.close(cat, 0)?;
/// while !pump.is_empty() {
///     pump.poll(None)?;
///     while let Some(event) = pump.next_event() {
///         if let Event::Closed { channel, reason, .. } = event {
///             let by_us = channel == 0.into();
///             assert_eq!(reason, if by_us { CloseReason::Us } else { CloseReason::Peer });
///         }
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The other side: every process that had it has closed it or ended.
    Peer,
    /// [`Pump::close`](super::Pump::close) and its like, when what was queued was
    /// written, or [`Pump::abort`](super::Pump::abort).
    Us,
    /// The time that a channel may stay open after the exit was over:
    /// [`Pump::set_drain_limit`](super::Pump::set_drain_limit). What lay in it then
    /// was told before; what comes later is lost.
    Abandoned,
    /// A read or write failed with this errno; or a handler gave the channel up
    /// with it, by [`Transport::fail`](crate::Transport::fail).
    Error(i32),
}

/// Why the pump did not do what it was asked.
///
/// ```
/// use forkplan::{ChannelError, Command, Pump};
///
/// let mut pump = Pump::new();
/// let cat = pump.add(Command::new("cat").spawn()?);
/// assert_eq!(pump.write(cat, 7, b"x"), Err(ChannelError::NoChannel));
/// assert_eq!(pump.write(cat, 1, b"x"), Err(ChannelError::NotWritable));
/// pump.close(cat, 0)?;
/// assert_eq!(pump.write(cat, 0, b"x"), Err(ChannelError::Closed));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChannelError {
    /// The key names no child: it has ended.
    NoChild,
    /// The child has no channel of this name with an end of ours.
    NoChannel,
    /// The key is that of attached channels, which have no process.
    NoProcess,
    /// The channel is closed, or will be when its queue is written.
    Closed,
    /// The channel is not one that we write to.
    NotWritable,
    /// The channel is not one that we read from.
    NotReadable,
    /// The channel is a terminal, which can't be closed by halves.
    NoHalfClose,
    /// The channel is no terminal.
    NotATerminal,
    /// The message is longer than the socket's send buffer lets it be.
    MessageTooLong,
    /// The channel is no socket, so no fds go through it.
    NoSocket,
    /// More than 253 fds for one message, or fds without a byte to go with.
    BadFdCount,
    /// The tee is no regular file.
    NoFile,
    /// The channel has a [producer](crate::Producer), and one is the most.
    HasProducer,
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoChild => "no such child in this pump",
            Self::NoProcess => "attached channels have no process",
            Self::NoChannel => "the child has no such channel",
            Self::Closed => "the channel is closed",
            Self::NotWritable => "the channel can't be written to from this side",
            Self::NotReadable => "the channel can't be read from on this side",
            Self::NoHalfClose => "a terminal can't be closed by halves",
            Self::NotATerminal => "the channel is not a terminal",
            Self::MessageTooLong => "the message is longer than the channel can send",
            Self::NoSocket => "the channel is no socket, which alone carries fds",
            Self::NoFile => "a tee is a regular file, which this is not",
            Self::HasProducer => "the channel has a producer already",
            Self::BadFdCount => "fds want a byte to go with, and 253 is the most at once",
        })
    }
}

impl core::error::Error for ChannelError {}

impl From<ChannelError> for io::Error {
    fn from(error: ChannelError) -> Self {
        let kind = match error {
            ChannelError::NoChild | ChannelError::NoChannel => io::ErrorKind::NotFound,
            ChannelError::Closed => io::ErrorKind::BrokenPipe,
            _ => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}
