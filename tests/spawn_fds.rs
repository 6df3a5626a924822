//! The child's fds, as real spawns make them, by every way that the crate has.

#![cfg(target_os = "linux")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use forkplan::Channel::{Null, ReadPipe, SocketPair, WritePipe};
use forkplan::{Channel, Child, Command, Features, OnDrop, Open};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{
    EXCLUSIONS, File, beside, fds_of, fds_of_self, file_of, in_subprocess, pause, place_at, with_fd,
};

/// A command for a child that stands still and is killed at the end.
fn paused<'fd>(without: Features) -> Command<'fd> {
    let mut command = Command::new(pause());
    command.without(without).on_drop(OnDrop::Kill);
    command
}

/// Which file is on which of the child's fds.
fn files_of(child: &Child) -> BTreeMap<i32, File> {
    fds_of(child.id().unwrap()).into_iter().map(|(fd, open)| (fd, open.file)).collect()
}

/// A new file that is no other.
fn a_file() -> fs::File {
    tempfile::tempfile().unwrap()
}

/// Bounds the slowest way of closing, which looks at each number below the hard
/// limit.
fn lower_the_hard_limit() {
    let Rlimit { current, .. } = getrlimit(Resource::Nofile);
    let current = current.map(|limit| limit.min(1024));
    setrlimit(Resource::Nofile, Rlimit { current, maximum: Some(1024) }).unwrap();
}

/// Puts four different files on the first four numbers, so that every number
/// in a map is taken in the parent and every source is another's target.
fn files_on_the_first_four_numbers() -> [File; 4] {
    lower_the_hard_limit();
    let files = [a_file(), a_file(), a_file(), a_file()]
        .map(|file| rustix::io::fcntl_dupfd_cloexec(&file, 200).unwrap());
    let places = [0, 1, 2, 3].map(|at| place_at(&files[at as usize], at));
    places.map(file_of)
}

#[test]
fn every_map_of_up_to_four_targets_over_four_sources_is_exact() {
    in_subprocess("every_map_of_up_to_four_targets_over_four_sources_is_exact", || {
        let files = files_on_the_first_four_numbers();
        for without in EXCLUSIONS {
            // Each digit of base 5 is a target: unmapped, or a copy of a source.
            for digits in 1..5usize.pow(4) {
                let mut command = paused(without);
                let mut expected = BTreeMap::new();
                for target in 0..4 {
                    let Some(source) = (digits / 5usize.pow(target) % 5).checked_sub(1) else {
                        continue;
                    };
                    command.fd(target as i32, with_fd(source as i32));
                    expected.insert(target as i32, files[source]);
                }
                let child = command.spawn().unwrap();
                assert_eq!(files_of(&child), expected, "map {digits}, without {without:?}");
            }
        }
    });
}

#[test]
fn one_channel_serves_two_fds_and_the_other_pipe_stays_apart() {
    for without in EXCLUSIONS {
        let child = paused(without).fds([0, 1], SocketPair).fd(2, ReadPipe).spawn().unwrap();
        let fds = fds_of(child.id().unwrap());
        assert_eq!(fds.keys().copied().collect::<Vec<_>>(), [0, 1, 2], "{without:?}");
        assert_eq!(fds[&0], fds[&1], "{without:?}");
        assert_eq!(fds[&2].file, file_of(child.end(2).unwrap()), "{without:?}");
        assert!(fds[&2].is_for_writing());
    }
}

#[test]
fn two_and_one_are_one_as_in_a_shell() {
    for without in EXCLUSIONS {
        let child = paused(without).fd(0, Null).fds([1, 2], ReadPipe).spawn().unwrap();
        let files = files_of(&child);
        assert_eq!(files[&1], files[&2]);
        assert_eq!(files[&1], file_of(child.end(1).unwrap()));
        assert_eq!(file_of(child.end(1).unwrap()), file_of(child.end(2).unwrap()));
        assert_ne!(files[&0], files[&1]);
    }
}

#[test]
fn a_swap_of_stdout_and_stderr_onto_files_keeps_both() {
    in_subprocess("a_swap_of_stdout_and_stderr_onto_files_keeps_both", || {
        for without in EXCLUSIONS {
            let dir = tempfile::tempdir().unwrap();
            let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
            place_at(fs::File::create(&one).unwrap(), 1);
            place_at(fs::File::create(&two).unwrap(), 2);
            let mut child = Command::new("sh")
                .args(["-c", "echo out; echo err >&2"])
                .fd(1, Channel::stderr())
                .fd(2, Channel::stdout())
                .without(without)
                .spawn()
                .unwrap();
            assert!(child.wait().unwrap().success());
            assert_eq!(fs::read_to_string(one).unwrap(), "err\n", "{without:?}");
            assert_eq!(fs::read_to_string(two).unwrap(), "out\n", "{without:?}");
        }
    });
}

/// The child's three fds for one map, with some of the parent's three closed.
fn check_with_closed(closed: [bool; 3], without: Features) {
    let child = paused(without).spawn().unwrap();
    let fds = fds_of(child.id().unwrap());
    assert_eq!(fds.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    assert!(fds[&0].is_for_reading() && fds[&1].is_for_writing() && fds[&2].is_for_writing());
    for fd in 0..3 {
        assert_eq!(fds[&fd].file, file_of(child.end(fd).unwrap()), "{fd}");
        assert_eq!(fds[&fd].flags & libc::O_NONBLOCK, 0);
    }
    drop(child);

    // What is left open is passed on, straight and swapped, beside a new pipe.
    let open: Vec<i32> = (0..3).filter(|&fd| !closed[fd as usize]).collect();
    let mirrored = open.iter().rev();
    for sources in [open.iter().collect::<Vec<_>>(), mirrored.collect()] {
        let mut command = paused(without);
        let mut expected = BTreeMap::new();
        for (&target, &&source) in open.iter().zip(&sources) {
            command.fd(target, with_fd(source));
            expected.insert(target, file_of(with_fd(source)));
        }
        let child = command.fd(5, WritePipe).spawn().unwrap();
        expected.insert(5, file_of(child.end(5).unwrap()));
        assert_eq!(files_of(&child), expected);
    }
}

#[test]
fn any_of_the_parents_first_three_fds_may_be_closed() {
    in_subprocess("any_of_the_parents_first_three_fds_may_be_closed", || {
        files_on_the_first_four_numbers();
        pause();
        let saved = [0, 1, 2].map(|fd| rustix::io::fcntl_dupfd_cloexec(with_fd(fd), 100).unwrap());
        for without in EXCLUSIONS {
            for subset in 0..8 {
                let closed = [0, 1, 2].map(|fd| subset & (1 << fd) != 0);
                for fd in (0..3).filter(|&fd| closed[fd as usize]) {
                    // SAFETY: the number is this process's own, which has one
                    // thread that uses fds.
                    unsafe { libc::close(fd) };
                }
                let before = fds_of_self();
                check_with_closed(closed, without);
                assert_eq!(fds_of_self(), before, "closed {closed:?}, without {without:?}");
                for fd in 0..3 {
                    place_at(&saved[fd as usize], fd);
                }
            }
        }
    });
}

#[test]
fn what_nobody_named_is_closed_above_a_lowered_limit_too() {
    in_subprocess("what_nobody_named_is_closed_above_a_lowered_limit_too", || {
        lower_the_hard_limit();
        for at in [50, 63, 64, 65, 700] {
            place_at(a_file(), at);
        }
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: Some(60), maximum }).unwrap();
        for without in EXCLUSIONS {
            let child = paused(without).spawn().unwrap();
            let numbers: Vec<i32> = files_of(&child).into_keys().collect();
            assert_eq!(numbers, [0, 1, 2], "{without:?}");
        }
        // The control: they are open and would be inherited.
        let child = paused(Features::empty()).inherit_unnamed_fds(true).spawn().unwrap();
        let files = files_of(&child);
        assert!([50, 63, 64, 65, 700].iter().all(|fd| files.contains_key(fd)), "{files:?}");
    });
}

#[test]
fn a_passed_fd_keeps_its_flags_in_the_parent() {
    for without in EXCLUSIONS {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::empty()).unwrap();
        let flags = |fd: BorrowedFd<'_>| fds_of_self()[&fd.as_raw_fd()];
        let before = [flags(reader.as_fd()), flags(writer.as_fd())];
        // Once each moved, once each in its own place.
        let (at, above) = (reader.as_raw_fd(), writer.as_raw_fd());
        for [first, second] in [[0, 1], [at, above], [above, at]] {
            let child = paused(without)
                .fd(first, Channel::borrowed(&reader))
                .fd(second, Channel::borrowed(&writer))
                .spawn()
                .unwrap();
            let fds = fds_of(child.id().unwrap());
            assert_eq!(fds.len(), 2, "{without:?}");
            // One description for both, so the flag that belongs to it shows.
            assert_ne!(fds[&first].flags & libc::O_NONBLOCK, 0);
            assert_eq!(fds[&second].flags & libc::O_NONBLOCK, 0);
            assert_eq!([flags(reader.as_fd()), flags(writer.as_fd())], before, "{without:?}");
        }
    }
}

#[test]
fn unnamed_fds_that_are_inherited_are_clobbered_by_nobody() {
    in_subprocess("unnamed_fds_that_are_inherited_are_clobbered_by_nobody", || {
        pause();
        files_on_the_first_four_numbers();
        for at in 4..40 {
            place_at(a_file(), at);
        }
        for without in EXCLUSIONS {
            // Two cycles of stdio and of numbers among the inherited ones.
            let map = [(0, 0), (1, 2), (2, 1), (10, 11), (11, 12), (12, 10)];
            let mut command = paused(without);
            command.inherit_unnamed_fds(true);
            let before = fds_of_self();
            let inherited = before.iter().filter(|(_, open)| open.flags & libc::O_CLOEXEC == 0);
            let mut expected: BTreeMap<i32, File> = inherited.map(|(&n, o)| (n, o.file)).collect();
            for (target, source) in map {
                command.fd(target, with_fd(source));
                expected.insert(target, before[&source].file);
            }
            let child = command.spawn().unwrap();
            assert_eq!(files_of(&child), expected, "{without:?}");
            drop((command, child));
            assert_eq!(fds_of_self(), before, "{without:?}");
        }
    });
}

#[test]
fn the_notice_pipe_gives_way_to_the_map_and_still_tells() {
    in_subprocess("the_notice_pipe_gives_way_to_the_map_and_still_tells", || {
        lower_the_hard_limit();
        pause();
        let source = rustix::io::fcntl_dupfd_cloexec(a_file(), 100).unwrap();
        for without in [Features::SHARED_MEMORY, Features::all()] {
            for last in 3..=20 {
                let mut command = paused(without);
                command.fds(3..=last, Channel::borrowed(&source));
                let child = command.spawn().unwrap();
                let expected = (3..=last).map(|fd| (fd, file_of(&source))).collect();
                assert_eq!(files_of(&child), expected);

                let mut command = Command::new("/nowhere/at/all");
                command.without(without).fds(3..=last, Channel::borrowed(&source));
                let mut prepared = command.prepare().unwrap();
                let opened = prepared.open().unwrap();
                // The premise: the pipe lies where the map wants its targets.
                let lowest = fds_of_self().keys().copied().find(|&fd| fd >= 3).unwrap();
                assert_eq!(lowest, 3);
                let error = opened.spawn().unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "targets 3..={last}");
            }
        }
    });
}

#[test]
fn a_siblings_pipe_does_not_keep_the_end_of_file_away() {
    for without in EXCLUSIONS {
        let elder = paused(without).spawn().unwrap();
        let mut cat = Command::new("cat").without(without).spawn().unwrap();
        let younger = paused(without).spawn().unwrap();
        // Both siblings live and have open whatever they have got.
        drop(cat.take(0));
        let mut rest = Vec::new();
        fs::File::from(cat.take(1).unwrap()).read_to_end(&mut rest).unwrap();
        assert!(cat.wait().unwrap().success());
        drop((elder, younger));
    }
}

#[test]
fn control_a_sibling_that_inherits_all_holds_the_pipe() {
    in_subprocess("control_a_sibling_that_inherits_all_holds_the_pipe", || {
        let mut cat = Command::new("cat").spawn().unwrap();
        let to_cat = cat.take(0).unwrap();
        rustix::io::fcntl_setfd(&to_cat, rustix::io::FdFlags::empty()).unwrap();
        let sibling = paused(Features::empty()).inherit_unnamed_fds(true).spawn().unwrap();
        assert!(files_of(&sibling).values().any(|&file| file == file_of(&to_cat)));
        drop(sibling);
        drop(to_cat);
        assert!(cat.wait().unwrap().success());
    });
}

#[test]
fn an_fd_that_another_thread_opens_meanwhile_is_not_inherited() {
    in_subprocess("an_fd_that_another_thread_opens_meanwhile_is_not_inherited", || {
        lower_the_hard_limit();
        pause();
        // Neither end is CLOEXEC, as a careless library makes them.
        let careless = || drop(rustix::pipe::pipe().unwrap());
        beside(careless, || {
            for without in EXCLUSIONS.into_iter().cycle().take(400) {
                let child = paused(without).spawn().unwrap();
                let numbers: Vec<i32> = files_of(&child).into_keys().collect();
                assert_eq!(numbers, [0, 1, 2], "{without:?}");
            }
        });
    });
}

#[test]
fn files_and_the_null_device_come_as_asked() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("log");
    for without in EXCLUSIONS {
        fs::write(&path, "old ")?;
        let mut child = Command::new("sh")
            .args(["-c", "cat; echo new >&7"])
            .fds([0, 1], Null)
            .fd(7, Channel::file(&path, Open::Append))
            .without(without)
            .spawn()?;
        assert!(child.wait()?.success());
        assert_eq!(fs::read_to_string(&path)?, "old new\n", "{without:?}");
    }
    Ok(())
}

#[test]
fn an_owned_fd_is_closed_with_the_command_and_not_before() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "echo x"]).fd(1, writer);
    let mut prepared = command.prepare().unwrap();
    drop(command);
    for _ in 0..2 {
        assert!(prepared.spawn().unwrap().wait().unwrap().success());
    }
    drop(prepared);
    let mut text = String::new();
    fs::File::from(reader).read_to_string(&mut text).unwrap();
    assert_eq!(text, "x\nx\n");
}
