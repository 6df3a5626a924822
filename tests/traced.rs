//! The child's syscalls, as strace sees them, are the printed plan: one to one,
//! in order, with its arguments, and nothing else.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};

use forkplan::Channel::{self, Null, ReadPipe, SocketPair};
use forkplan::plan::Step;
use forkplan::{Command, Features, Plan, Pty, Signal};
use rustix::process::{Resource, Rlimit, setrlimit};
use support::{EXCLUSIONS, self_as};

/// The directory for what is expected, in the traced process.
const DIR: &str = "FORKPLAN_TEST_TRACED";
/// A path in a plan that does not exist.
const NOWHERE: &str = "/nowhere";

/// Stands for anything within a line, once.
const GAP: char = '~';
/// Begins a line that may come any number of times.
const ANY: char = '*';
/// Stands for asking and setting as `ClearHandlers` does.
const HANDLERS: &str = "handlers";

#[test]
fn the_childs_syscalls_are_the_printed_plan() {
    if let Some(dir) = std::env::var_os(DIR) {
        return spawn_under_trace(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let test = self_as("the_childs_syscalls_are_the_printed_plan");
    let mut strace = process::Command::new("strace");
    // Each process in a file of its own, in whole lines without columns.
    strace.args(["-ff", "-qq", "-a1", "-s256", "-o"]).arg(dir.path().join("trace")).arg("--");
    strace.arg(test.get_program()).args(test.get_args()).env(DIR, dir.path());
    let output = match strace.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Not by a macro, which the harness would keep to itself.
            io::stderr().write_all(b"SKIPPED: traced: there is no strace\n").unwrap();
            return;
        }
        output => output.unwrap(),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}", output.status);
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
        if let Err(difference) = compare(&traced, &expected) {
            panic!("{difference}\nfor\n{expected}");
        }
        // The control: a call more than the plan has would be noticed.
        let (_, less) = expected.split_once('\n').unwrap();
        compare(&traced, less).unwrap_err();
    }
}

fn files(dir: &Path, prefix: &str) -> Vec<(String, String)> {
    let named = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.strip_prefix(prefix)?.to_owned();
        Some((name, fs::read_to_string(path).unwrap()))
    };
    fs::read_dir(dir).unwrap().filter_map(|entry| named(entry.unwrap().path())).collect()
}

/// Compares the child's lines up to its exec or exit. What follows is not the
/// plan's.
fn compare(traced: &str, expected: &str) -> Result<(), String> {
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
    let mut terminal = Command::new("/bin/true");
    terminal.fds([0, 1, 2], Pty::new()).fd(7, Pty::new().controlling(false));
    vec![default, swap, search, shared, inherit, ignore, terminal]
}

/// The traced process: spawns, and writes down what each plan lets expect.
fn spawn_under_trace(dir: &Path) {
    // The slowest way of closing makes a syscall for each number.
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) }).unwrap();
    for (without, number) in EXCLUSIONS.into_iter().zip(0..) {
        for mut command in maps() {
            let mut prepared = command.without(without).prepare().unwrap();
            let opened = prepared.open().unwrap();
            let expected = expected(&opened.plan());
            let mut child = opened.spawn().unwrap();
            let path = dir.join(format!("expected.{}", child.id().unwrap()));
            fs::write(path, expected).unwrap();
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
    let mut lines: Vec<String> =
        plan.steps()[..=at].iter().flat_map(|&step| lines_of(&plan, step)).collect();
    lines.pop();
    lines.push(format!("chdir({its_own:?}) = -1 ENOENT (No such file or directory)"));
    lines.push("exit_group(127)".into());
    opened.spawn().unwrap_err();
    fs::write(dir.join(format!("expected.failed{number}")), lines.join("\n")).unwrap();
}

/// The beginning of each line that strace has for a plan.
fn expected(plan: &Plan<'_>) -> String {
    let lines: Vec<String> = plan.steps().iter().flat_map(|&step| lines_of(plan, step)).collect();
    lines.join("\n")
}

fn lines_of(plan: &Plan<'_>, step: Step) -> Vec<String> {
    const ALL: u32 = u32::MAX;
    let set_cloexec = |fd: i32| format!("fcntl({fd}, F_SETFD, FD_CLOEXEC)");
    let line = match step {
        Step::Unshare { first } => format!("close_range({first}, {ALL}, CLOSE_RANGE_UNSHARE) = 0"),
        Step::MarkRange { first, last } => {
            let last = last.map_or(ALL, |last| last as u32);
            format!("close_range({first}, {last}, CLOSE_RANGE_CLOEXEC) = 0")
        }
        Step::MarkListed { .. } => {
            let open = "openat(AT_FDCWD, \"/proc/self/fd\", O_RDONLY|O_CLOEXEC|O_DIRECTORY) = ";
            let marks = format!("{ANY}fcntl(");
            return [open, "getdents64(", &marks, "getdents64(", "close("].map(String::from).into();
        }
        Step::MarkEach { first, below } => return (first..below).map(set_cloexec).collect(),
        Step::Dup2 { from, to } if cfg!(target_arch = "x86_64") => {
            format!("dup2({from}, {to}) = {to}")
        }
        Step::Dup2 { from, to } => format!("dup3({from}, {to}, 0) = {to}"),
        Step::DupCloexec { from, to } => format!("dup3({from}, {to}, O_CLOEXEC) = {to}"),
        Step::ClearCloexec { fd } => format!("fcntl({fd}, F_SETFD, 0) = 0"),
        Step::SetCloexec { fd } => set_cloexec(fd) + " = 0",
        Step::Chdir { path } => format!("chdir({:?}) = 0", text(plan, path)),
        Step::SetSid => format!("setsid() = {GAP}"),
        Step::ControllingTerminal { fd } => format!("ioctl({fd}, TIOCSCTTY, 0) = 0"),
        Step::DefaultSignal { signal } => set_default(signal),
        Step::ClearHandlers => HANDLERS.into(),
        Step::SignalMask { mask: 0 } => "rt_sigprocmask(SIG_SETMASK, [], NULL, 8) = 0".into(),
        Step::SignalMask { .. } => "rt_sigprocmask(SIG_SETMASK, [USR1], NULL, 8) = 0".into(),
        Step::Exec { path } => {
            let path = text(plan, path);
            // Strace adds the errno in words.
            let result = match path {
                "/bin/sh/true" => "-1 ENOTDIR (Not a directory)",
                _ if path.starts_with(NOWHERE) => "-1 ENOENT (No such file or directory)",
                _ => "0",
            };
            let (arguments, count) = program(plan);
            format!("execve({path:?}, [{arguments}], 0x{GAP} /* {count} vars */) = {result}")
        }
        other => panic!("a step that strace was not asked about: {other}"),
    };
    vec![line]
}

/// The arguments as the plan prints them, which is as strace does, and the
/// number of environment strings.
fn program(plan: &Plan<'_>) -> (String, String) {
    let printed = plan.to_string();
    let (_, list) = printed.rsplit_once(" [").unwrap();
    let (arguments, count) = list.split_once("] with ").unwrap();
    (arguments.into(), count.split(' ').next().unwrap().into())
}

fn text<'a>(plan: &Plan<'a>, text: forkplan::plan::Text) -> &'a str {
    core::str::from_utf8(plan.text(text)).unwrap()
}

fn set_default(signal: i32) -> String {
    let name = signal_name(signal);
    format!("rt_sigaction({name}, {{sa_handler=SIG_DFL, sa_mask=[], sa_flags=0}}, NULL, 8) = 0")
}

/// strace's name: the kernel's real-time signals begin with 32.
fn signal_name(signal: i32) -> String {
    match (Signal::from(signal).name(), signal) {
        (Some("IO"), _) => "SIGIO".into(),
        (Some(name), _) => format!("SIG{name}"),
        (None, 16) => "SIGSTKFLT".into(),
        (None, 32) => "SIGRTMIN".into(),
        (None, _) => format!("SIGRT_{}", signal - 32),
    }
}
