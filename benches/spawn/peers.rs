//! The others: std, and crates for the same work.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use futures_lite::future::block_on;
use subprocess::{Exec, Redirection};

use crate::channels::Channels;
use crate::contenders::Contender;
use crate::sample::{Sample, Watch};

/// Those that can give a child these channels.
pub fn all(path: &Path, channels: Channels) -> Vec<Contender> {
    let mut all = Vec::new();
    let pipes = channels == Channels::Pipes;
    if pipes || channels == Channels::None {
        all.push(std_spawn("std", path, pipes));
        all.push(std_reused("std, Command reused", path, pipes, false));
        if pipes {
            all.push(std_reused("std, Command reused, changed environment", path, pipes, true));
        }
        all.push(std_pre_exec("std + pre_exec", path, pipes));
        all.push(subprocess("subprocess", path, pipes));
        all.push(duct("duct", path, pipes));
        all.push(tokio("tokio", path, pipes));
        all.push(async_process("async-process", path, pipes));
    }
    if channels != Channels::None {
        all.push(command_fds("command-fds", path, channels));
    }
    all
}

fn std_command(path: &Path, pipes: bool) -> process::Command {
    let mut command = process::Command::new(path);
    if pipes {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    command
}

fn run_std(command: impl FnOnce() -> process::Child) -> Sample {
    let watch = Watch::start();
    let mut child = command();
    let spawned = watch.spawned();
    let status = child.wait().unwrap();
    drop(child);
    let sample = spawned.done();
    assert!(status.success(), "{status}");
    sample
}

fn std_spawn(name: &'static str, path: &Path, pipes: bool) -> Contender {
    let path = path.to_owned();
    Contender::new(name, move || run_std(|| std_command(&path, pipes).spawn().unwrap()))
}

fn std_reused(name: &'static str, path: &Path, pipes: bool, changed: bool) -> Contender {
    let mut command = std_command(path, pipes);
    if changed {
        command.env("CHANGED", "value").env_remove("HOME");
    }
    Contender::new(name, move || run_std(|| command.spawn().unwrap()))
}

/// Any hook makes std fork; this one does nothing.
fn std_pre_exec(name: &'static str, path: &Path, pipes: bool) -> Contender {
    let path = path.to_owned();
    Contender::new(name, move || {
        run_std(|| {
            let mut command = std_command(&path, pipes);
            // SAFETY: the hook does nothing.
            unsafe { command.pre_exec(|| Ok(())) };
            command.spawn().unwrap()
        })
    })
}

/// It owns what it maps, so files that stay are copied for it first.
fn command_fds(name: &'static str, path: &Path, channels: Channels) -> Contender {
    let path = path.to_owned();
    Contender::new(name, move || {
        let watch = Watch::start();
        let mut ours: Vec<OwnedFd> = Vec::new();
        let mut mappings = Vec::new();
        for &child_fd in channels.pipes() {
            let (reader, writer) = io::pipe().unwrap();
            let (reader, writer): (OwnedFd, OwnedFd) = (reader.into(), writer.into());
            let (theirs, our) = if child_fd == 0 { (reader, writer) } else { (writer, reader) };
            ours.push(our);
            mappings.push(FdMapping { parent_fd: theirs, child_fd });
        }
        for (child_fd, source) in channels.given() {
            let parent_fd = source.try_clone_to_owned().unwrap();
            mappings.push(FdMapping { parent_fd, child_fd });
        }
        let mut command = process::Command::new(&path);
        command.fd_mappings(mappings).unwrap();
        let mut child = command.spawn().unwrap();
        // The child's ends, which the others close before they return.
        drop(command);
        let spawned = watch.spawned();
        let status = child.wait().unwrap();
        drop((child, ours));
        let sample = spawned.done();
        assert!(status.success(), "{status}");
        sample
    })
}

fn subprocess(name: &'static str, path: &Path, pipes: bool) -> Contender {
    let path = path.to_owned();
    Contender::new(name, move || {
        let watch = Watch::start();
        let mut exec = Exec::cmd(&path);
        if pipes {
            exec =
                exec.stdin(Redirection::Pipe).stdout(Redirection::Pipe).stderr(Redirection::Pipe);
        }
        let job = exec.start().unwrap();
        let spawned = watch.spawned();
        let status = job.wait().unwrap();
        drop(job);
        let sample = spawned.done();
        assert!(status.success(), "{status:?}");
        sample
    })
}

/// Three pipes are to be had as bytes to write and two captures, each with a thread.
fn duct(name: &'static str, path: &Path, pipes: bool) -> Contender {
    let path = path.to_owned();
    Contender::new(name, move || {
        let watch = Watch::start();
        let mut command = duct::cmd(&path, [] as [&str; 0]);
        if pipes {
            command = command.stdin_bytes("").stdout_capture().stderr_capture();
        }
        let handle = command.start().unwrap();
        let spawned = watch.spawned();
        assert!(handle.wait().unwrap().status.success());
        drop(handle);
        spawned.done()
    })
}

fn tokio(name: &'static str, path: &Path, pipes: bool) -> Contender {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let path = path.to_owned();
    Contender::new(name, move || {
        runtime.block_on(async {
            let watch = Watch::start();
            let mut child =
                tokio::process::Command::from(std_command(&path, pipes)).spawn().unwrap();
            let spawned = watch.spawned();
            let status = child.wait().await.unwrap();
            drop(child);
            let sample = spawned.done();
            assert!(status.success(), "{status}");
            sample
        })
    })
}

fn async_process(name: &'static str, path: &Path, pipes: bool) -> Contender {
    let path = path.to_owned();
    Contender::new(name, move || {
        let watch = Watch::start();
        let mut command = async_process::Command::new(&path);
        if pipes {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let mut child = command.spawn().unwrap();
        let spawned = watch.spawned();
        let status = block_on(child.status()).unwrap();
        drop(child);
        let sample = spawned.done();
        assert!(status.success(), "{status}");
        sample
    })
}
