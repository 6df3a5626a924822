//! What a child sees in its namespaces and what is not seen of it: mounts, a
//! root, ids, pids, and the namespaces of others.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use forkplan::Channel::{self, Null, ReadPipe};
use forkplan::plan::Step;
use forkplan::{Child, Command, IdRange, Namespaces, PassedFd, Signal, SpawnError};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use support::isolation::{become_nobody, is_root, lets_anybody_make_namespaces};
use support::mounts::{mounted, unmount, with_shared_mounts};
use support::seccomp::{Rule, under};
use support::{
    CLONES, description, end, fds_of, fds_of_self, file_of, in_subprocess, no_child_is_left, pause,
};

fn stop(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn pid(child: &Child) -> u32 {
    child.id().unwrap()
}

/// Which namespace of this kind a process is in.
fn namespace(pid: u32, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().to_str().unwrap().into()
}

/// What a program says on its fd 1, and how it ends.
fn output(command: &Command<'_>) -> (String, Option<i32>) {
    let mut child =
        command.clone().fd(1, ReadPipe).spawn().unwrap_or_else(|error| panic!("{error}"));
    let mut text = String::new();
    File::from(child.take(1).unwrap()).read_to_string(&mut text).unwrap();
    (text, child.wait().unwrap().code())
}

#[test]
fn what_the_child_mounts_is_seen_by_it_alone() {
    let name = "what_the_child_mounts_is_seen_by_it_alone";
    if !is_root(name) {
        return;
    }
    in_subprocess(name, || {
        with_shared_mounts();
        let dir = tempfile::tempdir().unwrap();
        let script = "mount -t tmpfs none \"$0\" && grep -c \" $0 \" /proc/self/mountinfo";
        for without in CLONES {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]).arg(dir.path()).without(without);
            command.unshare(Namespaces::MOUNT).private_mounts();
            let before = mounted();
            assert_eq!(output(&command), ("1\n".into(), Some(0)));
            assert_eq!(mounted(), before);
        }
        // The control: a new namespace is not enough.
        let mut shared = Command::new("/bin/sh");
        shared.args(["-c", script]).arg(dir.path()).unshare(Namespaces::MOUNT);
        assert_eq!(output(&shared), ("1\n".into(), Some(0)));
        assert!(mounted().iter().any(|at| Path::new(at) == dir.path()));
        unmount(dir.path());
    });
}

#[test]
fn the_new_root_is_all_that_there_is() {
    let name = "the_new_root_is_all_that_there_is";
    if !is_root(name) {
        return;
    }
    in_subprocess(name, || {
        with_shared_mounts();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("inner")).unwrap();
        fs::copy(pause(), dir.path().join("stand")).unwrap();
        let old = File::open("/").unwrap();
        // A way out for whoever gets it: exec would not close it.
        let planted = rustix::io::dup(&old).unwrap();
        let here = mounted();
        let names = |path: String| {
            let entries = fs::read_dir(path).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        for without in CLONES {
            let mut command = Command::new("/stand");
            command.unshare(Namespaces::MOUNT).private_mounts().pivot_root(dir.path());
            command.fd(0, Null).chdir("inner").without(without);
            let child = command.spawn().unwrap();
            let proc = format!("/proc/{}", pid(&child));
            assert_eq!(names(format!("{proc}/root/")), ["inner", "stand"]);
            assert_eq!(fs::read_link(format!("{proc}/cwd")).unwrap(), Path::new("/inner"));
            // Nothing else is mounted there, so there is no way to it.
            let info = fs::read_to_string(format!("{proc}/mountinfo")).unwrap();
            assert_eq!(info.lines().count(), 1, "{info}");
            assert_eq!(fds_of(pid(&child)).keys().copied().collect::<Vec<_>>(), [0]);
            stop(child);
            // The control: whoever is given it has the old root.
            command.fd(9, Channel::borrowed(&planted));
            let child = command.spawn().unwrap();
            assert_eq!(fds_of(pid(&child))[&9].file, file_of(&old));
            let way_out = names(format!("/proc/{}/fd/9/", pid(&child)));
            assert!(way_out.iter().any(|name| name == "proc"), "{way_out:?}");
            stop(child);
            // Not even the mount point is left here.
            assert_eq!(mounted(), here);
        }
        assert!(no_child_is_left());
    });
}

/// All at once, as a container without privileges has it.
#[test]
fn an_unprivileged_user_has_a_root_of_his_own() {
    let name = "an_unprivileged_user_has_a_root_of_his_own";
    in_subprocess(name, || {
        if !lets_anybody_make_namespaces(name) {
            return;
        }
        let program = fs::read(pause()).unwrap();
        become_nobody();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("stand"), program).unwrap();
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(dir.path().join("stand"), executable).unwrap();
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        for without in CLONES {
            let mut command = Command::new("/stand");
            command.fd(0, Null).unshare(Namespaces::MOUNT | Namespaces::PID).without(without);
            command.private_mounts().pivot_root(dir.path());
            // The control: without a user namespace he may not.
            assert_eq!(command.spawn().unwrap_err().raw_os_error(), Some(libc::EPERM));
            command.unshare(Namespaces::USER);
            command.uid_map([IdRange { inside: 0, outside: uid.as_raw(), count: 1 }]);
            command.gid_map([IdRange { inside: 0, outside: gid.as_raw(), count: 1 }]);
            command.uid(0).gid(0).keep_groups();
            let child = command.spawn().unwrap_or_else(|error| panic!("{error}"));
            let proc = format!("/proc/{}", pid(&child));
            let info = fs::read_to_string(format!("{proc}/mountinfo")).unwrap();
            assert_eq!(info.lines().count(), 1, "{info}");
            assert_eq!(fs::read_link(format!("{proc}/exe")).unwrap(), Path::new("/stand"));
            stop(child);
        }
    });
}

#[test]
fn an_unprivileged_user_is_root_in_a_namespace_of_his_own() {
    let name = "an_unprivileged_user_is_root_in_a_namespace_of_his_own";
    in_subprocess(name, || {
        if !lets_anybody_make_namespaces(name) {
            return;
        }
        become_nobody();
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let map = |id: u32, count| [IdRange { inside: 0, outside: id, count }];
        for without in CLONES {
            let mut command = Command::new(pause());
            command.unshare(Namespaces::USER | Namespaces::UTS).without(without);
            command.uid_map(map(uid.as_raw(), 1));
            let setgroups =
                |child: &Child| fs::read_to_string(format!("/proc/{}/setgroups", pid(child)));
            // The control: groups are the child's to drop until the gids are mapped.
            let child = command.spawn().unwrap();
            assert_eq!(setgroups(&child).unwrap(), "allow\n");
            stop(child);
            command.gid_map(map(gid.as_raw(), 1));
            let child = command.spawn().unwrap();
            assert_eq!(setgroups(&child).unwrap(), "deny\n");
            for (file, id) in [("uid_map", uid.as_raw()), ("gid_map", gid.as_raw())] {
                let map = fs::read_to_string(format!("/proc/{}/{file}", pid(&child))).unwrap();
                let words: Vec<&str> = map.split_whitespace().collect();
                assert_eq!(words, ["0", &id.to_string(), "1"]);
            }
            stop(child);
            // As which ids of the namespace the program is run.
            let mut id = Command::new("/bin/sh");
            id.args(["-c", "id -u; id -g"]).unshare(Namespaces::USER).without(without);
            id.uid_map(map(uid.as_raw(), 1)).gid_map(map(gid.as_raw(), 1));
            id.uid(0).gid(0).keep_groups();
            assert_eq!(output(&id), ("0\n0\n".into(), Some(0)));
            // Somebody else's id is not to be had, and nothing is left.
            let before = fds_of_self();
            for (command, file) in [
                (command.clone().uid_map(map(uid.as_raw(), 2)), "uid_map"),
                (command.clone().gid_map(map(gid.as_raw(), 2)), "gid_map"),
            ] {
                let error = command.spawn().unwrap_err();
                let words = description(&error).unwrap();
                assert!(words.ends_with(&format!("/{file}\"")), "{error}");
                assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
                assert!(no_child_is_left());
                assert_eq!(fds_of_self(), before);
            }
        }
    });
}

#[test]
fn the_program_is_the_first_process_of_its_pid_namespace() {
    let name = "the_program_is_the_first_process_of_its_pid_namespace";
    if !is_root(name) {
        return;
    }
    for without in CLONES {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $$ $OWN; exit 7"]).env_pid("OWN").without(without);
        // The control comes first.
        let (text, _) = output(&command);
        assert_ne!(text, "1 1\n");
        command.unshare(Namespaces::PID);
        assert_eq!(output(&command), ("1 1\n".into(), Some(7)));
        let mut command = Command::new(pause());
        let child = command.unshare(Namespaces::PID).without(without).spawn().unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", pid(&child))).unwrap();
        let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
        assert_eq!(pids.split_whitespace().last(), Some("1"));
        stop(child);
    }
}

/// What it sees as its parent's pid is 0, which is no parent that has ended.
#[test]
fn the_parents_death_is_a_signal_in_a_pid_namespace_too() {
    let name = "the_parents_death_is_a_signal_in_a_pid_namespace_too";
    if !is_root(name) {
        return;
    }
    let mut command = Command::new(end());
    command.parent_death_signal(Signal::KILL);
    let checks = |command: &Command<'_>| {
        let mut prepared = command.prepare().unwrap();
        let opened = prepared.open().unwrap();
        opened.plan().steps().iter().any(|step| matches!(step, Step::CheckParent { .. }))
    };
    assert!(checks(&command));
    command.unshare(Namespaces::PID);
    assert!(!checks(&command));
    for without in CLONES {
        assert!(command.without(without).spawn().unwrap().wait().unwrap().success());
    }
}

#[test]
fn what_happens_in_a_pid_namespace_is_told_as_elsewhere() {
    let name = "what_happens_in_a_pid_namespace_is_told_as_elsewhere";
    if !is_root(name) {
        return;
    }
    in_subprocess(name, || {
        let before = fds_of_self();
        for without in CLONES {
            let of = |program: &str| {
                let mut command = Command::new(program);
                command.fd(0, Null).unshare(Namespaces::PID).without(without).umask(0o77);
                command.rlimit(forkplan::Resource::CORE, 0, 0);
                command
            };
            let error = of("/nowhere/program").spawn().unwrap_err();
            assert_eq!(error.to_string(), "execve \"/nowhere/program\": No such file or directory");
            let error = of("/bin/true").current_dir("/nowhere").spawn().unwrap_err();
            assert_eq!(error.to_string(), "chdir \"/nowhere\": No such file or directory");
            // One that is killed on its way, also at the last moment.
            let killed = |call, words: &str| {
                let rule = [Rule::kill(call)];
                let error: SpawnError = under(&rule, || of("/bin/true").spawn().unwrap_err());
                assert_eq!(error.signal(), Some(Signal::SYS), "{error}");
                assert_eq!(description(&error), Some(words));
            };
            killed(libc::SYS_umask, "umask 0o077");
            killed(libc::SYS_execve, "execve \"/bin/true\"");
            assert!(no_child_is_left());
            assert_eq!(fds_of_self(), before);
            // The control: one that ends at once has started.
            assert_eq!(of("/bin/false").spawn().unwrap().wait().unwrap().code(), Some(1));
        }
    });
}

/// A process in namespaces of its own, and a pidfd of it.
fn other(kinds: Namespaces) -> (Child, OwnedFd) {
    let child = Command::new(pause()).unshare(kinds).spawn().unwrap();
    let raw = Pid::from_raw(pid(&child) as i32).unwrap();
    let pidfd = pidfd_open(raw, PidfdFlags::empty()).unwrap();
    (child, pidfd)
}

#[test]
fn namespaces_are_joined_by_the_pidfd_of_who_is_in_them() {
    if !is_root("namespaces_are_joined_by_the_pidfd_of_who_is_in_them") {
        return;
    }
    let kinds = Namespaces::UTS | Namespaces::IPC | Namespaces::NET;
    let (first, pidfd) = other(kinds);
    let joined = Namespaces::UTS | Namespaces::IPC;
    for without in CLONES {
        let mut command = Command::new(pause());
        command.fd(0, Null).join_namespace(PassedFd::borrowed(&pidfd), joined).without(without);
        let child = command.spawn().unwrap();
        for kind in ["uts", "ipc"] {
            assert_eq!(namespace(pid(&child), kind), namespace(pid(&first), kind));
            assert_ne!(namespace(pid(&child), kind), namespace(std::process::id(), kind));
        }
        // Those that were not asked for are the parent's.
        for kind in ["net", "mnt", "pid", "user"] {
            assert_eq!(namespace(pid(&child), kind), namespace(std::process::id(), kind));
        }
        assert_eq!(fds_of(pid(&child)).keys().copied().collect::<Vec<_>>(), [0]);
        stop(child);
        // By a pidfd a kind has to be said.
        let mut command = Command::new(pause());
        command.join_namespace(PassedFd::borrowed(&pidfd), Namespaces::empty()).without(without);
        let error = command.spawn().unwrap_err();
        let words = format!("setns {} 0: Invalid argument", pidfd.as_raw_fd());
        assert_eq!(error.to_string(), words);
    }
    stop(first);
}

#[test]
fn a_namespace_fd_is_joined_if_it_is_of_the_kind_said() {
    if !is_root("a_namespace_fd_is_joined_if_it_is_of_the_kind_said") {
        return;
    }
    let (first, _pidfd) = other(Namespaces::UTS);
    let fd = File::open(format!("/proc/{}/ns/uts", pid(&first))).unwrap();
    let join = |kind, without| {
        let mut command = Command::new(pause());
        command.join_namespace(PassedFd::borrowed(&fd), kind).without(without).spawn()
    };
    for without in CLONES {
        for kind in [Namespaces::UTS, Namespaces::empty()] {
            let child = join(kind, without).unwrap();
            assert_eq!(namespace(pid(&child), "uts"), namespace(pid(&first), "uts"));
            stop(child);
        }
        let error = join(Namespaces::NET, without).unwrap_err();
        let words = format!("setns {} CLONE_NEWNET: Invalid argument", fd.as_raw_fd());
        assert_eq!(error.to_string(), words);
    }
    stop(first);
}
