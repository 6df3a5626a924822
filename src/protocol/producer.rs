//! Who produces what is written to a channel, as fast as the child takes it.

extern crate std;

use core::cell::RefCell;
use core::fmt;
use std::boxed::Box;
use std::io;
use std::rc::Rc;
use std::vec;

use super::transport::Transport;
use crate::limits::HIGH_WATER;
use crate::pump::{Ask, ChannelError, Form};
use crate::sys::Errno;

/// Produces bytes when it likes, and can be told to wait: Twisted's
/// `IPushProducer`.
///
/// Each method gets the [`Transport`] of the channel that it produces for, and calls
/// as the [handlers](crate::ChannelHandler) are called: one at a time, none from
/// within another, so a write in here calls nothing. A producer begins as one that
/// is not paused. From then on `pause` and `resume` come by turns, and `stop` is
/// last.
///
/// A producer may be lent (`&mut P`), boxed, or shared (`Rc<RefCell<P>>`).
///
/// ```
/// use forkplan::{ChildKey, Command, OnData, Producer, Protocols, PushProducer, Transport};
/// use std::{cell::RefCell, rc::Rc};
///
/// /// What one child says goes to another, and waits with it.
/// struct Proxy {
///     from: ChildKey,
///     /// What was not taken.
///     rest: Vec<u8>,
/// }
///
/// impl PushProducer for Proxy {
///     fn pause(&mut self, channel: &mut Transport<'_>) {
///         let _ = channel.process().pump().pause(self.from, 1);
///     }
///     fn resume(&mut self, channel: &mut Transport<'_>) {
///         let taken = channel.write(&self.rest).unwrap_or(0);
///         self.rest.drain(..taken);
///         // Paused again, if not all was taken: that is told next.
///         let _ = channel.process().pump().resume(self.from, 1);
///     }
///     fn stop(&mut self, channel: &mut Transport<'_>) {
///         // Nobody reads any more: nor do we.
///         let _ = channel.process().pump().close(self.from, 1);
///     }
/// }
///
/// let mut count = Vec::new();
/// let mut protocols = Protocols::new();
/// let wc = protocols.add(Command::new("wc").arg("-c").spawn()?, ());
/// let head = Command::new("head").args(["-c", "1000000", "/dev/zero"]).spawn()?;
/// let head = protocols.add(head, ());
/// let proxy = Rc::new(RefCell::new(Proxy { from: head, rest: Vec::new() }));
/// protocols.register_producer(wc, 0, Producer::push(proxy.clone()))?;
/// struct Forward(ChildKey, Rc<RefCell<Proxy>>);
/// impl forkplan::ChannelHandler for Forward {
///     fn data(&mut self, channel: &mut Transport<'_>, bytes: &[u8]) {
///         let taken = channel.process().other(self.0).write(0, bytes).unwrap_or(bytes.len());
///         self.1.borrow_mut().rest.extend_from_slice(&bytes[taken..]);
///     }
///     fn closed(&mut self, channel: &mut Transport<'_>, _: forkplan::CloseReason, _: usize) {
///         // Not before all was taken: it was not read while there was a rest.
///         let _ = channel.process().other(self.0).close(0);
///     }
/// }
/// protocols.on(head, 1, Forward(wc, proxy))?;
/// protocols.on(wc, 1, OnData(|_, bytes| count.extend_from_slice(bytes)))?;
/// protocols.run()?;
/// drop(protocols);
/// assert_eq!(count, b"1000000\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(message = "`{Self}` is no push producer")]
pub trait PushProducer {
    /// A write to the channel, whoever made it, was not taken whole: wait.
    fn pause(&mut self, channel: &mut Transport<'_>);

    /// What was queued is written, or down to the channel's
    /// [low-water mark](crate::Pump::set_low_water): go on.
    fn resume(&mut self, channel: &mut Transport<'_>);

    /// The channel takes nothing any more: [`Producer`] says when. It is dropped
    /// next.
    fn stop(&mut self, channel: &mut Transport<'_>) {
        let _ = channel;
    }
}

/// Produces bytes when it is asked: Twisted's `IPullProducer`.
///
/// All else is as with [`PushProducer`].
///
/// ```
/// use forkplan::{Command, OnData, Producer, Protocols, PullProducer, Transport};
///
/// struct Countdown(u32);
///
/// impl PullProducer for Countdown {
///     fn produce(&mut self, channel: &mut Transport<'_>) {
///         match self.0 {
///             0 => channel.close().unwrap(),
///             n => {
///                 channel.write(format!("{n}\n").as_bytes()).unwrap();
///                 self.0 -= 1;
///             }
///         }
///     }
/// }
///
/// let mut said = Vec::new();
/// let mut protocols = Protocols::new();
/// let cat = protocols.add(Command::new("cat").spawn()?, ());
/// protocols.register_producer(cat, 0, Producer::pull(Countdown(3)))?;
/// protocols.on(cat, 1, OnData(|_, bytes| said.extend_from_slice(bytes)))?;
/// protocols.run()?;
/// drop(protocols);
/// assert_eq!(said, b"3\n2\n1\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no pull producer",
    note = "a reader is one as `FromReader::new(reader)`"
)]
pub trait PullProducer {
    /// There is room, and what was queued is written, or down to the channel's
    /// [low-water mark](crate::Pump::set_low_water): write one chunk. What is not
    /// taken of it (none of 65,536 bytes or less, where no mark or limit was set and
    /// nobody else writes) is kept for the next time.
    ///
    /// Called once when it was registered, and once more after each write to the
    /// channel, whoever made it; at most once a poll. So one that writes nothing is
    /// not asked again: who waits for something himself is a [`PushProducer`].
    fn produce(&mut self, channel: &mut Transport<'_>);

    /// As [`PushProducer::stop`].
    fn stop(&mut self, channel: &mut Transport<'_>) {
        let _ = channel;
    }
}

/// Who produces what a channel is to write, in one of two forms.
///
/// [`Protocols::register_producer`](crate::Protocols::register_producer) sets it for
/// a channel, which has one at most. A producer that is done closes the channel.
///
/// * When the channel takes nothing any more, `stop` is called: once, before the
///   handlers are told of `Closed`, and then the producer is dropped. That is when
///   the channel or its writing half was closed from here, by whomever, though what is
///   queued is still to be written; when the other side reads no more; and when all
///   that was so before the producer came.
/// * When it is [unregistered](crate::Protocols::unregister_producer), it is dropped and
///   not told. So it is, as handlers are, when one of its child's handlers or producers
///   has panicked, and when its child is [taken out](crate::Protocols::remove).
///
/// A close does not wait for a producer that has more. (Twisted's does, for ever if
/// nobody unregisters it.) Others may write to the channel as well; what they have
/// queued goes before what the producer writes next.
///
/// ```
/// use forkplan::{Command, FromReader, OnData, Producer, Protocols};
///
/// // Streams a file to a child that reads it as fast as it likes.
/// let file = std::fs::File::open("/etc/passwd")?;
/// let mut back = Vec::new();
/// let mut protocols = Protocols::new();
/// let cat = protocols.add(Command::new("cat").spawn()?, ());
/// protocols.register_producer(cat, 0, Producer::pull(FromReader::new(file)))?;
/// protocols.on(cat, 1, OnData(|_, bytes| back.extend_from_slice(bytes)))?;
/// protocols.run()?;
/// drop(protocols);
/// assert_eq!(back, std::fs::read("/etc/passwd")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Producer<'p>(Kind<'p>);

enum Kind<'p> {
    Push(Box<dyn PushProducer + 'p>),
    Pull(Box<dyn PullProducer + 'p>),
}

impl<'p> Producer<'p> {
    /// One that produces when it likes, and can be paused. Allocates.
    pub fn push(producer: impl PushProducer + 'p) -> Self {
        Self(Kind::Push(Box::new(producer)))
    }

    /// One that produces when it is asked. Allocates.
    pub fn pull(producer: impl PullProducer + 'p) -> Self {
        Self(Kind::Pull(Box::new(producer)))
    }

    pub(super) fn form(&self) -> Form {
        match self.0 {
            Kind::Push(_) => Form::Push,
            Kind::Pull(_) => Form::Pull,
        }
    }

    pub(super) fn tell(&mut self, ask: Ask, channel: &mut Transport<'_>) {
        match (&mut self.0, ask) {
            (Kind::Push(producer), Ask::Pause) => producer.pause(channel),
            (Kind::Push(producer), Ask::Resume) => producer.resume(channel),
            (Kind::Push(producer), Ask::Stop) => producer.stop(channel),
            (Kind::Pull(producer), Ask::Resume) => producer.produce(channel),
            (Kind::Pull(producer), Ask::Stop) => producer.stop(channel),
            // It is never paused.
            (Kind::Pull(_), Ask::Pause) => {}
        }
    }
}

impl fmt::Debug for Producer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Producer").field(&self.form()).finish()
    }
}

/// A reader as a producer: what it has is written to the channel, 64 KiB at a time,
/// and the channel's writing half is closed at its end (of a
/// [`Pty`](crate::Pty), of which the end of the input is a character, nothing is).
/// Allocates a buffer of that size.
///
/// It reads when it is asked, in the middle of [`dispatch`](crate::Protocols::dispatch),
/// which **blocks** as long as the reader does: for a file on a disk not for long, for
/// a pipe or a socket as long as nothing comes. A read that fails gives the channel
/// up, as [`Transport::fail`] does, with its errno, or `EIO` if it has none.
///
/// ```
/// use forkplan::{Command, FromReader, OnData, Producer, Protocols};
///
/// let mut count = Vec::new();
/// let zeros = std::io::Read::take(std::io::repeat(0), 10_000_000);
/// let mut protocols = Protocols::new();
/// let wc = protocols.add(Command::new("wc").arg("-c").spawn()?, ());
/// protocols.register_producer(wc, 0, Producer::pull(FromReader::new(zeros)))?;
/// protocols.on(wc, 1, OnData(|_, bytes| count.extend_from_slice(bytes)))?;
/// protocols.run()?;
/// drop(protocols);
/// assert_eq!(count, b"10000000\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FromReader<R> {
    reader: R,
    buffer: Box<[u8]>,
    /// What was read and not taken lies here.
    rest: core::ops::Range<usize>,
}

impl<R: io::Read> FromReader<R> {
    /// Reads nothing yet.
    pub fn new(reader: R) -> Self {
        Self { reader, buffer: vec![0; HIGH_WATER].into(), rest: 0..0 }
    }
}

impl<R: io::Read> PullProducer for FromReader<R> {
    fn produce(&mut self, channel: &mut Transport<'_>) {
        while self.rest.is_empty() {
            match self.reader.read(&mut self.buffer) {
                Ok(0) => {
                    if channel.close_write().is_err() {
                        channel.unregister_producer();
                    }
                    return;
                }
                Ok(len) => self.rest = 0..len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
                    return channel.fail(errno);
                }
            }
        }
        match channel.write(&self.buffer[self.rest.clone()]) {
            Ok(taken) => self.rest.start += taken,
            // Of a socket with a small buffer: no later one is shorter.
            Err(ChannelError::MessageTooLong) => channel.fail(Errno::MSGSIZE.raw_os_error()),
            // Closed, as `stop` tells next.
            Err(_) => {}
        }
    }
}

impl<R> fmt::Debug for FromReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromReader").field("rest", &self.rest.len()).finish_non_exhaustive()
    }
}

macro_rules! also_by_reference {
    ($($of:ident { $($told:ident)* })*) => {$(
        impl<P: $of + ?Sized> $of for &mut P {
            $(fn $told(&mut self, channel: &mut Transport<'_>) {
                (**self).$told(channel);
            })*
        }

        impl<P: $of + ?Sized> $of for Box<P> {
            $(fn $told(&mut self, channel: &mut Transport<'_>) {
                (**self).$told(channel);
            })*
        }

        /// Borrowed for the time of a call.
        impl<P: $of + ?Sized> $of for Rc<RefCell<P>> {
            $(fn $told(&mut self, channel: &mut Transport<'_>) {
                self.borrow_mut().$told(channel);
            })*
        }
    )*};
}

also_by_reference!(PushProducer { pause resume stop } PullProducer { produce stop });
