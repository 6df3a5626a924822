//! The solver's front door: a map of fixed capacity, to use alone.

use core::fmt;

use super::solver::{Cell, Closing, Mapping, Problem, Unsolvable};
use super::step::Step;
use crate::limits::FD_MAX;

/// A map of child fds with room for `N` entries and `N` kept fds, which works
/// out the cheapest steps to bring it about.
///
/// Pure: nothing here makes a syscall, allocates or panics. The numbers are
/// those of one fd table before and after; the steps may be carried out by
/// anybody, in a child or in a thread with a table of its own.
///
/// ```
/// use forkplan::plan::FdMap;
///
/// // stdout and stderr, the other way round.
/// let mut map = FdMap::<8>::new();
/// map.map(1, 2)?.map(2, 1)?;
/// let plan = map.solve()?;
/// assert_eq!(
///     plan.to_string(),
///     "1  close_range 0 -> ~0 CLOEXEC\n\
///      2  dup3 1 -> 0 CLOEXEC\n\
///      3  dup2 2 -> 1\n\
///      4  dup2 0 -> 2\n"
/// );
/// assert_eq!(plan.place(2), Some(1));
/// # Ok::<(), forkplan::plan::FdMapError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FdMap<const N: usize> {
    map: [Mapping; N],
    map_len: usize,
    keep: [i32; N],
    keep_len: usize,
    spare: [i32; N],
    spare_len: usize,
    limit: i32,
    closing: Closing,
    cells: [Cell; N],
    // An entry is moved or cleared (1), a cycle has two entries and may need
    // one copy more (1/2), a kept fd one (1).
    moves: [[Step; 3]; N],
}

/// What is wrong with an fd map.
///
/// ```
/// use forkplan::plan::{FdMap, FdMapError};
///
/// let mut map = FdMap::<8>::new();
/// assert_eq!(map.map(-1, 5).unwrap_err(), FdMapError::NegativeTarget(-1));
/// map.map(1, 5)?;
/// assert_eq!(map.map(1, 6).unwrap_err().to_string(), "child fd 1 is mapped twice");
/// # Ok::<(), FdMapError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FdMapError {
    /// A child fd below 0.
    NegativeTarget(i32),
    /// A parent's fd below 0: the source of the child fd `target`.
    NegativeSource {
        /// The entry.
        target: i32,
        /// Its source.
        source: i32,
    },
    /// A kept or spare fd below 0.
    NegativeFd(i32),
    /// The child fd has two sources.
    DuplicateTarget(i32),
    /// The child fd is not below the limit on fd numbers.
    TargetAtLimit {
        /// The entry.
        target: i32,
        /// The lowest number that is too large.
        limit: i32,
    },
    /// The map has no room for one more entry, kept fd or spare number.
    Full {
        /// How many of each it holds.
        capacity: usize,
    },
    /// A copy has to be put aside and no number below the limit is free.
    NoNumber {
        /// The lowest number that is too large.
        limit: i32,
    },
    /// A spare number is a source, a target, a kept fd, given twice, or not below
    /// the limit.
    SpareInUse(i32),
    /// A copy has to be put aside, unnamed fds are kept, and no
    /// [`spare`](FdMap::spare) number is left.
    NeedsSpare,
}

impl<const N: usize> FdMap<N> {
    /// An empty map: everything is to be closed.
    pub const fn new() -> Self {
        Self {
            map: [Mapping { target: -1, source: -1 }; N],
            map_len: 0,
            keep: [-1; N],
            keep_len: 0,
            spare: [-1; N],
            spare_len: 0,
            limit: FD_MAX,
            closing: Closing::Range,
            cells: [Cell::NEW; N],
            moves: [[Step::ClearCloexec { fd: -1 }; 3]; N],
        }
    }

    /// Child fd `target` becomes a copy of `source`. One source may serve any
    /// number of targets; a target that is its own source stays.
    pub fn map(&mut self, target: i32, source: i32) -> Result<&mut Self, FdMapError> {
        if target < 0 {
            return Err(FdMapError::NegativeTarget(target));
        }
        if source < 0 {
            return Err(FdMapError::NegativeSource { target, source });
        }
        let entries = &self.map[..self.map_len];
        let Err(at) = entries.binary_search_by_key(&target, |m| m.target) else {
            return Err(FdMapError::DuplicateTarget(target));
        };
        if self.map_len == N {
            return Err(FdMapError::Full { capacity: N });
        }
        self.map.copy_within(at..self.map_len, at + 1);
        self.map[at] = Mapping { target, source };
        self.map_len += 1;
        Ok(self)
    }

    /// `fd` is needed by a later step: it stays open until exec, which closes
    /// it. Where it is then, [`FdPlan::place`] tells. If it is the source of an
    /// entry too, that entry's copy serves, and stays open.
    pub fn keep(&mut self, fd: i32) -> Result<&mut Self, FdMapError> {
        push(&mut self.keep, &mut self.keep_len, fd)?;
        Ok(self)
    }

    /// `fd` may be overwritten, for [`Closing::Keep`]: a number that the caller
    /// holds open for this, no source, target or kept fd.
    pub fn spare(&mut self, fd: i32) -> Result<&mut Self, FdMapError> {
        push(&mut self.spare, &mut self.spare_len, fd)?;
        Ok(self)
    }

    /// The lowest number that no fd can have: the soft limit `RLIMIT_NOFILE`.
    /// Without this call, any `int` is taken.
    pub fn limit(&mut self, limit: i32) -> &mut Self {
        self.limit = limit;
        self
    }

    /// How what nobody named is closed. Without this call, [`Closing::Range`].
    pub fn closing(&mut self, closing: Closing) -> &mut Self {
        self.closing = closing;
        self
    }

    /// The entries so far, by target.
    pub fn entries(&self) -> &[Mapping] {
        &self.map[..self.map_len]
    }

    /// Works out the steps. The map stays as it is and may be solved again.
    pub fn solve(&mut self) -> Result<FdPlan<'_>, FdMapError> {
        let problem = Problem {
            map: &self.map[..self.map_len],
            keep: &self.keep[..self.keep_len],
            early: &[],
            marked: &[],
            spare: &self.spare[..self.spare_len],
            limit: self.limit,
            closing: self.closing,
        };
        let limit = self.limit;
        if let Some(m) = problem.map.iter().find(|m| m.target >= limit) {
            return Err(FdMapError::TargetAtLimit { target: m.target, limit });
        }
        if self.closing == Closing::Keep {
            if let Some(&fd) = spare_in_use(&problem) {
                return Err(FdMapError::SpareInUse(fd));
            }
        }
        let moves = self.moves.as_flattened_mut();
        let mut len = 0;
        // All cells, for the numbers that kept fds take: `N` of them, and few
        // entries, would else leave no number to be found.
        let solved = problem.moves(&mut self.cells, |step| {
            moves[len] = step;
            len += 1;
        });
        match solved {
            Ok(()) => Ok(FdPlan { problem, moves: &moves[..len] }),
            Err(Unsolvable::NoNumber) => Err(FdMapError::NoNumber { limit }),
            Err(Unsolvable::NeedsSpare) => Err(FdMapError::NeedsSpare),
        }
    }
}

impl<const N: usize> Default for FdMap<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// A spare number that is somebody's, given twice, or too large for a copy.
fn spare_in_use<'a>(problem: &Problem<'a>) -> Option<&'a i32> {
    let Problem { map, keep, spare, limit, .. } = *problem;
    let taken = |fd: i32| {
        map.iter().any(|m| m.target == fd || m.source == fd) || keep.contains(&fd) || fd >= limit
    };
    let mut before = spare.iter().enumerate();
    before.find(|&(i, &fd)| taken(fd) || spare[..i].contains(&fd)).map(|(_, fd)| fd)
}

fn push(fds: &mut [i32], len: &mut usize, fd: i32) -> Result<(), FdMapError> {
    if fd < 0 {
        return Err(FdMapError::NegativeFd(fd));
    }
    let capacity = fds.len();
    let slot = fds.get_mut(*len).ok_or(FdMapError::Full { capacity })?;
    *slot = fd;
    *len += 1;
    Ok(())
}

/// The steps that bring an fd map about, in their order: first
/// [`closing`](Self::closing), then [`moves`](Self::moves). Steps that use the
/// fds under their old numbers may stand between the two.
///
/// ```
/// use forkplan::plan::FdMap;
///
/// let mut map = FdMap::<4>::new();
/// map.map(3, 7)?.keep(3)?;
/// let plan = map.solve()?;
/// assert_eq!(plan.place(7), Some(3));
/// // 3 was needed by somebody and had to make way.
/// assert_eq!(plan.place(3), Some(0));
/// # Ok::<(), forkplan::plan::FdMapError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FdPlan<'a> {
    problem: Problem<'a>,
    moves: &'a [Step],
}

impl<'a> FdPlan<'a> {
    /// The steps that take a table of the child's own and mark what nobody
    /// named, so that exec closes it.
    pub fn closing(&self) -> impl Iterator<Item = Step> + use<> {
        let (unshare, mark) = self.problem.closing();
        unshare.into_iter().chain(mark)
    }

    /// The steps that copy, then those that clear the flag of what stays.
    pub fn moves(&self) -> &'a [Step] {
        self.moves
    }

    /// Where the parent's `fd` is found when all steps are done: the lowest
    /// target that is a copy of it, else the number where it was kept. `None`
    /// if it was neither mapped nor kept: exec closes it.
    pub fn place(&self, fd: i32) -> Option<i32> {
        self.problem.place(fd, self.moves.iter().copied())
    }
}

/// One numbered step a line.
impl fmt::Display for FdPlan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in (1..).zip(self.closing().chain(self.moves.iter().copied())) {
            writeln!(f, "{number}  {step}")?;
        }
        Ok(())
    }
}

impl fmt::Display for FdMapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NegativeTarget(fd) => write!(f, "child fd {fd} is negative"),
            Self::NegativeSource { target, source } => {
                write!(f, "child fd {target}: its source {source} is negative")
            }
            Self::NegativeFd(fd) => write!(f, "fd {fd} is negative"),
            Self::DuplicateTarget(fd) => write!(f, "child fd {fd} is mapped twice"),
            Self::TargetAtLimit { target, limit } => {
                write!(f, "child fd {target} is not below the limit of {limit} (RLIMIT_NOFILE)")
            }
            Self::Full { capacity } => write!(f, "the fd map is full: it holds {capacity}"),
            Self::NoNumber { limit } => {
                write!(f, "no fd number below the limit of {limit} is free for a copy put aside")
            }
            Self::SpareInUse(fd) => write!(f, "fd {fd} can't be spared: it is in use or too large"),
            Self::NeedsSpare => {
                f.write_str("unnamed fds are kept, and no spare number is left for a copy")
            }
        }
    }
}

impl core::error::Error for FdMapError {}
