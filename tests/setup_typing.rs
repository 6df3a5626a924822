//! Typing into a terminal of ours (`TIOCSTI`): what a program can do to the one
//! that controls its session, and not from a session or terminal of its own.
#![cfg(target_os = "linux")]

mod support;

use std::fs::{self, File};
use std::os::fd::AsRawFd;

use core::ffi::c_int;

use forkplan::{Channel, Command, PassedFd, Pty};
use support::isolation::NOBODY;
use support::{
    assert_done, far_side, if_far_side, in_subprocess, no_child_is_left, skipped, terminal,
};

/// Where the far side has our terminal.
const TERMINAL: c_int = 5;

fn ioctl(fd: c_int, request: libc::Ioctl, argument: *mut c_int) -> c_int {
    // SAFETY: the requests of this file read or write one byte or int, or take 0.
    unsafe { libc::ioctl(fd, request, argument) }
}

/// The far side: tries, and says by its end whether it failed as it was to.
fn far_side_of(test: &str) {
    // The process with our terminal is the test's own too, by a number.
    if std::env::var("FORKPLAN_TEST_CASE").is_ok_and(|case| case == "0") {
        return;
    }
    if_far_side(test, |case| {
        let mut key = c_int::from(b'x');
        let typed = ioctl(TERMINAL, libc::TIOCSTI, &mut key);
        let errno = std::io::Error::last_os_error().raw_os_error();
        match case {
            "can" => assert_eq!(typed, 0, "{errno:?}"),
            _ => assert_eq!((typed, errno), (-1, Some(libc::EPERM))),
        }
    });
}

/// The far side as a command with our terminal, without the capability that lets
/// its owner type into any.
fn typist<'fd>(test: &str, case: &str, terminal: &'fd File, program: &'fd File) -> Command<'fd> {
    let mut command = far_side(test, case);
    command.fd(0, Channel::Null).fd(1, Channel::Null).fd(TERMINAL, Channel::borrowed(terminal));
    command.program_fd(PassedFd::borrowed(program));
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY).groups([]);
    }
    command
}

/// How many keys wait in the terminal.
fn typed(terminal: &File) -> c_int {
    let mut count = 0;
    assert_eq!(ioctl(terminal.as_raw_fd(), libc::FIONREAD, &mut count), 0);
    count
}

/// Runs `body` with a terminal that controls this process's session.
fn on_a_terminal(test: &str, body: impl FnOnce(&File, &File)) {
    in_subprocess(test, || {
        let (master, terminal) = terminal();
        // Closed, it would hang up on this process: the end of it does that.
        let _master = core::mem::ManuallyDrop::new(master);
        let mut attributes = rustix::termios::tcgetattr(&terminal).unwrap();
        attributes.make_raw();
        rustix::termios::tcsetattr(&terminal, rustix::termios::OptionalActions::Now, &attributes)
            .unwrap();
        rustix::process::setsid().unwrap();
        rustix::process::ioctl_tiocsctty(&terminal).unwrap();
        body(&terminal, &File::open(std::env::current_exe().unwrap()).unwrap());
        assert!(no_child_is_left());
    });
}

#[test]
fn a_session_or_terminal_of_its_own_keeps_a_child_from_typing_into_ours() {
    let test = "a_session_or_terminal_of_its_own_keeps_a_child_from_typing_into_ours";
    far_side_of(test);
    on_a_terminal(test, |terminal, program| {
        let base = typist(test, "can't", terminal, program);
        let mut own_session = base.clone();
        own_session.setsid();
        let mut own_terminal = base.clone();
        own_terminal.fd(3, Pty::new());
        for command in [own_session, own_terminal] {
            assert_done(command.spawn().unwrap().wait().unwrap());
            assert_eq!(typed(terminal), 0);
        }
    });
}

#[test]
fn control_a_child_of_our_session_types_into_our_terminal() {
    let test = "control_a_child_of_our_session_types_into_our_terminal";
    far_side_of(test);
    let allowed = fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti");
    // Before Linux 6.2 nothing forbids it.
    if allowed.is_ok_and(|value| value.trim() == "0") {
        return skipped(test, "dev.tty.legacy_tiocsti is 0");
    }
    on_a_terminal(test, |terminal, program| {
        let command = typist(test, "can", terminal, program);
        assert_done(command.spawn().unwrap().wait().unwrap());
        assert_eq!(typed(terminal), 1);
    });
}
