//! The parent's ways to a child, for faults in its own calls: what is asked for, and
//! by which call of the crate.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use forkplan::{
    Channel, Child, Command, Features, IdRange, Launcher, Namespaces, Prepared, SpawnError,
};
use tempfile::TempDir;

use crate::kinds::{ENDLESS, KINDS};
use crate::support::fault_commands::{GROUPS, ID};
use crate::support::{end, pause, place_at, with_fd};

/// Which call of the crate makes the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// `Command::spawn`.
    OneShot,
    /// The same with no stack left of another command's.
    WithoutStacks,
    /// `Prepared::spawn`.
    Prepared,
    /// `Launcher::spawn`, of fds with high numbers.
    Launcher,
    /// `Prepared::start` and `Starting::finish`.
    Finished,
    /// `Prepared::start` and a drop.
    Dropped,
    /// `Command::spawn` and `Child::wait`.
    Waited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// It waits to be killed.
    Pause,
    /// It ends at once.
    End,
    /// It is not there.
    Nowhere,
    /// It is open for writing when it is tried first.
    Busy,
}

#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) entry: Entry,
    pub(crate) program: Program,
    pub(crate) without: Features,
    /// What is asked for besides a program.
    asks: fn(&mut Command<'_>, &Path),
    /// Takes privileges.
    pub(crate) is_roots: bool,
}

/// A program, and its signals as they are by default: 64 questions, which the others
/// do without.
fn nothing(command: &mut Command<'_>, _: &Path) {
    command.fd(0, Channel::Null);
}

fn pipes(command: &mut Command<'_>, _: &Path) {
    command.inherit_ignored_signals(true);
}

/// A channel of every kind, each on two fds.
fn channels(command: &mut Command<'_>, dir: &Path) {
    command.inherit_ignored_signals(true);
    let kinds = KINDS.iter().map(|kind| kind.make).chain(ENDLESS.iter().map(|kind| kind.make));
    for (make, fd) in kinds.zip((0..).step_by(2)) {
        command.fds([fd, fd + 1], make(dir));
    }
}

/// Numbers that the process has open, and two files there.
pub(crate) const PASSED: [i32; 2] = [20, 21];

/// Two fds that change places beside others that stay open, which takes a number.
fn inherited(command: &mut Command<'_>, _: &Path) {
    let [a, b] = PASSED;
    command.fd(a, with_fd(b)).fd(b, with_fd(a)).inherit_unnamed_fds(true);
    command.inherit_ignored_signals(true);
}

fn ids(command: &mut Command<'_>, _: &Path) {
    command.uid(ID).gid(ID).groups(GROUPS).fd(1, Channel::ReadPipe);
    command.inherit_ignored_signals(true);
}

/// A child that waits for the parent.
fn mapped(command: &mut Command<'_>, _: &Path) {
    let map = [IdRange { inside: 0, outside: 0, count: 1 }];
    command.fd(1, Channel::ReadPipe).unshare(Namespaces::USER).uid_map(map).gid_map(map);
    command.inherit_ignored_signals(true);
}

const FAST: Features = Features::empty();
const COPIED: Features = Features::SHARED_MEMORY;
/// But for the list of fds: without it a child makes a call for each number.
const OLD: Features = Features::all().difference(Features::PROC_FD);

pub(crate) const SCENARIOS: [Scenario; 24] = {
    use Entry::{Dropped, Finished, Launcher, OneShot, Prepared, Waited, WithoutStacks};
    use Program::{Busy, End, Nowhere, Pause};
    const fn by(
        name: &'static str,
        entry: Entry,
        program: Program,
        without: Features,
        asks: fn(&mut Command<'_>, &Path),
    ) -> Scenario {
        Scenario { name, entry, program, without, asks, is_roots: false }
    }
    [
        by("nothing", OneShot, Pause, FAST, nothing),
        by("three pipes", OneShot, Pause, FAST, pipes),
        by("three pipes, no stack kept", WithoutStacks, Pause, FAST, pipes),
        by("all channels", Prepared, Pause, FAST, channels),
        by("all channels, copied", Prepared, Pause, COPIED, channels),
        by("all channels, nothing modern", Prepared, Pause, OLD, channels),
        by("unnamed fds inherited", OneShot, Pause, FAST, inherited),
        by("by a launcher", Launcher, Pause, FAST, pipes),
        by("started", Finished, Pause, FAST, pipes),
        by("started, copied", Finished, Pause, COPIED, pipes),
        by("started, all channels", Finished, Pause, FAST, channels),
        by("started and dropped", Dropped, Pause, FAST, pipes),
        by("started and dropped, copied", Dropped, Pause, COPIED, pipes),
        by("to its end", Waited, End, FAST, pipes),
        by("to its end, nothing modern", Waited, End, OLD, pipes),
        by("missing", OneShot, Nowhere, FAST, pipes),
        by("missing, all channels", Prepared, Nowhere, FAST, channels),
        by("missing, copied", OneShot, Nowhere, COPIED, pipes),
        by("missing, nothing modern", OneShot, Nowhere, OLD, pipes),
        by("missing, started", Finished, Nowhere, FAST, pipes),
        by("busy", OneShot, Busy, FAST, pipes),
        by("busy, started, copied", Finished, Busy, COPIED, pipes),
        Scenario { is_roots: true, ..by("another user", OneShot, Pause, FAST, ids) },
        Scenario { is_roots: true, ..by("id maps", Prepared, Pause, FAST, mapped) },
    ]
};

/// What a spawn came to.
#[derive(Debug)]
pub(crate) enum Came {
    Child(Child),
    Ended(Child, std::io::Result<forkplan::Exit>),
    Error(SpawnError),
    Dropped,
}

/// What a process for a scenario has open, mapped and set. It is to be alive as long.
pub(crate) struct Place {
    /// A program that nobody else has open.
    pub(crate) copy: PathBuf,
    _dir: TempDir,
    _low: Vec<File>,
}

impl Place {
    /// For this process, which has no other use.
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("copy");
        fs::copy(pause(), &copy).unwrap();
        for at in PASSED {
            place_at(File::open("/etc/passwd").unwrap(), at);
        }
        // Something that a child must not ignore.
        // SAFETY: nobody has a handler here.
        assert_ne!(unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) }, libc::SIG_ERR);
        // Memory for all threads comes from where a growth is nobody's mapping.
        #[cfg(target_env = "gnu")]
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) }, 1);
        let launcher = Launcher::new(SLOTS).unwrap();
        let free = || File::open("/dev/null").unwrap();
        let low = match scenario.entry {
            Entry::Launcher => (0..260).map(|_| free()).collect(),
            _ => Vec::new(),
        };
        drop(launcher);
        // As many stacks as are kept.
        drop(stacks());
        Self { copy, _dir: dir, _low: low }
    }
}

const SLOTS: usize = 6;

/// All that the crate keeps for whoever comes next.
fn stacks() -> Vec<Prepared<'static>> {
    let mut command = Command::new("/");
    command.fd(0, Channel::WritePipe).inherit_ignored_signals(true);
    (0..16).map(|_| command.prepare().unwrap()).collect()
}

/// A spawn about to happen. Nothing of it is anybody else's.
pub(crate) struct Ready {
    entry: Entry,
    command: Command<'static>,
    prepared: Option<Prepared<'static>>,
    launcher: Option<Launcher>,
    _stacks: Vec<Prepared<'static>>,
    /// A program that is open for writing.
    pub(crate) busy: Option<File>,
    pub(crate) dir: TempDir,
}

impl Ready {
    pub(crate) fn new(scenario: &Scenario, copy: &Path) -> Self {
        let program = match scenario.program {
            Program::Pause => pause().into(),
            Program::End => end().into(),
            Program::Nowhere => "/nowhere/program".into(),
            Program::Busy => copy.to_path_buf(),
        };
        // The lowest numbers are its.
        let launcher = (scenario.entry == Entry::Launcher).then(|| Launcher::new(SLOTS).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(&program);
        (scenario.asks)(&mut command, dir.path());
        command.without(scenario.without);
        let is_prepared = matches!(
            scenario.entry,
            Entry::Prepared | Entry::Launcher | Entry::Finished | Entry::Dropped
        );
        let prepared = is_prepared.then(|| command.prepare().unwrap());
        let busy = (scenario.program == Program::Busy)
            .then(|| OpenOptions::new().append(true).open(&program).unwrap());
        let _stacks = match scenario.entry {
            Entry::WithoutStacks => stacks(),
            _ => Vec::new(),
        };
        Self { entry: scenario.entry, command, prepared, launcher, _stacks, busy, dir }
    }

    pub(crate) fn spawn(&mut self) -> Came {
        let came = match (self.entry, &mut self.prepared, &self.launcher) {
            (Entry::Dropped, prepared, _) => {
                drop(prepared.take().unwrap().start());
                return Came::Dropped;
            }
            (Entry::Finished, prepared, _) => {
                let (again, child) = prepared.take().unwrap().start().finish();
                *prepared = Some(again);
                child
            }
            (_, Some(prepared), Some(launcher)) => launcher.spawn(prepared),
            (_, Some(prepared), None) => prepared.spawn(),
            (_, None, _) => self.command.spawn(),
        };
        match (came, self.entry) {
            (Ok(mut child), Entry::Waited) => {
                let exit = child.wait();
                Came::Ended(child, exit)
            }
            (Ok(child), _) => Came::Child(child),
            (Err(error), _) => Came::Error(error),
        }
    }

    /// What lies in its directory.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
