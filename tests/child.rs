//! The handle of a child: waiting, signals, its channels' ends, letting go.

#![cfg(target_os = "linux")]

mod support;

use core::time::Duration;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Stdio};
use std::thread;
use std::time::Instant;

use forkplan::Channel::{Null, ReadPipe, SocketPair, WritePipe};
use forkplan::{Child, Command, Exit, Features, Name, OnDrop, Signal, SignalError};
use support::{fds_of_self, in_subprocess, no_child_is_left, pause};

/// With a pidfd, and by the pid alone.
const HANDLES: [Features; 2] = [Features::empty(), Features::PIDFD];

fn shell<'fd>(script: &str, without: Features) -> Command<'fd> {
    let mut command = Command::new("sh");
    command.args(["-c", script]).without(without);
    command
}

fn has_pidfd(without: Features) -> bool {
    (Features::of_this_kernel() - without).contains(Features::PIDFD)
}

/// A child that stands still until a signal ends it.
fn standing(without: Features) -> Child {
    Command::new(pause()).without(without).on_drop(OnDrop::Kill).spawn().unwrap()
}

/// The letter in `/proc/PID/stat`: `Z` for a zombie. `None` if nobody has the
/// pid.
fn state(pid: u32) -> Option<char> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    line.rsplit(')').next().unwrap().trim_start().chars().next()
}

/// Waits until the child has ended, without reaping it.
fn await_end(pid: u32) {
    let options = libc::WEXITED | libc::WNOWAIT;
    // SAFETY: all zero is a valid info, which the call writes.
    let waited = unsafe {
        let mut info: libc::siginfo_t = core::mem::zeroed();
        libc::waitid(libc::P_PID, pid, &mut info, options)
    };
    assert_eq!(waited, 0, "{}", io::Error::last_os_error());
}

type Way<'a> = &'a dyn Fn(&mut Child) -> Option<Exit>;

#[test]
fn an_exit_code_and_the_usage_come_with_every_way_to_wait() {
    let far = || Instant::now() + Duration::from_secs(3600);
    for without in HANDLES {
        let ways: [Way<'_>; 4] = [
            &|child| Some(child.wait().unwrap()),
            &|child| child.wait_timeout(Duration::MAX).unwrap(),
            &|child| child.wait_deadline(far()).unwrap(),
            &|child| {
                await_end(child.id().unwrap());
                child.try_wait().unwrap()
            },
        ];
        for (code, way) in (0..).zip(ways) {
            let script = format!("exit {}", code * 85);
            let mut child = shell(&script, without).spawn().unwrap();
            assert_eq!(child.pidfd().is_some(), has_pidfd(without));
            assert_eq!(child.exit(), None);
            let exit = way(&mut child).unwrap();
            assert_eq!((exit.code(), exit.success()), (Some(code * 85), code == 0));
            assert_eq!(exit.signal(), None);
            assert_eq!(exit.to_string(), format!("exit status: {}", code * 85));
            let usage = exit.usage().unwrap();
            assert!(usage.max_rss() > 0 && usage.minor_faults() > 0);
            // Asked again, the same, at once.
            assert_eq!(child.exit(), Some(exit));
            assert_eq!(child.wait().unwrap(), exit);
            assert_eq!(child.try_wait().unwrap(), Some(exit));
            assert_eq!(child.wait_timeout(Duration::ZERO).unwrap(), Some(exit));
        }
    }
}

#[test]
fn a_signal_that_ended_it_is_named() {
    for without in HANDLES {
        for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::KILL, Signal::from(34)] {
            let mut child = standing(without);
            child.signal(signal).unwrap();
            let exit = child.wait().unwrap();
            assert_eq!((exit.signal(), exit.code()), (Some(signal), None));
            assert!(!exit.success());
        }
        // By a bare number.
        let mut child = standing(without);
        child.signal(libc::SIGUSR2).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some("SIGUSR2".parse().unwrap()));
        // One that dumps core is the same signal.
        let mut child = standing(without);
        child.signal(Signal::ABRT).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::ABRT));
    }
}

#[test]
fn a_timeout_leaves_the_child_running() {
    for without in HANDLES {
        let mut child = standing(without);
        let pid = child.id();
        for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(30)] {
            let begin = Instant::now();
            assert_eq!(child.wait_timeout(timeout).unwrap(), None);
            assert!(begin.elapsed() >= timeout);
        }
        assert_eq!(child.wait_deadline(Instant::now()).unwrap(), None);
        assert_eq!(child.try_wait().unwrap(), None);
        assert_eq!(child.id(), pid);
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL));
    }
}

#[test]
fn a_stopped_child_has_not_ended() {
    for without in HANDLES {
        let mut child = standing(without);
        child.signal(Signal::STOP).unwrap();
        while state(child.id().unwrap()) != Some('T') {
            thread::yield_now();
        }
        assert_eq!(child.wait_timeout(Duration::from_millis(1)).unwrap(), None);
        child.signal(Signal::CONT).unwrap();
        assert_eq!(child.wait_timeout(Duration::from_millis(1)).unwrap(), None);
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL));
    }
}

#[test]
fn a_wait_closes_the_write_pipes_that_were_not_taken() {
    for without in HANDLES {
        // Each of these reads to the end.
        let mut command = shell("cat <&0; cat <&7", without);
        let mut child = command.stdout(Null).fd(7, WritePipe).spawn().unwrap();
        assert!(child.end(0).is_some());
        assert!(child.wait().unwrap().success());
        assert!(child.end(0).is_none() && child.take(7).is_none());
        // A read pipe stays.
        let mut child = shell("echo left", without).spawn().unwrap();
        child.wait().unwrap();
        let mut left = String::new();
        File::from(child.take(1).unwrap()).read_to_string(&mut left).unwrap();
        assert_eq!(left, "left\n");
        // A try closes nothing.
        let mut child = shell("cat", without).spawn().unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        assert!(child.end(0).is_some());
        assert!(child.wait_timeout(Duration::MAX).unwrap().unwrap().success());
    }
}

#[test]
fn the_pid_is_gone_when_it_was_reaped_and_not_before() {
    for without in HANDLES {
        let mut child = shell("exit 0", without).spawn().unwrap();
        let pid = child.id().unwrap();
        await_end(pid);
        // A zombie is still ours, and takes signals in silence.
        assert_eq!(state(pid), Some('Z'));
        assert_eq!(child.id(), Some(pid));
        assert_eq!(child.kill(), Ok(()));
        assert_eq!(child.signal(0), Ok(()));
        child.wait().unwrap();
        assert_eq!(child.id(), None);
        for signal in [0, libc::SIGTERM, libc::SIGKILL, 1000] {
            assert_eq!(child.signal(signal), Err(SignalError::AlreadyExited));
        }
        let error = io::Error::from(child.kill().unwrap_err());
        assert_eq!(error.kind(), io::Error::from_raw_os_error(libc::ESRCH).kind());
        assert_eq!(error.to_string(), "the child has already exited");
    }
}

#[test]
fn a_number_that_is_no_signal_is_einval() {
    for without in HANDLES {
        let child = standing(without);
        for number in [-1, 65, 1000, i32::MAX] {
            let error = child.signal(number).unwrap_err();
            assert_eq!(error, SignalError::Errno(libc::EINVAL));
            assert_eq!(error.to_string(), "the signal was not sent: Invalid argument");
            assert_eq!(io::Error::from(error).kind(), ErrorKind::InvalidInput);
        }
        assert_eq!(child.signal(0), Ok(()));
    }
}

#[test]
fn a_dropped_child_runs_on_unless_it_is_to_be_killed() {
    in_subprocess("a_dropped_child_runs_on_unless_it_is_to_be_killed", || {
        for without in HANDLES {
            let mut command = Command::new(pause());
            let before = fds_of_self();
            command.without(without);

            let child = command.spawn().unwrap();
            let pid = child.id().unwrap();
            drop(child);
            assert_eq!(fds_of_self(), before);
            assert!(matches!(state(pid), Some('S' | 'R')));
            end(pid);

            // Dropped after its end, it is reaped all the same.
            let child = Command::new("/bin/true").without(without).spawn().unwrap();
            await_end(child.id().unwrap());
            drop(child);
            assert!(no_child_is_left());

            let child = command.on_drop(OnDrop::Kill).spawn().unwrap();
            let pid = child.id().unwrap();
            drop(child);
            assert_eq!(state(pid), None);
            assert!(no_child_is_left());

            // The last word counts.
            let mut child = command.spawn().unwrap();
            child.set_on_drop(OnDrop::Detach);
            let pid = child.id().unwrap();
            drop(child);
            end(pid);
            assert_eq!(fds_of_self(), before);
        }
    });
}

/// Ends and reaps a child that nobody has a handle of.
fn end(pid: u32) {
    let pid = pid as i32;
    // SAFETY: no pointers but to the status, which nobody wants. The child is
    // this process's own and not reaped.
    unsafe {
        assert_eq!(libc::kill(pid, libc::SIGKILL), 0);
        assert_eq!(libc::waitpid(pid, core::ptr::null_mut(), 0), pid);
    }
}

#[test]
fn a_detached_child_leaves_its_pidfd() {
    in_subprocess("a_detached_child_leaves_its_pidfd", || {
        for without in HANDLES {
            let mut command = Command::new(pause());
            let child = command.without(without).on_drop(OnDrop::Kill).spawn().unwrap();
            let pid = child.id().unwrap();
            let pidfd: Option<OwnedFd> = child.detach();
            assert_eq!(pidfd.is_some(), has_pidfd(without));
            assert!(matches!(state(pid), Some('S' | 'R')));
            if let Some(pidfd) = pidfd {
                let info = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
                let info = fs::read_to_string(info).unwrap();
                assert!(info.contains(&format!("Pid:\t{pid}\n")), "{info}");
            }
            end(pid);
        }
    });
}

#[test]
fn ends_are_taken_once_by_name_or_by_any_fd() {
    let command = || {
        let mut command = Command::new(pause());
        command.channel("control", SocketPair, [4, 3]).fds([6, 5], ReadPipe).fd(0, Null);
        command.on_drop(OnDrop::Kill).spawn().unwrap()
    };
    let names: [Name<'_>; 3] = ["control".into(), 3.into(), Name::Fd(4)];
    for name in names {
        let mut child = command();
        assert_eq!(child.channels().collect::<Vec<_>>(), [Name::Text("control"), Name::Fd(6)]);
        let lent = child.end(name).unwrap().as_raw_fd();
        let end = child.take(name).unwrap();
        assert_eq!(end.as_raw_fd(), lent);
        assert!(names.iter().all(|&name| child.take(name).is_none()));
        assert!(names.iter().all(|&name| child.end(name).is_none()));
        // The other is not touched.
        assert_eq!(child.end(5).map(|fd| fd.as_raw_fd()), child.end(6).map(|fd| fd.as_raw_fd()));
        assert!(child.take(5).is_some() && child.take(6).is_none());
        // Names of nothing, and of a channel without an end of ours.
        assert!(child.take("other").is_none());
        assert!(child.take(0).is_none() && child.take(-1).is_none());
        assert_eq!(child.channels().count(), 2);
    }
}

#[test]
fn ends_are_what_std_makes_of_them() {
    let mut command = shell("cat; echo err >&2; cat <&3 >&3", Features::empty());
    let mut child = command.fd(3, SocketPair).stdin(WritePipe).spawn().unwrap();
    let mut stdin = ChildStdin::from(child.take(0).unwrap());
    let mut stdout = ChildStdout::from(child.take(1).unwrap());
    let mut stderr = ChildStderr::from(child.take(2).unwrap());
    let mut socket = UnixStream::from(child.take(3).unwrap());
    stdin.write_all(b"in").unwrap();
    drop(stdin);
    socket.write_all(b"there and back").unwrap();
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    stderr.read_to_string(&mut text).unwrap();
    socket.read_to_string(&mut text).unwrap();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "err\nthere and backin");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_pipe_goes_on_to_another_child_of_ours_or_of_std() {
    let mut first = shell("echo a; echo b", Features::empty()).spawn().unwrap();
    let out = first.take(1).unwrap();
    let mut second = Command::new("cat").fd(0, out).fd(1, ReadPipe).spawn().unwrap();
    let third = std::process::Command::new("cat")
        .stdin(Stdio::from(second.take(1).unwrap()))
        .output()
        .unwrap();
    assert_eq!(third.stdout, b"a\nb\n");
    assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
}

#[test]
fn ends_are_cloexec_and_block() {
    let mut command = Command::new(pause());
    command.fd(3, SocketPair).stdin(WritePipe).on_drop(OnDrop::Kill);
    let child = command.spawn().unwrap();
    let fds = fds_of_self();
    for name in [0, 1, 2, 3] {
        let flags = fds[&child.end(name).unwrap().as_raw_fd()].flags;
        assert_eq!(flags & (libc::O_CLOEXEC | libc::O_NONBLOCK), libc::O_CLOEXEC);
    }
    let pidfd = child.pidfd().map(|fd| fds[&fd.as_fd().as_raw_fd()]);
    assert!(pidfd.is_none_or(|open| open.flags & libc::O_CLOEXEC != 0));
}

#[test]
fn waits_go_on_after_a_signal_handler_ran() {
    in_subprocess("waits_go_on_after_a_signal_handler_ran", || {
        use std::sync::atomic::{AtomicU32, Ordering};
        static RUNS: AtomicU32 = AtomicU32::new(0);
        extern "C" fn count(_: libc::c_int) {
            RUNS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: all zero is a valid sigaction; the handler stores to an atomic,
        // and without SA_RESTART each run of it interrupts what blocks.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = count as *const () as libc::sighandler_t;
            libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut());
            let every = libc::timeval { tv_sec: 0, tv_usec: 2_000 };
            let timer = libc::itimerval { it_interval: every, it_value: every };
            libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
        }
        for without in support::EXCLUSIONS {
            let sleep = || {
                let mut command = Command::new("sleep");
                command.arg("0.05").without(without).spawn().unwrap()
            };
            assert!(sleep().wait().unwrap().success());
            let long = Duration::from_secs(1000);
            assert!(sleep().wait_timeout(long).unwrap().unwrap().success());
            assert_eq!(
                Command::new("/nowhere").spawn().unwrap_err().raw_os_error(),
                Some(libc::ENOENT)
            );
        }
        assert!(RUNS.load(Ordering::Relaxed) > 0, "the handler never ran");
    });
}

#[test]
fn a_child_that_may_not_be_killed_is_not_waited_for() {
    let name = "a_child_that_may_not_be_killed_is_not_waited_for";
    if !support::isolation::is_root(name) {
        return;
    }
    in_subprocess(name, || {
        for without in HANDLES {
            let child = standing(without);
            let pid = child.id().unwrap();
            thread::scope(|scope| {
                scope.spawn(|| {
                    support::isolation::become_nobody();
                    // Would not come back.
                    drop(child);
                });
            });
            // It runs on, and its end is for whoever may.
            assert!(matches!(state(pid), Some('S' | 'R')));
            // SAFETY: a child of this process, not reaped before.
            unsafe {
                assert_eq!(libc::kill(pid as i32, libc::SIGKILL), 0);
                assert_eq!(libc::waitpid(pid as i32, std::ptr::null_mut(), 0), pid as i32);
            }
        }
    });
}

#[test]
fn a_stop_that_a_tracer_is_told_of_is_no_end() {
    in_subprocess("a_stop_that_a_tracer_is_told_of_is_no_end", || {
        for without in HANDLES {
            let mut child = standing(without);
            let pid = child.id().unwrap();
            // SAFETY: no pointers are read by either request, nor written.
            unsafe {
                assert_eq!(libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0), 0);
                assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, pid, 0, 0), 0);
            }
            // There is a stop to be told of, which this leaves.
            await_end(pid);
            assert_eq!(child.try_wait().unwrap(), None);
            assert_eq!(state(pid), Some('t'));
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL));
            assert!(no_child_is_left());
        }
    });
}
