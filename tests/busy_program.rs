//! Programs that are open for writing: the one case in which an exec is tried
//! again.

#![cfg(target_os = "linux")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use forkplan::{Command, Signal};
use rustix::event::{PollFd, PollFlags, poll};
use support::{EXCLUSIONS, PATHS, write_program};

/// Writes and runs a program, as a compiler or a test runner does.
fn write_and_run(path: &Path, command: &mut Command<'_>) {
    fs::write(path, "#!/bin/true\n").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(command.spawn().unwrap().wait().unwrap().success());
    fs::remove_file(path).unwrap();
}

#[test]
fn threads_that_write_and_run_programs_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for number in 0..4 {
            let path = dir.path().join(number.to_string());
            scope.spawn(move || {
                for without in EXCLUSIONS.into_iter().cycle().take(200) {
                    // The slowest way of closing adds nothing but time.
                    let without = without - forkplan::Features::PROC_FD;
                    write_and_run(&path, Command::new(&path).without(without));
                }
            });
        }
    });
}

#[test]
fn a_program_that_stays_open_for_writing_is_etxtbsy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    write_program(&path, "#!/bin/true\n", 0o755);
    for without in PATHS {
        let mut prepared = Command::new(&path).without(without).prepare().unwrap();
        let writer = File::options().append(true).open(&path).unwrap();
        // A plan that was opened is carried out once.
        let once = prepared.open().unwrap().spawn().unwrap_err();
        let often = prepared.spawn().unwrap_err();
        for error in [once, often] {
            assert_eq!(error.raw_os_error(), Some(libc::ETXTBSY));
            assert_eq!(error.to_string(), format!("execve {path:?}: Text file busy"));
        }
        drop(writer);
        assert!(prepared.spawn().unwrap().wait().unwrap().success());
    }
}

#[test]
fn a_program_by_fd_is_waited_for_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    fs::copy("/bin/true", &path).unwrap();
    let program = File::open(&path).unwrap();
    for without in PATHS {
        let mut command = Command::new("program");
        let mut prepared = command.program_fd(&program).without(without).prepare().unwrap();
        let writer = File::options().append(true).open(&path).unwrap();
        // Tried once it is told so, and more often it is waited for: the writer goes
        // when the first try is over.
        let mut starting = prepared.try_clone().unwrap().start();
        while starting.notice().is_some() && !starting.look() {
            thread::yield_now();
        }
        drop(writer);
        let (_, child) = starting.finish();
        assert!(child.unwrap().wait().unwrap().success());
        // Control: with a writer that stays it is an error.
        let _writer = File::options().append(true).open(&path).unwrap();
        assert_eq!(prepared.spawn().unwrap_err().raw_os_error(), Some(libc::ETXTBSY));
    }
}

/// The kill comes when the child has said that the program is busy and nobody has heard
/// it yet; the control is who is not killed.
#[test]
fn a_start_that_was_killed_is_not_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    write_program(&path, "#!/bin/true\n", 0o755);
    for is_killed in [true, false] {
        let writer = File::options().append(true).open(&path).unwrap();
        let starting = Command::new(&path).prepare().unwrap().start();
        let notice = starting.notice().expect("there is a child");
        poll(&mut [PollFd::new(&notice, PollFlags::IN)], None).unwrap();
        if is_killed {
            starting.signal(Signal::KILL).unwrap();
        }
        drop(writer);
        match starting.finish().1 {
            Ok(mut child) => assert!(child.wait().unwrap().success() && !is_killed),
            Err(error) => assert!(error.raw_os_error() == Some(libc::ETXTBSY) && is_killed),
        }
    }
}
