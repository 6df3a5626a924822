//! What the kernel has, as bits.

use bitflags::bitflags;

/// Whether the compiler has put calls of a sanitizer into the code that the child
/// runs.
pub(crate) const CHILD_IS_INSTRUMENTED: bool = cfg!(sanitized);

bitflags! {
    /// What a kernel offers for spawning, and what a command is to use of it.
    ///
    /// Asked for once per process, by [`Features::of_this_kernel`]. Everything
    /// has a fallback; [`Command::without`](crate::Command::without) chooses it
    /// on a kernel that would not need it, and
    /// [`Command::require`](crate::Command::require) makes the lack of a
    /// feature an error in place of a fallback.
    ///
    /// ```
    /// use forkplan::{Command, Features};
    ///
    /// // The fork path, where ids or an emulator would choose it anyhow.
    /// let mut child = Command::new("true").without(Features::SHARED_MEMORY).spawn()?;
    /// assert!(child.wait()?.success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Features: u32 {
        /// `CLONE_VM | CLONE_VFORK` do what they say: the fast path. Emulators
        /// that fork instead (user-mode qemu, valgrind) do not have it. Without
        /// it: a child with a copy of the memory, and a pipe that tells when it
        /// reached exec.
        const SHARED_MEMORY = 1 << 0;
        /// `CLONE_FILES` and then `close_range` with `CLOSE_RANGE_UNSHARE`
        /// (Linux 5.9), on the fast path alone: the cost does not grow with the
        /// parent's open fds. Without it: the child starts with a copy of the
        /// whole table.
        const SHARED_FILES = 1 << 1;
        /// `clone3` with `CLONE_CLEAR_SIGHAND` (Linux 5.5). Without it: `clone`,
        /// and the child asks for each signal's handler.
        const CLONE3 = 1 << 2;
        /// `CLONE_PIDFD` and `waitid` on it (Linux 5.4). Without it: the pid,
        /// and ticks in place of sleeps where a wait has a deadline.
        const PIDFD = 1 << 3;
        /// `close_range` with `CLOSE_RANGE_CLOEXEC` (Linux 5.11). Without it:
        /// `/proc/self/fd`.
        const CLOSE_RANGE = 1 << 4;
        /// `/proc/self/fd`. Without it: one `fcntl` for each number below the
        /// hard limit of `RLIMIT_NOFILE`, up to 1,048,576.
        const PROC_FD = 1 << 5;
    }
}

impl Features {
    /// Without what makes no sense alone: fds are shared only where the parent
    /// waits, since it closes the child's ends right after the clone, and only
    /// where what is below the sources can be marked.
    pub(crate) fn consistent(self) -> Self {
        match self.contains(Self::SHARED_MEMORY | Self::CLOSE_RANGE) {
            true => self,
            false => self - Self::SHARED_FILES,
        }
    }
}
