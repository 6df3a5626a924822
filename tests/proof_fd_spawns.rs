//! Every fd map of up to five targets over five sources, by real children: each
//! says what it found on which number.
//!
//! Each map on the fast path and by one fallback, with 0, 1 and 2 open or closed
//! and the others close-on-exec or not as the turn has it. All of them, by every
//! fallback, with every set of closed numbers, both without and with the flag:
//!
//!     FORKPLAN_TEST_ALL_STATES=5 cargo test --release --test proof_fd_spawns
#![cfg(target_os = "linux")]

mod support;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;

use forkplan::{Channel, Command, Features};
use rustix::fs::{SeekFrom, seek};
use rustix::process::{Resource, Rlimit, setrlimit};
use support::{EXCLUSIONS, amount, in_subprocess, marker, no_child_is_left, optimized, with_fd};

#[path = "support/fd_maps.rs"]
mod fd_maps;

use fd_maps::every_map;

/// The low numbers of the parent, which are sources and targets alike.
const NUMBERS: i32 = 5;

/// What the parent has at its low numbers.
#[derive(Clone, Copy, Debug)]
struct State {
    closed: u32,
    cloexec: u32,
}

impl State {
    fn is_open(self, number: i32) -> bool {
        self.closed >> number & 1 == 0
    }

    fn is_cloexec(self, number: i32) -> bool {
        self.cloexec >> number & 1 == 1
    }
}

/// A file for each of the low numbers, told by its offset, and kept far above.
struct Files([OwnedFd; NUMBERS as usize]);

impl Files {
    fn new() -> Self {
        let files = core::array::from_fn(|_| {
            let file = tempfile::tempfile().unwrap();
            rustix::io::fcntl_dupfd_cloexec(&file, 200).unwrap()
        });
        // Of the slowest way of closing, which looks at each number below it.
        let limit = Some(256);
        setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
        Self(files)
    }

    fn set_up(&self, state: State) {
        for (file, number) in self.0.iter().zip(0..) {
            seek(file, SeekFrom::Start(0)).unwrap();
            let flags = if state.is_cloexec(number) { libc::O_CLOEXEC } else { 0 };
            if state.is_open(number) {
                // SAFETY: no pointers; the low numbers are the test's, and
                // nobody's property here.
                let placed = unsafe { libc::dup3(file.as_raw_fd(), number, flags) };
                assert_eq!(placed, number);
            } else {
                // SAFETY: as above. It may be closed already.
                unsafe { libc::close(number) };
            }
        }
    }

    /// For each file the numbers on which the child had it, as bits.
    fn seen(&self) -> [u64; NUMBERS as usize] {
        core::array::from_fn(|i| seek(&self.0[i], SeekFrom::Current(0)).unwrap())
    }

    /// That the parent's fds are as they were.
    fn check(&self, state: State) {
        for (file, number) in self.0.iter().zip(0..) {
            // SAFETY: no pointers.
            let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
            assert_eq!(flags >= 0, state.is_open(number), "{number}: {state:?}");
            if flags >= 0 {
                assert_eq!(flags & libc::FD_CLOEXEC != 0, state.is_cloexec(number), "{state:?}");
                assert_eq!(support::file_of(with_fd(number)), support::file_of(file.as_fd()));
            }
        }
    }
}

fn expected(map: &[(i32, i32)]) -> [u64; NUMBERS as usize] {
    let mut bits = [0; NUMBERS as usize];
    map.iter().for_each(|&(target, source)| bits[source as usize] |= 1 << target);
    bits
}

/// One real child in one state.
fn check(files: &Files, map: &[(i32, i32)], without: Features, state: State) {
    files.set_up(state);
    let mut command = Command::new(marker());
    command.without(without).env_clear();
    for &(target, source) in map {
        command.fd(target, Channel::from(with_fd(source)));
    }
    let exit = command.spawn().map(|mut child| child.wait().unwrap());
    let exit = exit.unwrap_or_else(|e| panic!("{e}: {map:?}, {without:?}, {state:?}"));
    assert!(exit.success(), "{exit}");
    assert_eq!(files.seen(), expected(map), "{map:?}, without {without:?}, {state:?}");
    files.check(state);
}

/// All sets of 0, 1 and 2 that may be closed: those of no source.
fn closed_sets(map: &[(i32, i32)]) -> Vec<u32> {
    let needed = map.iter().fold(0, |bits, &(_, source)| bits | 1u32 << source);
    (0..8).filter(|closed| closed & needed == 0).collect()
}

#[test]
fn every_map_of_up_to_five_reaches_a_real_child() {
    in_subprocess("every_map_of_up_to_five_reaches_a_real_child", || {
        marker();
        let most = optimized(5, 4) as u32;
        let whole = amount("FORKPLAN_TEST_ALL_STATES", 2) as u32;
        let files = Files::new();
        let mut spawns = 0;
        for targets in 1..=most {
            for (map, turn) in every_map(targets, targets).zip(0u32..).skip(1) {
                let closed = closed_sets(&map);
                let all = EXCLUSIONS.iter().flat_map(|&without| {
                    closed.iter().flat_map(move |&closed| {
                        [0, u32::MAX].map(|cloexec| (without, State { closed, cloexec }))
                    })
                });
                let at = turn as usize;
                let state = State { closed: closed[at % closed.len()], cloexec: turn ^ turn >> 5 };
                let some = [(Features::empty(), state), (EXCLUSIONS[at % EXCLUSIONS.len()], state)];
                let cases = if targets <= whole { all.collect() } else { some.to_vec() };
                for (without, state) in cases {
                    check(&files, &map, without, state);
                    spawns += 1;
                }
            }
        }
        assert!(no_child_is_left());
        // At 2 there may be anything by now.
        support::say(&format!("{spawns} children"));
    });
}

/// A child that is given whatever is not close-on-exec shows all of it.
#[test]
fn control_a_leak_is_seen() {
    in_subprocess("control_a_leak_is_seen", || {
        marker();
        let files = Files::new();
        files.set_up(State { closed: 0, cloexec: 0b10 });
        let mut command = Command::new(marker());
        command.inherit_unnamed_fds(true).fd(2, Channel::from(with_fd(0)));
        assert!(command.spawn().unwrap().wait().unwrap().success());
        assert_eq!(files.seen(), [0b101, 0, 0, 0b1000, 0b1_0000]);
    });
}

/// What a loop of `dup2` in the order of targets makes of a map.
#[test]
fn control_copies_in_the_order_of_targets_are_seen() {
    in_subprocess("control_copies_in_the_order_of_targets_are_seen", || {
        marker();
        let files = Files::new();
        let mut wrong = 0;
        for map in every_map(3, 3) {
            files.set_up(State { closed: 0, cloexec: !0 });
            let copies = map.clone();
            let mut command = std::process::Command::new(marker());
            let copy = move || {
                for &(target, source) in &copies {
                    // SAFETY: no pointers.
                    unsafe {
                        libc::dup2(source, target);
                        libc::fcntl(target, libc::F_SETFD, 0);
                    }
                }
                Ok(())
            };
            // SAFETY: makes syscalls alone.
            assert!(unsafe { command.pre_exec(copy) }.status().unwrap().success());
            // What it has at 0, 1 and 2 besides is std's.
            let all = map.iter().fold(0, |bits, (target, _)| bits | 1 << target);
            wrong += usize::from(files.seen().map(|bits| bits & all) != expected(&map));
        }
        assert!((10..60).contains(&wrong), "{wrong}");
    });
}
