//! The fd solver against a slow model of an fd table: all small maps, their
//! least cost by search, and large maps at random. The last section shows that
//! the model notices wrong steps.

use forkplan::plan::{Closing, FdMap, Step};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

#[path = "support/fd_maps.rs"]
mod fd_maps;
#[path = "support/fd_model.rs"]
mod fd_model;

use fd_maps::{count_of_maps, encode, every_map};
use fd_model::{PARENTS, Request, all_steps};

/// All the maps that are enumerated have targets 0 to 4 and sources 0 to 5, so
/// that there is always a source on which nothing is mapped: 16,807 maps.
const TARGETS: u32 = 5;
const SOURCES: u32 = 6;

/// More than any of those maps needs, above all their numbers.
const SPARE: [i32; 2] = [8, 9];

fn request(map: &[(i32, i32)], keep: &[i32], closing: Closing) -> Request {
    let spare = if closing == Closing::Keep { SPARE.to_vec() } else { Vec::new() };
    Request { spare, ..Request::new(map, keep, closing) }
}

#[track_caller]
fn check(request: &Request) {
    if let Err(error) = request.check::<8>() {
        panic!("{error}");
    }
}

#[test]
fn every_small_map_comes_about_whatever_the_way_of_closing() {
    // `Each` looks at all numbers, at some of those named, and at none.
    let each = [0, 3, 64].map(|below| Closing::Each { below });
    let others = [Closing::Unshare, Closing::Range, Closing::Listed, Closing::Keep];
    for map in every_map(TARGETS, SOURCES) {
        for closing in others.into_iter().chain(each) {
            check(&request(&map, &[], closing));
        }
    }
}

#[test]
fn every_small_map_with_a_kept_fd_comes_about() {
    // The last one is neither source nor target.
    for kept in 0..=SOURCES as i32 {
        for map in every_map(TARGETS, SOURCES) {
            check(&request(&map, &[kept], Closing::Range));
        }
        for map in every_map(TARGETS - 1, SOURCES - 1) {
            let each = Closing::Each { below: 2 };
            for closing in [Closing::Unshare, Closing::Listed, Closing::Keep, each] {
                check(&request(&map, &[kept], closing));
            }
        }
    }
}

#[test]
fn every_map_of_four_with_two_kept_fds_comes_about() {
    for (a, b) in (0..6).flat_map(|a| (a..6).map(move |b| (a, b))) {
        for map in every_map(4, 5) {
            for closing in [Closing::Unshare, Closing::Keep] {
                let spare = [SPARE.as_slice(), &[7]].concat();
                check(&Request { spare, ..Request::new(&map, &[a, b], closing) });
            }
        }
    }
}

#[test]
fn what_a_limit_or_a_lack_of_spare_numbers_makes_impossible_is_refused() {
    for map in every_map(4, 5) {
        for kept in 0..6 {
            for limit in -1..9 {
                check(&Request { limit, ..Request::new(&map, &[kept], Closing::Range) });
            }
            for spare in [[].as_slice(), &[7]] {
                let spare = spare.to_vec();
                check(&Request { spare, ..Request::new(&map, &[kept], Closing::Keep) });
            }
        }
    }
}

/// Breadth first over the contents of an fd table with seven numbers, of which
/// the last holds nothing of value. A move is one copy from any number to any
/// other. Flags are left out: a copy has the flag that one wants.
///
/// For each of the 16,807 maps, alone and with each of the six sources kept,
/// this finds the least number of copies after which some table has it.
struct Search {
    /// The least for each map, by what is kept (or `NUMBERS` - 1) and code.
    least: Vec<Vec<u8>>,
    unknown: usize,
}

const NUMBERS: usize = SOURCES as usize + 1;
const UNKNOWN: u8 = u8::MAX;

impl Search {
    fn run() -> Self {
        let maps = count_of_maps(TARGETS, SOURCES) as usize;
        let least = vec![vec![UNKNOWN; maps]; NUMBERS];
        let mut search = Self { least, unknown: NUMBERS * maps };
        let mut seen = vec![false; NUMBERS.pow(NUMBERS as u32)];
        let mut ring: Vec<[usize; NUMBERS]> = vec![core::array::from_fn(|number| number)];
        let mut copies = 0;
        while search.unknown > 0 {
            assert!(!ring.is_empty(), "{} maps can't be had", search.unknown);
            ring.iter().for_each(|table| search.note(table, copies));
            ring = neighbours(&ring, &mut seen);
            copies += 1;
        }
        search
    }

    /// Every map of which `table` is a result, for every fd that it still has.
    fn note(&mut self, table: &[usize; NUMBERS], copies: u8) {
        for targets in 0..1_u32 << TARGETS {
            // As `encode`, which would take most of the time.
            let mut code = 0;
            let mut place = 1;
            for (target, what) in (0..TARGETS).zip(table) {
                code += if targets & (1 << target) != 0 { place * (what + 1) } else { 0 };
                place *= NUMBERS;
            }
            for kept in table {
                self.found(*kept, code, copies);
            }
            self.found(NUMBERS - 1, code, copies);
        }
    }

    fn found(&mut self, kept: usize, code: usize, copies: u8) {
        let least = &mut self.least[kept][code];
        if *least == UNKNOWN {
            *least = copies;
            self.unknown -= 1;
        }
    }
}

/// The tables one copy away that were not seen before.
fn neighbours(ring: &[[usize; NUMBERS]], seen: &mut [bool]) -> Vec<[usize; NUMBERS]> {
    let mut next = Vec::new();
    for table in ring {
        for to in 0..NUMBERS {
            let mut table = *table;
            for from in 0..NUMBERS {
                // What is worth nothing is never worth a copy.
                if from == to || table[from] == NUMBERS - 1 {
                    continue;
                }
                table[to] = table[from];
                let code = table.iter().fold(0, |code, what| code * NUMBERS + what);
                if !seen[code] {
                    seen[code] = true;
                    next.push(table);
                }
            }
        }
    }
    next
}

#[test]
fn no_small_map_has_a_shorter_list_of_copies() {
    let search = Search::run();
    for map in every_map(TARGETS, SOURCES) {
        for kept in 0..=SOURCES as usize {
            let keep = [kept as i32];
            let keep = if kept < SOURCES as usize { keep.as_slice() } else { &[] };
            let least = search.least[kept][encode(&map, SOURCES)];
            // `check` finds this number of copies in the solver's steps.
            let formula = Request::new(&map, keep, Closing::Range).dups();
            assert_eq!(formula, usize::from(least), "{map:?} keeping {keep:?}");
        }
    }
}

/// Entries and kept fds of a large map, as many as its `FdMap` has room for.
const LARGE: usize = 64;

/// Some have few numbers, and so chains and sources with many copies, some have
/// gaps, and some are permutations, which are nothing but cycles.
fn large_map() -> impl Strategy<Value = Vec<(i32, i32)>> {
    let top = || prop_oneof![1..100, 1..=2000];
    let any = top().prop_flat_map(|top| btree_map(0..top, 0..top, 0..=LARGE));
    let targets = top().prop_flat_map(|top| btree_set(0..top, 0..=LARGE));
    let permutation = targets.prop_flat_map(|targets| {
        let targets = Vec::from_iter(targets);
        (Just(targets.clone()), Just(targets).prop_shuffle())
    });
    prop_oneof![
        any.prop_map(Vec::from_iter),
        permutation.prop_map(|(targets, sources)| targets.into_iter().zip(sources).collect()),
    ]
}

fn large_request() -> impl Strategy<Value = Request> {
    let spare = (0..4).prop_map(|n| (3000..3000 + n).collect::<Vec<i32>>());
    let limited =
        prop_oneof![Just(Closing::Range), (0..3000).prop_map(|below| Closing::Each { below })];
    let closing = prop_oneof![
        (Just(i32::MAX), Just(Closing::Unshare)),
        (0..2100, limited),
        (Just(i32::MAX), Just(Closing::Listed)),
        (Just(i32::MAX), Just(Closing::Keep)),
    ];
    (large_map(), vec(0..2000, 0..=LARGE), spare, closing).prop_map(
        |(map, keep, spare, (limit, closing))| Request { map, keep, spare, limit, closing },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        // A failure is printed whole; no file is left behind.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn large_maps_come_about_too(request in large_request()) {
        let result = request.check::<LARGE>();
        prop_assert!(result.is_ok(), "{}", result.unwrap_err());
    }
}

/// Whether the model finds nothing wrong with these steps.
fn accepts(request: &Request, steps: &[Step], place: impl Fn(i32) -> Option<i32>) -> bool {
    PARENTS.iter().all(|&parent| request.carry_out(parent, steps, &place).is_ok())
}

/// Right, so that only the steps are on trial.
fn lowest_target(request: &Request) -> impl Fn(i32) -> Option<i32> {
    let find = |fd| request.map.iter().find(|&&(_, source)| source == fd);
    move |fd| find(fd).map(|&(target, _)| target)
}

#[test]
fn the_model_refuses_copies_in_the_order_of_targets_where_that_is_wrong() {
    let moves = |(target, source): (i32, i32)| match target == source {
        true => Step::ClearCloexec { fd: target },
        false => Step::Dup2 { from: source, to: target },
    };
    let mut wrong = 0;
    for map in every_map(TARGETS, SOURCES) {
        let first = Step::MarkRange { first: 0, last: None };
        let steps: Vec<Step> = [first].into_iter().chain(map.iter().copied().map(moves)).collect();
        // A source that is a target itself, and overwritten before it is read.
        let overwritten = map.iter().any(|&(target, source)| {
            source < target && map.iter().any(|&(t, s)| t == source && s != t)
        });
        let request = request(&map, &[], Closing::Range);
        assert_eq!(accepts(&request, &steps, lowest_target(&request)), !overwritten, "{map:?}");
        wrong += usize::from(overwritten);
    }
    assert!(wrong > 1000, "only {wrong}");
}

/// The solver's steps, changed by `change`, must be refused.
#[track_caller]
fn refused(request: &Request, change: impl FnOnce(&mut Vec<Step>)) {
    let mut map = FdMap::<8>::new();
    let plan = request.solve(&mut map);
    let mut steps = all_steps(&plan);
    change(&mut steps);
    assert!(!accepts(request, &steps, |fd| plan.place(fd)), "{request:?}: {steps:?}\n{plan}");
}

#[test]
fn the_model_refuses_every_plan_that_lacks_a_step() {
    let each = Closing::Each { below: 64 };
    for closing in [Closing::Unshare, Closing::Range, Closing::Listed, each, Closing::Keep] {
        for (map, kept) in every_map(3, 4).flat_map(|map| (0..5).map(move |k| (map.clone(), k))) {
            let request = request(&map, &[kept], closing);
            let steps = all_steps(&request.solve(&mut FdMap::<8>::new()));
            for (missing, step) in steps.iter().enumerate().filter(|(_, s)| !idle(s, &steps)) {
                refused(&request, |steps| assert_eq!(steps.remove(missing), *step));
            }
        }
    }
}

/// Marks nothing but numbers that are copied to or cleared afterwards: the one
/// step that may be missed. It takes a kept fd or a cycle, and all the unnamed
/// numbers below them used as scratch.
fn idle(step: &Step, steps: &[Step]) -> bool {
    let changed = |number| {
        let changes = |step: &Step| match *step {
            Step::Dup2 { to: fd, .. } | Step::DupCloexec { to: fd, .. } => fd == number,
            Step::ClearCloexec { fd } => fd == number,
            _ => false,
        };
        steps.iter().any(changes)
    };
    match *step {
        Step::MarkRange { first, last: Some(last) } => (first..=last).all(changed),
        _ => false,
    }
}

#[test]
fn the_model_refuses_copies_put_aside_without_their_mark() {
    for closing in [Closing::Unshare, Closing::Range, Closing::Keep] {
        let swap = request(&[(0, 1), (1, 0)], &[], closing);
        let in_the_way = request(&[(0, 1)], &[0], closing);
        for request in [swap, in_the_way] {
            refused(&request, |steps| {
                for step in steps {
                    if let Step::DupCloexec { from, to } = *step {
                        *step = Step::Dup2 { from, to };
                    }
                }
            });
        }
    }
}

#[test]
fn the_model_refuses_a_wrong_place() {
    let request = request(&[(0, 1), (2, 1)], &[0], Closing::Range);
    let mut map = FdMap::<8>::new();
    let plan = request.solve(&mut map);
    let steps = all_steps(&plan);
    assert!(accepts(&request, &steps, |fd| plan.place(fd)));
    for (fd, wrong) in
        [(1, None), (1, Some(1)), (1, Some(2)), (0, None), (0, Some(0)), (5, Some(5))]
    {
        let place = |asked| if asked == fd { wrong } else { plan.place(asked) };
        assert!(!accepts(&request, &steps, place), "{fd} at {wrong:?}");
    }
}
