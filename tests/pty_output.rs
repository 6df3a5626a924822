//! What flows through terminals: nothing is lost at the end, whichever way it
//! is read; who closes; what can't be.

#![cfg(target_os = "linux")]

#[path = "support/pump.rs"]
mod support;

#[path = "support/pty.rs"]
mod pty;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;

use forkplan::Channel::{self, ReadPipe};
use forkplan::{ChannelError, Child, CloseReason, Command, Event, Exit, OnDrop, Pty, Signal};
use rustix::event::{PollFd, PollFlags, poll};
use support::{Driver, Orphan, Random, Seen, TestPump, Watch};

fn sh(script: &str, pty: Pty) -> Command<'static> {
    let mut command = Command::new("sh");
    command.args(["-c", script]).channel("terminal", pty, [0, 1, 2]);
    command
}

/// A child that has written this much and has ended, and of which nothing was
/// read.
fn ended_with_output(bytes: usize) -> Child {
    let mut child = sh(&format!("printf %{bytes}s"), Pty::new().raw()).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    child
}

/// Reads by single bytes until `EIO`.
fn read_bytewise(master: OwnedFd) -> Vec<u8> {
    let (mut master, mut said) = (File::from(master), Vec::new());
    let mut byte = [0];
    loop {
        match master.read(&mut byte) {
            Ok(len) => said.extend_from_slice(&byte[..len]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EIO));
                return said;
            }
        }
    }
}

/// As much as fits into a terminal of which nobody reads.
const UNREAD: usize = 3000;

#[test]
fn what_an_ended_child_has_written_is_all_there_before_eio() {
    for _ in 0..20 {
        let mut child = ended_with_output(UNREAD);
        assert_eq!(read_bytewise(child.take("terminal").unwrap()), [b' '; UNREAD]);
    }
    for _ in 0..20 {
        let mut driver = Driver::new();
        let key = driver.pump.add(ended_with_output(UNREAD));
        driver.finish();
        assert_eq!(driver.data(key, "terminal"), [b' '; UNREAD]);
        assert_eq!(driver.closed(key, "terminal"), Some((CloseReason::Peer, 0)));
    }
}

/// What a reader sees who takes the hang-up that poll reports for the end.
#[test]
fn control_a_reader_that_stops_at_the_hang_up_loses_what_was_written() {
    let mut child = ended_with_output(UNREAD);
    let mut master = File::from(child.take("terminal").unwrap());
    let mut said = Vec::new();
    // A child that another test has just forked may hold the terminal too.
    poll(&mut [PollFd::new(&master, PollFlags::empty())], None).unwrap();
    loop {
        let mut polled = [PollFd::new(&master, PollFlags::IN)];
        poll(&mut polled, None).unwrap();
        if polled[0].revents().contains(PollFlags::HUP) {
            break;
        }
        let mut buffer = [0; 4096];
        let len = master.read(&mut buffer).unwrap();
        said.extend_from_slice(&buffer[..len]);
    }
    assert!(said.len() < UNREAD);
}

#[test]
fn a_child_that_writes_much_and_ends_at_once_loses_nothing_to_single_bytes() {
    let expected: String = (1..=4000).map(|n| format!("{n}\n")).collect();
    for _ in 0..5 {
        let mut child = sh("exec seq 1 4000", Pty::new().raw()).spawn().unwrap();
        assert_eq!(read_bytewise(child.take("terminal").unwrap()), expected.as_bytes());
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn many_children_that_write_much_and_end_at_once_lose_nothing_to_the_pump() {
    let expected: String = (1..=20_000).map(|n| format!("{n}\r\n")).collect();
    let mut driver = Driver::new();
    let keys: Vec<_> =
        (0..20).map(|_| driver.add(&mut sh("exec seq 1 20000", Pty::new()))).collect();
    driver.finish();
    for key in keys {
        assert_eq!(driver.data(key, "terminal"), expected.as_bytes());
        assert_eq!(driver.closed(key, "terminal"), Some((CloseReason::Peer, 0)));
    }
}

#[test]
fn bytes_go_both_ways_unchanged_through_a_raw_terminal() {
    const LEN: usize = 300_000;
    let mut random = Random::new();
    let sent: Vec<u8> = (0..LEN).map(|_| random.below(256) as u8).collect();
    let mut driver = Driver::new();
    let key = driver.add(&mut sh("exec cat", Pty::new().raw()));
    let (mut written, watch) = (0, Watch::new());
    while driver.data_len(key, "terminal") < LEN {
        written += driver.pump.write(key, "terminal", &sent[written..]).unwrap();
        watch.poll(&mut driver.pump);
        driver.drain();
    }
    assert_eq!(written, LEN);
    assert!(driver.data(key, "terminal") == sent);
    // The queue was in use, and told when it was empty.
    assert!(driver.has(key, &Seen::Drained("terminal".into())));
    driver.pump.close(key, "terminal").unwrap();
    driver.finish();
    assert_eq!(driver.exit(key).unwrap().signal(), Some(Signal::HUP));
}

#[test]
fn a_paused_terminal_keeps_what_comes_until_it_is_resumed() {
    let mut driver = Driver::new();
    let key = driver
        .add(sh("echo one; read x; echo two; read x", Pty::new().echo(false)).fd(5, ReadPipe));
    driver.until(|driver| driver.data(key, "terminal") == b"one\r\n");
    driver.pump.pause(key, "terminal").unwrap();
    driver.pump.write(key, "terminal", b"\n\n").unwrap();
    // Its end of the pipe shows that the child has ended, all written.
    driver.until(|driver| driver.closed(key, "5").is_some() && driver.exit(key).is_some());
    driver.assert_quiet();
    assert_eq!(driver.data(key, "terminal"), b"one\r\n");
    assert!(!driver.has_ended(key));
    driver.pump.resume(key, "terminal").unwrap();
    driver.finish();
    assert_eq!(driver.data(key, "terminal"), b"one\r\ntwo\r\n");
}

#[test]
fn the_end_of_input_is_a_character_and_half_a_terminal_is_not_closed() {
    let mut driver = Driver::new();
    let key = driver.add(&mut sh("cat; echo ended", Pty::new().echo(false)));
    let refused = driver.pump.close_write(key, "terminal");
    assert_eq!(refused, Err(ChannelError::NoHalfClose));
    assert_eq!(driver.pump.close_read(key, "terminal"), Err(ChannelError::NoHalfClose));
    driver.pump.write(key, "terminal", b"a line\n\x04").unwrap();
    driver.finish();
    assert_eq!(driver.data(key, "terminal"), b"a line\r\nended\r\n");
}

#[test]
fn no_terminal_is_had_of_a_pipe_nor_of_what_is_closed() {
    let mut driver = Driver::new();
    let key = driver.add(sh("read x", Pty::new()).fd(5, ReadPipe));
    let pump = &mut driver.pump;
    assert_eq!(pump.terminal(key, 5).unwrap_err(), ChannelError::NotATerminal);
    assert_eq!(pump.terminal(key, 7).unwrap_err(), ChannelError::NoChannel);
    pump.terminal(key, 0).unwrap();
    pump.abort(key, 0).unwrap();
    assert_eq!(pump.terminal(key, 0).unwrap_err(), ChannelError::Closed);
    // Closing it once more is nothing.
    pump.close(key, 0).unwrap();
    driver.finish();
    assert_eq!(driver.pump.terminal(key, 0).unwrap_err(), ChannelError::NoChild);
    assert_eq!(driver.exit(key).unwrap().signal(), Some(Signal::HUP));
}

/// Has a child close its terminal and go on, to the end if it is told; its exit,
/// and what it said since.
fn closes_its_terminal(pty: Pty, told: bool) -> (Exit, String) {
    let mut driver = Driver::new();
    let script = "echo bye; exec <&- >&- 2>&-; read x <&6; echo $x >&5";
    let key = driver.add(sh(script, pty).fd(5, ReadPipe).fd(6, Channel::WritePipe));
    driver.until(|driver| driver.closed(key, "terminal").is_some());
    assert_eq!(driver.data(key, "terminal"), b"bye\r\n");
    assert_eq!(driver.closed(key, "terminal"), Some((CloseReason::Peer, 0)));
    assert_eq!(driver.pump.write(key, "terminal", b"x"), Err(ChannelError::Closed));
    if told {
        driver.pump.write(key, 6, b"alive\n").unwrap();
    }
    driver.finish();
    (driver.exit(key).unwrap(), String::from_utf8(driver.data(key, "5")).unwrap())
}

#[test]
fn a_child_that_closes_a_terminal_which_does_not_control_it_lives_on() {
    let (exit, said) = closes_its_terminal(Pty::new().controlling(false), true);
    assert_eq!(said, "alive\n");
    assert!(exit.success());
}

#[test]
fn a_child_that_closes_its_controlling_terminal_is_hung_up_on() {
    let (exit, said) = closes_its_terminal(Pty::new(), false);
    assert_eq!((exit.signal(), said.as_str()), (Some(Signal::HUP), ""));
}

#[test]
fn a_process_left_behind_holds_the_terminal_and_delays_the_end_alone() {
    let mut driver = Driver::new();
    // The leader's end is a hang-up for who does not ignore it.
    let key = driver.add(&mut sh("trap '' HUP; sleep 1000 & echo $!", Pty::new()));
    driver.until(|driver| driver.exit(key).is_some() && driver.data_len(key, "terminal") > 0);
    driver.assert_quiet();
    assert!(!driver.has_ended(key));
    let said = String::from_utf8(driver.data(key, "terminal")).unwrap();
    drop(Orphan(said.trim().parse().unwrap()));
    driver.finish();
    assert_eq!(driver.closed(key, "terminal"), Some((CloseReason::Peer, 0)));
}

#[test]
fn what_nobody_reads_any_more_is_counted_as_unsent() {
    let mut driver = Driver::new();
    let key = driver.add(&mut sh("echo ready; exec sleep 1000", Pty::new().raw()));
    driver.until(|driver| driver.data(key, "terminal") == b"ready\n");
    // Far more than the kernel takes, now or when the terminal is closed.
    const QUEUED: usize = 1 << 20;
    driver.pump.set_high_water(key, "terminal", QUEUED).unwrap();
    while driver.pump.write(key, "terminal", &[b'x'; 10_000]).unwrap() > 0 {}
    assert_eq!(driver.pump.queued(key, "terminal"), Ok(QUEUED));
    driver.pump.signal(key, Signal::KILL).unwrap();
    driver.finish();
    let (reason, unsent) = driver.closed(key, "terminal").unwrap();
    assert_eq!(reason, CloseReason::Peer);
    assert!(QUEUED / 2 < unsent && unsent <= QUEUED, "{unsent}");
}

#[test]
fn two_hundred_terminals_at_once() {
    const COUNT: usize = 200;
    let read = |path: &str| std::fs::read_to_string(path).unwrap().trim().parse::<usize>().unwrap();
    let fds = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if fds.is_some_and(|fds| fds < 3 * COUNT as u64)
        || read("/proc/sys/kernel/pty/max") < read("/proc/sys/kernel/pty/nr") + 2 * COUNT
    {
        eprintln!("SKIPPED: two_hundred_terminals_at_once: this system has not so many");
        return;
    }
    let script = "read x; echo I have $x; read x";
    let mut prepared = sh(script, Pty::new().echo(false)).on_drop(OnDrop::Kill).prepare().unwrap();
    let mut pump = TestPump::new();
    let children: Vec<_> = (0..COUNT).map(|_| pump.add(prepared.spawn().unwrap())).collect();
    for (&child, number) in children.iter().zip(0..) {
        pump.write(child, "terminal", format!("{number}\n").as_bytes()).unwrap();
    }
    // Nobody ends before all have answered, so all are there at once.
    let (mut said, mut answered, watch) = (vec![Vec::new(); COUNT], 0, Watch::new());
    let mut closed = 0;
    while !pump.is_empty() {
        let was = answered;
        watch.poll(&mut pump);
        while let Some(event) = pump.next_event() {
            let index = children.iter().position(|&child| child == event.child()).unwrap();
            match event {
                Event::Data { bytes, .. } => said[index].extend_from_slice(bytes),
                Event::Closed { reason, .. } => {
                    assert_eq!(reason, CloseReason::Peer);
                    closed += 1;
                }
                Event::Ended { exit, .. } => assert!(exit.success()),
                _ => {}
            }
        }
        answered = said.iter().filter(|said| said.ends_with(b"\n")).count();
        if was < COUNT && answered == COUNT {
            assert_eq!(closed, 0);
            for &child in &children {
                pump.write(child, "terminal", b"\n").unwrap();
            }
        }
    }
    assert_eq!(closed, COUNT);
    for (said, number) in said.iter().zip(0..) {
        assert_eq!(*said, format!("I have {number}\r\n").into_bytes());
    }
}
