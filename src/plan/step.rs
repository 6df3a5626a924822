//! One step of the child: a syscall and its arguments, nothing more.

use static_assertions::{assert_impl_all, assert_not_impl_any, const_assert};

/// A string of the plan: where it starts in the plan's text.
///
/// The text is one block of NUL-terminated strings. An offset in place of a
/// pointer keeps a step plain data, which may be copied with its text to
/// another address. [`Plan::text`](super::Plan::text) reads it:
///
/// ```
/// use forkplan::{Command, plan::Step};
///
/// let mut prepared = Command::new("/bin/true").prepare()?;
/// let opened = prepared.open()?;
/// let plan = opened.plan();
/// let Some(&Step::Exec { path }) = plan.steps().last() else { panic!("{plan}") };
/// assert_eq!(plan.text(path), b"/bin/true");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Text(pub(crate) u32);

/// Bytes of the plan that are no string: a list of groups, a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bytes {
    pub(crate) at: u32,
    pub(crate) len: u32,
}

/// One syscall that the child makes between fork and exec.
///
/// Steps are plain `Copy` data: the child reads them and can't be made to do
/// anything else. Numbers of fds are those of the child's own table, which
/// starts as a copy of the parent's.
///
/// ```
/// use forkplan::plan::{FdMap, Step};
///
/// let mut map = FdMap::<4>::new();
/// map.map(1, 7)?;
/// let plan = map.solve()?;
/// assert_eq!(plan.moves(), [Step::Dup2 { from: 7, to: 1 }]);
/// # Ok::<(), forkplan::plan::FdMapError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// `close_range(first, ~0, CLOSE_RANGE_UNSHARE)`: gives the child an fd
    /// table of its own, without the fds from `first` on. The first step where
    /// the child was cloned with `CLONE_FILES` (Linux 5.9).
    Unshare {
        /// The lowest fd that the child's own table does not get.
        first: i32,
    },
    /// `close_range(first, last, CLOSE_RANGE_CLOEXEC)`: marks, so that exec
    /// closes (Linux 5.11). `last` is `None` for "and all above".
    MarkRange {
        /// The lowest fd to mark.
        first: i32,
        /// The highest one.
        last: Option<i32>,
    },
    /// Marks every fd from `first` on that `/proc/self/fd` lists: the way
    /// without `close_range`.
    MarkListed {
        /// The lowest fd to mark.
        first: i32,
    },
    /// Marks `first..below`, one `fcntl` each: the way without `/proc`.
    MarkEach {
        /// The lowest fd to mark.
        first: i32,
        /// One more than the highest.
        below: i32,
    },
    /// `dup2(from, to)`: `to` becomes a copy that survives exec. `from` and
    /// `to` always differ.
    Dup2 {
        /// The fd to copy.
        from: i32,
        /// The number of the copy.
        to: i32,
    },
    /// `dup3(from, to, O_CLOEXEC)`: a copy that exec closes, out of the way of
    /// the map. `from` and `to` always differ.
    DupCloexec {
        /// The fd to copy.
        from: i32,
        /// The number of the copy.
        to: i32,
    },
    /// `fcntl(fd, F_SETFD, 0)`: an fd that stays where it is survives exec.
    ClearCloexec {
        /// The fd.
        fd: i32,
    },
    /// `fcntl(fd, F_SETFD, FD_CLOEXEC)`: an fd that a later step needs does
    /// not.
    SetCloexec {
        /// The fd.
        fd: i32,
    },
    /// `chdir(path)`.
    Chdir {
        /// The directory.
        path: Text,
    },
    /// `fchdir(fd)`.
    Fchdir {
        /// The directory, under the parent's number.
        fd: i32,
    },
    /// `chroot(path)`. Does not change the directory.
    Chroot {
        /// The new root.
        path: Text,
    },
    /// `umask(mode)`.
    Umask {
        /// The bits that files are made without.
        mode: u32,
    },
    /// `setgroups(ids)`.
    SetGroups {
        /// The supplementary groups, 32 bits each.
        ids: Bytes,
    },
    /// `setresgid(gid, gid, gid)`.
    SetGid {
        /// The real, effective and saved group.
        gid: u32,
    },
    /// `setresuid(uid, uid, uid)`.
    SetUid {
        /// The real, effective and saved user.
        uid: u32,
    },
    /// `prctl(PR_SET_KEEPCAPS, 1)`: a change of user leaves the permitted set.
    KeepCaps,
    /// `prctl(PR_SET_SECUREBITS, bits)`.
    SecureBits {
        /// `SECBIT_*`.
        bits: u32,
    },
    /// `prctl(PR_CAPBSET_DROP)` for each capability not in `keep`.
    LimitBoundingSet {
        /// A bit for each capability that stays.
        keep: u64,
    },
    /// `capset`: the effective, permitted and inheritable sets.
    SetCapabilities {
        /// A bit for each capability.
        capabilities: u64,
        /// Whether the effective and permitted sets have `CAP_SETPCAP` besides, for
        /// securebits that are set later. Exec takes it away: it is not inheritable.
        setpcap: bool,
    },
    /// `prctl(PR_CAP_AMBIENT_RAISE)` for each.
    RaiseAmbient {
        /// A bit for each capability.
        capabilities: u64,
    },
    /// `prctl(PR_SET_NO_NEW_PRIVS, 1)`.
    NoNewPrivs,
    /// `setsid()`.
    SetSid,
    /// `setpgid(0, pgid)`.
    SetPgid {
        /// The group to join; 0 for a new one.
        pgid: i32,
    },
    /// `ioctl(fd, TIOCSCTTY, 0)`.
    ControllingTerminal {
        /// The terminal, under the parent's number.
        fd: i32,
    },
    /// `tcsetpgrp(fd, getpgrp())`.
    Foreground {
        /// The terminal, under the parent's number.
        fd: i32,
    },
    /// `prctl(PR_SET_PDEATHSIG, signal)`.
    ParentDeathSignal {
        /// The signal's number.
        signal: i32,
    },
    /// `getppid()`, which is `ESRCH` here if it is not `pid`: the parent ended
    /// before its death could be a signal. One in another pid namespace, which is
    /// 0, is not seen and passes.
    CheckParent {
        /// The parent.
        pid: i32,
    },
    /// `prlimit(0, resource, limits)`.
    SetLimit {
        /// `RLIMIT_*`.
        resource: i32,
        /// Soft and hard, 64 bits each.
        limits: Bytes,
    },
    /// `setpriority(PRIO_PROCESS, 0, nice)`.
    SetNice {
        /// −20 to 19.
        nice: i32,
    },
    /// `sched_setscheduler(0, policy, priority)`.
    SetScheduler {
        /// `SCHED_*`.
        policy: i32,
        /// Of the real-time policies; 0 for the others.
        priority: i32,
    },
    /// `sched_setaffinity(0, mask)`.
    SetAffinity {
        /// A bit for each CPU.
        mask: Bytes,
    },
    /// `ioprio_set(IOPRIO_WHO_PROCESS, 0, priority)`.
    SetIoPriority {
        /// Class and level.
        priority: i32,
    },
    /// Opens a file of `/proc`, writes a number, closes it.
    WriteFile {
        /// The file.
        path: Text,
        /// The number, in digits.
        contents: Bytes,
    },
    /// `setns(fd, kind)`.
    SetNs {
        /// The namespace, under the parent's number.
        fd: i32,
        /// `CLONE_NEW*`, or 0 for any.
        kind: u32,
    },
    /// `mount("/", MS_REC | MS_PRIVATE)`.
    PrivateMounts,
    /// `pivot_root` to a directory, and the old root unmounted.
    PivotRoot {
        /// The new root.
        path: Text,
    },
    /// `openat(path, flags, 0666)`, and `dup2` and `close` if that is not `to`. A
    /// placeholder holds the number until then.
    OpenFile {
        /// The file.
        path: Text,
        /// `O_*`.
        flags: i32,
        /// Where it is in the child.
        to: i32,
    },
    /// `landlock_restrict_self(fd)`.
    Landlock {
        /// The ruleset, under the parent's number.
        fd: i32,
    },
    /// `seccomp(SECCOMP_SET_MODE_FILTER)`.
    Seccomp {
        /// The instructions, eight bytes each.
        filter: Bytes,
    },
    /// `close(fd)`: our copy of an end that the parent alone shall have.
    Close {
        /// The fd, under the parent's number.
        fd: i32,
    },
    /// `read(fd)`: waits until the parent has written the id maps.
    AwaitParent {
        /// A pipe, under the parent's number.
        fd: i32,
    },
    /// `getpid()`, written into an environment string.
    WritePid {
        /// Which of the strings that hold the pid.
        slot: u32,
    },
    /// Calls the user's hook.
    Hook,
    /// `sigaction(signal, SIG_DFL)`.
    DefaultSignal {
        /// The signal's number.
        signal: i32,
    },
    /// `sigaction(signal, SIG_IGN)`.
    IgnoreSignal {
        /// The signal's number.
        signal: i32,
    },
    /// Gives every signal that has a handler its default action, one
    /// `sigaction` to ask and perhaps one to set: the way without
    /// `CLONE_CLEAR_SIGHAND`.
    ClearHandlers,
    /// `sigprocmask(SIG_SETMASK, mask)`: the last act before exec. Bit *n* − 1
    /// stands for signal *n*.
    SignalMask {
        /// The signals that stay blocked.
        mask: u64,
    },
    /// `execve(path, argv, envp)`. Where several of these follow one another
    /// they are the candidates of a search: `ENOENT` and `ENOTDIR` go on to the
    /// next, `EACCES` too but is remembered.
    Exec {
        /// The program's path.
        path: Text,
    },
    /// `execveat(fd, "", argv, envp, AT_EMPTY_PATH)`.
    ExecFd {
        /// The program, where the fd map has put it.
        fd: i32,
    },
    /// `execve(shell, [shell, path, ...], envp)`, if the candidate before was
    /// `ENOEXEC`: a script without `#!`.
    ExecShell {
        /// The shell.
        shell: Text,
        /// Which of the argument lists for shells.
        argv: u32,
    },
}

impl Step {
    /// Whether the program is reached when this step works.
    pub(crate) fn is_exec(self) -> bool {
        matches!(self, Self::Exec { .. } | Self::ExecFd { .. } | Self::ExecShell { .. })
    }
}

assert_impl_all!(Step: Copy, Send, Sync);
assert_not_impl_any!(Step: Drop);
const_assert!(size_of::<Step>() <= 16);
const_assert!(!core::mem::needs_drop::<Step>());
