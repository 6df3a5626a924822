//! Who is measured: the floor, this library, and glibc. Each gives the child the
//! same, with the parent's environment and no arguments.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::ptr;
use std::sync::Arc;

use forkplan::Channel::{ReadPipe, WritePipe};
use forkplan::{Command, Features, Launcher, Prepared};
use forkplan_benches::floor::{self, Floor};
use forkplan_benches::program::Program;

use crate::channels::{Channels, FILES};
use crate::load::Early;
use crate::peers;
use crate::sample::{Sample, Watch};

/// One way to spawn.
pub struct Contender {
    pub name: &'static str,
    run: Box<dyn FnMut() -> Sample>,
}

impl Contender {
    pub fn new(name: &'static str, run: impl FnMut() -> Sample + 'static) -> Self {
        Self { name, run: Box::new(run) }
    }

    /// One child from its pipes to its end.
    pub fn run(&mut self) -> Sample {
        (self.run)()
    }
}

/// All that can give a child these channels. The first is the floor that the others
/// are compared with, the second the same once more: how far it is from 1 is how
/// far noise goes.
pub fn all(program: &Program, channels: Channels, early: &Arc<Early>) -> Vec<Contender> {
    let path = program.path();
    let mut all = vec![
        floor("floor", program, channels),
        floor("floor again (A/A)", program, channels),
        prepared("forkplan, prepared", command(path, channels)),
        launched("forkplan, prepared, launcher", command(path, channels), early.clone()),
        one_shot("forkplan, one-shot", path, channels),
        launched_once("forkplan, one-shot, launcher", path, channels, early.clone()),
    ];
    if channels == Channels::Pipes {
        let mut changed = command(path, channels);
        changed.env("CHANGED", "value").env_remove("HOME");
        all.push(prepared("forkplan, prepared, changed environment", changed));
        // To be compared with itself with and without a load: it makes no pipes.
        let mut low = Command::new(path);
        let file = |number| {
            // SAFETY: open as long as the bench runs.
            unsafe { BorrowedFd::borrow_raw(number) }
        };
        low.fd(0, file(FILES)).fd(1, file(FILES + 1)).fd(2, file(FILES + 2));
        all.push(prepared("forkplan, prepared, low files", low));
        all.push(started("forkplan, started", command(path, channels)));
    }
    let mut forked = command(path, channels);
    forked.without(Features::SHARED_MEMORY);
    all.push(prepared("forkplan, prepared, fork path", forked));
    all.push(posix_spawn("posix_spawn", program, channels));
    all.extend(peers::all(path, channels));
    all
}

fn command(path: &Path, channels: Channels) -> Command<'static> {
    let mut command = Command::new(path);
    for &fd in channels.pipes() {
        command.fd(fd, if fd == 0 { WritePipe } else { ReadPipe });
    }
    for (target, source) in channels.given() {
        command.fd(target, source);
    }
    command
}

fn floor(name: &'static str, program: &Program, channels: Channels) -> Contender {
    let mut floor = Floor::new(program.c_path(), channels.pipes(), &channels.copies());
    Contender::new(name, move || {
        let watch = Watch::start();
        let running = floor.spawn().unwrap();
        let spawned = watch.spawned();
        running.finish();
        spawned.done()
    })
}

fn finish(watch: Watch, mut child: forkplan::Child) -> Sample {
    let spawned = watch.spawned();
    let exit = child.wait().unwrap();
    drop(child);
    let sample = spawned.done();
    assert!(exit.success(), "{exit}");
    sample
}

fn prepared(name: &'static str, command: Command<'static>) -> Contender {
    let mut prepared: Prepared<'static> = command.prepare().unwrap();
    Contender::new(name, move || {
        let watch = Watch::start();
        let child = prepared.spawn().unwrap();
        finish(watch, child)
    })
}

/// *spawn* is until the caller runs on, the outcome of exec not known; it is before
/// the wait.
fn started(name: &'static str, command: Command<'static>) -> Contender {
    let mut idle: Option<Prepared<'static>> = Some(command.prepare().unwrap());
    Contender::new(name, move || {
        let prepared = idle.take().unwrap();
        let watch = Watch::start();
        let starting = prepared.start();
        let spawned = watch.spawned();
        let (prepared, child) = starting.finish();
        let mut child = child.unwrap();
        let exit = child.wait().unwrap();
        drop(child);
        let sample = spawned.done();
        assert!(exit.success(), "{exit}");
        idle = Some(prepared);
        sample
    })
}

fn launched(name: &'static str, command: Command<'static>, early: Arc<Early>) -> Contender {
    let mut prepared = command.prepare().unwrap();
    Contender::new(name, move || {
        let launcher: &Launcher = &early.launcher;
        let watch = Watch::start();
        let child = launcher.spawn(&mut prepared).unwrap();
        let sample = finish(watch, child);
        assert_eq!(launcher.fallbacks(), 0);
        sample
    })
}

fn one_shot(name: &'static str, path: &Path, channels: Channels) -> Contender {
    let path = path.to_owned();
    Contender::new(name, move || {
        let watch = Watch::start();
        let child = command(&path, channels).spawn().unwrap();
        finish(watch, child)
    })
}

fn launched_once(
    name: &'static str,
    path: &Path,
    channels: Channels,
    early: Arc<Early>,
) -> Contender {
    let path = path.to_owned();
    Contender::new(name, move || {
        let watch = Watch::start();
        let child = early.launcher.spawn_once(&command(&path, channels)).unwrap();
        finish(watch, child)
    })
}

/// glibc's, as a careful C program calls it: the signals that std's uses too.
fn posix_spawn(name: &'static str, program: &Program, channels: Channels) -> Contender {
    let path = program.c_path();
    let env = floor::environment();
    let envp: Vec<*mut libc::c_char> =
        env.iter().map(|s| s.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect();
    // SAFETY: both are initialised before they are used.
    let attributes = unsafe {
        let mut attributes: libc::posix_spawnattr_t = std::mem::zeroed();
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::posix_spawnattr_init(&mut attributes);
        libc::sigemptyset(&mut set);
        libc::posix_spawnattr_setsigmask(&mut attributes, &set);
        libc::sigaddset(&mut set, libc::SIGPIPE);
        libc::posix_spawnattr_setsigdefault(&mut attributes, &set);
        let flags = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        libc::posix_spawnattr_setflags(&mut attributes, flags as libc::c_short);
        attributes
    };
    let copies = channels.copies();
    Contender::new(name, move || {
        let _alive = &env;
        let argv = [path.as_ptr().cast_mut(), ptr::null_mut()];
        let watch = Watch::start();
        let (mut theirs, mut ours) = ([-1; 8], [-1; 8]);
        let mut pid = 0;
        // SAFETY: the actions are initialised first and destroyed last; strings and
        // arrays end as they must, and live as long as this.
        unsafe {
            let mut actions: libc::posix_spawn_file_actions_t = std::mem::zeroed();
            libc::posix_spawn_file_actions_init(&mut actions);
            for (i, &fd) in channels.pipes().iter().enumerate() {
                let (reader, writer) = floor::pipe().unwrap();
                (theirs[i], ours[i]) = if fd == 0 { (reader, writer) } else { (writer, reader) };
                libc::posix_spawn_file_actions_adddup2(&mut actions, theirs[i], fd);
            }
            for &(from, to) in &copies {
                libc::posix_spawn_file_actions_adddup2(&mut actions, from, to);
            }
            let (argv, envp) = (argv.as_ptr(), envp.as_ptr());
            let failed =
                libc::posix_spawn(&mut pid, path.as_ptr(), &actions, &attributes, argv, envp);
            assert_eq!(failed, 0);
            libc::posix_spawn_file_actions_destroy(&mut actions);
        }
        let count = channels.pipes().len();
        theirs[..count].iter().for_each(|&fd| floor::close(fd));
        let spawned = watch.spawned();
        floor::wait(pid);
        ours[..count].iter().for_each(|&fd| floor::close(fd));
        spawned.done()
    })
}
