//! Steps of the child that are to fail, or to kill it.

use forkplan::Plan;
use forkplan::plan::Step;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub(crate) use super::fault_rules::rules;
use super::seccomp::Rule;

/// No step fails with this by itself, and nothing is tried again for it.
pub(crate) const STRANGE: i32 = libc::EXFULL;

/// What becomes of a call.
pub(crate) type Verdict<'a> = &'a (dyn Fn(libc::c_long) -> Rule + Sync);

/// A step of a plan, and what else of the plan the rules for its calls need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) step: Step,
    pub(crate) index: usize,
    /// The lower half of the address at which the child has the path of a program
    /// or root. `None`: not known, so a rule for a program hits every candidate.
    pub(crate) path: Option<i32>,
    /// Whether another step closes an fd.
    pub(crate) another_closes: bool,
    /// What holds the number of a file that the child opens, until then.
    pub(crate) placeholder: Option<i32>,
}

impl Target {
    pub(crate) fn new(plan: &Plan<'_>, index: usize) -> Self {
        let step = plan.steps()[index];
        let path = match step {
            Step::PivotRoot { path }
            | Step::Exec { path }
            | Step::ExecShell { shell: path, .. } => Some(plan.text(path).as_ptr() as usize as i32),
            _ => None,
        };
        let opened_at = match step {
            Step::OpenFile { to, .. } => Some(to),
            _ => None,
        };
        let placeholder = plan.steps().iter().find_map(|step| match *step {
            Step::Dup2 { from, to } if Some(to) == opened_at => Some(from),
            _ => None,
        });
        let closes = |step: &Step| {
            let lists = matches!(step, Step::MarkListed { .. } | Step::Close { .. });
            lists || matches!(step, Step::WriteFile { .. } | Step::OpenFile { .. })
        };
        let another_closes =
            plan.steps().iter().enumerate().any(|(at, step)| at != index && closes(step));
        Self { step, index, path, another_closes, placeholder }
    }

    pub(crate) fn all(plan: &Plan<'_>) -> Vec<Self> {
        (0..plan.steps().len()).map(|index| Self::new(plan, index)).collect()
    }
}

/// Of the slowest way of closing, no more than need be; and no core files of the
/// killed.
pub(crate) fn lower_the_limits() {
    let Rlimit { current, .. } = getrlimit(Resource::Nofile);
    let current = current.map(|limit| limit.min(1024));
    setrlimit(Resource::Nofile, Rlimit { current, maximum: current }).unwrap();
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
}
