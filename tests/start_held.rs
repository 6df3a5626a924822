//! Children that are held on their way while the parent goes on: what they read
//! stays as it was.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use core::hint::black_box;
use core::time::Duration;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use forkplan::Channel::ReadPipe;
use forkplan::{
    ChildKey, Command, Event, Features, Ladder, OnDrop, Prepared, Pump, Signal, Starting,
};
use support::holder::{Held, Holder};
use support::seccomp::{Rule, under};
use support::{
    PATHS, fds_of, fds_of_self, file_of, in_subprocess, no_child_is_left, pause, skipped,
};

/// Starts each in a thread of its own, which has ended when this returns, and holds
/// the children at their `chdir`, before anything was read but the first steps.
fn held_at_chdir<'fd>(prepared: Prepared<'fd>) -> (Starting<'fd>, Holder, Held) {
    thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        let starts = scope.spawn(move || {
            send.send(Holder::at(libc::SYS_chdir)).unwrap();
            prepared.start()
        });
        let holder = receive.recv().unwrap();
        let held = holder.next();
        (starts.join().unwrap(), holder, held)
    })
}

/// Whether a child that is started runs in our memory, if it is not told otherwise.
fn share_memory(test: &str) -> bool {
    let to_share = Features::SHARED_MEMORY | Features::CLONE3 | Features::PIDFD;
    let share = Features::of_this_kernel().contains(to_share) && !cfg!(sanitized);
    if !share {
        skipped(test, "what is started is a fork: by an emulator, a sanitizer, or an old kernel");
    }
    share
}

/// Allocates, writes and frees in sizes such as a prepared command has.
fn churn() {
    for round in 0..200u32 {
        let blocks: Vec<Vec<u8>> =
            (0..64).map(|at| vec![0x5a; 16 << (at % 8)]).chain([vec![1; 70_000]]).collect();
        black_box((blocks, round));
    }
}

#[test]
fn a_child_that_is_held_finds_its_strings_when_it_goes_on() {
    in_subprocess("a_child_that_is_held_finds_its_strings_when_it_goes_on", || {
        let share = share_memory("a_child_that_is_held_finds_its_strings_when_it_goes_on");
        for (without, among_us) in PATHS.into_iter().zip([share, false]) {
            let mut command = Command::new("sh");
            let words: Vec<String> = (0..50).map(|n| format!("word-{n}")).collect();
            command.args(["-c", "echo $KEY $OWN $$ \"$@\"", "sh"]).args(&words);
            command.env("KEY", "value").env_pid("OWN").current_dir("/").fd(1, ReadPipe);
            let prepared = command.without(without).prepare().unwrap();
            // Its memory would be free for others.
            drop(command);
            let (mut starting, holder, held) = held_at_chdir(prepared);
            assert_eq!(held.is_among_us(), among_us);
            for _ in 0..3 {
                // Moved about, on the stack and through the heap.
                starting = *black_box(Box::new(starting));
                assert!(!starting.look());
                churn();
            }
            holder.let_go(held);
            let (_prepared, child) = starting.finish();
            let mut child = child.unwrap();
            let mut text = String::new();
            File::from(child.take(1).unwrap()).read_to_string(&mut text).unwrap();
            let pid = held.pid;
            assert_eq!(text, format!("value {pid} {pid} {}\n", words.join(" ")));
            assert!(child.wait().unwrap().success());
        }
    });
}

#[test]
fn one_that_is_dropped_while_it_is_held_is_gone_before_its_memory() {
    in_subprocess("one_that_is_dropped_while_it_is_held_is_gone_before_its_memory", || {
        for without in PATHS {
            let mut command = Command::new("/bin/true");
            command.current_dir("/").without(without).fd(1, ReadPipe);
            let before = fds_of_self();
            for _ in 0..20 {
                let (starting, holder, held) = held_at_chdir(command.prepare().unwrap());
                drop(starting);
                // It was killed, not let go, and reaped.
                assert!(no_child_is_left());
                assert!(!std::path::Path::new(&format!("/proc/{}", held.pid)).exists());
                drop(holder);
            }
            assert_eq!(fds_of_self(), before);
        }
    });
}

#[test]
fn one_that_is_forgotten_keeps_its_memory() {
    in_subprocess("one_that_is_forgotten_keeps_its_memory", || {
        let mut command = Command::new("sh");
        command.args(["-c", "test \"$1\" = word", "sh", "word"]).current_dir("/");
        let (starting, holder, held) = held_at_chdir(command.prepare().unwrap());
        core::mem::forget(starting);
        drop(command);
        churn();
        holder.let_go(held);
        let mut status = 0;
        // SAFETY: writes the status.
        let reaped = unsafe { libc::waitpid(held.pid as i32, &mut status, libc::__WALL) };
        assert_eq!((reaped, status), (held.pid as i32, 0));
    });
}

#[test]
fn a_stranger_with_a_copy_of_the_notice_keeps_nobody_waiting() {
    in_subprocess("a_stranger_with_a_copy_of_the_notice_keeps_nobody_waiting", || {
        pause();
        for without in PATHS {
            let mut command = Command::new(pause());
            command.current_dir("/").without(without).on_drop(OnDrop::Kill);
            let (mut starting, holder, held) = held_at_chdir(command.prepare().unwrap());
            let file = file_of(starting.notice().unwrap().as_fd());
            let others = fds_of(held.pid);
            let mut ends = others.iter().filter(|(_, open)| open.file == file);
            let (&number, _) = ends.find(|(_, open)| open.is_for_writing()).unwrap();
            let copy = copied_from(held.pid, number);
            holder.let_go(held);
            // Without a copy it would be told by the notice. The program lives on.
            while !starting.look() {
                thread::yield_now();
            }
            drop(copy);
            let (_prepared, child) = starting.finish();
            assert!(child.unwrap().try_wait().unwrap().is_none());
        }
    });
}

/// An fd of another process.
fn copied_from(pid: u32, number: i32) -> OwnedFd {
    // SAFETY: no pointers; the kernel makes both fds for us.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32;
        assert!(process >= 0);
        let process = OwnedFd::from_raw_fd(process);
        let copy = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) as i32;
        assert!(copy >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(copy)
    }
}

#[test]
fn the_parents_fork_and_other_starts_do_not_disturb_one_that_is_held() {
    in_subprocess("the_parents_fork_and_other_starts_do_not_disturb_one_that_is_held", || {
        let mut command = Command::new("sh");
        command.args(["-c", "test \"$1\" = word", "sh", "word"]).current_dir("/");
        let (starting, holder, held) = held_at_chdir(command.prepare().unwrap());
        for _ in 0..20 {
            // SAFETY: the child only ends.
            let forked = unsafe { libc::fork() };
            if forked == 0 {
                // SAFETY: ends this process.
                unsafe { libc::_exit(0) };
            }
            // SAFETY: no pointers but null.
            assert_eq!(unsafe { libc::waitpid(forked, core::ptr::null_mut(), 0) }, forked);
            let (mut prepared, child) = command.prepare().unwrap().start().finish();
            assert!(child.unwrap().wait().unwrap().success());
            assert!(prepared.spawn().unwrap().wait().unwrap().success());
        }
        holder.let_go(held);
        let (_prepared, child) = starting.finish();
        assert!(child.unwrap().wait().unwrap().success());
    });
}

/// A child in a pump, held at its `chdir`.
fn held_in_a_pump(command: &Command<'static>) -> (Pump, ChildKey, Holder, Held) {
    let prepared = command.prepare().unwrap();
    thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        let starts = scope.spawn(move || {
            send.send(Holder::at(libc::SYS_chdir)).unwrap();
            let mut pump = Pump::new();
            let key = pump.start(prepared);
            (pump, key)
        });
        let holder = receive.recv().unwrap();
        let held = holder.next();
        let (pump, key) = starts.join().unwrap();
        (pump, key, holder, held)
    })
}

#[test]
fn one_that_is_stuck_on_its_way_is_reached_by_signals_and_deadlines() {
    in_subprocess("one_that_is_stuck_on_its_way_is_reached_by_signals_and_deadlines", || {
        for without in PATHS {
            let mut command = Command::new("/bin/true");
            command.current_dir("/").without(without);
            for by_deadline in [false, true] {
                let (mut pump, key, holder, _) = held_in_a_pump(&command);
                match by_deadline {
                    false => pump.signal(key, Signal::KILL).unwrap(),
                    true => {
                        let ladder = Ladder::new().then(Signal::KILL, Duration::ZERO);
                        pump.set_deadline(key, Some(Instant::now()), ladder).unwrap();
                    }
                }
                let mut signal = None;
                while !pump.is_empty() {
                    pump.poll(None).unwrap();
                    while let Some(event) = pump.next_event() {
                        if let Event::NotStarted { child } = event {
                            let error = pump.take_spawn_error(child).unwrap();
                            signal = error.signal();
                        }
                    }
                }
                assert_eq!(signal, Some(Signal::KILL));
                assert!(no_child_is_left());
                drop(holder);
            }
        }
    });
}

#[test]
fn a_pump_that_is_dropped_takes_back_what_is_on_its_way() {
    in_subprocess("a_pump_that_is_dropped_takes_back_what_is_on_its_way", || {
        let share = share_memory("a_pump_that_is_dropped_takes_back_what_is_on_its_way");
        for (without, among_us) in PATHS.into_iter().zip([share, false]) {
            let mut command = Command::new("/bin/true");
            command.current_dir("/").without(without).fd(1, ReadPipe);
            let before = fds_of_self();
            let (pump, key, holder, held) = held_in_a_pump(&command);
            assert!(pump.child(key).is_none());
            assert_eq!(held.is_among_us(), among_us);
            drop(pump);
            assert!(no_child_is_left());
            drop(holder);
            assert_eq!(fds_of_self(), before);
        }
    });
}

/// Answers that a filter may give in the kernel's place, each of which would say to
/// somebody who believes it that the child has called exec, or is gone.
fn lies() -> Vec<Vec<Rule>> {
    let errnos = [libc::EACCES, libc::ECHILD, libc::ESRCH, libc::EPERM, libc::ENOSYS];
    let mut calls = vec![libc::SYS_setpgid, libc::SYS_waitid, libc::SYS_wait4, libc::SYS_ppoll];
    // Newer architectures never had it.
    #[cfg(target_arch = "x86_64")]
    calls.push(libc::SYS_poll);
    let all = |errno| calls.iter().map(|&call| Rule::errno(call, errno)).collect();
    errnos.into_iter().map(all).collect()
}

#[test]
fn no_errno_is_believed_of_a_child_in_our_memory() {
    in_subprocess("no_errno_is_believed_of_a_child_in_our_memory", || {
        if !share_memory("no_errno_is_believed_of_a_child_in_our_memory") {
            return;
        }
        for lie in lies() {
            let mut command = Command::new("/bin/true");
            let (mut starting, holder, held) =
                held_at_chdir(command.current_dir("/").prepare().unwrap());
            assert!(held.is_among_us());
            for rule in &lie {
                assert!(!under(core::slice::from_ref(rule), || starting.look()), "{rule:?}");
            }
            assert!(!under(&lie, || starting.look()), "{lie:?}");
            holder.let_go(held);
            assert!(starting.finish().1.unwrap().wait().unwrap().success());
        }
    });
}

#[test]
fn what_the_kernel_does_not_tell_leaks_and_waits_for_nobody() {
    in_subprocess("what_the_kernel_does_not_tell_leaks_and_waits_for_nobody", || {
        for lie in lies() {
            let mut command = Command::new("/bin/true");
            let (starting, holder, held) =
                held_at_chdir(command.current_dir("/").prepare().unwrap());
            under(&lie, || drop(starting));
            let mut status = 0;
            // SAFETY: writes the status. It was killed and not reaped.
            let reaped = unsafe { libc::waitpid(held.pid as i32, &mut status, libc::__WALL) };
            assert_eq!((reaped, status), (held.pid as i32, libc::SIGKILL));
            drop(holder);
        }
    });
}
