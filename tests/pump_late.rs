//! What is due when it is late for it: after the end, before the program was
//! reached, in a time that no wait can last, and when nobody could be signalled.

#[cfg(target_os = "linux")]
#[path = "support/seccomp.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod seccomp;
#[path = "support/pump.rs"]
mod support;

use core::time::Duration;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Instant;

use forkplan::{Channel, ChildKey, CloseReason, Command, End, Event, Ladder, OnDrop, Pump, Signal};
use support::{Driver, Orphan, Seen, Watch};

const ZERO: Duration = Duration::ZERO;

/// A socket without a process, and its other end.
fn attached(driver: &mut Driver) -> (ChildKey, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let key = driver.attach([End::new("talk", ours).unwrap()]);
    driver.drain();
    (key, theirs)
}

fn is_last(driver: &Driver, key: ChildKey) -> bool {
    matches!(driver.of(key).last(), Some(Seen::Ended(_) | Seen::NotStarted))
}

/// A poll with events left to be told: what is due comes after them.
fn look(driver: &mut Driver) {
    driver.pump.poll(Some(ZERO)).unwrap();
}

#[test]
fn a_deadline_that_comes_when_the_last_channel_is_closed_is_not_told() {
    let mut driver = Driver::new();
    for closes in [false, true] {
        let (key, _theirs) = attached(&mut driver);
        driver.pump.set_deadline(key, Some(Instant::now()), Ladder::new()).unwrap();
        if closes {
            driver.pump.abort(key, "talk").unwrap();
        }
        look(&mut driver);
        driver.drain();
        // The control is the one that is open.
        assert_eq!(driver.has(key, &Seen::TimedOut), !closes);
        assert_eq!(is_last(&driver, key), closes, "{:?}", driver.log);
        if !closes {
            driver.pump.abort(key, "talk").unwrap();
        }
    }
    driver.finish();
}

#[test]
fn no_signal_of_a_ladder_for_a_group_is_told_after_the_end() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(|command| {
        command.fd(1, Channel::ReadPipe).process_group(0);
    });
    let pid = agent.ask("sleep 300 9<&- & echo $! >&9");
    let orphan = Orphan(pid.trim().parse().unwrap());
    agent.tell("exit");
    driver.until(|d| d.exit(agent.key).is_some());
    // Both are due at once, as after a time in which nobody has polled.
    let ladder = Ladder::new().then(Signal::CONT, ZERO).to_group();
    driver.pump.set_deadline(agent.key, Some(Instant::now()), ladder.clone()).unwrap();
    driver.pump.abort(agent.key, 1).unwrap();
    look(&mut driver);
    driver.pump.stop(agent.key, ladder).unwrap();
    driver.finish();
    assert!(is_last(&driver, agent.key), "{:?}", driver.log);
    drop(orphan);
}

#[test]
fn nothing_is_told_of_a_start_after_it_has_failed() {
    let mut driver = Driver::new();
    let now = Arc::new(Mutex::new(Instant::now()));
    let clock = now.clone();
    driver.pump.set_clock(move || *clock.lock().unwrap());
    let key = driver.pump.start(Command::new("/nowhere/program").prepare().unwrap());
    // Looked at by the clock, and not in the turn that tells of it.
    while driver.pump.take_spawn_error(key).is_none() {
        *now.lock().unwrap() += Duration::from_secs(1);
        driver.watch.check(&driver.pump);
        look(&mut driver);
    }
    driver.pump.set_deadline(key, Some(*now.lock().unwrap()), Ladder::kill()).unwrap();
    look(&mut driver);
    driver.finish();
    assert_eq!(driver.of(key).collect::<Vec<_>>(), [&Seen::NotStarted]);
}

#[test]
fn what_a_deadline_does_to_a_start_is_told_after_it_was_made_and_else_not() {
    let mut driver = Driver::new();
    let mut program = Command::new("true");
    program.fd(1, Channel::ReadPipe);
    let keys = [program, Command::new("/nowhere/program")].map(|command| {
        let key = driver.pump.start(command.prepare().unwrap());
        let ladder = Ladder::new().then(Signal::CONT, ZERO);
        driver.pump.set_deadline(key, Some(Instant::now()), ladder).unwrap();
        key
    });
    look(&mut driver);
    driver.finish();
    let told: Vec<_> = driver.of(keys[0]).take(3).collect();
    let expected = [&Seen::TimedOut, &Seen::Signalled(Signal::CONT)];
    assert!(matches!(told[0], Seen::Made(_)) && told[1..] == expected, "{told:?}");
    assert_eq!(driver.of(keys[1]).collect::<Vec<_>>(), [&Seen::NotStarted]);
}

#[test]
fn a_drain_limit_leaves_the_deadline_of_what_has_no_process() {
    let mut driver = Driver::new();
    let (key, theirs) = attached(&mut driver);
    driver.pump.set_deadline(key, Some(Instant::now()), Ladder::new()).unwrap();
    driver.pump.set_drain_limit(key, Some(Duration::from_secs(3600))).unwrap();
    look(&mut driver);
    driver.drain();
    assert!(driver.has(key, &Seen::TimedOut));
    drop(theirs);
    driver.finish();
    assert_eq!(driver.closed(key, "talk"), Some((CloseReason::Peer, 0)));
}

/// The next signal of a ladder, whose time begins within a poll.
#[test]
fn a_signal_that_can_not_be_sent_does_not_keep_the_next_from_its_time() {
    let mut pump = Pump::new();
    let sleep = Command::new("sleep").arg("1000").on_drop(OnDrop::Kill).spawn().unwrap();
    let key = pump.add(sleep);
    while pump.next_event().is_some() {}
    let no_signal = 200;
    let ladder = Ladder::new().then(no_signal, ZERO).then(no_signal, ZERO);
    pump.stop(key, ladder.then(Signal::KILL, ZERO)).unwrap();

    // Should the poll wait for ever, it is ended from outside, and not by the ladder.
    let pid = pump.child(key).and_then(|child| child.id()).unwrap();
    let (done, is_done) = mpsc::channel::<()>();
    let patience = thread::spawn(move || {
        if is_done.recv_timeout(Duration::from_secs(30)) == Err(mpsc::RecvTimeoutError::Timeout) {
            rustix::process::kill_process(
                rustix::process::Pid::from_raw(pid as i32).unwrap(),
                rustix::process::Signal::TERM,
            )
            .unwrap();
        }
    });
    let mut ended_by = None;
    while !pump.is_empty() {
        pump.poll(None).unwrap();
        while let Some(event) = pump.next_event() {
            if let Event::Exited { exit, .. } = event {
                ended_by = exit.signal();
            }
        }
    }
    drop(done);
    patience.join().unwrap();
    assert_eq!(ended_by, Some(Signal::KILL));
}

/// poll(2) takes no more than 24 days: when such a wait has found nothing, that is
/// what has passed. Waited for by calls that say so at once.
#[cfg(target_os = "linux")]
#[test]
fn after_the_longest_wait_there_is_no_more_has_passed_than_that() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let mut calls = vec![libc::SYS_ppoll, libc::SYS_epoll_pwait];
    #[cfg(target_arch = "x86_64")]
    calls.extend([libc::SYS_poll, libc::SYS_epoll_wait]);
    let calls: Vec<_> = calls.into_iter().map(|call| seccomp::Rule::errno(call, 0)).collect();
    let mut driver = Driver::with(support::TestPump::in_loop(
        Pump::new(),
        rustix::event::epoll::EventFlags::empty(),
    ));
    let (key, theirs) = attached(&mut driver);
    let pump = &mut driver.pump;
    let polled = seccomp::under(&calls, || pump.poll(Some(Duration::MAX)).unwrap());
    assert!(!polled, "nothing has happened, but that time has passed");
    let now = Instant::now();
    for days in [20, 60] {
        driver.pump.set_deadline(key, Some(now + days * DAY), Ladder::new()).unwrap();
        let pump = &mut driver.pump;
        seccomp::under(&calls, || pump.poll(None).unwrap());
        let before = driver.log.len();
        driver.drain();
        let told = driver.log[before..].contains(&(key, Seen::TimedOut));
        assert_eq!(told, days == 20, "{days} days");
    }
    drop(theirs);
    driver.pump.set_deadline(key, None, Ladder::new()).unwrap();
    driver.finish();
}

#[test]
fn a_silence_of_no_time_keeps_nobody_awake_while_it_is_asked_for() {
    let mut driver = Driver::new();
    let (key, theirs) = attached(&mut driver);
    driver.pump.set_idle_limit(key, "talk", Some(ZERO)).unwrap();
    driver.pump.pause(key, "talk").unwrap();
    for _ in 0..3 {
        look(&mut driver);
    }
    assert_eq!(driver.pump.next_deadline(), None);
    driver.pump.resume(key, "talk").unwrap();
    let watch = Watch::new();
    while !driver.has(key, &Seen::Idle("talk".into())) {
        watch.poll(&mut driver.pump);
        driver.drain();
    }
    drop(theirs);
    driver.finish();
}
