//! A close that is interrupted is not made again: on Linux the fd is gone, and its
//! number may be a stranger's by then.
#![cfg(target_os = "linux")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command as StdCommand, Stdio};

use forkplan::{Channel, Command, NamedPipe, Pty};
use support::{EXCLUSIONS, end, self_as, skipped};

/// Set in the traced process.
const TRACED: &str = "FORKPLAN_TEST_CLOSES";
/// Closed by nobody else: where the part begins that is looked at, and ends.
const MARKS: [i32; 2] = [1_000_001, 1_000_002];

/// How many closes of a thread are made before they are interrupted.
const BEFORE: usize = 200;

/// From here on this thread's closes are interrupted.
fn begin() {
    for _ in 0..BEFORE {
        close(-1);
    }
    assert_eq!(close(MARKS[0]), -1);
    assert_eq!(std::io::Error::last_os_error().kind(), ErrorKind::Interrupted);
}

fn close(fd: i32) -> i32 {
    // SAFETY: no fd of anybody else's: see those who call this.
    unsafe { libc::close(fd) }
}

/// How often each process has closed each number up to its exec, between the marks,
/// where every close of the parent's is interrupted and not made, so that no number
/// comes again. `None`: there is no strace.
fn closes(test: &str) -> Option<BTreeMap<(String, String), usize>> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trace");
    let test = self_as(test);
    let mut strace = StdCommand::new("strace");
    strace.args(["-f", "-qq", "-a1", "-e", "trace=close,execve,execveat"]);
    // Not those of the loader, which are another thread's.
    let inject = format!("inject=close:error=EINTR:when={}+", BEFORE + 1);
    strace.args(["-e", &inject, "-o"]).arg(&file).arg("--");
    strace.arg(test.get_program()).args(test.get_args()).env(TRACED, "");
    let output = match strace.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let trace = fs::read_to_string(file).unwrap();
    let [begin, end] = MARKS.map(|mark| trace.find(&format!("close({mark}")).unwrap());
    let mut counts = BTreeMap::new();
    let mut programs = BTreeSet::new();
    for line in trace[begin..end].lines().skip(1) {
        let (pid, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        if call.starts_with("exec") && call.ends_with("= 0") {
            programs.insert(pid);
        }
        let number = call.strip_prefix("close(").and_then(|rest| rest.split([')', ' ']).next());
        if let Some(number) = number.filter(|_| !programs.contains(pid)) {
            *counts.entry((pid.to_string(), number.to_string())).or_default() += 1;
        }
    }
    Some(counts)
}

fn every_kind_of_spawn(program: &Path) {
    let dir = tempfile::tempdir().unwrap();
    for without in EXCLUSIONS {
        let mut command = Command::new(program);
        command.without(without).fd(3, Channel::SocketPair).fd(4, Pty::new());
        command.fd(5, Channel::bytes("bytes")).fd(6, Channel::Null);
        command.fd(7, NamedPipe::read(dir.path().join("fifo")).create(0o600));
        let mut child = command.spawn().unwrap();
        assert!(child.wait().unwrap().success());
        drop(child);
        let mut nowhere = Command::new("/nowhere/program");
        nowhere.without(without).spawn().unwrap_err();
    }
    // Its directory is not to be read by what is not closed.
    drop(dir);
}

#[test]
fn no_number_is_closed_twice_where_a_close_is_interrupted() {
    let test = "no_number_is_closed_twice_where_a_close_is_interrupted";
    if std::env::var_os(TRACED).is_some() {
        // What the slowest way looks at.
        support::faults::lower_the_limits();
        // It may have to be built.
        let program = end();
        begin();
        every_kind_of_spawn(program);
        close(MARKS[1]);
        return;
    }
    let Some(counts) = closes(test) else { return skipped(test, "there is no strace") };
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    // Two ends of each of four channels and more, eight times.
    assert!(counts.len() > 8 * 8, "{counts:?}");
}

#[test]
fn control_a_close_that_is_made_again_is_seen() {
    let test = "control_a_close_that_is_made_again_is_seen";
    if std::env::var_os(TRACED).is_some() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let number = std::os::fd::IntoRawFd::into_raw_fd(reader);
        begin();
        for _ in 0..3 {
            let interrupted = || std::io::Error::last_os_error().kind() == ErrorKind::Interrupted;
            if close(number) == 0 || !interrupted() {
                break;
            }
        }
        close(MARKS[1]);
        return;
    }
    let Some(counts) = closes(test) else { return skipped(test, "there is no strace") };
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [3]);
}
