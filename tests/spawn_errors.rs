//! What a spawn that fails says, and that it leaves nothing.

#![cfg(target_os = "linux")]

mod support;

use core::error::Error;
use std::fs;
use std::io::{self, ErrorKind};

use forkplan::plan::Step;
use forkplan::{Channel, Command, Features, OnDrop, Open, SpawnError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{
    EXCLUSIONS, PATHS, fds_of_self, in_subprocess, no_child_is_left, pause, place_at, with_fd,
    write_program,
};

/// The error of a command that can't be spawned, by both paths. They say the
/// same.
fn error_of(command: &Command<'_>) -> SpawnError {
    let [fast, forked] = PATHS.map(|without| {
        let error = command.clone().without(without).spawn().unwrap_err();
        assert_eq!(error.plan_error(), None, "{error}");
        error
    });
    assert_eq!(fast.to_string(), forked.to_string());
    assert_eq!(fast.raw_os_error(), forked.raw_os_error());
    assert_eq!(fast.kind(), forked.kind());
    assert_eq!(fast.signal(), None);
    forked
}

#[track_caller]
fn assert_error(command: &Command<'_>, errno: i32, words: &str) {
    let error = error_of(command);
    assert_eq!((error.raw_os_error(), error.to_string().as_str()), (Some(errno), words));
}

#[test]
fn a_missing_program_is_named() {
    let command = Command::new("/nowhere/program");
    assert_error(&command, libc::ENOENT, "execve \"/nowhere/program\": No such file or directory");
    let error = error_of(&command);
    assert!(matches!(error.step(), Some(Step::Exec { .. })));
    assert_eq!(error.description(), Some("execve \"/nowhere/program\""));
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn the_index_is_that_of_the_step_in_the_plan() {
    let mut command = Command::new("/nowhere/program");
    command.current_dir("/");
    for without in EXCLUSIONS {
        let mut prepared = command.clone().without(without).prepare().unwrap();
        let opened = prepared.open().unwrap();
        let steps = opened.plan().steps().to_vec();
        let error = opened.spawn().unwrap_err();
        let index = error.step_index().unwrap();
        assert_eq!((index, error.step()), (steps.len() - 1, steps.last().copied()));
    }
}

#[test]
fn a_missing_directory_is_named() {
    let mut command = Command::new("/bin/true");
    command.current_dir("/nowhere");
    assert_error(&command, libc::ENOENT, "chdir \"/nowhere\": No such file or directory");
    assert!(matches!(error_of(&command).step(), Some(Step::Chdir { .. })));
}

#[test]
fn where_directory_and_program_are_missing_the_directory_is_named() {
    let mut command = Command::new("/nowhere/program");
    command.current_dir("/nowhere");
    assert_error(&command, libc::ENOENT, "chdir \"/nowhere\": No such file or directory");
}

#[test]
fn a_file_that_may_not_be_run_is_eacces() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plain");
    write_program(&path, "", 0o644);
    let words = format!("execve {path:?}: Permission denied");
    assert_error(&Command::new(&path), libc::EACCES, &words);
    assert_eq!(error_of(&Command::new(&path)).kind(), ErrorKind::PermissionDenied);
    // A directory too.
    assert_error(&Command::new("/etc/"), libc::EACCES, "execve \"/etc/\": Permission denied");
}

#[test]
fn a_file_that_is_no_program_is_enoexec_and_no_shell_is_tried() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script");
    let proof = dir.path().join("proof");
    write_program(&path, &format!("echo ran > {}\n", proof.display()), 0o755);
    assert_error(
        &Command::new(&path),
        libc::ENOEXEC,
        &format!("execve {path:?}: Exec format error"),
    );
    // Neither when it is found by a search.
    let mut command = Command::new("script");
    command.env("PATH", dir.path());
    assert_eq!(error_of(&command).raw_os_error(), Some(libc::ENOEXEC));
    assert!(!proof.exists());
}

#[test]
fn a_path_through_a_file_is_enotdir() {
    let command = Command::new("/etc/passwd/program");
    assert_error(&command, libc::ENOTDIR, "execve \"/etc/passwd/program\": Not a directory");
}

#[test]
fn a_script_names_its_interpreter_and_its_absence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script");
    write_program(&path, "#!/bin/sh\nexit $1\n", 0o755);
    for without in PATHS {
        let mut child = Command::new(&path).arg("7").without(without).spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
    }
    write_program(&path, "#!/nowhere/interpreter\n", 0o755);
    let words = format!("execve {path:?}: No such file or directory");
    assert_error(&Command::new(&path), libc::ENOENT, &words);
}

#[test]
fn an_argument_of_131072_bytes_is_too_big_and_one_less_is_not() {
    for (size, fits) in [(131_071, true), (131_072, false)] {
        let mut command = Command::new("/bin/true");
        command.arg("a".repeat(size));
        if fits {
            for without in PATHS {
                let mut child = command.clone().without(without).spawn().unwrap();
                assert!(child.wait().unwrap().success());
            }
        } else {
            let words = "execve \"/bin/true\": Argument list too long";
            assert_error(&command, libc::E2BIG, words);
        }
    }
}

#[test]
fn a_file_channel_that_is_missing_is_the_parents_error() {
    let mut command = Command::new("/bin/true");
    command.stdin(Channel::file("/nowhere/input", Open::Read));
    assert_error(&command, libc::ENOENT, "open \"/nowhere/input\": No such file or directory");
    let error = error_of(&command);
    assert_eq!((error.step(), error.step_index()), (None, None));
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn an_io_error_keeps_the_kind_and_this_error_inside() {
    let error = io::Error::from(error_of(&Command::new("/etc/passwd/program")));
    assert_eq!(error.kind(), ErrorKind::NotADirectory);
    assert_eq!(error.to_string(), "execve \"/etc/passwd/program\": Not a directory");
    let inside = error.get_ref().and_then(|e| e.downcast_ref::<SpawnError>()).unwrap();
    assert_eq!(inside.raw_os_error(), Some(libc::ENOTDIR));
    assert!(inside.source().is_none());
    // That of a request that can't be carried out has the reason as its source.
    let error = Command::new("").spawn().unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::InvalidInput, None));
    assert_eq!((error.step(), error.description(), error.signal()), (None, None, None));
    // Its text is this error's text, so a chain of errors has it once.
    assert!(error.source().is_none());
}

#[test]
fn a_passed_fd_that_is_closed_is_ebadf_and_nothing_takes_its_place() {
    in_subprocess("a_passed_fd_that_is_closed_is_ebadf_and_nothing_takes_its_place", || {
        // The lowest numbers, which whatever is made next would take: the pipe
        // of another channel, that of the fork path, or the pidfd.
        for fd in 0..2 {
            // SAFETY: this process is the test's own.
            unsafe { libc::close(fd) };
        }
        for without in EXCLUSIONS {
            for (target, step) in [(1, "fcntl 1 F_SETFD 0"), (5, "dup2 1 -> 5")] {
                let mut command = Command::new("/bin/true");
                command.without(without).fd(target, Channel::stdout());
                for with_pipe in [false, true] {
                    if with_pipe {
                        command.fd(0, Channel::ReadPipe);
                    }
                    let error = command.spawn().unwrap_err();
                    assert_eq!(error.description(), Some(step), "{without:?}");
                    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
                    assert_eq!(error.to_string(), format!("{step}: Bad file descriptor"));
                }
            }
        }
        assert!(no_child_is_left());
    });
}

#[test]
fn no_fd_for_a_pipe_names_pipe2_and_closes_what_was_made() {
    in_subprocess("no_fd_for_a_pipe_names_pipe2_and_closes_what_was_made", || {
        for without in PATHS {
            let mut prepared = Command::new("/bin/true").without(without).prepare().unwrap();
            let before = fds_of_self();
            let maximum = getrlimit(Resource::Nofile).maximum;
            // Room for less than the pipes of the default map, whatever is open.
            for current in 3..8 {
                setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum }).unwrap();
                let error = prepared.spawn().unwrap_err();
                assert!(error.description().unwrap().starts_with("pipe2 for child fd "), "{error}");
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            }
            setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
            assert_eq!(fds_of_self(), before);
            assert!(prepared.spawn().unwrap().wait().unwrap().success());
        }
        assert!(no_child_is_left());
    });
}

#[test]
fn a_target_above_a_limit_that_was_lowered_since_is_ebadf() {
    in_subprocess("a_target_above_a_limit_that_was_lowered_since_is_ebadf", || {
        for without in PATHS {
            let mut command = Command::new("/bin/true");
            command.without(without).fd(700, Channel::Null);
            let mut prepared = command.prepare().unwrap();
            let maximum = getrlimit(Resource::Nofile).maximum;
            setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).unwrap();
            let error = prepared.spawn().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
            assert!(matches!(error.step(), Some(Step::Dup2 { to: 700, .. })), "{error}");
            setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
        }
    });
}

#[test]
fn a_thousand_failed_spawns_leave_no_fd_and_no_process() {
    in_subprocess("a_thousand_failed_spawns_leave_no_fd_and_no_process", || {
        let before = fds_of_self();
        for without in EXCLUSIONS {
            // The slowest way of closing looks at each number below this.
            let Rlimit { current, .. } = getrlimit(Resource::Nofile);
            setrlimit(Resource::Nofile, Rlimit { current, maximum: current }).unwrap();
            let mut missing = Command::new("/nowhere/program");
            missing.without(without).fd(9, Channel::SocketPair).fd(1, Channel::ReadPipe);
            let mut nowhere = Command::new("/bin/true");
            nowhere.without(without).current_dir("/nowhere");
            for _ in 0..63 {
                missing.spawn().unwrap_err();
                nowhere.spawn().unwrap_err();
            }
        }
        assert_eq!(fds_of_self(), before);
        assert!(no_child_is_left());
    });
}

#[test]
fn failed_spawns_beside_live_children_leave_them_alone() {
    for without in EXCLUSIONS {
        let mut standing = Command::new(pause());
        standing.without(without).on_drop(OnDrop::Kill);
        let mut elder = standing.spawn().unwrap();
        for _ in 0..10 {
            Command::new("/nowhere/program").without(without).spawn().unwrap_err();
        }
        let mut younger = standing.spawn().unwrap();
        Command::new("/bin/true").without(without).current_dir("/nowhere").spawn().unwrap_err();
        for child in [&mut elder, &mut younger] {
            assert_eq!(child.try_wait().unwrap(), None);
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(forkplan::Signal::KILL));
        }
    }
}

#[test]
fn a_prepared_command_works_again_after_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("link");
    for without in PATHS {
        let mut prepared = Command::new(&path).without(without).prepare().unwrap();
        for _ in 0..3 {
            prepared.spawn().unwrap_err();
            std::os::unix::fs::symlink("/bin/true", &path).unwrap();
            assert!(prepared.spawn().unwrap().wait().unwrap().success());
            fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn what_was_given_stays_open_when_the_spawn_fails() {
    in_subprocess("what_was_given_stays_open_when_the_spawn_fails", || {
        place_at(tempfile::tempfile().unwrap(), 50);
        for without in [Features::empty(), Features::SHARED_MEMORY] {
            let before = fds_of_self();
            let mut command = Command::new("/nowhere/program");
            command.without(without).fd(3, with_fd(50)).fd(50, Channel::stderr());
            command.spawn().unwrap_err();
            assert_eq!(fds_of_self(), before);
        }
    });
}
