//! CPU per event: many children that say little.
//!
//! The children are the same for all contenders, which take turns of a part of
//! a second in which they alone read. Each child has a pipe and a pidfd.

use std::env;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use forkplan::Channel::{Null, ReadPipe};
use forkplan::{Backend, Channel, Command, Event, OnDrop, Prepared, Pump};
use forkplan_benches::cpu;
use forkplan_benches::record::Place;
use forkplan_benches::stats::Series;

use crate::actor::{self, TICK};
use crate::raw;
use crate::sample::Bench;

/// Of all children together.
const EVENTS_PER_SECOND: u32 = 1000;
/// How often a turn looks at its time.
const WAKE_MS: i32 = 50;
const NAMES: [&str; 5] = [
    "epoll over pipes and pidfds",
    "epoll again (A/A)",
    "forkplan, Pump",
    "poll over pipes and pidfds",
    "poll over pipes",
];

pub fn run(bench: &mut Bench) {
    let quick = bench.options.quick;
    for backend in [Backend::Epoll, Backend::Poll] {
        for children in [10, 100, 1000, 4000] {
            if children > 100 && quick {
                continue;
            }
            // For each a pipe and a pidfd, twice, and some to spare.
            if raise_limit() < 4 * u64::from(children) + 100 {
                println!("\nSKIPPED: events of {children} children: too low a limit on open fds");
                continue;
            }
            run_with(children, backend, bench);
        }
    }
}

/// The limit on open fds, raised as far as it may be.
fn raise_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes the limit, then reads it.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    limit.rlim_cur
}

fn run_with(children: u32, backend: Backend, bench: &mut Bench) {
    let turn = Duration::from_millis(if bench.options.quick { 100 } else { 500 });
    let rounds = bench.options.rounds(9, 2);
    let mut field = Field::new(children, backend);
    // Until all have started.
    let all_started = if bench.options.quick { 500 } else { 2500 };
    field.pump_for(Duration::from_millis(all_started));
    let mut samples = vec![Vec::with_capacity(rounds); NAMES.len()];
    let mut latencies = vec![Vec::new(); NAMES.len()];
    let mut order: Vec<usize> = (0..NAMES.len()).collect();
    for _ in 0..rounds {
        bench.rng.shuffle(&mut order);
        for &i in &order {
            // What has waited since the turn before.
            field.epoll_for(Duration::from_millis(20));
            field.latencies.clear();
            let used = cpu::of_thread();
            let events = match i {
                0 | 1 => field.epoll_for(turn),
                2 => field.pump_for(turn),
                3 => field.poll_for(turn, true),
                _ => field.poll_for(turn, false),
            };
            samples[i].push((cpu::of_thread() - used) / events.max(1));
            field.latencies.push(0);
            let latency = Series::of(std::mem::take(&mut field.latencies));
            latencies[i].push([0.5, 0.99].map(|part| latency.quantile(part)));
        }
    }
    // Kills the children.
    drop(field);
    report(children, backend, bench, samples, latencies);
}

fn report(
    children: u32,
    backend: Backend,
    bench: &mut Bench,
    samples: Vec<Vec<Duration>>,
    latencies: Vec<Vec<[u64; 2]>>,
) {
    println!(
        "\nevents: {children} children, {} turns, the pump by {backend:?}\n",
        samples[0].len()
    );
    println!(
        "{:42} {:>20} {:>24} {:>24}",
        "", "CPU r [95 %]", "us per event, 25-75 %", "us to the reader, 50/99 %"
    );
    let series: Vec<Series> = samples.into_iter().map(|all| Series::new(all.into_iter())).collect();
    let of_turns = |which: usize| -> Vec<Series> {
        latencies.iter().map(|all| Series::of(all.iter().map(|l| l[which]).collect())).collect()
    };
    let (middle, slow) = (of_turns(0), of_turns(1));
    for (i, name) in NAMES.iter().enumerate() {
        let name = match i {
            2 => format!("{name} ({backend:?})"),
            _ => name.to_string(),
        };
        let at = |figure| Place {
            part: "events",
            axis: "children",
            x: children.into(),
            contender: &name,
            figure,
            unit: "ns",
        };
        let us = |of: &Series, part| of.quantile(part) as f64 / 1000.0;
        let ratio =
            bench.record.series(at("CPU per event"), &series[i], &series[0], &mut bench.rng);
        bench.record.series(at("latency"), &middle[i], &middle[0], &mut bench.rng);
        bench.record.series(at("latency 99 %"), &slow[i], &slow[0], &mut bench.rng);
        let cpu = &series[i];
        println!(
            "{name:42} {:>20} {:>24} {:>24}",
            ratio,
            format!("{:.1} ({:.1}-{:.1})", us(cpu, 0.5), us(cpu, 0.25), us(cpu, 0.75)),
            format!("{:.0} / {:.0}", us(&middle[i], 0.5), us(&slow[i], 0.5)),
        );
    }
}

/// A child of so many that together say so much.
pub fn ticker(children: u32) -> Prepared<'static> {
    let period = Duration::from_secs(1) * children / EVENTS_PER_SECOND;
    Command::new(env::current_exe().unwrap())
        .args(actor::ticker(period))
        .fd(0, Null)
        .fd(1, ReadPipe)
        .fd(2, Channel::stderr())
        .on_drop(OnDrop::Kill)
        .prepare()
        .unwrap()
}

/// The children, each way to wait for them ready to be used.
struct Field {
    pump: Pump,
    /// Of the same pipes as the pump's, so nonblocking too.
    pipes: Vec<File>,
    _pidfds: Vec<OwnedFd>,
    fds: Vec<libc::pollfd>,
    epoll: OwnedFd,
    /// Nanoseconds from a child's word to its reader.
    latencies: Vec<u64>,
}

/// Notes when the last of these ticks was said, and how many they are.
fn ticks(bytes: &[u8], latencies: &mut Vec<u64>) -> u32 {
    if let Some(said) = bytes.last_chunk::<TICK>() {
        latencies.push(actor::clock().saturating_sub(u64::from_ne_bytes(*said)));
    }
    (bytes.len() / TICK) as u32
}

impl Field {
    fn new(children: u32, backend: Backend) -> Self {
        let mut ticker = ticker(children);
        let pump = Pump::with_backend(backend).expect("a kernel with epoll");
        let (mut pump, mut pipes, mut pidfds) = (pump, vec![], vec![]);
        for _ in 0..children {
            let child = ticker.spawn().unwrap();
            pipes.push(File::from(child.end(1).unwrap().try_clone_to_owned().unwrap()));
            pidfds.push(child.pidfd().expect("a kernel with pidfds").try_clone_to_owned().unwrap());
            pump.add(child);
        }
        let all = || pipes.iter().map(AsFd::as_fd).chain(pidfds.iter().map(AsFd::as_fd));
        let fds = all().map(|fd| raw::polled(fd.as_raw_fd(), libc::POLLIN)).collect();
        // SAFETY: no pointers; the fd is new.
        let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
        for (fd, place) in all().zip(0u64..) {
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: place };
            let (epoll, fd) = (epoll.as_raw_fd(), fd.as_raw_fd());
            // SAFETY: the kernel reads the event.
            let failed = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) };
            assert_eq!(failed, 0);
        }
        Self { pump, pipes, _pidfds: pidfds, fds, epoll, latencies: Vec::new() }
    }

    fn pump_for(&mut self, turn: Duration) -> u32 {
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < turn {
            self.pump.poll(Some(Duration::from_millis(WAKE_MS as u64))).unwrap();
            while let Some(event) = self.pump.next_event() {
                match event {
                    Event::Data { bytes, .. } => count += ticks(bytes, &mut self.latencies),
                    Event::Made { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        count
    }

    fn poll_for(&mut self, turn: Duration, pidfds: bool) -> u32 {
        let (start, mut count) = (Instant::now(), 0);
        let mut buffer = vec![0; raw::BLOCK];
        let len = if pidfds { self.fds.len() } else { self.pipes.len() };
        while start.elapsed() < turn {
            let mut left = raw::poll(&mut self.fds[..len], WAKE_MS);
            for (place, polled) in self.fds[..len].iter().enumerate() {
                if left == 0 {
                    break;
                }
                if polled.revents != 0 {
                    left -= 1;
                    let len = raw::read(&self.pipes[place], &mut buffer).unwrap_or(0);
                    count += ticks(&buffer[..len], &mut self.latencies);
                }
            }
        }
        count
    }

    fn epoll_for(&mut self, turn: Duration) -> u32 {
        let (start, mut count) = (Instant::now(), 0);
        let mut buffer = vec![0; raw::BLOCK];
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        while start.elapsed() < turn {
            // SAFETY: the kernel writes at most 64 events.
            let ready = unsafe {
                libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), 64, WAKE_MS)
            };
            for event in &events[..usize::try_from(ready).expect("epoll works")] {
                let place = event.u64 as usize;
                let len = raw::read(&self.pipes[place], &mut buffer).unwrap_or(0);
                count += ticks(&buffer[..len], &mut self.latencies);
            }
        }
        count
    }
}
