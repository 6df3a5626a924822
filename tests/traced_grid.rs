//! The child's syscalls, as strace sees them, are the printed plan: for every map
//! of up to three targets over three sources, and for every kind of channel on
//! one, two and three child fds; each spawned and started, on the fast path and by one
//! set of fallbacks, another one for each. By all eight:
//!
//!     FORKPLAN_TEST_FALLBACKS=8 cargo test --test traced_grid
//!
//! `tests/traced.rs` has commands that people write and one that fails,
//! `tests/setup_traced.rs` every kind of step.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

#[path = "support/fd_maps.rs"]
mod fd_maps;
#[path = "support/kinds.rs"]
mod kinds;
mod support;

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use fd_maps::{count_of_maps, every_map};
use forkplan::{Channel, Command};
use kinds::{ENDLESS, KINDS};
use rustix::process::{Resource, Rlimit, setrlimit};
use support::trace::{assert_traced, files, spawn_and_note, start_and_note, trace};
use support::{EXCLUSIONS, amount, end, with_fd};

/// Targets, and as many sources with the same numbers.
const TARGETS: u32 = 3;
/// The lowest of those numbers: above what a test binary has open.
const FIRST: i32 = 40;
/// As in `tests/channel_grid.rs`.
const FDS: [&[i32]; 3] = [&[3], &[1, 8], &[7, 0, 2]];

#[test]
fn the_childs_syscalls_are_the_printed_plan_of_every_small_map() {
    let name = "the_childs_syscalls_are_the_printed_plan_of_every_small_map";
    let Some(dir) = trace(name, spawn_maps) else { return };
    let maps: u32 = (0..=TARGETS).map(|targets| count_of_maps(targets, targets)).sum();
    check(dir.path(), maps as usize * cells());
}

#[test]
fn the_childs_syscalls_are_the_printed_plan_of_every_kind_of_channel() {
    let name = "the_childs_syscalls_are_the_printed_plan_of_every_kind_of_channel";
    let Some(dir) = trace(name, spawn_kinds) else { return };
    check(dir.path(), (KINDS.len() + ENDLESS.len()) * FDS.len() * cells());
}

/// How many children each map and each kind has: one by each set is spawned, and
/// as many are started.
fn cells() -> usize {
    2 * fallbacks()
}

fn fallbacks() -> usize {
    amount("FORKPLAN_TEST_FALLBACKS", 2).min(EXCLUSIONS.len())
}

/// That each child did what was expected, with the control that is in
/// `assert_traced`.
fn check(dir: &Path, spawns: usize) {
    let expected = files(dir, "expected.");
    assert_eq!(expected.len(), spawns);
    for (pid, expected) in expected {
        let traced = std::fs::read_to_string(dir.join(format!("trace.{pid}"))).unwrap();
        assert_traced(&traced, &expected);
    }
}

/// The slowest way of closing makes a syscall for each number.
fn lower_limit() {
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) }).unwrap();
}

fn spawn_maps(dir: &Path) {
    let file = tempfile::tempfile().unwrap();
    let sources =
        [(); TARGETS as usize].map(|()| rustix::io::fcntl_dupfd_cloexec(&file, FIRST).unwrap());
    assert_eq!(sources.each_ref().map(OwnedFd::as_raw_fd), [FIRST, FIRST + 1, FIRST + 2]);
    lower_limit();
    let maps = (0..=TARGETS).flat_map(|targets| every_map(targets, targets));
    for (map, turn) in maps.zip(0..) {
        spawn(dir, turn, |command| {
            // Without any, there would be pipes.
            command.fd(FIRST + TARGETS as i32, Channel::Null);
            for &(target, source) in &map {
                command.fd(FIRST + target, Channel::from(with_fd(FIRST + source)));
            }
        });
    }
}

fn spawn_kinds(dir: &Path) {
    lower_limit();
    let kinds = KINDS.iter().map(|kind| kind.make);
    let kinds = kinds.chain(ENDLESS.iter().map(|kind| kind.make));
    let cells = kinds.flat_map(|make| FDS.map(|fds| (make, fds)));
    for ((make, fds), turn) in cells.zip(0..) {
        spawn(dir, turn, |command| {
            let place = tempfile::tempdir_in(dir).unwrap().keep();
            command.fds(fds.iter().copied(), make(&place));
        });
    }
}

/// Without anything left out, and then with one of the sets after the other.
fn spawn(dir: &Path, turn: usize, set: impl Fn(&mut Command<'_>)) {
    let (fast, others) = EXCLUSIONS.split_first().unwrap();
    let others = others.iter().cycle().skip(turn % others.len());
    for &without in core::iter::once(fast).chain(others).take(fallbacks()) {
        // What was given is gone with the first.
        let new = || {
            let mut command = Command::new(end());
            set(&mut command);
            command
        };
        let mut prepared = new().without(without).prepare().unwrap();
        let mut child = spawn_and_note(dir, prepared.open().unwrap(), false);
        assert!(child.wait().unwrap().success());
        drop(prepared);
        assert!(start_and_note(dir, new().without(without), false).wait().unwrap().success());
    }
}
