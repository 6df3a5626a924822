//! What is prepared once and used again: by a retry, by a clone, by a program
//! that forks for itself.

#![cfg(target_os = "linux")]

mod support;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use forkplan::{Channel, Command, Features, Open};
use support::seccomp::{Rule, under};
use support::{PATHS, in_subprocess};

/// Refused calls after which the same spawn is tried again.
fn refusals() -> [Rule; 2] {
    [Rule::errno(libc::SYS_clone3, libc::ENOSYS), Rule::errno(libc::SYS_close_range, libc::ENOSYS)]
}

#[test]
fn a_retry_does_not_open_a_file_that_must_be_new_a_second_time() {
    for refused in refusals() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        let mut command = Command::new("echo");
        command.arg("once").fd(1, Channel::file(&path, Open::CreateNew));
        let mut prepared = command.prepare().unwrap();
        under(&[refused], || assert!(prepared.spawn().unwrap().wait().unwrap().success()));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "once\n");
        // Control: a second spawn does open it.
        assert_eq!(prepared.spawn().unwrap_err().raw_os_error(), Some(libc::EEXIST));
    }
}

#[test]
fn a_retry_does_not_do_without_what_is_required() {
    let features = [Features::CLONE3, Features::CLOSE_RANGE];
    for (refused, required) in refusals().into_iter().zip(features) {
        let mut command = Command::new("true");
        let mut may_fall_back = command.prepare().unwrap();
        let mut may_not = command.require(required).prepare().unwrap();
        under(&[refused], || {
            let error = may_not.spawn().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOSYS), "{error}");
            // Control: without the word the same works.
            assert!(may_fall_back.spawn().unwrap().wait().unwrap().success());
        });
    }
}

#[test]
fn a_program_that_forks_for_itself_spawns_on_both_sides() {
    in_subprocess("a_program_that_forks_for_itself_spawns_on_both_sides", || {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/bin/true", dir.path().join("program")).unwrap();
        for without in PATHS {
            std::env::set_current_dir(dir.path()).unwrap();
            let mut prepared = Command::new("./program").without(without).prepare().unwrap();
            // Both sides use what was prepared before they parted, one of them
            // where the program is and one where it is not, at the same time.
            // SAFETY: this process is the test's own and has one thread that
            // matters; the child allocates, which glibc makes safe after fork.
            let side = unsafe { libc::fork() };
            if side == 0 {
                std::env::set_current_dir("/").unwrap();
            }
            let mut right = true;
            for _ in 0..2000 {
                right &= match (side, prepared.spawn()) {
                    (0, Err(error)) => error.raw_os_error() == Some(libc::ENOENT),
                    (0, Ok(_)) | (_, Err(_)) => false,
                    (_, Ok(mut child)) => child.wait().unwrap().success(),
                };
            }
            if side == 0 {
                // SAFETY: ends this side, and nothing else.
                unsafe { libc::_exit(i32::from(!right)) };
            }
            let mut status = 0;
            // SAFETY: waits for the other side, which nobody else does.
            assert_eq!(unsafe { libc::waitpid(side, &mut status, 0) }, side);
            assert!(right && status == 0, "{without:?}: {right} {status:#x}");
        }
    });
}

#[test]
fn clones_spawn_in_threads_of_their_own() {
    for without in PATHS {
        let prepared = Command::new("/bin/true").without(without).prepare().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let mut mine = prepared.try_clone().unwrap();
                scope.spawn(move || {
                    for _ in 0..50 {
                        assert!(mine.spawn().unwrap().wait().unwrap().success());
                    }
                });
            }
        });
    }
}

#[test]
fn a_child_that_was_detached_after_its_end_is_left_to_who_has_the_pidfd() {
    let child = Command::new("true").spawn().unwrap();
    // It has ended, and nobody has reaped it.
    let mut polled =
        libc::pollfd { fd: child.pidfd().unwrap().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd.
    assert_eq!(unsafe { libc::poll(&mut polled, 1, -1) }, 1);
    let pidfd = child.detach().unwrap();
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: writes the info.
    let waited = unsafe {
        let id = pidfd.as_raw_fd() as libc::id_t;
        libc::waitid(libc::P_PIDFD, id, info.as_mut_ptr(), libc::WEXITED)
    };
    assert_eq!(waited, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_copy_put_aside_finds_a_number_though_the_highest_target_is_the_last_possible() {
    in_subprocess(
        "a_copy_put_aside_finds_a_number_though_the_highest_target_is_the_last_possible",
        || {
            let limit = 64;
            let lowered = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            // SAFETY: reads one rlimit. The process is the test's own.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &lowered) }, 0);
            let mut ends = Vec::new();
            for at in [1, 2] {
                let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
                // SAFETY: the number is this test's from now on.
                let own = unsafe { OwnedFd::from_raw_fd(libc::dup2(writer.as_raw_fd(), at)) };
                ends.push((reader, own));
            }
            let mut command = Command::new("sh");
            command
                .args(["-c", "echo one >&1; echo two >&2"])
                .inherit_unnamed_fds(true)
                .fd(1, Channel::borrowed(&ends[1].1))
                .fd(2, Channel::borrowed(&ends[0].1))
                .fd(63, Channel::Null);
            assert!(command.spawn().unwrap().wait().unwrap().success());
            let mut said = Vec::new();
            for (mut reader, writer) in ends {
                drop(writer);
                let mut text = String::new();
                std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
                said.push(text);
            }
            assert_eq!(said, ["two\n", "one\n"]);
        },
    );
}

/// In a process of its own, for which nobody looks for leaks.
#[test]
fn what_was_opened_and_forgotten_is_not_what_the_next_child_gets() {
    in_subprocess("what_was_opened_and_forgotten_is_not_what_the_next_child_gets", || {
        let (lent, given) = std::io::pipe().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo hi; echo there >&5"]).fd(1, Channel::ReadPipe);
        let mut prepared = command.fd(5, Channel::give(given)).prepare().unwrap();
        for _ in 0..3 {
            // Leaks its own ends of the channels, and may do no more than that.
            std::mem::forget(prepared.open().unwrap());
        }
        let mut child = prepared.spawn().unwrap();
        let said = std::fs::File::from(child.take(1).unwrap());
        assert_eq!(std::io::read_to_string(said).unwrap(), "hi\n");
        assert_eq!(std::io::read_to_string(lent).unwrap(), "there\n");
        assert!(child.wait().unwrap().success());
    });
}
