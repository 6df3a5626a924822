//! The end of all processes in a cgroup at once.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use forkplan::Channel::Null;
use forkplan::{Command, OnDrop, PassedFd, Signal, kill_cgroup};
use support::isolation::Cgroup;
use support::{pause, skipped};

#[test]
fn all_in_a_cgroup_are_killed_and_nobody_outside() {
    let name = "all_in_a_cgroup_are_killed_and_nobody_outside";
    let Some(cgroup) = Cgroup::new(name) else { return };
    // Of nobody, it is no error; and it says whether the kernel can. Another one,
    // for nobody can be spawned into this one after that.
    let Some(empty) = Cgroup::new("an_empty_one") else { return };
    match kill_cgroup(empty.directory()) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            return skipped(name, error);
        }
        killed => killed.unwrap(),
    }
    let mut outside = Command::new(pause()).on_drop(OnDrop::Kill).spawn().unwrap();
    // Each of them holds the socket: its end of file says that all are gone.
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    // One in a session of its own, which no signal to the group would reach, and
    // one whose parent is gone.
    let script = "setsid sleep 1000 & (sleep 1000 &); echo ready >&9; wait";
    let mut command = Command::new("sh");
    command.args(["-c", script]).fd(0, Null).fd(1, Null).fd(2, Null).fd(9, theirs);
    command.cgroup(PassedFd::borrowed(cgroup.directory())).on_drop(OnDrop::Kill);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut ours = BufReader::new(ours);
    let mut line = String::new();
    ours.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");

    kill_cgroup(cgroup.directory()).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL));
    assert_eq!(ours.read_to_end(&mut Vec::new()).unwrap(), 0);
    // The control.
    assert_eq!(outside.try_wait().unwrap(), None);
}

#[test]
fn what_is_no_cgroup_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let error = kill_cgroup(File::open(dir.path()).unwrap()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    assert!(error.to_string().contains("cgroup.kill"), "{error}");
    let file = tempfile::tempfile().unwrap();
    let error = kill_cgroup(file.as_fd()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR));
}
