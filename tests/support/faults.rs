//! Steps of the child that fail, or kill it: what the error says, and what is
//! left.

use core::mem::{Discriminant, discriminant};
use std::collections::HashSet;

use forkplan::plan::Step;
use forkplan::{Command, Features, Plan, Prepared, SpawnError};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::seccomp::{Rule, under_made_there};
use super::{PATHS, description, fds_of_self, no_child_is_left};

/// No step fails with this by itself, and nothing is tried again for it.
pub(crate) const STRANGE: i32 = libc::EXFULL;

/// What becomes of a call.
pub(crate) type Verdict<'a> = &'a (dyn Fn(libc::c_long) -> Rule + Sync);

/// The rules of which each hits one call of this step of the child's, and none
/// of the parent's calls. None: another test has the step.
pub(crate) type Rules = fn(Target, Verdict<'_>) -> Vec<Rule>;

#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) step: Step,
    /// The lower half of the address at which the child has the step's path.
    pub(crate) path: i32,
}

impl Target {
    fn new(plan: &Plan<'_>, index: usize) -> Self {
        let step = plan.steps()[index];
        let path = match step {
            Step::PivotRoot { path } | Step::ExecShell { shell: path, .. } => plan.text(path),
            _ => &[],
        };
        Self { step, path: path.as_ptr() as usize as i32 }
    }
}

/// The error of a spawn in which the step at `index` meets with a rule.
pub(crate) fn fault(
    prepared: &mut Prepared<'_>,
    index: usize,
    rule: impl FnOnce(Target) -> Rule + Send,
) -> SpawnError {
    let opened = prepared.open().unwrap();
    let target = Target::new(&opened.plan(), index);
    let words = opened.plan().show(target.step).to_string();
    let error = under_made_there(|| vec![rule(target)], || opened.spawn().unwrap_err());
    assert_eq!(error.step(), Some(target.step), "{error}");
    assert_eq!(error.step_index(), Some(index), "{error}");
    assert_eq!(description(&error), Some(words.as_str()));
    error
}

/// The same of a start. Its plan is another: it shares no table, and keeps a notice.
pub(crate) fn fault_of_start(
    prepared: &Prepared<'_>,
    index: usize,
    rule: impl FnOnce(Target) -> Rule + Send,
) -> SpawnError {
    let prepared = prepared.try_clone().unwrap();
    // The numbers will be the same once more.
    let starting = prepared.start();
    let target = Target::new(&starting.plan(), index);
    let words = starting.plan().show(target.step).to_string();
    let (prepared, child) = starting.finish();
    assert!(child.unwrap().wait().unwrap().success());
    let error =
        under_made_there(|| vec![rule(target)], || prepared.start().finish().1.unwrap_err());
    assert_eq!(error.step(), Some(target.step), "{error}");
    assert_eq!(error.step_index(), Some(index), "{error}");
    assert_eq!(description(&error), Some(words.as_str()));
    error
}

/// Calls `check` with the error of each call of each step of each command, on
/// both paths and by both ways to clone. In a process of its own, from which
/// nothing is left. How many rules there were.
pub(crate) fn for_each_fault(
    commands: Vec<Command<'_>>,
    rules: Rules,
    verdict: Verdict<'_>,
    check: impl Fn(Step, &SpawnError),
) -> usize {
    // No core files of the killed.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
    let mut met: HashSet<(Discriminant<Step>, usize)> = HashSet::new();
    for mut command in commands {
        // Each adds to those before.
        for without in [PATHS[0], Features::CLONE3, PATHS[1], Features::all()] {
            let mut prepared = command.without(without).prepare().unwrap();
            let before = fds_of_self();
            let targets: Vec<Target> = {
                let opened = prepared.open().unwrap();
                let plan = opened.plan();
                (0..plan.steps().len()).map(|index| Target::new(&plan, index)).collect()
            };
            for (index, &target) in targets.iter().enumerate() {
                for number in 0..rules(target, verdict).len() {
                    let rule = |target| rules(target, verdict).swap_remove(number);
                    check(target.step, &fault(&mut prepared, index, rule));
                    met.insert((discriminant(&target.step), number));
                    assert!(no_child_is_left());
                    assert_eq!(fds_of_self(), before);
                }
            }
            // The control: nothing but the fault was in the way.
            assert!(prepared.spawn().unwrap().wait().unwrap().success());
        }
    }
    met.len()
}
