//! The fd solver: from a map of fds to the cheapest list of steps.
//!
//! A map is a functional graph: each target has one source, and a source may
//! be a target too. Copying to a number destroys what was there, so whoever
//! still reads that number goes first. Trees therefore need one `dup2` for each
//! target that moves, leaves first. What remains are cycles; a cycle needs one
//! copy put aside, unless a target outside of it has copied from it already,
//! for then that copy serves. So the number of copies is
//!
//! > targets that move + cycles nobody outside copies from,
//!
//! plus one for each kept fd whose number is somebody's target and which nobody
//! copies. No list is shorter: each moved target needs a copy of its own, and
//! the first copy into an isolated cycle destroys a member.
//!
//! Pure, no allocation: the caller lends one [`Cell`] for each entry. The work
//! is linear in the entries but for the look-up of each source among the sorted
//! targets.

use super::step::Step;

/// One entry of an fd map: child fd `target` is a copy of parent's fd `source`.
///
/// ```
/// use forkplan::plan::{FdMap, Mapping};
///
/// let mut map = FdMap::<2>::new();
/// map.map(1, 5)?.map(0, 5)?;
/// assert_eq!(map.entries()[0], Mapping { target: 0, source: 5 });
/// # Ok::<(), forkplan::plan::FdMapError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The number in the child.
    pub target: i32,
    /// The number in the parent.
    pub source: i32,
}

/// How the child rids itself of the fds that nobody named.
///
/// ```
/// use forkplan::plan::{Closing, FdMap};
///
/// let mut map = FdMap::<2>::new();
/// map.map(0, 5)?.closing(Closing::Unshare);
/// assert_eq!(
///     map.solve()?.to_string(),
///     "1  close_range 6 -> ~0 UNSHARE\n\
///      2  close_range 1 -> 5 CLOEXEC\n\
///      3  dup2 5 -> 0\n"
/// );
/// # Ok::<(), forkplan::plan::FdMapError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Closing {
    /// The child shares the parent's fd table and takes a copy of its low part
    /// as its first step: `close_range` with `CLOSE_RANGE_UNSHARE` (Linux 5.9),
    /// then `CLOSE_RANGE_CLOEXEC` (Linux 5.11) for the rest.
    Unshare,
    /// One `close_range` with `CLOSE_RANGE_CLOEXEC` (Linux 5.11).
    #[default]
    Range,
    /// A walk over `/proc/self/fd`.
    Listed,
    /// One `fcntl` for each number below the given one.
    Each {
        /// One more than the highest number looked at.
        below: i32,
    },
    /// Unnamed fds keep their flags: those without `FD_CLOEXEC` stay open.
    /// Numbers for copies put aside are then only those of `FdMap::spare`.
    Keep,
}

/// What the solver is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Problem<'a> {
    /// Sorted by target, no target twice, no number negative.
    pub(crate) map: &'a [Mapping],
    /// Fds that later steps need and that exec shall close.
    pub(crate) keep: &'a [i32],
    /// Fds that steps before the moves need: the child's own table has them.
    pub(crate) early: &'a [i32],
    /// Sorted, none twice: fds that are known to be CLOEXEC.
    pub(crate) marked: &'a [i32],
    /// Numbers that may be overwritten, for [`Closing::Keep`].
    pub(crate) spare: &'a [i32],
    /// Copies land below this number.
    pub(crate) limit: i32,
    pub(crate) closing: Closing,
}

/// Why there is no list of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsolvable {
    /// Every number below the limit is taken.
    NoNumber,
    /// One more spare number is needed.
    NeedsSpare,
}

const NONE: u32 = u32::MAX;
const NO_FD: i32 = -1;

/// Working memory for one entry of the map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    /// Entries not yet carried out that read this entry's target number.
    readers: u32,
    /// The entry whose target number this entry reads, if that one moves.
    owner: u32,
    /// Where a copy lies of what the target number held at first.
    copy: i32,
    carried_out: bool,
    /// 32 numbers each, a bit set for a number in use.
    taken: u32,
}

impl Cell {
    pub(crate) const NEW: Self =
        Self { readers: 0, owner: NONE, copy: NO_FD, carried_out: false, taken: 0 };
}

impl<'a> Problem<'a> {
    /// The step that gives the child a table of its own, and the one that marks
    /// the unnamed, if there are any. Both come before anything moves: `dup2` clears the mark on
    /// its target, and entries that stay are cleared by a step of their own.
    pub(crate) fn closing(&self) -> (Option<Step>, Option<Step>) {
        // Every number below `first` is a target and so stays open.
        let first = count(self.map.iter().zip(0..).take_while(|(m, i)| m.target == *i));
        let sources = self.map.iter().map(|m| m.source);
        let needed = self.keep.iter().chain(self.early).copied();
        let top = sources.chain(needed).max().unwrap_or(NO_FD);
        match self.closing {
            Closing::Unshare => {
                let mark = Step::MarkRange { first, last: Some(top) };
                let unshare = Step::Unshare { first: top.saturating_add(1) };
                (Some(unshare), self.needs_marks(first, top).then_some(mark))
            }
            Closing::Range => (None, Some(Step::MarkRange { first, last: None })),
            Closing::Listed => (None, Some(Step::MarkListed { first })),
            Closing::Each { below } => {
                (None, (first < below).then_some(Step::MarkEach { first, below }))
            }
            Closing::Keep => (None, None),
        }
    }

    /// Whether some number of `first..=top` is neither a target nor an fd that is
    /// known to have its mark.
    fn needs_marks(&self, first: i32, top: i32) -> bool {
        let inside = |fd: i32| first <= fd && fd <= top;
        let marked = count(self.marked.iter().filter(|&&fd| inside(fd)));
        let others = self.map.iter().map(|m| m.target);
        let others = others.filter(|&fd| inside(fd) && self.marked.binary_search(&fd).is_err());
        first <= top && marked + count(others) <= top - first
    }

    /// Hands `emit` the copies in their order. `cells` has one cell for each
    /// entry; where there are many kept fds, one for every ten of them, so that
    /// a free number is found. On an error some steps were handed out already
    /// and mean nothing.
    pub(crate) fn moves(
        &self,
        cells: &mut [Cell],
        mut emit: impl FnMut(Step),
    ) -> Result<(), Unsolvable> {
        self.link(cells);
        let mut numbers = Numbers { problem: self, filled: false, spare: self.spare };
        self.put_kept_aside(cells, &mut numbers, &mut emit)?;
        self.trees(cells, &mut emit);
        self.cycles(cells, &mut numbers, &mut emit)?;
        for m in self.map.iter().filter(|m| m.source == m.target) {
            emit(Step::ClearCloexec { fd: m.target });
        }
        Ok(())
    }

    /// Where `fd` is found once the steps are done: its lowest target, or
    /// where it was kept. `None` if it is neither mapped nor kept. `steps` are
    /// those of [`moves`](Self::moves).
    pub(crate) fn place(&self, fd: i32, steps: impl IntoIterator<Item = Step>) -> Option<i32> {
        if let Some(m) = self.map.iter().find(|m| m.source == fd) {
            return Some(m.target);
        }
        self.keep.iter().find(|&&kept| kept == fd)?;
        // Nobody copies a fd that is kept only, so a copy of it is its place.
        let aside = steps.into_iter().find_map(|step| match step {
            Step::DupCloexec { from, to } if from == fd => Some(to),
            _ => None,
        });
        Some(aside.unwrap_or(fd))
    }

    /// Finds who reads whose target.
    fn link(&self, cells: &mut [Cell]) {
        cells.fill(Cell::NEW);
        for (i, m) in self.map.iter().enumerate() {
            if m.source == m.target {
                cells[i].carried_out = true;
            } else if let Some(k) = self.moving_entry_at(m.source) {
                cells[i].owner = k as u32;
                cells[k].readers += 1;
            }
        }
    }

    /// The entry that will overwrite `fd`.
    fn moving_entry_at(&self, fd: i32) -> Option<usize> {
        self.entry_at(fd).filter(|&k| self.map[k].source != fd)
    }

    fn entry_at(&self, fd: i32) -> Option<usize> {
        self.map.binary_search_by_key(&fd, |m| m.target).ok()
    }

    /// A kept fd on somebody's target number moves, unless a reader copies it.
    fn put_kept_aside(
        &self,
        cells: &mut [Cell],
        numbers: &mut Numbers<'_>,
        emit: &mut impl FnMut(Step),
    ) -> Result<(), Unsolvable> {
        for &fd in self.keep {
            match self.moving_entry_at(fd) {
                Some(k) if cells[k].readers == 0 && cells[k].copy == NO_FD => {
                    let to = numbers.next(cells)?;
                    emit(Step::DupCloexec { from: fd, to });
                    cells[k].copy = to;
                }
                // Someone's copy of it is mapped and stays open.
                Some(_) => {}
                // An entry of its own: it is mapped where it is and stays open.
                None if self.entry_at(fd).is_some() => {}
                // It stays in place.
                None if !self.marks(fd) => emit(Step::SetCloexec { fd }),
                None => {}
            }
        }
        Ok(())
    }

    /// Whether [`closing`](Self::closing) marks `fd`, which is no target.
    fn marks(&self, fd: i32) -> bool {
        match self.closing {
            Closing::Unshare | Closing::Range | Closing::Listed => true,
            Closing::Each { below } => fd < below,
            Closing::Keep => false,
        }
    }

    /// Leaves first: an entry goes as soon as nobody reads its target.
    fn trees(&self, cells: &mut [Cell], emit: &mut impl FnMut(Step)) {
        for i in 0..self.map.len() {
            let mut k = i;
            while !cells[k].carried_out && cells[k].readers == 0 {
                let Mapping { target, source } = self.map[k];
                emit(Step::Dup2 { from: source, to: target });
                cells[k].carried_out = true;
                let owner = cells[k].owner;
                if owner == NONE {
                    break;
                }
                k = owner as usize;
                cells[k].copy = target;
                cells[k].readers -= 1;
            }
        }
    }

    /// Each entry that is left is read by exactly one other that is left.
    fn cycles(
        &self,
        cells: &mut [Cell],
        numbers: &mut Numbers<'_>,
        emit: &mut impl FnMut(Step),
    ) -> Result<(), Unsolvable> {
        // One number serves all cycles, one after the other.
        let mut aside = None;
        for i in 0..self.map.len() {
            if cells[i].carried_out {
                continue;
            }
            let start = Self::copied_member(cells, i).unwrap_or(i);
            if cells[start].copy == NO_FD {
                let to = match aside {
                    Some(to) => to,
                    None => numbers.next(cells)?,
                };
                aside = Some(to);
                emit(Step::DupCloexec { from: self.map[start].target, to });
                cells[start].copy = to;
            }
            let mut k = start;
            while !cells[k].carried_out {
                let owner = cells[k].owner as usize;
                let from = if owner == start { cells[start].copy } else { self.map[k].source };
                emit(Step::Dup2 { from, to: self.map[k].target });
                cells[k].carried_out = true;
                k = owner;
            }
        }
        Ok(())
    }

    /// The member of `first`'s cycle of which a copy lies elsewhere.
    fn copied_member(cells: &[Cell], first: usize) -> Option<usize> {
        let mut k = first;
        loop {
            if cells[k].copy != NO_FD {
                return Some(k);
            }
            k = cells[k].owner as usize;
            if k == first {
                return None;
            }
        }
    }
}

/// Gives out numbers for copies put aside.
struct Numbers<'a> {
    problem: &'a Problem<'a>,
    filled: bool,
    spare: &'a [i32],
}

impl Numbers<'_> {
    /// The lowest number that is no source, target or kept fd, nor given out.
    ///
    /// In a table of the child's own such a number is free to take, since what
    /// is there would be closed anyway. Unnamed fds that are to stay open make
    /// that untrue, so then the caller has to own the number.
    fn next(&mut self, cells: &mut [Cell]) -> Result<i32, Unsolvable> {
        if self.problem.closing == Closing::Keep {
            let (&first, rest) = self.spare.split_first().ok_or(Unsolvable::NeedsSpare)?;
            self.spare = rest;
            return Ok(first);
        }
        if !self.filled {
            self.filled = true;
            let entries = self.problem.map.iter().flat_map(|m| [m.target, m.source]);
            for fd in entries.chain(self.problem.keep.iter().copied()) {
                take(cells, fd);
            }
        }
        // The bits cover 32 numbers a cell, and an entry takes two of them. One
        // is free unless there are some 30 kept fds for each cell.
        let free = (0..).zip(cells.iter()).find(|(_, cell)| cell.taken != u32::MAX);
        let (word, cell) = free.ok_or(Unsolvable::NoNumber)?;
        let number = word * 32 + cell.taken.trailing_ones() as i32;
        if number >= self.problem.limit {
            return Err(Unsolvable::NoNumber);
        }
        take(cells, number);
        Ok(number)
    }
}

fn take(cells: &mut [Cell], fd: i32) {
    if let Some(cell) = cells.get_mut(fd as usize / 32) {
        cell.taken |= 1 << (fd as u32 % 32);
    }
}

fn count(items: impl Iterator) -> i32 {
    items.fold(0, |n, _| n + 1)
}
