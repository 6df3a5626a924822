//! A dispatched event costs no allocation, nor does a frame that is not cut, nor
//! what a handler does with its channels.

#[path = "support/protocol.rs"]
mod support;

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use std::alloc::System;

use forkplan::{
    Channel, ChildKey, Command, Framed, FromReader, LengthPrefixed, Lines, OnData, Prefix,
    Producer, Protocols, PushProducer, Transport,
};
use support::{Watch, spawn};

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

/// Sends `bytes` through `cat`, until `back` says that all are back.
fn round(
    protocols: &mut Protocols<'_>,
    cat: ChildKey,
    bytes: &[u8],
    back: &Cell<usize>,
    all: usize,
) {
    let watch = Watch::new();
    back.set(0);
    assert_eq!(protocols.pump_mut().write(cat, 0, bytes), Ok(bytes.len()));
    while back.get() < all {
        watch.poll_plain(protocols.pump_mut());
        protocols.dispatch();
    }
}

#[test]
fn established_handlers_cost_no_allocation() {
    let back = Cell::new(0);
    let mut protocols = Protocols::new();
    let cat = protocols.add(spawn(&mut Command::new("cat")), ());
    let count = OnData(|channel, bytes| {
        back.set(back.get() + bytes.len());
        // What a handler may do at each event.
        channel.pause().unwrap();
        channel.resume().unwrap();
        assert!(channel.process().id().is_some());
    });
    protocols.on(cat, 1, count).unwrap();
    let bytes = [b'x'; 5000];
    for _ in 0..20 {
        round(&mut protocols, cat, &bytes, &back, bytes.len());
    }
    let made = allocations(|| {
        for _ in 0..40 {
            round(&mut protocols, cat, &bytes, &back, bytes.len());
        }
    });
    assert_eq!(made, 0);
}

#[test]
fn frames_cost_no_allocation() {
    let (lines, packets) = (Cell::new(0), Cell::new(0));
    let mut protocols = Protocols::new();
    let first = protocols.add(spawn(&mut Command::new("cat")), ());
    let second = protocols.add(spawn(&mut Command::new("cat")), ());
    let count = Framed::new(Lines::new(100), |_, _| lines.set(lines.get() + 1));
    protocols.on(first, 1, count).unwrap();
    let count = Framed::new(LengthPrefixed::new(Prefix::U16Be, 100), |_, _| {
        packets.set(packets.get() + 1);
    });
    protocols.on(second, 1, count).unwrap();
    let text = b"a line\nand another one\n\n";
    let mut bytes = Vec::new();
    for frame in [&b"one"[..], b"", b"three"] {
        Prefix::U16Be.append(frame, &mut bytes).unwrap();
    }
    let mut both = || {
        for _ in 0..20 {
            round(&mut protocols, first, text, &lines, 3);
            round(&mut protocols, second, &bytes, &packets, 3);
        }
    };
    both();
    assert_eq!(allocations(both), 0);
}

/// Pushes until it is paused, and counts how often it was.
struct Pusher<'c>(&'c Cell<usize>);

impl PushProducer for Pusher<'_> {
    fn pause(&mut self, _: &mut Transport<'_>) {
        self.0.set(self.0.get() + 1);
    }

    fn resume(&mut self, channel: &mut Transport<'_>) {
        while channel.write(&[0; 10_000]) == Ok(10_000) {}
    }
}

#[test]
fn established_producers_cost_no_allocation() {
    let pauses = Cell::new(0);
    let mut protocols = Protocols::new();
    let keys = [(); 2].map(|()| {
        // Small pieces, so that a pusher is faster.
        let mut dd = Command::new("dd");
        dd.args(["bs=512", "of=/dev/null"]).fd(0, Channel::WritePipe).fd(2, Channel::Null);
        protocols.add(spawn(&mut dd), ())
    });
    let zeros = Producer::pull(FromReader::new(std::io::repeat(0)));
    protocols.register_producer(keys[0], 0, zeros).unwrap();
    protocols.register_producer(keys[1], 0, Producer::push(Pusher(&pauses))).unwrap();
    // Each queue has its fill once.
    for key in keys {
        while protocols.pump_mut().write(key, 0, &[0; 10_000]) == Ok(10_000) {}
    }
    let watch = Watch::new();
    let mut until_paused = |times| {
        let (before, mut told) = (pauses.get(), 0);
        while pauses.get() < before + times || told < 2 * times {
            watch.poll_plain(protocols.pump_mut());
            told += protocols.dispatch();
        }
    };
    until_paused(20);
    assert_eq!(allocations(|| until_paused(20)), 0);
    for key in keys {
        protocols.pump_mut().abort_all(key).unwrap();
    }
}

#[test]
fn control_a_handler_that_is_set_allocates() {
    let mut protocols = Protocols::new();
    let cat = protocols.add(spawn(&mut Command::new("cat")), ());
    let big = [0; 100];
    let made =
        allocations(|| protocols.on(cat, 1, OnData(move |_, _| assert_eq!(big[0], 0))).unwrap());
    assert!(made > 0);
}
