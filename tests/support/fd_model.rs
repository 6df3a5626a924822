//! A slow and obvious model of an fd table, and what a solved map has to do to
//! it. The fd solver is compared with this by enumeration, by proptest, on the
//! real kernel and by the fuzzer.
//!
//! Nothing here is taken from the solver: numbers are looked up in a
//! `BTreeMap`, cycles are found by walking, free numbers by counting.

// Every user of this file takes a part of it.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};

use forkplan::plan::{Closing, FdMap, FdMapError, FdPlan, Step};

/// What a number stands for in an fd table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fd {
    /// The number that it had in the parent: what tells it from all others.
    pub(crate) what: i32,
    pub(crate) cloexec: bool,
}

pub(crate) type Table = BTreeMap<i32, Fd>;

/// What is open in the parent besides the fds that the request names, and with
/// which flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    /// Targets that are no sources, and numbers that nobody named, are open.
    pub(crate) crowded: bool,
    pub(crate) cloexec: bool,
}

/// In the first one whatever nobody marks leaks, in the second whatever nobody
/// clears is missing, and so is every fd that no step may count on.
pub(crate) const PARENTS: [Parent; 2] =
    [Parent { crowded: true, cloexec: false }, Parent { crowded: false, cloexec: true }];

/// Numbers below this one are open in a crowded parent.
const CROWD: i32 = 10;

/// All that an `FdMap` can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Child fd and its source, in any order.
    pub(crate) map: Vec<(i32, i32)>,
    pub(crate) keep: Vec<i32>,
    pub(crate) spare: Vec<i32>,
    pub(crate) limit: i32,
    pub(crate) closing: Closing,
}

impl Request {
    pub(crate) fn new(map: &[(i32, i32)], keep: &[i32], closing: Closing) -> Self {
        let (map, keep) = (map.to_vec(), keep.to_vec());
        Self { map, keep, spare: Vec::new(), limit: i32::MAX, closing }
    }

    /// Asks the solver, and compares its answer with what it should be: the
    /// error, or steps that do it, in the number of the formula.
    pub(crate) fn check<const N: usize>(&self) -> Result<(), String> {
        let mut map = FdMap::<N>::new();
        self.fill(&mut map).map_err(|error| self.complain(&format!("not taken: {error}")))?;
        self.check_map(&mut map)
    }

    /// The same of a map that was filled with this.
    pub(crate) fn check_map<const N: usize>(&self, map: &mut FdMap<N>) -> Result<(), String> {
        match (map.solve(), self.error()) {
            (Ok(plan), None) => self.check_plan(&plan),
            (Err(error), Some(expected)) if error == expected => Ok(()),
            (Ok(_), Some(expected)) => Err(self.complain(&format!("solved, not: {expected}"))),
            (Err(error), expected) => Err(self.complain(&format!("{error}, not {expected:?}"))),
        }
    }

    pub(crate) fn fill<const N: usize>(&self, map: &mut FdMap<N>) -> Result<(), FdMapError> {
        for &(target, source) in &self.map {
            map.map(target, source)?;
        }
        for &fd in &self.keep {
            map.keep(fd)?;
        }
        for &fd in &self.spare {
            map.spare(fd)?;
        }
        map.limit(self.limit).closing(self.closing);
        Ok(())
    }

    /// The plan of a request that has one.
    pub(crate) fn solve<'a, const N: usize>(&self, map: &'a mut FdMap<N>) -> FdPlan<'a> {
        self.fill(map).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        map.solve().unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn check_plan(&self, plan: &FdPlan<'_>) -> Result<(), String> {
        let steps = all_steps(plan);
        self.check_cost(plan.moves()).map_err(|e| self.complain(&format!("{e}:\n{plan}")))?;
        for parent in PARENTS {
            self.carry_out(parent, &steps, |fd| plan.place(fd))
                .map_err(|e| self.complain(&format!("{e}, {parent:?}:\n{plan}")))?;
        }
        Ok(())
    }

    fn complain(&self, what: &str) -> String {
        format!("{what}\n{self:?}")
    }

    /// Applies any steps to the table of such a parent and looks at the result.
    pub(crate) fn carry_out(
        &self,
        parent: Parent,
        steps: &[Step],
        place: impl Fn(i32) -> Option<i32>,
    ) -> Result<(), String> {
        let before = self.table(parent);
        let mut after = before.clone();
        apply(&mut after, steps, self.limit)?;
        self.verify(&before, &after, place)
    }

    pub(crate) fn table(&self, Parent { crowded, cloexec }: Parent) -> Table {
        let sources = self.map.iter().map(|&(_, source)| source);
        let mut open: BTreeSet<i32> = sources.chain(self.keep.iter().copied()).collect();
        open.extend(&self.spare);
        if crowded {
            open.extend(self.map.iter().map(|&(target, _)| target));
            open.extend(0..CROWD);
        }
        open.into_iter().map(|what| (what, Fd { what, cloexec })).collect()
    }

    /// Whether `after` is what exec should find.
    pub(crate) fn verify(
        &self,
        before: &Table,
        after: &Table,
        place: impl Fn(i32) -> Option<i32>,
    ) -> Result<(), String> {
        for &(target, what) in &self.map {
            let expected = Fd { what, cloexec: false };
            if after.get(&target) != Some(&expected) {
                return Err(format!("child fd {target} is {:?}", after.get(&target)));
            }
        }
        let numbers: BTreeSet<&i32> = before.keys().chain(after.keys()).collect();
        for &number in numbers {
            if !self.is_target(number) {
                self.verify_other(number, before.get(&number), after.get(&number))?;
            }
        }
        for &fd in before.keys() {
            self.verify_place(fd, place(fd), after)?;
        }
        Ok(())
    }

    /// A number that is nobody's target.
    fn verify_other(&self, n: i32, before: Option<&Fd>, after: Option<&Fd>) -> Result<(), String> {
        let closed_by_exec = after.is_none_or(|fd| fd.cloexec);
        let unchanged = before == after;
        let fine = match self.closing {
            _ if self.keep.contains(&n) => after == Some(&Fd { what: n, cloexec: true }),
            Closing::Keep if self.spare.contains(&n) => closed_by_exec || unchanged,
            Closing::Keep => unchanged,
            Closing::Each { below } if n >= below => closed_by_exec || unchanged,
            _ => closed_by_exec,
        };
        match fine {
            true => Ok(()),
            false => Err(format!("fd {n} was {before:?} and is {after:?}")),
        }
    }

    /// Sources are found at their lowest target; kept fds anywhere, but marked.
    fn verify_place(&self, fd: i32, place: Option<i32>, after: &Table) -> Result<(), String> {
        let targets = self.map.iter().filter(|&&(_, source)| source == fd);
        let expected = match targets.map(|&(target, _)| target).min() {
            Some(target) => Some(target),
            None if !self.keep.contains(&fd) => None,
            None => {
                let marked = Fd { what: fd, cloexec: true };
                place.filter(|number| after.get(number) == Some(&marked)).or(Some(-1))
            }
        };
        match place == expected {
            true => Ok(()),
            false => Err(format!("fd {fd} is said to be found at {place:?}")),
        }
    }

    /// The cost that the solver's documentation promises: copies, and one
    /// `fcntl` for each fd whose flag alone is wrong.
    fn check_cost(&self, moves: &[Step]) -> Result<(), String> {
        let dups = moves.iter().filter(|step| is_dup(step)).count();
        if dups != self.dups() {
            return Err(format!("{dups} copies, not {}", self.dups()));
        }
        let stays = self.map.iter().filter(|(target, source)| target == source).count();
        let kept = self.keep.iter().filter(|&&fd| !self.is_target(fd) && self.needs_mark(fd));
        match moves.len() - dups == stays + kept.count() {
            true => Ok(()),
            false => Err("too many or too few fcntl".into()),
        }
    }

    fn needs_mark(&self, fd: i32) -> bool {
        match self.closing {
            Closing::Keep => true,
            Closing::Each { below } => fd >= below,
            _ => false,
        }
    }

    /// Moved targets, isolated cycles, kept fds in the way of somebody and
    /// copied by nobody: the least number of copies.
    pub(crate) fn dups(&self) -> usize {
        self.moved().count() + self.isolated_cycles() + self.kept_aside()
    }

    fn moved(&self) -> impl Iterator<Item = (i32, i32)> + '_ {
        self.map.iter().copied().filter(|(target, source)| target != source)
    }

    fn is_target(&self, fd: i32) -> bool {
        self.map.iter().any(|&(target, _)| target == fd)
    }

    fn kept_aside(&self) -> usize {
        let kept: BTreeSet<i32> = self.keep.iter().copied().collect();
        let in_the_way = |&fd: &i32| self.is_target(fd);
        let copied = |fd: i32| self.map.iter().any(|&(_, source)| source == fd);
        kept.into_iter().filter(in_the_way).filter(|&fd| !copied(fd)).count()
    }

    /// Cycles of moved targets of which nobody outside has a copy.
    fn isolated_cycles(&self) -> usize {
        let next: BTreeMap<i32, i32> = self.moved().collect();
        let isolated = |&start: &i32| {
            let mut members = vec![start];
            let mut at = next[&start];
            while at != start {
                // Out of the map, or round a cycle that `start` is not on.
                if !next.contains_key(&at) || members.contains(&at) {
                    return false;
                }
                members.push(at);
                at = next[&at];
            }
            let inside = |fd| members.contains(fd);
            let lowest = members.iter().min() == Some(&start);
            lowest && !next.iter().any(|(target, source)| inside(source) && !inside(target))
        };
        next.keys().filter(|start| isolated(start)).count()
    }

    /// What `solve` should say of this request, if it is wrong.
    pub(crate) fn error(&self) -> Option<FdMapError> {
        let limit = self.limit;
        let targets = self.map.iter().map(|&(target, _)| target);
        if let Some(target) = targets.filter(|&target| target >= limit).min() {
            return Some(FdMapError::TargetAtLimit { target, limit });
        }
        let aside = self.kept_aside() + usize::from(self.isolated_cycles() > 0);
        if self.closing == Closing::Keep {
            return (aside > self.spare.len()).then_some(FdMapError::NeedsSpare);
        }
        let entries = self.map.iter().flat_map(|&(target, source)| [target, source]);
        let named: BTreeSet<i32> = entries.chain(self.keep.iter().copied()).collect();
        let mut free = (0..limit).filter(|number| !named.contains(number));
        (free.by_ref().take(aside).count() < aside).then_some(FdMapError::NoNumber { limit })
    }

    /// Whether the caller kept to the rule for spare numbers: his own, each
    /// once, below the limit, and not named otherwise. `FdMap` does not ask.
    pub(crate) fn spares_are_free(&self) -> bool {
        let distinct: BTreeSet<&i32> = self.spare.iter().collect();
        let named =
            |fd: i32| self.keep.contains(&fd) || self.map.iter().any(|&(t, s)| t == fd || s == fd);
        distinct.len() == self.spare.len()
            && self.spare.iter().all(|&fd| fd < self.limit && !named(fd))
    }
}

pub(crate) fn all_steps(plan: &FdPlan<'_>) -> Vec<Step> {
    plan.closing().chain(plan.moves().iter().copied()).collect()
}

fn is_dup(step: &Step) -> bool {
    matches!(step, Step::Dup2 { .. } | Step::DupCloexec { .. })
}

/// Carries out steps as a kernel does whose `RLIMIT_NOFILE` is `limit`.
pub(crate) fn apply(table: &mut Table, steps: &[Step], limit: i32) -> Result<(), String> {
    for (step, number) in steps.iter().zip(1..) {
        let mark = |(_, fd): (&i32, &mut Fd)| fd.cloexec = true;
        match *step {
            Step::Unshare { .. } if number != 1 => return Err(format!("{step} as step {number}")),
            // No fd has this number: Linux keeps `fs.nr_open` 63 below it.
            Step::Unshare { first: i32::MAX } => {}
            Step::Unshare { first } => drop(table.split_off(&first)),
            Step::MarkRange { first, last: Some(last) } if first > last => {
                return Err(format!("{step} is EINVAL"));
            }
            Step::MarkEach { first, below } if first >= below => {
                return Err(format!("{step} marks nothing"));
            }
            Step::MarkRange { first, last } => {
                table.range_mut(first..=last.unwrap_or(i32::MAX)).for_each(mark);
            }
            Step::MarkListed { first } => table.range_mut(first..).for_each(mark),
            Step::MarkEach { first, below } => table.range_mut(first..below).for_each(mark),
            Step::Dup2 { from, to } | Step::DupCloexec { from, to } => {
                let copied = table.get(&from).filter(|_| (0..limit).contains(&to));
                let what = copied.ok_or_else(|| format!("{step} is EBADF"))?.what;
                if from == to {
                    return Err(format!("{step} keeps the flag, or is EINVAL"));
                }
                let cloexec = matches!(step, Step::DupCloexec { .. });
                table.insert(to, Fd { what, cloexec });
            }
            Step::ClearCloexec { fd } | Step::SetCloexec { fd } => {
                let entry = table.get_mut(&fd).ok_or_else(|| format!("{step} is EBADF"))?;
                entry.cloexec = matches!(step, Step::SetCloexec { .. });
            }
            _ => return Err(format!("{step} has nothing to do with fds")),
        }
    }
    Ok(())
}
