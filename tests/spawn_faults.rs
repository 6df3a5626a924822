//! Children that are killed, or fail, in the middle of a search or at their very
//! end. Each call of each step that fails, or kills: `tests/proof_errnos.rs`.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use forkplan::{Command, Features, Signal};
use rustix::process::{Resource, Rlimit, setrlimit};
use support::faults::STRANGE;
use support::seccomp::{Rule, under};
use support::state::State;
use support::{EXCLUSIONS, PATHS, description, in_subprocess, no_child_is_left};

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

#[test]
fn a_child_that_has_failed_has_failed_however_it_ends() {
    in_subprocess("a_child_that_has_failed_has_failed_however_it_ends", || {
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
        for without in EXCLUSIONS {
            let mut command = Command::new("/nowhere/program");
            let mut prepared = command.without(without).prepare().unwrap();
            let before = State::of_process();
            let opened = prepared.open().unwrap();
            let error = under(&[Rule::kill(libc::SYS_exit_group)], || opened.spawn().unwrap_err());
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
            assert!(no_child_is_left());
            State::of_process().assert_is(&before, "killed as it ends");
        }
    });
}
