//! The ways to a child that fails: by which call of the crate it is made, and by
//! what of the kernel.

use core::fmt;

use forkplan::{Command, Features, Launcher, Plan, Prepared, SpawnError};

use super::EXCLUSIONS;
use super::faults::Target;
use super::seccomp::{Rule, under_made_there};
use super::state::State;

/// Which of the crate's calls makes the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// `Prepared::open` and `Opened::spawn`: the plan does not change.
    Opened,
    /// `Prepared::spawn`: the plan may change.
    Prepared,
    /// `Command::spawn`.
    OneShot,
    /// `Launcher::open` and `Opened::spawn`.
    Launcher,
    /// `Launcher::spawn_once`.
    OneShotOfLauncher,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) entry: Entry,
    pub(crate) without: Features,
}

/// Each fallback, and all of them at once; then the other calls of the crate's.
pub(crate) const WAYS: [Way; 13] = {
    const fn by(entry: Entry, without: Features) -> Way {
        Way { entry, without }
    }
    let mut ways = [by(Entry::Opened, Features::empty()); 13];
    let mut at = 0;
    while at < EXCLUSIONS.len() {
        ways[at].without = EXCLUSIONS[at];
        at += 1;
    }
    ways[8] = by(Entry::Prepared, Features::empty());
    ways[9] = by(Entry::Prepared, Features::SHARED_MEMORY);
    ways[10] = by(Entry::OneShot, Features::empty());
    ways[11] = by(Entry::Launcher, Features::empty());
    ways[12] = by(Entry::OneShotOfLauncher, Features::empty());
    ways
};

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} without {:?}", self.entry, self.without)
    }
}

impl Way {
    /// Whether the plan is another one where the kernel refuses a feature.
    pub(crate) fn may_do_without(self) -> bool {
        !matches!(self.entry, Entry::Opened | Entry::Launcher)
    }

    fn is_one_shot(self) -> bool {
        matches!(self.entry, Entry::OneShot | Entry::OneShotOfLauncher)
    }
}

/// What a spawn came to, and what its thread was in the end.
pub(crate) type Spawned = (Result<(), SpawnError>, State);
/// A spawn and the wait for its child.
pub(crate) type Body<'a> = Box<dyn FnOnce() -> Spawned + Send + 'a>;

/// A command on one of the ways.
pub(crate) struct Bench<'a, 'fd> {
    pub(crate) way: Way,
    command: &'a Command<'fd>,
    prepared: Option<Prepared<'fd>>,
    launcher: &'a Launcher,
}

impl<'a, 'fd> Bench<'a, 'fd> {
    /// `command` is to be without the way's features.
    pub(crate) fn new(command: &'a Command<'fd>, way: Way, launcher: &'a Launcher) -> Self {
        Self { way, command, prepared: None, launcher }
    }

    /// Looks at the plan of the next spawn.
    pub(crate) fn look<T>(&mut self, at: impl FnOnce(&Plan<'_>) -> T) -> T {
        let (way, command) = (self.way, self.command);
        if way.may_do_without() {
            // What an earlier spawn has done without is back.
            self.prepared = None;
        }
        let prepared = self.prepared.get_or_insert_with(|| command.prepare().unwrap());
        let opened = match way.entry {
            Entry::Launcher | Entry::OneShotOfLauncher => self.launcher.open(prepared).unwrap(),
            _ => prepared.open().unwrap(),
        };
        let result = at(&opened.plan());
        drop(opened);
        if way.is_one_shot() {
            // Its fds would be in the way of those of the spawn.
            self.prepared = None;
        }
        result
    }

    /// The steps of the next spawn, with the paths that a rule can rely on.
    pub(crate) fn targets(&mut self) -> Vec<Target> {
        let one_shot = self.way.is_one_shot();
        let mut targets = self.look(Target::all);
        if one_shot {
            targets.iter_mut().for_each(|target| target.path = None);
        }
        targets
    }

    /// Spawns in a thread under these rules, which it makes itself, after [`look`](Self::look) or
    /// [`targets`](Self::targets), and waits for a child that started. What the
    /// thread was in the end.
    pub(crate) fn spawn_under(&mut self, rules: impl FnOnce() -> Vec<Rule> + Send) -> Spawned {
        self.spawn_in(|body| under_made_there(rules, body))
    }

    /// As above, in a thread that `run` makes.
    pub(crate) fn spawn_in(&mut self, run: impl FnOnce(Body<'_>) -> Spawned) -> Spawned {
        let (entry, launcher, command) = (self.way.entry, self.launcher, self.command);
        let prepared = self.prepared.as_mut();
        let opened = match (entry, prepared) {
            (Entry::Opened, Some(prepared)) => Ok(prepared.open().unwrap()),
            (Entry::Launcher, Some(prepared)) => Ok(launcher.open(prepared).unwrap()),
            (_, prepared) => Err(prepared),
        };
        run(Box::new(move || {
            let child = match (opened, entry) {
                (Ok(opened), _) => opened.spawn(),
                (Err(Some(prepared)), _) => prepared.spawn(),
                (Err(None), Entry::OneShotOfLauncher) => launcher.spawn_once(command),
                (Err(None), _) => command.spawn(),
            };
            let ended = child.map(|mut child| assert!(child.wait().unwrap().success()));
            (ended, State::of_thread())
        }))
    }
}
