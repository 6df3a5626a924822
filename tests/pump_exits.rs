//! How a child's end is told, and who may signal and reap it. Twisted's tests
//! are named as in `pump_events`.

#[path = "support/pump.rs"]
mod support;

use forkplan::{Channel, Command, Features, Signal, SignalError};
use support::{Driver, alone};

fn pipes(command: &mut Command<'_>) {
    command.fd(0, Channel::WritePipe).fd(1, Channel::ReadPipe).fd(2, Channel::ReadPipe);
}

fn pid(driver: &Driver, key: forkplan::ChildKey) -> i32 {
    driver.pump.child(key).unwrap().id().unwrap() as i32
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
    driver.finish();
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
    // A shell heeds its traps when the program that it waits for has ended.
    let script = "trap 'echo usr1' USR1; trap 'echo usr2' USR2; echo ready; cat; exit 0";
    let key = driver.sh(script);
    driver.until(|d| d.data(key, "1") == b"ready\n");
    driver.pump.signal(key, "USR1".parse::<Signal>().unwrap()).unwrap();
    driver.pump.signal(key, libc::SIGUSR2).unwrap();
    driver.pump.close(key, 0).unwrap();
    driver.finish();
    let mut heeded: Vec<_> = driver.data(key, "1")[6..].chunks(5).map(<[u8]>::to_vec).collect();
    heeded.sort();
    assert_eq!(heeded, [b"usr1\n", b"usr2\n"]);

    let agent = driver.agent(pipes);
    let key = agent.key;
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
    driver.finish();
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
    driver.finish();
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
            driver.finish();
            assert_eq!(driver.data(key, "1"), b"out\n");
            assert!([None, Some(9)].contains(&driver.exit(key).unwrap().code()));
        }
    });
}
