//! The examples that run many commands: what they show, and what they pass on.

#![cfg(target_os = "linux")]

#[path = "support/pump.rs"]
mod support;

#[path = "support/example.rs"]
mod example;

#[path = "support/talk.rs"]
mod talk;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use example::example;
use forkplan::{Captured, Channel::*, Child, Command, OnDrop, Pty, Signal, WindowSize};
use talk::Talk;

fn run(name: &str, args: &[&str], input: &str) -> Captured {
    Command::new(example(name)).args(args).communicate(input).run().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The places of these texts, each after the one before.
#[track_caller]
fn assert_in_order(said: &str, texts: &[&str]) {
    let mut from = 0;
    for text in texts {
        let at = said[from..].find(text);
        from += at.unwrap_or_else(|| panic!("no {text:?} after {from} in {said}")) + text.len();
    }
}

#[test]
fn parallel_shows_plain_lines_where_there_is_no_terminal() {
    let list = "echo one; echo first >&2\n\nexit 3\necho three\n";
    let captured = run("parallel", &["-j", "1", "-"], list);
    assert_eq!(captured.exit.code(), Some(1));
    assert_eq!(text(captured.stdout()), "one\nthree\n");
    let expected = "1: started: echo one; echo first >&2\n\
                    first\n\
                    1: done: echo one; echo first >&2\n\
                    2: started: exit 3\n\
                    2: exit status: 3: exit 3\n\
                    3: started: echo three\n\
                    3: done: echo three\n\
                    failed: 2: exit status: 3: exit 3\n\
                    2 done, 1 failed, 0 not run\n";
    assert_eq!(text(captured.stderr()), expected);
}

#[test]
fn parallel_keeps_the_output_of_each_command_in_one_piece() {
    let list = "for i in 1 2 3 4 5; do echo a; sleep 0.01; done\n\
                for i in 1 2 3 4 5; do echo b; sleep 0.01; done\n";
    let captured = run("parallel", &["-j", "2", "-"], list);
    assert!(captured.exit.success());
    let (a, b) = ("a\n".repeat(5), "b\n".repeat(5));
    let said = text(captured.stdout());
    assert!(said == format!("{a}{b}") || said == format!("{b}{a}"), "{said}");
}

#[test]
fn parallel_stops_at_a_failure_if_it_is_told_to() {
    let list = "exec sleep 1000\nexit 1\necho never\n";
    let captured = run("parallel", &["-j", "2", "--fail-fast", "-"], list);
    assert_eq!(captured.exit.code(), Some(1));
    assert_eq!(text(captured.stdout()), "");
    let said = text(captured.stderr());
    assert_in_order(said, &["failed: 1: signal: 15", "failed: 2: exit status: 1", "1 not run"]);
}

#[test]
fn parallel_ends_what_takes_too_long() {
    let captured = run("parallel", &["--timeout", "50", "-"], "exec sleep 1000\n");
    assert_eq!(captured.exit.code(), Some(1));
    assert!(text(captured.stderr()).contains("failed: 1: out of time, signal: 15"));
}

#[test]
fn parallel_shows_one_line_on_a_terminal_that_is_never_too_long() {
    let mut command = Command::new(example("parallel"));
    let long = "x".repeat(200);
    let list = format!("echo said\nexit 2 # {long}\n");
    command.args(["-j", "1", "-"]).fd(0, forkplan::Channel::bytes(list));
    let pty = Pty::new().size(WindowSize::new(24, 40));
    let mut talk = Talk::new(command.channel("terminal", pty, [1, 2]));
    talk.expect("\r\x1b[K[0/2, 0 failed] echo said");
    talk.expect("said\r\n");
    let line = talk.expect("[1/2, 0 failed] exit 2 # xxxxx");
    assert!(line.contains("[1/2, 0 failed] "));
    let rest = talk.expect("\r\x1b[K");
    assert_eq!(rest.trim_end_matches("\r\x1b[K"), "x".repeat(39 - 30));
    talk.expect("failed: 2: exit status: 2: exit 2 # x");
    talk.expect("1 done, 1 failed, 0 not run\r\n");
    talk.driver.finish();
}

/// A supervisor of these services, and what it says.
fn supervise(services: &str, args: &[&str]) -> (Child, BufReader<File>) {
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), services).unwrap();
    let mut command = Command::new(example("supervise"));
    command.args(args).arg(list.path()).fd(0, Null).fds([1, 2], ReadPipe).on_drop(OnDrop::Kill);
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(File::from(child.take(1).unwrap()));
    // Then it has read the list.
    assert!(!said.fill_buf().unwrap().is_empty());
    (child, said)
}

/// What it says up to a line.
#[track_caller]
fn until(said: &mut BufReader<File>, line: &str) -> String {
    let mut all = String::new();
    while !all.lines().any(|said| said == line) {
        assert!(said.read_line(&mut all).unwrap() > 0, "no {line:?} in {all}");
    }
    all
}

fn rest(said: &mut BufReader<File>) -> String {
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    rest
}

#[test]
fn supervise_starts_again_ever_more_slowly_and_gives_up() {
    let args = ["--backoff", "1", "--restarts", "2"];
    let (mut child, mut said) = supervise("flaky printf 'up\\nhalf'; exit 3\n", &args);
    let run = "flaky: started\nflaky | up\nflaky | half\nflaky: exit status: 3\n";
    let expected =
        format!("{run}flaky: again in 1 ms\n{run}flaky: again in 2 ms\n{run}flaky: given up\n");
    assert_eq!(rest(&mut said), expected);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn supervise_lets_services_end_by_themselves_when_it_is_stopped() {
    // Short sleeps: one that begins just after the signal is not reached by it.
    let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
    let polite = &format!("polite {script}\n");
    for signal in [Signal::TERM, Signal::INT] {
        let (mut child, mut said) = supervise(polite, &["--grace", "60000"]);
        until(&mut said, "polite | ready");
        child.signal(signal).unwrap();
        let expected = ["stopping\n", "polite: SIGTERM was sent\n", "polite: exit status: 0\n"];
        let rest = rest(&mut said);
        assert_in_order(&rest, &expected);
        assert_in_order(&rest, &["polite | bye\n"]);
        assert!(!rest.contains("KILL") && !rest.contains("again"), "{rest}");
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn supervise_kills_what_does_not_end_in_time() {
    let stubborn = "stubborn trap '' TERM; echo ready; while :; do sleep 1; done\n";
    let (mut child, mut said) = supervise(stubborn, &["--grace", "1"]);
    until(&mut said, "stubborn | ready");
    child.signal(Signal::TERM).unwrap();
    let rest = rest(&mut said);
    let expected =
        ["stubborn: SIGTERM was sent\n", "stubborn: SIGKILL was sent\n", "stubborn: signal: 9"];
    assert_in_order(&rest, &expected);
    assert!(child.wait().unwrap().success());
}

#[test]
fn supervise_keeps_a_service_running_while_another_fails() {
    let services = "steady echo up; exec sleep 1000\nflaky exit 1\n";
    let (mut child, mut said) = supervise(services, &["--backoff", "1", "--restarts", "3"]);
    let before = until(&mut said, "flaky: given up");
    assert_eq!(before.matches("flaky: started\n").count(), 4);
    assert_eq!(before.matches("steady: started\n").count(), 1);
    assert!(!before.contains("steady: signal"), "{before}");
    child.signal(Signal::TERM).unwrap();
    assert!(rest(&mut said).contains("steady: signal: 15"));
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn supervise_ends_what_a_service_leaves_behind_before_it_starts_again() {
    // An old kernel can't signal a group whose leader is gone; then it ends by
    // SIGPIPE when its output is given up.
    let left = "leaves while echo x; do sleep 0.01; done & exit 0\n";
    let args = ["--backoff", "1", "--restarts", "1", "--grace", "100"];
    let (mut child, mut said) = supervise(left, &args);
    let all = rest(&mut said);
    let run = ["leaves: started\n", "leaves: exit status: 0\n"];
    assert_in_order(&all, &[run[0], run[1], run[0], run[1], "leaves: given up\n"]);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
