//! A pid namespace that has just been made: `/proc` is still that of the namespace
//! around it, where the numbers of children are strangers', and the first child is
//! the init of it.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::fs;

use forkplan::Channel::Null;
use forkplan::{Child, Command, Features, IdRange, Namespaces, OnDrop, Signal};
use support::isolation::is_root;
use support::{PATHS, in_subprocess, pause};

fn paused<'fd>() -> Command<'fd> {
    let mut command = Command::new(pause());
    command.fd(0, Null).on_drop(OnDrop::Kill);
    command
}

fn stop(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Gives this thread's children a new pid namespace.
fn unshare_pids() {
    // Making it may take children.
    pause();
    // SAFETY: no pointers. The process is the test's own.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
}

/// A process that `prepare` has made something of, and that waits to be killed, never
/// having called exec.
struct Stranger(i32);

impl Stranger {
    fn new(prepare: impl FnOnce()) -> Self {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        // SAFETY: one thread matters in this process; the child makes two syscalls.
        let child = unsafe { libc::fork() };
        if child == 0 {
            prepare();
            drop(writer);
            loop {
                // SAFETY: waits.
                unsafe { libc::pause() };
            }
        }
        drop(writer);
        assert_eq!(rustix::io::read(reader, &mut [0; 1]), Ok(0));
        Self(child)
    }

    /// Has the next child of this namespace's get the number that it has outside.
    fn shares_its_number(&self) {
        fs::write("/proc/sys/kernel/ns_last_pid", (self.0 - 1).to_string()).unwrap();
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // SAFETY: a child of this process, not reaped before.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

/// Runs `body` as the init of a new pid namespace, with the `/proc` of the one
/// around it.
fn as_init(body: impl FnOnce()) {
    unshare_pids();
    // SAFETY: as above; the child leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        // SAFETY: ends this process and all of the namespace.
        unsafe { libc::_exit(i32::from(result.is_err())) };
    }
    let mut status = 0;
    // SAFETY: writes the status of a child made here.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
}

#[test]
fn a_program_in_a_session_of_its_own_is_not_taken_for_a_stranger_that_called_no_exec() {
    let name = "a_program_in_a_session_of_its_own_is_not_taken_for_a_stranger_that_called_no_exec";
    if !is_root(name) {
        return;
    }
    in_subprocess(name, || {
        let stranger = Stranger::new(|| ());
        as_init(|| {
            // Control: there the number is the stranger's.
            let own = fs::read_link("/proc/self").unwrap();
            assert_ne!(own.to_str().unwrap(), std::process::id().to_string());
            for without in PATHS {
                let mut prepared = paused().setsid().without(without).prepare().unwrap();
                stranger.shares_its_number();
                // Would wait for the program's end, and say that there was none.
                let child = prepared.spawn().unwrap();
                assert_eq!(child.id(), Some(stranger.0 as u32), "another came between");
                stop(child);
            }
        });
    });
}

#[test]
fn the_id_maps_of_a_child_are_not_written_to_a_stranger() {
    let name = "the_id_maps_of_a_child_are_not_written_to_a_stranger";
    if !is_root(name) {
        return;
    }
    in_subprocess(name, || {
        // One that would take them: in a user namespace that has none yet.
        let stranger = Stranger::new(|| {
            // SAFETY: no pointers.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWUSER) }, 0);
        });
        let maps = || fs::read_to_string(format!("/proc/{}/uid_map", stranger.0)).unwrap();
        assert_eq!(maps(), "");
        as_init(|| {
            let all = [IdRange { inside: 0, outside: 0, count: 1 }];
            let mut command = paused();
            command.unshare(Namespaces::USER).uid_map(all).gid_map(all);
            let mut prepared = command.prepare().unwrap();
            stranger.shares_its_number();
            let error = prepared.spawn().expect_err("nobody can write its maps");
            let file = format!("write \"/proc/{}/uid_map\"", stranger.0);
            assert_eq!(error.description(), Some(file.as_str()), "{error}");
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        });
        assert_eq!(maps(), "");
    });
}

#[test]
fn a_parent_out_of_sight_is_not_one_that_is_gone() {
    let name = "a_parent_out_of_sight_is_not_one_that_is_gone";
    if !is_root(name) {
        return;
    }
    in_subprocess(name, || {
        unshare_pids();
        // The namespace lives as long as its first process.
        let init = paused().spawn().unwrap();
        for without in PATHS {
            let mut command = paused();
            command.parent_death_signal(Signal::KILL).without(without);
            stop(command.spawn().unwrap());
        }
        stop(init);
    });
}

#[test]
fn looking_for_features_does_not_use_up_a_new_pid_namespace() {
    let name = "looking_for_features_does_not_use_up_a_new_pid_namespace";
    if !is_root(name) {
        return;
    }
    in_subprocess(name, || {
        unshare_pids();
        let first = paused().spawn().unwrap();
        // Now there is an init, and it is known what the kernel has.
        assert!(Features::of_this_kernel().contains(Features::SHARED_MEMORY));
        stop(paused().require(Features::SHARED_MEMORY).spawn().unwrap());
        stop(first);
        // Control: with its init the namespace has ended.
        let error = Command::new("true").spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
    });
}
