//! What the user asks for: owned strings and fds, nothing checked yet.

extern crate std;

use core::fmt;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::vec::Vec;

use crate::channel::{Channel, Name, OwnedName};
use crate::child::OnDrop;
use crate::signal::Signal;
use crate::sys::Features;

mod error;
mod kinds;
mod setup;

pub use self::error::PlanError;
pub use self::kinds::{
    Capabilities, FilterInstruction, IdRange, IoPriority, Namespaces, Resource, Scheduler,
    UNLIMITED,
};
pub(crate) use self::setup::{Directory, Groups, Setup};

/// A program to run and all that its process shall be.
///
/// The setters only note; what is wrong with it [`prepare`](Self::prepare)
/// says. `spawn` is `prepare` and one spawn; prepare once where the same is
/// spawned often.
///
/// # The child's fds
///
/// Each channel is mapped on one or several child fds, whatever their numbers;
/// 0, 1 and 2 are not special. What is not mapped is closed.
///
/// * Nothing said: `{0: WritePipe, 1: ReadPipe, 2: ReadPipe}`, as in Twisted.
///   (std inherits the three. So a program that writes much to a pipe nobody
///   reads does not end here: read, pump, or map something else.)
/// * [`fd`](Self::fd), [`channel`](Self::channel): the map is what was said and
///   no more.
/// * [`stdin`](Self::stdin), [`stdout`](Self::stdout), [`stderr`](Self::stderr):
///   those of the three that are not mapped otherwise have the pipes of the
///   first case.
///
/// # Environment
///
/// The parent's at the time of `prepare`, with the changes asked for. (Twisted
/// starts from an empty one. We follow std: programs expect `PATH`, `HOME` and
/// the locale, and whoever wants none says so with
/// [`env_clear`](Self::env_clear).)
///
/// `Debug` shows the names of variables that are set and not their values, unlike
/// std's: secrets are handed on so, and are not to be found in logs. The printed plan
/// shows how many there are. Arguments are shown by both; any process can see them.
///
/// # The program's path
///
/// A name with a `/` is taken as it stands, from the child's directory. Any
/// other is looked for in the child's `PATH`, or in `/bin:/usr/bin` if it has
/// none, in order: a candidate that is not there (`ENOENT`, `ENOTDIR`) or may
/// not be run (`EACCES`) makes way for the next, and if none runs, an `EACCES`
/// is what is reported. Elements of `PATH` that are not absolute are taken from
/// the child's directory; empty ones are passed over, and so are those that are
/// longer than any path (`PATH_MAX`). A script with `#!` is the kernel's to run; a
/// file that is no program (`ENOEXEC`) is an error, and no shell is tried.
///
/// # Signals
///
/// The child has no handler, an empty mask, and the default action for each
/// signal that the parent ignores, `SIGPIPE` above all, which Rust's runtime
/// ignores. See [`inherit_ignored_signals`](Self::inherit_ignored_signals) and
/// [`block_signals`](Self::block_signals).
///
/// ```
/// use forkplan::{Channel, Command};
///
/// let mut child = Command::new("printf")
///     .args(["%s!", "hello"])
///     .env("LC_ALL", "C")
///     .current_dir("/")
///     .stdin(Channel::Null)
///     .spawn()?;
/// let stdout = std::process::ChildStdout::from(child.take(1).unwrap());
/// assert_eq!(std::io::read_to_string(stdout)?, "hello!");
/// assert!(child.wait()?.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Command<'fd> {
    pub(crate) program: OsString,
    pub(crate) arg0: Option<OsString>,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Environment,
    pub(crate) current_dir: Option<PathBuf>,
    pub(crate) channels: Vec<Mapped<'fd>>,
    pub(crate) stdio: [Option<Channel<'fd>>; 3],
    pub(crate) default_writer: Option<OwnedName>,
    pub(crate) blocked_signals: Vec<Signal>,
    pub(crate) inherit_ignored_signals: bool,
    pub(crate) inherit_unnamed_fds: bool,
    pub(crate) without: Features,
    pub(crate) require: Features,
    pub(crate) on_drop: OnDrop,
    pub(crate) setup: Setup<'fd>,
}

/// A channel on its child fds.
#[derive(Clone, Debug)]
pub(crate) struct Mapped<'fd> {
    pub(crate) name: Option<Box<str>>,
    pub(crate) channel: Channel<'fd>,
    pub(crate) fds: Vec<i32>,
}

/// Changes to the parent's environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    pub(crate) clear: bool,
    pub(crate) changes: BTreeMap<OsString, Value>,
}

/// What becomes of an environment variable.
#[derive(Clone)]
pub(crate) enum Value {
    Text(OsString),
    /// The child's pid.
    Pid,
    Removed,
}

/// Without the text, which is nobody's business in a log.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "..",
            Self::Pid => "its pid",
            Self::Removed => "removed",
        })
    }
}

impl<'fd> Command<'fd> {
    /// A command that runs `program` without arguments.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().into(),
            arg0: None,
            args: Vec::new(),
            env: Environment::default(),
            current_dir: None,
            channels: Vec::new(),
            stdio: [const { None }; 3],
            default_writer: None,
            blocked_signals: Vec::new(),
            inherit_ignored_signals: false,
            inherit_unnamed_fds: false,
            without: Features::empty(),
            require: Features::empty(),
            on_drop: OnDrop::Detach,
            setup: Setup::default(),
        }
    }

    /// Adds an argument. Every byte but NUL goes through unchanged.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.args.push(arg.as_ref().into());
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().into()));
        self
    }

    /// What the program finds as `argv[0]`, in place of `program` as given.
    pub fn arg0(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.arg0 = Some(arg.as_ref().into());
        self
    }

    /// Sets an environment variable.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.env.changes.insert(key.as_ref().into(), Value::Text(value.as_ref().into()));
        self
    }

    /// Sets environment variables.
    pub fn envs(
        &mut self,
        vars: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> &mut Self {
        for (key, value) in vars {
            self.env(key, value);
        }
        self
    }

    /// Removes an environment variable.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        self.env.changes.insert(key.as_ref().into(), Value::Removed);
        self
    }

    /// Starts from an empty environment, and forgets the changes made so far.
    pub fn env_clear(&mut self) -> &mut Self {
        self.env = Environment { clear: true, changes: BTreeMap::new() };
        self
    }

    /// The directory in which the program starts. A relative one is taken from
    /// the parent's, at the time of the spawn.
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Self {
        self.current_dir = Some(dir.as_ref().into());
        self
    }

    /// Maps a channel on the child fd `fd`, by which it is known too.
    pub fn fd(&mut self, fd: i32, channel: impl Into<Channel<'fd>>) -> &mut Self {
        self.channels.push(Mapped { name: None, channel: channel.into(), fds: [fd].into() });
        self
    }

    /// Maps one channel on several child fds, by any of which it is known.
    pub fn fds(
        &mut self,
        fds: impl IntoIterator<Item = i32>,
        channel: impl Into<Channel<'fd>>,
    ) -> &mut Self {
        let fds = fds.into_iter().collect();
        self.channels.push(Mapped { name: None, channel: channel.into(), fds });
        self
    }

    /// Maps one channel, known as `name`, on one or several child fds.
    pub fn channel(
        &mut self,
        name: &str,
        channel: impl Into<Channel<'fd>>,
        fds: impl IntoIterator<Item = i32>,
    ) -> &mut Self {
        let fds = fds.into_iter().collect();
        self.channels.push(Mapped { name: Some(name.into()), channel: channel.into(), fds });
        self
    }

    /// Maps a channel on the child's 0. A second call replaces the first.
    pub fn stdin(&mut self, channel: impl Into<Channel<'fd>>) -> &mut Self {
        self.stdio[0] = Some(channel.into());
        self
    }

    /// Maps a channel on the child's 1. A second call replaces the first.
    pub fn stdout(&mut self, channel: impl Into<Channel<'fd>>) -> &mut Self {
        self.stdio[1] = Some(channel.into());
        self
    }

    /// Maps a channel on the child's 2. A second call replaces the first.
    pub fn stderr(&mut self, channel: impl Into<Channel<'fd>>) -> &mut Self {
        self.stdio[2] = Some(channel.into());
        self
    }

    /// The channel, by its name or a child fd, that
    /// [`Pump::write_default`](crate::Pump::write_default) writes to. It has to be
    /// one that the parent writes to. Without this call: the one on child fd 0, if
    /// that is.
    ///
    /// ```
    /// use forkplan::{Channel::*, Command, Name};
    ///
    /// let mut command = Command::new("true");
    /// command.channel("talk", SocketPair, [0, 1]).channel("control", WritePipe, [3]);
    /// assert_eq!(command.spawn()?.default_writer(), Some(Name::Text("talk")));
    /// command.default_writer("control");
    /// assert_eq!(command.spawn()?.default_writer(), Some(Name::Text("control")));
    /// # Ok::<(), forkplan::SpawnError>(())
    /// ```
    pub fn default_writer<'n>(&mut self, channel: impl Into<Name<'n>>) -> &mut Self {
        self.default_writer = Some(channel.into().into());
        self
    }

    /// Signals that the program starts with blocked, and no others. Without
    /// this call: none.
    pub fn block_signals(&mut self, signals: impl IntoIterator<Item = Signal>) -> &mut Self {
        self.blocked_signals = signals.into_iter().collect();
        self
    }

    /// Whether signals that the parent ignores stay ignored in the program, as
    /// `nohup` wants it. Without this call they get their default action.
    ///
    /// Which signals are ignored is asked when the command is prepared. One
    /// that the parent begins to ignore later stays ignored in the child.
    pub fn inherit_ignored_signals(&mut self, inherit: bool) -> &mut Self {
        self.inherit_ignored_signals = inherit;
        self
    }

    /// Whether the parent's fds that nobody named, and that are not CLOEXEC,
    /// stay open in the program under their numbers, as with std. Without this
    /// call they are closed.
    pub fn inherit_unnamed_fds(&mut self, inherit: bool) -> &mut Self {
        self.inherit_unnamed_fds = inherit;
        self
    }

    /// Features of the kernel that are not used though they may be there: the
    /// documented way to choose each fallback. Adds to earlier calls.
    pub fn without(&mut self, features: Features) -> &mut Self {
        self.without |= features;
        self
    }

    /// Features of the kernel without which preparing fails, in place of using
    /// their fallbacks. Adds to earlier calls.
    pub fn require(&mut self, features: Features) -> &mut Self {
        self.require |= features;
        self
    }

    /// What happens to a child whose handle is dropped while it runs. Without
    /// this call: [`OnDrop::Detach`].
    pub fn on_drop(&mut self, on_drop: OnDrop) -> &mut Self {
        self.on_drop = on_drop;
        self
    }

    /// The program as given.
    pub fn get_program(&self) -> &OsStr {
        &self.program
    }

    /// The arguments after `argv[0]`.
    pub fn get_args(&self) -> impl Iterator<Item = &OsStr> {
        self.args.iter().map(OsString::as_os_str)
    }

    /// The directory asked for.
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.current_dir.as_deref()
    }
}
