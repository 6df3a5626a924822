//! Too much at once: no fds left, no processes left, thousands that end together.
//! Who is refused is told so; all others go on, and nothing of theirs is lost.

#[path = "support/outer.rs"]
mod outer;
mod support;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use forkplan::{Channel, ChildKey, Command, Event, OnDrop};
use outer::TestPump;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{in_subprocess, no_child_is_left, skipped};

fn set_limit(resource: Resource, limit: u64) {
    let maximum = getrlimit(resource).maximum;
    setrlimit(resource, Rlimit { current: Some(limit), maximum }).unwrap();
}

/// Raises the limit on fds as far as it goes; whether `fds` fit.
fn fds_fit(test: &str, fds: u64) -> bool {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let fit = maximum.is_none_or(|maximum| maximum >= fds);
    if !fit {
        skipped(test, format_args!("RLIMIT_NOFILE is {maximum:?}, not {fds}"));
    }
    fit
}

fn fds_open() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// What children have said, and how they ended.
#[derive(Default)]
struct Told {
    said: HashMap<ChildKey, Vec<u8>>,
    exits: HashMap<ChildKey, Option<i32>>,
}

impl Told {
    /// Notes all that there is.
    fn drain(&mut self, pump: &mut TestPump) {
        while let Some(event) = pump.next_event() {
            match event {
                Event::Data { child, bytes, .. } => {
                    self.said.entry(child).or_default().extend_from_slice(bytes);
                }
                Event::Ended { child, exit } => {
                    assert_eq!(self.exits.insert(child, exit.code()), None, "it ended before");
                }
                _ => {}
            }
        }
        pump.follow();
    }

    fn finish(&mut self, pump: &mut TestPump) {
        let patience = Instant::now() + Duration::from_secs(300);
        self.drain(pump);
        while !pump.is_empty() {
            assert!(Instant::now() < patience, "hung: {} children left", pump.len());
            pump.poll(Some(Duration::from_secs(1))).unwrap();
            self.drain(pump);
        }
    }
}

/// Has `count` children read a line each, all at once, and answer it and end.
fn all_at_once(count: usize) {
    let before = fds_open();
    let mut command = Command::new("sh");
    command.args(["-c", "read -r n; echo \"$n$n\"; exit $((n % 200))"]);
    command.fd(0, Channel::WritePipe).fd(1, Channel::ReadPipe).on_drop(OnDrop::Kill);
    let mut prepared = command.prepare().unwrap();
    let (mut pump, mut told) = (TestPump::new(), Told::default());
    let keys: Vec<_> = (0..count).map(|_| pump.add(prepared.spawn().unwrap())).collect();
    told.drain(&mut pump);
    // All of them run, and none has anything to say.
    assert_eq!((pump.len(), told.said.len()), (count, 0));
    for (n, &key) in keys.iter().enumerate() {
        pump.write(key, 0, format!("{n}\n").as_bytes()).unwrap();
    }
    told.finish(&mut pump);
    assert_eq!(told.exits.len(), count);
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(told.said[key], format!("{n}{n}\n").into_bytes());
        assert_eq!(told.exits[key], Some(n as i32 % 200));
    }
    assert!(no_child_is_left());
    drop((pump, prepared, command));
    assert_eq!(fds_open(), before);
}

#[test]
fn four_thousand_children_at_once_lose_no_byte_and_no_exit() {
    let name = "four_thousand_children_at_once_lose_no_byte_and_no_exit";
    in_subprocess(name, || {
        // Two pipes and a pidfd each.
        if fds_fit(name, 4000 * 3 + 100) {
            all_at_once(4000);
        }
    });
}

#[test]
fn two_thousand_children_that_are_killed_together_are_all_reaped() {
    let name = "two_thousand_children_that_are_killed_together_are_all_reaped";
    in_subprocess(name, || {
        if !fds_fit(name, 2000 * 2 + 100) {
            return;
        }
        let mut command = Command::new("sleep");
        command.arg("1000").fd(1, Channel::ReadPipe).on_drop(OnDrop::Kill);
        let mut prepared = command.prepare().unwrap();
        let (mut pump, mut told) = (TestPump::new(), Told::default());
        let keys: Vec<_> = (0..2000).map(|_| pump.add(prepared.spawn().unwrap())).collect();
        for &key in &keys {
            pump.signal(key, forkplan::Signal::KILL).unwrap();
        }
        told.finish(&mut pump);
        assert!(keys.iter().all(|key| told.exits.contains_key(key)));
        assert!(told.said.is_empty() && no_child_is_left());
    });
}

#[test]
fn a_spawn_without_fds_left_fails_and_the_others_go_on() {
    in_subprocess("a_spawn_without_fds_left_fails_and_the_others_go_on", || {
        let (mut pump, mut told) = (TestPump::new(), Told::default());
        let mut command = Command::new("cat");
        command.on_drop(OnDrop::Kill);
        let keys: Vec<_> = (0..20).map(|_| pump.add(command.spawn().unwrap())).collect();
        told.drain(&mut pump);
        // One number more each time, so that each fd of a spawn is the one that is
        // refused; the rest of the table is full.
        set_limit(Resource::Nofile, 400);
        let mut holes: Vec<OwnedFd> = Vec::new();
        while let Ok(fd) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 0) {
            holes.push(fd);
        }
        let (mut refused, mut late) = (0, None);
        while late.is_none() {
            let before = fds_open_by_number();
            match command.spawn() {
                Ok(child) => late = Some(pump.add(child)),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
                    refused += 1;
                    assert_eq!(fds_open_by_number(), before, "{error}");
                    holes.pop();
                }
            }
        }
        // Three pipes at least.
        assert!(refused >= 6, "{refused}");
        let late = late.unwrap();
        for &key in keys.iter().chain([&late]) {
            pump.write(key, 0, b"unharmed").unwrap();
            pump.close(key, 0).unwrap();
        }
        told.finish(&mut pump);
        for key in keys.iter().chain([&late]) {
            assert_eq!(told.said[key], b"unharmed");
            assert_eq!(told.exits[key], Some(0));
        }
        assert!(no_child_is_left());
    });
}

/// Which fds are open, without opening one.
fn fds_open_by_number() -> Vec<i32> {
    // SAFETY: asks for flags.
    (0..400).filter(|&fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0).collect()
}

#[test]
fn a_spawn_without_processes_left_fails_and_the_others_go_on() {
    let name = "a_spawn_without_processes_left_fails_and_the_others_go_on";
    in_subprocess(name, || {
        // Nobody else's processes count for this one.
        const SOMEBODY: u32 = 54_321;
        if !rustix::process::geteuid().is_root() {
            return skipped(name, "not root");
        }
        set_limit(Resource::Nproc, 10);
        // SAFETY: no pointers. Of the whole process, which is the test's own.
        assert_eq!(unsafe { libc::setresuid(SOMEBODY, SOMEBODY, SOMEBODY) }, 0);
        let (mut pump, mut told) = (TestPump::new(), Told::default());
        let mut command = Command::new("cat");
        command.on_drop(OnDrop::Kill);
        let mut keys = Vec::new();
        let before = loop {
            let before = fds_open();
            match command.spawn() {
                Ok(child) => keys.push(pump.add(child)),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN), "{error}");
                    break before;
                }
            }
            assert!(keys.len() < 10, "the limit does not hold");
        };
        assert_eq!(fds_open(), before);
        assert!(!keys.is_empty());
        // One place is had again when one has ended.
        pump.close(keys[0], 0).unwrap();
        told.drain(&mut pump);
        while !told.exits.contains_key(&keys[0]) {
            pump.poll(None).unwrap();
            told.drain(&mut pump);
        }
        keys.push(pump.add(command.spawn().unwrap()));
        for &key in &keys[1..] {
            pump.write(key, 0, b"unharmed").unwrap();
            pump.close(key, 0).unwrap();
        }
        told.finish(&mut pump);
        assert!(keys[1..].iter().all(|key| told.said[key] == b"unharmed"));
        assert!(keys.iter().all(|key| told.exits[key] == Some(0)));
        assert!(no_child_is_left());
    });
}

/// Pages of memory that this process has.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Runs `count` short children, 64 at a time; each says its number.
fn churn(pump: &mut TestPump, count: usize) {
    let mut command = Command::new("sh");
    command.args(["-c", "read -r n; echo $n"]).fd(0, Channel::WritePipe);
    command.fd(1, Channel::ReadPipe).on_drop(OnDrop::Kill);
    let mut prepared = command.prepare().unwrap();
    let mut running = HashMap::new();
    let (mut started, mut said, mut ended) = (0, 0, 0);
    while ended < count {
        while started < count && running.len() < 64 {
            let key = pump.add(prepared.spawn().unwrap());
            let line = format!("{started}\n");
            pump.write(key, 0, line.as_bytes()).unwrap();
            running.insert(key, line);
            started += 1;
        }
        pump.poll(Some(Duration::from_secs(60))).unwrap();
        while let Some(event) = pump.next_event() {
            match event {
                Event::Data { child, bytes, .. } => {
                    assert_eq!(bytes, running[&child].as_bytes());
                    said += 1;
                }
                Event::Ended { child, exit } => {
                    assert!(exit.success());
                    assert!(running.remove(&child).is_some());
                    ended += 1;
                }
                _ => {}
            }
        }
        pump.follow();
    }
    assert_eq!(said, count);
}

/// `FORKPLAN_SOAK=100000` has it run as many; without, enough to see that it works.
#[test]
fn a_soak_of_short_children_leaves_neither_fds_nor_zombies_nor_memory() {
    let name = "a_soak_of_short_children_leaves_neither_fds_nor_zombies_nor_memory";
    in_subprocess(name, || {
        let count = std::env::var("FORKPLAN_SOAK").map_or(300, |count| count.parse().unwrap());
        let mut pump = TestPump::new();
        // What is had once: buffers, places, libc's own.
        churn(&mut pump, 200);
        let before = (fds_open(), resident());
        churn(&mut pump, count);
        assert_eq!(fds_open(), before.0);
        assert!(no_child_is_left());
        let grown = resident().saturating_sub(before.1);
        assert!(grown < 256, "{grown} pages more after {count} children");
    });
}
