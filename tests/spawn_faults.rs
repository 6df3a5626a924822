//! Each step of the child fails, or kills it: the error names the step, and
//! nothing is left.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::collections::HashSet;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};

use forkplan::Channel::{self, ReadPipe};
use forkplan::plan::Step;
use forkplan::{Command, Features, Prepared, Signal, SpawnError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::faults::{STRANGE, Target, Verdict, fault, fault_of_start};
use support::seccomp::{Rule, under};
use support::{EXCLUSIONS, PATHS, description, fds_of_self, in_subprocess, no_child_is_left};

/// The rule that hits this step of the child, and none of the parent's calls.
fn rule_for(step: Step, verdict: Verdict<'_>) -> Rule {
    const SETFD: i32 = libc::F_SETFD;
    match step {
        Step::Unshare { .. } => verdict(libc::SYS_close_range).with(2, 1 << 1),
        Step::MarkRange { .. } => verdict(libc::SYS_close_range).with(2, 1 << 2),
        Step::MarkListed { .. } => verdict(libc::SYS_getdents64),
        Step::MarkEach { first, .. } => verdict(libc::SYS_fcntl).with(0, first).with(1, SETFD),
        #[cfg(target_arch = "x86_64")]
        Step::Dup2 { from, to } => verdict(libc::SYS_dup2).with(0, from).with(1, to),
        #[cfg(not(target_arch = "x86_64"))]
        Step::Dup2 { from, to } => verdict(libc::SYS_dup3).with(0, from).with(1, to).with(2, 0),
        Step::DupCloexec { from, to } => {
            verdict(libc::SYS_dup3).with(0, from).with(1, to).with(2, libc::O_CLOEXEC)
        }
        Step::ClearCloexec { fd } => verdict(libc::SYS_fcntl).with(0, fd).with(1, SETFD).with(2, 0),
        Step::SetCloexec { fd } => verdict(libc::SYS_fcntl).with(0, fd).with(1, SETFD).with(2, 1),
        Step::Chdir { .. } => verdict(libc::SYS_chdir),
        // One sets, the other asks first.
        Step::DefaultSignal { signal } => {
            verdict(libc::SYS_rt_sigaction).with(0, signal).having(1, -1)
        }
        Step::ClearHandlers => verdict(libc::SYS_rt_sigaction).with(0, 1).with(1, 0),
        // The masks that the parent sets are on its own stack.
        Step::SignalMask { .. } => {
            verdict(libc::SYS_rt_sigprocmask).with(0, libc::SIG_SETMASK).unless_on_this_stack(1)
        }
        Step::Exec { .. } => verdict(libc::SYS_execve),
        other => panic!("a step without a fault test: {other}"),
    }
}

/// Three fds of the parent's, for a map that needs every kind of step: two that
/// change places and one that stays.
struct Three([OwnedFd; 3]);

impl Three {
    fn new() -> Self {
        Self([(); 3].map(|()| tempfile::tempfile().unwrap().into()))
    }

    fn command(&self) -> Command<'_> {
        let [a, b, c] = &self.0;
        let mut command = Command::new("/bin/true");
        command
            .current_dir("/")
            .fd(a.as_raw_fd(), Channel::borrowed(b))
            .fd(b.as_raw_fd(), Channel::borrowed(a))
            .fd(c.as_raw_fd(), Channel::borrowed(c))
            .fd(1, ReadPipe);
        command
    }
}

/// How a child is made, and what it makes of the plan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Spawn,
    Start,
}

impl By {
    fn steps(self, prepared: &mut Prepared<'_>) -> Vec<Step> {
        match self {
            Self::Spawn => prepared.open().unwrap().plan().steps().to_vec(),
            Self::Start => {
                let starting = prepared.try_clone().unwrap().start();
                let steps = starting.plan().steps().to_vec();
                starting.finish().1.unwrap().wait().unwrap();
                steps
            }
        }
    }

    fn fault(self, prepared: &mut Prepared<'_>, index: usize, verdict: Verdict<'_>) -> SpawnError {
        let rule = |target: Target| rule_for(target.step, verdict);
        match self {
            Self::Spawn => fault(prepared, index, rule),
            Self::Start => fault_of_start(prepared, index, rule),
        }
    }
}

/// Calls `check` for each step of each kind of plan, in a process of its own.
fn for_each_step(name: &str, by: By, check: impl Fn(&mut Prepared<'_>, usize)) {
    in_subprocess(name, || {
        // Of the slowest way of closing; and no core files.
        let Rlimit { current, .. } = getrlimit(Resource::Nofile);
        let current = current.map(|limit| limit.min(1024));
        setrlimit(Resource::Nofile, Rlimit { current, maximum: current }).unwrap();
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
        let three = Three::new();
        let mut kinds = HashSet::new();
        for inherit in [false, true] {
            for without in EXCLUSIONS {
                let mut command = three.command();
                command.without(without).inherit_unnamed_fds(inherit);
                let mut prepared = command.prepare().unwrap();
                let before = fds_of_self();
                let steps = by.steps(&mut prepared);
                kinds.extend(steps.iter().map(core::mem::discriminant));
                for index in 0..steps.len() {
                    check(&mut prepared, index);
                    assert!(no_child_is_left());
                    assert_eq!(fds_of_self(), before);
                }
                // The control: nothing but the fault was in the way.
                assert!(prepared.spawn().unwrap().wait().unwrap().success());
            }
        }
        // Every kind of step that there is has been here. A start shares no table.
        assert_eq!(kinds.len(), if by == By::Spawn { 13 } else { 12 });
    });
}

fn fails(name: &str, by: By) {
    for_each_step(name, by, |prepared, index| {
        // A start is tried again without it, as `Prepared::spawn` is, whatever the errno.
        if by == By::Start && matches!(by.steps(prepared)[index], Step::MarkListed { .. }) {
            return;
        }
        let error = by.fault(prepared, index, &|number| Rule::errno(number, STRANGE));
        assert_eq!(error.raw_os_error(), Some(STRANGE));
        assert_eq!(error.signal(), None);
        assert!(error.to_string().starts_with(description(&error).unwrap()), "{error}");
    });
}

fn is_killed(name: &str, by: By) {
    for_each_step(name, by, |prepared, index| {
        let error = by.fault(prepared, index, &Rule::kill);
        assert_eq!((error.raw_os_error(), error.signal()), (None, Some(Signal::SYS)));
        assert_eq!(error.kind(), ErrorKind::Other);
        assert!(error.to_string().ends_with(": the child was killed by SIGSYS"), "{error}");
    });
}

#[test]
fn a_step_that_fails_is_named_with_its_errno() {
    fails("a_step_that_fails_is_named_with_its_errno", By::Spawn);
}

#[test]
fn a_child_that_is_killed_at_a_step_is_no_child_that_started() {
    is_killed("a_child_that_is_killed_at_a_step_is_no_child_that_started", By::Spawn);
}

#[test]
fn a_step_of_a_start_that_fails_is_named_too() {
    fails("a_step_of_a_start_that_fails_is_named_too", By::Start);
}

#[test]
fn nor_is_one_of_a_start_that_is_killed_at_a_step() {
    is_killed("nor_is_one_of_a_start_that_is_killed_at_a_step", By::Start);
}

#[test]
fn a_candidate_in_the_middle_of_a_search_may_be_the_one() {
    in_subprocess("a_candidate_in_the_middle_of_a_search_may_be_the_one", || {
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
        for without in PATHS {
            let mut command = Command::new("true");
            command.env("PATH", "/nowhere:/bin:/usr/bin").without(without);
            let mut prepared = command.prepare().unwrap();
            let all = [Rule::kill(libc::SYS_execve)];
            let error = under(&all, || prepared.spawn().unwrap_err());
            assert_eq!(error.signal(), Some(Signal::SYS));
            assert_eq!(description(&error), Some("execve \"/nowhere/true\""));
            let all = [Rule::errno(libc::SYS_execve, STRANGE)];
            let error = under(&all, || prepared.spawn().unwrap_err());
            assert_eq!(description(&error), Some("execve \"/nowhere/true\""));
            assert!(no_child_is_left());
        }
    });
}

/// What a caller sees who takes the end of the vfork for the exec, as std and
/// the `posix_spawn` of libc do.
#[test]
fn control_std_says_started_of_a_child_that_was_killed_at_exec() {
    use std::os::unix::process::ExitStatusExt;
    in_subprocess("control_std_says_started_of_a_child_that_was_killed_at_exec", || {
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
        under(&[Rule::kill(libc::SYS_execve)], || {
            let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGSYS));
            Command::new("/bin/true").spawn().unwrap_err();
        });
    });
}

#[test]
fn without_a_pidfd_a_killed_child_is_found_out_too() {
    in_subprocess("without_a_pidfd_a_killed_child_is_found_out_too", || {
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
        let pidfd = Features::PIDFD;
        for without in [pidfd, pidfd | Features::SHARED_MEMORY, pidfd | Features::CLONE3] {
            let mut prepared = Command::new("/bin/true").without(without).prepare().unwrap();
            let kill = [Rule::kill(libc::SYS_execve)];
            let error = under(&kill, || prepared.spawn().unwrap_err());
            assert_eq!(error.signal(), Some(Signal::SYS));
            assert!(no_child_is_left());
        }
    });
}
