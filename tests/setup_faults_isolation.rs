//! The clone that should have shut the child in is refused. The steps that do:
//! `tests/proof_errnos.rs`.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::fs::File;
use std::os::fd::AsRawFd;

use forkplan::{Command, Features, Namespaces, PassedFd, SpawnError};
use support::faults::STRANGE;
use support::isolation::{Cgroup, become_nobody, is_root};
use support::seccomp::{Rule, under};
use support::state::State;
use support::{description, end, in_subprocess, no_child_is_left};

/// The errors of both ways to spawn, where the clone is refused so. Nothing is
/// left of either.
fn refused(command: &Command<'_>, rules: &[Rule]) -> [SpawnError; 2] {
    let mut prepared = command.prepare().unwrap();
    let before = State::now();
    let errors = under(rules, || {
        let as_planned = prepared.open().unwrap().spawn().unwrap_err();
        [as_planned, prepared.spawn().unwrap_err()]
    });
    assert!(no_child_is_left());
    State::now().assert_is(&before, "a clone that was refused");
    errors
}

#[test]
fn a_clone_that_is_refused_names_what_it_was_to_be_in() {
    let name = "a_clone_that_is_refused_names_what_it_was_to_be_in";
    if !is_root(name) {
        return;
    }
    in_subprocess(name, || {
        let mut namespaces = Command::new(end());
        namespaces.unshare(Namespaces::UTS | Namespaces::IPC);
        let words = [
            "clone3 into new namespaces CLONE_NEWUTS|CLONE_NEWIPC",
            "clone into new namespaces CLONE_NEWUTS|CLONE_NEWIPC",
        ];
        for errno in [libc::EPERM, libc::ENOSYS, libc::EINVAL, STRANGE] {
            let both = [libc::SYS_clone3, libc::SYS_clone].map(|call| Rule::errno(call, errno));
            let errors = refused(&namespaces, &both);
            // Only what may be a refusal of the call itself is tried by the other.
            let tried = if errno == STRANGE { [words[0]; 2] } else { words };
            assert_eq!(errors.each_ref().map(|error| description(error).unwrap()), tried);
            assert!(errors.iter().all(|error| error.raw_os_error() == Some(errno)));
            let mut old = namespaces.clone();
            let errors = refused(old.without(Features::CLONE3), &both);
            assert!(errors.iter().all(|error| description(error) == Some(words[1])));

            let Some(cgroup) = Cgroup::new(name) else { continue };
            let fd = cgroup.directory().as_raw_fd();
            let mut command = Command::new(end());
            command.cgroup(PassedFd::borrowed(cgroup.directory()));
            for error in refused(&command, &both[..1]) {
                let words = format!("clone3 into the cgroup of fd {fd}");
                assert_eq!(description(&error), Some(words.as_str()));
                assert_eq!((error.raw_os_error(), error.step()), (Some(errno), None));
            }
            command.unshare(Namespaces::UTS);
            for error in refused(&command, &both[..1]) {
                let words =
                    format!("clone3 into new namespaces CLONE_NEWUTS into the cgroup of fd {fd}");
                assert_eq!(description(&error), Some(words.as_str()));
            }
            // The control: nothing else was in the way.
            assert!(command.spawn().unwrap().wait().unwrap().success());
        }
        // Where only the newer call is refused, the older does it.
        let rules = [Rule::errno(libc::SYS_clone3, libc::EPERM)];
        let mut child = under(&rules, || namespaces.spawn().unwrap());
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn the_kernels_own_refusals_are_named_too() {
    let name = "the_kernels_own_refusals_are_named_too";
    in_subprocess(name, || {
        let no_cgroup = File::open("/").unwrap();
        let fd = no_cgroup.as_raw_fd();
        let mut command = Command::new(end());
        for error in refused(command.cgroup(PassedFd::borrowed(&no_cgroup)), &[]) {
            assert_eq!(
                error.to_string(),
                format!("clone3 into the cgroup of fd {fd}: Bad file descriptor")
            );
        }
        become_nobody();
        let mut command = Command::new(end());
        for error in refused(command.unshare(Namespaces::UTS), &[]) {
            let words = "clone3 into new namespaces CLONE_NEWUTS: Operation not permitted";
            assert_eq!(error.to_string(), words);
        }
    });
}
