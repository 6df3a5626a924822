//! Process spawning for event loops, supervisors, build systems, terminals,
//! test runners and sandboxes: low-level, synchronous, without a runtime, a
//! thread or a signal handler.
//!
//! *Everything that a new process needs is decided before the fork, written
//! down as a fixed array of syscalls, and carried out by a child that can do
//! nothing else; then the caller, and nobody else, drives the pump.*
//!
//! # The way through
//!
//! A [`Command`] says what is wanted. [`Command::prepare`] checks it and works
//! out all that can be known before: [`Prepared`], which spawns again and again
//! without allocation. [`Prepared::open`] opens one spawn's channels; the
//! [`Plan`] is complete then, and prints itself. [`Opened::spawn`] has the child
//! carry it out and gives a [`Child`], or the step that failed. A [`Pump`] moves
//! the bytes of any number of children and tells their [`Event`]s.
//!
//! ```
//! use forkplan::{Channel::*, Command, Event, Pump};
//!
//! let mut prepared = Command::new("/bin/sh")
//!     .args(["-c", "read name <&3; echo hello $name"])
//!     .fd(1, ReadPipe)
//!     .fd(3, WritePipe)
//!     .prepare()?;
//! let opened = prepared.open()?;
//! println!("{}", opened.plan()); // numbered syscalls, as the child makes them
//!
//! let mut pump = Pump::new();
//! let sh = pump.add(opened.spawn()?);
//! pump.write(sh, 3, b"world\n")?;
//! let mut said = Vec::new();
//! while !pump.is_empty() {
//!     pump.poll(None)?; // waits: the one call that blocks
//!     while let Some(event) = pump.next_event() {
//!         match event {
//!             Event::Data { bytes, .. } => said.extend_from_slice(bytes),
//!             Event::Ended { exit, .. } => assert!(exit.success()),
//!             _ => {}
//!         }
//!     }
//! }
//! assert_eq!(said, b"hello world\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Child fds
//!
//! Any of the child's fds may be connected to any [`Channel`]: a pipe that the
//! parent reads or writes, a socket pair with or without message boundaries, a
//! terminal, a named pipe, a file that the parent or the child opens, bytes from
//! memory, the null device, any fd of the parent's, lent or given away, or a pipe to
//! another child. One channel may be on several fds; 0, 1 and 2 are like all
//! others. The [solver](plan::FdMap) finds the cheapest `dup2`s for any map,
//! permutations included, and is of use alone. What nobody named is closed.
//!
//! # Setup steps
//!
//! Directories, root, ids, session and terminal, limits, signals, namespaces,
//! filters: what a child sets up before its program is a step each, which the plan
//! shows and an error names. [`steps`] lists them all, beside the words that others
//! have for them.
//!
//! # Handlers in place of a loop
//!
//! Who would rather be called than ask gives a child to [`Protocols`]: a pump with
//! a handler for each process, and one for each channel that wants its own. A
//! handler is a value with methods ([`ProcessHandler`], [`ChannelHandler`]) or a
//! closure ([`OnEvent`], [`OnData`], or [`Framed`] for lines and other frames). It
//! writes, closes, pauses, signals and adds children while it is called. One that
//! panics takes its own child down and no other. What is written may come from a
//! [`Producer`], as fast as the child takes it.
//!
//! ```
//! use forkplan::{Channel::*, Command, Framed, Lines, OnData, Protocols};
//!
//! let (mut status, mut said) = (Vec::new(), Vec::new());
//! let mut command = Command::new("sh");
//! command.args(["-c", "echo GOOD >&5; echo data"]);
//! command.fd(1, ReadPipe).channel("status", ReadPipe, [5]);
//!
//! let mut protocols = Protocols::new();
//! let sh = protocols.add(command.spawn()?, ());
//! protocols.on(sh, 1, OnData(|_, bytes| said.extend_from_slice(bytes)))?;
//! protocols.on(sh, "status", Framed::new(Lines::new(80), |_, line| {
//!     status.push(line.bytes.to_vec());
//! }))?;
//! protocols.run()?; // waits, until all have ended
//! drop(protocols);
//! assert_eq!((&said[..], &status[..]), (&b"data\n"[..], &[b"GOOD".to_vec()][..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # In a loop of another's
//!
//! A program that has a loop has it wait for the pump as well. [`EmbeddedPump`] is
//! one fd for all children: *when the fd is ready, poll with a timeout of zero, and
//! drain*. With [`Backend::Foreign`] the loop watches each channel and process
//! itself: *before each wait: events, then [changes](Change), then
//! [`next_deadline`](Pump::next_deadline)*. The README says what serves in which
//! loop, with an example for poll(2), epoll, mio, polling, calloop, tokio, async-io
//! and io_uring.
//!
//! # The easy way
//!
//! Who has no loop calls one function: [`Command::status`], [`Command::output`], or
//! [`Command::communicate`] with inputs for any channel, limits and a deadline. A
//! [`Pipeline`] connects commands, [`Parallel`] runs a list of them, so many at a
//! time, [`wait_all`] and [`wait_any`] wait for children that were spawned. These
//! block until the work is done.
//!
//! ```
//! use forkplan::Command;
//!
//! let output = Command::new("echo").arg("hello").output()?;
//! assert_eq!(output.stdout, b"hello\n");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # The far side
//!
//! A program that was started with more than 0, 1 and 2, by this crate or by a
//! service manager, takes them by [`Inherited`]: each once, checked to be what it
//! should be, close-on-exec from then on. [`Pump::attach`] serves them beside
//! children and never changes a flag that the other side would see; `LISTEN_FDS` is
//! understood.
//!
//! ```
//! use forkplan::{FdKind, Inherited, InheritedError, Pump};
//!
//! fn main() -> Result<(), InheritedError> {
//!     // SAFETY: first thing in main: nobody has taken or opened an fd.
//!     let mut inherited = unsafe { Inherited::new() }?;
//!     let mut pump = Pump::new();
//!     match inherited.end(3, FdKind::STREAM) {
//!         Ok(control) => drop(pump.attach([control.named("control")])),
//!         // fd 3 is not open
//!         Err(why) => eprintln!("started without a control channel: {why}"),
//!     }
//!     Ok(())
//! }
//! ```
//!
//! What becomes an fd of std's, and what may be made of one: [`conversions`].
//!
//! # What can be relied on
//!
//! * **An error means nothing happened.** No process, zombie, fd or pidfd is
//!   left of a spawn that failed, and the error names the step, what it
//!   concerned and the errno: `dup2 7 -> 3: Bad file descriptor`, and in types, as
//!   its [`Step`](plan::Step) and [`Subject`].
//! * **Success means that the program was reached.** A child that is killed on
//!   its way there is an error, not a program that started.
//! * **One owner.** Nothing here waits for any child but its own (and, where
//!   [asked](Pump::adopt_orphans), those that they have left behind), installs a
//!   handler, changes a disposition, or starts a thread. Other code that waits
//!   for all children costs the exit status at worst, never a hang.
//! * **CLOEXEC from birth.** No fd made here leaks into a program that another
//!   thread starts. `O_NONBLOCK` is set only on ends that a pump keeps, never
//!   on the child's side.
//! * **Only what is asked for blocks**: a spawn until the program is reached,
//!   [`Child::wait`] and its like, [`Protocols::run`], the calls of the easy way, and
//!   [`Pump::poll`] as long as its timeout says.
//!
//! # How it spawns
//!
//! On Linux (x86-64, aarch64) a child shares the parent's memory until exec, on
//! a stack of its own with all signals blocked, and takes its own fd table as
//! its first step; so the cost does not grow with the parent's memory. Where
//! that can't be had (other systems, emulators, old kernels, filters) the same
//! plan is carried out by a fork. One probe chooses; [`Features`] says what was
//! found, and [`Command::without`] and [`Command::require`] choose otherwise.
//!
//! The fd table is copied only as far as the child needs it; a program with
//! thousands of open fds makes a [`Launcher`] early, which holds low numbers for
//! that.
//!
//! Between fork and exec the child walks the plan and makes the syscalls that
//! it names. It can't allocate, take a lock or panic: that code lives in rooms
//! without `std` and `alloc`.
//!
//! The threads' usual caveat holds: the calling thread is stopped until the
//! program is reached, so a program on a hung network file system stops it.
//! Other threads run on, and no lock is held.
#![no_std]
#![warn(clippy::std_instead_of_core)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod channel;
mod child;
mod command;
mod helpers;
mod inherited;
mod limits;
pub mod plan;
mod postfork;
mod protocol;
mod pump;
mod signal;
mod spawn;
mod sys;

pub use crate::channel::{
    Attributes, Channel, ControlCharacter, Direction, End, EndError, FileInChild, GivenFd,
    InputBytes, Name, NamedPipe, Open, OpenFile, PassedFd, Pty, Terminal, WindowSize,
};
pub use crate::child::{Child, Exit, OnDrop, SignalError, Usage, kill_cgroup};
pub use crate::command::{
    Capabilities, Command, FilterInstruction, IdRange, IoPriority, Namespaces, PlanError, Resource,
    Scheduler, UNLIMITED,
};
pub use crate::helpers::Output;
pub use crate::helpers::capture::CaptureBuffer;
pub use crate::helpers::captured::{Captured, ChannelOutput};
pub use crate::helpers::communicate::Communicate;
pub use crate::helpers::parallel::{Parallel, Progress};
pub use crate::helpers::pipeline::Pipeline;
pub use crate::helpers::wait::{wait_all, wait_any};
pub use crate::inherited::{Inherited, InheritedError};
pub use crate::plan::Plan;
pub use crate::protocol::{
    ChannelHandler, Frame, FrameError, Framed, Framing, FromReader, HandlerPanic, LengthPrefixed,
    Lines, OnData, OnEvent, Prefix, PrefixTooSmall, Process, ProcessHandler, Producer, Protocols,
    PullProducer, PushProducer, RunError, Transport,
};
pub use crate::pump::{
    AdoptError, Backend, Change, ChannelError, ChannelState, ChildKey, CloseReason, EmbeddedPump,
    Event, Ladder, Lost, Pump, PumpGuard, Removed, SourceKey,
};
pub use crate::signal::{Signal, UnknownSignal};
pub use crate::spawn::{Launcher, Opened, Prepared, SpawnError, Subject};
pub use crate::sys::poll::{Interest, Readiness};
pub use crate::sys::{FdKind, Features, HookFunction};

#[doc = include_str!("command/steps.md")]
pub mod steps {}

#[doc = include_str!("channel/conversions.md")]
pub mod conversions {}

/// The README's snippets are run too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
