//! What a terminal does to the processes on it: size, control characters, the
//! hang-up, job control.

#![cfg(target_os = "linux")]

#[path = "support/pump.rs"]
mod support;

#[path = "support/talk.rs"]
mod talk;

use std::path::Path;

use forkplan::Channel::ReadPipe;
use forkplan::{CloseReason, Command, ControlCharacter, Pty, Signal, WindowSize};
use talk::Talk;

fn on_terminal(program: &[&str], pty: Pty) -> Command<'static> {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).channel("terminal", pty, [0, 1, 2]);
    command
}

fn sh(script: &str) -> Command<'static> {
    on_terminal(&["sh", "-c", script], Pty::new().echo(false))
}

#[test]
fn a_resize_is_sigwinch_and_the_new_size() {
    // A `wait` ends for a trap; the loop is for other systems' shells.
    let script = "trap 'stty size' WINCH; stty size
        sleep 1000 & echo ready; while wait $!; [ $? -gt 128 ]; do :; done";
    let mut talk = Talk::new(&mut on_terminal(
        &["sh", "-c", script],
        Pty::new().size(WindowSize::new(24, 80)),
    ));
    assert_eq!(talk.expect("ready\r\n"), "24 80\r\nready\r\n");
    for size in [WindowSize::new(25, 80), WindowSize::new(25, 81), WindowSize::new(1, 1)] {
        talk.terminal().resize(size).unwrap();
        assert_eq!(talk.terminal().size().unwrap(), size);
        let expected = format!("{} {}\r\n", size.rows, size.columns);
        assert_eq!(talk.expect("\r\n"), expected);
    }
    // The hang-up ends both.
    talk.driver.pump.close(talk.key, "terminal").unwrap();
    talk.driver.finish();
    assert_eq!(talk.driver.exit(talk.key).unwrap().signal(), Some(Signal::HUP));
}

#[test]
fn closing_the_terminal_hangs_up_on_the_whole_session() {
    // The pipe shows who is left: it is closed when both have ended. That a shell
    // has forked does not say that its child has taken the trap off.
    let script = "trap 'echo hung up >&5; exit 3' HUP
        sh -c 'echo ready; exec sleep 1000' & wait";
    let mut talk = Talk::new(sh(script).fd(5, ReadPipe));
    talk.expect("ready\r\n");
    talk.driver.pump.close(talk.key, "terminal").unwrap();
    talk.driver.finish();
    let driver = &talk.driver;
    assert_eq!(driver.data(talk.key, "5"), b"hung up\n");
    assert_eq!(driver.exit(talk.key).unwrap().code(), Some(3));
    assert_eq!(driver.closed(talk.key, "terminal"), Some((CloseReason::Us, 0)));
    assert_eq!(driver.closed(talk.key, "5"), Some((CloseReason::Peer, 0)));
}

#[test]
fn control_a_terminal_of_no_session_hangs_up_on_nobody() {
    let mut command = Command::new("sh");
    let script = "trap 'echo hung up >&5; exit 3' HUP; echo ready; read x <&6; echo alive >&5";
    command.args(["-c", script]).fd(5, ReadPipe).fd(6, forkplan::Channel::WritePipe);
    command.channel("terminal", Pty::new().controlling(false), [0, 1, 2]);
    let mut talk = Talk::new(&mut command);
    talk.expect("ready\r\n");
    talk.driver.pump.close(talk.key, "terminal").unwrap();
    talk.driver.pump.write(talk.key, 6, b"go on\n").unwrap();
    talk.driver.finish();
    assert_eq!(talk.driver.data(talk.key, "5"), b"alive\n");
}

#[test]
fn an_interrupt_reaches_the_foreground_group_and_not_the_background() {
    // With `set -m` each job has a group of its own. Both say when they are
    // ready to be signalled.
    let script = "set -m; trap : INT
        sh -c 'echo background; exec sleep 1000' & job=$!
        sh -c 'echo foreground; exec sleep 1000'
        echo foreground: $?
        kill -0 $job && echo the background lives
        kill $job; wait $job; echo background: $?";
    let mut talk = Talk::new(&mut sh(script));
    let mut said = String::new();
    while !(said.contains("background\r\n") && said.contains("foreground\r\n")) {
        said += &talk.expect("\r\n");
    }
    talk.until_foreground(false);
    talk.say("\x03");
    talk.driver.finish();
    let said = String::from_utf8(talk.driver.data(talk.key, "terminal")).unwrap();
    let status = |signal: i32| 128 + signal;
    for line in [
        format!("foreground: {}", status(libc::SIGINT)),
        "the background lives".into(),
        format!("background: {}", status(libc::SIGTERM)),
    ] {
        assert!(said.contains(&line), "no {line:?} in {said}");
    }
}

#[test]
fn the_control_character_is_the_one_that_the_attributes_say() {
    let mut talk = Talk::new(&mut sh("trap 'exit 7' INT; echo ready; while :; do read x; done"));
    talk.expect("ready\r\n");
    let mut attributes = talk.terminal().attributes().unwrap();
    assert_eq!(attributes.control(ControlCharacter::Interrupt), Some(3));
    attributes.set_control(ControlCharacter::Interrupt, Some(b'!'));
    talk.terminal().set_attributes(&attributes).unwrap();
    talk.say("!");
    talk.driver.finish();
    assert_eq!(talk.driver.exit(talk.key).unwrap().code(), Some(7));
}

#[test]
fn every_control_character_is_its_signal() {
    for (typed, signal) in [("\x03", Signal::INT), ("\x1c", Signal::QUIT)] {
        let mut command = sh("ulimit -c 0; echo ready; exec sleep 1000");
        let mut talk = Talk::new(&mut command);
        talk.expect("ready\r\n");
        talk.say(typed);
        talk.driver.finish();
        assert_eq!(talk.driver.exit(talk.key).unwrap().signal(), Some(signal));
    }
    // The control: without signals it is a byte like any other.
    let pty = Pty::new().raw();
    let script = "echo ready; head -c 2 | od -An -tx1";
    let mut talk = Talk::new(&mut on_terminal(&["sh", "-c", script], pty));
    talk.expect("ready\n");
    talk.say("\x03\x1c");
    talk.driver.finish();
    let said = String::from_utf8(talk.driver.data(talk.key, "terminal")).unwrap();
    assert!(said.contains("03 1c"), "{said:?}");
}

/// Job control as a user has it: a job is stopped, goes on in the background,
/// comes back, and is interrupted.
fn drive(shell: &[&str]) {
    if !Path::new("/bin").join(shell[0]).exists() {
        eprintln!("SKIPPED: job control of {}: it is not here", shell[0]);
        return;
    }
    let mut command = on_terminal(shell, Pty::new().size(WindowSize::new(24, 200)));
    command.env("PS1", "@@ ").env("TERM", "dumb").env_remove("ENV").env_remove("PROMPT_COMMAND");
    let mut talk = Talk::new(&mut command);
    talk.expect("@@ ");
    // What is typed comes back, so the words that are waited for are written
    // otherwise.
    let run = |talk: &mut Talk, line: &str, expected: &str| {
        talk.say(&format!("{line}\n"));
        talk.expect("\r\n");
        talk.expect(expected);
    };
    run(&mut talk, "sh -c 'echo rea''dy; exec sleep 1000'", "ready");
    talk.until_foreground(false);
    talk.say("\x1a");
    talk.expect("Stopped");
    talk.expect("@@ ");
    talk.until_foreground(true);
    run(&mut talk, "jobs", "Stopped");
    talk.expect("@@ ");
    run(&mut talk, "bg", "@@ ");
    run(&mut talk, "jobs", "Running");
    talk.expect("@@ ");
    // In the background it is out of the way of what is typed.
    run(&mut talk, "echo sti''ll here", "still here");
    talk.expect("@@ ");
    talk.say("\x03");
    talk.expect("@@ ");
    run(&mut talk, "jobs", "Running");
    talk.expect("@@ ");
    run(&mut talk, "fg", "sleep");
    talk.until_foreground(false);
    talk.say("\x03");
    talk.expect("@@ ");
    run(&mut talk, "echo the job: $?", &format!("the job: {}", 128 + libc::SIGINT));
    talk.expect("@@ ");
    talk.until_foreground(true);
    run(&mut talk, "exit 5", "");
    talk.driver.finish();
    assert_eq!(talk.driver.exit(talk.key).unwrap().code(), Some(5));
    let closed = talk.driver.closed(talk.key, "terminal");
    assert_eq!(closed, Some((CloseReason::Peer, 0)));
}

#[test]
fn sh_has_job_control() {
    drive(&["sh", "-i"]);
}

#[test]
fn bash_has_job_control() {
    drive(&["bash", "--norc", "--noprofile", "--noediting", "-i"]);
}
