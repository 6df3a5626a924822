//! Namespaces, id maps, cgroups, filters: what the child is shut in.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;

use forkplan::Channel::{Null, ReadPipe, WritePipe};
use forkplan::{
    Command, Features, FilterInstruction, IdRange, Namespaces, PassedFd, PlanError, SpawnError,
};
use support::isolation::{ALLOW, Cgroup, access, allow_beneath, become_nobody, is_root, ruleset};
use support::seccomp::{Rule, under};
use support::{
    PATHS, description, fds_of, fds_of_self, file_of, in_subprocess, no_child_is_left, pause,
    place_at, with_fd,
};

const KINDS: [(Namespaces, &str); 7] = [
    (Namespaces::CGROUP, "cgroup"),
    (Namespaces::IPC, "ipc"),
    (Namespaces::MOUNT, "mnt"),
    (Namespaces::NET, "net"),
    (Namespaces::PID, "pid"),
    (Namespaces::USER, "user"),
    (Namespaces::UTS, "uts"),
];

fn namespace(pid: u32, name: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().to_str().unwrap().into()
}

#[test]
fn each_kind_of_namespace_is_new_and_no_other() {
    if !is_root("each_kind_of_namespace_is_new_and_no_other") {
        return;
    }
    for without in PATHS.into_iter().chain([Features::CLONE3]) {
        for (kind, _) in KINDS {
            let mut command = Command::new(pause());
            let mut child = command.unshare(kind).without(without).spawn().unwrap();
            for (other, name) in KINDS {
                let same =
                    namespace(child.id().unwrap(), name) == namespace(std::process::id(), name);
                assert_eq!(same, other != kind, "{name}, of {kind:?}");
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

#[test]
fn id_maps_are_written_before_the_program_runs() {
    if !is_root("id_maps_are_written_before_the_program_runs") {
        return;
    }
    let ranges = [(0, 1000, 10), (100, 5000, 7)];
    let ranges = ranges.map(|(inside, outside, count)| IdRange { inside, outside, count });
    let mut command = Command::new(pause());
    command.unshare(Namespaces::USER).uid_map(ranges).gid_map(ranges);
    let mut child = command.spawn().unwrap();
    for name in ["uid_map", "gid_map"] {
        let map = fs::read_to_string(format!("/proc/{}/{name}", child.id().unwrap())).unwrap();
        let words: Vec<&str> = map.split_whitespace().collect();
        assert_eq!(words, ["0", "1000", "10", "100", "5000", "7"]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_map_that_cannot_be_written_is_named_and_nothing_is_left() {
    if !is_root("a_map_that_cannot_be_written_is_named_and_nothing_is_left") {
        return;
    }
    in_subprocess("a_map_that_cannot_be_written_is_named_and_nothing_is_left", || {
        let before = fds_of_self();
        let mut command = Command::new("true");
        command.unshare(Namespaces::USER).uid_map([IdRange { inside: 0, outside: 0, count: 0 }]);
        let error = command.spawn().unwrap_err();
        let subject = description(&error).unwrap();
        assert!(
            subject.starts_with("write \"/proc/") && subject.ends_with("/uid_map\""),
            "{error}"
        );
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert!(no_child_is_left());
        assert_eq!(fds_of_self(), before);
    });
}

/// A process that has a copy of whatever this one has open now, until the test ends
/// or, where nobody comes to end it, for a while.
struct Stranger(libc::pid_t);

impl Stranger {
    fn fork() -> Self {
        // SAFETY: the child makes two calls that are async-signal-safe.
        unsafe {
            match libc::fork() {
                0 => {
                    libc::alarm(20);
                    loop {
                        libc::pause();
                    }
                }
                pid => Self(pid),
            }
        }
    }

    /// Whether it was still there.
    fn end(self) -> bool {
        let mut status = 0;
        // SAFETY: a child of this process's own, not yet reaped.
        unsafe {
            let there = libc::waitpid(self.0, &mut status, libc::WNOHANG) == 0;
            if there {
                libc::kill(self.0, libc::SIGKILL);
                assert_eq!(libc::waitpid(self.0, &mut status, 0), self.0);
            }
            there
        }
    }
}

#[test]
fn a_map_that_cannot_be_written_waits_for_no_stranger() {
    if !is_root("a_map_that_cannot_be_written_waits_for_no_stranger") {
        return;
    }
    in_subprocess("a_map_that_cannot_be_written_waits_for_no_stranger", || {
        for without in [Features::empty(), Features::PIDFD, Features::CLONE3] {
            let mut command = Command::new("true");
            let none = IdRange { inside: 0, outside: 0, count: 0 };
            command.unshare(Namespaces::USER).uid_map([none]).without(without);
            let mut prepared = command.prepare().unwrap();
            let opened = prepared.open().unwrap();
            let stranger = Stranger::fork();
            let error = opened.spawn().unwrap_err();
            assert!(stranger.end(), "{error}, after the stranger had ended");
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
            assert!(no_child_is_left());
        }
    });
}

#[test]
fn a_namespace_is_joined_by_its_fd() {
    if !is_root("a_namespace_is_joined_by_its_fd") {
        return;
    }
    let mut first = Command::new(pause()).unshare(Namespaces::UTS).spawn().unwrap();
    let name = namespace(first.id().unwrap(), "uts");
    let fd = File::open(format!("/proc/{}/ns/uts", first.id().unwrap())).unwrap();
    let mut command = Command::new(pause());
    let mut child = command.join_namespace(fd, Namespaces::UTS).spawn().unwrap();
    assert_eq!(namespace(child.id().unwrap(), "uts"), name);
    assert_ne!(namespace(std::process::id(), "uts"), name);
    for child in [&mut first, &mut child] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// Where each is asked of the parent's mounts it would change them.
#[test]
fn mounts_and_maps_want_new_namespaces_of_their_own() {
    let says = |command: &Command<'_>| match command.prepare() {
        Err(PlanError::Contradiction { first, second }) => (first, second),
        other => panic!("{other:?}"),
    };
    let map = [IdRange { inside: 0, outside: 0, count: 1 }];
    let (mount, user) = (Namespaces::MOUNT, Namespaces::USER);
    let new = |kinds| {
        let mut command = Command::new("true");
        command.unshare(kinds);
        command
    };
    let no_user = ("uid_map or gid_map", "no new user namespace");
    assert_eq!(says(Command::new("true").uid_map(map)), no_user);
    assert_eq!(says(Command::new("true").gid_map(map)), no_user);
    assert_eq!(says(new(mount).uid_map(map)), no_user);
    let no_mount = ("private_mounts or pivot_root", "no new mount namespace");
    assert_eq!(says(Command::new("true").private_mounts()), no_mount);
    assert_eq!(says(Command::new("true").private_mounts().pivot_root("/x")), no_mount);
    assert_eq!(says(new(user).private_mounts()), no_mount);
    assert_eq!(says(new(mount).pivot_root("/x")), ("pivot_root", "no private_mounts"));
    // Also one that is joined is not new.
    let fd = File::open("/proc/self/ns/mnt").unwrap();
    let mut joined = Command::new("true");
    joined.join_namespace(PassedFd::borrowed(&fd), mount);
    assert_eq!(says(joined.clone().private_mounts()), no_mount);
    let twice = ("unshare", "join_namespace of the same kind");
    assert_eq!(says(joined.unshare(mount | user)), twice);
    // The control: each is accepted where it may stand.
    new(user).uid_map(map).gid_map(map).prepare().unwrap();
    let mut both = new(mount);
    both.unshare(user).uid_map(map).private_mounts().pivot_root("/x").prepare().unwrap();
    let fd = PassedFd::borrowed(&fd);
    new(user).join_namespace(fd, mount).prepare().unwrap();
}

#[test]
fn proc_is_written_before_a_joined_namespace_hides_it() {
    if !is_root("proc_is_written_before_a_joined_namespace_hides_it") {
        return;
    }
    // A mount namespace with an empty `/proc`, as long as somebody is in it.
    let mut holder = Command::new("/bin/sh");
    holder.args(["-c", "mount -t tmpfs none /proc && echo done && read line"]);
    holder.unshare(Namespaces::MOUNT).private_mounts().fd(0, WritePipe).fd(1, ReadPipe);
    let mut holder = holder.spawn().unwrap();
    let mut said = [0; 5];
    File::from(holder.take(1).unwrap()).read_exact(&mut said).unwrap();
    assert_eq!(said, *b"done\n");
    let namespace = || File::open(format!("/proc/{}/ns/mnt", holder.id().unwrap())).unwrap();
    for without in PATHS {
        let mut command = Command::new(pause());
        command.join_namespace(namespace(), Namespaces::MOUNT);
        command.oom_score_adj(777).coredump_filter(0x3).without(without);
        let mut child = command.spawn().unwrap();
        let file = |name: &str| {
            fs::read_to_string(format!("/proc/{}/{name}", child.id().unwrap())).unwrap()
        };
        assert_eq!(file("oom_score_adj"), "777\n");
        assert_eq!(file("coredump_filter"), "00000003\n");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // The control: from there it could not be written.
    let mut look = Command::new("/usr/bin/test");
    look.args(["-e", "/proc/self"]).join_namespace(namespace(), Namespaces::MOUNT);
    assert_eq!(look.spawn().unwrap().wait().unwrap().code(), Some(1));
    drop(holder.take(0));
    holder.wait().unwrap();
}

#[test]
fn namespaces_are_printed_by_name() {
    let own = File::open("/proc/self/ns/uts").unwrap();
    let words = format!("  setns {} CLONE_NEWUTS\n", own.as_raw_fd());
    let mut command = Command::new("true");
    command.unshare(Namespaces::NET | Namespaces::USER).join_namespace(own, Namespaces::UTS);
    let mut prepared = command.prepare().unwrap();
    let plan = prepared.open().unwrap().plan().to_string();
    assert!(plan.starts_with("A child in new namespaces, CLONE_NEWUSER|CLONE_NEWNET:\n"), "{plan}");
    assert!(plan.contains(&words), "{plan}");
    let refused = [Rule::errno(libc::SYS_clone3, libc::EXFULL)];
    let error = under(&refused, || prepared.spawn().unwrap_err());
    let words = "clone3 into new namespaces CLONE_NEWUSER|CLONE_NEWNET";
    assert_eq!(error.description(), Some(words));
}

#[test]
fn a_cgroup_needs_clone3_and_is_not_done_without() {
    let dir = File::open("/").unwrap();
    let mut command = Command::new("true");
    command.cgroup(dir);
    let mut prepared = command.prepare().unwrap();
    let refused = [Rule::errno(libc::SYS_clone3, libc::ENOSYS)];
    under(&refused, || {
        assert_eq!(prepared.spawn().unwrap_err().raw_os_error(), Some(libc::ENOSYS));
    });
    let error = command.without(Features::CLONE3).prepare().unwrap_err();
    assert_eq!(error, PlanError::MissingFeature { features: Features::CLONE3 });
}

#[test]
fn the_core_dump_filter_of_the_parent_stays() {
    let filter = || fs::read_to_string("/proc/self/coredump_filter").unwrap();
    let before = filter();
    Command::new("true").coredump_filter(0x7f).spawn().unwrap().wait().unwrap();
    assert_eq!(filter(), before);
}

#[test]
fn a_filter_has_1_to_4096_instructions() {
    for count in [0, 4097] {
        let error = Command::new("true").seccomp(vec![ALLOW; count]).prepare().unwrap_err();
        let value = count as i64;
        assert_eq!(error, PlanError::OutOfRange { what: "the filter's length", value });
    }
    for without in PATHS {
        let mut command = Command::new("true");
        command.no_new_privs().seccomp(vec![ALLOW; 4096]).without(without);
        assert!(command.spawn().unwrap().wait().unwrap().success());
    }
}

#[test]
fn a_child_starts_in_its_cgroup() {
    let name = "a_child_starts_in_its_cgroup";
    let Some(cgroup) = Cgroup::new(name) else { return };
    for without in PATHS {
        let mut command = Command::new(pause());
        command.fd(0, Null).without(without);
        let mut outside = command.spawn().unwrap();
        let mut inside = command.cgroup(PassedFd::borrowed(cgroup.directory())).spawn().unwrap();
        let own = Cgroup::of(std::process::id());
        let joined = format!("{}/{}", own.trim_end_matches('/'), cgroup.name());
        assert_eq!(Cgroup::of(inside.id().unwrap()), joined);
        // The directory itself is not open there.
        assert_eq!(fds_of(inside.id().unwrap()).keys().copied().collect::<Vec<_>>(), [0]);
        // The control.
        assert_eq!(Cgroup::of(outside.id().unwrap()), own);
        for child in [&mut outside, &mut inside] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// Whether a shell may write to each of two files.
fn writes(command: &mut Command<'_>, dir: &Path) -> [bool; 2] {
    ["allowed", "other"].map(|name| {
        let mut command = command.clone();
        command.args(["-c", ": >> \"$0\""]).arg(dir.join(name).join("file")).stderr(Null);
        command.spawn().unwrap().wait().unwrap().success()
    })
}

#[test]
fn a_ruleset_of_landlock_holds_in_the_program() {
    let name = "a_ruleset_of_landlock_holds_in_the_program";
    let Some(ruleset) = ruleset(name, access::WRITE_FILE) else { return };
    let dir = tempfile::tempdir().unwrap();
    for inner in ["allowed", "other"] {
        fs::create_dir(dir.path().join(inner)).unwrap();
        fs::write(dir.path().join(inner).join("file"), "").unwrap();
    }
    allow_beneath(&ruleset, &dir.path().join("allowed"), access::WRITE_FILE);
    for without in PATHS {
        let mut command = Command::new("/bin/sh");
        command.no_new_privs().without(without);
        // The control comes first.
        assert_eq!(writes(&mut command, dir.path()), [true, true]);
        command.landlock(PassedFd::borrowed(&ruleset));
        assert_eq!(writes(&mut command, dir.path()), [true, false]);
    }
}

/// The ruleset is needed after the map, and its number may be a child's fd.
#[test]
fn the_map_does_not_run_over_the_ruleset() {
    let name = "the_map_does_not_run_over_the_ruleset";
    in_subprocess(name, || {
        const RULESET: i32 = 20;
        const OTHER: i32 = 21;
        let Some(made) = ruleset(name, access::WRITE_FILE) else { return };
        place_at(made, RULESET);
        place_at(tempfile::tempfile().unwrap(), OTHER);
        // The control: what is no ruleset is refused.
        let error = Command::new(pause()).no_new_privs().landlock(with_fd(OTHER)).spawn();
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EBADFD));
        let maps: [&[(i32, i32)]; 4] = [
            &[(RULESET, OTHER)],
            &[(RULESET, OTHER), (OTHER, RULESET)],
            &[(RULESET, RULESET)],
            &[(5, RULESET), (RULESET, OTHER)],
        ];
        for without in PATHS {
            for map in maps {
                let mut command = Command::new(pause());
                command.no_new_privs().without(without);
                for &(target, source) in map {
                    command.fd(target, with_fd(source));
                }
                // Had another file its number by then, the step would fail.
                command.landlock(with_fd(RULESET));
                let mut child = command.spawn().unwrap();
                let fds = fds_of(child.id().unwrap());
                assert_eq!(fds.len(), map.len());
                for &(target, source) in map {
                    assert_eq!(fds[&target].file, file_of(with_fd(source)), "{map:?}");
                }
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }
    });
}

/// What `uname` makes of its syscall.
fn refusing_uname(verdict: u32) -> [FilterInstruction; 4] {
    let op = |code, jt, jf, k| FilterInstruction { code, jt, jf, k };
    // Load the number; is it that one; then; else.
    let number = libc::SYS_uname as u32;
    [op(0x20, 0, 0, 0), op(0x15, 0, 1, number), op(0x06, 0, 0, verdict), ALLOW]
}

#[test]
fn a_filter_holds_in_the_program() {
    for without in PATHS {
        let mut command = Command::new("uname");
        command.no_new_privs().stdout(Null).stderr(Null).without(without);
        // The control comes first.
        assert_eq!(command.spawn().unwrap().wait().unwrap().code(), Some(0));
        command.seccomp(refusing_uname(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
        assert_eq!(command.spawn().unwrap().wait().unwrap().code(), Some(1));
        command.rlimit(forkplan::Resource::CORE, 0, 0);
        command.seccomp(refusing_uname(libc::SECCOMP_RET_KILL_PROCESS));
        let killed = command.spawn().unwrap().wait().unwrap();
        assert_eq!(killed.signal(), Some(forkplan::Signal::SYS));
    }
}

/// The last steps are the filter's first calls.
#[test]
fn a_filter_that_forbids_exec_is_an_error_of_exec() {
    for without in PATHS {
        let mut filter = refusing_uname(libc::SECCOMP_RET_ERRNO | libc::EXFULL as u32);
        filter[1].k = libc::SYS_execve as u32;
        let mut command = Command::new("/bin/true");
        let error = command.no_new_privs().seccomp(filter).without(without).spawn().unwrap_err();
        assert_eq!(description(&error), Some("execve \"/bin/true\""));
        assert_eq!(error.raw_os_error(), Some(libc::EXFULL));
    }
}

/// Without privileges both want `no_new_privs`, or could deceive a program that
/// gains some.
#[test]
fn restrictions_of_the_unprivileged_want_no_new_privs() {
    let name = "restrictions_of_the_unprivileged_want_no_new_privs";
    in_subprocess(name, || {
        become_nobody();
        let refused = |command: &Command<'_>| -> [SpawnError; 2] {
            PATHS.map(|without| command.clone().without(without).spawn().unwrap_err())
        };
        let mut filtered = Command::new("true");
        for error in refused(filtered.seccomp([ALLOW])) {
            let words = "seccomp SECCOMP_SET_MODE_FILTER, 1 instructions: Permission denied";
            assert_eq!(error.to_string(), words);
        }
        assert!(filtered.no_new_privs().spawn().unwrap().wait().unwrap().success());
        let Some(ruleset) = ruleset(name, access::MAKE_SOCK) else { return };
        let mut ruled = Command::new("true");
        for error in refused(ruled.landlock(PassedFd::borrowed(&ruleset))) {
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
            let words = format!("landlock_restrict_self {}", ruleset.as_raw_fd());
            assert_eq!(description(&error), Some(words.as_str()));
        }
        assert!(ruled.no_new_privs().spawn().unwrap().wait().unwrap().success());
        assert!(no_child_is_left());
    });
}
