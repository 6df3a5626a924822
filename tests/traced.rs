//! The child's syscalls, as strace sees them, are the printed plan: one to one,
//! in order, with its arguments, and nothing else.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use forkplan::Channel::{self, Null, ReadPipe, SocketPair};
use forkplan::plan::Step;
use forkplan::{Backend, Command, Features, Open, Plan, Pty, Pump, Signal, SpawnError};
use rustix::process::{Resource, Rlimit, setrlimit};
use support::EXCLUSIONS;
use support::trace::{
    assert_traced, compare, expected, files, note, spawn_and_note, start_and_note,
    start_in_pump_and_note, trace,
};
use support::trace_lines::lines_of;

/// A path in a plan that does not exist.
const NOWHERE: &str = "/nowhere";

#[test]
fn the_childs_syscalls_are_the_printed_plan() {
    let name = "the_childs_syscalls_are_the_printed_plan";
    let Some(dir) = trace(name, spawn_under_trace) else { return };
    check(dir.path(), EXCLUSIONS.len() * (maps().len() + 1));
}

#[test]
fn the_syscalls_of_a_started_child_are_the_printed_plan_of_a_start() {
    let name = "the_syscalls_of_a_started_child_are_the_printed_plan_of_a_start";
    let Some(dir) = trace(name, start_under_trace) else { return };
    check(dir.path(), EXCLUSIONS.len() * (2 * maps().len() + 1));
    // The control: they are not the plan of a spawn.
    for (pid, plan_of_spawn) in files(dir.path(), "spawn.") {
        compare(&trace_of(dir.path(), &pid), &plan_of_spawn).expect_err(&plan_of_spawn);
    }
}

/// That each of so many children did what was expected.
fn check(dir: &Path, children: usize) {
    let expected = files(dir, "expected.");
    assert_eq!(expected.len(), children);
    for (name, expected) in expected {
        let traced = match name.strip_prefix("failed") {
            None => trace_of(dir, &name),
            // The pid of a child that failed is not told: its directory is.
            Some(number) => {
                let its_own = format!("chdir(\"{NOWHERE}/{number}\")");
                let mut all = files(dir, "trace.").into_iter();
                all.find(|(_, text)| text.contains(&its_own)).unwrap().1
            }
        };
        assert_traced(&traced, &expected);
    }
}

fn trace_of(dir: &Path, pid: &str) -> String {
    fs::read_to_string(dir.join(format!("trace.{pid}"))).unwrap()
}

/// The maps of which the plans are compared.
fn maps() -> Vec<Command<'static>> {
    let mut default = Command::new("/bin/true");
    default.args(["some", "arguments"]);

    let [a, b, c] = [(); 3].map(|()| OwnedFd::from(tempfile::tempfile().unwrap()));
    let [at_a, at_b, at_c] = [&a, &b, &c].map(AsRawFd::as_raw_fd);
    let mut swap = Command::new("/bin/true");
    swap.fd(at_a, b).fd(at_b, a).fd(at_c, c).fd(1, ReadPipe);

    let mut search = Command::new("true");
    search.env("PATH", "/nowhere:/bin/sh:/bin").current_dir("/").fds([0, 1, 2], Null);

    let mut shared = Command::new("/bin/true");
    shared.fds([0, 1, 7], SocketPair).fd(2, Channel::stderr());
    shared.block_signals([Signal::USR1]).env_clear();

    let mut inherit = swap.clone();
    inherit.inherit_unnamed_fds(true);
    let mut ignore = Command::new("/bin/true");
    ignore.inherit_ignored_signals(true).fd(0, Null);
    let mut opens = Command::new("/bin/true");
    opens.fd(0, Null).fds([5, 6], Channel::file_in_child("/etc/passwd", Open::Read));
    let mut terminal = Command::new("/bin/true");
    terminal.fds([0, 1, 2], Pty::new()).fd(7, Pty::new().controlling(false));
    vec![default, swap, search, shared, inherit, ignore, opens, terminal]
}

/// The slowest way of closing makes a syscall for each number.
fn lower_limit() {
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) }).unwrap();
}

/// The traced process: spawns, and writes down what each plan lets expect.
fn spawn_under_trace(dir: &Path) {
    lower_limit();
    for (without, number) in EXCLUSIONS.into_iter().zip(0..) {
        for mut command in maps() {
            let mut prepared = command.without(without).prepare().unwrap();
            let mut child = spawn_and_note(dir, prepared.open().unwrap(), false);
            assert!(child.wait().unwrap().success());
        }
        let mut prepared = failing(number).without(without).prepare().unwrap();
        let opened = prepared.open().unwrap();
        note_failed(dir, number, &opened.plan());
        assert_failed(&opened.spawn().unwrap_err());
    }
}

/// The same by starts, each by itself and in a pump.
fn start_under_trace(dir: &Path) {
    lower_limit();
    let backends = [Backend::Poll, Backend::Epoll];
    let mut pumps = backends.map(|backend| Pump::with_backend(backend).unwrap());
    for (without, number) in EXCLUSIONS.into_iter().zip(0..) {
        for mut command in maps() {
            command.without(without);
            let mut child = start_and_note(dir, &command, false);
            let pid = child.id().unwrap();
            assert!(child.wait().unwrap().success());
            start_in_pump_and_note(dir, &mut pumps[number % 2], &command);
            let mut prepared = command.prepare().unwrap();
            let opened = prepared.open().unwrap();
            let shares = |step: &Step| matches!(step, Step::Unshare { .. });
            if opened.plan().steps().iter().any(shares) {
                note(dir, &format!("spawn.{pid}"), &expected(&opened.plan()));
            }
        }
        let starting = failing(number).without(without).prepare().unwrap().start();
        note_failed(dir, number, &starting.plan());
        assert_failed(&starting.finish().1.unwrap_err());
    }
    assert!(!files(dir, "spawn.").is_empty() || !Features::of_this_kernel().is_all());
}

/// Its child says no more than its exit.
fn failing(number: usize) -> Command<'static> {
    let mut command = Command::new("/bin/true");
    command.current_dir(its_own(number));
    command
}

fn its_own(number: usize) -> String {
    format!("{NOWHERE}/{number}")
}

fn note_failed(dir: &Path, number: usize, plan: &Plan<'_>) {
    let at = plan.steps().iter().position(|step| matches!(step, Step::Chdir { .. })).unwrap();
    let mut lines: Vec<String> = (0..=at).flat_map(|index| lines_of(plan, index)).collect();
    lines.pop();
    lines.push(format!("chdir({:?}) = -1 ENOENT (No such file or directory)", its_own(number)));
    lines.push("exit_group(127)".into());
    note(dir, &format!("expected.failed{number}"), &lines.join("\n"));
}

fn assert_failed(error: &SpawnError) {
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
}
