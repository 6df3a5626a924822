//! Somebody else has reaped a child of the pump's: its exit is told all the same,
//! with the status where the kernel keeps one for who has a pidfd
//! (`PIDFD_GET_INFO`, Linux 6.15), and as unknown where it does not.
#![cfg(target_os = "linux")]

#[path = "support/seccomp.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod seccomp;
#[path = "support/pump.rs"]
mod support;

use std::os::unix::process::ExitStatusExt;
use std::thread;

use forkplan::{Channel, ChildKey, Command, Exit, Features, Signal};
use seccomp::{Rule, under};
use support::{Driver, Seen, alone};

/// How a pump may learn of a status that somebody else has taken.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The kernel has kept it.
    Kept,
    /// The kernel is asked, and says this.
    Refused(i32),
    /// There is no pidfd to ask by.
    NoPidfd,
}

const WAYS: [Way; 6] = [
    Way::Kept,
    // An older kernel, and what a filter may say.
    Way::Refused(libc::ENOTTY),
    Way::Refused(libc::EINVAL),
    Way::Refused(libc::EPERM),
    Way::Refused(libc::ENOSYS),
    Way::NoPidfd,
];

impl Way {
    fn without(self) -> Features {
        match self {
            Self::NoPidfd => Features::PIDFD,
            _ => Features::empty(),
        }
    }

    fn rules(self) -> Vec<Rule> {
        // `_IOWR(0xff, 11, struct pidfd_info)`, of the struct's first size.
        const GET_INFO: u32 = 0xc000_0000 | 64 << 16 | 0xff0b;
        match self {
            Self::Refused(errno) => {
                vec![Rule::errno(libc::SYS_ioctl, errno).with(1, GET_INFO as i32)]
            }
            _ => vec![],
        }
    }

    /// Whether the pump knows how the child has ended.
    fn tells(self) -> bool {
        matches!(self, Self::Kept) && kernel() >= (6, 15)
    }
}

fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap());
    (parts.next().unwrap(), parts.next().unwrap())
}

/// Takes a child's end from under its owner; the raw status.
fn steal(pid: u32) -> i32 {
    let mut status = 0;
    // SAFETY: writes the status. The child is this process's.
    let reaped = unsafe { libc::waitpid(pid as i32, &mut status, 0) };
    assert_eq!(reaped, pid as i32);
    status
}

fn add(driver: &mut Driver, way: Way, script: &str) -> (ChildKey, u32) {
    let mut command = Command::new("sh");
    command.args(["-c", script]).without(way.without()).fd(1, Channel::ReadPipe);
    let key = driver.add(&mut command);
    (key, driver.pump.child(key).unwrap().id().unwrap())
}

#[track_caller]
fn check(way: Way, exit: Exit, status: i32) {
    let expected = way.tells().then_some(status);
    let told = exit.status().map(ExitStatusExt::into_raw);
    assert_eq!((told, exit.usage()), (expected, None), "{way:?}");
    if expected.is_none() {
        assert_eq!((exit.code(), exit.signal(), exit.success()), (None, None, false), "{way:?}");
    }
}

/// One child that said something and exited, one that was killed, and one that is
/// its owner's to reap.
fn ends(way: Way) {
    let mut driver = Driver::new();
    let (exited, first) = add(&mut driver, way, "echo said; exit 9");
    let (killed, second) = add(&mut driver, way, "kill -KILL $$");
    let (left, _) = add(&mut driver, way, "echo too; exit 3");
    let statuses = [steal(first), steal(second)];
    assert_eq!(statuses, [9 << 8, libc::SIGKILL]);
    driver.finish();
    for (key, status) in [exited, killed].into_iter().zip(statuses) {
        check(way, driver.exit(key).unwrap(), status);
        let exits = driver.of(key).filter(|seen| matches!(seen, Seen::Exited(_)));
        assert_eq!(exits.count(), 1, "{way:?}");
    }
    assert_eq!(driver.data(exited, "1"), b"said\n");
    assert_eq!(driver.data(left, "1"), b"too\n");
    assert_eq!(driver.exit(left).unwrap().code(), Some(3));
    if way.tells() {
        assert_eq!(driver.exit(exited).unwrap().code(), Some(9));
        assert_eq!(driver.exit(killed).unwrap().signal(), Some(Signal::KILL));
    }
}

// twisted#2535, cpython#127049
#[test]
fn an_exit_that_somebody_else_has_taken_is_told_with_or_without_its_status() {
    if kernel() < (6, 15) {
        eprintln!("SKIPPED: that a status is kept: Linux is older than 6.15");
    }
    for way in WAYS {
        under(&way.rules(), || ends(way));
    }
}

/// The channel that is open meanwhile is read to its end, and a child whose status
/// is not to be known is not waited for again.
#[test]
fn a_grandchild_that_holds_a_channel_outlives_an_exit_that_is_unknown() {
    for way in WAYS {
        under(&way.rules(), || {
            let mut driver = Driver::new();
            let mut command = Command::new("sh");
            command.args(["-c", "cat <&3 & exit 5"]).without(way.without());
            command.fd(1, Channel::ReadPipe).fd(3, Channel::WritePipe);
            let key = driver.add(&mut command);
            let status = steal(driver.pump.child(key).unwrap().id().unwrap());
            driver.until(|d| d.exit(key).is_some());
            check(way, driver.exit(key).unwrap(), status);
            driver.assert_quiet();
            driver.pump.write(key, 3, b"later").unwrap();
            driver.pump.close(key, 3).unwrap();
            driver.finish();
            assert_eq!(driver.data(key, "1"), b"later");
        });
    }
}

/// Both wait, or are about to, when the child ends.
#[test]
fn whoever_comes_first_a_poll_that_waits_returns_with_the_exit() {
    for way in WAYS {
        for _ in 0..10 {
            under(&way.rules(), || {
                let mut driver = Driver::new();
                let mut agent = driver.agent(|command| {
                    command.without(way.without());
                });
                let key = agent.key;
                let pid = driver.pump.child(key).unwrap().id().unwrap() as i32;
                driver.drain();
                let status = thread::scope(|scope| {
                    let other = scope.spawn(move || {
                        agent.tell("exit 9");
                        let mut status = 0;
                        // SAFETY: writes the status. Who finds nothing to wait for
                        // came second.
                        let reaped = unsafe { libc::waitpid(pid, &mut status, 0) };
                        (reaped == pid).then_some(status)
                    });
                    driver.finish();
                    other.join().unwrap()
                });
                let exit = driver.exit(key).unwrap();
                match status {
                    Some(status) => check(way, exit, status),
                    None => assert_eq!(exit.code(), Some(9), "{way:?}"),
                }
            });
        }
    }
}

#[test]
fn where_sigchld_is_ignored_every_exit_is_told() {
    alone("where_sigchld_is_ignored_every_exit_is_told", || {
        // SAFETY: nothing in this process counts on the signal.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        for way in WAYS {
            under(&way.rules(), || {
                let mut driver = Driver::new();
                let scripts = ["exit 9", "exit 4", "echo out; exit 1"];
                let keys = scripts.map(|script| add(&mut driver, way, script).0);
                driver.finish();
                for (key, code) in keys.into_iter().zip([9, 4, 1]) {
                    // The kernel reaps at once, but for who waits already.
                    let exit = driver.exit(key).unwrap();
                    match way.tells() {
                        true => assert_eq!(exit.code(), Some(code)),
                        false => assert!([None, Some(code)].contains(&exit.code()), "{exit:?}"),
                    }
                }
                assert_eq!(driver.data(keys[2], "1"), b"out\n");
            });
        }
    });
}
