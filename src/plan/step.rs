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
    /// `sigaction(signal, SIG_DFL)`.
    DefaultSignal {
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
}

assert_impl_all!(Step: Copy, Send, Sync);
assert_not_impl_any!(Step: Drop);
const_assert!(size_of::<Step>() <= 16);
const_assert!(!core::mem::needs_drop::<Step>());
