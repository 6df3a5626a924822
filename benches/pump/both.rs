//! Bytes through `cat` and back.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::thread;

use forkplan::Channel::{ReadPipe, WritePipe};
use forkplan::{Backend, Channel, Command, Event, Prepared, Pump};

use crate::actor;
use crate::drain::finish;
use crate::raw::{self, BLOCK};
use crate::sample::{Bench, Contender, Title};

/// What `Pump::write` is offered at once: more than it takes.
const OFFER: usize = 1 << 20;

pub fn run(bench: &mut Bench) {
    let bytes = bench.options.mib(1024);
    let words = format!("both ways: {} MiB through cat and back", bytes >> 20);
    let contenders = vec![
        threads("two threads, blocking, 64 KiB", bytes),
        threads("two threads again (A/A)", bytes),
        pump("forkplan, Pump (poll)", bytes, Backend::Poll, None),
        pump("forkplan, Pump (epoll)", bytes, Backend::Epoll, None),
        pump("forkplan, Pump (poll), nothing queued", bytes, Backend::Poll, Some(0)),
        poll("poll, read and write to EAGAIN", bytes, BLOCK, BLOCK),
        poll("the same, 256 KiB pipes, 128 KiB buffer", bytes, 2 * BLOCK, 4 * BLOCK),
    ];
    let rounds = bench.options.rounds(11, 3);
    bench.compare(Title { part: "both", axis: "MiB", x: bytes >> 20, words }, contenders, rounds);
}

fn cat() -> Prepared<'static> {
    Command::new("cat").fd(0, WritePipe).fd(1, ReadPipe).fd(2, Channel::stderr()).prepare().unwrap()
}

fn threads(name: &str, bytes: u64) -> Contender<'_> {
    let mut cat = cat();
    let block = vec![b'x'; BLOCK];
    let mut buffer = vec![0; BLOCK];
    Contender::new(name, move || {
        let mut child = cat.spawn().unwrap();
        let mut to: File = raw::file(child.take(0));
        let from: File = raw::file(child.take(1));
        thread::scope(|scope| {
            let block = &block;
            scope.spawn(move || {
                for _ in 0..bytes / BLOCK as u64 {
                    to.write_all(block).unwrap();
                }
            });
            assert_eq!(actor::count(from, &mut buffer), bytes);
        });
        finish(child);
    })
}

fn pump(name: &str, bytes: u64, backend: Backend, high_water: Option<usize>) -> Contender<'_> {
    let mut cat = cat();
    let block = vec![b'x'; OFFER];
    let mut pump = Pump::with_backend(backend).unwrap();
    Contender::new(name, move || {
        let key = pump.add(cat.spawn().unwrap());
        if let Some(bytes) = high_water {
            pump.set_high_water(key, 0, bytes).unwrap();
        }
        let (mut left, mut count) = (bytes, 0);
        // As much as is taken; then again when it is drained.
        let mut offer = |pump: &mut Pump| {
            while left > 0 {
                let offered = left.min(OFFER as u64);
                let taken = pump.write(key, 0, &block[..offered as usize]).unwrap() as u64;
                left -= taken;
                if taken < offered {
                    return;
                }
            }
            pump.close(key, 0).unwrap();
        };
        offer(&mut pump);
        while !pump.is_empty() {
            pump.poll(None).unwrap();
            while let Some(event) = pump.next_event() {
                match event {
                    Event::Data { bytes, .. } => count += bytes.len() as u64,
                    Event::Drained { .. } => offer(&mut pump),
                    _ => {}
                }
            }
        }
        assert_eq!(count, bytes);
    })
}

fn poll(name: &str, bytes: u64, block: usize, pipe: usize) -> Contender<'_> {
    let mut cat = cat();
    let offer = vec![b'x'; OFFER];
    let mut buffer = vec![0; block];
    Contender::new(name, move || {
        let mut child = cat.spawn().unwrap();
        let mut to = child.take(0).map(File::from);
        let from = raw::file(child.take(1));
        to.iter().chain([&from]).for_each(|end| {
            raw::set_nonblocking(end);
            if pipe > BLOCK {
                raw::set_pipe_size(end, pipe);
            }
        });
        let (mut left, mut count) = (bytes, 0);
        'open: loop {
            let writer = to.as_ref().map_or(-1, AsRawFd::as_raw_fd);
            let mut fds =
                [raw::polled(from.as_raw_fd(), libc::POLLIN), raw::polled(writer, libc::POLLOUT)];
            raw::poll(&mut fds, -1);
            if fds[1].revents != 0 {
                while let Some(end) = &to {
                    if left == 0 {
                        to = None;
                        break;
                    }
                    let len = left.min(OFFER as u64) as usize;
                    match raw::write(end, &offer[..len]) {
                        Some(written) => left -= written as u64,
                        None => break,
                    }
                }
            }
            if fds[0].revents != 0 {
                loop {
                    match raw::read(&from, &mut buffer) {
                        None => break,
                        Some(0) => break 'open,
                        Some(len) => count += len as u64,
                    }
                }
            }
        }
        assert_eq!(count, bytes);
        finish(child);
    })
}
