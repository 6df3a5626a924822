//! Each step that sets up the child fails, or kills it: the error names the
//! step, and nothing is left.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use forkplan::Channel::{self, Null};
use forkplan::plan::Step;
use forkplan::{
    Capabilities, Command, IoPriority, Open, PassedFd, Resource, Scheduler, Signal, SpawnError,
};
use support::faults::{STRANGE, Target, Verdict, for_each_fault};
use support::isolation::is_root;
use support::seccomp::{Rule, under};
use support::{
    PATHS, description, fds_of_self, in_subprocess, no_child_is_left, own_cpu, terminal,
};

/// None: tests/spawn_faults.rs or tests/setup_faults_isolation.rs has it.
fn rules(Target { step, .. }: Target, verdict: Verdict<'_>) -> Vec<Rule> {
    let prctl = |option| verdict(libc::SYS_prctl).with(0, option);
    let ioctl =
        |fd, request: libc::Ioctl| verdict(libc::SYS_ioctl).with(0, fd).with(1, request as i32);
    vec![match step {
        // The directory itself: tests/spawn_faults.rs.
        Step::Fchdir { fd } => verdict(libc::SYS_fchdir).with(0, fd),
        Step::Chroot { .. } => verdict(libc::SYS_chroot),
        Step::Umask { .. } => verdict(libc::SYS_umask),
        Step::SetGroups { .. } => verdict(libc::SYS_setgroups),
        Step::SetGid { gid } => verdict(libc::SYS_setresgid).with(2, gid as i32),
        Step::SetUid { uid } => verdict(libc::SYS_setresuid).with(2, uid as i32),
        Step::KeepCaps => prctl(libc::PR_SET_KEEPCAPS),
        Step::SecureBits { .. } => prctl(libc::PR_SET_SECUREBITS),
        Step::LimitBoundingSet { .. } => prctl(libc::PR_CAPBSET_DROP),
        Step::SetCapabilities { .. } => verdict(libc::SYS_capset),
        Step::RaiseAmbient { .. } => prctl(libc::PR_CAP_AMBIENT),
        Step::NoNewPrivs => prctl(libc::PR_SET_NO_NEW_PRIVS),
        Step::ParentDeathSignal { .. } => prctl(libc::PR_SET_PDEATHSIG),
        Step::SetSid => verdict(libc::SYS_setsid),
        // The parent asks for another process, and the largest group.
        Step::SetPgid { pgid } => verdict(libc::SYS_setpgid).with(0, 0).with(1, pgid),
        Step::ControllingTerminal { fd } => ioctl(fd, libc::TIOCSCTTY),
        Step::Foreground { fd } => ioctl(fd, libc::TIOCSPGRP),
        Step::CheckParent { .. } => verdict(libc::SYS_getppid),
        Step::SetLimit { resource, .. } => {
            verdict(libc::SYS_prlimit64).with(1, resource).having(2, -1)
        }
        Step::SetNice { .. } => verdict(libc::SYS_setpriority),
        Step::SetScheduler { .. } => verdict(libc::SYS_sched_setscheduler),
        Step::SetAffinity { .. } => verdict(libc::SYS_sched_setaffinity),
        Step::SetIoPriority { .. } => verdict(libc::SYS_ioprio_set),
        // The parent opens for reading.
        Step::WriteFile { .. } => {
            verdict(libc::SYS_openat).with(2, libc::O_WRONLY | libc::O_CLOEXEC)
        }
        // The parent's are CLOEXEC.
        Step::OpenFile { flags, .. } => verdict(libc::SYS_openat).with(2, flags | libc::O_NOCTTY),
        Step::IgnoreSignal { signal } => {
            verdict(libc::SYS_rt_sigaction).with(0, signal).having(1, -1)
        }
        _ => return Vec::new(),
    }]
}

/// What the commands lend.
struct Lent {
    root: File,
    slave: File,
    _master: OwnedFd,
}

impl Lent {
    fn new() -> Self {
        let (master, slave) = terminal();
        Self { root: File::open("/").unwrap(), slave, _master: master }
    }

    /// What anybody may ask for.
    fn ordinary(&self) -> Command<'_> {
        let mut command = Command::new("/bin/true");
        command
            .fd(0, Null)
            .fds([5, 6], Channel::file_in_child("/etc/passwd", Open::Read))
            .fchdir(PassedFd::borrowed(&self.root))
            .umask(0o77)
            .controlling_terminal(PassedFd::borrowed(&self.slave))
            .foreground(PassedFd::borrowed(&self.slave))
            .parent_death_signal(Signal::KILL)
            .rlimit(Resource::CORE, 0, 0)
            .nice(19)
            .scheduler(Scheduler::Batch)
            .cpu_affinity([own_cpu()])
            .io_priority(IoPriority::Idle)
            .oom_score_adj(1000)
            .no_new_privs()
            .ignore_signals([Signal::USR1]);
        command
    }

    fn in_a_group(&self) -> Command<'_> {
        let mut command = Command::new("/bin/true");
        command.fd(0, Null).process_group(0);
        command
    }

    /// What wants privileges, and a fork.
    fn privileged(&self) -> Command<'_> {
        let mut command = self.ordinary();
        command
            .chroot("/")
            .uid(12_345)
            .gid(12_345)
            .groups([1, 2])
            .securebits(0)
            .bounding_set(Capabilities::CHOWN)
            .ambient_capabilities(Capabilities::CHOWN);
        command
    }

    /// How many kinds of steps, of those with a rule, all of them have.
    fn commands(&self) -> (Vec<Command<'_>>, usize) {
        let mut commands = vec![self.ordinary(), self.in_a_group()];
        if is_root("faults of steps that want privileges") {
            commands.push(self.privileged());
            return (commands, 26);
        }
        (commands, 17)
    }
}

/// Calls `check` with the error of each step of each command, in a process of
/// its own.
fn for_each_step(name: &str, verdict: Verdict<'_>, check: impl Fn(Step, &SpawnError)) {
    in_subprocess(name, || {
        let lent = Lent::new();
        let (commands, expected) = lent.commands();
        assert_eq!(for_each_fault(commands, rules, verdict, check), expected);
    });
}

#[test]
fn a_setup_step_that_fails_is_named_with_its_errno() {
    let name = "a_setup_step_that_fails_is_named_with_its_errno";
    for_each_step(name, &|number| Rule::errno(number, STRANGE), |step, error| {
        let errno = match step {
            // No answer is the parent's pid.
            Step::CheckParent { .. } => libc::ESRCH,
            _ => STRANGE,
        };
        assert_eq!((error.raw_os_error(), error.signal()), (Some(errno), None));
        assert!(error.to_string().starts_with(description(error).unwrap()), "{error}");
    });
}

#[test]
fn a_child_that_is_killed_at_a_setup_step_is_no_child_that_started() {
    let name = "a_child_that_is_killed_at_a_setup_step_is_no_child_that_started";
    for_each_step(name, &Rule::kill, |_, error| {
        assert_eq!((error.raw_os_error(), error.signal()), (None, Some(Signal::SYS)));
        assert!(error.to_string().ends_with(": the child was killed by SIGSYS"), "{error}");
    });
}

/// A step of several calls is named whichever of them fails.
#[test]
fn a_step_is_named_whichever_of_its_calls_fails() {
    in_subprocess("a_step_is_named_whichever_of_its_calls_fails", || {
        for without in PATHS {
            let mut command = Command::new("/bin/true");
            command.fd(0, Null).oom_score_adj(1000).without(without);
            let mut prepared = command.prepare().unwrap();
            let before = fds_of_self();
            let words = "write \"/proc/self/oom_score_adj\" \"1000\"";
            let strange = [Rule::errno(libc::SYS_write, STRANGE)];
            let error = under(&strange, || prepared.spawn().unwrap_err());
            assert_eq!((description(&error), error.raw_os_error()), (Some(words), Some(STRANGE)));
            let error = under(&[Rule::kill(libc::SYS_write)], || prepared.spawn().unwrap_err());
            assert_eq!((description(&error), error.signal()), (Some(words), Some(Signal::SYS)));
            assert!(no_child_is_left());
            assert_eq!(fds_of_self(), before);
        }
    });
}

#[test]
fn a_file_of_the_childs_is_named_whichever_of_its_calls_fails() {
    in_subprocess("a_file_of_the_childs_is_named_whichever_of_its_calls_fails", || {
        let mut command = Command::new("/bin/true");
        command.fd(700, Channel::file_in_child("/etc/passwd", Open::Read));
        let mut prepared = command.prepare().unwrap();
        let before = fds_of_self();
        let words = format!("openat \"/etc/passwd\" {:#o} -> 700", libc::O_RDONLY);
        let steps = prepared.open().unwrap().plan().steps().to_vec();
        let placeholder = steps.iter().find_map(|step| match *step {
            Step::Dup2 { from, to: 700 } => Some(from),
            _ => None,
        });
        // The copy of the file, and not that of the placeholder.
        #[cfg(target_arch = "x86_64")]
        let dup = libc::SYS_dup2;
        #[cfg(not(target_arch = "x86_64"))]
        let dup = libc::SYS_dup3;
        let numbers = (0..64).filter(|&from| Some(from) != placeholder);
        let copies = |verdict: Verdict<'_>| -> Vec<Rule> {
            numbers.clone().map(|from| verdict(dup).with(0, from).with(1, 700)).collect()
        };
        let strange = copies(&|number| Rule::errno(number, STRANGE));
        let error = under(&strange, || prepared.spawn().unwrap_err());
        assert_eq!((description(&error), error.raw_os_error()), (Some(&*words), Some(STRANGE)));
        let error = under(&copies(&Rule::kill), || prepared.spawn().unwrap_err());
        assert_eq!((description(&error), error.signal()), (Some(&*words), Some(Signal::SYS)));
        assert!(no_child_is_left());
        assert_eq!(fds_of_self(), before);
    });
}

/// The control: a rule for a step that no plan has is in nobody's way.
#[test]
fn control_a_rule_that_hits_no_step_lets_the_child_start() {
    in_subprocess("control_a_rule_that_hits_no_step_lets_the_child_start", || {
        let lent = Lent::new();
        let rule = Rule::kill(libc::SYS_setpgid).with(0, 0).with(1, lent.root.as_raw_fd());
        let mut child = under(&[rule], || lent.ordinary().spawn().unwrap());
        // The thread that spawned, which is the parent, has ended.
        assert!(matches!(child.wait().unwrap().signal(), None | Some(Signal::KILL)));
        assert!(no_child_is_left());
    });
}
