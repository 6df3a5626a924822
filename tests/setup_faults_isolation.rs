//! Each step that shuts the child in fails, or kills it, whichever of its calls
//! it is; and the clone that should have done so is refused.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use forkplan::plan::Step;
use forkplan::{Command, Features, IdRange, Namespaces, PassedFd, Signal, SpawnError};
use support::faults::{STRANGE, Target, Verdict, for_each_fault};
use support::isolation::{ALLOW, Cgroup, access, become_nobody, is_root, ruleset};
use support::seccomp::{Rule, under};
use support::{
    description, end, fds_of_self, in_subprocess, no_child_is_left, skipped, write_program,
};
use tempfile::TempDir;

/// None: tests/spawn_faults.rs or tests/setup_faults.rs has it.
fn rules(Target { step, path }: Target, verdict: Verdict<'_>) -> Vec<Rule> {
    const PRIVATE: libc::c_ulong = libc::MS_REC | libc::MS_PRIVATE;
    const BIND: libc::c_ulong = libc::MS_BIND | libc::MS_REC;
    match step {
        // The parent closes its own under the same number.
        Step::Close { fd } => {
            verdict(libc::SYS_close).with(0, fd).by_this_program().into_iter().collect()
        }
        Step::AwaitParent { fd } => vec![verdict(libc::SYS_read).with(0, fd)],
        Step::SetNs { fd, .. } => vec![verdict(libc::SYS_setns).with(0, fd)],
        Step::PrivateMounts => vec![verdict(libc::SYS_mount).with(3, PRIVATE as i32)],
        Step::PivotRoot { .. } => vec![
            verdict(libc::SYS_mount).with(3, BIND as i32),
            verdict(libc::SYS_chdir).with(0, path),
            verdict(libc::SYS_pivot_root),
            verdict(libc::SYS_umount2),
            verdict(libc::SYS_chdir).without(0, path),
        ],
        Step::Landlock { .. } => vec![verdict(libc::SYS_landlock_restrict_self)],
        Step::Seccomp { .. } => vec![verdict(libc::SYS_seccomp)],
        Step::ExecFd { .. } => vec![verdict(libc::SYS_execveat)],
        // The one before has another path.
        Step::ExecShell { .. } => vec![verdict(libc::SYS_execve).with(0, path)],
        _ => Vec::new(),
    }
}

/// What the commands lend.
struct Lent {
    dir: TempDir,
    namespace: File,
    program: File,
    ruleset: Option<OwnedFd>,
}

impl Lent {
    fn new(test: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_program(dir.path().join("script"), "exit 0\n", 0o755);
        Self {
            dir,
            namespace: File::open("/proc/self/ns/uts").unwrap(),
            program: File::open(end()).unwrap(),
            ruleset: ruleset(test, access::MAKE_SOCK),
        }
    }

    /// The commands, and how many rules there are for all of them.
    fn commands(&self, test: &str) -> (Vec<Command<'_>>, usize) {
        let mut script = Command::new(self.dir.path().join("script"));
        script.shell_fallback("/bin/sh");
        let mut filtered = Command::new("end");
        filtered.program_fd(PassedFd::borrowed(&self.program)).no_new_privs().seccomp([ALLOW]);
        // The shell; the filter and the fd.
        let (mut commands, mut count) = (vec![script], 3);
        if let Some(ruleset) = &self.ruleset {
            filtered.landlock(PassedFd::borrowed(ruleset));
            count += 1;
        }
        commands.push(filtered);
        if is_root(test) {
            let mut isolated = Command::new("end");
            isolated
                .program_fd(PassedFd::borrowed(&self.program))
                .unshare(Namespaces::MOUNT | Namespaces::PID)
                .join_namespace(PassedFd::borrowed(&self.namespace), Namespaces::UTS)
                .private_mounts()
                .pivot_root(self.dir.path());
            let map = [IdRange { inside: 0, outside: 0, count: 10 }];
            let mut mapped = Command::new("/bin/true");
            mapped.unshare(Namespaces::USER).uid_map(map).gid_map(map);
            commands.extend([isolated, mapped]);
            count += match Rule::kill(libc::SYS_close).by_this_program() {
                Some(_) => 9,
                None => {
                    skipped(test, "close: libc is part of the program");
                    8
                }
            };
        }
        (commands, count)
    }
}

fn for_each_step(name: &str, verdict: Verdict<'_>, check: impl Fn(Step, &SpawnError)) {
    in_subprocess(name, || {
        let lent = Lent::new(name);
        let (commands, expected) = lent.commands(name);
        assert_eq!(for_each_fault(commands, rules, verdict, check), expected);
    });
}

#[test]
fn an_isolating_step_that_fails_is_named_with_its_errno() {
    let name = "an_isolating_step_that_fails_is_named_with_its_errno";
    for_each_step(name, &|number| Rule::errno(number, STRANGE), |_, error| {
        assert_eq!((error.raw_os_error(), error.signal()), (Some(STRANGE), None), "{error}");
        assert!(error.to_string().starts_with(description(error).unwrap()), "{error}");
    });
}

#[test]
fn a_child_that_is_killed_at_an_isolating_step_is_no_child_that_started() {
    let name = "a_child_that_is_killed_at_an_isolating_step_is_no_child_that_started";
    for_each_step(name, &Rule::kill, |_, error| {
        assert_eq!((error.raw_os_error(), error.signal()), (None, Some(Signal::SYS)), "{error}");
        assert!(error.to_string().ends_with(": the child was killed by SIGSYS"), "{error}");
    });
}

/// The errors of both ways to spawn, where the clone is refused so. Nothing is
/// left of either.
fn refused(command: &Command<'_>, rules: &[Rule]) -> [SpawnError; 2] {
    let before = fds_of_self();
    let mut prepared = command.prepare().unwrap();
    let errors = under(rules, || {
        let as_planned = prepared.open().unwrap().spawn().unwrap_err();
        [as_planned, prepared.spawn().unwrap_err()]
    });
    assert!(no_child_is_left());
    assert_eq!(fds_of_self(), before);
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
