//! Children that a pump starts: the outcome is an event, whatever waits for it.
#![cfg(target_os = "linux")]

#[path = "support/pump.rs"]
mod support;

use core::time::Duration;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use forkplan::Channel::ReadPipe;
use forkplan::{
    Backend, ChannelError, ChildKey, Command, EmbeddedPump, Event, Features, Ladder, Prepared,
    Pump, Signal,
};
use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, poll};
use support::{Driver, Seen, TestPump, Watch, owned};

/// Every way to wait that there is.
fn every_way() -> Vec<TestPump> {
    let foreign = [EventFlags::empty(), EventFlags::ET, EventFlags::ET | EventFlags::ONESHOT];
    let foreign = foreign.map(|flags| (Backend::Foreign, flags));
    let own = [Backend::Poll, Backend::Epoll].map(|backend| (backend, EventFlags::empty()));
    let pumps = own.into_iter().chain(foreign);
    pumps
        .map(|(backend, flags)| TestPump::in_loop(Pump::with_backend(backend).unwrap(), flags))
        .collect()
}

/// Shared memory, and a copy.
const PATHS: [Features; 2] = [Features::empty(), Features::SHARED_MEMORY];

fn echo(word: &str, without: Features) -> Prepared<'static> {
    Command::new("echo").arg(word).fd(1, ReadPipe).without(without).prepare().unwrap()
}

#[test]
fn one_that_comes_to_its_program_is_a_child_like_any_other() {
    for without in PATHS {
        for pump in every_way() {
            let mut driver = Driver::with(pump);
            let key = driver.pump.start(echo("hello", without));
            assert!(driver.pump.child(key).is_none());
            assert_eq!(driver.pump.write(key, 0, b"x"), Err(ChannelError::NoChannel));
            assert_eq!(driver.pump.len(), 1);
            driver.finish();
            assert!(matches!(driver.of(key).next(), Some(Seen::Made(Some(_)))));
            assert_eq!(driver.data(key, "1"), b"hello\n");
            assert!(driver.exit(key).unwrap().success());
            assert!(driver.has_ended(key));
        }
    }
}

#[test]
fn one_that_does_not_is_told_once_with_its_error_and_its_command() {
    for without in PATHS {
        for mut pump in every_way() {
            let mut command = Command::new("/nowhere/program");
            let key = pump.start(command.without(without).prepare().unwrap());
            let before =
                pump.start(Command::new("true").current_dir("/nowhere").prepare().unwrap());
            let (watch, mut told) = (Watch::new(), 0);
            while !pump.is_empty() {
                watch.poll(&mut pump);
                while let Some(event) = pump.next_event() {
                    let Event::NotStarted { child } = event else { panic!("{event:?}") };
                    assert!(child == key || child == before);
                    let error = pump.take_spawn_error(child).unwrap();
                    assert_eq!(error.kind(), ErrorKind::NotFound);
                    let mut prepared = pump.take_prepared(child).unwrap();
                    assert_eq!(prepared.spawn().unwrap_err().to_string(), error.to_string());
                    // Once.
                    assert!(pump.take_spawn_error(child).is_none());
                    assert!(pump.take_prepared(child).is_none());
                    told += 1;
                }
            }
            assert_eq!(told, 2);
        }
    }
}

#[test]
fn many_are_on_their_way_at_once_and_their_commands_are_used_again() {
    const IN_FLIGHT: usize = 64;
    for mut pump in every_way() {
        let word = |at: usize| format!("word-{at}");
        let mut of: std::collections::HashMap<ChildKey, usize> =
            (0..IN_FLIGHT).map(|at| (pump.start(echo(&word(at), PATHS[at % 2])), at)).collect();
        let (watch, mut said, mut left) = (Watch::new(), vec![Vec::new(); IN_FLIGHT], IN_FLIGHT);
        while !pump.is_empty() {
            watch.poll(&mut pump);
            while let Some(event) = pump.next_event() {
                match event {
                    Event::Data { child, bytes, .. } => said[of[&child]].extend_from_slice(bytes),
                    Event::Made { child, .. } if left > 0 => {
                        left -= 1;
                        let prepared = pump.take_prepared(child).unwrap();
                        let again = pump.start(prepared);
                        of.insert(again, of[&child]);
                    }
                    Event::Ended { exit, .. } => assert!(exit.success()),
                    Event::NotStarted { child } => panic!("{:?}", pump.take_spawn_error(child)),
                    _ => {}
                }
            }
        }
        let lines: usize = said
            .iter()
            .zip(0..)
            .map(|(said, at)| {
                let line = format!("{}\n", word(at));
                assert_eq!(said.len() % line.len(), 0);
                assert!(said.chunks(line.len()).all(|chunk| chunk == line.as_bytes()));
                said.len() / line.len()
            })
            .sum();
        assert_eq!(lines, 2 * IN_FLIGHT);
    }
}

#[test]
fn a_program_that_is_busy_is_waited_for_by_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    fs::write(&path, "#!/bin/true\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    for without in PATHS {
        for mut pump in every_way() {
            let mut command = Command::new(&path);
            let mut prepared = Some(command.without(without).prepare().unwrap());
            let mut writer = Some(File::options().append(true).open(&path).unwrap());
            let (watch, mut made) = (Watch::new(), 0);
            while let Some(prepared_again) = prepared.take() {
                let key = pump.start(prepared_again);
                while !pump.is_empty() {
                    watch.poll(&mut pump);
                    while let Some(event) = pump.next_event() {
                        match event {
                            Event::NotStarted { child } => {
                                let error = pump.take_spawn_error(child).unwrap();
                                assert_eq!(error.raw_os_error(), Some(libc::ETXTBSY));
                                assert!(writer.take().is_some(), "{error}");
                                prepared = pump.take_prepared(child);
                            }
                            Event::Made { child, .. } => made += usize::from(child == key),
                            _ => {}
                        }
                    }
                }
            }
            assert_eq!((made, writer.is_none()), (1, true));
        }
    }
}

#[test]
fn a_ladder_reaches_a_program_that_was_busy_when_it_was_due() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sleep");
    fs::copy("/bin/sleep", &path).unwrap();
    for mut pump in every_way() {
        // A clock that stands still leaves the program busy.
        let now = Arc::new(Mutex::new(Instant::now()));
        let clock = now.clone();
        pump.set_clock(move || *clock.lock().unwrap());
        let writer = File::options().append(true).open(&path).unwrap();
        let key = pump.start(Command::new(&path).arg("10").prepare().unwrap());
        let watch = Watch::new();
        while pump.signal(key, Signal::CONT).is_ok() {
            watch.check(&pump);
            pump.poll(Some(Duration::ZERO)).unwrap();
            assert!(pump.next_event().is_none());
        }
        pump.set_deadline(key, Some(*now.lock().unwrap()), Ladder::kill()).unwrap();
        pump.poll(Some(Duration::ZERO)).unwrap();
        drop(writer);
        let mut told = Vec::new();
        while !pump.is_empty() {
            *now.lock().unwrap() += Duration::from_millis(1);
            watch.poll(&mut pump);
            while let Some(event) = pump.next_event() {
                told.push(owned(event).1);
            }
        }
        let killed = [Seen::TimedOut, Seen::Signalled(Signal::KILL)];
        assert!(matches!(told[0], Seen::Made(_)) && told[1..3] == killed, "{told:?}");
        assert!(
            matches!(told.last(), Some(Seen::Ended(exit)) if exit.signal() == Some(Signal::KILL))
        );
    }
}

#[test]
fn in_a_loop_that_is_not_ours_one_fd_tells_of_it() {
    let mut embedded = EmbeddedPump::new(Pump::new()).unwrap();
    let keys: Vec<ChildKey> =
        (0..8).map(|_| embedded.pump().start(echo("hello", Features::empty()))).collect();
    let failing = Command::new("/nowhere/program").prepare().unwrap();
    let failing = embedded.pump().start(failing);
    let mut told = Vec::new();
    while !embedded.pump().is_empty() {
        let patience = Duration::from_secs(120).try_into().unwrap();
        let ready = poll(&mut [PollFd::new(&embedded, PollFlags::IN)], Some(&patience)).unwrap();
        assert_eq!(ready, 1, "hung");
        let mut pump = embedded.pump();
        pump.poll(Some(Duration::ZERO)).unwrap();
        while let Some(event) = pump.next_event() {
            if matches!(event, Event::Made { .. } | Event::NotStarted { .. }) {
                told.push((event.child(), matches!(event, Event::Made { .. })));
            }
        }
    }
    told.sort_unstable();
    let mut expected: Vec<_> = keys.into_iter().map(|key| (key, true)).collect();
    expected.push((failing, false));
    expected.sort_unstable();
    assert_eq!(told, expected);
}
