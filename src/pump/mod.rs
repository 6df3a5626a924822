//! Reads, writes and waits for any number of children, in the caller's loop.
//!
//! * [`lifecycle`]: which facts make which events. Pure.
//! * [`outbox`]: what waits to be written. Pure.
//! * [`source`]: one channel: its end, its queue, what it waits for.
//! * [`backend`]: waiting for all of them.
//! * [`slots`]: the children, by key.
//! * [`attach`]: channels without a child.
//! * [`turns`]: from readiness to events.
//! * [`operations`]: what the caller does with channels.
//! * [`messages`]: the same for messages and for fds that travel.
//! * [`flow`]: how much is queued, and for whom together.
//! * [`feed`]: what a producer is told, and when.
//! * [`state`]: what is there, and how a child leaves again.
//! * [`starts`]: children on their way to their program.
//! * [`stops`]: processes that were stopped and go on.
//! * [`orphans`]: processes that were left behind, and given to us.
//! * [`embedded`], [`foreign`]: the same in a loop that is not ours.
//! * [`lent`]: events for who uses the pump while he is told.
//! * [`timers`], [`time`], [`ladder`]: what is due when, and what is done then.

extern crate std;

use core::time::Duration;
use std::boxed::Box;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;
use std::vec;
use std::vec::Vec;

use self::backend::Sources;
use self::flow::Account;
use self::lifecycle::Lifecycle;
use self::orphans::{Leaves, Orphans};
use self::slots::{Slot, Slots};
use self::source::Source;
use self::starts::Start;
use self::time::{Bounds, Clock};
use self::timers::Timers;
use self::turns::Note;
use crate::child::{Child, SignalError};
use crate::limits::{MESSAGE_SIZE_MAX, WAIT_MAX, WAIT_TICK_MILLIS};
use crate::signal::Signal;
use crate::sys::Errno;
use crate::sys::fd::{self, PipeWriter};
use crate::sys::poll::Interest;

mod attach;
mod backend;
mod embedded;
mod event;
mod feed;
mod flow;
mod foreign;
mod ladder;
mod lent;
mod lifecycle;
mod messages;
mod operations;
mod orphans;
mod outbox;
mod slots;
mod source;
mod starts;
mod state;
mod stops;
mod time;
mod timers;
mod turns;

pub use self::backend::{Backend, SourceKey};
pub use self::embedded::{EmbeddedPump, PumpGuard};
pub use self::event::{ChannelError, ChildKey, CloseReason, Event};
pub(crate) use self::feed::{Ask, Form};
pub use self::foreign::Change;
pub use self::ladder::Ladder;
pub(crate) use self::lent::{Lent, News};
pub use self::orphans::AdoptError;
pub use self::state::{ChannelState, Lost, Removed};

/// Children whose channels and ends are waited for together.
///
/// The caller's loop has two calls: [`poll`](Self::poll) waits once for
/// whatever is ready, and [`next_event`](Self::next_event) does the work, one
/// piece a call, until there is none. **Drain, then poll**: a poll with events
/// left does not block, and events come in the order in which they are found.
///
/// Who would rather be called for each event than ask for it has
/// [`Protocols`](crate::Protocols), which is a pump with handlers.
///
/// No other call waits. Memory does not grow with what the children write, for
/// their bytes are lent from one buffer; nor with what is written to them, for
/// each channel's queue has a high-water mark.
///
/// One thing can block against our will, on Linux, and every program that reads
/// pipes has it: a child that calls `splice(2)` from a source which has nothing
/// (a socket) into its pipe holds the pipe's lock for as long as it waits, and
/// neither `O_NONBLOCK` nor a signal gets a read or a close of our end past
/// that; writes to a child that splices out of its pipe likewise. Give a child
/// that does so (Rust's `io::copy` does) and that waits for us in turn a
/// [`SocketPair`](crate::Channel::SocketPair), which has no such lock.
///
/// What goes wrong with a channel is an event of it. `SIGPIPE` never comes from
/// here, whatever the program's disposition is.
///
/// ```
/// use forkplan::{Command, Event, Pump};
///
/// let mut pump = Pump::new();
/// let wc = pump.add(Command::new("wc").arg("-c").spawn()?);
/// pump.write(wc, 0, b"eleven byte")?;
/// pump.close(wc, 0)?;
/// let mut count = Vec::new();
/// while !pump.is_empty() {
///     pump.poll(None)?;
///     while let Some(event) = pump.next_event() {
///         match event {
///             Event::Data { bytes, .. } => count.extend_from_slice(bytes),
///             Event::Ended { exit, .. } => assert!(exit.success()),
///             _ => {}
///         }
///     }
/// }
/// assert_eq!(count, b"11\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Pump {
    slots: Slots,
    sources: Sources,
    /// Who is ready and has not had its turn.
    turns: VecDeque<Token>,
    /// Events that need no work.
    notes: VecDeque<Note>,
    buffer: Box<[u8]>,
    writer: PipeWriter,
    /// Children without a pidfd that run.
    ticking: usize,
    /// What is queued for all, if that is limited.
    account: Option<Arc<Account>>,
    /// Children that run and are looked at for stops.
    watched: Vec<ChildKey>,
    /// What is adopted of those whom a child leaves behind.
    orphans: Orphans,
    timers: Timers,
    clock: Clock,
    /// When the clock was last read.
    read_at: Instant,
    /// Fds of sources that have gone, and that somebody else has yet to be told
    /// of.
    leaving: Vec<(Token, OwnedFd)>,
    one_shot: bool,
    /// Who has had a turn and may have more, where nobody tells again.
    unfinished: Vec<Token>,
    /// How many children were taken out.
    removals: u64,
    /// What is left of the last start that failed, until the next event is asked for.
    not_started: Option<(ChildKey, Box<Start>)>,
}

/// One source: a child's channel, or its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    child: ChildKey,
    part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Channel(u32),
    Process,
    /// A child on its way to its program.
    Start,
}

/// What a turn has found.
#[derive(Clone, Copy, Debug)]
enum Told {
    Note(Note),
    /// So many bytes, in the buffer.
    Data {
        token: Token,
        len: usize,
    },
}

impl Pump {
    /// A pump without children. Allocates its buffer of 256 KiB, half of which is
    /// for messages alone and no memory before one needs it.
    pub fn new() -> Self {
        Self {
            slots: Slots::default(),
            sources: Sources::new(),
            turns: VecDeque::new(),
            notes: VecDeque::new(),
            buffer: vec![0; MESSAGE_SIZE_MAX].into(),
            writer: PipeWriter::new(),
            ticking: 0,
            account: None,
            watched: Vec::new(),
            orphans: Orphans::default(),
            timers: Timers::default(),
            clock: Clock::system(),
            read_at: Instant::now(),
            leaving: Vec::new(),
            one_shot: false,
            unfinished: Vec::new(),
            removals: 0,
            not_started: None,
        }
    }

    /// A pump that waits in this way and no other.
    ///
    /// The error is the kernel's, for an epoll set that it does not give.
    /// Without this call, a pump begins with [`Backend::Poll`] and goes over to
    /// [`Backend::Epoll`] above 16 sources, where there is one; a set that the
    /// kernel refuses to make larger is given up for poll again.
    pub fn with_backend(backend: Backend) -> io::Result<Self> {
        Ok(Self { sources: Sources::with(backend)?, ..Self::new() })
    }

    /// How it waits now.
    pub fn backend(&self) -> Backend {
        self.sources.backend()
    }

    /// Takes a child, with all its channels that were not taken before: they
    /// get `O_NONBLOCK`. Its first event is [`Event::Made`]. Allocates.
    pub fn add(&mut self, child: Child) -> ChildKey {
        let pid = child.id();
        let (key, refused) = self.insert(child);
        self.made(key, pid, refused);
        key
    }

    /// As above, without an event; and the channels that can't be served.
    fn insert(&mut self, child: Child) -> (ChildKey, Vec<(Token, Errno)>) {
        let key = self.slots.next_key();
        let (slot, refused) = self.slot_of(key, child);
        self.slots.insert(slot);
        self.count_in(key);
        (key, refused)
    }

    /// Has the backend watch a child's channels and process. Which channels can't be
    /// watched, and why.
    fn slot_of(&mut self, key: ChildKey, mut child: Child) -> (Slot, Vec<(Token, Errno)>) {
        let infos = child.ends().infos().clone();
        let mut sources: Box<[Source]> = infos
            .iter()
            .enumerate()
            .map(|(i, info)| Source::new(child.ends().take(i), info.end))
            .collect();
        let mut refused = vec![];
        for (source, part) in sources.iter_mut().zip(0..) {
            let Some(end) = &source.end else { continue };
            let token = Token { child: key, part: Part::Channel(part) };
            if let Err(errno) = fd::set_nonblocking(end.as_fd()) {
                refused.push((token, errno));
            }
            source.place = self.sources.add(token, source.number(), source.interest(), false);
        }
        let process = Token { child: key, part: Part::Process };
        let pidfd = child.pidfd().map(|pidfd| pidfd.as_raw_fd());
        let exit_place = pidfd.map(|fd| self.sources.add(process, fd, Interest::READ, false));
        self.ticking += usize::from(exit_place.is_none());
        let life = Lifecycle::new(sources.iter().filter(|source| source.end.is_some()).count());
        let (child, bounds) = (Some(child), Bounds::default());
        let (exit_in_turn, account, start) = (false, None, None);
        let leaves = Leaves::default();
        let slot = Slot {
            child,
            infos,
            sources,
            life,
            exit_place,
            exit_in_turn,
            bounds,
            account,
            start,
            leaves,
        };
        (slot, refused)
    }

    /// Tells of a child that is in its slot.
    fn made(&mut self, key: ChildKey, pid: Option<u32>, refused: Vec<(Token, Errno)>) {
        self.notes.push_back(Note::Made { child: key, pid });
        for (token, errno) in refused {
            self.close_channel(token, CloseReason::Error(errno.raw_os_error()));
        }
    }

    /// Waits until something is ready, or `timeout` is over, or a signal
    /// handler ran; `None` waits for ever. Whether there may be events.
    ///
    /// One poll(2) over all channels and processes. Does not block if events
    /// are left from before, nor if there is no child. Children for which the
    /// kernel has no pidfd are looked at every 10 ms, and so are those whose
    /// [stops](Self::watch_stops) are watched; [orphans](Self::adopt_orphans) are
    /// looked for every second. No poll waits for longer than 24 days.
    ///
    /// The error is poll's own: the pump is as before.
    pub fn poll(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let due = self.look_at_clock();
        let tick = self.ticks().then(|| Duration::from_millis(WAIT_TICK_MILLIS));
        let at_once = self.has_events() || self.is_empty() || self.is_foreign();
        let at_once = at_once.then_some(Duration::ZERO);
        let timeout = [timeout, due, tick, at_once].into_iter().flatten().min();
        // What the kernel is told, no more: so much has passed when it finds nothing.
        let timeout = timeout.map(|timeout| timeout.min(WAIT_MAX));
        let Self { sources, slots, turns, .. } = self;
        let waited = sources.wait(timeout, |token, readiness| {
            slots.give_turn(turns, token, readiness);
        });
        match (waited, timeout) {
            // As long as it was told, then.
            (Ok(0), Some(timeout)) => self.time_passed(timeout),
            (Ok(_) | Err(Errno::INTR), _) => {}
            (Err(error), _) => return Err(error.into()),
        }
        self.go_on();
        if self.ticking > 0 {
            self.slots.give_ticking_turns(&mut self.turns);
        }
        self.look_for_stops();
        Ok(self.has_events())
    }

    /// The next thing that happened. `None`: all was told, time to poll again.
    ///
    /// Does one read at most, or for a channel without news a bounded number of
    /// writes; so it may make several syscalls before it finds an event. Each
    /// channel that is ready has its turn before another has its next.
    pub fn next_event(&mut self) -> Option<Event<'_>> {
        let mut buffer = core::mem::take(&mut self.buffer);
        let told = loop {
            match self.turn(&mut buffer) {
                // Here is nobody who has one.
                Some(Told::Note(Note::Producer(token, ask))) => self.told_producer(token, ask),
                told => break told,
            }
        };
        self.buffer = buffer;
        match told? {
            Told::Note(note) => self.tell(note),
            Told::Data { token, len } => Some(Event::Data {
                child: token.child,
                channel: self.slots.name(token),
                bytes: &self.buffer[..len],
            }),
        }
    }

    /// Goes on to the next thing that happened. What is read goes to `buffer`,
    /// which may be lent on while the pump is used; it is as large as our own.
    fn turn(&mut self, buffer: &mut [u8]) -> Option<Told> {
        self.not_started = None;
        loop {
            if let Some(note) = self.notes.pop_front() {
                return Some(Told::Note(note));
            }
            let token = self.turns.pop_front()?;
            match token.part {
                Part::Process => self.reap(token.child),
                Part::Start => self.look_at_start(token.child),
                Part::Channel(part) => {
                    if let Some(len) = self.channel_turn(token, part, buffer) {
                        self.copy_to_tee(token, &buffer[..len]);
                        return Some(Told::Data { token, len });
                    }
                }
            }
        }
    }

    /// Whether [`next_event`](Self::next_event) may have something.
    pub fn has_events(&self) -> bool {
        !self.notes.is_empty() || !self.turns.is_empty()
    }

    /// Whether there is no child: all have ended, and that was told.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of children that have not ended.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// A child, to signal it or to ask for its exit. `None` once it has ended, before
    /// one that was [started](Self::start) is made, and for what was
    /// [attached](Self::attach).
    pub fn child(&self, child: ChildKey) -> Option<&Child> {
        self.slots.get(child)?.child.as_ref()
    }

    /// Sends a signal to a child, unless it was reaped.
    pub fn signal(&self, child: ChildKey, signal: impl Into<Signal>) -> Result<(), SignalError> {
        let slot = self.slots.get(child).ok_or(SignalError::AlreadyExited)?;
        slot.signal(signal.into())
    }
}

impl Default for Pump {
    fn default() -> Self {
        Self::new()
    }
}

static_assertions::assert_impl_all!(Pump: Send);
