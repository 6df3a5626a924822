//! Deadlines, ladders, silence and the bound on draining, by a clock that the
//! test drives.

#[path = "support/pump.rs"]
mod support;

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use forkplan::{Channel, ChannelError, ChildKey, CloseReason, Ladder, Pump, Signal, SignalError};
use support::{Agent, Driver, Orphan, Seen};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A clock that stands still until it is told to go on.
#[derive(Clone)]
struct Clock {
    start: Instant,
    seconds: Arc<AtomicU64>,
    readings: Arc<AtomicU64>,
}

impl Clock {
    fn of(pump: &mut Pump) -> Self {
        let clock = Self {
            start: Instant::now(),
            seconds: Arc::new(AtomicU64::new(0)),
            readings: Arc::new(AtomicU64::new(0)),
        };
        let read = clock.clone();
        pump.set_clock(move || {
            read.readings.fetch_add(1, Ordering::Relaxed);
            read.now()
        });
        clock
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs(self.seconds.load(Ordering::Relaxed))
    }

    fn pass(&self, time: Duration) {
        self.seconds.fetch_add(time.as_secs(), Ordering::Relaxed);
    }
}

/// A driver whose clock is driven, and in it a shell that does as it is told.
fn driven() -> (Driver, Clock, Agent) {
    let mut driver = Driver::new();
    let clock = Clock::of(&mut driver.pump);
    let agent = driver.agent(|command| {
        command.fd(1, Channel::ReadPipe).process_group(0);
    });
    driver.drain();
    (driver, clock, agent)
}

/// Looks at the clock, and waits for nothing.
fn look(driver: &mut Driver) {
    driver.pump.poll(Some(Duration::ZERO)).unwrap();
    driver.drain();
}

fn signals(driver: &Driver, key: ChildKey) -> Vec<Signal> {
    let signal = |seen: &Seen| match seen {
        Seen::Signalled(signal) => Some(*signal),
        _ => None,
    };
    driver.of(key).filter_map(signal).collect()
}

#[test]
fn at_its_deadline_a_child_is_told_of_and_then_killed() {
    let (mut driver, clock, agent) = driven();
    let deadline = clock.now() + 10 * SECOND;
    driver.pump.set_deadline(agent.key, Some(deadline), Ladder::kill()).unwrap();
    assert_eq!(driver.pump.next_deadline(), Some(deadline));
    clock.pass(9 * SECOND);
    look(&mut driver);
    assert!(!driver.has(agent.key, &Seen::TimedOut));
    clock.pass(SECOND);
    look(&mut driver);
    // The same poll may have come to the end of it, too.
    let told: Vec<&Seen> = driver.of(agent.key).skip(1).take(2).collect();
    assert_eq!(told, [&Seen::TimedOut, &Seen::Signalled(Signal::KILL)]);
    driver.finish();
    assert_eq!(driver.exit(agent.key).unwrap().signal(), Some(Signal::KILL));
    assert_eq!(driver.pump.next_deadline(), None);
}

#[test]
fn a_deadline_that_is_taken_away_or_moved_does_not_come() {
    let (mut driver, clock, agent) = driven();
    let soon = clock.now() + SECOND;
    driver.pump.set_deadline(agent.key, Some(soon), Ladder::kill()).unwrap();
    driver.pump.set_deadline(agent.key, Some(soon + HOUR), Ladder::kill()).unwrap();
    clock.pass(10 * SECOND);
    look(&mut driver);
    driver.pump.set_deadline(agent.key, None, Ladder::kill()).unwrap();
    clock.pass(2 * HOUR);
    look(&mut driver);
    assert_eq!(driver.of(agent.key).count(), 1, "{:?}", driver.log);
    drop(agent);
    driver.finish();
}

#[test]
fn an_empty_ladder_only_tells() {
    let (mut driver, clock, mut agent) = driven();
    driver.pump.set_deadline(agent.key, Some(clock.now()), Ladder::new()).unwrap();
    look(&mut driver);
    assert!(driver.has(agent.key, &Seen::TimedOut));
    assert_eq!(agent.ask("echo runs on >&9"), "runs on\n");
    let key = agent.key;
    drop(agent);
    driver.finish();
    assert!(signals(&driver, key).is_empty());
}

#[test]
fn who_does_not_end_at_one_signal_gets_the_next_when_its_time_is_over() {
    let (mut driver, clock, mut agent) = driven();
    agent.ask("trap '' TERM");
    driver.pump.stop(agent.key, Ladder::terminate(5 * SECOND)).unwrap();
    look(&mut driver);
    assert_eq!(signals(&driver, agent.key), [Signal::TERM]);
    assert!(!driver.has(agent.key, &Seen::TimedOut), "nobody set a deadline");
    // It lives and has four seconds left.
    clock.pass(SECOND);
    assert_eq!(agent.ask("echo lives >&9"), "lives\n");
    look(&mut driver);
    clock.pass(3 * SECOND);
    look(&mut driver);
    assert_eq!(signals(&driver, agent.key), [Signal::TERM]);
    clock.pass(SECOND);
    look(&mut driver);
    assert_eq!(signals(&driver, agent.key), [Signal::TERM, Signal::KILL]);
    driver.finish();
    assert_eq!(driver.exit(agent.key).unwrap().signal(), Some(Signal::KILL));
}

#[test]
fn who_ends_at_the_first_signal_gets_no_other() {
    let (mut driver, clock, agent) = driven();
    driver.pump.stop(agent.key, Ladder::terminate(5 * SECOND)).unwrap();
    driver.until(|d| d.exit(agent.key).is_some());
    clock.pass(HOUR);
    look(&mut driver);
    driver.finish();
    assert_eq!(signals(&driver, agent.key), [Signal::TERM]);
    assert_eq!(driver.exit(agent.key).unwrap().signal(), Some(Signal::TERM));
}

#[test]
fn silence_is_told_once_and_begins_anew_with_each_byte() {
    let (mut driver, clock, mut agent) = driven();
    let (key, idle) = (agent.key, Seen::Idle("1".into()));
    let times = |driver: &Driver| driver.of(key).filter(|seen| **seen == idle).count();
    driver.pump.set_idle_limit(agent.key, 1, Some(10 * SECOND)).unwrap();
    look(&mut driver);
    clock.pass(8 * SECOND);
    agent.tell("echo a word");
    driver.until(|d| d.data(agent.key, "1") == b"a word\n");
    look(&mut driver);
    clock.pass(8 * SECOND);
    look(&mut driver);
    assert_eq!(times(&driver), 0, "16 seconds, but never 10 of silence");
    clock.pass(2 * SECOND);
    look(&mut driver);
    assert_eq!(times(&driver), 1);
    clock.pass(HOUR);
    look(&mut driver);
    assert_eq!(times(&driver), 1, "one silence");
    agent.tell("echo a word");
    driver.until(|d| d.data(agent.key, "1").len() == 14);
    look(&mut driver);
    clock.pass(10 * SECOND);
    look(&mut driver);
    assert_eq!(times(&driver), 2);
    drop(agent);
    driver.finish();
}

#[test]
fn a_silence_that_was_asked_for_is_not_told() {
    let (mut driver, clock, agent) = driven();
    driver.pump.set_idle_limit(agent.key, 1, Some(10 * SECOND)).unwrap();
    driver.pump.pause(agent.key, 1).unwrap();
    look(&mut driver);
    for _ in 0..3 {
        clock.pass(10 * SECOND);
        look(&mut driver);
    }
    assert!(!driver.has(agent.key, &Seen::Idle("1".into())));
    driver.pump.resume(agent.key, 1).unwrap();
    look(&mut driver);
    clock.pass(10 * SECOND);
    look(&mut driver);
    assert!(driver.has(agent.key, &Seen::Idle("1".into())));
    assert_eq!(
        driver.pump.set_idle_limit(agent.key, 9, Some(SECOND)),
        Err(ChannelError::NoChannel)
    );
    drop(agent);
    driver.finish();
}

/// Leaves behind a grandchild that holds fd 1. Its id.
fn leave_a_grandchild(driver: &mut Driver, agent: &mut Agent) -> Orphan {
    let pid = agent.ask("sleep 300 9<&- & echo $! >&9");
    let orphan = Orphan(pid.trim().parse().unwrap());
    agent.tell("exit");
    driver.until(|d| d.exit(agent.key).is_some());
    orphan
}

#[test]
fn channels_that_a_grandchild_holds_are_given_up_when_their_time_is_over() {
    let (mut driver, clock, mut agent) = driven();
    driver.pump.set_drain_limit(agent.key, Some(3 * SECOND)).unwrap();
    let orphan = leave_a_grandchild(&mut driver, &mut agent);
    look(&mut driver);
    clock.pass(2 * SECOND);
    look(&mut driver);
    assert_eq!(driver.closed(agent.key, "1"), None);
    clock.pass(SECOND);
    driver.finish();
    assert_eq!(driver.closed(agent.key, "1"), Some((CloseReason::Abandoned, 0)));
    assert!(driver.exit(agent.key).unwrap().success());
    drop(orphan);
}

#[test]
fn a_limit_that_is_set_after_the_exit_holds_too() {
    let (mut driver, clock, mut agent) = driven();
    let orphan = leave_a_grandchild(&mut driver, &mut agent);
    clock.pass(HOUR);
    look(&mut driver);
    assert_eq!(driver.closed(agent.key, "1"), None, "the control: nobody has set one");
    driver.pump.set_drain_limit(agent.key, Some(SECOND)).unwrap();
    look(&mut driver);
    clock.pass(SECOND);
    driver.finish();
    assert_eq!(driver.closed(agent.key, "1"), Some((CloseReason::Abandoned, 0)));
    drop(orphan);
}

#[test]
fn a_ladder_for_a_group_ends_what_the_child_has_left_behind() {
    let (mut driver, clock, mut agent) = driven();
    // Who ignores TERM has children that do.
    let pid = agent.ask("trap '' TERM; sleep 300 9<&- & echo $! >&9; trap - TERM");
    let orphan = Orphan(pid.trim().parse().unwrap());
    driver.pump.stop(agent.key, Ladder::terminate(SECOND).to_group()).unwrap();
    driver.until(|d| d.exit(agent.key).is_some());
    assert_eq!(driver.exit(agent.key).unwrap().signal(), Some(Signal::TERM));
    assert_eq!(driver.closed(agent.key, "1"), None, "held by who ignores TERM");
    look(&mut driver);
    clock.pass(SECOND);
    look(&mut driver);
    if signals(&driver, agent.key).len() == 1 {
        eprintln!("SKIPPED: this kernel does not signal the group of who was reaped");
        drop(orphan);
    } else {
        // Its number may be another's by now.
        core::mem::forget(orphan);
    }
    driver.finish();
    assert_eq!(driver.closed(agent.key, "1"), Some((CloseReason::Peer, 0)));
}

#[test]
fn a_group_is_signalled_as_one_and_one_that_is_not_led_is_an_error() {
    let (mut driver, _clock, mut agent) = driven();
    let pid = agent.ask("sleep 300 9<&- >/dev/null & echo $! >&9");
    let orphan = Orphan(pid.trim().parse().unwrap());
    let child = driver.pump.child(agent.key).unwrap();
    child.signal_group(Signal::KILL).unwrap();
    driver.finish();
    assert_eq!(driver.exit(agent.key).unwrap().signal(), Some(Signal::KILL));
    // The grandchild is somebody else's to reap, but ends.
    while std::fs::read_to_string(format!("/proc/{pid}/stat", pid = orphan.0))
        .is_ok_and(|stat| !stat.contains(") Z "))
    {
        std::thread::yield_now();
    }

    let mut driver = Driver::new();
    let plain = driver.agent(|_| {});
    let child = driver.pump.child(plain.key).unwrap();
    assert_eq!(child.signal_group(Signal::TERM), Err(SignalError::Errno(libc::ESRCH)));
    drop(plain);
    driver.finish();
}

#[test]
fn a_poll_reads_the_clock_once_and_only_if_somebody_waits() {
    let (mut driver, clock, agent) = driven();
    look(&mut driver);
    assert_eq!(clock.readings.load(Ordering::Relaxed), 0);
    let deadline = clock.now() + SECOND;
    driver.pump.set_deadline(agent.key, Some(deadline), Ladder::kill()).unwrap();
    driver.pump.set_idle_limit(agent.key, 1, Some(HOUR)).unwrap();
    driver.pump.set_drain_limit(agent.key, Some(HOUR)).unwrap();
    for polls in 1..10 {
        look(&mut driver);
        assert_eq!(clock.readings.load(Ordering::Relaxed), polls);
    }
    drop(agent);
    driver.finish();
}

#[test]
fn a_poll_waits_until_what_is_due_and_no_longer() {
    let mut driver = Driver::new();
    let agent = driver.agent(|_| {});
    driver.drain();
    let start = Instant::now();
    let deadline = start + Duration::from_millis(30);
    driver.pump.set_deadline(agent.key, Some(deadline), Ladder::kill()).unwrap();
    // The one poll would wait for ever; by itself it tells what has come.
    assert!(driver.pump.poll(None).unwrap());
    assert!(start.elapsed() >= Duration::from_millis(30));
    driver.drain();
    assert!(driver.has(agent.key, &Seen::TimedOut));
    driver.finish();
}

#[test]
fn a_child_that_has_ended_has_no_time() {
    let (mut driver, clock, agent) = driven();
    let key = agent.key;
    driver.pump.set_deadline(key, Some(clock.now() + SECOND), Ladder::kill()).unwrap();
    drop(agent);
    driver.finish();
    clock.pass(HOUR);
    assert!(!driver.pump.poll(None).unwrap());
    assert_eq!(driver.pump.stop(key, Ladder::kill()), Err(ChannelError::NoChild));
    assert_eq!(driver.pump.set_deadline(key, None, Ladder::kill()), Err(ChannelError::NoChild));
    assert_eq!(driver.pump.set_drain_limit(key, None), Err(ChannelError::NoChild));
    assert!(!driver.has(key, &Seen::TimedOut));
}
