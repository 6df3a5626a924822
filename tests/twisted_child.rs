//! What Twisted's tests promise of the child's side, under the names of those
//! tests: `twisted.test.test_process` and `twisted.internet.test.test_process`.
//! Fds are in `solver_steps.rs` and `spawn_fds.rs` (`GetFileActionsTests`), ids in
//! `setup_identity.rs` (`test_mockSetUid`, `test_changeUID`, `test_changeGID`).

mod support;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, pipe};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

use forkplan::Channel::{Null, ReadPipe};
use forkplan::{Channel, Command};
use support::{
    PATHS, fds_of, fds_of_self, in_subprocess, no_child_is_left, pause, signal_set, with_fd,
    write_program,
};

/// What the command writes to 1.
fn said(command: &mut Command<'_>) -> Vec<u8> {
    let mut child = command.fd(0, Null).fd(1, ReadPipe).spawn().unwrap();
    let mut said = Vec::new();
    File::from(child.take(1).unwrap()).read_to_end(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    said
}

#[test]
fn a_passed_fd_stays_open_in_the_parent_with_its_flags() {
    in_subprocess("a_passed_fd_stays_open_in_the_parent_with_its_flags", || {
        let (reader, _writer) = pipe().unwrap();
        let before = fds_of_self();
        for without in PATHS {
            let mut command = Command::new("/bin/true");
            command.fd(7, Channel::borrowed(&reader)).without(without);
            assert!(command.spawn().unwrap().wait().unwrap().success());
            assert_eq!(fds_of_self(), before);
        }
        assert!(before.contains_key(&reader.as_raw_fd()));
    });
}

/// `test_openFileDescriptors`
#[test]
fn the_child_has_no_fds_but_those_of_the_map() {
    in_subprocess("the_child_has_no_fds_but_those_of_the_map", || {
        // Somebody's, not CLOEXEC, and one above what is a limit from now on.
        let stray = support::place_at(with_fd(2), 77);
        let mut child = Command::new(pause()).fd(0, Null).fd(3, ReadPipe).spawn().unwrap();
        let fds: Vec<i32> = fds_of(child.id().unwrap()).into_keys().collect();
        assert_eq!(fds, [0, 3]);
        child.kill().unwrap();
        child.wait().unwrap();
        // The control: it is there to be had.
        let mut child =
            Command::new(pause()).inherit_unnamed_fds(true).fd(0, Null).spawn().unwrap();
        assert!(fds_of(child.id().unwrap()).contains_key(&stray.as_raw_fd()));
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

/// `test_childSignalHandling`
#[test]
fn a_signal_that_the_parent_ignores_has_its_default_in_the_child() {
    // Rust's runtime ignores SIGPIPE.
    const SIGPIPE: u64 = 1 << (libc::SIGPIPE - 1);
    assert_ne!(signal_set(std::process::id(), "SigIgn") & SIGPIPE, 0);
    for without in PATHS {
        let mut child = Command::new(pause()).without(without).fd(0, Null).spawn().unwrap();
        assert_eq!(signal_set(child.id().unwrap(), "SigIgn") & SIGPIPE, 0);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// `test_environment*`. Where Twisted's default is empty, ours is std's.
#[test]
fn an_environment_is_complete_as_said_or_inherited() {
    let mut command = Command::new("/usr/bin/env");
    assert_eq!(said(command.env_clear()), b"");
    let mut command = Command::new("/usr/bin/env");
    assert_eq!(said(command.env_clear().env("ONE", "1").env("B", "a=b")), b"B=a=b\nONE=1\n");
    let mut command = Command::new("/usr/bin/printenv");
    let inherited = said(command.arg("PATH"));
    assert_eq!(&inherited[..inherited.len() - 1], std::env::var_os("PATH").unwrap().as_bytes());
    let mut command = Command::new("/usr/bin/env");
    let all = said(command.env_remove("PATH"));
    assert!(!all.split(|&byte| byte == b'\n').any(|line| line.starts_with(b"PATH=")));
}

#[test]
fn of_a_variable_that_is_there_twice_the_child_has_what_the_parent_sees() {
    in_subprocess("of_a_variable_that_is_there_twice_the_child_has_what_the_parent_sees", || {
        unsafe extern "C" {
            static mut environ: *const *const core::ffi::c_char;
        }
        let twice = [c"TWICE=seen".as_ptr(), c"TWICE=hidden".as_ptr(), core::ptr::null()];
        // SAFETY: nobody else uses the environment, which outlives this body.
        unsafe { environ = Vec::leak(twice.into()).as_ptr() };
        assert_eq!(std::env::var_os("TWICE").unwrap(), "seen");
        assert_eq!(said(&mut Command::new("/usr/bin/env")), b"TWICE=seen\n");
        // What is said counts more than either.
        assert_eq!(said(Command::new("/usr/bin/env").env("TWICE", "said")), b"TWICE=said\n");
        assert_eq!(said(Command::new("/usr/bin/env").env_remove("TWICE")), b"");
    });
}

/// `test_processCommandLineArguments`, `test_commandLine`
#[test]
fn arguments_pass_every_byte_but_nul() {
    let every: Vec<u8> = (1..=255).collect();
    let difficult = [r"\", r"\\", "\"", "'", " ", "", "*", "$HOME", "-e", "a\nb"];
    let mut expected = every.clone();
    expected.push(0);
    for argument in difficult {
        expected.extend(argument.bytes().chain([0]));
    }
    let mut command = Command::new("printf");
    command.arg(r"%s\0").arg(OsStr::from_bytes(&every)).args(difficult);
    assert_eq!(said(&mut command), expected);
}

/// `test_shebang`
#[test]
fn a_script_is_run_by_the_program_that_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    write_program(&script, "#!/bin/sh\necho \"$0 $1\"\n", 0o755);
    let mut command = Command::new(&script);
    let expected = format!("{} argument\n", script.display());
    assert_eq!(said(command.arg("argument")), expected.as_bytes());
}

/// Twisted's child ends with 1 for it. Here it is an error of the spawn itself.
#[test]
fn a_program_that_is_not_there_is_an_error_and_leaves_nothing() {
    in_subprocess("a_program_that_is_not_there_is_an_error_and_leaves_nothing", || {
        let before = fds_of_self();
        for without in PATHS {
            let error = Command::new("/no/such").without(without).spawn().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
            assert!(no_child_is_left());
            assert_eq!(fds_of_self(), before);
        }
    });
}
