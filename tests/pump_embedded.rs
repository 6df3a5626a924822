//! A pump behind one fd: ready exactly when there is something to do.
#![cfg(target_os = "linux")]

#[path = "support/pump.rs"]
mod support;

use core::time::Duration;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use forkplan::{
    Backend, Channel, ChildKey, Command, EmbeddedPump, Event, Features, Ladder, OnDrop, Pump,
};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use support::{Seen, alone, owned, refuse_syscall};

const ZERO: Duration = Duration::ZERO;

struct Embedded {
    pump: EmbeddedPump,
    log: Vec<(ChildKey, Seen)>,
}

impl Embedded {
    fn new() -> Self {
        Self { pump: EmbeddedPump::new(Pump::new()).unwrap(), log: Vec::new() }
    }

    fn add(&mut self, command: &mut Command<'_>) -> ChildKey {
        self.pump.pump().add(command.on_drop(OnDrop::Kill).spawn().unwrap())
    }

    /// What a loop that is not ours sees.
    fn is_ready_within(&self, millis: u64) -> bool {
        let timeout = Timespec { tv_sec: 0, tv_nsec: (millis * 1_000_000) as _ };
        poll(&mut [PollFd::new(&self.pump, PollFlags::IN)], Some(&timeout)).unwrap() == 1
    }

    /// Waits in a loop that is not ours.
    fn wait(&self) {
        let patience = Timespec { tv_sec: 120, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&self.pump, PollFlags::IN)], Some(&patience)).unwrap();
        assert_eq!(ready, 1, "hung: {:?}", self.log.last());
    }

    /// Waits, and does what there is to do.
    fn turn(&mut self) {
        self.wait();
        self.drain();
    }

    fn drain(&mut self) {
        let mut pump = self.pump.pump();
        pump.poll(Some(ZERO)).unwrap();
        while let Some(event) = pump.next_event() {
            self.log.push(owned(event));
        }
    }

    fn until(&mut self, seen: impl Fn(&[(ChildKey, Seen)]) -> bool) {
        while !seen(&self.log) {
            self.turn();
        }
    }

    fn finish(&mut self) {
        while !self.pump.pump().is_empty() {
            self.turn();
        }
        assert!(!self.is_ready_within(0));
    }

    fn data(&self, key: ChildKey) -> Vec<u8> {
        let parts = self.log.iter().filter_map(|(child, seen)| match seen {
            Seen::Data(_, bytes) if *child == key => Some(bytes.as_slice()),
            _ => None,
        });
        parts.collect::<Vec<_>>().concat()
    }
}

fn cat() -> Command<'static> {
    let mut cat = Command::new("cat");
    cat.fd(0, Channel::WritePipe).fd(1, Channel::ReadPipe);
    cat
}

#[test]
fn it_is_ready_when_something_is_and_not_otherwise() {
    let mut embedded = Embedded::new();
    assert!(!embedded.is_ready_within(0), "nobody is in it");
    let key = embedded.add(&mut cat());
    assert!(embedded.is_ready_within(0), "Made is to be told");
    embedded.drain();
    assert!(!embedded.is_ready_within(50), "cat waits for us");
    embedded.pump.pump().write(key, 0, b"hello").unwrap();
    embedded.until(|log| log.iter().any(|(_, seen)| matches!(seen, Seen::Data(..))));
    assert!(!embedded.is_ready_within(50), "cat waits for more");
    // No source shows that the close has yet to be told.
    embedded.pump.pump().abort(key, 1).unwrap();
    assert!(embedded.is_ready_within(0));
    embedded.drain();
    embedded.pump.pump().close(key, 0).unwrap();
    embedded.finish();
    assert_eq!(embedded.data(key), b"hello");
}

#[test]
fn what_is_left_after_one_event_keeps_it_ready() {
    let mut embedded = Embedded::new();
    let key = embedded.add(Command::new("head").args(["-c", "3000000", "/dev/zero"]));
    let mut bytes = 0;
    while !embedded.pump.pump().is_empty() {
        embedded.wait();
        let mut pump = embedded.pump.pump();
        pump.poll(Some(ZERO)).unwrap();
        // Not the loop that is advised.
        if let Some(Event::Data { bytes: read, .. }) = pump.next_event() {
            bytes += read.len();
        }
    }
    assert_eq!(bytes, 3_000_000);
    assert!(embedded.pump.pump().child(key).is_none());
}

#[test]
fn a_deadline_makes_it_ready_and_not_before() {
    let mut embedded = Embedded::new();
    let key = embedded.add(&mut cat());
    embedded.drain();
    let start = Instant::now();
    let deadline = start + Duration::from_millis(80);
    embedded.pump.pump().set_deadline(key, Some(deadline), Ladder::kill()).unwrap();
    embedded.until(|log| log.iter().any(|(_, seen)| *seen == Seen::TimedOut));
    assert!(start.elapsed() >= Duration::from_millis(80));
    embedded.finish();
    // One that is taken away does not.
    let key = embedded.add(&mut cat());
    let mut pump = embedded.pump.pump();
    let soon = Some(Instant::now() + Duration::from_millis(20));
    pump.set_deadline(key, soon, Ladder::kill()).unwrap();
    pump.set_deadline(key, None, Ladder::kill()).unwrap();
    drop(pump);
    embedded.drain();
    assert!(!embedded.is_ready_within(60));
    embedded.pump.pump().close(key, 0).unwrap();
    embedded.finish();
}

#[test]
fn a_span_that_has_yet_to_begin_begins_by_itself() {
    let mut embedded = Embedded::new();
    let key = embedded.add(&mut cat());
    embedded.drain();
    let limit = Duration::from_millis(30);
    embedded.pump.pump().set_idle_limit(key, 1, Some(limit)).unwrap();
    embedded.until(|log| log.iter().any(|(_, seen)| *seen == Seen::Idle("1".into())));
    embedded.pump.pump().close(key, 0).unwrap();
    embedded.finish();
}

/// As in a loop that reads the time before it waits. Who watches for edges hears of
/// a timer once.
#[test]
fn a_clock_that_is_behind_is_woken_again() {
    let mut embedded = Embedded::new();
    let (now, key) = (Instant::now(), embedded.add(&mut cat()));
    let mut pump = embedded.pump.pump();
    pump.set_clock(move || now);
    pump.set_deadline(key, Some(now + Duration::from_millis(5)), Ladder::kill()).unwrap();
    drop(pump);
    embedded.drain();
    let set = epoll::create(CreateFlags::CLOEXEC).unwrap();
    let flags = EventFlags::IN | EventFlags::ET;
    epoll::add(&set, embedded.pump.as_fd(), EventData::new_u64(1), flags).unwrap();
    for _ in 0..3 {
        let mut found = Vec::with_capacity(1);
        let patience = Timespec { tv_sec: 30, tv_nsec: 0 };
        epoll::wait(&set, rustix::buffer::spare_capacity(&mut found), Some(&patience)).unwrap();
        assert_eq!(found.len(), 1, "not woken");
        embedded.drain();
    }
    embedded.pump.pump().set_clock(Instant::now);
    embedded.until(|log| log.iter().any(|(_, seen)| *seen == Seen::TimedOut));
    embedded.finish();
}

#[test]
fn a_child_without_a_pidfd_is_looked_at_too() {
    let mut embedded = Embedded::new();
    let mut command = Command::new("sh");
    command.args(["-c", "exec <&- >&- 2>&-; sleep 0.05"]).without(Features::PIDFD);
    embedded.add(&mut command);
    embedded.finish();
}

#[test]
fn a_pump_is_embedded_with_what_it_has() {
    for backend in [Backend::Poll, Backend::Epoll] {
        let mut pump = Pump::with_backend(backend).unwrap();
        let keys: Vec<ChildKey> = (0..4).map(|_| pump.add(cat().spawn().unwrap())).collect();
        pump.write(keys[3], 0, b"early").unwrap();
        let mut embedded = Embedded { pump: EmbeddedPump::new(pump).unwrap(), log: Vec::new() };
        assert!(embedded.is_ready_within(0));
        for &key in &keys {
            embedded.pump.pump().close(key, 0).unwrap();
        }
        embedded.finish();
        assert_eq!(embedded.data(keys[3]), b"early");
    }
}

/// That loop is told of nothing any more, so nobody could say that it may be closed.
#[test]
fn what_was_closed_and_not_told_to_another_loop_is_closed() {
    let mut pump = Pump::with_backend(Backend::Foreign).unwrap();
    let key = pump.add(cat().on_drop(OnDrop::Kill).spawn().unwrap());
    while pump.next_change().is_some() {}
    pump.close(key, 0).unwrap();
    let mut embedded = Embedded { pump: EmbeddedPump::new(pump).unwrap(), log: Vec::new() };
    // cat reads the end of its input, and ends.
    embedded.finish();
}

/// The fd in an epoll set of the test's, watched in each of the ways there are.
#[test]
fn two_hundred_children_in_a_loop_of_any_kind() {
    let ways = [EventFlags::empty(), EventFlags::ET, EventFlags::ONESHOT];
    for way in ways {
        let mut embedded = Embedded::new();
        let set = epoll::create(CreateFlags::CLOEXEC).unwrap();
        let (flags, data) = (EventFlags::IN | way, EventData::new_u64(1));
        epoll::add(&set, embedded.pump.as_fd(), data, flags).unwrap();
        let mut expected = BTreeMap::new();
        let mut spawn = Command::new("sh");
        spawn.args(["-c", "read line; echo got $line"]).fd(0, Channel::WritePipe);
        let mut spawn = spawn.fd(1, Channel::ReadPipe).prepare().unwrap();
        for i in 0..200 {
            let key = embedded.pump.pump().add(spawn.spawn().unwrap());
            embedded.pump.pump().write(key, 0, format!("{i}\n").as_bytes()).unwrap();
            expected.insert(key, format!("got {i}\n").into_bytes());
        }
        // The first poll, for what came before the set knew the fd.
        loop {
            while embedded.pump.pump().poll(Some(ZERO)).unwrap() {
                embedded.drain();
                if !way.contains(EventFlags::ET) {
                    break;
                }
            }
            if embedded.pump.pump().is_empty() {
                break;
            }
            epoll::modify(&set, embedded.pump.as_fd(), data, flags).unwrap();
            let mut found = Vec::with_capacity(1);
            let patience = Timespec { tv_sec: 120, tv_nsec: 0 };
            epoll::wait(&set, rustix::buffer::spare_capacity(&mut found), Some(&patience)).unwrap();
            assert_eq!(found.len(), 1, "hung, {way:?}");
        }
        for (key, bytes) in expected {
            assert_eq!(embedded.data(key), bytes);
        }
    }
}

#[test]
fn a_source_that_the_set_does_not_take_is_looked_at_all_the_same() {
    alone("a_source_that_the_set_does_not_take_is_looked_at_all_the_same", || {
        let mut embedded = Embedded::new();
        let first = embedded.add(&mut cat());
        refuse_syscall(libc::SYS_epoll_ctl, libc::ENOSPC);
        let key = embedded.add(&mut cat());
        let mut pump = embedded.pump.pump();
        assert_eq!(pump.backend(), Backend::Epoll);
        pump.write(key, 0, b"heard").unwrap();
        pump.close(key, 0).unwrap();
        pump.close(first, 0).unwrap();
        drop(pump);
        while !embedded.pump.pump().is_empty() {
            embedded.turn();
        }
        assert_eq!(embedded.data(key), b"heard");
    });
}

/// Who registers the fd relies on its number, and on nobody else having it.
#[test]
fn the_fd_is_the_same_whatever_pump_is_in_it() {
    for backend in [Backend::Poll, Backend::Epoll, Backend::Foreign] {
        let mut embedded = Embedded::new();
        let fd = embedded.pump.as_raw_fd();
        let set = epoll::create(CreateFlags::CLOEXEC).unwrap();
        epoll::add(&set, embedded.pump.as_fd(), EventData::new_u64(1), EventFlags::IN).unwrap();
        let is_seen = || {
            let mut found = Vec::with_capacity(1);
            let timeout = Timespec { tv_sec: 0, tv_nsec: 0 };
            epoll::wait(&set, rustix::buffer::spare_capacity(&mut found), Some(&timeout)).unwrap();
            !found.is_empty()
        };
        let first = embedded.add(&mut cat());
        embedded.drain();
        assert!(!is_seen());

        let mut other = Pump::with_backend(backend).unwrap();
        let second = other.add(cat().on_drop(OnDrop::Kill).spawn().unwrap());
        core::mem::swap(&mut *embedded.pump.pump(), &mut other);
        assert_eq!(embedded.pump.as_raw_fd(), fd);
        assert!(is_seen(), "Made of the other is to be told");
        embedded.drain();
        assert!(!is_seen());

        // The one that was taken out is nobody's here, and drives itself.
        other.write(first, 0, b"outside").unwrap();
        other.close(first, 0).unwrap();
        let mut said = Vec::new();
        while !other.is_empty() {
            other.poll(Some(Duration::from_secs(1))).unwrap();
            assert!(!is_seen());
            while let Some(event) = other.next_event() {
                if let Event::Data { bytes, .. } = event {
                    said.extend_from_slice(bytes);
                }
            }
        }
        assert_eq!(said, b"outside");
        drop(other);

        embedded.pump.pump().write(second, 0, b"inside").unwrap();
        embedded.until(|log| log.iter().any(|(_, seen)| matches!(seen, Seen::Data(..))));
        assert_eq!(embedded.data(second), b"inside");
        // And a third, while nobody has the one before any more.
        drop(core::mem::take(&mut *embedded.pump.pump()));
        assert_eq!(embedded.pump.as_raw_fd(), fd);
        assert!(!is_seen());
        let third = embedded.add(&mut cat());
        assert!(is_seen());
        embedded.pump.pump().close(third, 0).unwrap();
        embedded.finish();
    }
}

#[test]
fn two_embedded_pumps_that_change_places_keep_their_fds() {
    let (mut one, mut two) = (Embedded::new(), Embedded::new());
    let fds = (one.pump.as_raw_fd(), two.pump.as_raw_fd());
    let (of_one, of_two) = (one.add(&mut cat()), two.add(&mut cat()));
    one.drain();
    two.drain();
    core::mem::swap(&mut *one.pump.pump(), &mut *two.pump.pump());
    assert_eq!((one.pump.as_raw_fd(), two.pump.as_raw_fd()), fds);
    assert!(!one.is_ready_within(0) && !two.is_ready_within(0));
    one.pump.pump().write(of_two, 0, b"two").unwrap();
    one.until(|log| log.iter().any(|(_, seen)| matches!(seen, Seen::Data(..))));
    assert!(!two.is_ready_within(0));
    one.pump.pump().close(of_two, 0).unwrap();
    two.pump.pump().close(of_one, 0).unwrap();
    one.finish();
    two.finish();
}

#[test]
fn a_pump_for_which_there_is_no_set_is_looked_at_all_the_same() {
    alone("a_pump_for_which_there_is_no_set_is_looked_at_all_the_same", || {
        let mut embedded = Embedded::new();
        let mut other = Pump::new();
        let key = other.add(cat().on_drop(OnDrop::Kill).spawn().unwrap());
        refuse_syscall(libc::SYS_epoll_create1, libc::EMFILE);
        core::mem::swap(&mut *embedded.pump.pump(), &mut other);
        embedded.drain();
        assert!(embedded.is_ready_within(0), "for nobody would tell when it is");
        assert_eq!(embedded.pump.pump().backend(), Backend::Poll);
        embedded.pump.pump().write(key, 0, b"heard").unwrap();
        embedded.pump.pump().close(key, 0).unwrap();
        while !embedded.pump.pump().is_empty() {
            embedded.turn();
        }
        assert_eq!(embedded.data(key), b"heard");
    });
}
