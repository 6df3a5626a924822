//! Namespaces, id maps, cgroups, filters: what the child is shut in.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;

use forkplan::Channel::{ReadPipe, WritePipe};
use forkplan::{Command, Features, FilterInstruction, IdRange, Namespaces, PlanError};
use support::seccomp::{Rule, under};
use support::{PATHS, in_subprocess, no_child_is_left, pause};

const KINDS: [(Namespaces, &str); 7] = [
    (Namespaces::CGROUP, "cgroup"),
    (Namespaces::IPC, "ipc"),
    (Namespaces::MOUNT, "mnt"),
    (Namespaces::NET, "net"),
    (Namespaces::PID, "pid"),
    (Namespaces::USER, "user"),
    (Namespaces::UTS, "uts"),
];

const ALLOW: FilterInstruction = FilterInstruction { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 };

fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        let _ = writeln!(io::stderr(), "SKIPPED: {test}: not root");
    }
    root
}

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
        let before = support::fds_of_self();
        let mut command = Command::new("true");
        command.unshare(Namespaces::USER).uid_map([IdRange { inside: 0, outside: 0, count: 0 }]);
        let error = command.spawn().unwrap_err();
        let subject = error.description().unwrap();
        assert!(
            subject.starts_with("write \"/proc/") && subject.ends_with("/uid_map\""),
            "{error}"
        );
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert!(no_child_is_left());
        assert_eq!(support::fds_of_self(), before);
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
