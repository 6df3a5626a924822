//! What the child sets up before its program, as asked for.

extern crate std;

use core::ffi::c_void;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::string::String;
use std::vec::Vec;

use super::kinds::{
    Capabilities, FilterInstruction, IdRange, IoPriority, Namespaces, Resource, Scheduler,
};
use super::{Command, Value};
use crate::channel::{Channel, PassedFd};
use crate::signal::Signal;
use crate::sys::HookFunction;
use crate::sys::hook::Hook;

/// Everything but fds, environment and program. What is `None` or empty is left
/// as the parent has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup<'fd> {
    pub(crate) directories: Vec<Directory<'fd>>,
    pub(crate) umask: Option<u32>,
    pub(crate) user: Option<OsString>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) groups: Option<Groups>,
    pub(crate) bounding: Option<Capabilities>,
    pub(crate) ambient: Option<Capabilities>,
    pub(crate) secure_bits: Option<u32>,
    pub(crate) no_new_privs: bool,
    pub(crate) setsid: bool,
    pub(crate) process_group: Option<i32>,
    pub(crate) controlling_terminal: Option<PassedFd<'fd>>,
    pub(crate) foreground: Option<PassedFd<'fd>>,
    pub(crate) parent_death: Option<Signal>,
    pub(crate) limits: Vec<(Resource, u64, u64)>,
    pub(crate) nice: Option<i32>,
    pub(crate) scheduler: Option<Scheduler>,
    pub(crate) affinity: Option<Vec<usize>>,
    pub(crate) io_priority: Option<IoPriority>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) coredump_filter: Option<u32>,
    pub(crate) default_signals: Vec<Signal>,
    pub(crate) ignored_signals: Vec<Signal>,
    pub(crate) namespaces: Option<Namespaces>,
    pub(crate) joined: Vec<(PassedFd<'fd>, Namespaces)>,
    pub(crate) uid_map: Vec<IdRange>,
    pub(crate) gid_map: Vec<IdRange>,
    pub(crate) cgroup: Option<PassedFd<'fd>>,
    pub(crate) private_mounts: bool,
    pub(crate) pivot_root: Option<PathBuf>,
    pub(crate) landlock: Option<PassedFd<'fd>>,
    pub(crate) seccomp: Option<Vec<FilterInstruction>>,
    pub(crate) program_fd: Option<PassedFd<'fd>>,
    pub(crate) shell: Option<PathBuf>,
    pub(crate) socket_names: Vec<String>,
    pub(crate) hook: Option<Hook>,
}

/// One change of directory or root, in the user's order.
#[derive(Clone, Debug)]
pub(crate) enum Directory<'fd> {
    Chdir(PathBuf),
    Fchdir(PassedFd<'fd>),
    Chroot(PathBuf),
}

#[derive(Clone, Debug)]
pub(crate) enum Groups {
    /// As the parent has them, said explicitly.
    Keep,
    These(Vec<u32>),
    /// Those of a user, and the gid.
    OfUser(OsString),
}

/// # Setting up the child
///
/// Steps between fork and exec. In what order they are taken does not depend on
/// the order of these calls, except for directories and namespaces, and the
/// printed plan shows it: id maps, what is written to `/proc`, namespaces,
/// mounts, session and terminal, directories, the fd map, limits, capabilities
/// and ids, the parent's death, no new privileges, Landlock, signals, the hook,
/// the filter, the mask, exec.
impl<'fd> Command<'fd> {
    /// Changes the directory, after the changes of directory and root asked for
    /// so far. [`current_dir`](Self::current_dir) is one more, the last.
    pub fn chdir(&mut self, dir: impl AsRef<Path>) -> &mut Self {
        self.setup.directories.push(Directory::Chdir(dir.as_ref().into()));
        self
    }

    /// Changes to an open directory, in its turn as [`chdir`](Self::chdir).
    /// `fchdir(2)`.
    pub fn fchdir(&mut self, dir: impl Into<PassedFd<'fd>>) -> &mut Self {
        self.setup.directories.push(Directory::Fchdir(dir.into()));
        self
    }

    /// Changes the root directory, in its turn as [`chdir`](Self::chdir). The
    /// working directory stays where it was, outside: follow it with
    /// `chdir("/")`. Needs `CAP_SYS_CHROOT`.
    pub fn chroot(&mut self, dir: impl AsRef<Path>) -> &mut Self {
        self.setup.directories.push(Directory::Chroot(dir.as_ref().into()));
        self
    }

    /// The permission bits that files are made without.
    pub fn umask(&mut self, mode: u32) -> &mut Self {
        self.setup.umask = Some(mode);
        self
    }

    /// The real, effective and saved user. Something has to be said of the
    /// groups too: [`groups`](Self::groups), [`init_groups`](Self::init_groups)
    /// or [`keep_groups`](Self::keep_groups). Never on shared memory: the child
    /// is forked.
    pub fn uid(&mut self, uid: u32) -> &mut Self {
        self.setup.uid = Some(uid);
        self
    }

    /// The real, effective and saved group.
    pub fn gid(&mut self, gid: u32) -> &mut Self {
        self.setup.gid = Some(gid);
        self
    }

    /// The supplementary groups: these and no others. An empty list is one.
    pub fn groups(&mut self, groups: impl IntoIterator<Item = u32>) -> &mut Self {
        self.setup.groups = Some(Groups::These(groups.into_iter().collect()));
        self
    }

    /// The supplementary groups stay the parent's although the user changes.
    pub fn keep_groups(&mut self) -> &mut Self {
        self.setup.groups = Some(Groups::Keep);
        self
    }

    /// The supplementary groups of a user, as `initgroups(3)`; looked up when
    /// the command is prepared.
    pub fn init_groups(&mut self, user: impl AsRef<OsStr>) -> &mut Self {
        self.setup.groups = Some(Groups::OfUser(user.as_ref().into()));
        self
    }

    /// A user by name: uid, gid and supplementary groups, looked up when the
    /// command is prepared. [`uid`](Self::uid), [`gid`](Self::gid) and
    /// [`groups`](Self::groups) take precedence.
    pub fn user(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.setup.user = Some(name.as_ref().into());
        self
    }

    /// The most capabilities that the program can ever get. Linux; needs
    /// `CAP_SETPCAP`.
    pub fn bounding_set(&mut self, capabilities: Capabilities) -> &mut Self {
        self.setup.bounding = Some(capabilities);
        self
    }

    /// Capabilities that the program has, whoever it runs as. Linux 4.3. They
    /// are kept across the change of user, and the effective, permitted and
    /// inheritable sets become the same.
    pub fn ambient_capabilities(&mut self, capabilities: Capabilities) -> &mut Self {
        self.setup.ambient = Some(capabilities);
        self
    }

    /// The securebits flags, `SECBIT_*`: `capabilities(7)`. Linux; needs
    /// `CAP_SETPCAP`. They forbid nothing of what is asked for beside them: what they
    /// could forbid is done before.
    pub fn securebits(&mut self, bits: u32) -> &mut Self {
        self.setup.secure_bits = Some(bits);
        self
    }

    /// Neither the program nor what it runs gains privileges by exec. Linux 3.5.
    pub fn no_new_privs(&mut self) -> &mut Self {
        self.setup.no_new_privs = true;
        self
    }

    /// A new session, without a terminal, and with it a new process group.
    pub fn setsid(&mut self) -> &mut Self {
        self.setup.setsid = true;
        self
    }

    /// The process group: 0 for a new one whose number is the child's pid, else
    /// one of this session to join.
    pub fn process_group(&mut self, group: i32) -> &mut Self {
        self.setup.process_group = Some(group);
        self
    }

    /// Makes a terminal the controlling one of the child's new session; implies
    /// [`setsid`](Self::setsid). It must not be another session's. A new one for
    /// the child is a [`Pty`](crate::Pty), which needs no call of this.
    pub fn controlling_terminal(&mut self, terminal: impl Into<PassedFd<'fd>>) -> &mut Self {
        self.setup.controlling_terminal = Some(terminal.into());
        self.setup.setsid = true;
        self
    }

    /// Makes the child's process group the foreground one of a terminal, the
    /// controlling one of its session. No `SIGTTOU` stops it.
    pub fn foreground(&mut self, terminal: impl Into<PassedFd<'fd>>) -> &mut Self {
        self.setup.foreground = Some(terminal.into());
        self
    }

    /// The signal that the program gets when its parent ends. Linux.
    ///
    /// "Parent" is the *thread* that spawned: `prctl(2)`, `PR_SET_PDEATHSIG`. A
    /// thread of a pool that ends takes the program with it. If the parent ends
    /// before the step is taken, the spawn's child ends too. A program that
    /// gains privileges by exec loses it.
    pub fn parent_death_signal(&mut self, signal: impl Into<Signal>) -> &mut Self {
        self.setup.parent_death = Some(signal.into());
        self
    }

    /// A resource limit, soft and hard; [`UNLIMITED`](crate::UNLIMITED) for none.
    pub fn rlimit(&mut self, resource: Resource, soft: u64, hard: u64) -> &mut Self {
        self.setup.limits.push((resource, soft, hard));
        self
    }

    /// The nice value, from −20 to 19, whatever the parent's is.
    pub fn nice(&mut self, nice: i32) -> &mut Self {
        self.setup.nice = Some(nice);
        self
    }

    /// The scheduling policy. Linux.
    pub fn scheduler(&mut self, scheduler: Scheduler) -> &mut Self {
        self.setup.scheduler = Some(scheduler);
        self
    }

    /// The CPUs that the program may run on, by number. Linux.
    ///
    /// One that this machine can't have is an error when the command is prepared.
    /// The kernel passes over those that are offline or not in the child's cpuset;
    /// if that leaves none, the step fails with `EINVAL`.
    pub fn cpu_affinity(&mut self, cpus: impl IntoIterator<Item = usize>) -> &mut Self {
        self.setup.affinity = Some(cpus.into_iter().collect());
        self
    }

    /// The I/O priority. Linux.
    pub fn io_priority(&mut self, priority: IoPriority) -> &mut Self {
        self.setup.io_priority = Some(priority);
        self
    }

    /// How likely the program is to be killed for want of memory, from −1000
    /// (never) to 1000. Linux.
    pub fn oom_score_adj(&mut self, score: i32) -> &mut Self {
        self.setup.oom_score_adj = Some(score);
        self
    }

    /// Which memory a core dump has: `core(5)`. Linux.
    pub fn coredump_filter(&mut self, bits: u32) -> &mut Self {
        self.setup.coredump_filter = Some(bits);
        self
    }

    /// Signals that get their default action, besides those that the parent
    /// ignores.
    pub fn default_signals(&mut self, signals: impl IntoIterator<Item = Signal>) -> &mut Self {
        self.setup.default_signals.extend(signals);
        self
    }

    /// Signals that the program starts with ignored.
    pub fn ignore_signals(&mut self, signals: impl IntoIterator<Item = Signal>) -> &mut Self {
        self.setup.ignored_signals.extend(signals);
        self
    }

    /// New namespaces for the child, which it is cloned into. Linux. Adds to
    /// earlier calls. Without privileges: together with
    /// [`Namespaces::USER`].
    pub fn unshare(&mut self, namespaces: Namespaces) -> &mut Self {
        let before = self.setup.namespaces.unwrap_or(Namespaces::empty());
        self.setup.namespaces = Some(before | namespaces);
        self
    }

    /// Moves the child into a namespace: an fd of `/proc/PID/ns/*`, or a pidfd
    /// with the kinds wanted. `kind` empty: whichever the fd is. In the order of
    /// the calls. Linux.
    ///
    /// Not a PID namespace: `setns(2)` moves the children of who joins it, and the
    /// program would be outside. That is an error when the command is prepared. A
    /// program inside is to be had with [`unshare`](Self::unshare).
    pub fn join_namespace(
        &mut self,
        namespace: impl Into<PassedFd<'fd>>,
        kind: Namespaces,
    ) -> &mut Self {
        self.setup.joined.push((namespace.into(), kind));
        self
    }

    /// The user ids of the new user namespace. The parent writes them while the
    /// child waits, so who may: a privileged parent any, another one the single
    /// id that is its own.
    pub fn uid_map(&mut self, ranges: impl IntoIterator<Item = IdRange>) -> &mut Self {
        self.setup.uid_map = ranges.into_iter().collect();
        self
    }

    /// The group ids of the new user namespace, as [`uid_map`](Self::uid_map).
    /// Where the kernel wants it, `setgroups` is denied to the child for that.
    pub fn gid_map(&mut self, ranges: impl IntoIterator<Item = IdRange>) -> &mut Self {
        self.setup.gid_map = ranges.into_iter().collect();
        self
    }

    /// Starts the child in a cgroup: an open directory of the cgroup v2 tree.
    /// `CLONE_INTO_CGROUP`, Linux 5.7.
    pub fn cgroup(&mut self, directory: impl Into<PassedFd<'fd>>) -> &mut Self {
        self.setup.cgroup = Some(directory.into());
        self
    }

    /// Makes all mounts private to the child's namespace, so that what is
    /// mounted there is not seen elsewhere. For a new
    /// [`Namespaces::MOUNT`]; without one it would change the parent's.
    pub fn private_mounts(&mut self) -> &mut Self {
        self.setup.private_mounts = true;
        self
    }

    /// Makes a directory the root of the child's mount namespace and unmounts
    /// the old root. Wants a new [`Namespaces::MOUNT`] and
    /// [`private_mounts`](Self::private_mounts). `pivot_root(2)`.
    pub fn pivot_root(&mut self, root: impl AsRef<Path>) -> &mut Self {
        self.setup.pivot_root = Some(root.as_ref().into());
        self
    }

    /// Enforces a Landlock ruleset: `landlock(7)`, Linux 5.13. Without
    /// `CAP_SYS_ADMIN` it wants [`no_new_privs`](Self::no_new_privs).
    pub fn landlock(&mut self, ruleset: impl Into<PassedFd<'fd>>) -> &mut Self {
        self.setup.landlock = Some(ruleset.into());
        self
    }

    /// Installs a seccomp filter: `seccomp(2)`, Linux 3.17. Without
    /// `CAP_SYS_ADMIN` it wants [`no_new_privs`](Self::no_new_privs).
    ///
    /// It is installed last, so of the child's own calls it has to allow
    /// `rt_sigprocmask` and `execve` (or `execveat`), and `exit_group` for a
    /// child that fails.
    pub fn seccomp(&mut self, filter: impl IntoIterator<Item = FilterInstruction>) -> &mut Self {
        self.setup.seccomp = Some(filter.into_iter().collect());
        self
    }

    /// Runs the program that an fd is open on, whatever its path; the program
    /// given by name is only its `argv[0]` then. `execveat(2)`, Linux 3.19. A
    /// sealed memfd will do; a script will not, for its interpreter could not
    /// open it again: that is an error when the command is prepared. Not found out
    /// are a script that the parent may not read, and what an interpreter of
    /// `binfmt_misc` is for; the spawn fails with `ENOENT` then.
    pub fn program_fd(&mut self, program: impl Into<PassedFd<'fd>>) -> &mut Self {
        self.setup.program_fd = Some(program.into());
        self
    }

    /// Runs a file that is no program (`ENOEXEC`) as a script of `shell`, as
    /// `execvp` does with `/bin/sh`.
    pub fn shell_fallback(&mut self, shell: impl AsRef<Path>) -> &mut Self {
        self.setup.shell = Some(shell.as_ref().into());
        self
    }

    /// An environment variable whose value is the child's pid, which the child
    /// fills in after the fork. Of this, [`env`](Self::env) and
    /// [`env_remove`](Self::env_remove) of one key the last call counts.
    pub fn env_pid(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        self.env.changes.insert(key.as_ref().into(), Value::Pid);
        self
    }

    /// Hands on sockets as systemd does: fds from 3 on, with `LISTEN_FDS`,
    /// `LISTEN_FDNAMES` and `LISTEN_PID`. `sd_listen_fds(3)`. Called once, after
    /// [`env_clear`](Self::env_clear) if that is called.
    ///
    /// A name is as systemd has it: up to 255 printable characters of ASCII, but no
    /// `:`, which stands between them. It may be empty.
    pub fn listen_fds<'n, C: Into<Channel<'fd>>>(
        &mut self,
        sockets: impl IntoIterator<Item = (&'n str, C)>,
    ) -> &mut Self {
        let mut names = Vec::new();
        for ((name, socket), fd) in sockets.into_iter().zip(3..) {
            self.fd(fd, socket);
            names.push(name);
        }
        self.env("LISTEN_FDS", std::format!("{}", names.len()));
        self.env("LISTEN_FDNAMES", names.join(":"));
        self.setup.socket_names = names.into_iter().map(String::from).collect();
        self.env_pid("LISTEN_PID")
    }

    /// The last resort: a function of the user's that the child calls, after
    /// all else but the seccomp filter and the signal mask. It returns 0, or an
    /// errno that makes the spawn fail. Never on shared memory.
    ///
    /// On Linux (x86-64, aarch64) it has a stack of 64 KiB, of which some 4 are taken,
    /// and a child that needs more is killed by `SIGSEGV`. Elsewhere the stack is that
    /// of the thread that spawns.
    ///
    /// # Safety
    ///
    /// The function is called in a child forked from a program with perhaps many
    /// threads. It may do what is async-signal-safe (`signal-safety(7)`) and
    /// nothing else: no allocation, no lock, no panic, no thread-local. It must
    /// not touch fds that it did not open. It may be called with `argument` from
    /// whichever thread spawns, by several at once, as often as the command is
    /// spawned.
    pub unsafe fn pre_exec(&mut self, function: HookFunction, argument: *mut c_void) -> &mut Self {
        self.setup.hook = Some(Hook::new(function, argument));
        self
    }
}
