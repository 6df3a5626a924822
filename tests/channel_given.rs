//! Fds that are given away: who has them after a spawn, after a failed one, and
//! after a second one; and pipes between children.

#![cfg(target_os = "linux")]

mod support;

use std::fs::File;
use std::io::{Read, Write, read_to_string};
use std::os::unix::net::UnixStream;
use std::thread;

use forkplan::Channel::{self, ReadPipe, WritePipe};
use forkplan::{Command, PlanError};
use support::{EXCLUSIONS, PATHS, fds_of_self, in_subprocess, no_child_is_left};

/// A socket whose other end is given: that end is closed everywhere when `self`
/// reads the end of file, and open somewhere while a read would block.
struct Witness(UnixStream);

impl Witness {
    fn new() -> (Self, Channel<'static>) {
        let (witness, given) = UnixStream::pair().unwrap();
        witness.set_nonblocking(true).unwrap();
        (Self(witness), Channel::give(given))
    }

    fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0))
    }
}

#[test]
fn a_given_fd_is_the_childs_alone_after_the_spawn() {
    in_subprocess("a_given_fd_is_the_childs_alone_after_the_spawn", || {
        for without in EXCLUSIONS {
            let before = fds_of_self();
            let (mut witness, given) = Witness::new();
            let mut command = Command::new("cat");
            command.without(without).fd(0, WritePipe).fd(1, Channel::Null).fds([3, 4], given);
            let mut prepared = command.prepare().unwrap();
            let mut child = prepared.spawn().unwrap();
            assert!(!witness.is_closed());
            drop(child.take(0));
            assert!(child.wait().unwrap().success());
            // Nobody has a copy: neither the command nor what was prepared.
            assert!(witness.is_closed());
            drop((command, prepared, child, witness));
            assert_eq!(fds_of_self(), before);
        }
    });
}

#[test]
fn a_failed_spawn_gives_the_fd_back_and_the_next_one_has_it() {
    let dir = tempfile::tempdir().unwrap();
    for (without, number) in EXCLUSIONS.into_iter().zip(0..) {
        let program = dir.path().join(number.to_string());
        let (mut witness, given) = Witness::new();
        let mut command = Command::new(&program);
        command.arg("given").without(without).fd(1, given);
        let mut prepared = command.prepare().unwrap();
        for _ in 0..3 {
            assert_eq!(prepared.spawn().unwrap_err().raw_os_error(), Some(libc::ENOENT));
            // Opened and not spawned: that gives it back too.
            drop(prepared.open().unwrap());
            assert!(!witness.is_closed());
        }
        std::os::unix::fs::symlink("/bin/echo", &program).unwrap();
        assert!(prepared.spawn().unwrap().wait().unwrap().success());
        witness.0.set_nonblocking(false).unwrap();
        assert_eq!(read_to_string(&witness.0).unwrap(), "given\n");
    }
}

#[test]
fn a_spawn_that_fails_between_two_given_fds_gives_the_first_back() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let (mut witness, given) = Witness::new();
    let mut command = Command::new("true");
    command.fd(3, given).fd(4, Channel::file(&missing, forkplan::Open::Read));
    let mut prepared = command.prepare().unwrap();
    prepared.spawn().unwrap_err();
    assert!(!witness.is_closed());
    File::create(&missing).unwrap();
    prepared.spawn().unwrap().wait().unwrap();
    assert!(witness.is_closed());
}

#[test]
fn a_second_spawn_is_an_error_that_says_so() {
    for without in PATHS {
        let (_witness, given) = Witness::new();
        let mut command = Command::new("true");
        command.without(without).fds([9, 8], given);
        let mut clone = command.clone().prepare().unwrap();
        let mut prepared = command.prepare().unwrap();
        prepared.spawn().unwrap().wait().unwrap();
        for error in [prepared.spawn().unwrap_err(), clone.spawn().unwrap_err()] {
            assert_eq!(error.plan_error(), Some(&PlanError::AlreadyGiven { fd: 8 }));
            assert_eq!(error.to_string(), "what child fd 8 was to get was given to another spawn");
        }
    }
}

#[test]
fn one_fd_given_twice_in_a_command_is_an_error_and_stays() {
    let (mut witness, given) = Witness::new();
    let mut command = Command::new("true");
    command.fd(3, given.clone()).fd(4, given);
    let error = command.spawn().unwrap_err();
    assert_eq!(error.plan_error(), Some(&PlanError::AlreadyGiven { fd: 4 }));
    assert!(!witness.is_closed());
    drop(command);
    assert!(witness.is_closed());
}

#[test]
fn of_many_threads_one_gets_the_fd() {
    let (_witness, given) = Witness::new();
    let mut command = Command::new("true");
    command.fd(3, given);
    let prepared = command.prepare().unwrap();
    let spawned = thread::scope(|scope| {
        let spawn = || {
            let mut own = prepared.try_clone().unwrap();
            scope.spawn(move || own.spawn().map(|mut child| child.wait().unwrap()).is_ok())
        };
        let threads: Vec<_> = (0..4).map(|_| spawn()).collect();
        threads.into_iter().map(|t| t.join().unwrap()).filter(|&ok| ok).count()
    });
    assert_eq!(spawned, 1);
}

/// A pipeline of as many children as there are programs.
fn pipeline(without: forkplan::Features, programs: &[&[&str]]) -> String {
    let mut children = Vec::new();
    let mut input = Channel::from(File::open("/dev/null").unwrap());
    for (program, left) in programs.iter().zip((0..programs.len()).rev()) {
        let (output, next) = match left {
            0 => (ReadPipe, Channel::Null),
            _ => Channel::connected().unwrap(),
        };
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).without(without).fd(0, input).fd(1, output);
        children.push(command.spawn().unwrap());
        input = next;
    }
    // The end of file comes through all of them, or this would not end.
    let end = children.last_mut().unwrap().take(1).unwrap();
    let text = read_to_string(File::from(end)).unwrap();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    text
}

#[test]
fn a_pipeline_of_two_and_of_three_children_needs_no_copying_by_the_parent() {
    in_subprocess("a_pipeline_of_two_and_of_three_children_needs_no_copying_by_the_parent", || {
        for without in EXCLUSIONS {
            let before = fds_of_self();
            let printf: &[&str] = &["printf", "c\\na\\nb\\na\\n"];
            let [sort, uniq]: [&[&str]; 2] = [&["sort"], &["uniq"]];
            assert_eq!(pipeline(without, &[printf, sort]), "a\na\nb\nc\n");
            assert_eq!(pipeline(without, &[printf, sort, uniq]), "a\nb\nc\n");
            assert_eq!(fds_of_self(), before);
        }
        assert!(no_child_is_left());
    });
}

#[test]
fn the_reader_of_a_pipeline_that_ends_early_is_sigpipe_for_the_writer() {
    let (writer, reader) = Channel::connected().unwrap();
    let mut yes = Command::new("yes").fd(1, writer).spawn().unwrap();
    let mut head =
        Command::new("head").args(["-n", "2"]).fd(0, reader).fd(1, ReadPipe).spawn().unwrap();
    assert_eq!(read_to_string(File::from(head.take(1).unwrap())).unwrap(), "y\ny\n");
    assert!(head.wait().unwrap().success());
    assert_eq!(yes.wait().unwrap().signal(), Some(forkplan::Signal::PIPE));
}

/// The control: with owned fds in place of given ones the parent keeps a copy,
/// and the end of file waits for the command to be dropped.
#[test]
fn control_an_owned_fd_stays_open_in_the_parent() {
    let (reader, mut writer) = UnixStream::pair().unwrap();
    writer.write_all(b"x").unwrap();
    let mut command = Command::new("true");
    command.fd(1, writer);
    command.spawn().unwrap().wait().unwrap();
    let mut witness = Witness(reader);
    witness.0.set_nonblocking(true).unwrap();
    assert_eq!(witness.0.read(&mut [0; 8]).unwrap(), 1);
    assert!(!witness.is_closed());
    drop(command);
    assert!(witness.is_closed());
}
