//! Children that are on their way to their program.

extern crate std;

use core::mem;
use std::boxed::Box;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::vec::Vec;

use super::event::ChildKey;
use super::lifecycle::Lifecycle;
use super::orphans::Leaves;
use super::slots::Slot;
use super::time::Bounds;
use super::timers::{Timer, TimerKey, What};
use super::turns::Note;
use super::{Part, Pump, Token};
use crate::child::{Child, SignalError};
use crate::signal::Signal;
use crate::spawn::{Prepared, SpawnError, Starting};
use crate::sys::poll::Interest;

/// A start, from the clone on until what is left of it was taken.
#[derive(Debug, Default)]
pub(super) struct Start {
    /// While it is not known how it went.
    starting: Option<Starting<'static>>,
    /// The place of its notice in the backend.
    pub(super) place: Option<usize>,
    /// It waits for its turn to be looked at.
    pub(super) in_turn: bool,
    /// When it is looked at, whatever the notice says.
    pub(super) timer: Timer,
    /// What is told once the program was reached, and not if it was not.
    after_made: Vec<Note>,
    /// A ladder's signal was due while there was nobody to get it.
    owes_signal: bool,
    back: Option<Prepared<'static>>,
    error: Option<SpawnError>,
}

impl Start {
    /// What is ready when there may be something to look for.
    pub(super) fn notice(&self) -> Option<BorrowedFd<'_>> {
        self.starting.as_ref()?.notice()
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), SignalError> {
        self.starting.as_ref().ok_or(SignalError::AlreadyExited)?.signal(signal)
    }

    /// Whether there is nobody to signal and may be yet, as between two tries of a busy
    /// program. The signal is sent when there is then.
    pub(super) fn owes_signal(&mut self, sent: Result<(), SignalError>) -> bool {
        self.owes_signal = self.starting.is_some() && sent == Err(SignalError::AlreadyExited);
        self.owes_signal
    }
}

/// # Starting
impl Pump {
    /// Starts a child and takes it in, without waiting for its program: so any number
    /// may be on their way at once, in one thread. Allocates, as
    /// [`add`](Self::add) does; does not block.
    ///
    /// [`Event::Made`](super::Event::Made) comes when the program was reached, and from
    /// then on it is a child like any other; before that it has no channels and no
    /// [handle](Self::child), but [`signal`](Self::signal), a deadline and a ladder
    /// reach it, which is told after `Made`. Or
    /// [`Event::NotStarted`](super::Event::NotStarted) comes, and nothing else. Either way
    /// [`take_prepared`](Self::take_prepared) gives the command back, to be started
    /// again. A program that is open for writing is tried again for an eighth of a
    /// second, as [`Prepared::spawn`] does, without blocking.
    ///
    /// If the pump is dropped before, the child is killed; see
    /// [`Starting`](crate::Starting).
    ///
    /// ```
    /// use forkplan::{Channel::*, Command, Event, Pump};
    ///
    /// let mut pump = Pump::new();
    /// let mut command = Command::new("echo");
    /// command.arg("hello").fd(1, ReadPipe);
    /// for _ in 0..4 {
    ///     pump.start(command.prepare()?);
    /// }
    /// pump.start(Command::new("/nowhere/program").prepare()?);
    /// let (mut left, mut said, mut failed) = (16, 0, 0);
    /// while !pump.is_empty() {
    ///     pump.poll(None)?;
    ///     while let Some(event) = pump.next_event() {
    ///         match event {
    ///             Event::Made { child, .. } if left > 0 => {
    ///                 left -= 1;
    ///                 let prepared = pump.take_prepared(child).unwrap();
    ///                 pump.start(prepared);
    ///             }
    ///             Event::NotStarted { child } => {
    ///                 let error = pump.take_spawn_error(child).unwrap();
    ///                 assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    ///                 failed += 1;
    ///             }
    ///             Event::Data { bytes, .. } => said += bytes.len(),
    ///             _ => {}
    ///         }
    ///     }
    /// }
    /// assert_eq!((said, failed), (20 * "hello\n".len(), 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start(&mut self, prepared: Prepared<'static>) -> ChildKey {
        let key = self.slots.next_key();
        let start = Start { starting: Some(prepared.start()), ..Start::default() };
        self.slots.insert(Slot {
            child: None,
            infos: std::sync::Arc::default(),
            sources: Box::default(),
            life: Lifecycle::new(0),
            exit_place: None,
            exit_in_turn: false,
            bounds: Bounds::default(),
            account: None,
            leaves: Leaves::default(),
            start: Some(Box::new(start)),
        });
        self.wait_for_start(key);
        key
    }

    /// The command of a child that was [started](Self::start), once it is known how that
    /// went: from `Made` on, until the child has ended or it was taken; and after
    /// `NotStarted` until the next event is asked for.
    pub fn take_prepared(&mut self, child: ChildKey) -> Option<Prepared<'static>> {
        self.start_of(child)?.back.take()
    }

    /// Why a child was not started, after `NotStarted`, until the next event is asked
    /// for.
    pub fn take_spawn_error(&mut self, child: ChildKey) -> Option<SpawnError> {
        self.start_of(child)?.error.take()
    }

    fn start_of(&mut self, child: ChildKey) -> Option<&mut Start> {
        match &mut self.not_started {
            Some((key, start)) if *key == child => Some(start),
            _ => self.slots.get_mut(child)?.start.as_deref_mut(),
        }
    }

    /// Has the backend and the clock tell when there may be something to look for.
    fn wait_for_start(&mut self, child: ChildKey) {
        let Self { slots, sources, timers, turns, .. } = self;
        let Some(start) = slots.get_mut(child).and_then(|slot| slot.start.as_deref_mut()) else {
            return;
        };
        let Some(starting) = &start.starting else { return };
        let token = Token { child, part: Part::Start };
        let notice = starting.notice().map(|notice| notice.as_raw_fd());
        start.place = notice.map(|notice| sources.add(token, notice, Interest::READ, false));
        match starting.tick() {
            tick if tick.is_zero() && notice.is_none() => {
                if !mem::replace(&mut start.in_turn, true) {
                    turns.push_back(token);
                }
            }
            tick => timers.begin(&mut start.timer, TimerKey { child, what: What::Start }, tick),
        }
    }

    /// A start's turn: looks whether it is known how it went.
    pub(super) fn look_at_start(&mut self, child: ChildKey) {
        let Self { slots, sources, .. } = self;
        let Some(start) = slots.get_mut(child).and_then(|slot| slot.start.as_deref_mut()) else {
            return;
        };
        start.in_turn = false;
        // Its fd may be another after the look.
        if let Some(place) = start.place.take() {
            sources.remove(place);
        }
        let Some(mut starting) = start.starting.take() else { return };
        let known = starting.look();
        let retired = starting.take_retired();
        match known {
            false => start.starting = Some(starting),
            true => {
                start.timer.clear();
                let (prepared, result) = starting.finish();
                start.back = Some(prepared);
                match result {
                    Ok(process) => self.started(child, process),
                    Err(error) => {
                        start.error = Some(error);
                        self.not_started(child);
                    }
                }
            }
        }
        if let Some(retired) = retired {
            self.leave(Token { child, part: Part::Start }, retired);
        }
        if !known {
            self.wait_for_start(child);
        }
    }

    /// The program was reached: a child like any other, but for what was set before.
    fn started(&mut self, key: ChildKey, child: Child) {
        let (slot, refused) = self.slot_of(key, child);
        let pid = slot.child.as_ref().and_then(Child::id);
        if let Some(place) = self.slots.get_mut(key) {
            let Slot { bounds, start, account, .. } = mem::replace(place, slot);
            (place.bounds, place.start, place.account) = (bounds, start, account);
            if let Some(account) = &place.account {
                for source in &mut place.sources {
                    source.outbox.set_child_account(account);
                }
            }
        }
        self.count_in(key);
        self.made(key, pid, refused);
        let start = self.slots.get_mut(key).and_then(|slot| slot.start.as_deref_mut());
        let Some(start) = start else { return };
        self.notes.append(&mut mem::take(&mut start.after_made).into());
        if mem::take(&mut start.owes_signal) {
            self.climb(key);
        }
    }

    /// Notes what comes after `Made`, which of a child on its way is yet to come.
    pub(super) fn note_after_made(&mut self, note: Note) {
        let start = self.slots.get_mut(note.child()).and_then(|slot| slot.start.as_deref_mut());
        match start.filter(|start| start.starting.is_some()) {
            Some(start) => start.after_made.push(note),
            None => self.notes.push_back(note),
        }
    }

    /// There is no child, so this is the end, and what was set has no effect.
    fn not_started(&mut self, child: ChildKey) {
        if let Some(slot) = self.slots.get_mut(child) {
            let _is_end = slot.life.exited();
        }
        self.notes.push_back(Note::NotStarted { child });
    }

    /// A child that was not started is gone with its event; why, and its command,
    /// stay until the next.
    pub(super) fn forget_start(&mut self, child: ChildKey) {
        if let Some(start) = self.slots.remove(child).and_then(|slot| slot.start) {
            self.not_started = Some((child, start));
        }
    }
}
