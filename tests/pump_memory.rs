//! No memory (`ENOMEM`), in the middle of spawns and of a pump's work: the call is
//! named, all others go on, and nothing of theirs is lost.
#![cfg(target_os = "linux")]

#[path = "support/seccomp.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod seccomp;
#[path = "support/pump.rs"]
mod support;

use core::time::Duration;
use std::fs;

use forkplan::{
    Backend, Channel, ChildKey, CloseReason, Command, EmbeddedPump, Event, Features, Prepared,
    Pump, SpawnError,
};
use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccomp::{Rule, under};
use support::{Driver, TestPump, alone};

fn no_memory(call: libc::c_long) -> Rule {
    Rule::errno(call, libc::ENOMEM)
}

fn cat(without: Features) -> Command<'static> {
    let mut command = Command::new("cat");
    command.without(without).fd(0, Channel::WritePipe).fd(1, Channel::ReadPipe);
    command.fd(2, Channel::stderr());
    command
}

/// Children that give back what they are told, piece by piece.
struct Cats {
    driver: Driver,
    keys: Vec<ChildKey>,
    pieces: usize,
}

impl Cats {
    fn new(driver: Driver) -> Self {
        let mut cats = Self { driver, keys: vec![], pieces: 0 };
        (0..20).for_each(|_| cats.add(Features::empty()));
        cats
    }

    fn add(&mut self, without: Features) {
        let key = self.driver.add(&mut cat(without));
        self.driver.pump.write(key, 0, &vec![b'.'; self.pieces]).unwrap();
        self.keys.push(key);
    }

    /// One more piece for each, on its way while `body` runs.
    fn beside<T: Send>(&mut self, rules: &[Rule], body: impl FnOnce() -> T + Send) -> T {
        self.pieces += 1;
        for &key in &self.keys {
            assert_eq!(self.driver.pump.write(key, 0, b"."), Ok(1));
        }
        let result = under(rules, body);
        let (keys, pieces) = (&self.keys, self.pieces);
        self.driver.until(|d| keys.iter().all(|&key| d.data_len(key, "1") == pieces));
        result
    }

    fn finish(mut self) {
        for &key in &self.keys {
            self.driver.pump.close(key, 0).unwrap();
        }
        self.driver.finish();
        for &key in &self.keys {
            assert_eq!(self.driver.data(key, "1"), vec![b'.'; self.pieces]);
            assert!(self.driver.exit(key).unwrap().success());
        }
    }
}

/// Commands that have all stacks which the library keeps, so that the next needs a
/// new one.
fn stacks_in_use() -> Vec<Prepared<'static>> {
    const KEPT_MAX: usize = 16;
    (0..=KEPT_MAX).map(|_| cat(Features::empty()).prepare().unwrap()).collect()
}

fn fds_open() -> Vec<String> {
    let names = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// How many children this process has, of whichever thread.
fn children() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let of = |task: fs::DirEntry| fs::read_to_string(task.path().join("children"));
    // A thread may end meanwhile.
    let lists = tasks.filter_map(|task| of(task.unwrap()).ok());
    lists.map(|list| list.split_whitespace().count()).sum()
}

#[track_caller]
fn assert_named(error: &SpawnError, call: &str) {
    assert_eq!(error.raw_os_error(), Some(libc::ENOMEM), "{error}");
    assert!(error.to_string().starts_with(call), "{error}, where {call} failed");
    assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory);
}

/// Each call of a spawn for which the kernel takes memory.
#[test]
fn a_spawn_for_which_there_is_no_memory_names_the_call_and_the_others_go_on() {
    alone("a_spawn_for_which_there_is_no_memory_names_the_call_and_the_others_go_on", || {
        let mut cats = Cats::new(Driver::new());
        let calls = [
            ("pipe2", libc::SYS_pipe2),
            ("clone3", libc::SYS_clone3),
            ("mmap", libc::SYS_mmap),
            ("mprotect", libc::SYS_mprotect),
            ("execve", libc::SYS_execve),
        ];
        for without in [Features::empty(), Features::SHARED_MEMORY] {
            for (name, call) in calls {
                let (command, in_use) = (cat(without), stacks_in_use());
                let before = fds_open();
                let error = cats.beside(&[no_memory(call)], || command.spawn().unwrap_err());
                assert_named(&error, name);
                assert_eq!(fds_open(), before, "{error}");
                assert_eq!(children(), cats.keys.len(), "{error}");
                // The control: this alone was in the way.
                cats.add(without);
                drop(in_use);
            }
        }
        cats.finish();
    });
}

/// The limit is real: no page more than there are.
#[test]
fn at_the_limit_of_its_memory_a_program_spawns_nothing_and_its_pump_goes_on() {
    alone("at_the_limit_of_its_memory_a_program_spawns_nothing_and_its_pump_goes_on", || {
        let mut cats = Cats::new(Driver::new());
        let mut forked = cat(Features::SHARED_MEMORY).prepare().unwrap();
        let Rlimit { current, maximum } = getrlimit(Resource::As);
        let (before, new) = (fds_open(), cat(Features::empty()));
        let in_use = stacks_in_use();
        for _ in 0..3 {
            // What small pieces are taken from, so that they need no new page.
            let reserve: Vec<Vec<u8>> = (0..64).map(|_| vec![1; 60_000]).collect();
            let last = vec![1u8; 100];
            drop(reserve);
            setrlimit(Resource::As, Rlimit { current: Some(mapped()), maximum }).unwrap();
            let stack = new.spawn().unwrap_err();
            let word = forked.spawn().unwrap_err();
            cats.pieces += 1;
            for &key in &cats.keys {
                assert_eq!(cats.driver.pump.write(key, 0, b"."), Ok(1));
            }
            let (keys, pieces) = (&cats.keys, cats.pieces);
            cats.driver.until(|d| keys.iter().all(|&key| d.data_len(key, "1") == pieces));
            setrlimit(Resource::As, Rlimit { current, maximum }).unwrap();
            drop(last);
            assert_named(&stack, "mmap");
            assert_named(&word, "mmap");
            assert_eq!((fds_open(), children()), (before.clone(), 20));
        }
        // The control: both are possible again.
        drop(in_use);
        cats.add(Features::empty());
        let late = cats.driver.pump.add(forked.spawn().unwrap());
        cats.driver.pump.write(late, 0, &vec![b'.'; cats.pieces]).unwrap();
        cats.keys.push(late);
        cats.finish();
    });
}

/// Bytes of address space that this process has.
fn mapped() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    size.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

fn waits() -> Vec<Rule> {
    let mut calls = vec![libc::SYS_ppoll, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2];
    // Newer architectures never had them.
    #[cfg(target_arch = "x86_64")]
    calls.extend([libc::SYS_poll, libc::SYS_epoll_wait]);
    calls.into_iter().map(no_memory).collect()
}

#[test]
fn a_poll_without_memory_is_an_error_and_the_next_finds_all() {
    for backend in [Backend::Poll, Backend::Epoll] {
        let pump = Pump::with_backend(backend).unwrap();
        let mut cats = Cats::new(Driver::with(TestPump::in_loop(pump, EventFlags::empty())));
        cats.driver.drain();
        for _ in 0..3 {
            let pump = &mut cats.driver.pump;
            let error = under(&waits(), || pump.poll(None).unwrap_err());
            assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
            assert_eq!(cats.driver.pump.backend(), backend);
            cats.beside(&[], || ());
        }
        cats.finish();
    }
}

#[test]
fn a_set_without_memory_for_more_is_given_up_for_poll() {
    for errno in [libc::ENOMEM, libc::ENOSPC] {
        let pump = Pump::with_backend(Backend::Epoll).unwrap();
        let mut cats = Cats::new(Driver::with(TestPump::in_loop(pump, EventFlags::empty())));
        cats.driver.drain();
        let full = [Rule::errno(libc::SYS_epoll_ctl, errno)];
        let (driver, mut command) = (&mut cats.driver, cat(Features::empty()));
        let key = under(&full, || driver.add(&mut command));
        cats.keys.push(key);
        assert_eq!(cats.driver.pump.backend(), Backend::Poll);
        cats.beside(&[], || ());
        cats.finish();
    }
}

#[test]
fn an_embedded_pump_that_gets_no_memory_for_a_child_looks_at_it_all_the_same() {
    for errno in [libc::ENOMEM, libc::ENOSPC] {
        let mut embedded = EmbeddedPump::new(Pump::new()).unwrap();
        let child = cat(Features::empty()).spawn().unwrap();
        let full = [Rule::errno(libc::SYS_epoll_ctl, errno)];
        let key = under(&full, || embedded.pump().add(child));
        let mut pump = embedded.pump();
        assert_eq!(pump.write(key, 0, b"heard"), Ok(5));
        pump.close(key, 0).unwrap();
        drop(pump);
        let mut heard = Vec::new();
        while !embedded.pump().is_empty() {
            wait_for(&embedded);
            let mut pump = embedded.pump();
            pump.poll(Some(Duration::ZERO)).unwrap();
            while let Some(event) = pump.next_event() {
                if let Event::Data { bytes, .. } = event {
                    heard.extend_from_slice(bytes);
                }
            }
        }
        assert_eq!(heard, b"heard");
    }
}

fn wait_for(embedded: &EmbeddedPump) {
    let patience = Timespec { tv_sec: 120, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(embedded, PollFlags::IN)], Some(&patience)).unwrap();
    assert_eq!(ready, 1, "hung");
}

/// A channel that the kernel has no memory for is closed with that, what it did not
/// take is counted, and the child's end is told as ever.
#[test]
fn a_read_or_write_without_memory_closes_that_channel_and_no_other() {
    let mut cats = Cats::new(Driver::new());
    let [reader, writer] = [(); 2].map(|()| cats.driver.add(&mut cat(Features::empty())));
    cats.driver.drain();
    let driver = &mut cats.driver;
    let writes = [libc::SYS_write, libc::SYS_writev, libc::SYS_pwritev2].map(no_memory);
    let taken = under(&writes, || driver.pump.write(writer, 0, b"lost"));
    assert_eq!(taken, Ok(4));
    driver.until(|d| d.closed(writer, "0").is_some());
    assert_eq!(driver.closed(writer, "0"), Some((CloseReason::Error(libc::ENOMEM), 4)));
    // Nothing else has anything to read.
    driver.pump.write(reader, 0, b"lost").unwrap();
    under(&[no_memory(libc::SYS_read)], || driver.until(|d| d.closed(reader, "1").is_some()));
    assert_eq!(driver.closed(reader, "1"), Some((CloseReason::Error(libc::ENOMEM), 0)));
    driver.pump.close(reader, 0).unwrap();
    cats.beside(&[], || ());
    end_in_silence(&mut cats.driver, [reader, writer]);
    cats.finish();
}

fn end_in_silence(driver: &mut Driver, keys: [ChildKey; 2]) {
    driver.until(|d| keys.iter().all(|&key| d.has_ended(key)));
    for key in keys {
        assert!(driver.data(key, "1").is_empty());
    }
}
