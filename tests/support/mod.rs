//! What the integration tests share.

// Each test file is a crate of its own and uses its own part of this.
#![allow(dead_code, unused_imports)]

mod amount;
pub(crate) mod call_commands;
pub(crate) mod errnos;
pub(crate) mod fault_commands;
mod fault_rules;
pub(crate) mod fault_search;
pub(crate) mod fault_ways;
pub(crate) mod faults;
pub(crate) mod held;
pub(crate) mod holder;
pub(crate) mod isolation;
mod look;
pub(crate) mod makers;
pub(crate) mod mounts;
mod program;
pub(crate) mod refusals;
pub(crate) mod seccomp;
pub(crate) mod state;
pub(crate) mod storm;
pub(crate) mod subjects;
mod subprocess;
mod terminal;
pub(crate) mod trace;
pub(crate) mod trace_lines;

pub(crate) use self::amount::{amount, optimized};
pub(crate) use self::look::{
    File, Open, fds_of, fds_of_self, file_of, own_cpu, place_at, session_of, signal_set,
    terminal_number, with_fd,
};
pub(crate) use self::makers::{By, MAKERS, Maker, STARTS};
pub(crate) use self::program::{end, marker, pause, write_program};
pub(crate) use self::subprocess::{
    assert_done, beside, far_side, far_side_without_stderr, if_far_side, in_subprocess,
    in_subprocesses, no_child_is_left, say, self_as,
};
pub(crate) use self::terminal::terminal;

use core::fmt::Display;
use std::io::{self, Write};

use forkplan::{Features, SpawnError};

/// What is done without, in turn: each fallback, and all of them at once.
pub(crate) const EXCLUSIONS: [Features; 8] = [
    Features::empty(),
    Features::SHARED_FILES,
    Features::CLONE3,
    Features::PIDFD,
    Features::CLOSE_RANGE,
    Features::CLOSE_RANGE.union(Features::PROC_FD),
    Features::SHARED_MEMORY,
    Features::all(),
];

/// The two ways to make a child: one that shares memory, one that copies it.
pub(crate) const PATHS: [Features; 2] = [Features::empty(), Features::SHARED_MEMORY];

/// The ways to clone a child that never shares memory, as one in new namespaces.
pub(crate) const CLONES: [Features; 3] = [Features::empty(), Features::CLONE3, Features::all()];

/// Says that a test can't do its work here. Not by a macro, which the harness
/// would keep to itself.
pub(crate) fn skipped(test: &str, why: impl Display) {
    let _ = writeln!(io::stderr(), "SKIPPED: {test}: {why}");
}

/// What a failed spawn was about, in words.
pub(crate) fn description(error: &SpawnError) -> Option<&str> {
    error.description()
}
