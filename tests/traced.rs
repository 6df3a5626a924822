//! The child's syscalls, as strace sees them, are the printed plan: one to one,
//! in order, with its arguments, and nothing else.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use forkplan::Channel::{self, Null, ReadPipe, SocketPair};
use forkplan::plan::Step;
use forkplan::{Command, Features, Open, Pty, Signal};
use rustix::process::{Resource, Rlimit, setrlimit};
use support::EXCLUSIONS;
use support::trace::{assert_traced, files, note, spawn_and_note, trace};
use support::trace_lines::lines_of;

/// A path in a plan that does not exist.
const NOWHERE: &str = "/nowhere";

#[test]
fn the_childs_syscalls_are_the_printed_plan() {
    let name = "the_childs_syscalls_are_the_printed_plan";
    let Some(dir) = trace(name, spawn_under_trace) else { return };
    let expected = files(dir.path(), "expected.");
    assert_eq!(expected.len(), EXCLUSIONS.len() * (maps().len() + 1));
    for (name, expected) in expected {
        let traced = match name.strip_prefix("failed") {
            None => fs::read_to_string(dir.path().join(format!("trace.{name}"))).unwrap(),
            // The pid of a child that failed is not told: its directory is.
            Some(number) => {
                let its_own = format!("chdir(\"{NOWHERE}/{number}\")");
                let mut all = files(dir.path(), "trace.").into_iter();
                all.find(|(_, text)| text.contains(&its_own)).unwrap().1
            }
        };
        assert_traced(&traced, &expected);
    }
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

/// The traced process: spawns, and writes down what each plan lets expect.
fn spawn_under_trace(dir: &Path) {
    // The slowest way of closing makes a syscall for each number.
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) }).unwrap();
    for (without, number) in EXCLUSIONS.into_iter().zip(0..) {
        for mut command in maps() {
            let mut prepared = command.without(without).prepare().unwrap();
            let mut child = spawn_and_note(dir, prepared.open().unwrap(), false);
            assert!(child.wait().unwrap().success());
        }
        failed(dir, without, number);
    }
}

/// A child that fails says no more than its exit.
fn failed(dir: &Path, without: Features, number: i32) {
    let its_own = format!("{NOWHERE}/{number}");
    let mut command = Command::new("/bin/true");
    let mut prepared = command.without(without).current_dir(&its_own).prepare().unwrap();
    let opened = prepared.open().unwrap();
    let plan = opened.plan();
    let at = plan.steps().iter().position(|step| matches!(step, Step::Chdir { .. })).unwrap();
    let mut lines: Vec<String> = (0..=at).flat_map(|index| lines_of(&plan, index)).collect();
    lines.pop();
    lines.push(format!("chdir({its_own:?}) = -1 ENOENT (No such file or directory)"));
    lines.push("exit_group(127)".into());
    opened.spawn().unwrap_err();
    note(dir, &format!("expected.failed{number}"), &lines.join("\n"));
}
