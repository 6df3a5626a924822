//! What a child calls between fork and exec: the table in `SECURITY.md` and
//! nothing else.
//!
//! Each command is spawned under a filter that kills whoever makes another call,
//! and traced; and the table is compared with the sources. In what order the
//! calls come, and that they are the printed plan, is shown by `tests/traced.rs`.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod support;

use core::ffi::{c_int, c_void};
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{self, Stdio};

use forkplan::Channel::Null;
use forkplan::Command;
use support::call_commands::{Lent, lower_the_limits};
use support::seccomp::{Rule, install_allowing};
use support::{EXCLUSIONS, in_subprocess, marker, self_as};

const SECURITY: &str = include_str!("../SECURITY.md");

/// The calls of the table's rows for this path; `fork` has those for any.
fn documented(path: &str) -> BTreeSet<&'static str> {
    let (_, section) = SECURITY.split_once("## What a child may call").expect("the section");
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let of_path = cells.filter(|cells| cells[2] == "any" || cells[2] == path);
    let calls: Vec<&str> = of_path.map(|cells| cells[3]).collect();
    // Every second piece stands between two backticks.
    calls.into_iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

macro_rules! numbers {
    ($($name:literal $constant:ident,)*) => {
        fn number(name: &str) -> libc::c_long {
            match name {
                $($name => libc::$constant,)*
                _ => panic!("a call without a number here: {name}"),
            }
        }
    };
}

numbers! {
    "rt_sigaction" SYS_rt_sigaction, "rt_sigprocmask" SYS_rt_sigprocmask,
    "execve" SYS_execve, "execveat" SYS_execveat, "exit_group" SYS_exit_group,
    "close_range" SYS_close_range, "dup2" SYS_dup2, "dup3" SYS_dup3, "fcntl" SYS_fcntl,
    "close" SYS_close, "openat" SYS_openat, "getdents64" SYS_getdents64,
    "chdir" SYS_chdir, "fchdir" SYS_fchdir, "chroot" SYS_chroot, "umask" SYS_umask,
    "setsid" SYS_setsid, "setpgid" SYS_setpgid, "getpgid" SYS_getpgid, "ioctl" SYS_ioctl,
    "prctl" SYS_prctl, "getppid" SYS_getppid, "prlimit64" SYS_prlimit64,
    "setpriority" SYS_setpriority, "sched_setscheduler" SYS_sched_setscheduler,
    "sched_setaffinity" SYS_sched_setaffinity, "ioprio_set" SYS_ioprio_set,
    "write" SYS_write, "getpid" SYS_getpid,
    "landlock_restrict_self" SYS_landlock_restrict_self, "seccomp" SYS_seccomp,
    "setgroups" SYS_setgroups, "setresgid" SYS_setresgid, "setresuid" SYS_setresuid,
    "capset" SYS_capset, "read" SYS_read, "setns" SYS_setns, "mount" SYS_mount,
    "pivot_root" SYS_pivot_root, "umount2" SYS_umount2,
}

/// What the parent calls from the clone until it knows how that went, and where it
/// starts from before that. A filter can't tell it from its child; what could be a
/// child's mistake is allowed only as the parent makes it.
fn of_the_parent() -> Vec<Rule> {
    let mut rules: Vec<Rule> = [
        libc::SYS_clone3,
        libc::SYS_clone,
        libc::SYS_pipe2,
        libc::SYS_open,
        libc::SYS_poll,
        libc::SYS_pwritev2,
        libc::SYS_waitid,
        libc::SYS_wait4,
        libc::SYS_sched_yield,
        libc::SYS_clock_nanosleep,
    ]
    .map(Rule::allow)
    .into();
    // Whether exec was reached, also from `/proc/PID/stat`; and the one shared
    // page of the fork path.
    rules.push(Rule::allow(libc::SYS_setpgid).with(1, i32::MAX));
    rules.push(Rule::allow(libc::SYS_read).with(2, 1024));
    rules.push(Rule::allow(libc::SYS_munmap).with(1, 4096));
    let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    rules.push(Rule::allow(libc::SYS_mmap).with(1, 4096).with(3, shared));
    rules
}

/// The program, `marker`, makes these and no others.
const OF_THE_PROGRAM: [libc::c_long; 2] = [libc::SYS_lseek, libc::SYS_exit];

fn allowed(path: &str) -> Vec<Rule> {
    let listed = documented(path).into_iter().map(number);
    let mut rules: Vec<Rule> = listed.chain(OF_THE_PROGRAM).map(Rule::allow).collect();
    rules.extend(of_the_parent());
    rules
}

/// Makes a child under the list, in a process that may be killed for what it calls:
/// the end of that process.
fn make_under_the_list(
    command: &mut Command<'_>,
    is_started: bool,
    path: &str,
) -> process::ExitStatus {
    let mut prepared = command.prepare().unwrap();
    let rules = allowed(path);
    // SAFETY: the process is the test's own and has a thread that waits besides;
    // the child allocates, which glibc makes safe, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // All that is opened and mapped is opened and mapped before, or, by a start,
        // once more.
        let made = if is_started {
            let (prepared, warm) = prepared.start().finish();
            drop(warm.map(|mut child| child.wait()));
            install_allowing(&rules);
            let (prepared, made) = prepared.start().finish();
            core::mem::forget(prepared);
            made
        } else {
            let opened = prepared.open().unwrap();
            install_allowing(&rules);
            opened.spawn()
        };
        let code = match made {
            Ok(mut child) => i32::from(!child.wait().is_ok_and(|exit| exit.success())),
            // Which step was killed.
            Err(error) => 100 + error.step_index().unwrap_or(0) as c_int,
        };
        // SAFETY: ends this process.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: writes the status of a child made here.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    std::os::unix::process::ExitStatusExt::from_raw(status)
}

#[test]
fn under_a_filter_that_allows_the_list_alone_everything_works() {
    in_subprocess("under_a_filter_that_allows_the_list_alone_everything_works", || {
        lower_the_limits();
        let lent = Lent::new();
        for is_started in [false, true] {
            for (command, shares) in lent.grid() {
                for without in EXCLUSIONS {
                    let path = shares.path(is_started, without);
                    let mut command = command.clone();
                    let status = make_under_the_list(command.without(without), is_started, path);
                    let what = if is_started { "started" } else { "spawned" };
                    assert!(status.success(), "{status}, {what} without {without:?}: {command:?}");
                }
            }
            // One that fails exits by the list too, and is told from one that is killed.
            let mut nowhere = Command::new("/nowhere");
            nowhere.fd(0, Null).inherit_ignored_signals(true);
            assert!(make_under_the_list(&mut nowhere, is_started, "shared").code() >= Some(100));
        }
    });
}

unsafe extern "C" fn call_it(number: *mut c_void) -> c_int {
    // SAFETY: every one of these calls takes zeros. What it returns does not
    // matter: it kills, or it does not.
    unsafe { libc::syscall(number as libc::c_long, 0, 0, 0, 0, 0, 0) };
    0
}

#[test]
fn control_a_call_that_is_not_listed_kills_the_child_and_is_told() {
    in_subprocess("control_a_call_that_is_not_listed_kills_the_child_and_is_told", || {
        lower_the_limits();
        let beyond = [
            libc::SYS_brk,
            libc::SYS_mmap,
            libc::SYS_futex,
            libc::SYS_munmap,
            libc::SYS_mprotect,
            libc::SYS_gettid,
            libc::SYS_tgkill,
            libc::SYS_kill,
            libc::SYS_dup,
            libc::SYS_rt_sigreturn,
        ];
        for call in beyond {
            let mut command = Command::new(marker());
            // SAFETY: makes one syscall.
            unsafe { command.fd(0, Null).pre_exec(call_it, call as *mut c_void) };
            let steps = command.prepare().unwrap().open().unwrap().plan().steps().to_vec();
            let hook = steps.iter().position(|step| step.to_string().contains("hook"));
            for is_started in [false, true] {
                let status = make_under_the_list(&mut command, is_started, "fork");
                assert_eq!(status.code(), hook.map(|hook| 100 + hook as i32), "{call}");
            }
        }
        // And one that is listed does not.
        let mut command = Command::new(marker());
        // SAFETY: as above.
        unsafe { command.fd(0, Null).pre_exec(call_it, libc::SYS_getpid as *mut c_void) };
        assert!(make_under_the_list(&mut command, false, "fork").success());
        assert!(make_under_the_list(&mut command, true, "fork").success());
    });
}

#[test]
fn the_list_is_what_the_sources_call() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sys/child_raw");
    let mut named = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for piece in text.split("libc::SYS_").skip(1) {
            let end = piece.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap();
            named.insert(piece[..end].to_string());
        }
    }
    let documented: BTreeSet<String> = documented("fork").into_iter().map(String::from).collect();
    assert_eq!(named, documented);
}

/// A plan's line begins with the call that the step makes, or says what it is for.
#[test]
fn every_line_of_a_plan_begins_with_a_listed_call() {
    in_subprocess("every_line_of_a_plan_begins_with_a_listed_call", || {
        let listed = documented("fork");
        let lent = Lent::new();
        let mut others = BTreeSet::new();
        for (command, _) in lent.grid() {
            for without in EXCLUSIONS {
                let mut prepared = command.clone().without(without).prepare().unwrap();
                let opened = prepared.open().unwrap();
                let plan = opened.plan();
                assert!(plan.to_string().lines().count() >= plan.steps().len(), "{plan}");
                for &step in plan.steps() {
                    let words = plan.show(step).to_string();
                    assert!(words.starts_with(step.to_string().split(' ').next().unwrap()));
                    let call = words.split([' ', ',']).next().unwrap();
                    let call = match call {
                        "sigaction" => "rt_sigaction",
                        "sigprocmask" => "rt_sigprocmask",
                        "prlimit" => "prlimit64",
                        "tcsetpgrp" => "ioctl",
                        call => call,
                    };
                    if !listed.contains(call) {
                        others.insert(words);
                    }
                }
            }
        }
        assert_eq!(others, BTreeSet::new());
    });
}

/// The directory for what is found, in the traced process.
const DIR: &str = "FORKPLAN_TEST_CALLS";

#[test]
fn every_call_of_a_trace_is_listed_and_every_listed_call_is_traced() {
    let name = "every_call_of_a_trace_is_listed_and_every_listed_call_is_traced";
    if let Some(dir) = std::env::var_os(DIR) {
        return spawn_under_trace(Path::new(&dir));
    }
    marker();
    let dir = tempfile::tempdir().unwrap();
    let test = self_as(name);
    let mut strace = process::Command::new("strace");
    strace.args(["-ff", "-qq", "-a1", "-o"]).arg(dir.path().join("trace")).arg("--");
    strace.arg(test.get_program()).args(test.get_args()).env(DIR, dir.path());
    let output = match strace.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("SKIPPED: {name}: there is no strace");
            return;
        }
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut seen = BTreeSet::new();
    let mut children = 0;
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let file = entry.file_name().into_string().unwrap();
        let Some(pid) = file.strip_prefix("child.") else { continue };
        let path = fs::read_to_string(entry.path()).unwrap();
        let listed = documented(&path);
        let trace = fs::read_to_string(dir.path().join(format!("trace.{pid}"))).unwrap();
        for line in trace.lines() {
            let call = line.split('(').next().unwrap();
            assert!(listed.contains(call), "{path}: {line}\n{trace}");
            seen.insert(call.to_string());
            if call.starts_with("exec") && line.ends_with("= 0") {
                break;
            }
        }
        children += 1;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: {name}: not every call without root");
        return;
    }
    let grid = Lent::new().grid().len();
    assert_eq!(children, 2 * grid * EXCLUSIONS.len());
    let missing: Vec<_> =
        documented("fork").into_iter().filter(|call| !seen.contains(*call)).collect();
    // `exit_group` is of those that fail: `tests/traced.rs`. And what the kernel lacks.
    let lacking = Lent::new().ruleset.is_none();
    let expected: &[&str] =
        if lacking { &["exit_group", "landlock_restrict_self"] } else { &["exit_group"] };
    assert_eq!(missing, expected);
}

/// The traced process: spawns, starts, and notes by which path.
fn spawn_under_trace(dir: &Path) {
    lower_the_limits();
    let lent = Lent::new();
    for (command, shares) in lent.grid() {
        for (without, is_started) in EXCLUSIONS.into_iter().flat_map(|w| [(w, false), (w, true)]) {
            let mut prepared = command.clone().without(without).prepare().unwrap();
            let made = match is_started {
                false => prepared.spawn(),
                true => prepared.start().finish().1,
            };
            let mut child = made.unwrap();
            let path = shares.path(is_started, without);
            fs::write(dir.join(format!("child.{}", child.id().unwrap())), path).unwrap();
            assert!(child.wait().unwrap().success());
        }
    }
}
