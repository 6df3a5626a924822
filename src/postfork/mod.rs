//! The child between fork and exec.
//!
//! Everything here runs in a process that may share the parent's memory: beside
//! a thread that is stopped and others that run on, or beside all of them, with
//! locks in whatever state they are. So:
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
use crate::plan::{Bytes, Step, Text};
use crate::sys::hook::Hook;
use crate::sys::{Errno, child};

/// What a child that failed exits with. Nobody reads it: the report has said
/// what happened, and the parent reaps the child itself.
const EXIT_CODE: c_int = 127;

/// All that a child reads: frozen by the parent before the fork.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) steps: &'a [Step],
    /// The plan's text: NUL-terminated strings, among them each `Text` of the
    /// steps, and each of their `Bytes`.
    pub(crate) text: &'a [u8],
    /// NULL-terminated.
    pub(crate) argv: &'a [*const c_char],
    /// NULL-terminated.
    pub(crate) envp: &'a [*const c_char],
    /// What a shell is given in place of `argv`, one for each `ExecShell`.
    pub(crate) shell_argv: &'a [*const *const c_char],
    /// Where the pid is written: eleven bytes each, in the strings of `envp`.
    pub(crate) pids: &'a [*mut u8],
    pub(crate) hook: Option<Hook>,
    pub(crate) report: Report<'a>,
}

/// The child's entry.
///
/// # Safety
///
/// `job` points to a [`Job`] that outlives the child's walk: its steps' texts
/// and bytes lie within its text, which ends with a NUL; `argv`, `envp` and each
/// of `shell_argv` end with NULL and point to NUL-terminated strings; `pids`
/// may be written; the steps' numbers of pids and argument lists are below
/// theirs. All signals are blocked.
pub(crate) unsafe extern "C" fn enter(job: *mut c_void) -> ! {
    // SAFETY: the contract above. The parent does not change it meanwhile: it
    // is stopped, or keeps it as it is (`Starting`), or the child has a copy.
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
    let mut search = Search { found: None, script: false };
    let mut rest = job.steps;
    let mut index: u32 = 0;
    while let Some((&step, after)) = rest.split_first() {
        if !search.passes_over(step) {
            job.report.publish(index);
            let taken = match step.is_exec() {
                true => {
                    // SAFETY: the contract of `enter`.
                    let errno = unsafe { exec(job, step) };
                    search.goes_on_after(index, errno, after.first())
                }
                // SAFETY: as above.
                false => unsafe { take(job, step) }.map_err(|errno| (index, errno)),
            };
            if let Err((index, errno)) = taken {
                return job.report.fail(index, errno);
            }
        }
        rest = after;
        index = index.wrapping_add(1);
    }
    // A plan without a program is no plan; its number is one past the steps.
    let (index, errno) = search.found.unwrap_or((index, Errno::NOENT));
    job.report.fail(index, errno);
}

/// Tries to become the program.
///
/// # Safety
///
/// As for [`enter`].
unsafe fn exec(job: &Job<'_>, step: Step) -> Errno {
    let (argv, envp) = (job.argv.as_ptr(), job.envp.as_ptr());
    // SAFETY: the contract of `enter`.
    unsafe {
        match step {
            Step::Exec { path } => child::execve(string(job, path), argv, envp),
            Step::ExecFd { fd } => child::execve_fd(fd, argv, envp),
            Step::ExecShell { shell, argv } => match job.shell_argv.get(argv as usize) {
                Some(&argv) => child::execve(string(job, shell), argv, envp),
                None => Errno::NOENT,
            },
            _ => Errno::NOSYS,
        }
    }
}

/// Takes one step that is not exec: fds, directories, signals.
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
        Step::Fchdir { fd } => child::fchdir(fd),
        // SAFETY: as above.
        Step::Chroot { path } => unsafe { child::chroot(string(job, path)) },
        Step::Umask { mode } => child::umask(mode),
        Step::DefaultSignal { signal } => child::default_signal(signal),
        Step::IgnoreSignal { signal } => child::ignore_signal(signal),
        Step::ClearHandlers => child::clear_handlers(),
        Step::SignalMask { mask } => child::set_signal_mask(mask),
        Step::SetSid => child::setsid(),
        Step::SetPgid { pgid } => child::setpgid(pgid),
        Step::ControllingTerminal { fd } => child::controlling_terminal(fd),
        Step::Foreground { fd } => child::foreground(fd),
        Step::Close { fd } => child::close(fd),
        // SAFETY: as above.
        Step::OpenFile { path, flags, to } => unsafe {
            child::open_file(string(job, path), flags, to)
        },
        Step::AwaitParent { fd } => child::await_parent(fd),
        Step::WritePid { slot } => match job.pids.get(slot as usize) {
            // SAFETY: as above.
            Some(&digits) => unsafe { child::write_pid(digits) },
            None => Err(Errno::INVAL),
        },
        Step::Hook => match job.hook.map(|hook| hook.call()) {
            None | Some(0) => Ok(()),
            Some(errno) => Err(Errno::from_raw_os_error(errno)),
        },
        // SAFETY: as above.
        _ => unsafe { take_privilege(job, step) },
    }
}

/// Takes one step that sets ids, limits or isolation.
///
/// # Safety
///
/// As for [`enter`].
unsafe fn take_privilege(job: &Job<'_>, step: Step) -> Result<(), Errno> {
    match step {
        // SAFETY: the contract of `enter`; ids have four bytes.
        Step::SetGroups { ids } => unsafe {
            child::setgroups((ids.len >> 2) as usize, bytes(job, ids))
        },
        Step::SetGid { gid } => child::setgid(gid),
        Step::SetUid { uid } => child::setuid(uid),
        Step::KeepCaps => child::keep_caps(),
        Step::SecureBits { bits } => child::secure_bits(bits),
        Step::LimitBoundingSet { keep } => child::limit_bounding_set(keep),
        Step::SetCapabilities { capabilities, setpcap } => {
            child::set_capabilities(capabilities, setpcap)
        }
        Step::RaiseAmbient { capabilities } => child::raise_ambient(capabilities),
        Step::NoNewPrivs => child::no_new_privs(),
        Step::ParentDeathSignal { signal } => child::parent_death_signal(signal),
        Step::CheckParent { pid } => child::check_parent(pid),
        // SAFETY: the contract of `enter`.
        Step::SetLimit { resource, limits } => unsafe {
            child::set_limit(resource, bytes(job, limits))
        },
        Step::SetNice { nice } => child::set_nice(nice),
        Step::SetScheduler { policy, priority } => child::set_scheduler(policy, priority),
        // SAFETY: the contract of `enter`.
        Step::SetAffinity { mask } => unsafe {
            child::set_affinity(mask.len as usize, bytes(job, mask))
        },
        Step::SetIoPriority { priority } => child::set_io_priority(priority),
        // SAFETY: the contract of `enter`.
        Step::WriteFile { path, contents } => unsafe {
            child::write_file(string(job, path), bytes(job, contents), contents.len as usize)
        },
        Step::SetNs { fd, kind } => child::setns(fd, kind),
        Step::PrivateMounts => child::private_mounts(),
        // SAFETY: the contract of `enter`.
        Step::PivotRoot { path } => unsafe { child::pivot_root(string(job, path)) },
        Step::Landlock { fd } => child::landlock(fd),
        // SAFETY: the contract of `enter`; instructions have eight bytes.
        Step::Seccomp { filter } => unsafe {
            child::seccomp((filter.len >> 3) as u16, bytes(job, filter))
        },
        // Those that `take` knows, and exec.
        _ => Err(Errno::NOSYS),
    }
}

/// # Safety
///
/// `bytes` lie within the job's text.
unsafe fn bytes(job: &Job<'_>, bytes: Bytes) -> *const u8 {
    // SAFETY: the caller's contract.
    unsafe { job.text.as_ptr().add(bytes.at as usize) }
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
    /// The candidate just tried is there and is no program; a shell takes it.
    script: bool,
}

impl Search {
    /// A shell is tried only for a candidate that is no program.
    fn passes_over(&self, step: Step) -> bool {
        matches!(step, Step::ExecShell { .. }) && !self.script
    }

    /// Whether the `next` step is taken after this error; if not, what to
    /// report.
    fn goes_on_after(
        &mut self,
        index: u32,
        errno: Errno,
        next: Option<&Step>,
    ) -> Result<(), (u32, Errno)> {
        let shell_follows = matches!(next, Some(Step::ExecShell { .. }));
        match (errno, self.found) {
            // It was the shell that failed.
            _ if self.script => return Err((index, errno)),
            (Errno::NOEXEC, _) if shell_follows => self.script = true,
            (Errno::ACCESS, Some((_, Errno::ACCESS))) => {}
            (Errno::ACCESS, _) => self.found = Some((index, errno)),
            (Errno::NOENT, None | Some((_, Errno::NOENT | Errno::NOTDIR)))
            | (Errno::NOTDIR, None | Some((_, Errno::NOTDIR))) => {
                self.found = Some((index, errno));
            }
            (Errno::NOENT | Errno::NOTDIR, Some(_)) => {}
            _ => return Err((index, errno)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(errors: &[Errno]) -> Result<Option<(u32, Errno)>, (u32, Errno)> {
        let mut search = Search { found: None, script: false };
        for (index, &errno) in (0..).zip(errors) {
            search.goes_on_after(index, errno, None)?;
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

    #[test]
    fn a_shell_is_tried_for_a_file_that_is_no_program_and_for_no_other() {
        let shell = Step::ExecShell { shell: Text(0), argv: 0 };
        let mut search = Search { found: None, script: false };
        assert!(search.passes_over(shell));
        assert_eq!(search.goes_on_after(0, Errno::NOENT, Some(&shell)), Ok(()));
        assert!(search.passes_over(shell));
        assert_eq!(search.goes_on_after(2, Errno::NOEXEC, Some(&shell)), Ok(()));
        assert!(!search.passes_over(shell));
        // The shell is not there: that is the error, whatever comes after.
        assert_eq!(search.goes_on_after(3, Errno::NOENT, None), Err((3, Errno::NOENT)));
    }
}
