//! Why there is no child.

extern crate std;

use std::boxed::Box;
use std::io;
use std::string::String;
use std::{error, fmt};

use super::Subject;
use crate::command::PlanError;
use crate::plan::Step;
use crate::signal::Signal;
use crate::sys::{Errno, Message};

/// A spawn that failed, synchronously: no program was started, and no process,
/// fd or pidfd is left.
///
/// It says which step failed, what it concerned and why, in words and as a
/// [`Subject`] to match on:
///
/// ```
/// use forkplan::Command;
///
/// let error = Command::new("/bin/nope").spawn().unwrap_err();
/// assert_eq!(error.to_string(), "execve \"/bin/nope\": No such file or directory");
/// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
///
/// let error = Command::new("/bin/nope").current_dir("/nowhere").spawn().unwrap_err();
/// assert_eq!(error.to_string(), "chdir \"/nowhere\": No such file or directory");
/// ```
#[derive(Debug)]
pub struct SpawnError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    stage: Stage,
    subject: Subject,
    cause: Cause,
}

#[derive(Debug)]
enum Stage {
    /// Nothing has happened yet.
    Plan(PlanError),
    /// The parent's: opening channels, making the child.
    Parent { words: String },
    /// The child's.
    Child { index: usize, step: Step, words: String },
}

/// Why the step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The call said so.
    Errno(i32),
    /// The child ended while it took the step: the raw wait status, if it is
    /// known.
    Died(Option<i32>),
    /// The request can't be carried out.
    Plan,
}

impl SpawnError {
    pub(super) fn in_parent(words: impl Into<String>, subject: Subject, errno: Errno) -> Self {
        let stage = Stage::Parent { words: words.into() };
        Self(Box::new(Inner { stage, subject, cause: Cause::Errno(errno.raw_os_error()) }))
    }

    pub(super) fn in_child(
        index: usize,
        step: Step,
        words: String,
        subject: Subject,
        cause: Cause,
    ) -> Self {
        Self(Box::new(Inner { stage: Stage::Child { index, step, words }, subject, cause }))
    }

    /// Whether it was the call that makes a child.
    pub(super) fn is_from_clone(&self) -> bool {
        matches!(self.0.subject, Subject::Clone { .. })
    }

    /// The child's step that failed. `None` if it never came to a child.
    pub fn step(&self) -> Option<Step> {
        match self.0.stage {
            Stage::Child { step, .. } => Some(step),
            _ => None,
        }
    }

    /// That step's index among the plan's steps, which are printed from 1.
    pub fn step_index(&self) -> Option<usize> {
        match self.0.stage {
            Stage::Child { index, .. } => Some(index),
            _ => None,
        }
    }

    /// What the step or the parent's call concerned: the path, the fd, the id.
    /// [`Subject::Nothing`] for an error of the request.
    pub fn subject(&self) -> &Subject {
        &self.0.subject
    }

    /// The step in words, as the printed plan has it, or the parent's call:
    /// `dup2 7 -> 3`, `pipe2 for child fd 1`. `None` for an error of the request.
    pub fn description(&self) -> Option<&str> {
        match &self.0.stage {
            Stage::Plan(_) => None,
            Stage::Parent { words } | Stage::Child { words, .. } => Some(words),
        }
    }

    /// What is wrong with the request, if that is the error.
    pub fn plan_error(&self) -> Option<&PlanError> {
        match &self.0.stage {
            Stage::Plan(error) => Some(error),
            _ => None,
        }
    }

    /// The errno of the step or call that failed. `None` if the child was
    /// killed while it took the step, and for errors of the request that have
    /// none.
    pub fn raw_os_error(&self) -> Option<i32> {
        match (&self.0.stage, self.0.cause) {
            (Stage::Plan(PlanError::System { errno, .. }), _) => Some(*errno),
            (_, Cause::Errno(errno)) => Some(errno),
            _ => None,
        }
    }

    /// The signal that killed the child while it took the step.
    pub fn signal(&self) -> Option<Signal> {
        match self.0.cause {
            Cause::Died(Some(status)) if status & 0x7f != 0 => Some((status & 0x7f).into()),
            _ => None,
        }
    }

    /// Whether somebody has the program open for writing.
    pub(super) fn is_busy(&self) -> bool {
        let at_exec = matches!(self.step(), Some(Step::Exec { .. } | Step::ExecFd { .. }));
        at_exec && self.raw_os_error() == Some(Errno::TXTBSY.raw_os_error())
    }

    /// The kind that this has as an `io::Error`. A child that was killed is
    /// `Other`.
    pub fn kind(&self) -> io::ErrorKind {
        match (&self.0.stage, self.0.cause) {
            (Stage::Plan(error), _) => error.kind(),
            (_, Cause::Errno(errno)) => io::Error::from_raw_os_error(errno).kind(),
            _ => io::ErrorKind::Other,
        }
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.stage {
            Stage::Plan(error) => return error.fmt(f),
            Stage::Parent { words } | Stage::Child { words, .. } => f.write_str(words)?,
        }
        match (self.0.cause, self.signal()) {
            (Cause::Errno(errno), _) => write!(f, ": {}", Message(errno)),
            (_, Some(signal)) => write!(f, ": the child was killed by {signal}"),
            _ => f.write_str(": the child ended without a word"),
        }
    }
}

/// Without a [`source`](error::Error::source): what is wrong with a request, and the
/// words of an errno, are in this error's own text, and a report that prints a chain
/// of errors would have them twice. [`raw_os_error`](Self::raw_os_error),
/// [`kind`](Self::kind) and [`plan_error`](Self::plan_error) have the cause.
impl error::Error for SpawnError {}

impl From<PlanError> for SpawnError {
    fn from(error: PlanError) -> Self {
        let stage = Stage::Plan(error);
        Self(Box::new(Inner { stage, subject: Subject::Nothing, cause: Cause::Plan }))
    }
}

/// Keeps the kind, and this error as the one inside.
impl From<SpawnError> for io::Error {
    fn from(error: SpawnError) -> Self {
        Self::new(error.kind(), error)
    }
}
