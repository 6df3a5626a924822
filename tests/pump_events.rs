//! A child's way through the pump, from Made to Ended: which events come, in
//! which order, and how often. Where Twisted has a test of the same, it is
//! named (T: `twisted.test.test_process`, I: `twisted.internet.test.test_process`).

#[path = "support/pump.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use forkplan::{Channel, CloseReason, Command, Event, Features, Pump, Signal, SignalError};
use support::{Driver, Orphan, Seen, alone};

const PIPES: [(i32, Channel<'_>); 3] =
    [(0, Channel::WritePipe), (1, Channel::ReadPipe), (2, Channel::ReadPipe)];

/// Maps the three pipes of the default map beside an agent's own channel.
fn pipes(command: &mut Command<'_>) {
    for (fd, channel) in PIPES {
        command.fd(fd, channel);
    }
}

fn pid(driver: &Driver, key: forkplan::ChildKey) -> i32 {
    driver.pump.child(key).unwrap().id().unwrap() as i32
}

// I.test_processTransportInterface
#[test]
fn made_is_first_and_tells_the_pid() {
    let mut pump = Pump::new();
    let child = Command::new("sh").args(["-c", "echo $$"]).spawn().unwrap();
    let pid = child.id().unwrap();
    let key = pump.add(child);
    assert!(pump.has_events());
    assert_eq!(pump.next_event(), Some(Event::Made { child: key, pid }));
    let mut driver = Driver::new();
    let key = driver.sh("echo $$");
    driver.to_end();
    let Some(Seen::Made(pid)) = driver.of(key).next() else { panic!() };
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
    driver.assert_quiet();
    assert!(!driver.has_ended(key), "a channel is open");
    assert_eq!(driver.closed(key, "1"), None);
    drop(grandchild);
    driver.to_end();
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
    driver.to_end();
    assert_eq!(driver.closed(key, "1"), Some((CloseReason::Us, 0)));
}

// I.test_processEnded, T.FDTests.test_linger
#[test]
fn ended_comes_once_and_last_in_every_order_of_exit_end_of_file_and_close() {
    const FACTS: [char; 4] = ['x', 'o', 'e', 'c'];
    for order in orders(&FACTS) {
        let mut driver = Driver::new();
        // The channels are held by a grandchild, so that the exit closes none.
        // A shell gives what runs in the background /dev/null as its stdin: the
        // pipe has another number.
        let mut agent = driver.agent(|command| {
            let (grandchild, _) = (7, pipes(command));
            command.fd(grandchild, Channel::WritePipe);
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
        driver.to_end();
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
    driver.to_end();
    assert_eq!(driver.exit(key).unwrap().signal(), Some(Signal::TERM));
}

// T.test_process
#[test]
fn what_was_written_last_comes_before_the_end_of_the_channel() {
    let mut driver = Driver::new();
    let key = driver.sh("head -c 300000 /dev/zero; printf last; head -c 70000 /dev/zero >&2");
    driver.to_end();
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
            let pid = child.id().unwrap();
            let mut info = core::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
            let options = libc::WEXITED | libc::WNOWAIT;
            // SAFETY: writes the info.
            unsafe { libc::waitid(libc::P_PID, pid, info.as_mut_ptr(), options) };
        }
        let key = driver.pump.add(child);
        driver.to_end();
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
    driver.to_end();
    assert_eq!(driver.data(key, "1"), b"first\n");
    assert_eq!(driver.exit(key), Some(exit));
}

#[test]
fn a_channel_that_was_taken_before_is_none_of_the_pump_s() {
    let mut driver = Driver::new();
    let mut child = Command::new("sh").args(["-c", "echo mine; echo its >&2"]).spawn().unwrap();
    let stdout = std::process::ChildStdout::from(child.take(1).unwrap());
    let key = driver.pump.add(child);
    driver.to_end();
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
    driver.to_end();
    assert!(driver.pump.child(key).is_none());
}

// T.test_errorInProcessEnded, I.test_processExitedRaises
#[test]
fn a_caller_that_panics_over_an_event_loses_none_that_follow() {
    let mut driver = Driver::new();
    let key = driver.sh("echo out; echo err >&2; exit 1");
    let pump = AssertUnwindSafe(&mut driver.pump);
    let panicked = catch_unwind(move || {
        let pump = pump;
        while let Some(event) = { pump.0.next_event() } {
            std::panic::resume_unwind(Box::new(format!("{event:?}")));
        }
    });
    let told = panicked.unwrap_err().downcast::<String>().unwrap();
    assert!(told.starts_with("Made"), "{told}");
    while !driver.pump.is_empty() {
        driver.step();
    }
    assert_eq!(driver.data(key, "1"), b"out\n");
    assert!(driver.has_ended(key));
}

// T.test_normalTermination, test_abnormalTermination, test_signalHUP, INT, KILL, TERM
#[test]
fn exited_tells_the_code_or_the_signal() {
    let mut driver = Driver::new();
    let zero = driver.sh("exit 0");
    let one = driver.sh("exit 1");
    let signals = [Signal::HUP, Signal::INT, Signal::KILL, Signal::TERM];
    let killed = signals.map(|signal| (driver.agent(pipes), signal));
    for (agent, signal) in &killed {
        driver.pump.signal(agent.key, *signal).unwrap();
    }
    driver.to_end();
    assert!(driver.exit(zero).unwrap().success());
    assert_eq!(driver.exit(one).unwrap().code(), Some(1));
    for (agent, signal) in killed {
        let exit = driver.exit(agent.key).unwrap();
        assert_eq!((exit.signal(), exit.code()), (Some(signal), None));
        assert!(exit.usage().is_some());
    }
}

// T.MockProcessTests.test_kill, test_killExited, test_killErrorInKill
#[test]
fn a_signal_goes_by_name_or_number_and_to_nobody_once_the_child_is_reaped() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(pipes);
    let key = agent.key;
    agent.ask("trap 'echo usr1 >&9' USR1");
    driver.pump.signal(key, "USR1".parse::<Signal>().unwrap()).unwrap();
    assert_eq!(agent.ask(":"), "usr1\n");
    driver.pump.signal(key, libc::SIGUSR1).unwrap();
    assert_eq!(agent.ask(":"), "usr1\n");
    let refused = driver.pump.signal(key, 12345);
    assert_eq!(refused, Err(SignalError::Errno(libc::EINVAL)));
    driver.pump.signal(key, Signal::STOP).unwrap();
    let mut info = core::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let id = pid(&driver, key) as libc::id_t;
    // SAFETY: writes the info; returns when the child has stopped.
    unsafe { libc::waitid(libc::P_PID, id, info.as_mut_ptr(), libc::WSTOPPED | libc::WNOWAIT) };
    driver.pump.signal(key, Signal::TERM).unwrap();
    // A child that is stopped has not ended.
    driver.assert_quiet();
    driver.pump.signal(key, Signal::CONT).unwrap();
    driver.until(|d| d.exit(key).is_some());
    assert_eq!(driver.pump.signal(key, Signal::KILL), Err(SignalError::AlreadyExited));
    driver.to_end();
    assert_eq!(driver.pump.signal(key, Signal::KILL), Err(SignalError::AlreadyExited));
}

// T.test_killExitedButNotDetected
#[test]
fn a_signal_to_a_child_that_has_ended_and_is_not_reaped_is_no_error() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(pipes);
    driver.drain();
    agent.tell("exit 0");
    assert_eq!(agent.hear(), "", "the end of the agent");
    driver.pump.signal(agent.key, Signal::KILL).unwrap();
    driver.to_end();
}

// twisted#2535, cpython#127049
#[test]
fn a_child_that_somebody_else_reaped_exits_and_its_status_may_be_unknown() {
    for without in [Features::empty(), Features::PIDFD] {
        let mut driver = Driver::new();
        let key = driver.add(Command::new("sh").args(["-c", "exit 9"]).without(without));
        let pid = pid(&driver, key);
        let mut status = 0;
        // SAFETY: the child is ours and not reaped.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        driver.to_end();
        let exit = driver.exit(key).unwrap();
        assert_eq!(exit.usage(), None);
        match without.is_empty() {
            // The kernel tells the status by the pidfd from Linux 6.15 on.
            true => assert!([None, Some(9)].contains(&exit.code()), "{exit:?}"),
            false => assert_eq!(exit.status(), None),
        }
        if without.is_empty() && kernel() >= (6, 15) {
            assert_eq!(exit.code(), Some(9));
        }
    }
}

fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap());
    (parts.next().unwrap(), parts.next().unwrap())
}

#[test]
fn a_program_that_ignores_sigchld_hears_of_the_end_of_its_children() {
    let name = "a_program_that_ignores_sigchld_hears_of_the_end_of_its_children";
    alone(name, || {
        // SAFETY: nothing in this process counts on the signal.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        for without in [Features::empty(), Features::PIDFD, Features::SHARED_MEMORY] {
            let mut driver = Driver::new();
            let mut command = Command::new("sh");
            let key = driver.add(command.args(["-c", "echo out; exit 9"]).without(without));
            driver.to_end();
            assert_eq!(driver.data(key, "1"), b"out\n");
            assert!([None, Some(9)].contains(&driver.exit(key).unwrap().code()));
        }
    });
}
