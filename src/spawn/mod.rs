//! From a prepared command to a running child, or to an error and nothing left.
//!
//! * [`prepare`]: all that spawns share, worked out once.
//! * [`check`]: what can't be set up.
//! * [`setup`]: what is to be set up, as steps; [`child_files`]: files that the child opens.
//! * [`opener`]: how each channel's ends come about; [`fifo`]: those of a named pipe;
//!   [`terminals`]: which channels are PTYs.
//! * [`open`]: the channels of one spawn, and the plan that they make whole.
//! * [`launcher`]: low numbers for fds with high ones.
//! * [`launch`]: the clone, and what the child reported.
//! * [`start`]: a child that nobody waits for until it is known how it went;
//!   [`under_way`]: what is kept of it until then.
//! * [`error`], [`subject`]: what is said of a spawn that failed.

extern crate std;

use core::iter;
use std::boxed::Box;
use std::os::fd::OwnedFd;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use crate::channel::{ChannelInfo, PassedFd};
use crate::child::{Child, OnDrop};
use crate::command::{Command, Namespaces, PlanError};
use crate::plan::{Cell, Label, Mapping, Names, Step, Strings};
use crate::sys::hook::Hook;
use crate::sys::memory::Region;
use crate::sys::{Features, numbers, signals};

mod check;
mod child_files;
mod cpus;
mod environment;
mod error;
mod fifo;
mod id_maps;
mod launch;
mod launcher;
mod open;
mod opener;
mod prepare;
mod setup;
mod start;
mod strings;
mod subject;
mod terminals;
mod under_way;

pub use self::error::SpawnError;
pub use self::launcher::Launcher;
pub use self::open::Opened;
use self::opener::{Made, Opener};
pub use self::start::Starting;
pub use self::subject::Subject;

/// A command with everything worked out: spawns again and again, without
/// allocation in parent or child.
///
/// It owns the stack that its children run on until exec, so a spawn takes it
/// mutably and a [start](Self::start) by value; a [clone](Self::try_clone), with a
/// stack of its own, serves another thread.
///
/// "Without allocation" holds for commands with up to 16 channels of which the
/// parent has an end; each spawn of a command with more makes one allocation
/// for them in the parent.
///
/// ```
/// use forkplan::{Channel, Command};
///
/// let mut prepared = Command::new("true").fd(0, Channel::Null).prepare()?;
/// for _ in 0..3 {
///     assert!(prepared.spawn()?.wait()?.success());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Prepared<'fd> {
    strings: strings::Frozen,
    openers: Vec<Opener<'fd>>,
    /// The openers' channels with a parent's end, in the same order.
    infos: Arc<[ChannelInfo]>,
    entries: Box<[Entry]>,
    labels: Box<[Label]>,
    clone: CloneExtras<'fd>,
    setup: setup::Steps<'fd>,
    terminals: terminals::Terminals,
    /// Signals, mask and exec.
    finish: Vec<Step>,
    limit: i32,
    features: Features,
    require: Features,
    inherit_unnamed_fds: bool,
    /// A child that nobody waits for gets a copy of the memory.
    starts_by_fork: bool,
    on_drop: OnDrop,
    scratch: Scratch,
}

/// What the parent does for a child besides the clone.
#[derive(Clone, Debug)]
struct CloneExtras<'fd> {
    namespaces: Namespaces,
    cgroup: Option<PassedFd<'fd>>,
    /// What exec runs in place of a path.
    program: Option<PassedFd<'fd>>,
    /// The lines of `/proc/PID/uid_map`.
    uid_map: String,
    gid_map: String,
    hook: Option<Hook>,
}

impl CloneExtras<'_> {
    fn has_id_maps(&self) -> bool {
        !(self.uid_map.is_empty() && self.gid_map.is_empty())
    }
}

/// What one spawn uses, kept for the next.
#[derive(Debug)]
struct Scratch {
    region: Region,
    /// What the openers have made, one for each: the child's ends, which the
    /// parent closes after the fork.
    made: Vec<Made>,
    map: Vec<Mapping>,
    cells: Vec<Cell>,
    /// Steps before the fd map, with the numbers of this spawn in them.
    before: Vec<Step>,
    /// Fds that steps need before the fd map, and after it.
    early: Vec<i32>,
    keep: Vec<i32>,
    /// What was opened for this spawn, which is CLOEXEC, sorted.
    marked: Vec<i32>,
    /// Where a launcher has put copies (`target`) of fds with high numbers
    /// (`source`), sorted by these.
    lent: Vec<Mapping>,
    steps: Vec<Step>,
    /// Numbers that copies may take, where unnamed fds are inherited.
    spares: Vec<OwnedFd>,
    spare_numbers: Vec<i32>,
}

impl Scratch {
    fn new(region: Region, entries: usize, openers: usize, steps: usize) -> Self {
        Self {
            region,
            made: Vec::with_capacity(openers),
            map: Vec::with_capacity(entries),
            // Never fewer than kept fds, so that a free number is found.
            cells: iter::repeat_n(Cell::NEW, entries.max(KEPT_MAX)).collect(),
            before: Vec::with_capacity(steps),
            early: Vec::with_capacity(steps),
            keep: Vec::with_capacity(KEPT_MAX),
            // A socket pair may have two ends on each side.
            marked: Vec::with_capacity(openers * 4 + steps + 1),
            lent: Vec::with_capacity(openers + steps + KEPT_MAX),
            steps: Vec::with_capacity(steps),
            spares: Vec::new(),
            spare_numbers: Vec::new(),
        }
    }
}

/// A stack for the children of one owner.
fn new_region() -> Result<Region, PlanError> {
    Region::get().map_err(|(call, errno)| PlanError::System { call, errno: errno.raw_os_error() })
}

/// The most steps that a plan can have. Each entry takes at most one step and a
/// cycle of two or more one more; there are the kept fds, two steps of closing, two
/// for id maps, and one for handlers if the kernel refuses to clear them.
fn steps_max(fixed: usize, entries: usize) -> usize {
    fixed + entries * 2 + KEPT_MAX + 5
}

/// The notice, a ruleset, a program.
const KEPT_MAX: usize = 3;

/// One entry of the fd map: child fd, and the opener that gives its source.
#[derive(Clone, Copy, Debug)]
struct Entry {
    fd: i32,
    channel: usize,
}

/// What this platform calls the numbers in steps.
const NAMES: Names =
    Names { signals: signals::NAMES, limits: numbers::LIMITS, namespaces: numbers::NAMESPACES };

impl Prepared<'_> {
    /// What steps name.
    fn texts(&self) -> Strings<'_> {
        Strings { text: self.strings.text(), names: NAMES }
    }
}

impl Command<'_> {
    /// Prepares and spawns once.
    ///
    /// Blocks until the program is reached or has failed to be. See
    /// [`Prepared::spawn`].
    pub fn spawn(&self) -> Result<Child, SpawnError> {
        self.prepare()?.spawn()
    }
}

impl<'fd> Prepared<'fd> {
    /// A copy with a stack of its own, for another thread. Owned fds are shared,
    /// not duplicated. Allocates, and maps the stack: the one thing that the
    /// system can refuse.
    pub fn try_clone(&self) -> Result<Self, PlanError> {
        let fixed = self.setup.before.len() + self.setup.after.len() + self.finish.len();
        let steps = steps_max(fixed, self.entries.len());
        Ok(Self {
            strings: self.strings.clone(),
            openers: self.openers.clone(),
            infos: self.infos.clone(),
            entries: self.entries.clone(),
            labels: self.labels.clone(),
            clone: self.clone.clone(),
            setup: self.setup.clone(),
            terminals: self.terminals.clone(),
            finish: self.finish.clone(),
            limit: self.limit,
            features: self.features,
            require: self.require,
            inherit_unnamed_fds: self.inherit_unnamed_fds,
            starts_by_fork: self.starts_by_fork,
            on_drop: self.on_drop,
            scratch: Scratch::new(new_region()?, self.entries.len(), self.openers.len(), steps),
        })
    }

    /// Opens the channels and makes a child of them: [`open`](Self::open) and
    /// [`Opened::spawn`].
    ///
    /// Returns when the program is reached, or with the step that failed. The
    /// calling thread is stopped meanwhile: by a program on a slow file system
    /// for as long as that takes. No lock is held.
    ///
    /// A feature that the kernel had when it was asked and refuses now (a
    /// seccomp filter of this thread's) is done without, from here on.
    ///
    /// A program that somebody has open for writing (`ETXTBSY`) is tried again
    /// for an eighth of a second: if this process has just written it, a child
    /// that another thread forked meanwhile holds it open until its exec.
    pub fn spawn(&mut self) -> Result<Child, SpawnError> {
        self.open()?.persist(true)
    }
}
