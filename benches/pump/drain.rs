//! A child that writes as fast as it can, and a parent that looks at no byte.

use std::env;
use std::io;
use std::os::fd::AsRawFd;
use std::process::{self, Stdio};

use forkplan::Channel::{Null, ReadPipe};
use forkplan::{Backend, Channel, Child, Command, Event, Prepared, Pump};

use crate::actor;
use crate::raw::{self, BLOCK};
use crate::sample::{Bench, Contender, Title};

pub fn run(bench: &mut Bench) {
    let bytes = bench.options.mib(512);
    let words = format!("drain: {} MiB from one child", bytes >> 20);
    let contenders = vec![
        bare("bare loop, blocking, 64 KiB", bytes),
        bare("bare loop again (A/A)", bytes),
        pump("forkplan, Pump (poll)", bytes, Backend::Poll),
        pump("forkplan, Pump (epoll)", bytes, Backend::Epoll),
        poll("poll + one read", bytes, 1, BLOCK),
        poll("poll + read to EAGAIN", bytes, u32::MAX, BLOCK),
        poll("the same, 256 KiB pipe and buffer", bytes, u32::MAX, 4 * BLOCK),
        io_copy("std, io::copy to a sink (8 KiB)", bytes),
    ];
    let rounds = bench.options.rounds(15, 3);
    bench.compare(Title { part: "drain", axis: "MiB", x: bytes >> 20, words }, contenders, rounds);
}

/// Raw loops over pipes of several sizes, with a buffer of as much, 256 KiB at
/// most.
pub fn run_with_pipe_sizes(bench: &mut Bench) {
    let bytes = bench.options.mib(256);
    let words = format!("pipes: {} MiB from one child, by the pipe's size", bytes >> 20);
    let mut contenders = vec![
        poll("pipe of 64 KiB, poll + read to EAGAIN", bytes, u32::MAX, BLOCK),
        poll("pipe of 64 KiB again (A/A)", bytes, u32::MAX, BLOCK),
        pump("forkplan, Pump, which grows it", bytes, Backend::Poll),
    ];
    for (name, pipe, buffer) in [
        ("pipe of 128 KiB", 2 * BLOCK, 2 * BLOCK),
        ("pipe of 256 KiB, buffer of 64", 4 * BLOCK, BLOCK),
        ("pipe of 256 KiB, buffer of 128", 4 * BLOCK, 2 * BLOCK),
        ("pipe of 256 KiB", 4 * BLOCK, 4 * BLOCK),
        ("pipe of 1 MiB", 16 * BLOCK, 4 * BLOCK),
    ] {
        contenders.push(poll_sized(name, bytes, u32::MAX, buffer, pipe));
    }
    let rounds = bench.options.rounds(15, 3);
    bench.compare(Title { part: "pipes", axis: "MiB", x: bytes >> 20, words }, contenders, rounds);
}

/// A child that writes that much to its 1.
pub fn flood(bytes: u64) -> Prepared<'static> {
    Command::new(env::current_exe().unwrap())
        .args(actor::flood(bytes))
        .fd(0, Null)
        .fd(1, ReadPipe)
        .fd(2, Channel::stderr())
        .prepare()
        .unwrap()
}

/// The same for std.
pub fn std_flood(bytes: u64) -> process::Command {
    let mut command = process::Command::new(env::current_exe().unwrap());
    command.args(actor::flood(bytes)).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

pub fn finish(mut child: Child) {
    let exit = child.wait().unwrap();
    assert!(exit.success(), "{exit}");
}

fn bare(name: &str, bytes: u64) -> Contender<'_> {
    let mut flood = flood(bytes);
    let mut buffer = vec![0; BLOCK];
    Contender::new(name, move || {
        let mut child = flood.spawn().unwrap();
        assert_eq!(actor::count(raw::file(child.take(1)), &mut buffer), bytes);
        finish(child);
    })
}

fn pump(name: &str, bytes: u64, backend: Backend) -> Contender<'_> {
    let mut flood = flood(bytes);
    let mut pump = Pump::with_backend(backend).unwrap();
    Contender::new(name, move || {
        pump.add(flood.spawn().unwrap());
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
    })
}

/// A loop over poll that reads so many times for each wake-up.
fn poll(name: &str, bytes: u64, reads: u32, block: usize) -> Contender<'_> {
    poll_sized(name, bytes, reads, block, block)
}

fn poll_sized(name: &str, bytes: u64, reads: u32, block: usize, pipe: usize) -> Contender<'_> {
    let mut flood = flood(bytes);
    let mut buffer = vec![0; block];
    Contender::new(name, move || {
        let mut child = flood.spawn().unwrap();
        let end = raw::file(child.take(1));
        raw::set_nonblocking(&end);
        if pipe > BLOCK {
            raw::set_pipe_size(&end, pipe);
        }
        let mut count = 0;
        'open: loop {
            raw::poll(&mut [raw::polled(end.as_raw_fd(), libc::POLLIN)], -1);
            for _ in 0..reads {
                match raw::read(&end, &mut buffer) {
                    None => break,
                    Some(0) => break 'open,
                    Some(len) => count += len as u64,
                }
            }
        }
        assert_eq!(count, bytes);
        finish(child);
    })
}

fn io_copy(name: &str, bytes: u64) -> Contender<'_> {
    let mut flood = std_flood(bytes);
    Contender::new(name, move || {
        let mut child = flood.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        assert_eq!(io::copy(&mut stdout, &mut io::sink()).unwrap(), bytes);
        assert!(child.wait().unwrap().success());
    })
}
