//! Spawns with terminals that fail, at every point: what was made is closed,
//! what was given is given back. Adopted terminals.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

#[path = "support/pty.rs"]
mod pty;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

use forkplan::plan::Step;
use forkplan::{
    Channel, Command, PlanError, Prepared, Pty, Signal, SpawnError, Terminal, WindowSize,
};
use pty::{pair, read_to_eio};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::seccomp::{Rule, under};
use support::{EXCLUSIONS, PATHS, fds_of_self, in_subprocess, no_child_is_left};

/// No call fails with this by itself, and nothing is tried again for it.
const STRANGE: i32 = libc::EXFULL;

fn ioctl(request: libc::Ioctl, errno: i32) -> Rule {
    Rule::errno(libc::SYS_ioctl, errno).with(1, request as i32)
}

/// What the error names, in the words of the plan.
fn words(error: &SpawnError) -> String {
    let text = error.to_string();
    text.rsplit_once(": ").map_or(text.clone(), |(words, _)| words.into())
}

/// A terminal with everything said of it, on three fds and beside a pipe.
fn command(pty: Pty) -> Command<'static> {
    let mut command = Command::new("/bin/true");
    let size = WindowSize::new(5, 6);
    command.channel("terminal", pty.size(size).raw().echo(true), [0, 1, 2]);
    command.fd(3, Channel::ReadPipe);
    command
}

#[test]
fn a_call_that_fails_for_a_new_terminal_is_named_and_nothing_is_left() {
    // As the C library's headers have them only for one family of systems.
    const TCGETS2: libc::Ioctl = 0x802c_542a;
    const TCSETS2: libc::Ioctl = 0x402c_542b;
    let calls: [(libc::Ioctl, &str); 5] = [
        (libc::TIOCSPTLCK, "unlockpt"),
        (libc::TIOCGPTPEER, "ioctl TIOCGPTPEER"),
        (libc::TIOCSWINSZ, "ioctl TIOCSWINSZ"),
        (TCGETS2, "tcgetattr"),
        (TCSETS2, "tcsetattr"),
    ];
    in_subprocess("a_call_that_fails_for_a_new_terminal_is_named_and_nothing_is_left", || {
        let mut prepared = command(Pty::new()).prepare().unwrap();
        let before = fds_of_self();
        for (request, call) in calls {
            let error = under(&[ioctl(request, STRANGE)], || prepared.spawn().unwrap_err());
            assert_eq!((words(&error).as_str(), error.raw_os_error()), (call, Some(STRANGE)));
            assert_eq!((error.step(), error.signal()), (None, None));
            assert_eq!(fds_of_self(), before);
        }
        assert!(prepared.spawn().unwrap().wait().unwrap().success());
        assert!(no_child_is_left());
    });
}

#[test]
fn too_few_fds_at_any_point_leave_nothing() {
    in_subprocess("too_few_fds_at_any_point_leave_nothing", || {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let set = |current| setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
        for without in PATHS {
            let mut command = command(Pty::new());
            let mut prepared =
                command.fd(9, Pty::new().controlling(false)).without(without).prepare().unwrap();
            let before = fds_of_self();
            let lowest = *before.keys().last().unwrap() as u64;
            let mut named = Vec::new();
            // Until there is room for all.
            for current in 3..lowest.max(3) + 20 {
                set(Some(current));
                let spawned = prepared.spawn();
                set(maximum);
                match spawned {
                    Ok(mut child) => {
                        child.wait().unwrap();
                        break;
                    }
                    Err(error) => {
                        assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
                        named.push(words(&error));
                    }
                }
                assert_eq!(fds_of_self(), before);
            }
            named.dedup();
            for call in ["open \"/dev/ptmx\"", "ioctl TIOCGPTPEER", "pipe2"] {
                assert!(named.iter().any(|name| name.starts_with(call)), "{named:?}");
            }
        }
        assert!(no_child_is_left());
    });
}

/// Each way in which the child of such a command fails, and how it is called.
fn failures(prepared: &mut Prepared<'_>) -> Vec<(Rule, Step, Option<Signal>)> {
    let opened = prepared.open().unwrap();
    let mut failures = Vec::new();
    for &step in opened.plan().steps() {
        let rule = |verdict: &dyn Fn(libc::c_long) -> Rule| match step {
            Step::SetSid => Some(verdict(libc::SYS_setsid)),
            Step::ControllingTerminal { .. } => {
                Some(verdict(libc::SYS_ioctl).with(1, libc::TIOCSCTTY as i32))
            }
            Step::Exec { .. } => Some(verdict(libc::SYS_execve)),
            _ => None,
        };
        let errno = |number| Rule::errno(number, STRANGE);
        failures.extend(rule(&errno).map(|rule| (rule, step, None)));
        failures.extend(rule(&Rule::kill).map(|rule| (rule, step, Some(Signal::SYS))));
    }
    assert_eq!(failures.len(), 6);
    failures
}

/// Every failure of the child's, then a success; `check` looks after each.
fn fail_at_every_step(prepared: &mut Prepared<'_>, check: impl Fn()) {
    for (rule, step, signal) in failures(prepared) {
        let error = under(&[rule], || prepared.spawn().unwrap_err());
        // The terminal's number is that of this spawn.
        let same =
            core::mem::discriminant(&error.step().unwrap()) == core::mem::discriminant(&step);
        assert!(same, "{error}, not {step}");
        assert_eq!(error.signal(), signal, "{error}");
        assert_eq!(error.raw_os_error(), if signal.is_none() { Some(STRANGE) } else { None });
        check();
        assert!(no_child_is_left());
    }
}

fn no_core_files() {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
}

#[test]
fn a_child_that_gets_no_session_or_terminal_is_an_error_that_says_so() {
    in_subprocess("a_child_that_gets_no_session_or_terminal_is_an_error_that_says_so", || {
        no_core_files();
        for without in EXCLUSIONS {
            // Of the slowest way of closing.
            let Rlimit { current, .. } = getrlimit(Resource::Nofile);
            setrlimit(Resource::Nofile, Rlimit { current, maximum: current }).unwrap();
            let mut prepared = command(Pty::new()).without(without).prepare().unwrap();
            let before = fds_of_self();
            fail_at_every_step(&mut prepared, || assert_eq!(fds_of_self(), before));
            // The control: nothing but the fault was in the way.
            assert!(prepared.spawn().unwrap().wait().unwrap().success());
            assert_eq!(fds_of_self(), before);
        }
    });
}

#[test]
fn a_terminal_that_was_opened_and_not_used_is_closed() {
    in_subprocess("a_terminal_that_was_opened_and_not_used_is_closed", || {
        let mut prepared = command(Pty::new()).prepare().unwrap();
        let before = fds_of_self();
        for _ in 0..3 {
            let opened = prepared.open().unwrap();
            assert!(fds_of_self().len() > before.len());
            drop(opened);
            assert_eq!(fds_of_self(), before);
        }
    });
}

#[test]
fn without_the_call_for_it_the_slave_is_opened_by_its_name() {
    let mut command = Command::new("tty");
    command.fds([0, 1, 2], Pty::new());
    for errno in [libc::ENOTTY, libc::EINVAL, libc::ENOSYS, libc::EPERM] {
        for without in PATHS {
            let (name, said) = under(&[ioctl(libc::TIOCGPTPEER, errno)], || {
                let mut prepared = command.clone().without(without).prepare().unwrap();
                let opened = prepared.open().unwrap();
                let name = opened.terminal_name(0).unwrap();
                let mut child = opened.spawn().unwrap();
                let said = read_to_eio(child.take(0).unwrap());
                assert!(child.wait().unwrap().success());
                (name, said)
            });
            assert_eq!(said, format!("{}\r\n", name.display()));
        }
    }
}

/// A command with an adopted terminal, whose numbers are these.
fn adopted() -> (Command<'static>, [i32; 2], String) {
    let (master, slave, name) = pair();
    let numbers = [&master, &slave].map(|fd: &OwnedFd| fd.as_raw_fd());
    (command(Pty::adopt(master, slave, &name)), numbers, name)
}

#[test]
fn an_adopted_terminal_is_given_back_by_every_spawn_that_fails() {
    in_subprocess("an_adopted_terminal_is_given_back_by_every_spawn_that_fails", || {
        no_core_files();
        for without in PATHS {
            let (mut command, [master, slave], name) = adopted();
            let mut prepared = command.without(without).prepare().unwrap();
            let before = fds_of_self();
            assert!(before.contains_key(&master) && before.contains_key(&slave));
            fail_at_every_step(&mut prepared, || assert_eq!(fds_of_self(), before));
            // The parent's calls: the size, the pipe beside it, the child.
            let calls = [
                ioctl(libc::TIOCSWINSZ, STRANGE),
                Rule::errno(libc::SYS_pipe2, STRANGE),
                Rule::errno(libc::SYS_clone3, STRANGE),
            ];
            for rule in calls {
                let error = under(&[rule], || prepared.spawn().unwrap_err());
                assert_eq!(error.raw_os_error(), Some(STRANGE), "{error}");
                assert_eq!(fds_of_self(), before);
            }
            // Neither does one that is not tried.
            assert_eq!(prepared.open().unwrap().terminal_name(0).unwrap().to_str(), Some(&*name));
            assert_eq!(fds_of_self(), before);

            let mut child = prepared.spawn().unwrap();
            let after = fds_of_self();
            assert_eq!(child.end("terminal").unwrap().as_raw_fd(), master);
            assert_eq!(after.get(&master), before.get(&master));
            assert_ne!(after.get(&slave), before.get(&slave));
            assert!(child.wait().unwrap().success());
        }
        assert!(no_child_is_left());
    });
}

#[test]
fn an_adopted_terminal_serves_one_child() {
    in_subprocess("an_adopted_terminal_serves_one_child", || {
        let before = fds_of_self();
        let (command, _, _) = adopted();
        let mut prepared = command.prepare().unwrap();
        let mut clone = prepared.try_clone().unwrap();
        // While one spawn has it, another has not.
        let opened = prepared.open().unwrap();
        let refusal = PlanError::AlreadyGiven { fd: 0 };
        assert_eq!(clone.spawn().unwrap_err().plan_error(), Some(&refusal));
        drop(opened);
        let mut child = clone.spawn().unwrap();
        for error in [prepared.spawn(), clone.spawn(), command.spawn()] {
            assert_eq!(error.unwrap_err().plan_error(), Some(&refusal));
        }
        child.wait().unwrap();
        drop((child, command, prepared, clone));
        assert_eq!(fds_of_self(), before);
        // Of one that no spawn has taken both ends are closed.
        drop(adopted());
        assert_eq!(fds_of_self(), before);
    });
}

#[test]
fn of_many_threads_that_spawn_one_adopted_terminal_one_has_a_child() {
    in_subprocess("of_many_threads_that_spawn_one_adopted_terminal_one_has_a_child", || {
        for _ in 0..20 {
            let (command, _, _) = adopted();
            let prepared = command.prepare().unwrap();
            let spawned: usize = thread::scope(|scope| {
                let spawn = || {
                    let mut mine = prepared.try_clone().unwrap();
                    scope.spawn(move || match mine.spawn() {
                        Ok(mut child) => usize::from(child.wait().unwrap().success()),
                        Err(_) => 0,
                    })
                };
                let threads: Vec<_> = (0..4).map(|_| spawn()).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(spawned, 1);
        }
        assert!(no_child_is_left());
    });
}

#[test]
fn an_adopted_terminal_is_a_terminal_like_any_other() {
    for without in PATHS {
        let (master, slave, name) = pair();
        let terminal = Pty::adopt(master, slave, &name).size(WindowSize::new(7, 8)).echo(false);
        let mut command = Command::new("sh");
        command.args(["-c", "tty; stty size; read x; echo got $x"]).without(without);
        let mut child = command.fds([0, 1, 2], terminal).spawn().unwrap();
        assert_eq!(Terminal::of(child.end(0).unwrap()).name().unwrap().to_str(), Some(&*name));
        let mut master = File::from(child.take(0).unwrap());
        master.write_all(b"words\n").unwrap();
        assert_eq!(read_to_eio(master), format!("{name}\r\n7 8\r\ngot words\r\n"));
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_thousand_terminals_leave_nothing() {
    in_subprocess("a_thousand_terminals_leave_nothing", || {
        let before = fds_of_self();
        for without in PATHS {
            let mut works = command(Pty::new()).without(without).prepare().unwrap();
            let mut missing = Command::new("/nowhere/program");
            missing.without(without).fds([0, 5], Pty::new());
            let mut missing = missing.prepare().unwrap();
            for _ in 0..250 {
                assert!(works.spawn().unwrap().wait().unwrap().success());
                missing.spawn().unwrap_err();
            }
        }
        assert_eq!(fds_of_self(), before);
        assert!(no_child_is_left());
    });
}
