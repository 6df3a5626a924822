//! What strace has seen of the children, beside what their plans let expect.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use forkplan::plan::Step;
use forkplan::{Child, Command as Asked, Event, Features, Opened, Plan, Pump};
use tempfile::TempDir;

use super::trace_lines::{HANDLERS, PID, lines_of, set_default, signal_name};
use super::{self_as, skipped};

/// The directory for what is expected, in the traced process.
const DIR: &str = "FORKPLAN_TEST_TRACED";

/// Stands for anything within a line, once.
const GAP: char = '~';
/// Begins a line that may come any number of times.
const ANY: char = '*';

/// Runs `spawn` in a process of its own under strace, and returns the directory
/// in which its and its children's traces lie, with what it has put there.
/// `None` in that process, and where there is no strace. `name` is the calling
/// test's.
pub(crate) fn trace(name: &str, spawn: impl FnOnce(&Path)) -> Option<TempDir> {
    if let Some(dir) = std::env::var_os(DIR) {
        spawn(Path::new(&dir));
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let test = self_as(name);
    let mut strace = Command::new("strace");
    // Each process in a file of its own, in whole lines without columns.
    strace.args(["-ff", "-qq", "-a1", "-s256", "-o"]).arg(dir.path().join("trace")).arg("--");
    strace.arg(test.get_program()).args(test.get_args()).env(DIR, dir.path());
    let output = match strace.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skipped(name, "there is no strace");
            return None;
        }
        output => output.unwrap(),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}", output.status);
    // What a test skips, it says.
    io::stderr().write_all(&output.stderr).unwrap();
    Some(dir)
}

/// In the traced process: spawns, and notes what the plan lets expect.
pub(crate) fn spawn_and_note(dir: &Path, opened: Opened<'_, '_>, in_pid_namespace: bool) -> Child {
    let expected = expected(&opened.plan());
    let child = opened.spawn().unwrap();
    note_expected(dir, child.id().unwrap(), &expected, in_pid_namespace);
    child
}

/// In the traced process: starts, and notes what the plan lets expect, by which it
/// is also said in advance.
pub(crate) fn start_and_note(dir: &Path, command: &Asked<'_>, in_pid_namespace: bool) -> Child {
    let in_advance = expected_of_a_start(command);
    let starting = command.prepare().unwrap().start();
    let expected = expected(&starting.plan());
    assert_eq!(expected, in_advance, "{command:?}");
    let child = starting.finish().1.unwrap();
    note_expected(dir, child.id().unwrap(), &expected, in_pid_namespace);
    child
}

/// As above, by a pump that was made before.
pub(crate) fn start_in_pump_and_note(dir: &Path, pump: &mut Pump, command: &Asked<'static>) {
    let expected = expected_of_a_start(command);
    let key = pump.start(command.prepare().unwrap());
    while !pump.is_empty() {
        pump.poll(None).unwrap();
        while let Some(event) = pump.next_event() {
            match event {
                Event::Made { pid, .. } => note_expected(dir, pid.unwrap(), &expected, false),
                Event::NotStarted { .. } => panic!("{:?}", pump.take_spawn_error(key)),
                Event::Ended { exit, .. } => assert!(exit.success()),
                _ => {}
            }
        }
    }
}

/// The plan of a start is that of a spawn that copies the memory.
fn expected_of_a_start(command: &Asked<'_>) -> String {
    let mut prepared = command.clone().without(Features::SHARED_MEMORY).prepare().unwrap();
    expected(&prepared.open().unwrap().plan())
}

fn note_expected(dir: &Path, pid: u32, expected: &str, in_pid_namespace: bool) {
    let own = if in_pid_namespace { 1 } else { pid };
    note(dir, &format!("expected.{pid}"), &expected.replace(PID, &own.to_string()));
}

pub(crate) fn note(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}

/// The line for each of a plan's steps, as strace will have it.
pub(crate) fn expected(plan: &Plan<'_>) -> String {
    let lines: Vec<String> =
        (0..plan.steps().len()).flat_map(|index| lines_of(plan, index)).collect();
    lines.join("\n")
}

/// The kind of a step, by the variant's name.
pub(crate) fn kind(step: Step) -> String {
    format!("{step:?}").split([' ', '{']).next().unwrap().into()
}

/// The kinds that there are. Read from the source, so that a step which is new is missed here.
pub(crate) fn kinds_of_the_enum() -> BTreeSet<String> {
    let source = include_str!("../../src/plan/step.rs");
    let (_, rest) = source.split_once("pub enum Step {\n").unwrap();
    let (body, _) = rest.split_once("\n}").unwrap();
    let names = body.lines().filter_map(|line| line.strip_prefix("    "));
    let names = names.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    names.map(|line| line.trim_end_matches([' ', '{', ',']).into()).collect()
}

/// What lies in the directory, by what follows `prefix` in its name.
pub(crate) fn files(dir: &Path, prefix: &str) -> Vec<(String, String)> {
    let named = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.strip_prefix(prefix)?.to_owned();
        Some((name, fs::read_to_string(path).unwrap()))
    };
    fs::read_dir(dir).unwrap().filter_map(|entry| named(entry.unwrap().path())).collect()
}

/// Asserts that a child's trace is what was expected, and the control: a line
/// that is missing there, or two that have changed places, would be noticed.
pub(crate) fn assert_traced(traced: &str, expected: &str) {
    if let Err(difference) = compare(traced, expected) {
        panic!("{difference}\nfor\n{expected}");
    }
    let lines: Vec<&str> = expected.lines().collect();
    for at in 1..lines.len() {
        let pair = [lines[at - 1], lines[at]];
        if pair[0] == pair[1] || pair.iter().any(|line| line.starts_with(ANY)) {
            continue;
        }
        let mut less = lines.clone();
        less.remove(at - 1);
        compare(traced, &less.join("\n")).expect_err(pair[0]);
        let mut swapped = lines.clone();
        swapped.swap(at - 1, at);
        compare(traced, &swapped.join("\n")).expect_err(pair[0]);
    }
}

/// Compares the child's lines up to its exec or exit. What follows is not the
/// plan's.
pub(crate) fn compare(traced: &str, expected: &str) -> Result<(), String> {
    let mut lines = traced.lines().peekable();
    for expected in expected.lines() {
        if let Some(any) = expected.strip_prefix(ANY) {
            while lines.next_if(|line| line.starts_with(any)).is_some() {}
        } else if expected == HANDLERS {
            (1..=64).try_for_each(|signal| clear_handler(&mut lines, signal))?;
        } else {
            let (begin, end) = expected.split_once(GAP).unwrap_or((expected, ""));
            next(&mut lines, begin, end)?;
        }
    }
    Ok(())
}

/// The next line, if it begins and ends so.
fn next<'a>(
    lines: &mut impl Iterator<Item = &'a str>,
    begin: &str,
    end: &str,
) -> Result<&'a str, String> {
    let line = lines.next().unwrap_or("nothing");
    match line.starts_with(begin) && line.ends_with(end) {
        true => Ok(line),
        false => Err(format!("{line}\nin place of\n{begin}{GAP}{end}")),
    }
}

/// One line that asks, and one that sets if there was a handler.
fn clear_handler<'a>(lines: &mut impl Iterator<Item = &'a str>, signal: i32) -> Result<(), String> {
    let ask = format!("rt_sigaction({}, NULL, {{sa_handler=", signal_name(signal));
    let line = next(lines, &ask, "")?;
    match line[ask.len()..].starts_with("SIG_") {
        true => Ok(()),
        false => next(lines, &set_default(signal), "").map(drop),
    }
}
