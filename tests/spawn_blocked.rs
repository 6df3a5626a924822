//! A step of the child that blocks, as the open of a FIFO that nobody else has
//! open: it stops the thread that spawns, and nobody else; and it can be ended.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::fs;
use std::path::Path;
use std::thread;

use core::time::Duration;

use forkplan::plan::Step;
use forkplan::{Channel, Child, Command, NamedPipe, Open, Prepared, Signal, SpawnError};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use support::state::State;
use support::{PATHS, end, in_subprocess, no_child_is_left};

fn fifo(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    path
}

/// The child of one of this process's threads that is held by its open of a file;
/// waits until there is one.
fn held_at_open() -> i32 {
    loop {
        for task in fs::read_dir("/proc/self/task").unwrap() {
            let children = task.unwrap().path().join("children");
            for pid in fs::read_to_string(children).unwrap_or_default().split_whitespace() {
                let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
                let number = call.split(' ').next().unwrap().parse();
                if number == Ok(libc::SYS_openat) && sleeps(pid) {
                    return pid.parse().unwrap();
                }
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn sleeps(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().unwrap().starts_with('S')
}

/// Spawns in a thread of its own, is held in the middle, and `meanwhile` is called
/// with the child's pid. What the spawn comes to in the end.
fn spawn_held(
    prepared: &mut Prepared<'_>,
    meanwhile: impl FnOnce(i32),
) -> Result<Child, SpawnError> {
    thread::scope(|scope| {
        let spawn = scope.spawn(|| prepared.spawn());
        let pid = held_at_open();
        meanwhile(pid);
        spawn.join().unwrap()
    })
}

#[test]
fn a_step_that_blocks_stops_its_own_thread_alone_and_can_be_killed() {
    let test = "a_step_that_blocks_stops_its_own_thread_alone_and_can_be_killed";
    in_subprocess(test, || {
        let dir = tempfile::tempdir().unwrap();
        let path = fifo(dir.path());
        for without in PATHS {
            let mut command = Command::new(end());
            command.without(without).fd(3, Channel::file_in_child(&path, Open::Read));
            let mut prepared = command.prepare().unwrap();
            let before = State::of_process();
            // Others spawn and wait meanwhile, through clones of the same command too.
            let error = spawn_held(&mut prepared, |pid| {
                for without in PATHS {
                    let mut command = Command::new(end());
                    let exit = command.without(without).spawn().unwrap().wait().unwrap();
                    assert!(exit.success());
                }
                assert!(sleeps(&pid.to_string()));
                // SAFETY: no pointers. The child's pid: it is held, so not reaped.
                assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
            });
            let error = error.unwrap_err();
            assert!(matches!(error.step(), Some(Step::OpenFile { to: 3, .. })), "{error}");
            assert_eq!((error.signal(), error.raw_os_error()), (Some(Signal::KILL), None));
            assert!(no_child_is_left());
            State::of_process().assert_is(&before, "a child that was killed");

            // And where somebody opens the other end it goes on.
            let child = spawn_held(&mut prepared, |_| {
                drop(fs::File::options().write(true).open(&path).unwrap());
            });
            assert!(child.unwrap().wait().unwrap().success());
            assert!(no_child_is_left());
            State::of_process().assert_is(&before, "a child that went on");
        }
    });
}

/// The same FIFO as a channel is opened by the parent, which does not wait.
#[test]
fn control_a_fifo_that_is_a_channel_blocks_nobody() {
    in_subprocess("control_a_fifo_that_is_a_channel_blocks_nobody", || {
        let dir = tempfile::tempdir().unwrap();
        let path = fifo(dir.path());
        for without in PATHS {
            for pipe in [NamedPipe::read(&path), NamedPipe::write(&path)] {
                let mut command = Command::new(end());
                command.without(without).fd(3, pipe);
                assert!(command.spawn().unwrap().wait().unwrap().success());
            }
        }
        assert!(no_child_is_left());
    });
}
