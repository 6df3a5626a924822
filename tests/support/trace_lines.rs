//! For each kind of step, the lines that strace has for it.
//!
//! `~` stands for anything within a line, once; `*` begins a line that may come
//! any number of times.

use std::fs;

use forkplan::plan::{Step, Text};
use forkplan::{Capabilities, Namespaces, Plan, Signal};

/// Stands for asking and setting as `ClearHandlers` does.
pub(crate) const HANDLERS: &str = "handlers";
/// Stands for the child's own pid, which is not known before it is there.
pub(crate) const PID: &str = "@PID@";

pub(crate) fn lines_of(plan: &Plan<'_>, index: usize) -> Vec<String> {
    let step = plan.steps()[index];
    let tables = [fds, before_the_map, after_the_map, identity, signals];
    match tables.iter().find_map(|table| table(plan, step)) {
        Some(lines) => lines,
        None => exec(plan, index),
    }
}

fn fds(_: &Plan<'_>, step: Step) -> Option<Vec<String>> {
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
            let lines = [open, "getdents64(", "*fcntl(", "getdents64(", "close("];
            return Some(lines.map(String::from).into());
        }
        Step::MarkEach { first, below } => return Some((first..below).map(set_cloexec).collect()),
        Step::Dup2 { from, to } if cfg!(target_arch = "x86_64") => {
            format!("dup2({from}, {to}) = {to}")
        }
        Step::Dup2 { from, to } => format!("dup3({from}, {to}, 0) = {to}"),
        Step::DupCloexec { from, to } => format!("dup3({from}, {to}, O_CLOEXEC) = {to}"),
        Step::ClearCloexec { fd } => format!("fcntl({fd}, F_SETFD, 0) = 0"),
        Step::SetCloexec { fd } => set_cloexec(fd) + " = 0",
        _ => return None,
    };
    Some(vec![line])
}

fn before_the_map(plan: &Plan<'_>, step: Step) -> Option<Vec<String>> {
    let line = match step {
        Step::Close { fd } => format!("close({fd}) = 0"),
        Step::AwaitParent { fd } => format!("read({fd}, ~, 1) = 1"),
        Step::WriteFile { path, .. } => {
            let path = text(plan, path);
            let number = words(plan, step, &format!("write {path:?} \""), "\"");
            let open = format!("openat(AT_FDCWD, {path:?}, O_WRONLY|O_CLOEXEC) = ");
            let write = format!("write(~, {number:?}, {0}) = {0}", number.len());
            return Some(vec![open, write, "close(~) = 0".into()]);
        }
        Step::SetNs { fd, kind } => format!("setns({fd}, {}) = 0", clone_flags(kind)),
        Step::PrivateMounts => r#"mount(NULL, "/", NULL, MS_REC|MS_PRIVATE, NULL) = 0"#.into(),
        Step::PivotRoot { path } => {
            let path = text(plan, path);
            return Some(vec![
                format!("mount({path:?}, {path:?}, NULL, MS_BIND|MS_REC, NULL) = 0"),
                format!("chdir({path:?}) = 0"),
                "pivot_root(\".\", \".\") = 0".into(),
                "umount2(\".\", MNT_DETACH) = 0".into(),
                "chdir(\"/\") = 0".into(),
            ]);
        }
        Step::SetSid => format!("setsid() = {PID}"),
        Step::SetPgid { pgid } => format!("setpgid(0, {pgid}) = 0"),
        Step::ControllingTerminal { fd } => format!("ioctl({fd}, TIOCSCTTY, 0) = 0"),
        Step::Foreground { fd } => {
            let ask = format!("getpgid(0) = {PID}");
            return Some(vec![ask, format!("ioctl({fd}, TIOCSPGRP, [{PID}]) = 0")]);
        }
        Step::Chdir { path } => format!("chdir({:?}) = 0", text(plan, path)),
        Step::Fchdir { fd } => format!("fchdir({fd}) = 0"),
        Step::Chroot { path } => format!("chroot({:?}) = 0", text(plan, path)),
        Step::Umask { mode } => format!("umask(0{mode:o}) = "),
        _ => return None,
    };
    Some(vec![line])
}

fn after_the_map(plan: &Plan<'_>, step: Step) -> Option<Vec<String>> {
    let line = match step {
        Step::SetLimit { .. } => {
            let said = words(plan, step, "prlimit ", "]");
            let (name, limits) = said.split_once(" [").unwrap();
            let (soft, hard) = limits.split_once(", ").unwrap();
            let limits = format!("{{rlim_cur={soft}, rlim_max={hard}}}");
            format!("prlimit64(0, {name}, {limits}, NULL) = 0")
        }
        Step::SetScheduler { policy: libc::SCHED_OTHER, priority } => {
            format!("sched_setscheduler(0, SCHED_OTHER, [{priority}]) = 0")
        }
        Step::SetNice { nice } => format!("setpriority(PRIO_PROCESS, 0, {nice}) = 0"),
        Step::SetAffinity { .. } => {
            let cpus = words(plan, step, "sched_setaffinity [", "]").replace(',', "");
            // Whole words up to the highest.
            let last: usize = cpus.rsplit(' ').next().unwrap().parse().unwrap();
            let len = (last / 64 + 1) * 8;
            format!("sched_setaffinity(0, {len}, [{cpus}]) = 0")
        }
        // The class is in the upper bits.
        Step::SetIoPriority { priority: 0x4007 } => {
            let value = "IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7)";
            format!("ioprio_set(IOPRIO_WHO_PROCESS, 0, {value}) = 0")
        }
        Step::OpenFile { path, flags: libc::O_RDONLY, to } => {
            let open = format!("openat(AT_FDCWD, {:?}, O_RDONLY|O_NOCTTY) = ", text(plan, path));
            let copy = match cfg!(target_arch = "x86_64") {
                true => format!("dup2(~, {to}) = {to}"),
                false => format!("dup3(~, {to}, 0) = {to}"),
            };
            return Some(vec![open, copy, "close(~) = 0".into()]);
        }
        Step::Landlock { fd } => format!("landlock_restrict_self({fd}, 0) = 0"),
        Step::WritePid { .. } => format!("getpid() = {PID}"),
        // What the hook of the traced commands does.
        Step::Hook => "sched_yield() = 0".into(),
        Step::Seccomp { .. } => {
            let count = words(plan, step, "seccomp SECCOMP_SET_MODE_FILTER, ", " instructions");
            format!("seccomp(SECCOMP_SET_MODE_FILTER, 0, {{len={count}, filter=0x~}}) = 0")
        }
        _ => return None,
    };
    Some(vec![line])
}

fn identity(plan: &Plan<'_>, step: Step) -> Option<Vec<String>> {
    let line = match step {
        Step::SetGroups { .. } => {
            let ids = words(plan, step, "setgroups [", "]");
            format!("setgroups({}, [{ids}]) = 0", ids.split(", ").count())
        }
        Step::SetGid { gid } => format!("setresgid({gid}, {gid}, {gid}) = 0"),
        Step::SetUid { uid } => format!("setresuid({uid}, {uid}, {uid}) = 0"),
        Step::KeepCaps => "prctl(PR_SET_KEEPCAPS, 1) = 0".into(),
        Step::SecureBits { bits: 1 } => "prctl(PR_SET_SECUREBITS, SECBIT_NOROOT) = 0".into(),
        Step::LimitBoundingSet { keep } => return Some(bounding_set(keep)),
        Step::SetCapabilities { capabilities, setpcap } => {
            const SETPCAP: u64 = 1 << 8;
            let words = |set| {
                let words = capabilities_of(set).map(|c| format!("1<<{c}"));
                words.collect::<Vec<_>>().join("|")
            };
            let inheritable = words(capabilities);
            let set = words(capabilities | if setpcap { SETPCAP } else { 0 });
            let data = format!("effective={set}, permitted={set}, inheritable={inheritable}");
            format!("capset({{version=_LINUX_CAPABILITY_VERSION_3, pid=0}}, {{{data}}}) = 0")
        }
        Step::RaiseAmbient { capabilities } => {
            let raise = |c| format!("prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {c}, 0, 0) = 0");
            return Some(capabilities_of(capabilities).map(raise).collect());
        }
        Step::ParentDeathSignal { signal } => {
            format!("prctl(PR_SET_PDEATHSIG, {}) = 0", signal_name(signal))
        }
        Step::CheckParent { pid } => format!("getppid() = {pid}"),
        Step::NoNewPrivs => "prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) = 0".into(),
        _ => return None,
    };
    Some(vec![line])
}

/// Each that the kernel knows is asked for, and one more to see that it is the
/// last.
fn bounding_set(keep: u64) -> Vec<String> {
    let last: u32 =
        fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse().unwrap();
    let mut lines = Vec::new();
    for number in 0..=last {
        let name = capabilities_of(1 << number).next().unwrap();
        lines.push(format!("prctl(PR_CAPBSET_READ, {name}) = "));
        if keep >> number & 1 == 0 {
            lines.push(format!("prctl(PR_CAPBSET_DROP, {name}) = 0"));
        }
    }
    lines.push("prctl(PR_CAPBSET_READ, ~) = -1 EINVAL (Invalid argument)".into());
    lines
}

fn capabilities_of(set: u64) -> impl Iterator<Item = String> {
    Capabilities::from_bits_retain(set).iter_names().map(|(name, _)| format!("CAP_{name}"))
}

fn signals(_: &Plan<'_>, step: Step) -> Option<Vec<String>> {
    Some(vec![match step {
        Step::DefaultSignal { signal } => set_default(signal),
        Step::IgnoreSignal { signal } => set_default(signal).replace("SIG_DFL", "SIG_IGN"),
        Step::ClearHandlers => HANDLERS.into(),
        Step::SignalMask { mask: 0 } => "rt_sigprocmask(SIG_SETMASK, [], NULL, 8) = 0".into(),
        Step::SignalMask { .. } => "rt_sigprocmask(SIG_SETMASK, [USR1], NULL, 8) = 0".into(),
        _ => return None,
    }])
}

fn exec(plan: &Plan<'_>, index: usize) -> Vec<String> {
    let steps = plan.steps();
    let found = (0..index).any(|at| match (steps[at], steps[at + 1]) {
        (Step::Exec { path }, next) => match result_of_exec(text(plan, path)) {
            "0" => true,
            NOEXEC => at + 1 < index && matches!(next, Step::ExecShell { .. }),
            _ => false,
        },
        _ => false,
    });
    if found {
        return Vec::new();
    }
    let (arguments, count) = program(plan);
    match steps[index] {
        Step::Exec { path } => {
            let path = text(plan, path);
            let result = result_of_exec(path);
            vec![format!("execve({path:?}, [{arguments}], 0x~ /* {count} vars */) = {result}")]
        }
        Step::ExecFd { fd } => vec![format!(
            "execveat({fd}, \"\", [{arguments}], 0x~ /* {count} vars */, AT_EMPTY_PATH) = 0"
        )],
        Step::ExecShell { shell, .. } => {
            let Step::Exec { path } = steps[index - 1] else { panic!("{plan}") };
            let (shell, path) = (text(plan, shell), text(plan, path));
            match result_of_exec(path) == NOEXEC {
                // The script takes the place of argument 0.
                true => {
                    let rest = arguments.split_once(", ").map_or("", |(_, rest)| rest);
                    let arguments = format!("{shell:?}, {path:?}, {rest}");
                    let arguments = arguments.trim_end_matches(", ");
                    vec![format!("execve({shell:?}, [{arguments}], 0x~ /* {count} vars */) = 0")]
                }
                false => Vec::new(),
            }
        }
        other => panic!("a step that strace was not asked about: {other}"),
    }
}

const NOEXEC: &str = "-1 ENOEXEC (Exec format error)";

/// As strace has it, which adds the errno in words.
fn result_of_exec(path: &str) -> &'static str {
    match fs::read(path) {
        Ok(bytes) if bytes.starts_with(b"\x7fELF") || bytes.starts_with(b"#!") => "0",
        Ok(_) => NOEXEC,
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT) => "-1 ENOENT (No such file or directory)",
            Some(libc::ENOTDIR) => "-1 ENOTDIR (Not a directory)",
            _ => panic!("{path}: {error}"),
        },
    }
}

/// The arguments as the plan prints them, which is as strace does, and the
/// number of environment strings.
fn program(plan: &Plan<'_>) -> (String, String) {
    let printed = plan.to_string();
    let (_, list) = printed.rsplit_once(" [").unwrap();
    let (arguments, count) = list.split_once("] with ").unwrap();
    (arguments.into(), count.split(' ').next().unwrap().into())
}

fn text<'a>(plan: &Plan<'a>, text: Text) -> &'a str {
    core::str::from_utf8(plan.text(text)).unwrap()
}

/// What the plan's words for a step have between these.
fn words(plan: &Plan<'_>, step: Step, begin: &str, end: &str) -> String {
    let words = plan.show(step).to_string();
    let inner = words.strip_prefix(begin).and_then(|words| words.strip_suffix(end));
    inner.unwrap_or_else(|| panic!("{words}")).into()
}

/// strace's names of `CLONE_NEW*`.
pub(crate) fn clone_flags(kinds: u32) -> String {
    let name = |(name, _)| match name {
        "MOUNT" => "CLONE_NEWNS".into(),
        name => format!("CLONE_NEW{name}"),
    };
    let names: Vec<String> = Namespaces::from_bits_retain(kinds).iter_names().map(name).collect();
    if names.is_empty() { "0".into() } else { names.join("|") }
}

pub(crate) fn set_default(signal: i32) -> String {
    let name = signal_name(signal);
    format!("rt_sigaction({name}, {{sa_handler=SIG_DFL, sa_mask=[], sa_flags=0}}, NULL, 8) = 0")
}

/// strace's name: the kernel's real-time signals begin with 32.
pub(crate) fn signal_name(signal: i32) -> String {
    match (Signal::from(signal).name(), signal) {
        (Some("IO"), _) => "SIGIO".into(),
        (Some(name), _) => format!("SIG{name}"),
        (None, 16) => "SIGSTKFLT".into(),
        (None, 32) => "SIGRTMIN".into(),
        (None, _) => format!("SIGRT_{}", signal - 32),
    }
}
