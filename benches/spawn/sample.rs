//! One measurement: two times, and how often the parent allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The system's allocator, counting.
pub struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: passes everything on to the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

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

impl Watch {
    pub fn start() -> Self {
        Self { allocations: ALLOCATIONS.load(Ordering::Relaxed), start: Instant::now() }
    }

    pub fn spawned(self) -> Spawned {
        let spawn = self.start.elapsed();
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - self.allocations;
        Spawned { start: self.start, spawn, allocations }
    }
}

impl Spawned {
    pub fn done(self) -> Sample {
        let full = self.start.elapsed();
        Sample { spawn: self.spawn, full, allocations: self.allocations }
    }
}
