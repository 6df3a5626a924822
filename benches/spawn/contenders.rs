//! Who is measured. Each does the same: three new pipes on the child's 0, 1
//! and 2, the parent's environment, no arguments.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use forkplan::{Command, Features, Prepared};
use forkplan_benches::floor::Floor;
use forkplan_benches::program::Program;
use subprocess::{Exec, Redirection};

use crate::sample::{Sample, Watch};

/// One way to spawn.
pub struct Contender {
    pub name: &'static str,
    run: Box<dyn FnMut() -> Sample>,
}

impl Contender {
    fn new(name: &'static str, run: impl FnMut() -> Sample + 'static) -> Self {
        Self { name, run: Box::new(run) }
    }

    /// One child from its pipes to its end.
    pub fn run(&mut self) -> Sample {
        (self.run)()
    }
}

/// Three files for a child, opened before the load: their numbers are low
/// whatever is opened later.
pub struct LowFiles([File; 3]);

impl LowFiles {
    pub fn open() -> io::Result<Self> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        Ok(Self([null.try_clone()?, null.try_clone()?, null]))
    }
}

/// All of them. The first is the floor that the others are compared with, the
/// second the same once more: how far it is from 1 is how far noise goes.
///
/// `low_files` are given to one of them in place of pipes. To be read beside its
/// own figure without a load, for it makes no pipes.
pub fn all(program: &Program, low_files: LowFiles) -> Vec<Contender> {
    let path = program.path();
    #[cfg_attr(not(feature = "tokio"), expect(unused_mut))]
    let mut all = vec![
        floor("floor", program),
        floor("floor again (A/A)", program),
        prepared("forkplan, prepared", path, Features::empty()),
        given("forkplan, prepared, low files", path, low_files),
        one_shot("forkplan, one-shot", path, Features::empty()),
        prepared("forkplan, prepared, fork path", path, Features::SHARED_MEMORY),
        one_shot("forkplan, one-shot, fork path", path, Features::SHARED_MEMORY),
        std_spawn("std", path),
        std_reused("std, Command reused", path),
        std_pre_exec("std + pre_exec", path),
        command_fds("command-fds", path),
        subprocess("subprocess", path),
    ];
    #[cfg(feature = "tokio")]
    all.push(tokio("tokio", path));
    all
}

fn floor(name: &'static str, program: &Program) -> Contender {
    let mut floor = Floor::new(program.c_path(), [0, 1, 2]);
    Contender::new(name, move || {
        let watch = Watch::start();
        let running = floor.spawn().unwrap();
        let spawned = watch.spawned();
        running.finish();
        spawned.done()
    })
}

fn prepared(name: &'static str, path: &Path, without: Features) -> Contender {
    run_prepared(name, Command::new(path).without(without).prepare().unwrap())
}

fn given(
    name: &'static str,
    path: &Path,
    LowFiles([stdin, stdout, stderr]): LowFiles,
) -> Contender {
    let mut command = Command::new(path);
    command.stdin(stdin).stdout(stdout).stderr(stderr);
    run_prepared(name, command.prepare().unwrap())
}

fn run_prepared(name: &'static str, mut prepared: Prepared<'static>) -> Contender {
    Contender::new(name, move || {
        let watch = Watch::start();
        let mut child = prepared.spawn().unwrap();
        let spawned = watch.spawned();
        let exit = child.wait().unwrap();
        drop(child);
        let sample = spawned.done();
        assert!(exit.success(), "{exit}");
        sample
    })
}

fn one_shot(name: &'static str, path: &Path, without: Features) -> Contender {
    let path = path.to_owned();
    Contender::new(name, move || {
        let watch = Watch::start();
        let mut child = Command::new(&path).without(without).spawn().unwrap();
        let spawned = watch.spawned();
        let exit = child.wait().unwrap();
        drop(child);
        let sample = spawned.done();
        assert!(exit.success(), "{exit}");
        sample
    })
}

fn std_command(path: &Path) -> process::Command {
    let mut command = process::Command::new(path);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
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

fn std_spawn(name: &'static str, path: &Path) -> Contender {
    let path = path.to_owned();
    Contender::new(name, move || run_std(|| std_command(&path).spawn().unwrap()))
}

fn std_reused(name: &'static str, path: &Path) -> Contender {
    let mut command = std_command(path);
    Contender::new(name, move || run_std(|| command.spawn().unwrap()))
}

/// Any hook makes std fork; this one does nothing.
fn std_pre_exec(name: &'static str, path: &Path) -> Contender {
    let path = path.to_owned();
    Contender::new(name, move || {
        run_std(|| {
            let mut command = std_command(&path);
            // SAFETY: the hook does nothing.
            unsafe { command.pre_exec(|| Ok(())) };
            command.spawn().unwrap()
        })
    })
}

fn command_fds(name: &'static str, path: &Path) -> Contender {
    let path = path.to_owned();
    Contender::new(name, move || {
        let watch = Watch::start();
        let (stdin, ours0) = std::io::pipe().unwrap();
        let (ours1, stdout) = std::io::pipe().unwrap();
        let (ours2, stderr) = std::io::pipe().unwrap();
        let theirs: [OwnedFd; 3] = [stdin.into(), stdout.into(), stderr.into()];
        let mapping = |(parent_fd, child_fd)| FdMapping { parent_fd, child_fd };
        let mut command = process::Command::new(&path);
        command.fd_mappings(theirs.into_iter().zip(0..).map(mapping).collect()).unwrap();
        let mut child = command.spawn().unwrap();
        // The child's ends, which the others close before they return.
        drop(command);
        let spawned = watch.spawned();
        let status = child.wait().unwrap();
        drop((child, ours0, ours1, ours2));
        let sample = spawned.done();
        assert!(status.success(), "{status}");
        sample
    })
}

fn subprocess(name: &'static str, path: &Path) -> Contender {
    let path = path.to_owned();
    Contender::new(name, move || {
        let watch = Watch::start();
        let job = Exec::cmd(&path)
            .stdin(Redirection::Pipe)
            .stdout(Redirection::Pipe)
            .stderr(Redirection::Pipe)
            .start()
            .unwrap();
        let spawned = watch.spawned();
        let status = job.wait().unwrap();
        drop(job);
        let sample = spawned.done();
        assert!(status.success(), "{status:?}");
        sample
    })
}

#[cfg(feature = "tokio")]
fn tokio(name: &'static str, path: &Path) -> Contender {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let path = path.to_owned();
    Contender::new(name, move || {
        runtime.block_on(async {
            let watch = Watch::start();
            let mut child = tokio::process::Command::new(&path)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let spawned = watch.spawned();
            let status = child.wait().await.unwrap();
            drop(child);
            let sample = spawned.done();
            assert!(status.success(), "{status}");
            sample
        })
    })
}
