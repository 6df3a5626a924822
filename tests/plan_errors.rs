//! What is wrong with a request, and that it is said before anything happens.

#![cfg(target_os = "linux")]

mod support;

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;

use forkplan::Channel::{Null, ReadPipe, SocketPair, WritePipe};
use forkplan::{Channel, Command, Features, Open, PlanError, Signal};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::in_subprocess;

/// A command with nothing wrong.
fn fine<'fd>() -> Command<'fd> {
    Command::new("/bin/true")
}

fn error_of(command: &Command<'_>) -> PlanError {
    let error = command.prepare().unwrap_err();
    // A spawn says the same.
    assert_eq!(command.spawn().unwrap_err().plan_error(), Some(&error));
    error
}

#[track_caller]
fn assert_invalid(command: &Command<'_>, expected: &PlanError, words: &str) {
    let error = error_of(command);
    assert_eq!((&error, error.to_string().as_str()), (expected, words));
    assert_eq!(io::Error::from(error).kind(), ErrorKind::InvalidInput);
}

#[track_caller]
fn assert_nul(command: &Command<'_>, what: &str) {
    let expected = PlanError::NulByte { what: what.into() };
    assert_invalid(command, &expected, &format!("{what} has a NUL byte in it"));
}

#[test]
fn a_nul_byte_is_refused_wherever_it_is() {
    assert_nul(&Command::new("/bin/tr\0ue"), "argument 0");
    assert_nul(Command::new("/bin/tr\0ue").arg0("true"), "program");
    assert_nul(fine().arg0("\0"), "argument 0");
    assert_nul(fine().args(["fine", "not\0"]), "argument 2");
    assert_nul(fine().env("A\0", "b"), "name of environment variable \"A\\0\"");
    assert_nul(fine().env_remove("A\0"), "name of environment variable \"A\\0\"");
    assert_nul(fine().env("A", "b\0"), "value of environment variable \"A\"");
    assert_nul(fine().current_dir("/\0"), "current directory");
    assert_nul(fine().stdin(Channel::file("/x\0y", Open::Read)), "path of a file");
}

#[test]
fn the_name_of_a_variable_is_neither_empty_nor_has_an_equals_sign() {
    for key in ["", "=", "A=B", "=A"] {
        let expected = PlanError::BadEnvKey { key: key.into() };
        let words = format!("{key:?} can't name an environment variable: it is empty or has a '='");
        assert_invalid(fine().env(key, "value"), &expected, &words);
    }
}

#[test]
fn every_other_byte_goes_through() {
    let all: Vec<u8> = (1..=255).collect();
    let all = OsStr::from_bytes(&all);
    let mut child = Command::new("sh")
        .args(["-c", "printf %s \"$1\" >&3; printf %s \"$VALUE\" >&4", "sh"])
        .arg(all)
        .env("VALUE", "a=b=")
        .fds([3], ReadPipe)
        .fd(4, ReadPipe)
        .spawn()
        .unwrap();
    let mut read = |fd: i32| {
        let mut bytes = Vec::new();
        let mut end = std::fs::File::from(child.take(fd).unwrap());
        io::Read::read_to_end(&mut end, &mut bytes).unwrap();
        bytes
    };
    assert_eq!(read(3), all.as_bytes());
    assert_eq!(read(4), b"a=b=");
    assert!(child.wait().unwrap().success());
}

#[test]
fn an_empty_program_and_an_empty_path_are_told_apart() {
    let words = "the program's name is empty";
    assert_invalid(&Command::new(""), &PlanError::EmptyProgram, words);
    for path in ["", ":", "::"] {
        let error = error_of(Command::new("true").env("PATH", path));
        assert_eq!(error, PlanError::EmptyPath { program: "true".into() });
        let words = "\"true\" is nowhere to be looked for: the child's PATH is empty";
        assert_eq!(error.to_string(), words);
        assert_eq!(io::Error::from(error).kind(), ErrorKind::NotFound);
    }
}

#[test]
fn fds_that_cannot_be_are_refused_with_their_channel() {
    let expected = PlanError::NegativeFd { fd: -1, channel: "read pipe".into() };
    assert_invalid(fine().fd(-1, ReadPipe), &expected, "child fd -1 is negative: read pipe");

    let channel = "socket pair \"control\"";
    let expected = PlanError::NoFd { channel: channel.into() };
    let words = "socket pair \"control\" is mapped on no child fd";
    assert_invalid(fine().channel("control", SocketPair, []), &expected, words);

    let expected =
        PlanError::DuplicateFd { fd: 4, first: "write pipe".into(), second: "parent's 2".into() };
    let words = "child fd 4 is mapped twice: write pipe and parent's 2";
    assert_invalid(fine().fd(4, WritePipe).fd(4, Channel::stderr()), &expected, words);

    let file = Channel::file("/etc/passwd", Open::Read);
    let expected = PlanError::DuplicateFd {
        fd: 4,
        first: "file \"/etc/passwd\"".into(),
        second: "file \"/etc/passwd\"".into(),
    };
    let words = "child fd 4 is mapped twice: file \"/etc/passwd\" and file \"/etc/passwd\"";
    assert_invalid(fine().fds([4, 5, 4], file), &expected, words);

    // What is said of one of the three by number and by name is said twice.
    let expected =
        PlanError::DuplicateFd { fd: 0, first: "/dev/null".into(), second: "read pipe".into() };
    let words = "child fd 0 is mapped twice: /dev/null and read pipe";
    assert_invalid(fine().fd(0, Null).stdin(ReadPipe), &expected, words);
}

#[test]
fn the_limit_on_fds_is_the_first_number_that_is_refused() {
    in_subprocess("the_limit_on_fds_is_the_first_number_that_is_refused", || {
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: Some(100), maximum }).unwrap();
        let channel = "/dev/null \"log\"";
        let expected = PlanError::FdAtLimit { fd: 100, channel: channel.into(), limit: 100 };
        let words = "child fd 100 is not below RLIMIT_NOFILE, 100: /dev/null \"log\"";
        assert_invalid(fine().channel("log", Null, [100]), &expected, words);
        let mut child = Command::new("/bin/true").fd(99, Null).spawn().unwrap();
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn two_channels_have_two_names() {
    let expected = PlanError::DuplicateName { name: "log".into() };
    let mut command = fine();
    command.channel("log", ReadPipe, [3]).channel("other", ReadPipe, [4]).channel("log", Null, [5]);
    assert_invalid(&command, &expected, "two channels have the name \"log\"");
}

#[test]
fn only_signals_can_be_blocked() {
    for signal in [0, -1, 65, i32::MAX] {
        let words = format!("{signal} is no signal");
        let expected = PlanError::BadSignal { signal };
        assert_invalid(fine().block_signals([Signal::from(signal)]), &expected, &words);
    }
}

#[test]
fn a_feature_that_is_required_and_excluded_is_missing() {
    let error =
        error_of(fine().without(Features::PIDFD | Features::CLONE3).require(Features::PIDFD));
    assert_eq!(error, PlanError::MissingFeature { features: Features::PIDFD });
    assert_eq!(error.to_string(), "required and not there: PIDFD");
    assert_eq!(io::Error::from(error).kind(), ErrorKind::Unsupported);
    // What makes no sense without another goes with it: fds are shared with a
    // child that shares memory, and that leaves none behind.
    let required = Features::SHARED_FILES;
    let missing = PlanError::MissingFeature { features: required };
    let without = Features::SHARED_MEMORY;
    assert_eq!(error_of(fine().without(without).require(required)), missing);
    assert_eq!(error_of(fine().inherit_unnamed_fds(true).require(required)), missing);
}

#[test]
fn what_the_system_refuses_is_its_errno() {
    in_subprocess("what_the_system_refuses_is_its_errno", || {
        let maximum = getrlimit(Resource::Nofile).maximum;
        // The features are asked for first, which needs fds.
        Command::new("/bin/true").prepare().unwrap();
        setrlimit(Resource::Nofile, Rlimit { current: Some(3), maximum }).unwrap();
        let error = Command::new("/bin/true").stdin(Null).prepare().unwrap_err();
        let call = "open \"/dev/null\"";
        assert_eq!(error, PlanError::System { call, errno: libc::EMFILE });
        // Each libc has its own words for the errno.
        assert!(error.to_string().starts_with("open \"/dev/null\": "));
        let error = Command::new("/bin/true").stdin(Null).spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    });
}
