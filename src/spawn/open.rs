//! One spawn's channels, opened, and the plan with their numbers in it.

extern crate std;

use std::format;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::string::ToString;
use std::thread;

use super::launcher::{Launcher, Lent};
use super::opener::failed;
use super::terminals::CONTROLLING;
use super::{Opener, Prepared, Scratch, SpawnError, Subject};
use crate::channel::PassedFd;
use crate::child::{Child, Ends};
use crate::limits::{BUSY_SLEEP_MAX, BUSY_SLEEP_MIN, SHARED_FD_MAX};
use crate::plan::{Closing, Mapping, Parts, Plan, Problem, Step, Unsolvable, lay_out, number_of};
use crate::sys::memory::SharedWord;
use crate::sys::{Errno, Features, fd, process};

/// A spawn about to happen: its channels are open, its plan is complete.
///
/// Dropped, it closes what was opened and gives back what was given.
///
/// ```
/// use forkplan::Command;
///
/// let mut prepared = Command::new("true").prepare()?;
/// let opened = prepared.open()?;
/// println!("{}", opened.plan());
/// assert!(opened.spawn()?.wait()?.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is spawned yet"]
pub struct Opened<'p, 'fd> {
    pub(super) prepared: &'p mut Prepared<'fd>,
    pub(super) ends: Ends,
    /// The caller runs on while the child does.
    pub(super) runs_on: bool,
    /// Where nobody is stopped: a pipe whose write end exec closes.
    pub(super) notice: Option<(OwnedFd, OwnedFd)>,
    /// On the fork path: where the child reports.
    pub(super) shared_word: Option<SharedWord>,
    /// For a child that waits for its id maps.
    pub(super) id_maps: Option<(OwnedFd, OwnedFd)>,
    /// Numbers that a launcher has lent.
    pub(super) lent: Option<Lent<'p>>,
}

impl<'fd> Prepared<'fd> {
    /// Opens the channels of one spawn and completes the plan.
    pub fn open(&mut self) -> Result<Opened<'_, 'fd>, SpawnError> {
        self.open_by(None, false)
    }

    pub(super) fn open_by<'p>(
        &'p mut self,
        launcher: Option<&'p Launcher>,
        runs_on: bool,
    ) -> Result<Opened<'p, 'fd>, SpawnError> {
        self.scratch.lent.clear();
        let ends = Ends::new(self.infos.clone());
        // From here on dropping it closes whatever was opened.
        let (notice, shared_word, id_maps, lent) = (None, None, None, None);
        let mut opened =
            Opened { prepared: self, ends, runs_on, notice, shared_word, id_maps, lent };
        opened.check_sources()?;
        opened.open_channels()?;
        if let Some(launcher) = launcher {
            opened.lend(launcher);
        }
        opened.complete_plan()?;
        Ok(opened)
    }

    /// How the child rids itself of what nobody named.
    fn closing(&self, features: Features) -> Closing {
        if self.inherit_unnamed_fds {
            Closing::Keep
        } else if features.contains(Features::SHARED_FILES)
            && self.needed().all(|fd| fd < SHARED_FD_MAX)
        {
            Closing::Unshare
        } else if features.contains(Features::CLOSE_RANGE) {
            Closing::Range
        } else if features.contains(Features::PROC_FD) {
            Closing::Listed
        } else {
            Closing::Each { below: fd::highest() }
        }
    }
}

impl Prepared<'_> {
    /// What the child of the last spawn that was opened does.
    pub(super) fn plan(&self) -> Plan<'_> {
        Plan {
            steps: &self.scratch.steps,
            strings: self.texts(),
            labels: &self.labels,
            program: self.strings.program(),
            namespaces: self.clone.namespaces.bits(),
            lent: &self.scratch.lent,
        }
    }

    /// The parent's fds that the child needs.
    fn needed(&self) -> impl Iterator<Item = i32> {
        let Scratch { map, early, keep, .. } = &self.scratch;
        map.iter().map(|m| m.source).chain(early.iter().chain(keep).copied())
    }
}

impl Opened<'_, '_> {
    /// What the child will do.
    pub fn plan(&self) -> Plan<'_> {
        self.prepared.plan()
    }

    /// What this spawn may use.
    pub(super) fn features(&self) -> Features {
        match self.runs_on {
            true => self.prepared.features_to_start(),
            false => self.prepared.features,
        }
    }

    /// Makes the child, which carries out the plan.
    ///
    /// Returns when the program is reached, or with the step that failed, as
    /// [`Prepared::spawn`] does, and waits as it does for a program that is open
    /// for writing; but where the kernel refuses a feature, that is the error,
    /// since the plan is not to be changed.
    pub fn spawn(mut self) -> Result<Child, SpawnError> {
        self.persist(false)
    }

    /// Launches, again after a while where the program is open for writing, and
    /// again without what the kernel refuses if the plan may change for it.
    pub(super) fn persist(&mut self, may_do_without: bool) -> Result<Child, SpawnError> {
        let mut busy = BUSY_SLEEP_MIN;
        loop {
            match self.launch() {
                Err(error) if may_do_without && self.prepared.does_without(&error) => {}
                Err(error) if error.is_busy() && busy <= BUSY_SLEEP_MAX => {
                    thread::sleep(busy);
                    busy *= 2;
                }
                Ok(child) => {
                    self.settle();
                    return Ok(child);
                }
                Err(error) => return Err(error),
            }
            self.complete_plan()?;
        }
    }

    /// The child has its program: what it alone shall have is closed here.
    pub(super) fn settle(&mut self) {
        let Prepared { openers, scratch, .. } = &mut *self.prepared;
        for (opener, made) in openers.iter().zip(scratch.made.drain(..)) {
            opener.settle(made);
        }
    }

    /// All fds that are passed on are open. Asked before anything is made: an
    /// end of ours, the notice or the pidfd would take the number of one that is
    /// closed, and the child would get that in its place. The error is in the
    /// words of the step that can't be taken.
    fn check_sources(&self) -> Result<(), SpawnError> {
        for entry in &self.prepared.entries {
            let Opener::Passthrough(source) = &self.prepared.openers[entry.channel] else {
                continue;
            };
            fd::check_open(source.as_fd()).map_err(|errno| {
                let step = match source.number() {
                    from if from == entry.fd => Step::ClearCloexec { fd: from },
                    from => Step::Dup2 { from, to: entry.fd },
                };
                let subject = match step {
                    Step::Dup2 { from, to } => Subject::Move { from, to },
                    _ => Subject::Fd(source.number()),
                };
                SpawnError::in_parent(step.to_string(), subject, errno)
            })?;
        }
        let Prepared { setup, clone, .. } = &*self.prepared;
        let others = setup.early.iter().chain(&setup.landlock).chain(&clone.program);
        for other in others.chain(&clone.cgroup) {
            fd::check_open(other.as_fd()).map_err(|errno| {
                let fd = other.number();
                SpawnError::in_parent(format!("fd {fd}"), Subject::Fd(fd), errno)
            })?;
        }
        Ok(())
    }

    fn open_channels(&mut self) -> Result<(), SpawnError> {
        let Prepared { openers, entries, infos, scratch, .. } = &mut *self.prepared;
        scratch.marked.clear();
        let mut infos = infos.iter();
        for (opener, channel) in openers.iter().zip(0..) {
            let entry = || entries.iter().find(|entry| entry.channel == channel);
            let target = || entry().map_or(-1, |entry| entry.fd);
            let mut made = opener.open(infos.as_slice().first(), target)?;
            if opener.makes_its_ends() {
                let ends = made.ours.iter().chain(&made.theirs);
                scratch.marked.extend(ends.map(AsRawFd::as_raw_fd));
            }
            if let Some(end) = made.ours.take() {
                self.ends.push(end);
                infos.next();
            }
            scratch.made.push(made);
        }
        scratch.marked.sort_unstable();
        Ok(())
    }

    /// Solves the map with the numbers that the ends have got, and makes what
    /// the fork path needs. Again, where a feature is done without.
    pub(super) fn complete_plan(&mut self) -> Result<(), SpawnError> {
        let shared = self.features().contains(Features::SHARED_MEMORY);
        if self.runs_on || !shared {
            self.notice = Some(fd::pipe().map_err(failed("pipe2"))?);
        }
        if !shared {
            self.shared_word = Some(SharedWord::map().map_err(failed("mmap"))?);
        }
        let Prepared { openers, entries, scratch, .. } = &mut *self.prepared;
        scratch.map.clear();
        for entry in entries.iter() {
            let opened = scratch.made[entry.channel].theirs.as_ref().map(OwnedFd::as_raw_fd);
            let source = opened.or_else(|| openers[entry.channel].number());
            let source = source.ok_or_else(|| failed("open")(Errno::BADF))?;
            scratch.map.push(Mapping { target: entry.fd, source });
        }
        if self.prepared.clone.has_id_maps() {
            self.id_maps = Some(fd::pipe().map_err(failed("pipe2"))?);
        }
        self.note_needed();
        self.use_lent();
        loop {
            match self.solve() {
                Ok(()) => break,
                Err(Unsolvable::NeedsSpare) => self.reserve_spare()?,
                Err(Unsolvable::NoNumber) => {
                    return Err(failed("dup3 of an fd put aside")(Errno::MFILE));
                }
            }
        }
        Ok(())
    }

    /// Notes the fds that steps need besides the map, and the steps that have
    /// numbers of this spawn in them.
    fn note_needed(&mut self) {
        let Prepared { clone, setup, terminals, scratch, .. } = &mut *self.prepared;
        let Scratch { made, before, early, keep, .. } = scratch;
        early.clear();
        early.extend(setup.early.iter().map(PassedFd::number));
        before.clear();
        if let Some((reader, writer)) = &self.id_maps {
            let (reader, writer) = (reader.as_raw_fd(), writer.as_raw_fd());
            early.extend([reader, writer]);
            before.extend([Step::Close { fd: writer }, Step::AwaitParent { fd: reader }]);
        }
        before.extend_from_slice(&setup.before);
        let slave = terminals.controlling.and_then(|index| made[index].theirs.as_ref());
        if let Some(slave) = slave.map(OwnedFd::as_raw_fd) {
            early.push(slave);
            for step in before.iter_mut().filter(|step| **step == CONTROLLING) {
                *step = Step::ControllingTerminal { fd: slave };
            }
        }
        keep.clear();
        keep.extend(self.notice.as_ref().map(|(_, writer)| writer.as_raw_fd()));
        keep.extend(setup.landlock.iter().chain(&clone.program).map(PassedFd::number));
    }

    fn solve(&mut self) -> Result<(), Unsolvable> {
        let closing = self.prepared.closing(self.features());
        let Prepared { setup, finish, limit, scratch, .. } = &mut *self.prepared;
        let Scratch { map, cells, before, early, keep, marked, lent, steps, .. } = scratch;
        let spare = &scratch.spare_numbers;
        let problem = Problem { map, keep, early, marked, spare, limit: *limit, closing };
        let parts = Parts { before, after: &setup.after, finish };
        steps.clear();
        lay_out(&problem, cells, parts, |step| steps.push(step))?;
        // What is needed after the map is where that has put it.
        for at in 0..steps.len() {
            let place = |fd| {
                let fd = number_of(lent, fd);
                problem.place(fd, steps.iter().copied()).unwrap_or(fd)
            };
            steps[at] = match steps[at] {
                Step::Landlock { fd } => Step::Landlock { fd: place(fd) },
                Step::ExecFd { fd } => Step::ExecFd { fd: place(fd) },
                // The process that spawns, which may be a fork of the one that
                // has prepared.
                Step::CheckParent { .. } => Step::CheckParent { pid: process::own_pid() },
                step => step,
            };
        }
        Ok(())
    }

    /// Takes one more number that is no child fd, for a copy put aside.
    fn reserve_spare(&mut self) -> Result<(), SpawnError> {
        let Prepared { entries, scratch, .. } = &mut *self.prepared;
        let mut lowest = 0;
        let spare = loop {
            let spare = fd::reserve(lowest).map_err(|(call, errno)| failed(call)(errno))?;
            let number = spare.as_raw_fd();
            if entries.binary_search_by_key(&number, |entry| entry.fd).is_err() {
                break spare;
            }
            lowest = number + 1;
        };
        scratch.spare_numbers.push(spare.as_raw_fd());
        scratch.spares.push(spare);
        Ok(())
    }
}

impl Drop for Opened<'_, '_> {
    fn drop(&mut self) {
        self.give_terminals_back();
        let Prepared { openers, scratch, .. } = &mut *self.prepared;
        let Scratch { made, spares, spare_numbers, .. } = scratch;
        for (opener, made) in openers.iter().zip(made.drain(..)) {
            opener.take_back(made);
        }
        spares.clear();
        spare_numbers.clear();
    }
}
