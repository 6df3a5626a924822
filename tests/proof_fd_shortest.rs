//! No list of steps is shorter than the solver's: breadth-first search over all
//! that steps can do to an fd table, flags included, for every map of up to five
//! targets over five sources (four where nothing is optimized).
//!
//! `tests/solver_model.rs` searches for the least number of copies alone, with
//! and without kept fds, and that for five targets over six sources.

use forkplan::plan::{Closing, FdMap};

#[path = "support/amount.rs"]
mod amount;
#[path = "support/fd_maps.rs"]
mod fd_maps;

use amount::optimized;
use fd_maps::{count_of_maps, encode, every_map};

/// Whether exec closes what is at a number. A list of steps is for all parents,
/// so at first that is not known.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Flag {
    Unknown,
    Cloexec,
    Clear,
}

/// What is at each number, and its flag: five bits each, and one more for all
/// numbers above, which no map has: whether they are marked.
///
/// There is one number more than the maps have, for a copy put aside. What it
/// holds at first is worth nothing. Closing a number is left out: whether it is
/// closed at once or by exec comes to the same, and a mark leaves it of use.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Table(u32);

const BITS: u32 = 5;

impl Table {
    fn of_a_parent(numbers: u32) -> Self {
        (0..numbers).fold(Self(0), |table, number| table.with(number, number, Flag::Unknown))
    }

    fn with(self, number: u32, what: u32, flag: Flag) -> Self {
        let at = number * BITS;
        Self(self.0 & !(31 << at) | (what << 2 | flag as u32) << at)
    }

    fn what(self, number: u32) -> u32 {
        self.0 >> (number * BITS + 2) & 7
    }

    fn has(self, number: u32, flag: Flag) -> bool {
        self.0 >> (number * BITS) & 3 == flag as u32
    }

    fn flag(self, number: u32, flag: Flag) -> Self {
        self.with(number, self.what(number), flag)
    }

    /// Whether all above `numbers` is marked: the bit behind them.
    fn rest_is_marked(self, numbers: u32) -> bool {
        self.0 >> (numbers * BITS) & 1 == 1
    }

    /// The map that exec would bring about, if it is one: everything else is
    /// closed, and what is open is one of the sources.
    fn map(self, numbers: u32) -> Option<Vec<(i32, i32)>> {
        let sources = numbers - 1;
        let known = |number| !self.has(number, Flag::Unknown);
        if !self.rest_is_marked(numbers) || !(0..numbers).all(known) {
            return None;
        }
        let open = (0..numbers).filter(|&number| self.has(number, Flag::Clear));
        let map: Vec<_> = open.map(|number| (number as i32, self.what(number) as i32)).collect();
        let fits = |&(target, what): &(i32, i32)| target.max(what) < sources as i32;
        map.iter().all(fits).then_some(map)
    }

    /// Every table that is one step away.
    fn neighbours(self, numbers: u32, mut found: impl FnMut(Self)) {
        for first in 0..=numbers {
            // close_range(first, last, CLOEXEC), and the same with ~0.
            let mut marked = self;
            for last in first..numbers {
                marked = marked.flag(last, Flag::Cloexec);
                found(marked);
            }
            found(Self(marked.0 | 1 << (numbers * BITS)));
        }
        for to in 0..numbers {
            found(self.flag(to, Flag::Clear));
            for from in (0..numbers).filter(|&from| from != to) {
                let what = self.what(from);
                // A copy of what is worth nothing is worth nothing.
                if what < numbers - 1 {
                    found(self.with(to, what, Flag::Clear));
                    found(self.with(to, what, Flag::Cloexec));
                }
            }
        }
    }
}

/// The least number of steps for each map, by its code.
fn search(targets: u32) -> Vec<u8> {
    const UNKNOWN: u8 = u8::MAX;
    let numbers = targets + 1;
    let mut least = vec![UNKNOWN; count_of_maps(targets, targets) as usize];
    let mut missing = least.len();
    let mut seen = vec![0u64; 1 << (numbers * BITS + 1 - 6)];
    let mut ring = vec![Table::of_a_parent(numbers)];
    for steps in 0.. {
        assert!(!ring.is_empty(), "{missing} maps can't be had");
        for map in ring.iter().filter_map(|table| table.map(numbers)) {
            let least = &mut least[encode(&map, targets)];
            if *least == UNKNOWN {
                *least = steps;
                missing -= 1;
            }
        }
        if missing == 0 {
            break;
        }
        let mut next = Vec::new();
        for table in ring {
            table.neighbours(numbers, |table| {
                let (word, bit) = (table.0 as usize / 64, 1 << (table.0 % 64));
                if seen[word] & bit == 0 {
                    seen[word] |= bit;
                    next.push(table);
                }
            });
        }
        ring = next;
    }
    least
}

#[test]
fn no_list_of_steps_is_shorter() {
    let most = optimized(5, 4) as u32;
    for targets in 1..=most {
        let least = search(targets);
        let mut longest = 0;
        for map in every_map(targets, targets) {
            let mut fd_map = FdMap::<8>::new();
            for &(target, source) in &map {
                fd_map.map(target, source).unwrap();
            }
            let plan = fd_map.closing(Closing::Range).solve().unwrap();
            let steps = plan.closing().count() + plan.moves().len();
            assert_eq!(steps, usize::from(least[encode(&map, targets)]), "{map:?}\n{plan}");
            longest = longest.max(steps);
        }
        // The control: a swap, and so a step that looks like one too many.
        assert!(targets < 2 || longest > targets as usize + 1);
        println!("{targets} targets: {} maps, at most {longest} steps", least.len());
    }
}

/// The search is not blind to what makes maps expensive, nor to what is free.
#[test]
fn control_the_search_finds_what_is_known() {
    let least = search(3);
    let known: [(&[(i32, i32)], u8); 6] = [
        (&[], 1),
        (&[(0, 0)], 2),
        (&[(0, 1)], 2),
        (&[(0, 1), (1, 0)], 4),
        (&[(0, 1), (1, 0), (2, 0)], 4),
        (&[(0, 1), (1, 2), (2, 0)], 5),
    ];
    for (map, steps) in known {
        assert_eq!(least[encode(map, 3)], steps, "{map:?}");
    }
}
