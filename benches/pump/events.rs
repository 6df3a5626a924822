//! CPU per event: many children that say little.
//!
//! The children are the same for all contenders, which take turns of a part of
//! a second in which they alone read. Each child has a pipe and a pidfd.

use std::env;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use fastrand::Rng;
use forkplan::Channel::{Null, ReadPipe};
use forkplan::{Channel, Command, Event, OnDrop, Pump};
use forkplan_benches::cpu;
use forkplan_benches::stats::Series;

use crate::actor;
use crate::options::Options;
use crate::raw;
use crate::sample::ratio;

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

pub fn run(options: &Options, rng: &mut Rng) {
    for children in [10, 100, 1000] {
        run_with(children, options, rng);
    }
}

fn run_with(children: u32, options: &Options, rng: &mut Rng) {
    let turn = Duration::from_millis(if options.quick { 200 } else { 500 });
    let rounds = options.rounds(15, 5);
    let mut field = Field::new(children);
    // Until all have started.
    field.pump_for(Duration::from_millis(2500));
    let mut samples = vec![Vec::with_capacity(rounds); NAMES.len()];
    let mut order: Vec<usize> = (0..NAMES.len()).collect();
    for _ in 0..rounds {
        rng.shuffle(&mut order);
        for &i in &order {
            let used = cpu::of_thread();
            let events = match i {
                0 | 1 => field.epoll_for(turn),
                2 => field.pump_for(turn),
                3 => field.poll_for(turn, true),
                _ => field.poll_for(turn, false),
            };
            samples[i].push((cpu::of_thread() - used) / events.max(1));
        }
    }
    // Kills the children.
    drop(field);
    println!("\nevents: {children} children, {rounds} turns\n");
    println!("{:38} {:>20} {:>24}", "", "CPU r [95 %]", "us per event, 25-75 %");
    let series: Vec<Series> = samples.into_iter().map(|all| Series::new(all.into_iter())).collect();
    for (name, times) in NAMES.iter().zip(&series) {
        let us = |part| times.quantile(part) as f64 / 1000.0;
        println!(
            "{name:38} {:>20} {:>24}",
            ratio(times.ratio_to(&series[0], rng)),
            format!("{:.1} ({:.1}-{:.1})", us(0.5), us(0.25), us(0.75)),
        );
    }
}

/// The children, each way to wait for them ready to be used.
struct Field {
    pump: Pump,
    /// Of the same pipes as the pump's, so nonblocking too.
    pipes: Vec<File>,
    _pidfds: Vec<OwnedFd>,
    fds: Vec<libc::pollfd>,
    epoll: OwnedFd,
}

impl Field {
    fn new(children: u32) -> Self {
        let period = Duration::from_secs(1) * children / EVENTS_PER_SECOND;
        let mut ticker = Command::new(env::current_exe().unwrap())
            .args(actor::ticker(period))
            .fd(0, Null)
            .fd(1, ReadPipe)
            .fd(2, Channel::stderr())
            .on_drop(OnDrop::Kill)
            .prepare()
            .unwrap();
        let (mut pump, mut pipes, mut pidfds) = (Pump::new(), vec![], vec![]);
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
        Self { pump, pipes, _pidfds: pidfds, fds, epoll }
    }

    fn pump_for(&mut self, turn: Duration) -> u32 {
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < turn {
            self.pump.poll(Some(Duration::from_millis(WAKE_MS as u64))).unwrap();
            while let Some(event) = self.pump.next_event() {
                match event {
                    Event::Data { bytes, .. } => count += bytes.len() as u32,
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
                    count += raw::read(&self.pipes[place], &mut buffer).unwrap_or(0) as u32;
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
                count += raw::read(&self.pipes[place], &mut buffer).unwrap_or(0) as u32;
            }
        }
        count
    }
}
