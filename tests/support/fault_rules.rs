//! Which calls a step of the child makes, as rules of a filter that hit each of
//! them, and none of the parent's calls.

use forkplan::plan::Step;

use super::faults::{Target, Verdict};
use super::seccomp::Rule;

/// One rule for each call that may fail. None for the hook, which makes the
/// user's. To be made by the thread that spawns, on its own stack.
pub(crate) fn rules(target: &Target, verdict: Verdict<'_>) -> Vec<Rule> {
    let rules = of_fds(target, verdict);
    let rules = if rules.is_empty() { of_signals_and_exec(target, verdict) } else { rules };
    let rules = if rules.is_empty() { of_setup(target, verdict) } else { rules };
    if rules.is_empty() { of_isolation(target, verdict) } else { rules }
}

#[cfg(target_arch = "x86_64")]
fn dup2(verdict: Verdict<'_>) -> Rule {
    verdict(libc::SYS_dup2)
}

/// aarch64 has dup3 alone.
#[cfg(not(target_arch = "x86_64"))]
fn dup2(verdict: Verdict<'_>) -> Rule {
    verdict(libc::SYS_dup3).with(2, 0)
}

/// Any close of the child's, unless another step of the plan makes one too, or
/// the parent's can't be told from it.
fn any_close(target: &Target, verdict: Verdict<'_>) -> Option<Rule> {
    if target.another_closes { None } else { verdict(libc::SYS_close).by_this_program() }
}

fn of_fds(target: &Target, verdict: Verdict<'_>) -> Vec<Rule> {
    let set_flag = || verdict(libc::SYS_fcntl).with(1, libc::F_SETFD);
    match target.step {
        Step::Unshare { .. } => vec![verdict(libc::SYS_close_range).with(2, 1 << 1)],
        Step::MarkRange { .. } => vec![verdict(libc::SYS_close_range).with(2, 1 << 2)],
        Step::MarkListed { .. } => {
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
            let open = verdict(libc::SYS_openat).with(2, flags).by_this_program();
            let mut rules: Vec<Rule> = open.into_iter().collect();
            rules.extend(verdict(libc::SYS_getdents64).by_this_program());
            rules.extend(any_close(target, verdict));
            rules
        }
        Step::MarkEach { first, .. } => vec![set_flag().with(0, first)],
        Step::Dup2 { from, to } => vec![dup2(verdict).with(0, from).with(1, to)],
        Step::DupCloexec { from, to } => {
            let flags = libc::O_CLOEXEC;
            vec![verdict(libc::SYS_dup3).with(0, from).with(1, to).with(2, flags)]
        }
        Step::ClearCloexec { fd } => vec![set_flag().with(0, fd).with(2, 0)],
        Step::SetCloexec { fd } => vec![set_flag().with(0, fd).with(2, 1)],
        // The parent closes its own under the same number.
        Step::Close { fd } => {
            verdict(libc::SYS_close).with(0, fd).by_this_program().into_iter().collect()
        }
        Step::OpenFile { flags, to, .. } => {
            // The parent's are CLOEXEC.
            let mut rules = vec![verdict(libc::SYS_openat).with(2, flags | libc::O_NOCTTY)];
            // The copy of the file, and not that of the placeholder.
            let copy = dup2(verdict).with(1, to);
            rules.extend(target.placeholder.map(|from| copy.without(0, from)));
            rules.extend(any_close(target, verdict));
            rules
        }
        _ => Vec::new(),
    }
}

fn of_signals_and_exec(target: &Target, verdict: Verdict<'_>) -> Vec<Rule> {
    let execve = || match target.path {
        Some(path) => verdict(libc::SYS_execve).with(0, path),
        None => verdict(libc::SYS_execve),
    };
    match target.step {
        // One sets, the other asks first.
        Step::DefaultSignal { signal } | Step::IgnoreSignal { signal } => {
            vec![verdict(libc::SYS_rt_sigaction).with(0, signal).having(1, -1)]
        }
        Step::ClearHandlers => vec![
            verdict(libc::SYS_rt_sigaction).with(0, 1).with(1, 0),
            // Rust's runtime has a handler of this one, and no step is about it.
            verdict(libc::SYS_rt_sigaction).with(0, libc::SIGSEGV).having(1, -1),
        ],
        // The masks that the parent sets are on its own stack.
        Step::SignalMask { .. } => {
            let mask = verdict(libc::SYS_rt_sigprocmask).with(0, libc::SIG_SETMASK);
            vec![mask.unless_on_this_stack(1)]
        }
        Step::Exec { .. } | Step::ExecShell { .. } => vec![execve()],
        Step::ExecFd { .. } => vec![verdict(libc::SYS_execveat)],
        _ => Vec::new(),
    }
}

fn of_setup(target: &Target, verdict: Verdict<'_>) -> Vec<Rule> {
    let prctl = |option| verdict(libc::SYS_prctl).with(0, option);
    let ioctl =
        |fd, request: libc::Ioctl| verdict(libc::SYS_ioctl).with(0, fd).with(1, request as i32);
    vec![match target.step {
        Step::Chdir { .. } => verdict(libc::SYS_chdir),
        Step::Fchdir { fd } => verdict(libc::SYS_fchdir).with(0, fd),
        Step::Chroot { .. } => verdict(libc::SYS_chroot),
        Step::Umask { .. } => verdict(libc::SYS_umask),
        Step::SetGroups { .. } => verdict(libc::SYS_setgroups),
        Step::SetGid { gid } => verdict(libc::SYS_setresgid).with(2, gid as i32),
        Step::SetUid { uid } => verdict(libc::SYS_setresuid).with(2, uid as i32),
        Step::KeepCaps => prctl(libc::PR_SET_KEEPCAPS),
        Step::SecureBits { .. } => prctl(libc::PR_SET_SECUREBITS),
        Step::LimitBoundingSet { .. } => {
            return vec![prctl(libc::PR_CAPBSET_READ), prctl(libc::PR_CAPBSET_DROP)];
        }
        Step::SetCapabilities { .. } => verdict(libc::SYS_capset),
        Step::RaiseAmbient { .. } => prctl(libc::PR_CAP_AMBIENT),
        Step::NoNewPrivs => prctl(libc::PR_SET_NO_NEW_PRIVS),
        Step::ParentDeathSignal { .. } => prctl(libc::PR_SET_PDEATHSIG),
        Step::SetSid => verdict(libc::SYS_setsid),
        // The parent asks for another process, and the largest group.
        Step::SetPgid { pgid } => verdict(libc::SYS_setpgid).with(0, 0).with(1, pgid),
        Step::ControllingTerminal { fd } => ioctl(fd, libc::TIOCSCTTY),
        Step::Foreground { fd } => {
            return vec![verdict(libc::SYS_getpgid), ioctl(fd, libc::TIOCSPGRP)];
        }
        Step::CheckParent { .. } => verdict(libc::SYS_getppid),
        // The parent asks for its own.
        Step::WritePid { .. } => {
            return verdict(libc::SYS_getpid).by_this_program().into_iter().collect();
        }
        Step::SetLimit { resource, .. } => {
            verdict(libc::SYS_prlimit64).with(1, resource).having(2, -1)
        }
        Step::SetNice { .. } => verdict(libc::SYS_setpriority),
        Step::SetScheduler { .. } => verdict(libc::SYS_sched_setscheduler),
        Step::SetAffinity { .. } => verdict(libc::SYS_sched_setaffinity),
        Step::SetIoPriority { .. } => verdict(libc::SYS_ioprio_set),
        Step::WriteFile { .. } => {
            // The parent opens for reading, and writes nothing here.
            let flags = libc::O_WRONLY | libc::O_CLOEXEC;
            let mut rules = vec![verdict(libc::SYS_openat).with(2, flags)];
            rules.push(verdict(libc::SYS_write));
            rules.extend(any_close(target, verdict));
            return rules;
        }
        _ => return Vec::new(),
    }]
}

fn of_isolation(target: &Target, verdict: Verdict<'_>) -> Vec<Rule> {
    const PRIVATE: libc::c_ulong = libc::MS_REC | libc::MS_PRIVATE;
    const BIND: libc::c_ulong = libc::MS_BIND | libc::MS_REC;
    match target.step {
        Step::AwaitParent { fd } => vec![verdict(libc::SYS_read).with(0, fd)],
        Step::SetNs { fd, .. } => vec![verdict(libc::SYS_setns).with(0, fd)],
        Step::PrivateMounts => vec![verdict(libc::SYS_mount).with(3, PRIVATE as i32)],
        Step::PivotRoot { .. } => {
            let chdir = || verdict(libc::SYS_chdir);
            let path = target.path.unwrap_or(0);
            vec![
                verdict(libc::SYS_mount).with(3, BIND as i32),
                chdir().with(0, path),
                verdict(libc::SYS_pivot_root),
                verdict(libc::SYS_umount2),
                chdir().without(0, path),
            ]
        }
        Step::Landlock { .. } => vec![verdict(libc::SYS_landlock_restrict_self)],
        Step::Seccomp { .. } => vec![verdict(libc::SYS_seccomp)],
        _ => Vec::new(),
    }
}
