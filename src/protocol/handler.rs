//! Who is told: handlers of a process and of its channels.

extern crate std;

use core::cell::RefCell;
use std::boxed::Box;
use std::rc::Rc;

use super::transport::{Process, Transport};
use crate::channel::Name;
use crate::child::Exit;
use crate::pump::{ChildKey, CloseReason, Event};
use crate::signal::Signal;

/// The protocol of one channel: what is done with its events.
///
/// Every method has a default that does nothing. Each gets the [`Transport`] of
/// its channel, by which it writes, closes, pauses, and reaches the rest of its
/// process; what it does there takes effect at once, and never calls a handler.
///
/// For one channel the methods are called in the order of [`Event`]: `made`
/// first, if the handler was there by then; `data` before `closed`; nothing
/// after `closed`. What came before a handler was set is not told again.
///
/// Who only wants the bytes gives a closure, as [`OnData`]; who wants lines or
/// other frames, a [`Framed`](crate::Framed). A handler may be lent (`&mut H`),
/// boxed, or shared (`Rc<RefCell<H>>`, which must not be borrowed elsewhere when
/// events are dispatched).
///
/// ```
/// use forkplan::{ChannelHandler, CloseReason, Command, Protocols, Transport};
///
/// #[derive(Default)]
/// struct Echo(usize);
///
/// impl ChannelHandler for Echo {
///     fn made(&mut self, channel: &mut Transport<'_>) {
///         let _ = channel.process().write(0, b"once around");
///     }
///     fn data(&mut self, channel: &mut Transport<'_>, bytes: &[u8]) {
///         self.0 += bytes.len();
///         if self.0 == 11 {
///             let _ = channel.process().close(0);
///         }
///     }
///     fn closed(&mut self, _: &mut Transport<'_>, reason: CloseReason, _: usize) {
///         assert_eq!(reason, CloseReason::Peer);
///     }
/// }
///
/// let mut echo = Echo::default();
/// let mut protocols = Protocols::new();
/// let cat = protocols.add(Command::new("cat").spawn()?, ());
/// protocols.on(cat, 1, &mut echo)?;
/// protocols.run()?;
/// drop(protocols);
/// assert_eq!(echo.0, 11);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handler of a channel",
    note = "a closure is one as `OnData(closure)`, or in a `Framed`"
)]
pub trait ChannelHandler {
    /// An event of the channel, or the child's [`Event::Made`]. Calls the method
    /// for it; who overrides this one gets all.
    fn event(&mut self, channel: &mut Transport<'_>, event: Event<'_>) {
        match event {
            Event::Made { .. } => self.made(channel),
            Event::Data { bytes, .. } => self.data(channel, bytes),
            Event::Fds { count, .. } => self.fds(channel, count),
            Event::TeeFailed { errno, .. } => self.tee_failed(channel, errno),
            Event::HalfClosed { .. } => self.half_closed(channel),
            Event::Drained { .. } => self.drained(channel),
            Event::Closed { reason, unsent, .. } => self.closed(channel, reason, unsent),
            Event::Idle { .. } => self.idle(channel),
            // Those of the process.
            Event::Adopted { .. }
            | Event::TimedOut { .. }
            | Event::Signalled { .. }
            | Event::Stopped { .. }
            | Event::Continued { .. }
            | Event::Exited { .. }
            | Event::Ended { .. } => {}
        }
    }

    /// The child was added. Its process's handler knows already.
    fn made(&mut self, channel: &mut Transport<'_>) {
        let _ = channel;
    }

    /// Bytes came, at least one: [`Event::Data`].
    fn data(&mut self, channel: &mut Transport<'_>, bytes: &[u8]) {
        let _ = (channel, bytes);
    }

    /// Fds came, before the bytes with which they were sent: [`Event::Fds`].
    fn fds(&mut self, channel: &mut Transport<'_>, count: usize) {
        let _ = (channel, count);
    }

    /// What is read is no longer copied to a file: [`Event::TeeFailed`].
    fn tee_failed(&mut self, channel: &mut Transport<'_>, errno: i32) {
        let _ = (channel, errno);
    }

    /// The other side writes no more: [`Event::HalfClosed`].
    fn half_closed(&mut self, channel: &mut Transport<'_>) {
        let _ = channel;
    }

    /// Who was refused bytes may write again: [`Event::Drained`].
    fn drained(&mut self, channel: &mut Transport<'_>) {
        let _ = channel;
    }

    /// It was silent for as long as was allowed: [`Event::Idle`].
    fn idle(&mut self, channel: &mut Transport<'_>) {
        let _ = channel;
    }

    /// The channel is closed: [`Event::Closed`]. The process's handler is told
    /// next.
    fn closed(&mut self, channel: &mut Transport<'_>, reason: CloseReason, unsent: usize) {
        let _ = (channel, reason, unsent);
    }
}

/// The protocol of a process: what is done with its events, and with those of
/// its channels that have no handler.
///
/// `closed` comes for each channel, after that channel's own handler was told:
/// so it is here that a channel which failed is seen. All else is as for
/// [`ChannelHandler`]; the closure is [`OnEvent`], and who wants nothing gives
/// `()`.
///
/// ```
/// use forkplan::{Command, Exit, Name, Process, ProcessHandler, Protocols};
///
/// #[derive(Default)]
/// struct Summary {
///     bytes: usize,
///     code: Option<i32>,
/// }
///
/// impl ProcessHandler for Summary {
///     fn data(&mut self, _: &mut Process<'_>, _: Name<'_>, bytes: &[u8]) {
///         self.bytes += bytes.len();
///     }
///     fn ended(&mut self, _: &mut Process<'_>, exit: Exit) {
///         self.code = exit.code();
///     }
/// }
///
/// let mut summary = Summary::default();
/// let mut protocols = Protocols::new();
/// let script = "echo four; echo four >&2; exit 3";
/// protocols.add(Command::new("sh").args(["-c", script]).spawn()?, &mut summary);
/// protocols.run()?;
/// drop(protocols);
/// assert_eq!((summary.bytes, summary.code), (10, Some(3)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handler of a process",
    note = "a closure is one as `OnEvent(closure)`, and `()` is one that wants nothing"
)]
pub trait ProcessHandler {
    /// An event. Calls the method for it; who overrides this one gets all.
    fn event(&mut self, process: &mut Process<'_>, event: Event<'_>) {
        match event {
            Event::Made { pid, .. } => self.made(process, pid),
            Event::Adopted { child, pid, .. } => self.adopted(process, child, pid),
            Event::Data { channel, bytes, .. } => self.data(process, channel, bytes),
            Event::Fds { channel, count, .. } => self.fds(process, channel, count),
            Event::TeeFailed { channel, errno, .. } => self.tee_failed(process, channel, errno),
            Event::HalfClosed { channel, .. } => self.half_closed(process, channel),
            Event::Drained { channel, .. } => self.drained(process, channel),
            Event::Closed { channel, reason, unsent, .. } => {
                self.closed(process, channel, reason, unsent);
            }
            Event::Idle { channel, .. } => self.idle(process, channel),
            Event::TimedOut { .. } => self.timed_out(process),
            Event::Signalled { signal, .. } => self.signalled(process, signal),
            Event::Stopped { signal, .. } => self.stopped(process, signal),
            Event::Continued { .. } => self.continued(process),
            Event::Exited { exit, .. } => self.exited(process, exit),
            Event::Ended { exit, .. } => self.ended(process, exit),
        }
    }

    /// The child was added: [`Event::Made`]. First of all.
    fn made(&mut self, process: &mut Process<'_>, pid: Option<u32>) {
        let _ = (process, pid);
    }

    /// A process that it, or another of its session, has left behind is a child now:
    /// [`Event::Adopted`]. Whose own events go to nobody, unless
    /// [`process.other(orphan).on_process(handler)`](Process::on_process) says to whom.
    fn adopted(&mut self, process: &mut Process<'_>, orphan: ChildKey, pid: u32) {
        let _ = (process, orphan, pid);
    }

    /// Bytes came from a channel without a handler: [`Event::Data`].
    fn data(&mut self, process: &mut Process<'_>, channel: Name<'_>, bytes: &[u8]) {
        let _ = (process, channel, bytes);
    }

    /// Fds came from a channel without a handler: [`Event::Fds`].
    fn fds(&mut self, process: &mut Process<'_>, channel: Name<'_>, count: usize) {
        let _ = (process, channel, count);
    }

    /// What is read from a channel without a handler is no longer copied to a
    /// file: [`Event::TeeFailed`].
    fn tee_failed(&mut self, process: &mut Process<'_>, channel: Name<'_>, errno: i32) {
        let _ = (process, channel, errno);
    }

    /// The other side of a channel without a handler writes no more:
    /// [`Event::HalfClosed`].
    fn half_closed(&mut self, process: &mut Process<'_>, channel: Name<'_>) {
        let _ = (process, channel);
    }

    /// A channel without a handler takes bytes again: [`Event::Drained`].
    fn drained(&mut self, process: &mut Process<'_>, channel: Name<'_>) {
        let _ = (process, channel);
    }

    /// A channel, with a handler or without, is closed: [`Event::Closed`].
    fn closed(
        &mut self,
        process: &mut Process<'_>,
        channel: Name<'_>,
        reason: CloseReason,
        unsent: usize,
    ) {
        let _ = (process, channel, reason, unsent);
    }

    /// A channel without a handler was silent for as long as was allowed:
    /// [`Event::Idle`].
    fn idle(&mut self, process: &mut Process<'_>, channel: Name<'_>) {
        let _ = (process, channel);
    }

    /// Its deadline came, and it has not exited: [`Event::TimedOut`].
    fn timed_out(&mut self, process: &mut Process<'_>) {
        let _ = process;
    }

    /// A [`Ladder`](crate::Ladder)'s signal was sent: [`Event::Signalled`].
    fn signalled(&mut self, process: &mut Process<'_>, signal: Signal) {
        let _ = (process, signal);
    }

    /// The process was stopped: [`Event::Stopped`].
    fn stopped(&mut self, process: &mut Process<'_>, signal: Signal) {
        let _ = (process, signal);
    }

    /// The process goes on: [`Event::Continued`].
    fn continued(&mut self, process: &mut Process<'_>) {
        let _ = process;
    }

    /// The process was reaped: [`Event::Exited`].
    fn exited(&mut self, process: &mut Process<'_>, exit: Exit) {
        let _ = (process, exit);
    }

    /// The process was reaped and every channel is closed: [`Event::Ended`]. The
    /// last call; handlers are dropped after it.
    fn ended(&mut self, process: &mut Process<'_>, exit: Exit) {
        let _ = (process, exit);
    }
}

/// A closure as the handler of a channel: it gets the bytes, and nothing else is
/// wanted.
///
/// ```
/// use forkplan::{Command, OnData, Protocols};
///
/// let mut said = Vec::new();
/// let mut protocols = Protocols::new();
/// let echo = protocols.add(Command::new("echo").arg("hello").spawn()?, ());
/// protocols.on(echo, 1, OnData(|_, bytes| said.extend_from_slice(bytes)))?;
/// protocols.run()?;
/// drop(protocols); // it has borrowed `said`
/// assert_eq!(said, b"hello\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
// The bound stands here, for from it the compiler has the types of the closure's
// arguments. For the same reason a closure is no handler by itself.
#[derive(Clone, Copy, Debug)]
pub struct OnData<F: FnMut(&mut Transport<'_>, &[u8])>(pub F);

impl<F: FnMut(&mut Transport<'_>, &[u8])> ChannelHandler for OnData<F> {
    fn data(&mut self, channel: &mut Transport<'_>, bytes: &[u8]) {
        (self.0)(channel, bytes);
    }
}

/// A closure as the handler of a process: it gets every event that a
/// [`ProcessHandler`] gets.
///
/// ```
/// use forkplan::{Command, Event, OnEvent, Protocols};
///
/// let mut protocols = Protocols::new();
/// protocols.add(
///     Command::new("cat").spawn()?,
///     OnEvent(|process, event| match event {
///         Event::Made { .. } => {
///             let _ = process.write(0, b"by the pump");
///             let _ = process.close(0);
///         }
///         Event::Data { bytes, .. } => assert_eq!(bytes, b"by the pump"),
///         Event::Ended { exit, .. } => assert!(exit.success()),
///         _ => {}
///     }),
/// );
/// protocols.run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct OnEvent<F: FnMut(&mut Process<'_>, Event<'_>)>(pub F);

impl<F: FnMut(&mut Process<'_>, Event<'_>)> ProcessHandler for OnEvent<F> {
    fn event(&mut self, process: &mut Process<'_>, event: Event<'_>) {
        (self.0)(process, event);
    }
}

/// Bytes are read and thrown away.
impl ChannelHandler for () {}

/// Nothing is wanted.
impl ProcessHandler for () {}

macro_rules! by_event {
    ($($of:ident => $context:ident)*) => {$(
        impl<H: $of + ?Sized> $of for &mut H {
            fn event(&mut self, context: &mut $context<'_>, event: Event<'_>) {
                (**self).event(context, event);
            }
        }

        impl<H: $of + ?Sized> $of for Box<H> {
            fn event(&mut self, context: &mut $context<'_>, event: Event<'_>) {
                (**self).event(context, event);
            }
        }

        /// Borrowed for the time of a call.
        impl<H: $of + ?Sized> $of for Rc<RefCell<H>> {
            fn event(&mut self, context: &mut $context<'_>, event: Event<'_>) {
                self.borrow_mut().event(context, event);
            }
        }
    )*};
}

by_event!(ChannelHandler => Transport ProcessHandler => Process);
