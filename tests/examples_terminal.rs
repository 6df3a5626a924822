//! The examples that talk to terminals, on terminals.

#![cfg(target_os = "linux")]

#[path = "support/pump.rs"]
mod support;

#[path = "support/example.rs"]
mod example;

#[path = "support/talk.rs"]
mod talk;

use std::io::Write;
use std::process::{self, Output, Stdio};

use example::example;
use forkplan::{Command, Pty, WindowSize};
use talk::Talk;

/// A shell that says its terminal's settings, runs `terminal` with a script, and
/// says how that ended and the settings again.
fn around(script: &str) -> Talk {
    let outer = "stty -g; \"$1\" sh -c \"$2\"; echo \"code $?\"; stty -g; read x";
    let mut command = Command::new("sh");
    // Where the one and the other are shells, who interrupts whom is to be seen.
    command.args(["-c", outer, "outer"]).arg(example("terminal")).arg(script);
    let pty = Pty::new().size(WindowSize::new(30, 90));
    Talk::new(command.channel("terminal", pty, [0, 1, 2]))
}

/// The code at the end is this one, and the settings are those of the beginning.
#[track_caller]
fn assert_restored(talk: &mut Talk, before: &str, code: &str) {
    talk.expect("code ");
    assert_eq!(talk.expect("\r\n").trim(), code);
    assert_eq!(talk.expect("\r\n").trim(), before);
    talk.say("\n");
    talk.driver.finish();
}

fn before(talk: &mut Talk) -> String {
    talk.expect("\r\n").trim().into()
}

#[test]
fn a_session_types_shows_and_ends_with_the_programs_code() {
    let mut talk = around("stty size; tty; read x; echo \"got $x\"; exit 7");
    let settings = before(&mut talk);
    talk.expect("30 90\r\n");
    let inner = talk.expect("\r\n");
    assert!(inner.contains("/dev/pts/"), "{inner}");
    let outer = talk.terminal().name().unwrap();
    assert_ne!(inner.trim(), outer.to_str().unwrap());
    // The user's terminal is raw: the echo is the other one's.
    let attributes = talk.terminal().attributes().unwrap();
    assert!(!attributes.echo() && !attributes.signals() && !attributes.canonical());
    talk.say("words\r");
    assert_eq!(talk.expect("got words\r\n"), "words\r\ngot words\r\n");
    assert_restored(&mut talk, &settings, "7");
}

#[test]
fn a_resize_is_passed_on() {
    let mut talk = around("trap 'stty size; exit 0' WINCH; echo ready; while :; do read x; done");
    let settings = before(&mut talk);
    talk.expect("ready\r\n");
    talk.terminal().resize(WindowSize::new(31, 91)).unwrap();
    talk.expect("31 91\r\n");
    assert_restored(&mut talk, &settings, "0");
}

#[test]
fn an_interrupt_is_the_programs() {
    let mut talk = around("trap 'echo mine; exit 9' INT; echo ready; while :; do read x; done");
    let settings = before(&mut talk);
    talk.expect("ready\r\n");
    talk.say("\x03");
    talk.expect("mine\r\n");
    assert_restored(&mut talk, &settings, "9");
}

#[test]
fn the_terminal_is_restored_on_every_way_out() {
    // The program ends the session that it is in.
    for (signal, code) in [("TERM", 143), ("HUP", 129), ("INT", 130), ("QUIT", 131)] {
        let mut talk = around(&format!("kill -{signal} $PPID; while :; do read x; done"));
        let settings = before(&mut talk);
        assert_restored(&mut talk, &settings, &code.to_string());
    }
    // The program is killed; it closes its terminal, and is hung up on for that.
    let closes = "trap '' HUP; exec <&- >&- 2>&-; exit 4";
    for (script, code) in [("kill -KILL $$", 137), (closes, 4)] {
        let mut talk = around(script);
        let settings = before(&mut talk);
        assert_restored(&mut talk, &settings, &code.to_string());
    }
    // It leaves a process behind that holds the terminal, until that is hung up.
    // Only once it no longer ignores that may the program end.
    let sleeps = "tr '\\0' ' ' </proc/$!/cmdline | grep -q ^sleep";
    let leaves = "trap '' HUP; (trap - HUP; exec sleep 1000) &";
    let mut talk = around(&format!("{leaves} until {sleeps}; do :; done; exit 3"));
    let settings = before(&mut talk);
    assert_restored(&mut talk, &settings, "3");
}

#[test]
fn control_a_session_that_is_killed_restores_nothing() {
    let mut talk = around("kill -KILL $PPID; while :; do read x; done");
    let before = before(&mut talk);
    // Raw, so a newline is all that ends a line.
    talk.expect("code 137\n");
    let after = talk.expect("\n");
    assert_ne!(after.trim(), before);
    talk.say("\n");
    talk.driver.finish();
}

#[test]
fn a_session_needs_a_terminal_and_a_program() {
    let mut terminal = process::Command::new(example("terminal"));
    let output = terminal.arg("true").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = "terminal: standard input: Inappropriate ioctl for device";
    assert!(said.starts_with(expected), "{said}");

    let mut command = Command::new("sh");
    let script = "stty -g; \"$1\" /nowhere/program; echo \"code $?\"; stty -g; read x";
    command.args(["-c", script, "sh"]).arg(example("terminal"));
    let mut talk = Talk::new(command.channel("terminal", Pty::new(), [0, 1, 2]));
    let settings = before(&mut talk);
    talk.expect("execve \"/nowhere/program\": No such file or directory\r\n");
    assert_restored(&mut talk, &settings, "127");
}

fn expect(args: &[&str], script: &str) -> Output {
    let mut command = process::Command::new(example("expect"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn expect_without_arguments_shows_its_dialogue() {
    let output = expect(&[], "");
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    // The password does not come back.
    for line in [
        "it: \"alice\\r\\npassword: \"",
        "it: \"\\r\\nwelcome, alice\"",
        "we waited: it did not say \"ready\" in time, but \"\"",
        "it ended: exit status: 0",
    ] {
        assert!(said.lines().any(|said| said == line), "no {line:?} in {said}");
    }
    assert!(!said.contains("secret"));
}

#[test]
fn expect_follows_a_script_and_passes_on_the_code() {
    let program = ["sh", "-c", "printf '? '; read x; echo [$x]; exit 6"];
    let output = expect(&program, "within 100000\nexpect ? \nsend words\nexpect [words]\nend\n");
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    assert_eq!(text(&output.stdout), "? words\r\n[words]\r\n");
}

#[test]
fn expect_gives_up_on_what_does_not_come() {
    // By its deadline, and at once when the program has ended.
    let output = expect(&["cat"], "within 50\nsend a\nexpect b\n");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.starts_with("expect: it did not say \"b\" in time, but \""), "{said}");
    let output = expect(&["echo", "a"], "within 100000\nexpect b\n");
    let expected = "expect: it did not say \"b\" before it ended, but \"a\\r\\n\"\n";
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(2), expected));
}
