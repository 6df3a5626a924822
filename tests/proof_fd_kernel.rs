//! Every fd map of up to six targets over six sources in every state of the
//! parent's table, carried out by the kernel in threads with an fd table of their
//! own, and looked at afterwards.
//!
//! In a state each number is close-on-exec or not, and each of 0, 1 and 2 that is no
//! source may be closed instead. In each state maps of up to five are carried out with
//! every way of closing, larger ones with one of them in turn. Maps of seven have three
//! states each: two that are opposites and one that changes from map to map. So have
//! those of four where nothing is optimized, and there are no larger ones.
//!
//!     FORKPLAN_TEST_ALL_WAYS=6 cargo test --release --test proof_fd_kernel
//!     FORKPLAN_TEST_TARGETS=7 cargo test --release --test proof_fd_kernel
//!
//! `FORKPLAN_TEST_ALL_STATES` is the size up to which maps have all states,
//! `FORKPLAN_TEST_ALL_WAYS` that up to which they have all ways of closing in each.
//!
//! `tests/solver_kernel.rs` shows that the model agrees with the kernel, also on
//! wrong steps; here there is no model, only the request.
#![cfg(target_os = "linux")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use forkplan::plan::{Closing, FdMap, FdPlan, Step};

#[path = "support/amount.rs"]
mod amount;
#[path = "support/fd_hands.rs"]
mod fd_hands;
#[path = "support/fd_maps.rs"]
mod fd_maps;

use amount::{amount, optimized};
use fd_hands::{
    Found, Hands, State, WINDOW, in_a_table_of_its_own, in_tables_of_their_own,
    kernel_has_close_range,
};
use fd_maps::every_map;

/// No map's: may be spared where unnamed fds are kept.
const SPARE: [i32; 2] = [7, 8];

#[test]
fn every_map_comes_about_in_the_kernels_hands() {
    let most = amount("FORKPLAN_TEST_TARGETS", optimized(6, 4)) as u32;
    let whole = amount("FORKPLAN_TEST_ALL_STATES", optimized(6, 3)) as u32;
    let all_ways = amount("FORKPLAN_TEST_ALL_WAYS", 5) as u32;
    let threads = thread::available_parallelism().map_or(1, usize::from);
    // The next map is whoever's is done with its last one.
    let next = AtomicU64::new(0);
    let plans = in_tables_of_their_own(threads, |hands| {
        let mut mine = next.fetch_add(1, Ordering::Relaxed);
        let maps = (0..=most).flat_map(|targets| {
            every_map(targets, targets).zip(0u32..).map(move |(map, turn)| (targets, map, turn))
        });
        for ((targets, map, turn), number) in maps.zip(0..) {
            if number != mine {
                continue;
            }
            if targets > 4 {
                // A prime, so that it is not always the same state's turn.
                hands.confirm_one_of(61);
            }
            let all = states(&map, targets);
            let some = [all[0], all[all.len() - 1], all[turn as usize * 7 % all.len()]];
            let states = if targets <= whole { &all[..] } else { &some[..] };
            let in_turn = (targets > all_ways).then_some(turn as usize);
            let checked = check(hands, &map, states, in_turn, turn % 16 == 0 || targets <= 4);
            // The others need not go on.
            checked.inspect_err(|_| next.store(u64::MAX / 2, Ordering::Relaxed))?;
            mine = next.fetch_add(1, Ordering::Relaxed);
        }
        Ok(hands.plans())
    });
    println!("{} plans carried out", plans.iter().sum::<u64>());
}

/// Every state in which the map's sources are open: each number that a map has, and
/// four at least, is close-on-exec or not, and each of 0, 1 and 2 may be closed
/// instead. The first has all open and nothing close-on-exec, the last as little open
/// as may be and all of that close-on-exec.
fn states(map: &[(i32, i32)], sources: u32) -> Vec<State> {
    let needed = map.iter().fold(0, |bits, &(_, source)| bits | 1u32 << source);
    let everything = (1u32 << WINDOW) - 1;
    // Those that are spared are the caller's, and marked.
    let spare = SPARE.iter().fold(0, |bits, fd| bits | 1u32 << fd);
    let numbers = sources.max(4);
    let closed = (0..8).filter(|closed| closed & needed == 0);
    closed
        .flat_map(|closed| {
            // What is closed has no flag.
            (0..1u32 << numbers).filter(move |flags| flags & closed == 0).map(move |flags| {
                // The numbers above have the flag of the last one, which is open.
                let like_them = flags >> (numbers - 1) & 1 == 1;
                let others = if like_them { everything >> numbers << numbers } else { 0 };
                State { open: everything & !closed, cloexec: flags | others | spare }
            })
        })
        .collect()
}

/// In each state all ways of closing, or where it is `in_turn`, one of them, beginning
/// with another. Without the slowest, which reads a directory, unless asked to.
fn check(
    hands: &mut Hands,
    map: &[(i32, i32)],
    states: &[State],
    in_turn: Option<usize>,
    listed: bool,
) -> Result<(), String> {
    let mut closings = vec![Closing::Each { below: WINDOW }, Closing::Keep];
    if listed {
        closings.push(Closing::Listed);
    }
    if kernel_has_close_range() {
        closings.extend([Closing::Unshare, Closing::Range]);
    }
    let ways = closings.len();
    for (way, closing) in closings.into_iter().enumerate() {
        let mut fd_map = fd_map(map, closing);
        let plan = fd_map.solve().map_err(|error| error.to_string())?;
        let steps = all_steps(&plan);
        let (first, step) = in_turn.map_or((0, 1), |turn| ((turn + way) % ways, ways));
        for &state in states.iter().skip(first).step_by(step) {
            let found = hands.carry_out(state, &steps)?;
            found
                .and_then(|found| verify(map, closing, state, &found))
                .map_err(|error| format!("{error}: {map:?}, {closing:?}, {state:?}\n{plan}"))?;
        }
    }
    Ok(())
}

fn fd_map(map: &[(i32, i32)], closing: Closing) -> FdMap<8> {
    let mut fd_map = FdMap::new();
    for &(target, source) in map {
        fd_map.map(target, source).expect("a number of the window");
    }
    if closing == Closing::Keep {
        for fd in SPARE {
            fd_map.spare(fd).expect("room");
        }
    }
    fd_map.closing(closing);
    fd_map
}

fn all_steps(plan: &FdPlan<'_>) -> Vec<Step> {
    plan.closing().chain(plan.moves().iter().copied()).collect()
}

/// Whether exec will find the request there.
fn verify(map: &[(i32, i32)], closing: Closing, state: State, found: &Found) -> Result<(), String> {
    for (number, &now) in (0..).zip(found) {
        let before = state.at(number);
        let right = match map.iter().find(|&&(target, _)| target == number) {
            Some(&(_, source)) => now == Some((source, false)),
            None if closing != Closing::Keep => now.is_none_or(|(_, cloexec)| cloexec),
            None if SPARE.contains(&number) => now.is_some_and(|(_, cloexec)| cloexec),
            None => now == before,
        };
        if !right {
            return Err(format!("fd {number} was {before:?} and is {now:?}"));
        }
    }
    Ok(())
}

/// The copies in the order of their targets, each cycle left to break.
#[test]
fn control_copies_in_the_order_of_targets_are_noticed() {
    let (wrong, right) = in_a_table_of_its_own(|hands| {
        let mut counts = (0, 0);
        for map in every_map(4, 4) {
            let moves = map.iter().map(|&(to, from)| match to == from {
                true => Step::ClearCloexec { fd: to },
                false => Step::Dup2 { from, to },
            });
            let mark = Step::MarkRange { first: 0, last: None };
            let steps: Vec<Step> = [mark].into_iter().chain(moves).collect();
            // A source that is overwritten before it is read.
            let overwritten = map.iter().any(|&(target, source)| {
                source < target && map.iter().any(|&(t, s)| t == source && s != t)
            });
            for state in states(&map, 4) {
                let found = hands.carry_out(state, &steps)?;
                let result = found.and_then(|found| verify(&map, Closing::Range, state, &found));
                if result.is_err() != overwritten {
                    return Err(format!("{result:?}: {map:?}, {state:?}"));
                }
                *(if overwritten { &mut counts.0 } else { &mut counts.1 }) += 1;
            }
        }
        Ok(counts)
    });
    assert!(wrong > 1000 && right > 1000, "{wrong} wrong, {right} right");
}

/// A plan that lacks a step is noticed in one state at least, if it matters.
#[test]
fn control_a_step_that_is_missing_is_noticed() {
    let unnoticed = in_a_table_of_its_own(|hands| {
        let mut unnoticed = 0;
        for (map, closing) in every_map(3, 3)
            .flat_map(|map| [Closing::Range, Closing::Keep].map(|c| (map.clone(), c)))
        {
            let mut fd_map = fd_map(&map, closing);
            let steps = all_steps(&fd_map.solve().map_err(|error| error.to_string())?);
            for missing in 0..steps.len() {
                let mut less = steps.clone();
                less.remove(missing);
                let mut is_noticed = false;
                for state in states(&map, 3) {
                    let found = hands.carry_out(state, &less)?;
                    let result = found.and_then(|found| verify(&map, closing, state, &found));
                    is_noticed |= result.is_err();
                }
                unnoticed += usize::from(!is_noticed);
            }
        }
        Ok(unnoticed)
    });
    assert_eq!(unnoticed, 0);
}

/// A table that is not the one that a plan is to start from ends the test, before
/// the plan can hide it.
#[test]
fn control_a_table_that_is_not_the_states_is_noticed() {
    let swap = [Step::Dup2 { from: 0, to: 7 }, Step::Dup2 { from: 1, to: 0 }];
    let (told, confirmed) = in_a_table_of_its_own(|hands| {
        let all = states(&[(0, 1), (1, 0)], 4);
        let mut told = 0;
        for state in &all {
            hands.carry_out(*state, &swap)??;
            hands.pretend(*state);
            told += usize::from(hands.carry_out(*state, &swap).is_err());
        }
        Ok((told, all.len()))
    });
    assert_eq!(told, confirmed);
}
