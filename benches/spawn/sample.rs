//! One measurement: two times, and how often the parent allocated.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forkplan_benches::count::allocations;

/// What one spawn took.
#[derive(Clone, Copy)]
pub struct Sample {
    /// From before the first pipe until the spawn has returned.
    pub spawn: Duration,
    /// Until the child is reaped and everything closed.
    pub full: Duration,
    /// Allocations until the spawn has returned.
    pub allocations: u64,
}

/// Running since before the first syscall.
pub struct Watch {
    allocations: u64,
    start: Instant,
}

/// Running on, the first time taken.
pub struct Spawned {
    start: Instant,
    spawn: Duration,
    allocations: u64,
}

/// Whether places are marked in a trace, by a syscall that does nothing.
pub static MARKS: AtomicBool = AtomicBool::new(false);

/// What is asked for at a mark: the group of a process that can't exist.
pub const MARK: i32 = 0x4000_0000;

fn mark() {
    if MARKS.load(Ordering::Relaxed) {
        // SAFETY: no pointers; asks.
        unsafe { libc::getpgid(MARK) };
    }
}

impl Watch {
    pub fn start() -> Self {
        mark();
        Self { allocations: allocations(), start: Instant::now() }
    }

    pub fn spawned(self) -> Spawned {
        let spawn = self.start.elapsed();
        let allocations = allocations() - self.allocations;
        mark();
        Spawned { start: self.start, spawn, allocations }
    }
}

impl Spawned {
    pub fn done(self) -> Sample {
        let full = self.start.elapsed();
        mark();
        Sample { spawn: self.spawn, full, allocations: self.allocations }
    }
}
