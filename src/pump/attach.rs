//! Channels without a process: ends that somebody else has made.

extern crate std;

use std::os::fd::{AsFd, OwnedFd};
use std::vec::Vec;

use super::event::ChildKey;
use super::lifecycle::Lifecycle;
use super::orphans::Leaves;
use super::slots::Slot;
use super::source::Source;
use super::time::Bounds;
use super::turns::Note;
use super::{Part, Pump, Token};
use crate::channel::{ChannelInfo, End, EndInfo, Kind};
use crate::child::Exit;
use crate::sys::shared;

impl Pump {
    /// Takes ends of channels that somebody else has made: on the far side of a
    /// spawn those that this program [inherited](crate::Inherited), or any others.
    /// They are known together by one key, as if they were those of a child, and
    /// every call and event is the same but for the process that is not there:
    /// `Made` has no pid, `Exited` does not come, `Ended` comes when the last
    /// channel is closed and its [`Exit`](crate::Exit) knows nothing, and
    /// [`child`](Self::child) is `None`. A [deadline](Self::set_deadline) is told
    /// and signals nobody; a [drain limit](Self::set_drain_limit) begins when it is
    /// set. Of two ends with the same name, the first is meant. Allocates.
    ///
    /// # Flags and blocking
    ///
    /// An open file that came from somebody else is theirs as much as ours: a
    /// shell that gets its terminal back with `O_NONBLOCK`, or a parent whose pipe
    /// has it, fails in ways that nobody understands. So no flag of it is changed,
    /// nor the size of a pipe. In place of that:
    ///
    /// * a socket is read and written with `MSG_DONTWAIT`;
    /// * a pipe, a FIFO or a terminal is opened once more by `/proc/self/fd`; what
    ///   is opened so has flags of its own, and the fd that was given is closed;
    /// * where that can't be done (no `/proc`, a pipe of another user, the master of
    ///   a PTY, not Linux), each read and write is made only if a poll(2) just
    ///   before it finds it ready, and writes are of `PIPE_BUF` bytes at most, or
    ///   of 128 to a terminal;
    /// * a regular file is read and written as it is. No epoll set takes one: it
    ///   counts as ready while it is read, or has something queued.
    ///
    /// The first two never block. The third does if somebody else who has the same
    /// open file reads what there was, or fills the room that there was, between
    /// those two calls: then until there is something again. So may a serial
    /// line that has less room than is written to it, and a device that says that it is
    /// ready when it is not.
    ///
    /// A terminal is shared with whoever else uses it. Reading from it while
    /// another job has the foreground gets `SIGTTIN`, and ends with an error if
    /// that is ignored.
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use forkplan::{End, Event, Pump};
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let mut pump = Pump::new();
    /// let here = pump.attach([End::new("here", ours)?]);
    /// let there = pump.attach([End::new("there", theirs)?]);
    /// pump.write(here, "here", b"ping")?;
    /// pump.close(here, "here")?;
    /// let mut told: Vec<u8> = Vec::new();
    /// while !pump.is_empty() {
    ///     pump.poll(None)?;
    ///     while let Some(event) = pump.next_event() {
    ///         match event {
    ///             Event::Data { child, bytes, .. } => {
    ///                 assert_eq!(child, there);
    ///                 told.extend_from_slice(bytes);
    ///             }
    ///             Event::Exited { .. } => unreachable!("there is no process"),
    ///             _ => {}
    ///         }
    ///     }
    /// }
    /// assert_eq!(told, b"ping");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn attach(&mut self, ends: impl IntoIterator<Item = End>) -> ChildKey {
        let key = self.slots.next_key();
        let mut infos: Vec<ChannelInfo> = Vec::new();
        let mut sources: Vec<Source> = Vec::new();
        for end in ends {
            let at = sources.len() as u32;
            let (first, writer, info) = end.into_halves();
            let is_pair = writer.is_some();
            for (half, other) in [(Some(first), at + 1), (writer, at)] {
                let Some(half) = half else { continue };
                infos.push(info(half.end));
                let mut source = without_blocking(half.fd, half.end);
                source.other_half = is_pair.then_some(other);
                sources.push(source);
            }
        }
        for (source, part) in sources.iter_mut().zip(0..) {
            let token = Token { child: key, part: Part::Channel(part) };
            let is_file = source.info.kind == Kind::File;
            source.place = self.sources.add(token, source.number(), source.interest(), is_file);
        }
        let life = Lifecycle::without_process(sources.len());
        let ended = sources.is_empty();
        self.slots.insert(Slot {
            child: None,
            infos: infos.into(),
            sources: sources.into(),
            life,
            exit_place: None,
            exit_in_turn: false,
            bounds: Bounds::default(),
            account: None,
            leaves: Leaves::default(),
            start: None,
        });
        self.count_in(key);
        self.notes.push_back(Note::Made { child: key, pid: None });
        if ended {
            self.notes.push_back(Note::Ended { child: key, exit: Exit::missed(None) });
        }
        key
    }
}

/// An end that does not block and whose flags are as they were for everybody else.
fn without_blocking(fd: OwnedFd, info: EndInfo) -> Source {
    match shared::open_anew(fd.as_fd()) {
        Ok(own) => Source::attached(own, info, false),
        Err(_) => Source::attached(fd, info, true),
    }
}
