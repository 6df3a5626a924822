//! The clone, and what the child reported.

extern crate std;

use core::sync::atomic::AtomicU64;
use std::format;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::string::{String, ToString};
use std::thread;

use super::error::Cause;
use super::opener::failed;
use super::{CloneExtras, NAMES, Opened, Prepared, SpawnError, Subject, id_maps, subject};
use crate::channel::PassedFd;
use crate::child::Child;
use crate::command::Namespaces;
use crate::limits::{LOOKS_AT_ONCE_MAX, NOTICE_TICK, REPORT_TICK};
use crate::plan::Step;
use crate::postfork::{self, Job, Progress, Report};
use crate::signal::Signal;
use crate::sys::clone::{self, Cloned, How, clone};
use crate::sys::memory::{JOB_ROOM, SharedWord};
use crate::sys::poll::{Interest, PollFd, poll};
use crate::sys::signals::{Blocked, SIGKILL};
use crate::sys::{Errno, Features, process};

/// What a child's end sends us before its exec, which makes it `SIGCHLD`.
///
/// Until then nobody who waits for all children gets it, nor does the kernel
/// reap it where `SIGCHLD` is ignored; so a child that is killed on its way stays
/// for us to see.
const NO_SIGNAL: i32 = 0;

/// A child that was made, and of which it is not known whether it has reached its
/// program.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) cloned: Cloned,
    /// It runs in our memory, and so do we.
    pub(super) is_among_us: bool,
    /// The reading end of a pipe that its exec or its end closes.
    pub(super) notice: Option<OwnedFd>,
    /// How the writing of its id maps went, for which it waited.
    maps: Option<Result<(), SpawnError>>,
}

// It lies where the child finds it, and nobody drops it.
static_assertions::const_assert!(size_of::<Job<'static>>() <= JOB_ROOM);
static_assertions::const_assert!(align_of::<Job<'static>>() <= 64);
static_assertions::const_assert!(!core::mem::needs_drop::<Job<'static>>());

impl Opened<'_, '_> {
    /// Makes the child. Our ends are its handle's if it comes to its program,
    /// and stay here if not.
    pub(super) fn launch(&mut self) -> Result<Child, SpawnError> {
        let begun = self.begin()?;
        if let Some(reader) = &begun.notice {
            wait_for_notice(reader, &begun.cloned, self.report(), &self.prepared.scratch.steps);
        }
        self.conclude(begun)
    }

    /// Makes the child, without waiting for its exec: unless the clone itself
    /// does.
    ///
    /// One that [is among us](Begun::is_among_us) reads what it is to do, and the
    /// plan and strings, from our memory, and runs on its region's stack, until it
    /// has reached exec or ended. Until the kernel has shown that, whoever called
    /// this leaves all of `prepared` but its channels as it is.
    pub(super) fn begin(&mut self) -> Result<Begun, SpawnError> {
        let report = Report::begin(self.word());
        let features = self.features_of_clone();
        let prepared = &*self.prepared;
        let region = &prepared.scratch.region;
        let job = Job {
            steps: &prepared.scratch.steps,
            text: prepared.strings.text(),
            argv: prepared.strings.argv(),
            envp: prepared.strings.envp(),
            shell_argv: prepared.strings.shell_argv(),
            pids: prepared.strings.pid_places(),
            hook: prepared.clone.hook,
            report,
        };
        let argument = region.job();
        // SAFETY: the room is large enough and aligned, as asserted above, and no
        // child reads there now, for one that did would hold `self.prepared`.
        unsafe { argument.cast::<Job<'_>>().write(job) };
        let namespaces = prepared.clone.namespaces;
        let cgroup = prepared.clone.cgroup.as_ref().map(PassedFd::number);
        let stops_caller = !self.runs_on;
        let blocked = Blocked::all().map_err(failed("rt_sigprocmask"))?;
        let cloned = with_exit_signal(features, |exit_signal| {
            let namespaces = namespaces.bits();
            let how = How { features, exit_signal, namespaces, cgroup, stops_caller };
            // SAFETY: signals are blocked. Where memory is shared the job and all
            // that it names stay as they are for the child's walk, since the call
            // returns after it, or by the promise of our caller; else the child
            // has a copy. Its strings are NUL-terminated and its arrays
            // NULL-terminated, made so by `Frozen`, into whose text all steps
            // point. The stack is that of `self.prepared`, which we hold
            // mutably, and the walk uses less of it than there is.
            unsafe { clone(how, region, postfork::enter, argument) }
        });
        drop(blocked);
        let cloned = cloned.map_err(|errno| {
            let subject = Subject::Clone { namespaces, cgroup };
            let call = clone::name(features);
            SpawnError::in_parent(clone_in_words(call, namespaces, cgroup), subject, errno)
        })?;
        let maps = self.id_maps.take().map(|pipe| map_ids(pipe, &prepared.clone, &cloned));
        let is_among_us = self.runs_on && features.contains(Features::SHARED_MEMORY);
        // Our copy of the writing end is closed here.
        let notice = self.notice.take().map(|(reader, _writer)| reader);
        Ok(Begun { cloned, is_among_us, notice, maps })
    }

    /// What became of a child that has left our memory, if it was there.
    pub(super) fn conclude(&mut self, begun: Begun) -> Result<Child, SpawnError> {
        let Begun { cloned, maps, .. } = begun;
        let prepared = &*self.prepared;
        let Some((index, why)) = failure(&cloned, self.report(), &prepared.scratch.steps) else {
            let on_drop = prepared.on_drop;
            let ends = core::mem::take(&mut self.ends);
            return Ok(Child::new(cloned.pid, cloned.pidfd, ends, on_drop));
        };
        // It is about to end, or has. `ECHILD`: somebody else has reaped it.
        let reaped = process::wait(cloned.pid, pidfd(&cloned), true).ok().flatten();
        let cause = match why {
            Why::Errno(errno) => Cause::Errno(errno.raw_os_error()),
            Why::Died => Cause::Died(reaped.map(|reaped| reaped.status)),
        };
        let error = prepared.child_error(index, cause);
        Err(match maps {
            Some(Err(refused)) if was_not_let_go_on(&error, &refused) => refused,
            _ => error,
        })
    }

    /// What the clone is to do. The plan alone says whether fds are shared: a
    /// child that shares ours and does not begin with that step would move them.
    fn features_of_clone(&self) -> Features {
        let begins = self.prepared.scratch.steps.first();
        let mut features = self.features();
        features.set(Features::SHARED_FILES, matches!(begins, Some(Step::Unshare { .. })));
        features
    }

    fn word(&self) -> &AtomicU64 {
        let shared = self.shared_word.as_ref().map(SharedWord::word);
        shared.unwrap_or_else(|| self.prepared.scratch.region.word())
    }

    fn report(&self) -> Report<'_> {
        Report::of(self.word())
    }
}

/// Writes the child's id maps, for which it waits. One that can't have them is
/// killed: it would read the end of file; but a process that another thread has
/// forked may hold a copy of our end for as long as it likes.
fn map_ids(
    (reader, writer): (OwnedFd, OwnedFd),
    extras: &CloneExtras<'_>,
    cloned: &Cloned,
) -> Result<(), SpawnError> {
    drop(reader);
    let written = id_maps::write(cloned.pid, extras, &writer);
    if written.is_err() {
        // An error says that it has ended already.
        let _ = process::signal(cloned.pid, pidfd(cloned), SIGKILL);
    }
    written
}

/// Whether the child failed since its maps could not be written, and not for a
/// reason of its own, for which in turn the parent could not let it go on.
fn was_not_let_go_on(child: &SpawnError, refused: &SpawnError) -> bool {
    let broken = |error: &SpawnError| error.raw_os_error() == Some(Errno::PIPE.raw_os_error());
    // Of the pipe, and not of a file with a map.
    let was_gone = broken(refused) && *refused.subject() == Subject::Nothing;
    let waited = matches!(child.step(), Some(Step::AwaitParent { .. })) && broken(child);
    (waited || child.signal() == Some(Signal::KILL)) && !was_gone
}

/// Clones without an exit signal, or where the old call refuses that, as user-mode
/// qemu does, with the one that every process has.
fn with_exit_signal(
    features: Features,
    clone: impl Fn(i32) -> Result<Cloned, Errno>,
) -> Result<Cloned, Errno> {
    match clone(NO_SIGNAL) {
        Err(Errno::INVAL) if !features.contains(Features::CLONE3) => clone(Signal::CHLD.number()),
        cloned => cloned,
    }
}

/// Why a child did not reach its program.
enum Why {
    /// The step failed.
    Errno(Errno),
    /// It ended while it took the step.
    Died,
}

/// Waits until the pipe is closed, by exec or the child's end. Nothing is ever
/// written to it.
///
/// A process that another thread has forked at the same time has a copy of the
/// write end, and would make us wait for its own exec or end, however long that
/// takes. So now and then the child itself is looked at.
fn wait_for_notice(reader: &OwnedFd, cloned: &Cloned, report: Report<'_>, steps: &[Step]) {
    let mut polled = [PollFd::new(reader.as_raw_fd(), Interest::READ)];
    while !matches!(poll(&mut polled, Some(NOTICE_TICK)), Ok(1..)) {
        match report.read() {
            Progress::Failed(..) => return,
            Progress::At(index) => {
                let reached = at_exec(steps, index as usize)
                    && process::reached_exec(cloned.pid, cloned.exit_signal) == Some(true);
                if reached || process::has_ended(cloned.pid, pidfd(cloned)) != Ok(false) {
                    return;
                }
            }
        }
    }
}

/// Where and why the program was not reached; `None` if it was. Reaps nothing.
///
/// "At exec and not failed" is not enough: the child may have been killed right
/// there. So the kernel is asked whether exec was reached, which it knows of a
/// zombie too.
fn failure(cloned: &Cloned, report: Report<'_>, steps: &[Step]) -> Option<(usize, Why)> {
    let mut ended = false;
    let mut looks = 0;
    loop {
        let index = match report.read() {
            Progress::Failed(index, errno) => return Some((index as usize, Why::Errno(errno))),
            Progress::At(index) => index as usize,
        };
        if at_exec(steps, index) {
            match process::reached_exec(cloned.pid, cloned.exit_signal) {
                Some(true) => return None,
                // Reaped by somebody else, or by the kernel where SIGCHLD is
                // ignored, which both can do after exec alone; but for somebody
                // who waits for all children by __WALL.
                None => return None,
                Some(false) => {}
            }
        }
        if ended {
            return Some((index, Why::Died));
        }
        match process::has_ended(cloned.pid, pidfd(cloned)) {
            // Once more: it may have gone on between the two looks.
            Ok(true) | Err(_) => ended = true,
            Ok(false) if looks < LOOKS_AT_ONCE_MAX => thread::yield_now(),
            // Where memory is shared we are here only if an emulator forks.
            Ok(false) => thread::sleep(REPORT_TICK),
        }
        looks += 1;
    }
}

fn at_exec(steps: &[Step], index: usize) -> bool {
    steps.get(index).is_some_and(|step| step.is_exec())
}

pub(super) fn pidfd(cloned: &Cloned) -> Option<BorrowedFd<'_>> {
    cloned.pidfd.as_ref().map(AsFd::as_fd)
}

fn clone_in_words(call: &str, namespaces: Namespaces, cgroup: Option<i32>) -> String {
    let mut words = call.to_string();
    if !namespaces.is_empty() {
        words += &format!(" into new namespaces {}", NAMES.namespaces(namespaces.bits()));
    }
    if let Some(fd) = cgroup {
        words += &format!(" into the cgroup of fd {fd}");
    }
    words
}

impl Prepared<'_> {
    fn child_error(&self, index: usize, cause: Cause) -> SpawnError {
        // A report can't name another step than one of the plan's, unless the
        // plan has none.
        let step = self.scratch.steps.get(index).or(self.scratch.steps.last());
        let Some(&step) = step else {
            return SpawnError::in_parent("an empty plan", Subject::Nothing, Errno::NOENT);
        };
        let subject = self.subject(index, step, cause);
        SpawnError::in_child(index, step, self.describe(step, cause), subject, cause)
    }

    /// The step in words. A search that found nothing names the program and in
    /// how many places it was looked for.
    fn describe(&self, step: Step, cause: Cause) -> String {
        let strings = self.texts();
        match step {
            Step::Exec { path } if self.is_nowhere(step, cause) => {
                let name = subject::name(strings.get(path)).as_bytes().escape_ascii();
                let count = self.candidates().count();
                format!("execve \"{name}\" in {count} directories of PATH")
            }
            _ => strings.show(step).to_string(),
        }
    }

    /// Whether a spawn that failed since the kernel refused a feature may be
    /// tried again without it.
    pub(super) fn does_without(&mut self, error: &SpawnError) -> bool {
        const REFUSED: [Errno; 3] = [Errno::NOSYS, Errno::PERM, Errno::INVAL];
        let Some(errno) = error.raw_os_error().map(Errno::from_raw_os_error) else {
            return false;
        };
        let refused = REFUSED.contains(&errno);
        let used = self.features;
        let still = match error.step() {
            // One that fails for want of memory copies too much.
            Some(Step::Unshare { .. }) => used - Features::SHARED_FILES,
            Some(Step::MarkRange { .. }) if refused => used - Features::CLOSE_RANGE,
            // A full table has no number for the directory.
            Some(Step::MarkListed { .. }) => used - Features::PROC_FD,
            None if refused && error.is_from_clone() => used & Features::of_this_thread(),
            _ => used,
        };
        let still = still.consistent();
        if still == used || !still.contains(self.require) {
            return false;
        }
        if used.contains(Features::CLONE3) && !still.contains(Features::CLONE3) {
            self.finish.insert(0, Step::ClearHandlers);
        }
        self.features = still;
        true
    }
}
