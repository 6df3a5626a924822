//! Every fd map of up to six targets over six sources, in every state of the
//! parent's table: each number close-on-exec or not, 0, 1 and 2 open or closed.
//!
//! With seven of each (2,097,152 maps):
//!
//!     FORKPLAN_TEST_TARGETS=7 cargo test --release --test proof_fd_states

use forkplan::plan::{Closing, FdMap, Step};

#[path = "support/amount.rs"]
mod amount;
#[path = "support/fd_maps.rs"]
mod fd_maps;
#[path = "support/fd_model.rs"]
mod fd_model;
#[path = "support/fd_states.rs"]
mod fd_states;

use amount::{amount, optimized};
use fd_maps::every_map;
use fd_model::{Fd, Request, Table, all_steps, apply};
use fd_states::{Bits, Parents, STATES, WINDOW, starts_cloexec, starts_closed};

const CLOSINGS: [Closing; 5] = [
    Closing::Unshare,
    Closing::Range,
    Closing::Listed,
    Closing::Each { below: WINDOW as i32 },
    Closing::Keep,
];

/// The last numbers of the window are no map's, and may be spared.
const SPARE: [i32; 2] = [8, 9];

fn request(map: &[(i32, i32)], keep: &[i32], closing: Closing) -> Request {
    let spare = if closing == Closing::Keep { SPARE.to_vec() } else { Vec::new() };
    Request { spare, ..Request::new(map, keep, closing) }
}

/// The solver's steps in all states, by all ways of closing.
#[track_caller]
fn check(parents: &Parents, map: &[(i32, i32)], keep: &[i32]) {
    for closing in CLOSINGS {
        let request = request(map, keep, closing);
        let mut map = FdMap::<7>::new();
        let plan = request.solve(&mut map);
        let steps = plan.closing().chain(plan.moves().iter().copied());
        let wrong = parents.wrong(&request, steps, |fd| plan.place(fd));
        if let Some(state) = wrong.first() {
            panic!("wrong in state {state:#b}: {request:?}\n{plan}");
        }
        assert_eq!(dups(plan.moves()), request.dups(), "{request:?}\n{plan}");
    }
}

fn dups(steps: &[Step]) -> usize {
    let is_dup = |step: &&Step| matches!(step, Step::Dup2 { .. } | Step::DupCloexec { .. });
    steps.iter().filter(is_dup).count()
}

#[test]
fn every_map_comes_about_in_every_state_of_the_parent() {
    let most = amount("FORKPLAN_TEST_TARGETS", optimized(6, 4)) as u32;
    let parents = Parents::new();
    for targets in 0..=most {
        every_map(targets, targets).for_each(|map| check(&parents, &map, &[]));
    }
}

#[test]
fn every_map_with_a_kept_fd_comes_about_in_every_state_of_the_parent() {
    let most = amount("FORKPLAN_TEST_TARGETS", optimized(6, 4)) as u32 - 1;
    let parents = Parents::new();
    for kept in 0..=most as i32 {
        every_map(most, most).for_each(|map| check(&parents, &map, &[kept]));
    }
}

/// The states that a sequence of steps gets wrong, as the slow model finds them.
fn wrong_by_the_slow_model(
    request: &Request,
    steps: &[Step],
    place: impl Fn(i32) -> Option<i32> + Copy,
) -> Vec<usize> {
    let needed =
        |fd: i32| request.keep.contains(&fd) || request.map.iter().any(|&(_, source)| source == fd);
    let wrong = |&state: &usize| {
        let before: Table = (0..WINDOW as i32)
            .filter(|&number| !starts_closed(number, state))
            .map(|what| (what, Fd { what, cloexec: starts_cloexec(what, state) }))
            .collect();
        let possible = (0..WINDOW as i32).all(|fd| !needed(fd) || before.contains_key(&fd));
        let mut after = before.clone();
        let done = apply(&mut after, steps, i32::MAX);
        possible && done.and_then(|()| request.verify(&before, &after, place)).is_err()
    };
    (0..STATES).filter(wrong).collect()
}

fn listed(bits: Bits) -> Vec<usize> {
    let mut left = bits;
    let mut states = Vec::new();
    while let Some(state) = left.first() {
        states.push(state);
        left = left & !Bits::one(state);
    }
    states
}

/// Both models on right steps, and on each list that lacks one of them.
#[test]
fn both_models_find_the_same_states_wrong() {
    let parents = Parents::new();
    let mut wrong_somewhere = 0;
    let mut wrong_everywhere = 0;
    for closing in CLOSINGS {
        // Fewer where nothing is optimized.
        let sources = optimized(3, 2) as u32;
        let kept = [&[][..], &[0], &[2]];
        for (map, keep) in
            every_map(3, sources).flat_map(|map| kept.map(|kept| (map.clone(), kept)))
        {
            let request = request(&map, keep, closing);
            let mut map = FdMap::<7>::new();
            let plan = request.solve(&mut map);
            let place = |fd| plan.place(fd);
            let right = all_steps(&plan);
            assert_eq!(parents.wrong(&request, right.iter().copied(), place), Bits::NONE);
            for missing in 0..right.len() {
                let mut steps = right.clone();
                steps.remove(missing);
                let fast = listed(parents.wrong(&request, steps.iter().copied(), place));
                let slow = wrong_by_the_slow_model(&request, &steps, place);
                assert_eq!(fast, slow, "{request:?}: {steps:?}");
                wrong_somewhere += usize::from(!fast.is_empty());
                wrong_everywhere += usize::from(fast.len() == STATES);
            }
        }
    }
    // The control: states matter. A step that is missed shows in some of them.
    assert!(wrong_somewhere > 1000, "only {wrong_somewhere}");
    assert!(wrong_everywhere < wrong_somewhere);
}

/// A solver that breaks no cycle, and one that forgets to clear a flag.
#[test]
fn control_a_broken_solver_is_noticed() {
    let parents = Parents::new();
    let breaks: [fn(&Step) -> Option<Step>; 3] = [
        |step| (!matches!(step, Step::DupCloexec { .. })).then_some(*step),
        |step| (!matches!(step, Step::ClearCloexec { .. })).then_some(*step),
        |step| match *step {
            Step::DupCloexec { from, to } => Some(Step::Dup2 { from, to }),
            step => Some(step),
        },
    ];
    for broken in breaks {
        let mut noticed = 0;
        for map in every_map(4, 4) {
            let request = request(&map, &[], Closing::Range);
            let mut map = FdMap::<7>::new();
            let plan = request.solve(&mut map);
            let steps: Vec<Step> = all_steps(&plan).iter().filter_map(broken).collect();
            let changed = steps != all_steps(&plan);
            let wrong = parents.wrong(&request, steps.into_iter(), |fd| plan.place(fd));
            assert_eq!(wrong.first().is_some(), changed, "{request:?}\n{plan}");
            noticed += usize::from(changed);
        }
        assert!(noticed > 30, "only {noticed}");
    }
}
