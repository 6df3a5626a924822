//! A model of an fd table in every state at once.
//!
//! A state says of each number whether it is close-on-exec at first, and of 0, 1
//! and 2 whether they are closed. All states of up to seven numbers, 1,024, are
//! the bits of one word, and a step is carried out in all of them by a few
//! operations. That is not obvious, so `tests/proof_fd_states.rs` compares it
//! with the slow model, state by state.

// Every user of this file takes a part of it.
#![allow(dead_code)]

use std::ops::{BitAnd, BitOr, BitXor, Not};

use forkplan::plan::{Closing, Step};

use crate::fd_model::Request;

/// The numbers with a state bit of their own; those above share them in turn.
pub(crate) const FLAGS: u32 = 7;
/// The low numbers that may be closed.
pub(crate) const CLOSABLE: u32 = 3;
pub(crate) const STATES: usize = 1 << (FLAGS + CLOSABLE);
/// The numbers that are looked at. All are open in the parent, where no state
/// says otherwise, so that what nobody closes leaks.
pub(crate) const WINDOW: usize = 10;

/// A truth for each state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bits([u64; STATES / 64]);

impl Bits {
    pub(crate) const NONE: Self = Self([0; STATES / 64]);
    pub(crate) const ALL: Self = Self([u64::MAX; STATES / 64]);

    fn of(truth: impl Fn(usize) -> bool) -> Self {
        let mut bits = Self::NONE;
        for state in (0..STATES).filter(|&state| truth(state)) {
            bits.0[state / 64] |= 1 << (state % 64);
        }
        bits
    }

    pub(crate) fn one(state: usize) -> Self {
        let mut bits = Self::NONE;
        bits.0[state / 64] = 1 << (state % 64);
        bits
    }

    pub(crate) fn first(self) -> Option<usize> {
        let word = self.0.iter().position(|&word| word != 0)?;
        Some(word * 64 + self.0[word].trailing_zeros() as usize)
    }
}

impl BitAnd for Bits {
    type Output = Self;

    fn bitand(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
        self
    }
}

impl BitOr for Bits {
    type Output = Self;

    fn bitor(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
        self
    }
}

impl BitXor for Bits {
    type Output = Self;

    fn bitxor(self, other: Self) -> Self {
        (self & !other) | (!self & other)
    }
}

impl Not for Bits {
    type Output = Self;

    fn not(mut self) -> Self {
        self.0.iter_mut().for_each(|word| *word = !*word);
        self
    }
}

pub(crate) fn starts_cloexec(number: i32, state: usize) -> bool {
    state >> (number as u32 % FLAGS) & 1 == 1
}

pub(crate) fn starts_closed(number: i32, state: usize) -> bool {
    (number as u32) < CLOSABLE && state >> (FLAGS + number as u32) & 1 == 1
}

/// One number.
#[derive(Clone, Copy)]
struct Row {
    /// The number in the parent of what is here, the same in all states.
    what: i32,
    open: Bits,
    cloexec: Bits,
}

/// What the parents have, made once.
pub(crate) struct Parents([Row; WINDOW]);

impl Parents {
    pub(crate) fn new() -> Self {
        Self(core::array::from_fn(|number| {
            let what = number as i32;
            Row {
                what,
                open: Bits::of(|state| !starts_closed(what, state)),
                cloexec: Bits::of(|state| starts_cloexec(what, state)),
            }
        }))
    }

    /// Carries steps out in all states in which the request's fds are open, and
    /// returns the states in which exec would not find what was asked for.
    pub(crate) fn wrong(
        &self,
        request: &Request,
        steps: impl Iterator<Item = Step>,
        place: impl Fn(i32) -> Option<i32>,
    ) -> Bits {
        let mut rows = self.0;
        let sources = request.map.iter().map(|&(_, source)| source);
        let needed = sources.chain(request.keep.iter().copied());
        let possible = needed.fold(Bits::ALL, |bits, fd| bits & self.0[fd as usize].open);
        let mut wrong = Bits::NONE;
        for (at, step) in steps.enumerate() {
            wrong = wrong | apply(&mut rows, at, step);
        }
        for (number, row) in rows.iter().enumerate() {
            wrong = wrong | !self.is_right(request, number, row);
        }
        for &kept in &request.keep {
            let place = place(kept).and_then(|place| rows.get(place as usize));
            wrong = wrong | place.map_or(Bits::ALL, |row| !(row.open & same(row.what, kept)));
        }
        wrong & possible
    }

    /// In which states a number is what exec should find there.
    fn is_right(&self, request: &Request, number: usize, row: &Row) -> Bits {
        let survives = row.open & !row.cloexec;
        let target = request.map.iter().find(|&&(target, _)| target == number as i32);
        if let Some(&(_, source)) = target {
            return survives & same(row.what, source);
        }
        if request.closing != Closing::Keep || request.keep.contains(&(number as i32)) {
            return !survives;
        }
        let before = &self.0[number];
        let unchanged = same(row.what, before.what)
            & !(row.open ^ before.open)
            & !(survives ^ (before.open & !before.cloexec));
        if request.spare.contains(&(number as i32)) { unchanged | !survives } else { unchanged }
    }
}

fn same(a: i32, b: i32) -> Bits {
    if a == b { Bits::ALL } else { Bits::NONE }
}

/// Returns the states in which the step fails.
fn apply(rows: &mut [Row; WINDOW], at: usize, step: Step) -> Bits {
    let mark = |rows: &mut [Row; WINDOW], first: i32, last: i32| {
        let marked = rows.iter_mut().zip(0..).filter(|(_, number)| (first..=last).contains(number));
        marked.for_each(|(row, _)| row.cloexec = Bits::ALL);
        Bits::NONE
    };
    match step {
        Step::Unshare { .. } if at > 0 => Bits::ALL,
        Step::Unshare { first } => {
            rows.iter_mut().skip(first as usize).for_each(|row| row.open = Bits::NONE);
            Bits::NONE
        }
        Step::MarkRange { first, last } => mark(rows, first, last.unwrap_or(i32::MAX)),
        Step::MarkListed { first } => mark(rows, first, i32::MAX),
        Step::MarkEach { first, below } => mark(rows, first, below - 1),
        Step::Dup2 { from, to } | Step::DupCloexec { from, to } => {
            let Row { what, open, .. } = rows[from as usize];
            let cloexec = match step {
                Step::DupCloexec { .. } => Bits::ALL,
                _ => Bits::NONE,
            };
            // A content that is not the same in all states can't be had: the
            // step counts as failed in those where `from` is closed, and what
            // comes of them does not matter any more.
            rows[to as usize] = Row { what, open: Bits::ALL, cloexec };
            if from == to { Bits::ALL } else { !open }
        }
        Step::ClearCloexec { fd } => set(&mut rows[fd as usize], Bits::NONE),
        Step::SetCloexec { fd } => set(&mut rows[fd as usize], Bits::ALL),
        _ => Bits::ALL,
    }
}

fn set(row: &mut Row, cloexec: Bits) -> Bits {
    row.cloexec = cloexec;
    !row.open
}
