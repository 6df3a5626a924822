//! How much memory a pump takes: for what flows through, and for its children.

use std::fs;

use forkplan::{Backend, Event, Pump};
use forkplan_benches::record::Place;

use crate::drain::flood;
use crate::events::ticker;
use crate::sample::Bench;

pub fn run(bench: &mut Bench) {
    println!("\nmemory: KiB that this process was larger at most than before\n");
    for mib in [64, 512] {
        let bytes = bench.options.mib(mib);
        let (mut child, mut pump) = (flood(bytes), Pump::new());
        let kib = peak(|| drain(&mut pump, child.spawn().unwrap(), bytes));
        note(bench, "MiB", bytes >> 20, "forkplan, Pump, one child", kib);
    }
    for backend in [Backend::Poll, Backend::Epoll] {
        let children: u32 = if bench.options.quick { 100 } else { 1000 };
        let kib = peak(|| {
            let mut pump = Pump::with_backend(backend).unwrap();
            let mut ticker = ticker(children);
            for _ in 0..children {
                pump.add(ticker.spawn().unwrap());
            }
            let mut silent = children;
            while silent > 0 {
                pump.poll(None).unwrap();
                while let Some(event) = pump.next_event() {
                    if matches!(event, Event::Data { .. }) {
                        silent = silent.saturating_sub(1);
                    }
                }
            }
        });
        note(bench, "children", children.into(), &format!("forkplan, Pump ({backend:?})"), kib);
    }
}

fn drain(pump: &mut Pump, child: forkplan::Child, bytes: u64) {
    pump.add(child);
    let mut count = 0;
    while !pump.is_empty() {
        pump.poll(None).unwrap();
        while let Some(event) = pump.next_event() {
            if let Event::Data { bytes, .. } = event {
                count += bytes.len() as u64;
            }
        }
    }
    assert_eq!(count, bytes);
}

fn note(bench: &mut Bench, axis: &str, x: u64, contender: &str, kib: u64) {
    println!("{contender:42} {x:>6} {axis:10} {kib:>8} KiB");
    bench
        .record
        .count(Place { part: "memory", axis, x, contender, figure: "peak", unit: "KiB" }, kib);
}

/// By how much the highest resident memory meanwhile is above that at the start.
fn peak(body: impl FnOnce()) -> u64 {
    // Sets the highest to what is there now.
    fs::write("/proc/self/clear_refs", "5").expect("a kernel that tells");
    let before = highest();
    body();
    highest().saturating_sub(before)
}

fn highest() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).expect("a number")
}
