//! Every kind of step as it is printed, word by word: within its plan, and alone,
//! where it knows neither its strings nor what numbers are called. Nothing is
//! spawned here; that the words are what the child does is in
//! `tests/setup_traced.rs`.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use core::ffi::{c_int, c_void};
use core::ptr;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use forkplan::plan::Step;
use forkplan::{
    Capabilities, Channel, Command, Features, IdRange, IoPriority, Namespaces, Open, PassedFd,
    Resource, Scheduler, Signal,
};
use rustix::process::{Resource as Limited, Rlimit, setrlimit};
use support::isolation::ALLOW;
use support::trace::{kind, kinds_of_the_enum};
use support::{EXCLUSIONS, in_subprocess, own_cpu, terminal};

/// What the numbers from 40 on are: files, and the last a terminal.
type Known<'fd> = [BorrowedFd<'fd>; 5];

/// Runs `body` where those numbers are known and no number is above 63.
fn with_known_numbers(name: &str, body: impl FnOnce(&Known<'_>)) {
    in_subprocess(name, || {
        let limit = Some(64);
        setrlimit(Limited::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
        let null = File::open("/dev/null").unwrap();
        let (_master, terminal) = terminal();
        let from = [null.as_fd(), null.as_fd(), null.as_fd(), null.as_fd(), terminal.as_fd()];
        let fds: [OwnedFd; 5] = from.map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 40).unwrap());
        assert_eq!(fds.each_ref().map(AsRawFd::as_raw_fd), [40, 41, 42, 43, 44]);
        body(&fds.each_ref().map(AsFd::as_fd));
    });
}

/// A command of which nothing depends on who runs the test.
fn command<'fd>(program: &str) -> Command<'fd> {
    let mut command = Command::new(program);
    command.env_clear().inherit_ignored_signals(true);
    command
}

/// A swap, one that stays, a copy of it, and a directory.
fn mapped<'fd>([a, b, c, d, _]: &'fd Known<'_>) -> Command<'fd> {
    let mut command = command("/bin/true");
    command.fd(40, *b).fd(41, *a).fd(42, *c).fd(50, *c).fchdir(PassedFd::borrowed(d));
    command
}

/// What anybody may ask for, and what wants a fork.
fn set_up<'fd>([a, _, _, directory, terminal]: &'fd Known<'_>) -> Command<'fd> {
    unsafe extern "C" fn hook(_: *mut c_void) -> c_int {
        0
    }
    let capabilities = Capabilities::CHOWN | Capabilities::KILL;
    let mut command = command("/bin/true");
    command
        .args(["some", "arguments"])
        .fd(50, *a)
        .chdir("/proc")
        .fchdir(PassedFd::borrowed(directory))
        .chroot("/")
        .current_dir("tmp")
        .umask(0o27)
        .controlling_terminal(PassedFd::borrowed(terminal))
        .foreground(PassedFd::borrowed(terminal))
        .parent_death_signal(Signal::KILL)
        .rlimit(Resource::CORE, 0, 0)
        .rlimit(Resource::CPU, 32, u64::MAX)
        .nice(-1)
        .scheduler(Scheduler::Other)
        .cpu_affinity([own_cpu()])
        .io_priority(IoPriority::BestEffort(7))
        .oom_score_adj(1000)
        .coredump_filter(0x7f)
        .no_new_privs()
        .landlock(PassedFd::borrowed(directory))
        .seccomp([ALLOW; 3])
        .env("KEY", "value")
        .env_pid("OWN")
        .default_signals([Signal::TERM])
        .ignore_signals([Signal::HUP])
        .block_signals([Signal::USR1, Signal::USR2])
        .uid(12_345)
        .gid(12_346)
        .groups([1, 2])
        .securebits(1)
        .bounding_set(capabilities | Capabilities::BPF)
        .ambient_capabilities(capabilities);
    // SAFETY: the hook does nothing.
    unsafe { command.pre_exec(hook, ptr::null_mut()) };
    command
}

/// In a root, of which the program is no part.
fn isolated<'fd>([a, program, namespace, ..]: &'fd Known<'_>) -> Command<'fd> {
    let mut command = command("/name");
    command
        .fd(50, *a)
        .program_fd(PassedFd::borrowed(program))
        .unshare(Namespaces::MOUNT | Namespaces::PID | Namespaces::NET)
        .join_namespace(PassedFd::borrowed(namespace), Namespaces::UTS)
        .join_namespace(PassedFd::borrowed(namespace), Namespaces::empty())
        .private_mounts()
        .pivot_root("/new root")
        .setsid();
    command
}

/// In a user namespace of its own, with a file that it opens there.
fn in_user_namespace<'fd>() -> Command<'fd> {
    let map = [IdRange { inside: 0, outside: 1000, count: 10 }];
    let mut command = command("/bin/true");
    command
        .fds([50, 51], Channel::file_in_child("/etc/passwd", Open::Read))
        .unshare(Namespaces::USER)
        .uid_map(map)
        .gid_map(map)
        .uid(3)
        .gid(4)
        .groups([]);
    command
}

/// A script that is searched for, in a group.
fn script<'fd>([a, ..]: &'fd Known<'_>) -> Command<'fd> {
    let mut command = command("script");
    command.fd(50, *a).arg("it's \"one\"\n").env("PATH", "/nowhere:/bin");
    command.shell_fallback("/bin/sh").process_group(0);
    command
}

/// The plan as it is printed, and each of its steps alone.
fn printed(command: &Command<'_>) -> (String, Vec<String>) {
    let mut prepared = command.prepare().unwrap();
    let opened = prepared.open().unwrap();
    let plan = opened.plan();
    (plan.to_string(), plan.steps().iter().map(ToString::to_string).collect())
}

/// Numbers the lines, as a plan does.
fn numbered(lines: &str) -> String {
    let digits = lines.lines().count().to_string().len();
    let lines = (1..).zip(lines.lines());
    lines.map(|(number, line)| format!("{number:digits$}  {line}\n")).collect()
}

#[test]
fn an_fd_map_prints_its_copies_with_what_they_are_to_the_user() {
    with_known_numbers("an_fd_map_prints_its_copies_with_what_they_are_to_the_user", |fds| {
        let closings = [
            (Features::empty(), "close_range 44 -> ~0 UNSHARE\nclose_range 0 -> 43 CLOEXEC\n"),
            (Features::SHARED_FILES, "close_range 0 -> ~0 CLOEXEC\n"),
            (Features::CLOSE_RANGE, "fcntl 0.. F_SETFD FD_CLOEXEC, those in /proc/self/fd\n"),
            (Features::CLOSE_RANGE | Features::PROC_FD, "fcntl 0..64 F_SETFD FD_CLOEXEC, each\n"),
        ];
        for (without, closing) in closings {
            let expected = numbered(&format!(
                "{closing}\
                 fchdir 43\n\
                 dup2 42 -> 50  (parent's 42)\n\
                 dup3 40 -> 0 CLOEXEC\n\
                 dup2 41 -> 40  (parent's 41)\n\
                 dup2 0 -> 41  (parent's 40)\n\
                 fcntl 42 F_SETFD 0  (parent's 42)\n\
                 sigprocmask SIG_SETMASK []\n\
                 execve \"/bin/true\" [\"/bin/true\"] with 0 environment strings\n"
            ));
            assert_eq!(printed(mapped(fds).without(without)).0, expected);
        }
    });
}

#[test]
fn what_a_child_sets_up_prints_as_its_calls_with_the_platforms_names() {
    let name = "what_a_child_sets_up_prints_as_its_calls_with_the_platforms_names";
    with_known_numbers(name, |fds| {
        let mut command = set_up(fds);
        command.without(Features::CLONE3);
        let (cpu, parent) = (own_cpu(), std::process::id());
        let expected = numbered(&format!(
            "close_range 0 -> ~0 CLOEXEC\n\
             write \"/proc/self/oom_score_adj\" \"1000\"\n\
             write \"/proc/self/coredump_filter\" \"0x7f\"\n\
             setsid\n\
             ioctl 44 TIOCSCTTY\n\
             tcsetpgrp 44\n\
             chdir \"/proc\"\n\
             fchdir 43\n\
             chroot \"/\"\n\
             chdir \"tmp\"\n\
             umask 0o027\n\
             dup2 40 -> 50  (parent's 40)\n\
             prlimit RLIMIT_CORE [0, 0]\n\
             prlimit RLIMIT_CPU [32, unlimited]\n\
             sched_setscheduler 0 0\n\
             setpriority -1\n\
             sched_setaffinity [{cpu}]\n\
             ioprio_set 0x4007\n\
             prctl PR_CAPBSET_DROP, all but 0x8000000021\n\
             prctl PR_SET_KEEPCAPS 1\n\
             setgroups [1, 2]\n\
             setresgid 12346\n\
             setresuid 12345\n\
             capset 0x21, and CAP_SETPCAP until exec\n\
             prctl PR_CAP_AMBIENT_RAISE 0x21\n\
             prctl PR_SET_SECUREBITS 0x1\n\
             prctl PR_SET_PDEATHSIG SIGKILL\n\
             getppid, which is {parent}\n\
             prctl PR_SET_NO_NEW_PRIVS 1\n\
             landlock_restrict_self 43\n\
             sigaction SIG_DFL for each signal with a handler\n\
             sigaction SIGTERM SIG_DFL\n\
             sigaction SIGHUP SIG_IGN\n\
             getpid, written into the environment\n\
             the hook\n\
             seccomp SECCOMP_SET_MODE_FILTER, 3 instructions\n\
             sigprocmask SIG_SETMASK [SIGUSR1, SIGUSR2]\n\
             execve \"/bin/true\" [\"/bin/true\", \"some\", \"arguments\"] with 2 environment strings\n"
        ));
        assert_eq!(printed(&command).0, expected);
    });
}

#[test]
fn a_child_in_new_namespaces_prints_them_first() {
    with_known_numbers("a_child_in_new_namespaces_prints_them_first", |fds| {
        let steps = numbered(
            "close_range 0 -> ~0 CLOEXEC\n\
             setns 42 CLONE_NEWUTS\n\
             setns 42 0\n\
             mount \"/\" MS_REC|MS_PRIVATE\n\
             pivot_root \"/new root\"\n\
             setsid\n\
             dup2 40 -> 50  (parent's 40)\n\
             sigprocmask SIG_SETMASK []\n\
             execveat 41 AT_EMPTY_PATH [\"/name\"] with 0 environment strings\n",
        );
        let namespaces = "CLONE_NEWNS|CLONE_NEWPID|CLONE_NEWNET";
        let expected = format!("A child in new namespaces, {namespaces}:\n{steps}");
        assert_eq!(printed(&isolated(fds)).0, expected);
    });
}

#[test]
fn a_child_waits_for_its_id_maps_and_then_opens_its_files() {
    let command = in_user_namespace();
    let mut prepared = command.prepare().unwrap();
    let opened = prepared.open().unwrap();
    let plan = opened.plan();
    let &[_, Step::Close { fd: ours }, Step::AwaitParent { fd }, Step::Dup2 { from, .. }, ..] =
        plan.steps()
    else {
        panic!("{plan}")
    };
    let label = "(child's file \\\"/etc/passwd\\\")";
    let steps = numbered(&format!(
        "close_range 0 -> ~0 CLOEXEC\n\
         close {ours}\n\
         read {fd}, until the id maps are written\n\
         dup2 {from} -> 50  {label}\n\
         dup2 {from} -> 51  {label}\n\
         setgroups []\n\
         setresgid 4\n\
         setresuid 3\n\
         openat \"/etc/passwd\" 0o0 -> 50  {label}\n\
         dup2 50 -> 51  {label}\n\
         sigprocmask SIG_SETMASK []\n\
         execve \"/bin/true\" [\"/bin/true\"] with 0 environment strings\n"
    ));
    let expected = format!("A child in new namespaces, CLONE_NEWUSER:\n{steps}");
    assert_eq!(plan.to_string(), expected);
}

#[test]
fn a_search_prints_each_candidate_and_the_arguments_once() {
    with_known_numbers("a_search_prints_each_candidate_and_the_arguments_once", |fds| {
        let expected = numbered(
            "close_range 41 -> ~0 UNSHARE\n\
             close_range 0 -> 40 CLOEXEC\n\
             setpgid 0 0\n\
             dup2 40 -> 50  (parent's 40)\n\
             sigprocmask SIG_SETMASK []\n\
             execve \"/nowhere/script\" [\"script\", \"it's \\\"one\\\"\\n\"] with 1 environment strings\n\
             execve \"/bin/sh\" if that is a script without #!\n\
             execve \"/bin/script\"\n\
             execve \"/bin/sh\" if that is a script without #!\n",
        );
        assert_eq!(printed(&script(fds)).0, expected);
    });
}

/// Whatever has a place in this file, and one that nothing is closed for.
fn commands<'fd>(fds: &'fd Known<'_>) -> Vec<Command<'fd>> {
    let mut open = mapped(fds);
    open.inherit_unnamed_fds(true).landlock(PassedFd::borrowed(&fds[3]));
    let mut commands =
        vec![open, set_up(fds), isolated(fds), in_user_namespace(), script(fds), mapped(fds)];
    for without in EXCLUSIONS {
        commands.push(mapped(fds).without(without).clone());
    }
    commands
}

#[test]
fn every_kind_of_step_is_printed_here_and_needs_its_plan_for_strings_alone() {
    let name = "every_kind_of_step_is_printed_here_and_needs_its_plan_for_strings_alone";
    with_known_numbers(name, |fds| {
        let mut kinds = BTreeSet::new();
        for command in commands(fds) {
            let mut prepared = command.prepare().unwrap();
            let opened = prepared.open().unwrap();
            let plan = opened.plan();
            for &step in plan.steps() {
                kinds.insert(kind(step));
                let (within, alone) = (plan.show(step).to_string(), step.to_string());
                assert!(plan.to_string().contains(&within), "{within}");
                let expected = match step {
                    Step::WriteFile { .. } => "write",
                    Step::SetGroups { .. } => "setgroups",
                    Step::SetLimit { resource: 0, .. } => "prlimit 0",
                    Step::SetLimit { .. } => "prlimit 4",
                    Step::SetAffinity { .. } => "sched_setaffinity",
                    Step::SetNs { kind: 0, .. } => "setns 42 0",
                    Step::SetNs { .. } => "setns 42 0x4000000",
                    Step::Chdir { .. } => "chdir",
                    Step::Chroot { .. } => "chroot",
                    Step::PivotRoot { .. } => "pivot_root",
                    Step::OpenFile { .. } => "openat 0o0 -> 50",
                    Step::ParentDeathSignal { .. } => "prctl PR_SET_PDEATHSIG 9",
                    Step::DefaultSignal { .. } => "sigaction 15 SIG_DFL",
                    Step::IgnoreSignal { .. } => "sigaction 1 SIG_IGN",
                    Step::SignalMask { mask: 0 } => "sigprocmask SIG_SETMASK []",
                    Step::SignalMask { .. } => "sigprocmask SIG_SETMASK [10, 12]",
                    Step::Exec { .. } => "execve",
                    Step::ExecShell { .. } => "execve if that is a script without #!",
                    _ => &within,
                };
                assert_eq!(alone, expected, "{within}");
            }
        }
        assert_eq!(kinds, kinds_of_the_enum());
    });
}

#[test]
fn where_unnamed_fds_stay_open_a_spare_number_and_a_mark_are_printed() {
    with_known_numbers(
        "where_unnamed_fds_stay_open_a_spare_number_and_a_mark_are_printed",
        |fds| {
            let command = &commands(fds)[0];
            let mut prepared = command.prepare().unwrap();
            let opened = prepared.open().unwrap();
            let plan = opened.plan();
            let spare = plan.steps().iter().find_map(|step| match step {
                Step::DupCloexec { to, .. } => Some(to),
                _ => None,
            });
            let spare = spare.unwrap();
            let expected = numbered(&format!(
                "fchdir 43\n\
                 fcntl 43 F_SETFD FD_CLOEXEC\n\
                 dup2 42 -> 50  (parent's 42)\n\
                 dup3 40 -> {spare} CLOEXEC\n\
                 dup2 41 -> 40  (parent's 41)\n\
                 dup2 {spare} -> 41  (parent's 40)\n\
                 fcntl 42 F_SETFD 0  (parent's 42)\n\
                 landlock_restrict_self 43\n\
                 sigprocmask SIG_SETMASK []\n\
                 execve \"/bin/true\" [\"/bin/true\"] with 0 environment strings\n"
            ));
            assert_eq!(plan.to_string(), expected);
        },
    );
}

#[test]
fn a_plan_tells_where_the_program_finds_what_the_parent_has() {
    with_known_numbers("a_plan_tells_where_the_program_finds_what_the_parent_has", |fds| {
        let command = mapped(fds);
        let mut prepared = command.prepare().unwrap();
        let opened = prepared.open().unwrap();
        let places = [40, 41, 42, 43, 50].map(|fd| opened.plan().place(fd));
        // Of two copies the lower one; an fd for a step is closed.
        assert_eq!(places, [Some(41), Some(40), Some(42), None, None]);

        // What holds the number of a file that the child opens is not what it gets.
        let mut command = Command::new("/bin/true");
        command.fds([50, 51], Channel::file_in_child("/etc/passwd", Open::Read));
        let mut prepared = command.prepare().unwrap();
        let opened = prepared.open().unwrap();
        let plan = opened.plan();
        let held = plan.steps().iter().find_map(|step| match *step {
            Step::Dup2 { from, to: 50 } => Some(from),
            _ => None,
        });
        assert_eq!(plan.place(held.unwrap()), None, "{plan}");
    });
}
