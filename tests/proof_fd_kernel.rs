//! Every fd map of up to six targets over six sources, carried out by the kernel
//! in a thread with an fd table of its own, and looked at afterwards.
//!
//! States of the parent's table (each number close-on-exec or not, 0, 1 and 2
//! open or closed): all of them for maps of up to four; of larger maps two that
//! are opposites and one that changes from map to map. All states of all maps,
//! and maps of seven:
//!
//!     FORKPLAN_TEST_ALL_STATES=6 cargo test --release --test proof_fd_kernel
//!     FORKPLAN_TEST_TARGETS=7 cargo test --release --test proof_fd_kernel
//!
//! `tests/solver_kernel.rs` shows that the model agrees with the kernel, also on
//! wrong steps; here there is no model, only the request.
#![cfg(target_os = "linux")]

use std::{fs, io, thread};

use forkplan::plan::{Closing, FdMap, FdPlan, Step};
use libc::{c_int, c_uint};

#[path = "support/amount.rs"]
mod amount;
#[path = "support/fd_maps.rs"]
mod fd_maps;

use amount::{amount, optimized};
use fd_maps::every_map;

/// The numbers that are looked at. Those above them are the harness's own.
const WINDOW: i32 = 10;
/// Of what the parent has at a number there is a copy this much above it.
const COPIES: i32 = 40;
/// No map's: may be spared where unnamed fds are kept.
const SPARE: [i32; 2] = [8, 9];

const CLOSE_RANGE_UNSHARE: c_uint = 1 << 1;
const CLOSE_RANGE_CLOEXEC: c_uint = 1 << 2;

/// What the parent has, a bit for each number of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    open: u32,
    cloexec: u32,
}

/// A table as it is: what is at each number, and whether exec closes it.
type Found = [Option<(i32, bool)>; WINDOW as usize];

#[test]
fn every_map_comes_about_in_the_kernels_hands() {
    let most = amount("FORKPLAN_TEST_TARGETS", optimized(6, 4)) as u32;
    let whole = amount("FORKPLAN_TEST_ALL_STATES", optimized(4, 3)) as u32;
    let plans = in_a_table_of_its_own(move || {
        let mut plans = 0;
        for targets in 0..=most {
            for (map, turn) in every_map(targets, targets).zip(0u32..) {
                let all = states(&map, targets);
                let some = [all[0], all[all.len() - 1], all[turn as usize * 7 % all.len()]];
                let states = if targets <= whole { &all[..] } else { &some[..] };
                plans += check(&map, states, turn % 16 == 0 || targets <= 4)?;
            }
        }
        Ok(plans)
    });
    println!("{plans} plans carried out");
}

/// Every state in which the map's sources are open. The first has all open and
/// nothing close-on-exec, the last as little open as may be and all of that
/// close-on-exec.
fn states(map: &[(i32, i32)], sources: u32) -> Vec<State> {
    let needed = map.iter().fold(0, |bits, &(_, source)| bits | 1u32 << source);
    let everything = (1u32 << WINDOW) - 1;
    // Those that are spared are the caller's, and marked.
    let spare = SPARE.iter().fold(0, |bits, fd| bits | 1u32 << fd);
    let closed = (0..1u32 << sources.min(3)).filter(|closed| closed & needed == 0);
    closed
        .flat_map(|closed| {
            (0..1u32 << sources).map(move |flags| {
                // Numbers that no map has take their flag from the first one.
                let others = if flags & 1 == 1 { everything >> sources << sources } else { 0 };
                State { open: everything & !closed, cloexec: flags | others | spare }
            })
        })
        .collect()
}

/// All ways of closing but the slowest, which reads a directory, unless asked to.
fn check(map: &[(i32, i32)], states: &[State], listed: bool) -> Result<usize, String> {
    let mut closings = vec![Closing::Each { below: WINDOW }, Closing::Keep];
    if listed {
        closings.push(Closing::Listed);
    }
    if close_range(c_int::MAX, None, CLOSE_RANGE_CLOEXEC).is_ok() {
        closings.extend([Closing::Unshare, Closing::Range]);
    }
    let mut plans = 0;
    for closing in closings {
        let mut fd_map = fd_map(map, closing);
        let plan = fd_map.solve().map_err(|error| error.to_string())?;
        for &state in states {
            let found = carry_out(state, &all_steps(&plan))?;
            verify(map, closing, state, &found)
                .map_err(|error| format!("{error}: {map:?}, {closing:?}, {state:?}\n{plan}"))?;
            plans += 1;
        }
    }
    Ok(plans)
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
        let before =
            (state.open >> number & 1 == 1).then_some((number, state.cloexec >> number & 1 == 1));
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

/// Has the kernel take the steps from this state on.
fn carry_out(state: State, steps: &[Step]) -> Result<Found, String> {
    set_up(state).map_err(|error| format!("set up: {error}"))?;
    for &step in steps {
        take(step).map_err(|error| format!("{step}: {error}"))?;
    }
    Ok(core::array::from_fn(|number| look(number as c_int)))
}

/// Runs `work` where it can do to fds what it likes. Nothing there may go to an
/// fd, so what is wrong is returned.
#[track_caller]
fn in_a_table_of_its_own<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> T {
    let thread = thread::spawn(|| {
        // SAFETY: takes integers alone; the thread's fds are its own after it.
        done(unsafe { libc::unshare(libc::CLONE_FILES) }).map_err(|e| e.to_string())?;
        make_copies().map_err(|error| error.to_string())?;
        work()
    });
    thread.join().expect("no panic").unwrap_or_else(|error| panic!("{error}"))
}

/// An open file for each number of the window, told by its offset: asking for
/// that is the cheapest question there is.
fn make_copies() -> io::Result<()> {
    for number in 0..WINDOW {
        // SAFETY: the name is a C string; the rest takes integers. What is
        // overwritten is this thread's alone.
        unsafe {
            let made = done(libc::memfd_create(c"forkplan".as_ptr(), libc::MFD_CLOEXEC))?;
            done(libc::lseek(made, number.into(), libc::SEEK_SET) as c_int)?;
            done(libc::dup3(made, COPIES + number, libc::O_CLOEXEC))?;
            done(libc::close(made))?;
        }
    }
    Ok(())
}

fn set_up(state: State) -> io::Result<()> {
    for number in 0..WINDOW {
        if state.open >> number & 1 == 0 {
            // SAFETY: the number is this thread's, and nobody owns it.
            unsafe { libc::close(number) };
            continue;
        }
        let cloexec = state.cloexec >> number & 1 == 1;
        let flags = if cloexec { libc::O_CLOEXEC } else { 0 };
        // SAFETY: as above.
        done(unsafe { libc::dup3(COPIES + number, number, flags) })?;
    }
    // What a step `Unshare` has closed, or the reading of a directory left.
    let first = WINDOW as c_uint;
    // SAFETY: numbers of this thread's own table that nobody owns.
    unsafe { libc::syscall(libc::SYS_close_range, first, COPIES as c_uint - 1, 0) };
    Ok(())
}

fn look(number: c_int) -> Option<(i32, bool)> {
    // SAFETY: takes integers alone.
    let what = unsafe { libc::lseek(number, 0, libc::SEEK_CUR) };
    // SAFETY: as above.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    (flags >= 0).then_some((what as i32, flags & libc::FD_CLOEXEC != 0))
}

/// The step, but for what it would do to the harness's own numbers.
fn take(step: Step) -> io::Result<()> {
    match step {
        Step::Unshare { first } => close_range(first, Some(COPIES - 1), CLOSE_RANGE_UNSHARE),
        Step::MarkRange { first, last } => close_range(first, last, CLOSE_RANGE_CLOEXEC),
        Step::MarkListed { first } => {
            // The thread's own table; `/proc/self/fd` is the first thread's.
            for name in fs::read_dir("/proc/thread-self/fd")? {
                let number = name?.file_name().to_string_lossy().parse();
                if let Some(number) = number.ok().filter(|number| (first..WINDOW).contains(number))
                {
                    set_cloexec(number, true)?;
                }
            }
            Ok(())
        }
        Step::MarkEach { first, below } => (first..below).try_for_each(|number| {
            set_cloexec(number, true).or_else(|error| {
                (error.raw_os_error() == Some(libc::EBADF)).then_some(()).ok_or(error)
            })
        }),
        Step::Dup2 { from, to } => {
            // SAFETY: numbers of this thread's own table, none of them owned.
            done(unsafe { libc::dup2(from, to) }).map(drop)
        }
        Step::DupCloexec { from, to } => {
            // SAFETY: as above.
            done(unsafe { libc::dup3(from, to, libc::O_CLOEXEC) }).map(drop)
        }
        Step::ClearCloexec { fd } => set_cloexec(fd, false),
        Step::SetCloexec { fd } => set_cloexec(fd, true),
        _ => Err(io::Error::other("no step of an fd plan")),
    }
}

fn close_range(first: c_int, last: Option<c_int>, flags: c_uint) -> io::Result<()> {
    let last = last.map_or(c_uint::MAX, |last| last as c_uint);
    // SAFETY: numbers of this thread's own table, none of them owned.
    done(unsafe { libc::syscall(libc::SYS_close_range, first as c_uint, last, flags) } as c_int)
        .map(drop)
}

fn set_cloexec(fd: c_int, cloexec: bool) -> io::Result<()> {
    let flag = if cloexec { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: takes integers alone.
    done(unsafe { libc::fcntl(fd, libc::F_SETFD, flag) }).map(drop)
}

fn done(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The copies in the order of their targets, each cycle left to break.
#[test]
fn control_copies_in_the_order_of_targets_are_noticed() {
    let (wrong, right) = in_a_table_of_its_own(|| {
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
                let found = carry_out(state, &steps)?;
                let result = verify(&map, Closing::Range, state, &found);
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
    let unnoticed = in_a_table_of_its_own(|| {
        let mut unnoticed = 0;
        for (map, closing) in every_map(3, 3)
            .flat_map(|map| [Closing::Range, Closing::Keep].map(|c| (map.clone(), c)))
        {
            let mut fd_map = fd_map(&map, closing);
            let steps = all_steps(&fd_map.solve().map_err(|error| error.to_string())?);
            for missing in 0..steps.len() {
                let mut less = steps.clone();
                less.remove(missing);
                let is_noticed = |&state: &State| {
                    let found = carry_out(state, &less);
                    found.and_then(|found| verify(&map, closing, state, &found)).is_err()
                };
                unnoticed += usize::from(!states(&map, 3).iter().any(is_noticed));
            }
        }
        Ok(unnoticed)
    });
    assert_eq!(unnoticed, 0);
}
