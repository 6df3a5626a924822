//! What Twisted promises of processes on a PTY, by the names of its tests.
//!
//! T is `twisted.test.test_process`, I is `twisted.internet.test.test_process`.

#![cfg(target_os = "linux")]

#[path = "support/pump.rs"]
mod support;

use forkplan::Channel::ReadPipe;
use forkplan::{ChannelError, CloseReason, Command, Pty, Signal, SignalError};
use support::{Driver, Seen};

fn sh(script: &str) -> Command<'static> {
    let mut command = Command::new("sh");
    command.args(["-c", script]).channel("pty", Pty::new(), [0, 1, 2]);
    command
}

/// T.PosixProcessPTYTests.test_openingTTY: the terminal on the mapped fds is the
/// one that `/dev/tty` opens; what is typed comes back, and then from the
/// program.
#[test]
fn dev_tty_is_the_terminal_on_the_mapped_fds() {
    let mut driver = Driver::new();
    let key = driver.add(&mut sh("exec 3<>/dev/tty; read -r x <&3; echo \"$x\" >&3"));
    driver.pump.write(key, "pty", b"hello world!\n").unwrap();
    driver.finish();
    assert_eq!(driver.data(key, "pty"), b"hello world!\r\nhello world!\r\n");
}

/// T.PosixProcessPTYTests.test_normalTermination, test_abnormalTermination.
#[test]
fn exit_codes_are_told_of_processes_on_a_terminal() {
    for code in [0, 1, 77] {
        let mut driver = Driver::new();
        let key = driver.add(&mut sh(&format!("exit {code}")));
        driver.finish();
        let exit = driver.exit(key).unwrap();
        assert_eq!((exit.code(), exit.signal()), (Some(code), None));
        // Better than there: the terminal's end is an event too.
        assert_eq!(driver.closed(key, "pty"), Some((CloseReason::Peer, 0)));
    }
}

/// T.PosixProcessPTYTests.test_signalHUP, test_signalINT, test_signalKILL,
/// test_signalTERM; MockProcessTests.test_killExited.
#[test]
fn signals_by_number_reach_a_process_on_a_terminal() {
    for signal in [Signal::HUP, Signal::INT, Signal::KILL, Signal::TERM] {
        let mut driver = Driver::new();
        let key = driver.add(&mut sh("echo ready; while :; do read x; done"));
        driver.until(|driver| driver.data(key, "pty") == b"ready\r\n");
        driver.pump.signal(key, signal).unwrap();
        driver.until(|driver| driver.exit(key).is_some());
        assert_eq!(driver.exit(key).unwrap().signal(), Some(signal));
        assert_eq!(driver.pump.signal(key, signal), Err(SignalError::AlreadyExited));
        driver.finish();
    }
}

/// T.PosixProcessPTYTests.test_executionError: of spawn itself, here.
#[test]
fn a_missing_program_is_an_error_of_the_spawn() {
    let mut command = Command::new("/nowhere/program");
    let error = command.fds([0, 1, 2], Pty::new()).spawn().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
}

/// I.PTYProcessTestsBuilder.test_processTransportInterface, test_processExited,
/// test_processEnded: made with a pid first, then output, each of exited and
/// ended once, ended last. `finish` looks at the order.
#[test]
fn the_events_of_a_process_on_a_terminal_have_their_order() {
    let mut driver = Driver::new();
    let key = driver.add(&mut sh("echo output"));
    let pid = driver.pump.child(key).unwrap().id();
    driver.finish();
    let seen: Vec<_> = driver.of(key).collect();
    assert_eq!(*seen[0], Seen::Made(pid));
    assert!(pid.is_some());
    assert_eq!(driver.data(key, "pty"), b"output\r\n");
    let exit = driver.exit(key).unwrap();
    assert_eq!(**seen.last().unwrap(), Seen::Ended(exit));
}

/// I.PTYProcessTestsBuilder.test_pauseAndResumeProducing.
#[test]
fn pausing_all_pauses_the_terminal() {
    let mut driver = Driver::new();
    let key = driver.add(sh("echo one >&2").fd(4, ReadPipe));
    driver.pump.pause_all(key).unwrap();
    driver.until(|driver| driver.exit(key).is_some());
    driver.assert_quiet();
    assert_eq!(driver.data(key, "pty"), b"");
    driver.pump.resume_all(key).unwrap();
    driver.finish();
    assert_eq!(driver.data(key, "pty"), b"one\r\n");
}

/// I.PTYProcessTestsBuilder.test_writeToChildBadFileDescriptor; and what Twisted
/// lacks: a terminal takes writes and closes by its fds, beside other channels.
#[test]
fn a_terminal_takes_writes_and_closes_by_its_fds_beside_other_channels() {
    let mut driver = Driver::new();
    let key = driver.add(sh("read x; echo $x >&4; exec 4>&-; read x").fd(4, ReadPipe));
    assert_eq!(driver.pump.write(key, 10, b"x"), Err(ChannelError::NoChannel));
    assert_eq!(driver.pump.write(key, 4, b"x"), Err(ChannelError::NotWritable));
    driver.pump.write(key, 2, b"by any of its fds\n").unwrap();
    driver.until(|driver| driver.closed(key, "4").is_some());
    driver.pump.close(key, 1).unwrap();
    driver.pump.close(key, 0).unwrap();
    driver.finish();
    assert_eq!(driver.data(key, "4"), b"by any of its fds\n");
}

/// I.PTYProcessTestsBuilder.test_changeGID and test_changeUID: the terminal was
/// opened before.
#[test]
fn a_terminal_outlives_a_change_of_ids() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: a_terminal_outlives_a_change_of_ids: a change of ids wants root");
        return;
    }
    let mut driver = Driver::new();
    let mut command = sh("id -u; id -g; echo to 0 >&0");
    let key = driver.add(command.uid(65_534).gid(65_534).groups([]));
    driver.finish();
    assert_eq!(driver.data(key, "pty"), b"65534\r\n65534\r\nto 0\r\n");
}
