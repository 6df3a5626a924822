//! What a failed call concerned, in a form that outlives its plan.

extern crate std;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::string::String;
use std::vec::Vec;

use super::Prepared;
use super::error::Cause;
use crate::channel::ChannelInfo;
use crate::command::{Capabilities, IoPriority, Namespaces, Resource, Scheduler};
use crate::plan::{Bytes, Step, Strings, Text};
use crate::signal::Signal;
use crate::sys::Errno;

/// What the step or call that failed concerned: [`SpawnError::subject`].
///
/// It owns what it names, so it needs neither plan nor command. Numbers of fds
/// are those of the child's own table, which starts as a copy of the parent's.
///
/// ```
/// use forkplan::{Command, Resource, Subject};
///
/// let subject = |command: &Command<'_>| command.spawn().unwrap_err().subject().clone();
///
/// let path = "/nowhere/program".into();
/// assert_eq!(subject(&Command::new("/nowhere/program")), Subject::Candidate { index: 0, path });
///
/// let mut command = Command::new("sort");
/// match subject(command.current_dir("/nowhere")) {
///     Subject::Path(path) => assert_eq!(path.to_str(), Some("/nowhere")),
///     Subject::Search { program, .. } => panic!("install {program:?}"),
///     other => panic!("{other:?}"),
/// }
///
/// // More open files than the kernel has for any process.
/// let most = 1 << 40;
/// let mut command = Command::new("sort");
/// assert_eq!(
///     subject(command.rlimit(Resource::NOFILE, most, most)),
///     Subject::Limit { resource: Resource::NOFILE, soft: most, hard: most },
/// );
/// ```
///
/// [`SpawnError::subject`]: crate::SpawnError::subject
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// Nothing besides the call itself: `setsid`, the hook, a pipe of the
    /// spawn's own. Also of an error of the request, whose
    /// [`plan_error`](crate::SpawnError::plan_error) has its own fields.
    Nothing,
    /// A file or directory: of `chdir`, `chroot`, `pivot_root`, the mount point
    /// of `mount`, what is written in `/proc`, a channel's file or named
    /// pipe.
    Path(PathBuf),
    /// A path at which the program was tried.
    Candidate {
        /// Its place in the search, from 0. A program with a `/` in its name
        /// has this one alone.
        index: usize,
        /// The path.
        path: PathBuf,
    },
    /// A program that is in none of the directories of `PATH`.
    Search {
        /// Its name.
        program: OsString,
        /// Where it was tried, in that order.
        candidates: Vec<PathBuf>,
    },
    /// The shell that was tried with a script without `#!`.
    Shell {
        /// The shell.
        shell: PathBuf,
        /// The script.
        script: PathBuf,
    },
    /// An fd: of `fcntl`, `fchdir`, a terminal, a ruleset, a program, or one
    /// that was to be passed on and is closed.
    Fd(i32),
    /// A copy of an fd: `dup2`, `dup3`.
    Move {
        /// The fd to copy.
        from: i32,
        /// The number of the copy.
        to: i32,
    },
    /// All fds in a range, which were to be closed.
    Range {
        /// The lowest.
        first: i32,
        /// The highest; `None` for all above.
        last: Option<i32>,
    },
    /// A channel whose ends the parent makes.
    Channel {
        /// Its name, if it has one.
        name: Option<String>,
        /// The child fds that it is mapped on.
        fds: Vec<i32>,
    },
    /// A user id.
    User(u32),
    /// A group id.
    Group(u32),
    /// The supplementary groups.
    Groups(Vec<u32>),
    /// A process group; 0 for the child's own.
    ProcessGroup(i32),
    /// A process: the parent that is no longer there.
    Process(i32),
    /// A resource limit.
    Limit {
        /// The resource.
        resource: Resource,
        /// The soft limit.
        soft: u64,
        /// The hard limit.
        hard: u64,
    },
    /// A scheduling policy.
    Scheduler(Scheduler),
    /// An I/O priority.
    IoPriority(IoPriority),
    /// CPUs, in ascending order.
    Cpus(Vec<usize>),
    /// The number to set: umask, nice value, securebits; or how many
    /// instructions a filter has.
    Number(i64),
    /// A signal.
    Signal(Signal),
    /// The signals of a mask, in ascending order.
    Signals(Vec<Signal>),
    /// Capabilities: to be had, or the only ones to stay.
    Capabilities(Capabilities),
    /// A namespace to be joined.
    Namespace {
        /// Its fd, or a pidfd.
        fd: i32,
        /// Its kind, or the kinds; empty where none was said.
        kind: Namespaces,
    },
    /// The child itself, which could not be made.
    Clone {
        /// The new namespaces that it was to be in.
        namespaces: Namespaces,
        /// The fd of the cgroup that it was to be in.
        cgroup: Option<i32>,
    },
    /// An environment variable that was to hold the child's pid.
    Variable(OsString),
}

impl Subject {
    pub(super) fn of_channel(info: &ChannelInfo) -> Self {
        Self::Channel { name: info.name.as_deref().map(String::from), fds: info.fds.to_vec() }
    }

    /// Of the step's own arguments. `None`: what exec concerned depends on the
    /// steps around it too, and the variables are not among the plan's strings.
    fn of_step(step: Step, strings: Strings<'_>) -> Option<Self> {
        let path = |text| Self::Path(path(strings, text));
        Some(match step {
            Step::Unshare { first } | Step::MarkListed { first } => {
                Self::Range { first, last: None }
            }
            Step::MarkRange { first, last } => Self::Range { first, last },
            Step::MarkEach { first, below } => Self::Range { first, last: Some(below - 1) },
            Step::Dup2 { from, to } | Step::DupCloexec { from, to } => Self::Move { from, to },
            Step::ClearCloexec { fd }
            | Step::SetCloexec { fd }
            | Step::Fchdir { fd }
            | Step::ControllingTerminal { fd }
            | Step::Foreground { fd }
            | Step::Landlock { fd }
            | Step::Close { fd }
            | Step::AwaitParent { fd }
            | Step::ExecFd { fd } => Self::Fd(fd),
            Step::Chdir { path: text }
            | Step::Chroot { path: text }
            | Step::PivotRoot { path: text }
            | Step::WriteFile { path: text, .. }
            | Step::OpenFile { path: text, .. } => path(text),
            Step::PrivateMounts => Self::Path("/".into()),
            Step::Umask { mode } => Self::Number(mode.into()),
            Step::SetNice { nice } => Self::Number(nice.into()),
            Step::SecureBits { bits } => Self::Number(bits.into()),
            Step::Seccomp { filter } => Self::Number((filter.len / 8).into()),
            Step::SetGroups { ids } => Self::Groups(words(strings, ids, u32::from_ne_bytes)),
            Step::SetGid { gid } => Self::Group(gid),
            Step::SetUid { uid } => Self::User(uid),
            Step::LimitBoundingSet { keep: set }
            | Step::SetCapabilities { capabilities: set, .. }
            | Step::RaiseAmbient { capabilities: set } => {
                Self::Capabilities(Capabilities::from_bits_retain(set))
            }
            Step::SetPgid { pgid } => Self::ProcessGroup(pgid),
            Step::CheckParent { pid } => Self::Process(pid),
            Step::SetLimit { resource, limits } => {
                let limits = words(strings, limits, u64::from_ne_bytes);
                let [soft, hard] = limits.try_into().unwrap_or_default();
                Self::Limit { resource: Resource::from_number(resource), soft, hard }
            }
            Step::SetScheduler { policy, priority } => {
                Self::Scheduler(Scheduler::from_numbers(policy, priority))
            }
            Step::SetIoPriority { priority } => Self::IoPriority(IoPriority::from_number(priority)),
            Step::SetAffinity { mask } => Self::Cpus(bits(strings.bytes(mask))),
            Step::ParentDeathSignal { signal }
            | Step::DefaultSignal { signal }
            | Step::IgnoreSignal { signal } => Self::Signal(signal.into()),
            Step::SignalMask { mask } => {
                let signals = (1..=64).filter(|signal| mask >> (signal - 1) & 1 == 1);
                Self::Signals(signals.map(Signal::from).collect())
            }
            Step::SetNs { fd, kind } => {
                Self::Namespace { fd, kind: Namespaces::from_bits_retain(kind) }
            }
            Step::KeepCaps | Step::NoNewPrivs | Step::SetSid | Step::Hook | Step::ClearHandlers => {
                Self::Nothing
            }
            Step::Exec { .. } | Step::ExecShell { .. } | Step::WritePid { .. } => return None,
        })
    }
}

impl Prepared<'_> {
    /// What the step at `index` concerned.
    pub(super) fn subject(&self, index: usize, step: Step, cause: Cause) -> Subject {
        let strings = self.texts();
        if let Some(subject) = Subject::of_step(step, strings) {
            return subject;
        }
        let mut candidates: Vec<PathBuf> =
            self.candidates().map(|text| path(strings, text)).collect();
        let before = self.scratch.steps.iter().take(index);
        let place = before.filter(|step| matches!(step, Step::Exec { .. })).count();
        match step {
            Step::Exec { path: text } if self.is_nowhere(step, cause) => {
                Subject::Search { program: name(strings.get(text)).into(), candidates }
            }
            Step::Exec { path: text } => {
                Subject::Candidate { index: place, path: path(strings, text) }
            }
            Step::ExecShell { shell, argv } if (argv as usize) < candidates.len() => {
                let script = candidates.swap_remove(argv as usize);
                Subject::Shell { shell: path(strings, shell), script }
            }
            Step::WritePid { slot } => match self.strings.pid_key(slot as usize) {
                Some(key) => Subject::Variable(OsStr::from_bytes(key).into()),
                None => Subject::Nothing,
            },
            _ => Subject::Nothing,
        }
    }

    /// The paths at which the program is tried.
    pub(super) fn candidates(&self) -> impl Iterator<Item = Text> {
        self.scratch.steps.iter().filter_map(|step| match step {
            Step::Exec { path } => Some(*path),
            _ => None,
        })
    }

    /// Whether the program was looked for in several places and is in none. No
    /// candidate is more to blame than another then.
    pub(super) fn is_nowhere(&self, step: Step, cause: Cause) -> bool {
        let missing = [Errno::NOENT, Errno::NOTDIR].map(|e| Cause::Errno(e.raw_os_error()));
        matches!(step, Step::Exec { .. })
            && missing.contains(&cause)
            && self.candidates().nth(1).is_some()
    }
}

/// The program's name follows the last slash of each candidate of a search.
pub(super) fn name(candidate: &[u8]) -> &OsStr {
    OsStr::from_bytes(candidate.rsplit(|&byte| byte == b'/').next().unwrap_or(candidate))
}

fn path(strings: Strings<'_>, text: Text) -> PathBuf {
    OsStr::from_bytes(strings.get(text)).into()
}

fn words<const N: usize, T>(
    strings: Strings<'_>,
    bytes: Bytes,
    word: impl Fn([u8; N]) -> T,
) -> Vec<T> {
    let chunks = strings.bytes(bytes).chunks_exact(N);
    chunks.filter_map(|chunk| chunk.try_into().ok().map(&word)).collect()
}

/// The numbers of the bits that are set in a mask of whole words.
fn bits(mask: &[u8]) -> Vec<usize> {
    let words = mask.chunks_exact(size_of::<usize>()).filter_map(|word| word.try_into().ok());
    let words: Vec<usize> = words.map(usize::from_ne_bytes).collect();
    let width = usize::BITS as usize;
    let is_set = |bit: &usize| words[bit / width] >> (bit % width) & 1 == 1;
    (0..words.len() * width).filter(is_set).collect()
}

static_assertions::assert_impl_all!(Subject: Send, Sync);
