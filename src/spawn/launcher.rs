//! Spawns whose cost does not grow with the fds that the program has open.
//!
//! A child that shares the parent's fd table, and takes a copy of its low part as
//! its first step, costs the same however many fds are open: if all that it needs
//! has low numbers. In a program with many open fds whatever is opened for a child
//! has a high one. So low numbers are held from early on, and lent.

extern crate std;

use core::sync::atomic::{AtomicU64, Ordering};
use std::boxed::Box;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::vec::Vec;

use rustix::io::fcntl_dupfd_cloexec;

use super::{Opened, Prepared, Scratch, SpawnError};
use crate::channel::PassedFd;
use crate::child::Child;
use crate::command::Command;
use crate::limits::SLOT_FD_MAX;
use crate::plan::{Mapping, Step, number_of};
use crate::sys::slot::Slot;
use crate::sys::{Errno, Features, fd};

/// Low fd numbers, held so that a spawn costs the same with 20,000 open fds as
/// with ten.
///
/// On the [fast path](crate::Features::SHARED_FILES) a child copies the parent's
/// fd table only up to the highest fd that it needs. A program that opens many fds
/// makes one launcher *before* that, when low numbers are free, and spawns through
/// it: fds for the child that have high numbers are copied onto the launcher's
/// slots for the time of the spawn, two syscalls each.
///
/// Threads share a launcher by reference, without a lock and without waiting: a
/// spawn that finds too few free slots goes the ordinary way, which is correct and
/// costs more. [`fallbacks`](Self::fallbacks) counts those.
///
/// A slot is a copy of `/dev/null` while it is not lent, always CLOEXEC, and never
/// open in a program that was spawned. A launcher is no limit on what is spawned
/// beside it or through it. Where the fd table is not shared anyway (a child that
/// must fork, unnamed fds that are inherited, an older kernel) it does nothing.
/// Where the program forks for itself each side has its own; slots that another
/// thread had lent at that moment stay taken in the copy.
///
/// ```
/// use forkplan::{Command, Launcher};
///
/// let launcher = Launcher::new(8)?;
/// // ... a thousand connections later:
/// let mut prepared = Command::new("true").prepare()?;
/// assert!(launcher.spawn(&mut prepared)?.wait()?.success());
/// assert_eq!(launcher.fallbacks(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Launcher {
    /// What an idle slot is a copy of.
    null: OwnedFd,
    /// Sorted by number.
    slots: Box<[Slot]>,
    /// A bit for each slot, set while it is free.
    free: [AtomicU64; WORDS],
    fallbacks: AtomicU64,
}

/// Enough bits for every number that a slot can have.
const WORDS: usize = (SLOT_FD_MAX as usize).div_ceil(u64::BITS as usize);

impl Launcher {
    /// Holds `slots` numbers, the lowest that are free from 3 on, and one fd more.
    ///
    /// A spawn takes a slot for each of its channels and passed fds with a number of
    /// 256 or above, until it has returned: three for one with three pipes. So
    /// three times as many as there are threads that spawn at once is enough for
    /// those. None at all is allowed, and of no use.
    ///
    /// Allocates once. `EMFILE` where there are not so many free numbers below
    /// 256: either so many were asked for, or it is too late in the program. Any
    /// other error is one of opening `/dev/null` and copying it. Nothing stays
    /// open then.
    pub fn new(slots: usize) -> io::Result<Self> {
        let error = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        if slots > WORDS * u64::BITS as usize {
            return Err(error(Errno::MFILE));
        }
        let null = fd::open_null().map_err(error)?;
        let mut held: Vec<OwnedFd> = Vec::with_capacity(slots);
        for _ in 0..slots {
            let slot = fcntl_dupfd_cloexec(&null, FIRST_SLOT)?;
            if slot.as_raw_fd() >= SLOT_FD_MAX {
                return Err(error(Errno::MFILE));
            }
            held.push(slot);
        }
        // Another thread may have closed a lower number meanwhile.
        held.sort_unstable_by_key(AsRawFd::as_raw_fd);
        let slots: Box<[Slot]> = held.into_iter().map(Slot::new).collect();
        let (free, fallbacks) = Default::default();
        let launcher = Self { null, slots, free, fallbacks };
        (0..launcher.slots.len()).for_each(|at| launcher.set_free(at));
        Ok(launcher)
    }

    /// [`Prepared::open`], with low numbers for what the child needs: the plan
    /// names those, and says of which fds they are copies. Until the [`Opened`] is
    /// spawned or dropped it keeps the slots.
    ///
    /// Allocates nothing, and fails where `Prepared::open` fails.
    pub fn open<'p, 'fd>(
        &'p self,
        prepared: &'p mut Prepared<'fd>,
    ) -> Result<Opened<'p, 'fd>, SpawnError> {
        prepared.open_by(Some(self))
    }

    /// [`Prepared::spawn`], with low numbers for what the child needs.
    pub fn spawn(&self, prepared: &mut Prepared<'_>) -> Result<Child, SpawnError> {
        self.open(prepared)?.persist(true)
    }

    /// [`Command::spawn`], with low numbers for what the child needs.
    ///
    /// ```
    /// use forkplan::{Command, Launcher};
    ///
    /// let launcher = Launcher::new(8)?;
    /// for name in ["one", "two"] {
    ///     assert!(launcher.spawn_once(Command::new("test").arg(name))?.wait()?.success());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spawn_once(&self, command: &Command<'_>) -> Result<Child, SpawnError> {
        self.spawn(&mut command.prepare()?)
    }

    /// How many spawns found too few free slots and went the ordinary way; also
    /// those whose slots could not be used since the limit on fd numbers had been
    /// lowered below them. Stays at the highest count that it can show.
    pub fn fallbacks(&self) -> u64 {
        self.fallbacks.load(Ordering::Relaxed)
    }

    /// How many slots are not lent at this moment.
    pub fn free_slots(&self) -> usize {
        self.free.iter().map(|word| word.load(Ordering::Relaxed).count_ones() as usize).sum()
    }

    /// Takes the lowest free slot.
    fn take(&self) -> Option<usize> {
        for (word, at) in self.free.iter().zip(0..) {
            let lowest = |bits: u64| bits.checked_sub(1).map(|below| bits & below);
            // Clears the lowest bit.
            if let Ok(bits) = word.fetch_update(Ordering::Acquire, Ordering::Relaxed, lowest) {
                return Some(at * u64::BITS as usize + bits.trailing_zeros() as usize);
            }
        }
        None
    }

    fn set_free(&self, at: usize) {
        let bits = u64::BITS as usize;
        self.free[at / bits].fetch_or(1 << (at % bits), Ordering::Release);
    }

    /// Ends the use of a slot, whatever is on it.
    fn give_back(&self, at: usize) {
        let slot = &self.slots[at];
        match slot.put(self.null.as_raw_fd()) {
            Ok(()) => self.set_free(at),
            // The limit is below it. A child's end must not stay open.
            Err(_) => slot.lose(),
        }
    }

    fn note_fallback(&self) {
        let more = |count: u64| count.checked_add(1);
        // An error is a count that stays at its highest.
        let _ = self.fallbacks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

/// Above the three standard ones, which are not to seem open because of us.
const FIRST_SLOT: i32 = 3;

/// The slots of one spawn, given back when dropped.
#[derive(Debug)]
pub(super) struct Lent<'l> {
    launcher: &'l Launcher,
    /// A bit for each.
    taken: [u64; WORDS],
}

impl<'l> Lent<'l> {
    /// Copies each of the `lent` sources onto a slot and notes which: all, or none
    /// if there are too few.
    fn all(launcher: &'l Launcher, lent: &mut [Mapping]) -> Option<Self> {
        let mut taken = Self { launcher, taken: [0; WORDS] };
        for m in lent {
            let at = launcher.take()?;
            // From here on `drop` gives it back.
            taken.taken[at / u64::BITS as usize] |= 1 << (at % u64::BITS as usize);
            let slot = &launcher.slots[at];
            slot.put(m.source).ok()?;
            m.target = slot.number();
        }
        Some(taken)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        for (word, at) in self.taken.iter().zip(0..) {
            let mut bits = *word;
            while bits != 0 {
                self.launcher.give_back(at * u64::BITS as usize + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }
}

impl<'p> Opened<'p, '_> {
    /// Lends low numbers to what the child needs and has high ones, if that is
    /// enough for the fd table to be shared.
    pub(super) fn lend(&mut self, launcher: &'p Launcher) {
        if !self.prepared.features.contains(Features::SHARED_FILES) {
            return;
        }
        let Prepared { openers, scratch, setup, clone, .. } = &mut *self.prepared;
        let Scratch { made, marked, lent, .. } = scratch;
        let made = made.iter().filter_map(|made| made.theirs.as_ref()).map(AsRawFd::as_raw_fd);
        let given = openers.iter().filter_map(|opener| opener.number());
        let others = setup.early.iter().chain(&setup.landlock).chain(&clone.program);
        let all = made.chain(given).chain(others.map(PassedFd::number));
        let high = all.filter(|&fd| fd >= SLOT_FD_MAX);
        lent.extend(high.map(|source| Mapping { target: source, source }));
        lent.sort_unstable_by_key(|m| m.source);
        lent.dedup();
        if lent.is_empty() {
            return;
        }
        self.lent = Lent::all(launcher, lent);
        if self.lent.is_none() {
            launcher.note_fallback();
            lent.clear();
            return;
        }
        // As long as we have them; another spawn's may be lost.
        marked.extend(lent.iter().map(|m| m.target).chain([launcher.null.as_raw_fd()]));
        marked.sort_unstable();
    }

    /// Has the plan use the numbers that were lent, or gives them back where the
    /// table is not shared any more.
    pub(super) fn use_lent(&mut self) {
        let Prepared { features, scratch, .. } = &mut *self.prepared;
        let Scratch { map, before, early, keep, lent, .. } = scratch;
        if !features.contains(Features::SHARED_FILES) {
            lent.clear();
            self.lent = None;
        }
        map.iter_mut().for_each(|m| m.source = number_of(lent, m.source));
        early.iter_mut().chain(keep).for_each(|fd| *fd = number_of(lent, *fd));
        for step in before {
            if let Step::ControllingTerminal { fd }
            | Step::Foreground { fd }
            | Step::Fchdir { fd } = step
            {
                *fd = number_of(lent, *fd);
            }
        }
    }
}

// Threads spawn through one launcher.
static_assertions::assert_impl_all!(Launcher: Send, Sync);
