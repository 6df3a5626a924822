//! What a search for a program comes to where some of its calls fail.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use forkplan::Plan;
use forkplan::plan::Step;

/// What a spawn comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Starts,
    Fails { index: usize, errno: i32 },
}

/// A candidate for exec, as it is without a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) index: usize,
    is_shell: bool,
    errno: Option<i32>,
}

/// Those of a plan.
pub(crate) fn candidates(plan: &Plan<'_>) -> Vec<Candidate> {
    let own = |step: &Step| match *step {
        Step::Exec { path } => {
            let path = OsStr::from_bytes(plan.text(path));
            match std::fs::metadata(path) {
                Err(error) => Some((false, error.raw_os_error())),
                Ok(_) if path.as_bytes().ends_with(b"script") => Some((false, Some(libc::ENOEXEC))),
                Ok(_) => Some((false, None)),
            }
        }
        Step::ExecShell { .. } => Some((true, None)),
        Step::ExecFd { .. } => Some((false, None)),
        _ => None,
    };
    let all = plan.steps().iter().enumerate();
    let found = all.filter_map(|(index, step)| Some((index, own(step)?)));
    found.map(|(index, (is_shell, errno))| Candidate { index, is_shell, errno }).collect()
}

/// As `execvp` has it.
pub(crate) fn search(
    candidates: &[Candidate],
    hit: impl Fn(usize) -> bool,
    injected: i32,
) -> Outcome {
    let mut remembered: Vec<(usize, i32)> = Vec::new();
    let mut is_script = false;
    for (at, candidate) in candidates.iter().enumerate() {
        if candidate.is_shell && !is_script {
            continue;
        }
        let index = candidate.index;
        let errno = if hit(index) { Some(injected) } else { candidate.errno };
        let Some(errno) = errno else { return Outcome::Starts };
        let has_shell = candidates.get(at + 1).is_some_and(|next| next.is_shell);
        match errno {
            _ if is_script => return Outcome::Fails { index, errno },
            libc::ENOEXEC if has_shell => is_script = true,
            libc::ENOENT | libc::ENOTDIR | libc::EACCES => remembered.push((index, errno)),
            _ => return Outcome::Fails { index, errno },
        }
    }
    // The first that may not be run, else the last that is not there.
    let first = |wanted| remembered.iter().find(|(_, errno)| *errno == wanted);
    let last = |wanted| remembered.iter().rfind(|(_, errno)| *errno == wanted);
    let found = first(libc::EACCES).or(last(libc::ENOENT)).or(last(libc::ENOTDIR));
    let &(index, errno) = found.unwrap();
    Outcome::Fails { index, errno }
}
