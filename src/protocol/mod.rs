//! Handlers for processes and channels in place of a loop over events.
//!
//! * [`handler`]: who is told.
//! * [`producer`]: who produces what is written.
//! * [`transport`]: what he can do about it.
//! * [`calls`]: one call of a handler, and what becomes of one that panics.
//! * [`failure`]: what the dispatcher reports.
//! * [`framing`]: from bytes to frames.

extern crate std;

use core::fmt;
use std::boxed::Box;
use std::io;

use self::calls::Calls;
use crate::channel::Name;
use crate::child::Child;
use crate::pump::{ChannelError, ChildKey, Lent, Pump, Removed};

mod calls;
mod failure;
mod framing;
mod handler;
mod producer;
mod transport;

pub use self::failure::{HandlerPanic, RunError};
pub use self::framing::{
    Frame, FrameError, Framed, Framing, LengthPrefixed, Lines, Prefix, PrefixTooSmall,
};
pub use self::handler::{ChannelHandler, OnData, OnEvent, ProcessHandler};
pub use self::producer::{FromReader, Producer, PullProducer, PushProducer};
pub use self::transport::{Process, Transport};

/// A pump whose events go to handlers: one for each process, and one for each
/// channel that wants its own.
///
/// The caller drives, as he drives the [`Pump`]: [`poll`](Pump::poll) it, then
/// [`dispatch`](Self::dispatch). Or all at once: [`run`](Self::run).
///
/// * A channel's events go to its handler; those of channels without one, and
///   all that concerns the process, to the process's. `Made` goes to all of the
///   child's handlers, the process's first; `Closed` to the channel's, then to
///   the process's. The order is the [pump's](crate::Event).
/// * A handler is called with bytes that nobody has copied, and acts on the pump
///   at once. One handler is called at a time, and none from within another.
/// * Handlers may borrow what lives longer than this (`'h`), and it is free again
///   when this is dropped. Those that are set from a callback own what they use,
///   or share it (`Rc`).
/// * All handlers of a child are dropped after its `Ended`.
/// * What a channel is to write may come from a [`Producer`], as fast as the other
///   side takes it.
///
/// # A handler that panics
///
/// does not take the others along. The panic is caught, and that child is torn
/// down: no handler of its is called again, and all are dropped; its channels
/// are closed at once; it is killed if its [`OnDrop`](crate::OnDrop) says so, and
/// reaped when it ends. The payload is kept for [`take_panic`](Self::take_panic).
/// (A program that is built to abort on panics aborts.)
///
/// ```
/// use forkplan::{Channel::*, Command, Exit, Framed, Lines, Process, ProcessHandler, Protocols};
///
/// struct Report<'h>(&'h mut Option<i32>);
///
/// impl ProcessHandler for Report<'_> {
///     fn ended(&mut self, _: &mut Process<'_>, exit: Exit) {
///         *self.0 = exit.code();
///     }
/// }
///
/// let (mut code, mut lines) = (None, Vec::new());
/// let mut protocols = Protocols::new();
/// let mut command = Command::new("sh");
/// command.args(["-c", "echo one >&4; echo two >&4; exit 7"]).channel("log", ReadPipe, [4]);
/// let sh = protocols.add(command.spawn()?, Report(&mut code));
/// protocols.on(sh, "log", Framed::new(Lines::new(1024), |_, line| {
///     lines.push(String::from_utf8_lossy(line.bytes).into_owned());
/// }))?;
/// protocols.run()?; // blocks until all have ended
/// drop(protocols);
/// assert_eq!(code, Some(7));
/// assert_eq!(lines, ["one", "two"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Protocols<'h> {
    /// Apart from the rest, for handlers are lent from it while they use that.
    lent: Lent,
    calls: Calls<'h>,
}

impl<'h> Protocols<'h> {
    /// A new pump, without children. Allocates its buffer, and another one like it
    /// that handlers are lent.
    pub fn new() -> Self {
        Pump::new().into()
    }

    /// Takes a child, as [`Pump::add`] does, and its process's handler.
    pub fn add(&mut self, child: Child, handler: impl ProcessHandler + 'h) -> ChildKey {
        let key = self.calls.pump.add(child);
        self.on_process(key, handler);
        key
    }

    /// Sets the handler of a process that is in the pump, or another one. What is
    /// told of a process without is thrown away. No effect if the child has ended, or
    /// was torn down.
    pub fn on_process(&mut self, child: ChildKey, handler: impl ProcessHandler + 'h) {
        self.calls.set_process(child, Box::new(handler));
    }

    /// Sets a channel's handler, or another one.
    ///
    /// # Errors
    ///
    /// There is no such child or channel, or the channel is closed.
    pub fn on<'n>(
        &mut self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
        handler: impl ChannelHandler + 'h,
    ) -> Result<(), ChannelError> {
        let place = self.calls.pump.place(child, channel.into())?;
        self.calls.set_channel(child, place, Box::new(handler));
        Ok(())
    }

    /// Sets who produces what a channel is to write: [`Producer`] says until when, and
    /// [`PushProducer`] and [`PullProducer`] what he is told, from the next dispatch
    /// on. If the channel takes nothing any more, that is to stop.
    ///
    /// # Errors
    ///
    /// There is no such child or channel, it is not one that we write to, or it has
    /// a producer already. He is dropped then, untold.
    pub fn register_producer<'n>(
        &mut self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
        producer: Producer<'h>,
    ) -> Result<(), ChannelError> {
        let place = self.calls.pump.set_producer(child, channel.into(), producer.form())?;
        self.calls.set_producer(child, place, Some(producer));
        Ok(())
    }

    /// Goes on without a channel's producer, which is dropped untold; the channel
    /// stays open. No error if it has none.
    ///
    /// # Errors
    ///
    /// There is no such child or channel.
    pub fn unregister_producer<'n>(
        &mut self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
    ) -> Result<(), ChannelError> {
        let place = self.calls.pump.unset_producer(child, channel.into())?;
        self.calls.set_producer(child, place, None);
        Ok(())
    }

    /// Takes a child out, as [`Pump::remove`] does, with its errors. Its handlers and
    /// producers are dropped, untold. (Those of a child that was taken out by a handler
    /// are when that returns, and by [`pump_mut`](Self::pump_mut) at the next dispatch.)
    ///
    /// ```
    /// use forkplan::{Command, OnEvent, Protocols};
    ///
    /// let mut protocols = Protocols::new();
    /// let cat = Command::new("cat").spawn()?;
    /// let cat = protocols.add(cat, OnEvent(|_, _| unreachable!("nothing was dispatched")));
    /// let mut child = protocols.remove(cat)?.child;
    /// drop(child.take(0)); // it reads the end of file
    /// assert!(child.wait()?.success());
    /// protocols.run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove(&mut self, child: ChildKey) -> io::Result<Removed> {
        let removed = self.calls.pump.remove(child);
        self.calls.forget_removed();
        removed
    }

    /// Calls handlers for all that the pump has to tell, until it has to be
    /// polled. Does not block. How many events, and calls of producers, that were.
    ///
    /// As much work as [`Pump::next_event`] does until it has none, and what the
    /// handlers do.
    pub fn dispatch(&mut self) -> usize {
        let mut told = 0;
        while self.dispatch_one() {
            told += 1;
        }
        told
    }

    /// Calls the handlers for one event, or a producer once. Does not block. `false`: there was none.
    pub fn dispatch_one(&mut self) -> bool {
        let Self { lent, calls } = self;
        calls.forget_removed();
        let Some((news, channel)) = calls.pump.next_lent(lent) else { return false };
        calls.route(news, channel);
        true
    }

    /// Polls and dispatches until every child has ended. **Blocks** as long as
    /// that takes.
    ///
    /// # Errors
    ///
    /// The poll failed; then nothing was torn down, and it may be called again.
    /// Or a handler has panicked, now or before; that is said when all have
    /// ended, and the payload stays for [`take_panic`](Self::take_panic).
    pub fn run(&mut self) -> Result<(), RunError> {
        loop {
            self.dispatch();
            if self.calls.pump.is_empty() {
                break;
            }
            self.calls.pump.poll(None).map_err(RunError::Poll)?;
        }
        self.calls.panics.front().map_or(Ok(()), |panic| Err(RunError::panicked(panic)))
    }

    /// The panic of a handler that was caught and not taken yet, the oldest one.
    ///
    /// They are kept until they are taken: one for each child at most, and one
    /// more for each value that panics while it is dropped.
    pub fn take_panic(&mut self) -> Option<HandlerPanic> {
        self.calls.panics.pop_front()
    }

    /// The pump.
    pub fn pump(&self) -> &Pump {
        &self.calls.pump
    }

    /// The pump: to poll it, or to act on children from outside their handlers.
    /// Events that are taken from it by hand are dispatched to nobody.
    pub fn pump_mut(&mut self) -> &mut Pump {
        &mut self.calls.pump
    }

    /// The pump, with its children. Handlers and producers are dropped, untold.
    pub fn into_pump(mut self) -> Pump {
        self.calls.pump.unset_producers();
        self.calls.pump
    }
}

/// A pump as it is. Its children have no handlers yet.
impl From<Pump> for Protocols<'_> {
    fn from(pump: Pump) -> Self {
        Self { lent: pump.lent(), calls: Calls::new(pump) }
    }
}

impl Default for Protocols<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Protocols<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protocols")
            .field("pump", &self.calls.pump)
            .field("panics", &self.calls.panics)
            .finish_non_exhaustive()
    }
}
