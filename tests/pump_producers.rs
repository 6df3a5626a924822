//! Writing as fast as a child reads: a notice that is asked for comes when there is
//! room, and once. Who writes one piece for each is a pull producer in a loop.

#[path = "support/kinds.rs"]
mod kinds;
#[path = "support/pump.rs"]
mod support;

use std::io::{Read, Seek, SeekFrom};

use forkplan::{Channel, ChannelError, ChildKey, CloseReason, Command, End, Event};
use kinds::KINDS;
use rustix::pipe::pipe;
use support::{Agent, Driver, Random, Seen, TestPump, Watch};

/// An agent that reads from its fd 0 when it is told to.
fn reader(driver: &mut Driver) -> Agent {
    driver.agent(|command| {
        command.fd(0, Channel::WritePipe);
    })
}

fn notices(driver: &Driver, key: ChildKey) -> usize {
    driver.of(key).filter(|seen| **seen == Seen::Drained("0".into())).count()
}

/// Writes pages until some of them are queued, and none was refused; how many bytes.
fn queue_some(driver: &mut Driver, key: ChildKey) -> usize {
    let mut written = 0;
    while driver.pump.queued(key, 0).unwrap() < 20_000 {
        written += driver.pump.write(key, 0, &[b'x'; 4096]).unwrap();
        assert_eq!(written % 4096, 0, "refused");
    }
    written
}

fn end(mut driver: Driver, agent: Agent) {
    driver.pump.abort_all(agent.key).unwrap();
    drop(agent);
    driver.finish();
}

#[test]
fn a_notice_that_was_asked_for_comes_once_though_nobody_was_refused() {
    let mut driver = Driver::new();
    let agent = reader(&mut driver);
    for asked in 1..4 {
        // More than once before it comes is once.
        driver.pump.notify_drained(agent.key, 0).unwrap();
        driver.pump.notify_drained(agent.key, 0).unwrap();
        driver.until(|driver| notices(driver, agent.key) == asked);
        driver.assert_quiet();
        assert_eq!(driver.pump.write(agent.key, 0, b"taken whole"), Ok(11));
    }
    end(driver, agent);
}

#[test]
fn control_nobody_is_told_who_was_not_refused_and_has_not_asked() {
    let mut driver = Driver::new();
    let agent = reader(&mut driver);
    assert_eq!(driver.pump.write(agent.key, 0, b"taken whole"), Ok(11));
    driver.assert_quiet();
    assert_eq!(notices(&driver, agent.key), 0);
    end(driver, agent);
}

#[test]
fn the_notice_waits_until_the_queue_is_at_its_low_water_mark() {
    for mark in [0, 10_000] {
        let mut driver = Driver::new();
        let mut agent = reader(&mut driver);
        driver.pump.set_low_water(agent.key, 0, mark).unwrap();
        let written = queue_some(&mut driver, agent.key);
        driver.pump.notify_drained(agent.key, 0).unwrap();
        driver.assert_quiet();
        agent.tell("while read -r n <&9; do head -c 4096 >/dev/null; echo more >&9; done");
        let mut read = 0;
        while notices(&driver, agent.key) == 0 {
            agent.tell("go on");
            assert_eq!(agent.hear(), "more\n");
            read += 4096;
            assert!(read <= written, "no notice");
            driver.step();
        }
        assert!(driver.pump.queued(agent.key, 0).unwrap() <= mark);
        assert!(mark == 0 || driver.pump.queued(agent.key, 0).unwrap() > 0);
        end(driver, agent);
    }
}

/// Writes one piece for each notice, until there are no more; how many bytes.
fn pull(driver: &mut Driver, key: ChildKey, piece: usize) -> usize {
    let mut written = 0;
    driver.pump.notify_drained(key, 0).unwrap();
    let mut told = 0;
    loop {
        driver.pump.poll(Some(core::time::Duration::from_millis(50))).unwrap();
        driver.drain();
        if notices(driver, key) == told {
            return written;
        }
        told += 1;
        written += driver.pump.write(key, 0, &vec![b'x'; piece]).unwrap();
        assert!(driver.pump.queued(key, 0).unwrap() <= piece);
        driver.pump.notify_drained(key, 0).unwrap();
    }
}

#[test]
fn a_child_that_never_reads_has_no_more_queued_than_one_piece() {
    let mut driver = Driver::new();
    let agent = reader(&mut driver);
    let written = pull(&mut driver, agent.key, 1000);
    // The pipe is full, and one more is not asked for.
    assert!(written > 60_000);
    assert!(driver.pump.queued(agent.key, 0).unwrap() <= 1000);
    driver.assert_quiet();
    end(driver, agent);
}

/// The mark alone, without asking, is a bound too, and a higher one.
#[test]
fn control_who_does_not_ask_queues_up_to_the_mark() {
    let mut driver = Driver::new();
    let agent = reader(&mut driver);
    while driver.pump.write(agent.key, 0, &[b'x'; 1000]).unwrap() > 0 {}
    assert_eq!(driver.pump.queued(agent.key, 0), Ok(65_536));
    end(driver, agent);
}

/// Feeds `len` bytes to channel `to`, a piece for each notice, and returns what comes
/// back. `closes`: the channel, at the end.
fn feed(
    pump: &mut TestPump,
    (key, to, closes): (ChildKey, i32, bool),
    len: usize,
    piece: usize,
) -> Vec<u8> {
    let watch = Watch::new();
    let (mut sent, mut said) = (0, Vec::new());
    pump.notify_drained(key, to).unwrap();
    while !pump.is_empty() {
        watch.poll(pump);
        while let Some(event) = pump.next_event() {
            match event {
                Event::Drained { channel, .. } => {
                    assert_eq!(channel, to.into());
                    let bytes = vec![b'y'; piece.min(len - sent)];
                    if bytes.is_empty() {
                        if closes {
                            pump.close(key, to).unwrap();
                        }
                        continue;
                    }
                    assert_eq!(pump.write(key, to, &bytes), Ok(bytes.len()));
                    sent += bytes.len();
                    pump.notify_drained(key, to).unwrap();
                }
                Event::Data { bytes, .. } => said.extend_from_slice(bytes),
                Event::Closed { unsent, .. } => assert_eq!(unsent, 0),
                _ => {}
            }
        }
    }
    assert_eq!(sent, len);
    said
}

#[test]
fn every_kind_that_is_written_to_can_be_fed_piece_by_piece() {
    for kind in KINDS.iter().filter(|kind| kind.writes) {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        // What is in a terminal is lost with it.
        let closes = kind.has_end && kind.name != "terminal";
        let rest = if closes { "cat <&3;" } else { "" };
        let script = format!("head -c 150000 <&3 | wc -c >&4; {rest} exit 0");
        command.args(["-c", &script]).fd(3, (kind.make)(dir.path())).fd(4, Channel::ReadPipe);
        let mut pump = TestPump::new();
        let key = pump.add(command.spawn().unwrap());
        let said = feed(&mut pump, (key, 3, closes), 150_000, 1500);
        let said = String::from_utf8_lossy(&said);
        assert_eq!(said.trim(), "150000", "{}", kind.name);
    }
}

#[test]
fn attached_ends_can_be_fed_piece_by_piece() {
    let ((reader, their_writer), (their_reader, writer)) = (pipe().unwrap(), pipe().unwrap());
    let mut pump = TestPump::new();
    let far = pump.attach([End::new("in", their_reader).unwrap()]);
    let near = pump.attach([End::duplex(7, reader, writer).unwrap()]);
    drop(their_writer);
    assert_ne!(far, near);
    assert_eq!(feed(&mut pump, (near, 7, true), 500_000, 10_000).len(), 500_000);
}

// Always ready, and so asked at each poll and no more than that.
#[test]
fn a_regular_file_can_be_fed_piece_by_piece() {
    let mut file = tempfile::tempfile().unwrap();
    let ours = rustix::io::dup(&file).unwrap();
    let mut pump = TestPump::new();
    let Ok(end) = End::new(5, ours) else {
        eprintln!("SKIPPED: no end is made of a file");
        return;
    };
    let key = pump.attach([end]);
    // It is read too, from where it is: behind what was written.
    feed(&mut pump, (key, 5, true), 50_000, 1000);
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut written = Vec::new();
    file.read_to_end(&mut written).unwrap();
    assert_eq!(written, [b'y'; 50_000]);
}

#[test]
fn a_channel_that_takes_no_writes_can_t_be_asked_for_a_notice() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(|command| {
        command.fd(0, Channel::WritePipe).fd(1, Channel::ReadPipe);
    });
    let key = agent.key;
    assert_eq!(driver.pump.notify_drained(key, 1), Err(ChannelError::NotWritable));
    assert_eq!(driver.pump.notify_drained(key, 7), Err(ChannelError::NoChannel));
    queue_some(&mut driver, key);
    driver.pump.notify_drained(key, 0).unwrap();
    // What was asked for before it is closed does not come.
    driver.pump.close(key, 0).unwrap();
    assert_eq!(driver.pump.notify_drained(key, 0), Err(ChannelError::Closed));
    agent.tell("cat >/dev/null");
    driver.until(|driver| driver.closed(key, "0").is_some());
    assert_eq!(driver.closed(key, "0"), Some((CloseReason::Us, 0)));
    assert_eq!(driver.pump.notify_drained(key, 0), Err(ChannelError::Closed));
    drop(agent);
    driver.finish();
    assert_eq!(notices(&driver, key), 0);
    assert_eq!(driver.pump.notify_drained(key, 0), Err(ChannelError::NoChild));
}

#[test]
fn of_a_child_that_reads_no_more_the_end_is_told_and_no_notice() {
    let mut driver = Driver::new();
    let mut agent = reader(&mut driver);
    queue_some(&mut driver, agent.key);
    driver.pump.notify_drained(agent.key, 0).unwrap();
    agent.ask("exec 0</dev/null");
    driver.until(|driver| driver.closed(agent.key, "0").is_some());
    assert_eq!(notices(&driver, agent.key), 0);
    assert_eq!(driver.closed(agent.key, "0").unwrap().0, CloseReason::Peer);
    drop(agent);
    driver.finish();
}

/// Against a model that has one bit: a notice is owed, by a refusal or by asking.
#[test]
fn whatever_is_written_asked_and_read_a_notice_comes_if_and_only_if_one_is_owed() {
    let mut random = Random::new();
    for _ in 0..15 {
        let mut driver = Driver::new();
        let mut agent = reader(&mut driver);
        let key = agent.key;
        let marks = random.pick(&[(0, 65_536), (500, 1000), (30_000, 100_000)]);
        driver.pump.set_low_water(key, 0, marks.0).unwrap();
        driver.pump.set_high_water(key, 0, marks.1).unwrap();
        let (mut owed, mut told, mut unread) = (false, 0, 0);
        for _ in 0..40 {
            match random.below(6) {
                0 | 1 => {
                    let len = random.pick(&[1, 4096, 30_000, 200_000]);
                    let taken = driver.pump.write(key, 0, &vec![b'x'; len]).unwrap();
                    unread += taken;
                    owed |= taken < len;
                }
                2 => {
                    driver.pump.notify_drained(key, 0).unwrap();
                    owed = true;
                }
                3 => {
                    // No more than has left the queue, or it would wait for us.
                    let there = unread - driver.pump.queued(key, 0).unwrap();
                    let len = there.min(random.pick(&[100, 5000, 100_000]));
                    agent.ask(&format!("head -c {len} >/dev/null"));
                    unread -= len;
                }
                _ => {
                    driver.pump.poll(Some(core::time::Duration::from_millis(1))).unwrap();
                    driver.drain();
                    let now = notices(&driver, key);
                    assert!(now - told <= usize::from(owed), "nobody was owed a notice");
                    owed &= now == told;
                    told = now;
                }
            }
        }
        agent.tell("cat >/dev/null");
        if owed {
            driver.until(|driver| notices(driver, key) > told);
        }
        while driver.pump.queued(key, 0).unwrap() > 0 {
            driver.step();
        }
        driver.assert_quiet();
        assert_eq!(notices(&driver, key), told + usize::from(owed));
        end(driver, agent);
    }
}
