//! The child between fork and exec.
//!
//! Everything here runs in a process that may share the parent's memory, with
//! the parent stopped and its locks in whatever state they were. So:
//!
//! 1. Data in, syscalls out: no allocation, lock, `errno`, panic or drop.
//! 2. Signals are blocked when it begins, and stay so until the plan's last
//!    step before exec.
//! 3. Each step is published *before* it is taken. A child that dies without a
//!    word, killed or in an emulator that forks, has still told where it was.
//! 4. Any failure is fatal, published with its errno, and ends the child.
//!
//! The rooms above can't be named here: the crate root is `no_std`, and this
//! room neither says `extern crate std` nor imports from a room that does.

mod report;

use core::ffi::{c_char, c_int, c_void};

pub(crate) use self::report::{Progress, Report};
use crate::plan::{Step, Text};
use crate::sys::{Errno, child};

/// What a child that failed exits with. Nobody reads it: the report has said
/// what happened, and the parent reaps the child itself.
const EXIT_CODE: c_int = 127;

/// All that a child reads: frozen by the parent before the fork.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) steps: &'a [Step],
    /// The plan's text: NUL-terminated strings, among them each `Text` of the
    /// steps.
    pub(crate) text: &'a [u8],
    /// NULL-terminated.
    pub(crate) argv: &'a [*const c_char],
    /// NULL-terminated.
    pub(crate) envp: &'a [*const c_char],
    pub(crate) report: Report<'a>,
}

/// The child's entry.
///
/// # Safety
///
/// `job` points to a [`Job`] that outlives the child's walk: its steps' texts
/// lie within its text, which ends with a NUL; `argv` and `envp` end with NULL
/// and point to NUL-terminated strings. All signals are blocked.
pub(crate) unsafe extern "C" fn enter(job: *mut c_void) -> ! {
    // SAFETY: the contract above. The parent does not change it meanwhile: it
    // is stopped, or the child has a copy.
    let job = unsafe { &*job.cast::<Job<'_>>() };
    // SAFETY: the contract above.
    unsafe { walk(job) };
    child::exit(EXIT_CODE)
}

/// Takes the steps one after the other. Comes back when one has failed, which
/// the report then says.
///
/// # Safety
///
/// As for [`enter`].
unsafe fn walk(job: &Job<'_>) {
    let mut search = Search { found: None };
    let mut index: u32 = 0;
    for &step in job.steps {
        job.report.publish(index);
        if let Step::Exec { path } = step {
            // SAFETY: the contract of `enter`.
            let errno =
                unsafe { child::execve(string(job, path), job.argv.as_ptr(), job.envp.as_ptr()) };
            if !search.goes_on_after(index, errno) {
                return job.report.fail(index, errno);
            }
        // SAFETY: the contract of `enter`.
        } else if let Err(errno) = unsafe { take(job, step) } {
            return job.report.fail(index, errno);
        }
        index = index.wrapping_add(1);
    }
    // A plan without a program is no plan; its number is one past the steps.
    let (index, errno) = search.found.unwrap_or((index, Errno::NOENT));
    job.report.fail(index, errno);
}

/// Takes one step that is not exec.
///
/// # Safety
///
/// As for [`enter`].
unsafe fn take(job: &Job<'_>, step: Step) -> Result<(), Errno> {
    match step {
        Step::Unshare { first } => child::unshare_fds(first),
        Step::MarkRange { first, last } => child::mark_range(first, last),
        Step::MarkListed { first } => child::mark_listed(first),
        Step::MarkEach { first, below } => child::mark_each(first, below),
        Step::Dup2 { from, to } => child::dup2(from, to),
        Step::DupCloexec { from, to } => child::dup3_cloexec(from, to),
        Step::ClearCloexec { fd } => child::set_cloexec(fd, false),
        Step::SetCloexec { fd } => child::set_cloexec(fd, true),
        // SAFETY: the contract of `enter`.
        Step::Chdir { path } => unsafe { child::chdir(string(job, path)) },
        Step::DefaultSignal { signal } => child::default_signal(signal),
        Step::ClearHandlers => child::clear_handlers(),
        Step::SignalMask { mask } => child::set_signal_mask(mask),
        // The walk's own.
        Step::Exec { .. } => Err(Errno::NOSYS),
    }
}

/// # Safety
///
/// `text` lies within the job's text.
unsafe fn string(job: &Job<'_>, text: Text) -> *const c_char {
    // SAFETY: the caller's contract.
    unsafe { job.text.as_ptr().add(text.0 as usize).cast() }
}

/// The search for a program among candidates, as `execvp` has it.
struct Search {
    /// What to report if no candidate can be run: the first that may not be
    /// run, else the last that is not there.
    found: Option<(u32, Errno)>,
}

impl Search {
    /// Whether the next candidate is tried after this error.
    fn goes_on_after(&mut self, index: u32, errno: Errno) -> bool {
        match (errno, self.found) {
            (Errno::ACCESS, Some((_, Errno::ACCESS))) => {}
            (Errno::ACCESS, _) => self.found = Some((index, errno)),
            (Errno::NOENT, None | Some((_, Errno::NOENT | Errno::NOTDIR)))
            | (Errno::NOTDIR, None | Some((_, Errno::NOTDIR))) => {
                self.found = Some((index, errno));
            }
            (Errno::NOENT | Errno::NOTDIR, Some(_)) => {}
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(errors: &[Errno]) -> Result<Option<(u32, Errno)>, (u32, Errno)> {
        let mut search = Search { found: None };
        for (index, &errno) in (0..).zip(errors) {
            if !search.goes_on_after(index, errno) {
                return Err((index, errno));
            }
        }
        Ok(search.found)
    }

    #[test]
    fn a_program_that_is_nowhere_is_reported_at_the_last_candidate() {
        assert_eq!(outcome(&[Errno::NOENT, Errno::NOENT]), Ok(Some((1, Errno::NOENT))));
        assert_eq!(outcome(&[Errno::NOTDIR, Errno::NOTDIR]), Ok(Some((1, Errno::NOTDIR))));
    }

    #[test]
    fn not_there_says_more_than_no_directory() {
        assert_eq!(outcome(&[Errno::NOENT, Errno::NOTDIR]), Ok(Some((0, Errno::NOENT))));
        assert_eq!(outcome(&[Errno::NOTDIR, Errno::NOENT]), Ok(Some((1, Errno::NOENT))));
    }

    #[test]
    fn a_program_that_may_not_be_run_is_remembered_while_the_search_goes_on() {
        let errors = [Errno::NOENT, Errno::ACCESS, Errno::ACCESS, Errno::NOENT];
        assert_eq!(outcome(&errors), Ok(Some((1, Errno::ACCESS))));
    }

    #[test]
    fn any_other_error_ends_the_search() {
        assert_eq!(outcome(&[Errno::NOENT, Errno::NOEXEC]), Err((1, Errno::NOEXEC)));
        assert_eq!(outcome(&[Errno::TOOBIG]), Err((0, Errno::TOOBIG)));
    }
}
