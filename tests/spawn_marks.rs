//! A child that takes a copy of the low part of the parent's fds marks what nobody
//! named there; unless all of it is known to be marked, for then the call is saved.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::fs;
use std::os::fd::AsRawFd;

use forkplan::Channel::{self, Null, ReadPipe, SocketPair, WritePipe};
use forkplan::plan::Step;
use forkplan::{Command, Launcher, OnDrop, PassedFd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{fds_of, in_subprocess, pause, place_at, with_fd};

/// Only 0, 1 and 2 stay open, and what the tests hold at 500 and above.
fn close_all_but_the_first_three() {
    // SAFETY: no pointers; the process is the test's own, which holds none of them.
    assert_eq!(unsafe { libc::syscall(libc::SYS_close_range, 3, 499, 0) }, 0);
}

/// Whether the child marks, and what it has open then.
fn marks_and_fds(command: &Command<'_>, launcher: Option<&Launcher>) -> (bool, Vec<i32>) {
    let mut prepared = command.prepare().unwrap();
    let opened = match launcher {
        Some(launcher) => launcher.open(&mut prepared).unwrap(),
        None => prepared.open().unwrap(),
    };
    let steps = opened.plan().steps();
    assert!(matches!(steps[0], Step::Unshare { .. }), "{}", opened.plan());
    let marks = steps.iter().any(|step| matches!(step, Step::MarkRange { .. }));
    let child = opened.spawn().unwrap();
    (marks, fds_of(child.id().unwrap()).into_keys().collect())
}

fn paused<'fd>() -> Command<'fd> {
    let mut command = Command::new(pause());
    command.on_drop(OnDrop::Kill);
    command
}

#[test]
fn where_all_numbers_are_of_this_spawn_none_is_marked() {
    in_subprocess("where_all_numbers_are_of_this_spawn_none_is_marked", || {
        pause();
        close_all_but_the_first_three();
        let command = paused();
        assert_eq!(marks_and_fds(&command, None), (false, vec![0, 1, 2]));
        // Targets in between, also on the ends' own numbers.
        let mut command = paused();
        command.fds([0, 4, 6], WritePipe).fds([1, 3, 9], SocketPair).fds([2, 5], ReadPipe);
        assert_eq!(marks_and_fds(&command, None), (false, vec![0, 1, 2, 3, 4, 5, 6, 9]));
        // A stranger among them, on whose number a target comes to be.
        let null = fs::File::open("/dev/null").unwrap();
        place_at(&null, 4);
        drop(null);
        let mut command = paused();
        command.fds([0, 4], WritePipe).fd(1, ReadPipe).fd(2, ReadPipe);
        assert_eq!(marks_and_fds(&command, None), (false, vec![0, 1, 2, 4]));
    });
}

#[test]
fn whatever_else_is_there_is_marked() {
    in_subprocess("whatever_else_is_there_is_marked", || {
        pause();
        close_all_but_the_first_three();
        let null = fs::File::open("/dev/null").unwrap();
        let null = rustix::io::fcntl_dupfd_cloexec(null, 500).unwrap();
        let root = fs::File::open("/").unwrap();
        let root = rustix::io::fcntl_dupfd_cloexec(root, 500).unwrap();
        // A stranger that is not CLOEXEC, below and between the ends.
        for at in [3, 5, 8] {
            place_at(&null, at);
            assert_eq!(marks_and_fds(&paused(), None), (true, vec![0, 1, 2]), "{at}");
            rustix::io::fcntl_setfd(with_fd(at), rustix::io::FdFlags::CLOEXEC).unwrap();
            // As far as the plan can know it may lose the mark.
            assert_eq!(marks_and_fds(&paused(), None), (true, vec![0, 1, 2]), "{at}");
            close_all_but_the_first_three();
        }
        // A number that is free may be taken by the time of the clone.
        let hole = null.try_clone().unwrap();
        assert_eq!(hole.as_raw_fd(), 3);
        let mut command = paused();
        let mut prepared = command.prepare().unwrap();
        let opened = prepared.open().unwrap();
        drop(hole);
        assert!(opened.plan().to_string().contains("CLOEXEC"), "{}", opened.plan());
        drop(opened);
        // Passed fds and those of steps, which may be without a mark.
        let passed = place_at(&null, 3);
        let mut passes = paused();
        assert_eq!(marks_and_fds(passes.fd(0, Channel::borrowed(&passed)), None), (true, vec![0]));
        close_all_but_the_first_three();
        let mut given = paused();
        given.fd(0, Channel::give(null.try_clone().unwrap()));
        assert_eq!(marks_and_fds(&given, None), (true, vec![0]));
        close_all_but_the_first_three();
        place_at(&root, 3);
        assert_eq!(
            marks_and_fds(command.fchdir(PassedFd::from(with_fd(3))), None),
            (true, vec![0, 1, 2])
        );
    });
}

#[test]
fn a_launchers_slots_need_no_mark_while_they_are_this_spawns() {
    in_subprocess("a_launchers_slots_need_no_mark_while_they_are_this_spawns", || {
        pause();
        close_all_but_the_first_three();
        let launcher = Launcher::new(8).unwrap();
        // The rest of the low numbers.
        let first = fs::File::open("/dev/null").unwrap();
        let _busy: Vec<_> = (0..300).map(|_| first.try_clone().unwrap()).collect();
        let command = paused();
        assert_eq!(marks_and_fds(&command, Some(&launcher)), (false, vec![0, 1, 2]));
        // The slots of another spawn lie below.
        let mut other = command.prepare().unwrap();
        let holding = launcher.open(&mut other).unwrap();
        assert_eq!(marks_and_fds(&command, Some(&launcher)), (true, vec![0, 1, 2]));
        drop(holding);
        // And null, which is opened when the command is prepared.
        let mut null = paused();
        assert_eq!(marks_and_fds(null.fds([0, 1, 2], Null), Some(&launcher)).1, [0, 1, 2]);
    });
}

#[test]
fn a_table_is_shared_up_to_a_number_and_copied_above() {
    in_subprocess("a_table_is_shared_up_to_a_number_and_copied_above", || {
        pause();
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
        let null = fs::File::open("/dev/null").unwrap();
        for (at, shared) in [(1023, true), (1024, false)] {
            let source = rustix::io::fcntl_dupfd_cloexec(&null, at).unwrap();
            assert_eq!(source.as_raw_fd(), at, "a limit that is high enough");
            let mut command = paused();
            let mut prepared = command.fd(0, Channel::borrowed(&source)).prepare().unwrap();
            let opened = prepared.open().unwrap();
            let first = opened.plan().steps()[0];
            assert_eq!(matches!(first, Step::Unshare { .. }), shared, "{first}");
            let child = opened.spawn().unwrap();
            assert_eq!(fds_of(child.id().unwrap()).into_keys().collect::<Vec<_>>(), [0]);
        }
    });
}
