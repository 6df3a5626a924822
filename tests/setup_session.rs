//! Sessions, process groups, terminals, and the parent's death.

#![cfg(target_os = "linux")]

mod support;

use core::ffi::{CStr, c_int};
use std::fs::{self, File};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};
use std::{env, ptr, thread};

use forkplan::Channel::Null;
use forkplan::plan::Step;
use forkplan::{Child, Command, PassedFd, PlanError, Signal};
use support::{PATHS, fds_of_self, in_subprocess, no_child_is_left, pause, self_as, session_of};

fn paused<'fd>() -> Command<'fd> {
    let mut command = Command::new(pause());
    command.fd(0, Null);
    command
}

fn look(command: &Command<'_>, at: impl Fn(&Child)) {
    for without in PATHS {
        let mut child = command.clone().without(without).spawn().unwrap_or_else(|e| panic!("{e}"));
        at(&child);
        end(&mut child);
    }
}

fn end(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn pid(child: &Child) -> i32 {
    child.id().unwrap() as i32
}

/// Both paths meet with this error, and nothing is left.
fn refused(command: &Command<'_>, words: &str, errno: i32) {
    let (children, before) = (no_child_is_left(), fds_of_self());
    for without in PATHS {
        let error = command.clone().without(without).spawn().unwrap_err();
        assert_eq!(
            (error.description(), error.raw_os_error()),
            (Some(words), Some(errno)),
            "{error}"
        );
        assert_eq!(no_child_is_left(), children);
        assert_eq!(fds_of_self(), before);
    }
}

/// A terminal, and the end that stands for its user.
fn terminal() -> (OwnedFd, File) {
    // SAFETY: the calls take an fd that was just made; the name is copied before
    // anybody else could ask for one.
    unsafe {
        let master = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        assert!(master >= 0);
        let master = OwnedFd::from_raw_fd(master);
        assert_eq!(libc::grantpt(master.as_raw_fd()), 0);
        assert_eq!(libc::unlockpt(master.as_raw_fd()), 0);
        let mut name = [0; 64];
        assert_eq!(libc::ptsname_r(master.as_raw_fd(), name.as_mut_ptr(), name.len()), 0);
        let name = CStr::from_ptr(name.as_ptr()).to_str().unwrap();
        let flags = libc::O_NOCTTY;
        let slave = fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(name);
        (master, slave.unwrap())
    }
}

fn number_of(terminal: &File) -> i32 {
    support::terminal_number(&terminal.metadata().unwrap())
}

fn foreground_of(terminal: &File) -> i32 {
    // SAFETY: no pointers.
    unsafe { libc::tcgetpgrp(terminal.as_raw_fd()) }
}

#[test]
fn a_session_or_a_group_of_its_own_or_somebody_elses_group() {
    in_subprocess("a_session_or_a_group_of_its_own_or_somebody_elses_group", || {
        let mine = session_of(std::process::id() as i32);
        look(paused().setsid(), |child| {
            assert_eq!(session_of(pid(child)), [pid(child), pid(child), 0, -1]);
        });
        look(paused().process_group(0), |child| {
            assert_eq!(session_of(pid(child))[..2], [pid(child), mine[1]]);
            look(paused().process_group(pid(child)), |other| {
                assert_eq!(session_of(pid(other))[..2], [pid(child), mine[1]]);
            });
        });
        look(&paused(), |child| assert_eq!(session_of(pid(child))[..2], mine[..2]));
        assert_eq!(session_of(std::process::id() as i32), mine);

        refused(paused().process_group(i32::MAX), "setpgid 0 2147483647", libc::EPERM);
        // One of another session is not to be joined.
        look(paused().setsid(), |child| {
            let words = format!("setpgid 0 {}", pid(child));
            refused(paused().process_group(pid(child)), &words, libc::EPERM);
        });
        assert!(no_child_is_left());
    });
}

#[test]
fn a_session_leader_can_change_no_group() {
    let says = |command: &Command<'_>| command.prepare().unwrap_err();
    let error = PlanError::Contradiction { first: "setsid", second: "process_group" };
    assert_eq!(says(paused().process_group(0).setsid()), error);
    // A controlling terminal implies a session.
    let null = File::open("/dev/null").unwrap();
    let terminal = PassedFd::borrowed(&null);
    assert_eq!(says(paused().controlling_terminal(terminal).process_group(5)), error);
    let error = PlanError::OutOfRange { what: "process_group", value: -1 };
    assert_eq!(says(paused().process_group(-1)), error);
}

#[test]
fn a_terminal_controls_a_new_session() {
    in_subprocess("a_terminal_controls_a_new_session", || {
        let (_user, slave) = terminal();
        let lent = || PassedFd::borrowed(&slave);
        let number = slave.as_raw_fd();
        for with_foreground in [false, true] {
            let mut command = paused();
            command.controlling_terminal(lent());
            if with_foreground {
                command.foreground(lent());
            }
            look(&command, |child| {
                let pid = pid(child);
                assert_eq!(session_of(pid), [pid, pid, number_of(&slave), pid]);
                // It is that session's now.
                let words = format!("ioctl {number} TIOCSCTTY");
                refused(paused().controlling_terminal(lent()), &words, libc::EPERM);
            });
        }
        // The fd may be mapped too, and stays the terminal.
        let mut command = paused();
        command.controlling_terminal(lent()).fd(1, lent()).fd(number, Null);
        look(&command, |child| assert_eq!(session_of(pid(child))[2], number_of(&slave)));

        let null = File::open("/dev/null").unwrap();
        let words = format!("ioctl {} TIOCSCTTY", null.as_raw_fd());
        refused(paused().controlling_terminal(PassedFd::borrowed(&null)), &words, libc::ENOTTY);
        let words = format!("tcsetpgrp {number}");
        refused(paused().setsid().foreground(lent()), &words, libc::ENOTTY);
        assert!(no_child_is_left());
    });
}

#[test]
fn the_foreground_goes_from_group_to_group_while_the_caller_is_in_the_background() {
    let name = "the_foreground_goes_from_group_to_group_while_the_caller_is_in_the_background";
    in_subprocess(name, || {
        let (user, slave) = terminal();
        // SAFETY: no pointers; the process is the test's own.
        unsafe {
            assert_eq!(libc::setsid(), libc::getpid());
            assert_eq!(libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0), 0);
        }
        // Closed, it would end this process by SIGHUP.
        core::mem::forget(user);
        let me = std::process::id() as i32;
        let in_foreground = |group, without| {
            let mut command = paused();
            command.process_group(group).foreground(PassedFd::borrowed(&slave)).without(without);
            command.spawn().unwrap()
        };
        for without in PATHS {
            assert_eq!(foreground_of(&slave), me);
            let first = in_foreground(0, without);
            assert_eq!(foreground_of(&slave), pid(&first));
            // From here on the caller is in the background.
            let second = in_foreground(0, without);
            assert_eq!(foreground_of(&slave), pid(&second));
            assert_eq!(
                session_of(pid(&second)),
                [pid(&second), me, number_of(&slave), pid(&second)]
            );
            let third = in_foreground(pid(&first), without);
            assert_eq!(foreground_of(&slave), pid(&first));
            let other = paused().process_group(0).without(without).spawn().unwrap();
            assert_eq!(foreground_of(&slave), pid(&first));

            // The control: who does not block SIGTTOU is stopped by it.
            assert_eq!(stopped_by_the_same(&slave), Some(libc::SIGTTOU));
            assert_eq!(foreground_of(&slave), pid(&first));
            let back = in_foreground(me, without);
            assert_eq!(foreground_of(&slave), me);
            [first, second, third, other, back].iter_mut().for_each(end);
        }
        assert!(no_child_is_left());
    });
}

/// The signal that stops a child which takes the foreground as it comes.
fn stopped_by_the_same(terminal: &File) -> Option<c_int> {
    let mut status = 0;
    // SAFETY: the child makes async-signal-safe calls alone.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::signal(libc::SIGTTOU, libc::SIG_DFL);
            libc::setpgid(0, 0);
            libc::tcsetpgrp(terminal.as_raw_fd(), libc::getpid());
            libc::_exit(0);
        }
        assert_eq!(libc::waitpid(child, &mut status, libc::WUNTRACED), child);
        if libc::WIFSTOPPED(status) {
            libc::kill(child, libc::SIGKILL);
            assert_eq!(libc::waitpid(child, ptr::null_mut(), 0), child);
            return Some(libc::WSTOPSIG(status));
        }
    }
    None
}

/// Where the process in the middle writes its child's pid, and what child.
const PID_FILE: &str = "FORKPLAN_TEST_PID_FILE";
const KIND: &str = "FORKPLAN_TEST_KIND";

/// What becomes of the child of a process that ends: its status, or `None` if it
/// goes on.
fn after_its_parents_end(name: &str, kind: &str) -> Option<c_int> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut middle = self_as(name);
    let status = middle.env(PID_FILE, file.path()).env(KIND, kind).status().unwrap();
    assert_eq!(status.code(), Some(42), "{kind}: {status}");
    let pid: i32 = fs::read_to_string(file.path()).unwrap().parse().unwrap();
    let deadline =
        Instant::now() + Duration::from_millis(if kind == "none" { 200 } else { 20_000 });
    let mut status = 0;
    // SAFETY: writes the status. This process is the subreaper of the child.
    while unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } == 0 {
        if Instant::now() > deadline {
            // SAFETY: as above; the child is not reaped, so the pid is its own.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, ptr::null_mut(), 0);
            }
            return None;
        }
        thread::sleep(Duration::from_millis(1));
    }
    Some(status)
}

fn in_the_middle(file: &str) {
    let mut command = paused();
    let kind = env::var(KIND).unwrap();
    if kind != "none" {
        command.parent_death_signal(Signal::USR2);
    }
    let command = match kind.as_str() {
        "forked" => command.without(PATHS[1]),
        "user" => command.uid(12_345).gid(12_345).groups([]),
        _ => &mut command,
    };
    let child = command.spawn().unwrap();
    fs::write(file, child.id().unwrap().to_string()).unwrap();
}

#[test]
fn the_parents_end_is_a_signal_whatever_user_the_child_is() {
    let name = "the_parents_end_is_a_signal_whatever_user_the_child_is";
    in_subprocess(name, || {
        if let Ok(file) = env::var(PID_FILE) {
            return in_the_middle(&file);
        }
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
        let mut kinds = vec!["shared", "forked"];
        // SAFETY: no pointers.
        match unsafe { libc::geteuid() } {
            0 => kinds.push("user"),
            _ => eprintln!("SKIPPED: {name}: a change of user wants root"),
        }
        for kind in kinds {
            assert_eq!(after_its_parents_end(name, kind), Some(libc::SIGUSR2), "{kind}");
        }
        // The control.
        assert_eq!(after_its_parents_end(name, "none"), None);
    });
}

#[test]
fn a_parent_is_a_thread() {
    let mut command = paused();
    command.parent_death_signal(Signal::USR2);
    let mut child = thread::spawn(move || command.spawn().unwrap()).join().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::USR2));
}

#[test]
fn a_child_of_another_parent_than_the_plans_does_not_start() {
    in_subprocess("a_child_of_another_parent_than_the_plans_does_not_start", || {
        for without in PATHS {
            let mut prepared =
                paused().parent_death_signal(Signal::TERM).without(without).prepare().unwrap();
            // The numbers of a fork are its own from its `open` on.
            assert!(in_fork(|| prepared.spawn().is_ok_and(|mut child| {
                end(&mut child);
                no_child_is_left()
            })));
            let opened = prepared.open().unwrap();
            let me = std::process::id() as i32;
            assert!(opened.plan().steps().contains(&Step::CheckParent { pid: me }));
            let words = format!("getppid, which is {me}");
            assert!(in_fork(|| {
                let Err(error) = opened.spawn() else { return false };
                let found = (error.description(), error.raw_os_error());
                found == (Some(&words), Some(libc::ESRCH)) && no_child_is_left()
            }));
            end(&mut prepared.spawn().unwrap());
        }
    });
}

/// What `body` says in a fork of this process.
fn in_fork(body: impl FnOnce() -> bool) -> bool {
    let mut status = 0;
    // SAFETY: the process has one thread that matters, and the C library's
    // allocator works after a fork. The child ends here.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::_exit(if body() { 0 } else { 1 });
        }
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
    }
    std::process::ExitStatus::from_raw(status).success()
}
