//! What a handler can do: with its channel, its process, and the others.

extern crate std;

use core::fmt;
use std::boxed::Box;
use std::vec::Vec;

use super::handler::{ChannelHandler, ProcessHandler};
use super::producer::Producer;
use crate::channel::{ChannelInfo, Name};
use crate::child::{Child, SignalError};
use crate::pump::{ChannelError, ChildKey, Pump};
use crate::signal::Signal;

/// What a handler asked for while it was called, and is done when it returns.
pub(super) enum Added {
    Process(ChildKey, Box<dyn ProcessHandler>),
    Channel(ChildKey, usize, Box<dyn ChannelHandler>),
    Producer(ChildKey, usize, Producer<'static>),
    NoProducer(ChildKey, usize),
}

/// A process, as its handlers see it while they are called.
///
/// No call blocks, and none calls a handler: events that follow from it are
/// dispatched later.
///
/// ```
/// use forkplan::{Command, Event, OnEvent, Protocols, Signal};
///
/// let mut protocols = Protocols::new();
/// protocols.add(
///     Command::new("sh").args(["-c", "echo up; exec sleep 1000"]).spawn()?,
///     OnEvent(|process, event| match event {
///         Event::Data { .. } => process.signal(Signal::TERM).unwrap(),
///         Event::Exited { exit, .. } => {
///             assert_eq!(exit.signal(), Some(Signal::TERM));
///             assert_eq!(process.id(), None);
///         }
///         _ => {}
///     }),
/// );
/// protocols.run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Process<'a> {
    pub(super) pump: &'a mut Pump,
    pub(super) added: &'a mut Vec<Added>,
    pub(super) child: ChildKey,
}

impl Process<'_> {
    /// How the pump knows it.
    pub fn key(&self) -> ChildKey {
        self.child
    }

    /// Its process id; `None` from `Exited` on.
    pub fn id(&self) -> Option<u32> {
        self.pump.child(self.child).and_then(Child::id)
    }

    /// Sends a signal, unless it was reaped.
    pub fn signal(&self, signal: impl Into<Signal>) -> Result<(), SignalError> {
        self.pump.signal(self.child, signal)
    }

    /// Writes to one of its channels; how many of the bytes were taken.
    /// [`Pump::write`].
    pub fn write<'n>(
        &mut self,
        channel: impl Into<Name<'n>>,
        bytes: &[u8],
    ) -> Result<usize, ChannelError> {
        self.pump.write(self.child, channel, bytes)
    }

    /// Closes one of its channels when what is queued is written.
    /// [`Pump::close`].
    pub fn close<'n>(&mut self, channel: impl Into<Name<'n>>) -> Result<(), ChannelError> {
        self.pump.close(self.child, channel)
    }

    /// Closes every channel of it. [`Pump::close_all`].
    pub fn close_all(&mut self) -> Result<(), ChannelError> {
        self.pump.close_all(self.child)
    }

    /// Stops reading from every channel of it. [`Pump::pause_all`].
    pub fn pause_all(&mut self) -> Result<(), ChannelError> {
        self.pump.pause_all(self.child)
    }

    /// Reads from every channel of it again. [`Pump::resume_all`].
    pub fn resume_all(&mut self) -> Result<(), ChannelError> {
        self.pump.resume_all(self.child)
    }

    /// Has another handler told of one of its channels from the next event on;
    /// who has that channel now gets no more. It owns what it uses, or shares it.
    ///
    /// # Errors
    ///
    /// There is no such channel, or it is closed.
    pub fn on<'n>(
        &mut self,
        channel: impl Into<Name<'n>>,
        handler: impl ChannelHandler + 'static,
    ) -> Result<(), ChannelError> {
        let place = self.pump.place(self.child, channel.into())?;
        self.added.push(Added::Channel(self.child, place, Box::new(handler)));
        Ok(())
    }

    /// Sets who produces what one of its channels is to write, and owns what he uses,
    /// or shares it. [`Protocols::register_producer`](crate::Protocols::register_producer),
    /// with the same errors.
    pub fn register_producer<'n>(
        &mut self,
        channel: impl Into<Name<'n>>,
        producer: Producer<'static>,
    ) -> Result<(), ChannelError> {
        let place = self.pump.set_producer(self.child, channel.into(), producer.form())?;
        self.added.push(Added::Producer(self.child, place, producer));
        Ok(())
    }

    /// Goes on without a channel's producer, which is dropped when the handler
    /// returns. [`Protocols::unregister_producer`](crate::Protocols::unregister_producer).
    pub fn unregister_producer<'n>(
        &mut self,
        channel: impl Into<Name<'n>>,
    ) -> Result<(), ChannelError> {
        let place = self.pump.unset_producer(self.child, channel.into())?;
        self.added.push(Added::NoProducer(self.child, place));
        Ok(())
    }

    /// Has another handler told of the process from the next event on; who has it now
    /// gets no more. It owns what it uses, or shares it.
    pub fn on_process(&mut self, handler: impl ProcessHandler + 'static) {
        self.added.push(Added::Process(self.child, Box::new(handler)));
    }

    /// Adds another child to the same pump, with a handler that owns what it
    /// uses, or shares it. [`Protocols::add`](crate::Protocols::add).
    pub fn add(&mut self, child: Child, handler: impl ProcessHandler + 'static) -> ChildKey {
        let key = self.pump.add(child);
        self.added.push(Added::Process(key, Box::new(handler)));
        key
    }

    /// Another child of the same pump. If there is none, or no longer, calls on
    /// it are errors.
    pub fn other(&mut self, child: ChildKey) -> Process<'_> {
        Process { pump: self.pump, added: self.added, child }
    }

    /// The pump, for whatever else it can do. Events that are taken from it here
    /// are dispatched to nobody.
    pub fn pump(&mut self) -> &mut Pump {
        self.pump
    }
}

impl fmt::Debug for Process<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("key", &self.child).field("id", &self.id()).finish()
    }
}

/// A channel, as its handler sees it while it is called.
///
/// ```
/// use forkplan::{Channel, Command, OnData, Protocols};
///
/// let mut protocols = Protocols::new();
/// let mut bc = Command::new("sh");
/// bc.args(["-c", "while read a b; do echo $((a + b)); done <&3 >&3"]);
/// bc.channel("sums", Channel::SocketPair, [3]);
/// let bc = protocols.add(bc.spawn()?, ());
/// protocols.pump_mut().write(bc, "sums", b"17 4\n")?;
/// protocols.on(bc, "sums", OnData(|channel, bytes| {
///     assert_eq!(bytes, b"21\n");
///     assert_eq!((channel.name().to_string(), channel.fds()), ("sums".into(), &[3][..]));
///     channel.close().unwrap();
/// }))?;
/// protocols.run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Transport<'a> {
    pub(super) process: Process<'a>,
    pub(super) info: &'a ChannelInfo,
}

impl<'a> Transport<'a> {
    /// How the channel is known: its name, or its first child fd.
    pub fn name(&self) -> Name<'a> {
        self.info.name()
    }

    /// The child fds that it is mapped on: what the other side knows it by.
    pub fn fds(&self) -> &'a [i32] {
        &self.info.fds
    }

    /// Writes to it; how many of the bytes were taken. [`Pump::write`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, ChannelError> {
        self.process.write(self.info.name(), bytes)
    }

    /// Closes it when what is queued is written; until then data still come.
    /// [`Pump::close`].
    pub fn close(&mut self) -> Result<(), ChannelError> {
        self.process.close(self.info.name())
    }

    /// Closes our writing half of it when what is queued is written.
    /// [`Pump::close_write`].
    pub fn close_write(&mut self) -> Result<(), ChannelError> {
        self.process.pump.close_write(self.process.child, self.info.name())
    }

    /// Closes it at once. [`Pump::abort`].
    pub fn abort(&mut self) -> Result<(), ChannelError> {
        self.process.pump.abort(self.process.child, self.info.name())
    }

    /// Gives it up, for what came can't be understood: closes it at once, with
    /// `errno` as the [reason](crate::CloseReason::Error), which the process's
    /// handler is told too. No effect if it is closed already.
    pub fn fail(&mut self, errno: i32) {
        // The one error is that there is nothing left to close.
        let _ = self.process.pump.fail(self.process.child, self.info.name(), errno);
    }

    /// Sets who produces what is written to it, and owns what he uses, or shares it.
    /// [`Protocols::register_producer`](crate::Protocols::register_producer).
    pub fn register_producer(&mut self, producer: Producer<'static>) -> Result<(), ChannelError> {
        self.process.register_producer(self.info.name(), producer)
    }

    /// Goes on without its producer, which is dropped when the handler returns. No
    /// effect if it has none.
    pub fn unregister_producer(&mut self) {
        // It fails if the child has ended, and then nothing is left to forget.
        let _ = self.process.unregister_producer(self.info.name());
    }

    /// Stops reading from it. [`Pump::pause`].
    pub fn pause(&mut self) -> Result<(), ChannelError> {
        self.process.pump.pause(self.process.child, self.info.name())
    }

    /// Reads from it again. [`Pump::resume`].
    pub fn resume(&mut self) -> Result<(), ChannelError> {
        self.process.pump.resume(self.process.child, self.info.name())
    }

    /// Whether it is not closed.
    pub fn is_open(&self) -> bool {
        self.process.pump.is_open(self.process.child, self.info.name())
    }

    /// How many bytes are queued for it. 0 if it is closed.
    pub fn queued(&self) -> usize {
        self.process.pump.queued(self.process.child, self.info.name()).unwrap_or(0)
    }

    /// The process: its other channels, signals, and what concerns the whole.
    pub fn process(&mut self) -> &mut Process<'a> {
        &mut self.process
    }
}

impl fmt::Debug for Transport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("process", &self.process)
            .field("name", &self.name())
            .field("fds", &self.fds())
            .finish()
    }
}
