//! What the integration tests share.

// Each test file is a crate of its own and uses its own part of this.
#![allow(dead_code, unused_imports)]

mod amount;
mod look;
mod program;
pub(crate) mod seccomp;
pub(crate) mod storm;
mod subprocess;

pub(crate) use self::amount::{amount, optimized};
pub(crate) use self::look::{
    File, Open, fds_of, fds_of_self, file_of, place_at, signal_set, with_fd,
};
pub(crate) use self::program::{marker, pause, write_program};
pub(crate) use self::subprocess::{
    beside, in_subprocess, in_subprocesses, no_child_is_left, say, self_as,
};

use forkplan::Features;

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
