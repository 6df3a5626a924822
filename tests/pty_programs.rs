//! Real programs on terminals, driven as a user drives them.

#![cfg(target_os = "linux")]

#[path = "support/pump.rs"]
mod support;

#[path = "support/talk.rs"]
mod talk;

use std::fs;
use std::process::{self, Stdio};

use forkplan::{CloseReason, Command, Pty, WindowSize};
use talk::Talk;

/// A program on a terminal of 24 lines; `None` if this machine does not have it.
fn on_screen(program: &str, args: &[&str]) -> Option<Talk> {
    let mut version = process::Command::new(program);
    version.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if version.status().is_err() {
        eprintln!("SKIPPED: a test of {program}: this machine does not have it");
        return None;
    }
    let mut command = Command::new(program);
    command.args(args).env("TERM", "vt100").env_remove("LESS").env_remove("LESSOPEN");
    command.env_remove("LINES").env_remove("COLUMNS");
    let pty = Pty::new().size(WindowSize::new(24, 80));
    Some(Talk::new(command.channel("terminal", pty, [0, 1, 2])))
}

/// It has ended well, and its terminal before it or with it.
fn assert_ended(talk: &mut Talk) {
    talk.driver.finish();
    assert!(talk.driver.exit(talk.key).unwrap().success());
    let closed = talk.driver.closed(talk.key, "terminal");
    assert_eq!(closed, Some((CloseReason::Peer, 0)));
}

#[test]
fn less_shows_a_screen_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lines");
    let lines: String = (1..=100).map(|n| format!("line number {n}.\n")).collect();
    fs::write(&path, lines).unwrap();
    let Some(mut talk) = on_screen("less", &[path.to_str().unwrap()]) else { return };
    let screen = talk.expect("line number 23.");
    assert!(screen.contains("line number 1."), "{screen:?}");
    talk.say(" ");
    talk.expect("line number 46.");
    talk.say("G");
    talk.expect("line number 100.");
    talk.say("q");
    assert_ended(&mut talk);
    let all = String::from_utf8(talk.driver.data(talk.key, "terminal")).unwrap();
    // What no screen has shown.
    assert!(!all.contains("line number 60."));
}

#[test]
fn vi_writes_what_is_typed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text");
    fs::write(&path, "before\n").unwrap();
    let Some(mut talk) = on_screen("vi", &["-u", "NONE", "-N", path.to_str().unwrap()]) else {
        return;
    };
    talk.expect("before");
    // The lines after the end, so the screen is whole.
    talk.expect("~");
    talk.say("oafter\x1b:wq\r");
    assert_ended(&mut talk);
    assert_eq!(fs::read_to_string(&path).unwrap(), "before\nafter\n");
}

#[test]
fn stty_changes_what_we_see_and_the_other_way_round() {
    let mut command = Command::new("sh");
    let script = "stty -echo rows 9; echo ready; read x; stty -a | tr ';' '\\n' >&1";
    command.args(["-c", script]).channel("terminal", Pty::new(), [0, 1, 2]);
    let mut talk = Talk::new(&mut command);
    talk.expect("ready\r\n");
    let attributes = talk.terminal().attributes().unwrap();
    assert!(!attributes.echo() && attributes.canonical());
    assert_eq!(talk.terminal().size().unwrap(), WindowSize::new(9, 0));
    let mut changed = attributes.clone();
    changed.set_flow_control(false);
    talk.terminal().set_attributes(&changed).unwrap();
    talk.terminal().resize(WindowSize::new(10, 20)).unwrap();
    talk.say("\n");
    assert_ended(&mut talk);
    let said = String::from_utf8(talk.driver.data(talk.key, "terminal")).unwrap();
    for words in ["rows 10", "columns 20", "-ixon", "-echo "] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
}
