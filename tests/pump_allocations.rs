//! An established child costs no allocation: not a poll, an event, nor a write
//! that its queue has had room for before.

#[path = "support/pump.rs"]
mod support;

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use std::alloc::System;

use forkplan::{Command, Event, Features, OnDrop};
use support::{TestPump, Watch};

/// The system's allocator, counting for each thread what it asks for: the other
/// tests, and the harness, run beside.
struct Counting;

std::thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // No counter any more while a thread ends.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: hands through to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that it wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(of: impl FnOnce()) -> usize {
    let before = COUNT.get();
    of();
    COUNT.get() - before
}

/// `count` children that give back what they get.
fn cats(count: usize, without: Features) -> (TestPump, Vec<forkplan::ChildKey>) {
    let mut pump = TestPump::new();
    let mut cat = Command::new("cat");
    cat.without(without).on_drop(OnDrop::Kill);
    let keys = (0..count).map(|_| pump.add(cat.spawn().unwrap())).collect();
    (pump, keys)
}

/// Sends `bytes` to each child, as it is taken, and waits for them to be back.
fn round(pump: &mut TestPump, keys: &[forkplan::ChildKey], bytes: &[u8]) {
    let watch = Watch::new();
    for &key in keys {
        let mut taken = pump.write(key, 0, bytes).unwrap();
        let mut back = 0;
        while back < bytes.len() {
            watch.poll(pump);
            let mut drained = false;
            while let Some(event) = pump.next_event() {
                match event {
                    Event::Data { bytes, .. } => back += bytes.len(),
                    Event::Drained { .. } => drained = true,
                    _ => {}
                }
            }
            if drained {
                taken += pump.write(key, 0, &bytes[taken..]).unwrap();
            }
        }
    }
}

#[test]
fn established_children_allocate_nothing() {
    for without in [Features::empty(), Features::PIDFD] {
        for len in [1, 5000, 200_000] {
            let bytes = vec![b'x'; len];
            let (mut pump, keys) = cats(5, without);
            // Until each queue has had its fill.
            for _ in 0..20 {
                round(&mut pump, &keys, &bytes);
            }
            for _ in 0..40 {
                let made = allocations(|| round(&mut pump, &keys, &bytes));
                assert_eq!(made, 0, "in rounds of {len} bytes, without {without:?}");
            }
        }
    }
}

#[test]
fn pausing_and_resuming_allocates_nothing() {
    let (mut pump, keys) = cats(2, Features::empty());
    round(&mut pump, &keys, b"once");
    let made = allocations(|| {
        for _ in 0..50 {
            for &key in &keys {
                pump.pause(key, 1).unwrap();
                pump.resume_all(key).unwrap();
                pump.pause_all(key).unwrap();
                pump.resume(key, 1).unwrap();
            }
            round(&mut pump, &keys, b"again");
        }
    });
    assert_eq!(made, 0);
}

#[test]
fn control_a_child_that_is_added_allocates() {
    let (mut pump, keys) = cats(1, Features::empty());
    round(&mut pump, &keys, b"once");
    let cat = Command::new("cat").on_drop(OnDrop::Kill).spawn().unwrap();
    let made = allocations(|| {
        pump.add(cat);
    });
    assert!(made > 0);
}
