//! What the error of a step of `fault_commands` has to be about, said anew.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use forkplan::plan::{Step, Text};
use forkplan::{Capabilities, IoPriority, Namespaces, Plan, Resource, Scheduler, Signal, Subject};

use super::fault_commands::{GROUPS, ID};
use super::own_cpu;

/// What failed with `errno`, at this place of the plan.
pub(crate) fn subject_of(plan: &Plan<'_>, index: usize, errno: i32) -> Subject {
    let path = |text: Text| PathBuf::from(OsStr::from_bytes(plan.text(text)));
    let programs = plan.steps().iter().filter_map(|step| match *step {
        Step::Exec { path: text } => Some(path(text)),
        _ => None,
    });
    let programs: Vec<PathBuf> = programs.collect();
    let before = plan.steps()[..index].iter();
    let place = before.filter(|step| matches!(step, Step::Exec { .. })).count();
    let is_missing = [libc::ENOENT, libc::ENOTDIR].contains(&errno);
    match plan.steps()[index] {
        Step::Exec { .. } if programs.len() > 1 && is_missing => Subject::Search {
            program: programs[0].file_name().unwrap().into(),
            candidates: programs,
        },
        Step::Exec { path: text } => Subject::Candidate { index: place, path: path(text) },
        Step::ExecShell { shell, .. } => {
            Subject::Shell { shell: path(shell), script: programs[place - 1].clone() }
        }
        Step::Chdir { path: text }
        | Step::Chroot { path: text }
        | Step::PivotRoot { path: text }
        | Step::WriteFile { path: text, .. }
        | Step::OpenFile { path: text, .. } => Subject::Path(path(text)),
        Step::PrivateMounts => Subject::Path("/".into()),
        step => without_text(step),
    }
}

fn without_text(step: Step) -> Subject {
    match step {
        Step::Unshare { first } | Step::MarkListed { first } => {
            Subject::Range { first, last: None }
        }
        Step::MarkRange { first, last } => Subject::Range { first, last },
        Step::MarkEach { first, below } => Subject::Range { first, last: Some(below - 1) },
        Step::Dup2 { from, to } | Step::DupCloexec { from, to } => Subject::Move { from, to },
        Step::ClearCloexec { fd }
        | Step::SetCloexec { fd }
        | Step::Fchdir { fd }
        | Step::ControllingTerminal { fd }
        | Step::Foreground { fd }
        | Step::Landlock { fd }
        | Step::Close { fd }
        | Step::AwaitParent { fd }
        | Step::ExecFd { fd } => Subject::Fd(fd),
        Step::SetNs { fd, .. } => Subject::Namespace { fd, kind: Namespaces::UTS },
        Step::Umask { .. } => Subject::Number(0o77),
        Step::SetNice { .. } => Subject::Number(19),
        Step::SecureBits { .. } => Subject::Number(0),
        Step::Seccomp { .. } => Subject::Number(1),
        Step::SetGroups { .. } => Subject::Groups(GROUPS.to_vec()),
        Step::SetGid { .. } => Subject::Group(ID),
        Step::SetUid { .. } => Subject::User(ID),
        Step::LimitBoundingSet { .. }
        | Step::SetCapabilities { .. }
        | Step::RaiseAmbient { .. } => Subject::Capabilities(Capabilities::CHOWN),
        Step::SetPgid { .. } => Subject::ProcessGroup(0),
        Step::CheckParent { .. } => Subject::Process(std::process::id() as i32),
        Step::SetLimit { .. } => Subject::Limit { resource: Resource::CORE, soft: 0, hard: 0 },
        Step::SetScheduler { .. } => Subject::Scheduler(Scheduler::Batch),
        Step::SetIoPriority { .. } => Subject::IoPriority(IoPriority::Idle),
        Step::SetAffinity { .. } => Subject::Cpus(vec![own_cpu()]),
        Step::ParentDeathSignal { .. } => Subject::Signal(Signal::KILL),
        // Of those that this process ignores too.
        Step::DefaultSignal { signal } | Step::IgnoreSignal { signal } => {
            Subject::Signal(signal.into())
        }
        Step::SignalMask { mask: 0 } => Subject::Signals(Vec::new()),
        Step::WritePid { .. } => Subject::Variable("PID".into()),
        Step::KeepCaps | Step::NoNewPrivs | Step::SetSid | Step::ClearHandlers => Subject::Nothing,
        step => panic!("a step without a subject here: {step}"),
    }
}
