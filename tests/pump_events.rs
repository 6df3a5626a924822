//! A child's way through the pump, from Made to Ended: which events come, in
//! which order, and how often. Where Twisted has a test of the same, it is
//! named (T: `twisted.test.test_process`, I: `twisted.internet.test.test_process`).

#[path = "support/pump.rs"]
mod support;

use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use forkplan::{Channel, CloseReason, Command, Event, Signal};
use support::{Driver, Orphan, Seen};

/// The three pipes of the default map beside an agent's own channel.
fn pipes(command: &mut Command<'_>) {
    command.fd(0, Channel::WritePipe).fd(1, Channel::ReadPipe).fd(2, Channel::ReadPipe);
}

// I.test_processTransportInterface
#[test]
fn made_is_first_and_tells_the_pid() {
    let mut pump = support::TestPump::new();
    let child = Command::new("sh").args(["-c", "echo $$"]).spawn().unwrap();
    let pid = child.id();
    assert!(pid.is_some());
    let key = pump.add(child);
    assert!(pump.has_events());
    let made = pump.next_event();
    assert_eq!(made, Some(Event::Made { child: key, pid }));
    assert_eq!(made.map(|event| event.child()), Some(key));
    let mut driver = Driver::new();
    let key = driver.sh("echo $$");
    driver.finish();
    let Some(Seen::Made(Some(pid))) = driver.of(key).next() else { panic!() };
    assert_eq!(driver.data(key, "1"), format!("{pid}\n").into_bytes());
    while !pump.is_empty() {
        pump.poll(None).unwrap();
        while pump.next_event().is_some() {}
    }
}

// I.test_processExited
#[test]
fn exited_comes_at_the_reap_though_a_grandchild_holds_the_channels() {
    let mut driver = Driver::new();
    let key = driver.sh("sleep 300 & echo $!; exit 7");
    driver.until(|d| d.exit(key).is_some() && d.data(key, "1").ends_with(b"\n"));
    let said = String::from_utf8(driver.data(key, "1")).unwrap();
    let grandchild = Orphan(said.trim().parse().unwrap());
    assert_eq!(driver.exit(key).unwrap().code(), Some(7));
    // A shell gives what runs in the background no stdin.
    driver.until(|d| d.closed(key, "0").is_some());
    driver.assert_quiet();
    assert!(!driver.has_ended(key), "a channel is open");
    assert_eq!(driver.closed(key, "1"), None);
    drop(grandchild);
    driver.finish();
    assert_eq!(driver.closed(key, "1"), Some((CloseReason::Peer, 0)));
}

// The same, but the caller does not wait for the grandchild.
#[test]
fn closing_what_a_grandchild_holds_ends_the_child() {
    let mut driver = Driver::new();
    let key = driver.sh("sleep 300 & echo $!");
    driver.until(|d| d.exit(key).is_some() && d.data(key, "1").ends_with(b"\n"));
    let said = String::from_utf8(driver.data(key, "1")).unwrap();
    let _grandchild = Orphan(said.trim().parse().unwrap());
    driver.pump.close_all(key).unwrap();
    driver.finish();
    assert_eq!(driver.closed(key, "1"), Some((CloseReason::Us, 0)));
}

// I.test_processEnded, T.FDTests.test_linger
#[test]
fn ended_comes_once_and_last_in_every_order_of_exit_end_of_file_and_close() {
    const FACTS: [char; 4] = ['x', 'o', 'e', 'c'];
    for order in orders(&FACTS) {
        let mut driver = Driver::new();
        // The channels are held by a grandchild, which is told by fd 7, so that
        // the exit closes none.
        // A shell gives what runs in the background /dev/null as its stdin: the
        // pipe has another number.
        let mut agent = driver.agent(|command| {
            pipes(command);
            command.fd(7, Channel::WritePipe);
        });
        let key = agent.key;
        agent.ask("exec 6<&0 0</dev/null");
        agent.tell("(while read -r line <&7; do eval \"$line\"; done; exec 6<&-) &");
        agent.ask("exec 7<&- 6<&- 1>&- 2>&-");
        for (done, fact) in order.iter().enumerate() {
            assert!(!driver.has_ended(key), "ended after {done} of {order:?}");
            match fact {
                'x' => {
                    agent.tell("exit 3");
                    driver.until(|d| d.exit(key).is_some());
                    assert_eq!(driver.exit(key).unwrap().code(), Some(3));
                    // I. and T.test_unsetPid
                    assert_eq!(driver.pump.child(key).and_then(|child| child.id()), None);
                }
                'o' => {
                    driver.pump.write(key, 7, b"exec 1>&-\n").unwrap();
                    driver.until(|d| d.closed(key, "1").is_some());
                    assert_eq!(driver.closed(key, "1"), Some((CloseReason::Peer, 0)));
                }
                'e' => {
                    driver.pump.write(key, 7, b"exec 2>&-\n").unwrap();
                    driver.until(|d| d.closed(key, "2").is_some());
                }
                _ => {
                    driver.pump.close(key, 0).unwrap();
                    driver.until(|d| d.closed(key, "0").is_some());
                    assert_eq!(driver.closed(key, "0"), Some((CloseReason::Us, 0)));
                }
            }
            driver.drain();
        }
        // One channel is left, by which the grandchild was told.
        assert!(!driver.has_ended(key), "{order:?}");
        driver.pump.close(key, 7).unwrap();
        driver.finish();
        assert!(driver.has_ended(key));
    }
}

fn orders(of: &[char]) -> Vec<Vec<char>> {
    if of.is_empty() {
        return vec![vec![]];
    }
    let mut all = Vec::new();
    for &first in of {
        let rest: Vec<char> = of.iter().copied().filter(|&c| c != first).collect();
        all.extend(orders(&rest).into_iter().map(|mut order| {
            order.insert(0, first);
            order
        }));
    }
    all
}

// I.test_childConnectionLost
#[test]
fn all_channels_may_be_lost_long_before_the_exit() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(pipes);
    let key = agent.key;
    agent.tell("exec 0<&- 1>&- 2>&-");
    driver.until(|d| ["0", "1", "2"].iter().all(|name| d.closed(key, name).is_some()));
    assert!(driver.exit(key).is_none());
    driver.assert_quiet();
    assert!(driver.pump.child(key).unwrap().id().is_some());
    driver.pump.signal(key, Signal::TERM).unwrap();
    driver.finish();
    assert_eq!(driver.exit(key).unwrap().signal(), Some(Signal::TERM));
}

// T.test_process
#[test]
fn what_was_written_last_comes_before_the_end_of_the_channel() {
    let mut driver = Driver::new();
    let key = driver.sh("head -c 300000 /dev/zero; printf last; head -c 70000 /dev/zero >&2");
    driver.finish();
    assert_eq!(driver.data(key, "1").len(), 300_004);
    assert!(driver.data(key, "1").ends_with(b"last"));
    assert_eq!(driver.data(key, "2").len(), 70_000);
}

// I.test_timelyProcessExited, test_spawnProcessEarlyIsReaped
#[test]
fn a_child_that_has_ended_before_it_is_added_tells_all_the_same() {
    for round in 0..50 {
        let mut driver = Driver::new();
        let child = Command::new("sh").args(["-c", "echo short; exit 4"]).spawn().unwrap();
        if round % 2 == 0 {
            // Wait for its end without reaping it.
            support::wait_for_end(child.id().unwrap());
        }
        let key = driver.pump.add(child);
        driver.finish();
        assert_eq!(driver.data(key, "1"), b"short\n");
        assert_eq!(driver.exit(key).unwrap().code(), Some(4));
    }
}

#[test]
fn a_child_that_was_reaped_before_it_is_added_still_exits_and_ends() {
    let mut driver = Driver::new();
    let mut child = Command::new("sh").args(["-c", "echo first; exit 4"]).spawn().unwrap();
    let exit = child.wait().unwrap();
    let key = driver.pump.add(child);
    driver.finish();
    assert_eq!(driver.data(key, "1"), b"first\n");
    assert_eq!(driver.exit(key), Some(exit));
}

#[test]
fn a_channel_that_was_taken_before_is_none_of_the_pump_s() {
    let mut driver = Driver::new();
    let mut child = Command::new("sh").args(["-c", "echo mine; echo its >&2"]).spawn().unwrap();
    let stdout = std::process::ChildStdout::from(child.take(1).unwrap());
    let key = driver.pump.add(child);
    driver.finish();
    assert_eq!(std::io::read_to_string(stdout).unwrap(), "mine\n");
    assert_eq!(driver.data(key, "2"), b"its\n");
    assert!(driver.of(key).all(|seen| !matches!(seen, Seen::Data(name, _) if name == "1")));
}

// T.test_unsetPid
#[test]
fn the_pid_is_gone_with_exited_and_the_child_with_ended() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(pipes);
    let key = agent.key;
    assert!(driver.pump.child(key).unwrap().id().is_some());
    agent.tell("sleep 300 <&0 & echo $!; exit 0");
    driver.until(|d| d.data(key, "1").ends_with(b"\n"));
    let said = String::from_utf8(driver.data(key, "1")).unwrap();
    let grandchild = Orphan(said.trim().parse().unwrap());
    driver.until(|d| d.exit(key).is_some());
    let child = driver.pump.child(key).unwrap();
    assert_eq!(child.id(), None);
    assert_eq!(child.exit(), driver.exit(key));
    drop(grandchild);
    driver.finish();
    assert!(driver.pump.child(key).is_none());
}

// T.test_errorInProcessEnded, I.test_processExitedRaises
#[test]
fn a_caller_that_panics_over_an_event_loses_none_that_follow() {
    let mut driver = Driver::new();
    let key = driver.sh("echo out; echo err >&2; exit 1");
    let pump = AssertUnwindSafe(&mut driver.pump);
    let panicked = catch_unwind(move || -> () {
        let pump = pump;
        let event = pump.0.next_event().expect("Made");
        // As a panic, but for the message on stderr.
        std::panic::resume_unwind(Box::new(format!("{event:?}")));
    });
    let told = panicked.unwrap_err().downcast::<String>().unwrap();
    assert!(told.starts_with("Made"), "{told}");
    while !driver.pump.is_empty() {
        driver.step();
    }
    assert_eq!(driver.data(key, "1"), b"out\n");
    assert!(driver.has_ended(key));
}
