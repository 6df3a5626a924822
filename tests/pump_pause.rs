//! Pause and resume. I.test_pauseAndResumeProducing

#[path = "support/pump.rs"]
mod support;

use core::time::Duration;

use forkplan::{Channel, ChannelError, ChildKey, CloseReason, Command, Features};
use support::{Driver, Seen};

/// More than pipe and reader hold together.
const MUCH: usize = 1_000_000;

/// An agent that answers once `much` has gone out on fd 1.
fn talker(driver: &mut Driver) -> support::Agent {
    let mut agent = driver.agent(|command| {
        command.fd(0, Channel::WritePipe).fd(1, Channel::ReadPipe).fd(2, Channel::ReadPipe);
    });
    agent.tell(&format!("head -c {MUCH} /dev/zero; echo written >&9"));
    agent
}

fn got(driver: &Driver, key: ChildKey, name: &str) -> usize {
    driver.data(key, name).len()
}

#[test]
fn a_paused_channel_is_not_read_from_and_the_child_waits() {
    for all in [false, true] {
        let mut driver = Driver::new();
        let mut agent = talker(&mut driver);
        let key = agent.key;
        driver.until(|d| got(d, key, "1") > 0);
        match all {
            true => driver.pump.pause_all(key).unwrap(),
            false => driver.pump.pause(key, 1).unwrap(),
        }
        let before = got(&driver, key, "1");
        for _ in 0..3 {
            // Also what was ready when it was paused is not read any more.
            driver.assert_quiet();
        }
        assert_eq!(got(&driver, key, "1"), before);
        assert!(before < MUCH);
        match all {
            true => driver.pump.resume_all(key).unwrap(),
            false => driver.pump.resume(key, 1).unwrap(),
        }
        driver.until(|d| got(d, key, "1") == MUCH);
        assert_eq!(agent.hear(), "written\n");
        drop(agent);
        driver.finish();
        assert_eq!(got(&driver, key, "1"), MUCH);
    }
}

#[test]
fn pausing_one_channel_leaves_the_others() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(|command| {
        command.fd(1, Channel::ReadPipe).fd(2, Channel::ReadPipe).fd(3, Channel::SocketPair);
    });
    let key = agent.key;
    driver.pump.pause(key, 1).unwrap();
    agent.ask("echo one; echo two >&2; echo three >&3");
    driver.until(|d| got(d, key, "2") == 4 && got(d, key, "3") == 6);
    driver.assert_quiet();
    assert_eq!(got(&driver, key, "1"), 0);
    driver.pump.pause(key, 3).unwrap();
    driver.pump.resume(key, 1).unwrap();
    agent.ask("echo four >&3");
    driver.until(|d| got(d, key, "1") == 4);
    driver.assert_quiet();
    assert_eq!(got(&driver, key, "3"), 6);
    // A socket that is not read from is written to all the same.
    driver.pump.write(key, 3, b"hello\n").unwrap();
    assert_eq!(agent.ask("read -r word <&3; echo $word >&9"), "hello\n");
    driver.pump.resume_all(key).unwrap();
    drop(agent);
    driver.finish();
    assert_eq!(driver.data(key, "3"), b"three\nfour\n");
}

#[test]
fn pausing_one_child_leaves_the_others() {
    let mut driver = Driver::new();
    let (paused, other) = (talker(&mut driver), talker(&mut driver));
    driver.pump.pause_all(paused.key).unwrap();
    driver.until(|d| got(d, other.key, "1") == MUCH);
    driver.assert_quiet();
    assert_eq!(got(&driver, paused.key, "1"), 0);
    driver.pump.resume_all(paused.key).unwrap();
    let key = paused.key;
    drop((paused, other));
    driver.finish();
    assert_eq!(got(&driver, key, "1"), MUCH);
}

#[test]
fn the_end_of_a_child_whose_channels_are_paused_is_told_and_keeps_poll_waiting() {
    for (without, socket) in
        [(Features::empty(), false), (Features::empty(), true), (Features::PIDFD, false)]
    {
        let mut driver = Driver::new();
        let channel = if socket { Channel::SocketPair } else { Channel::ReadPipe };
        let mut command = Command::new("sh");
        command.args(["-c", "echo left behind >&3; exit 5"]).without(without).fd(3, channel);
        let key = driver.add(&mut command);
        driver.pump.pause(key, 3).unwrap();
        driver.until(|d| d.exit(key).is_some());
        assert_eq!(driver.exit(key).unwrap().code(), Some(5));
        // The hang-up of a channel that nobody reads must not wake poll.
        for _ in 0..3 {
            driver.assert_quiet();
        }
        assert!(!driver.has_ended(key));
        driver.pump.resume(key, 3).unwrap();
        // The control: it was there to be found.
        assert!(driver.pump.poll(Some(Duration::ZERO)).unwrap());
        driver.finish();
        assert_eq!(driver.data(key, "3"), b"left behind\n");
        assert_eq!(driver.closed(key, "3"), Some((CloseReason::Peer, 0)));
    }
}

#[test]
fn a_paused_socket_with_bytes_queued_whose_child_ends_keeps_poll_waiting() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(|command| {
        command.fd(3, Channel::SocketPair);
    });
    let key = agent.key;
    let bytes = vec![b'x'; MUCH];
    let taken = driver.pump.write(key, 3, &bytes).unwrap();
    assert!(taken < bytes.len());
    let queued = driver.pump.queued(key, 3).unwrap();
    agent.ask("echo words >&3");
    driver.pump.pause(key, 3).unwrap();
    drop(agent);
    driver.until(|d| d.exit(key).is_some());
    // The write that fails may be found after the exit.
    while driver.pump.queued(key, 3).unwrap() > 0 {
        driver.step();
    }
    for _ in 0..3 {
        driver.assert_quiet();
    }
    assert!(!driver.has_ended(key));
    assert_eq!(driver.pump.write(key, 3, b"x"), Err(ChannelError::Closed));
    driver.pump.resume(key, 3).unwrap();
    driver.finish();
    assert_eq!(driver.data(key, "3"), b"words\n");
    assert_eq!(driver.closed(key, "3"), Some((CloseReason::Peer, queued)));
}

#[test]
fn a_channel_that_is_paused_is_closed_as_any_other() {
    let mut driver = Driver::new();
    let agent = talker(&mut driver);
    let key = agent.key;
    driver.pump.pause_all(key).unwrap();
    driver.assert_quiet();
    driver.pump.close(key, 1).unwrap();
    driver.drain();
    assert_eq!(driver.closed(key, "1"), Some((CloseReason::Us, 0)));
    assert_eq!(driver.pump.pause(key, 1), Err(ChannelError::Closed));
    assert_eq!(driver.pump.resume(key, 1), Err(ChannelError::Closed));
    drop(agent);
    driver.until(|d| d.exit(key).is_some());
    driver.pump.resume_all(key).unwrap();
    driver.finish();
    assert!(driver.of(key).all(|seen| !matches!(seen, Seen::Data(name, _) if name == "1")));
}

#[test]
fn pausing_between_two_reads_of_one_turn_stops_the_second() {
    let mut driver = Driver::new();
    let agent = talker(&mut driver);
    let key = agent.key;
    // The first piece of a channel that has more; then no further one.
    let mut got = 0;
    while got == 0 {
        driver.pump.poll(None).unwrap();
        while let Some(event) = driver.pump.next_event() {
            let (_, seen) = support::owned(event);
            if let Seen::Data(_, bytes) = seen {
                assert_eq!(got, 0, "data of a channel that is paused");
                got = bytes.len();
                driver.pump.pause(key, 1).unwrap();
            }
        }
    }
    // Paused and resumed with its turn still to come, it is in the queue once.
    driver.pump.resume(key, 1).unwrap();
    driver.until(|d| d.data(key, "1").len() + got == MUCH);
    driver.pump.pause(key, 1).unwrap();
    driver.pump.resume(key, 1).unwrap();
    drop(agent);
    while !driver.pump.is_empty() {
        driver.step();
    }
    assert_eq!(driver.data(key, "1").len() + got, MUCH);
}
