//! What would be of no use, or would fail where nobody sees why, is refused when the
//! command is prepared.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use forkplan::{Channel, Command, Namespaces, PassedFd, PlanError, Signal};
use support::{PATHS, in_subprocess, own_cpu, pause, write_program};

fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        let _ = writeln!(io::stderr(), "SKIPPED: {test}: not root");
    }
    root
}

/// Preparing a command fails with this.
#[track_caller]
fn refused(command: &Command<'_>, expected: &PlanError, words: &str) {
    let error = command.prepare().unwrap_err();
    assert_eq!((&error, &*error.to_string()), (expected, words));
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

fn pidfd_of(pid: u32) -> OwnedFd {
    // SAFETY: no pointers; the result is an fd of ours.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd as i32)
    }
}

#[test]
fn a_pid_namespace_is_not_joined_in_vain() {
    let own = File::open("/proc/self/ns/pid").unwrap();
    let pidfd = pidfd_of(std::process::id());
    let (pid, uts) = (Namespaces::PID, Namespaces::UTS);
    for (fd, kind) in [
        (own.as_fd(), pid),
        // Whichever it is.
        (own.as_fd(), Namespaces::empty()),
        (pidfd.as_fd(), pid),
        (pidfd.as_fd(), pid | uts),
    ] {
        let number = fd.as_raw_fd();
        let mut command = Command::new("/bin/true");
        command.join_namespace(PassedFd::from(fd), kind);
        let words =
            format!("joining a PID namespace (fd {number}) moves the program's children only");
        refused(&command, &PlanError::JoinedPidNamespace { fd: number }, &words);
    }
    if !is_root("a_pid_namespace_is_not_joined_in_vain") {
        return;
    }
    // The control: others are joined, whether their kind is said or not.
    for without in PATHS {
        for kind in [uts, Namespaces::empty()] {
            let own = File::open("/proc/self/ns/uts").unwrap();
            let mut command = Command::new("/bin/true");
            command.join_namespace(own, kind).without(without);
            assert!(command.spawn().unwrap().wait().unwrap().success());
        }
    }
}

/// What the refusal is for: the kernel takes such a step and the program stays where
/// it was.
#[test]
fn control_who_joins_a_pid_namespace_stays_outside() {
    if !is_root("control_who_joins_a_pid_namespace_stays_outside") {
        return;
    }
    in_subprocess("control_who_joins_a_pid_namespace_stays_outside", || {
        let mut first = Command::new(pause()).unshare(Namespaces::PID).spawn().unwrap();
        let link = |name: &str| std::fs::read_link(format!("/proc/{name}")).unwrap();
        let theirs = link(&format!("{}/ns/pid", first.id().unwrap()));
        let own = link("thread-self/ns/pid");
        let fd = File::open(format!("/proc/{}/ns/pid", first.id().unwrap())).unwrap();
        // SAFETY: no pointers; the process is the test's own.
        assert_eq!(unsafe { libc::setns(fd.as_raw_fd(), 0) }, 0);
        assert_ne!(theirs, own);
        assert_eq!(link("thread-self/ns/pid"), own);
        assert_eq!(link("thread-self/ns/pid_for_children"), theirs);
        first.kill().unwrap();
        first.wait().unwrap();
    });
}

#[test]
fn a_parents_death_is_told_by_a_signal() {
    for signal in [0, -1, 65, 1 << 16] {
        let error = PlanError::BadSignal { signal };
        let words = format!("{signal} is no signal");
        refused(Command::new("/bin/true").parent_death_signal(signal), &error, &words);
    }
    for signal in [Signal::KILL, 64.into()] {
        for without in PATHS {
            let mut command = Command::new("/bin/true");
            command.parent_death_signal(signal).without(without);
            assert!(command.spawn().unwrap().wait().unwrap().success());
        }
    }
}

#[test]
fn a_sockets_name_is_what_systemd_lets_it_be() {
    let long = "n".repeat(256);
    for bad in ["a:b", ":", "a\nb", "\0", "\x7f", "\x1f", "n\u{e4}me", &long] {
        let error = PlanError::BadSocketName { name: bad.into() };
        let words =
            format!("{bad:?} can't name a socket: up to 255 printable characters of ASCII, no ':'");
        let mut command = Command::new("/bin/true");
        command.listen_fds([("fine", Channel::Null), (bad, Channel::Null)]);
        refused(&command, &error, &words);
    }
    // The control.
    let mut command = Command::new("/bin/true");
    command.listen_fds(["", " ", "a~b", &long[1..]].map(|name| (name, Channel::Null)));
    assert!(command.spawn().unwrap().wait().unwrap().success());
}

/// An fd that stands for a file and can't read it.
fn o_path(path: &Path) -> File {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).unwrap()
}

#[test]
fn a_script_by_an_fd_that_reads_nothing_is_found_out_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script");
    write_program(&path, "#!/bin/sh\nexit 0\n", 0o755);
    let words = "the program's fd is open on a script, whose interpreter could not open it";
    for fd in [o_path(&path), OpenOptions::new().write(true).open(&path).unwrap()] {
        refused(Command::new("script").program_fd(fd), &PlanError::ScriptByFd, words);
    }
    // The control: programs are run by such an fd.
    for without in PATHS {
        let mut command = Command::new("true");
        command.program_fd(o_path(Path::new("/bin/true"))).without(without);
        assert!(command.spawn().unwrap().wait().unwrap().success());
    }
    // What is no file is not opened: a FIFO would wait, or wake who waits for it.
    let fifo = dir.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let error = Command::new("fifo").program_fd(o_path(&fifo)).spawn().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EACCES), "{error}");
}

#[test]
fn a_script_that_may_not_be_read_is_the_kernels_error() {
    let name = "a_script_that_may_not_be_read_is_the_kernels_error";
    if !is_root(name) {
        return;
    }
    in_subprocess(name, || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("script");
        write_program(&path, "#!/bin/sh\nexit 0\n", 0o711);
        let script = o_path(&path);
        // SAFETY: no pointers; the process is the test's own.
        assert_eq!(unsafe { libc::setresuid(1000, 1000, 0) }, 0);
        let error = Command::new("script").program_fd(script).spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
        // SAFETY: as above. Back, to clean up.
        assert_eq!(unsafe { libc::setresuid(0, 0, 0) }, 0);
    });
}

#[test]
fn a_cpu_that_cannot_be_is_not_passed_over() {
    let listed = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap();
    let last = listed.trim().rsplit([',', '-']).next().unwrap();
    let cpu = last.parse::<usize>().unwrap() + 1;
    let mut command = Command::new("/bin/true");
    command.cpu_affinity([own_cpu(), cpu]);
    refused(&command, &PlanError::UnknownCpu { cpu }, &format!("there is no CPU {cpu}"));
    // The control: those that are there are had, and shown by number.
    let own = own_cpu();
    for without in PATHS {
        let mut prepared = command.cpu_affinity([own, own]).without(without).prepare().unwrap();
        let opened = prepared.open().unwrap();
        let words = format!("  sched_setaffinity [{own}]\n");
        assert!(opened.plan().to_string().contains(&words), "{}", opened.plan());
        assert!(opened.spawn().unwrap().wait().unwrap().success());
    }
}

/// Without the refusal: the kernel takes a set in which some are not there.
#[test]
fn control_the_kernel_passes_over_cpus_that_are_not_there() {
    in_subprocess("control_the_kernel_passes_over_cpus_that_are_not_there", || {
        let mut set = [usize::MAX; 16];
        set[0] = 1 << own_cpu();
        let size = size_of_val(&set);
        // SAFETY: reads the set; the thread is the test's own.
        assert_eq!(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size, &set) }, 0);
    });
}
