//! Pseudoterminals as channels: what is asked for, and how a pair is made ready.

extern crate std;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Attributes, Channel, Terminal, WindowSize};
use crate::sys::Errno;
use crate::sys::once::OnceFd;
use crate::sys::terminal;

/// A pseudoterminal: the program has a terminal on the channel's fds, the parent
/// is whoever sits at it. A new one is made at each spawn; or one that is there
/// is [adopted](Self::adopt).
///
/// ```
/// use forkplan::{Command, Event, Pty, Pump, WindowSize};
///
/// let mut command = Command::new("sh");
/// command.args(["-c", "tty; stty size; exec cat"]);
/// command.channel("terminal", Pty::new().size(WindowSize::new(50, 132)).echo(false), [0, 1, 2]);
/// let mut prepared = command.prepare()?;
/// let opened = prepared.open()?;
/// let name = opened.terminal_name("terminal")?;
///
/// let mut pump = Pump::new();
/// let shell = pump.add(opened.spawn()?);
/// pump.write(shell, "terminal", b"a line\n\x04")?; // Ctrl-D: the end of file
/// let mut said = String::new();
/// while !pump.is_empty() {
///     pump.poll(None)?;
///     while let Some(event) = pump.next_event() {
///         if let Event::Data { bytes, .. } = event {
///             said += std::str::from_utf8(bytes)?;
///         }
///     }
/// }
/// assert_eq!(said, format!("{}\r\n50 132\r\na line\r\n", name.display()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It is a channel like any other: on one fd or several, beside pipes and
/// sockets, and a child may have several of them.
///
/// # Before exec
///
/// [`size`](Self::size), [`attributes`](Self::attributes), [`raw`](Self::raw),
/// [`echo`](Self::echo) and [`like`](Self::like) are in force before the program
/// starts, so that it never sees others.
/// [`Opened::terminal_name`](crate::Opened::terminal_name) says before the spawn
/// under which path the program will have it.
///
/// The child starts a session, and the terminal becomes that session's: its
/// control characters signal the program, and a shell has job control. Both are
/// steps of the plan. See [`controlling`](Self::controlling).
///
/// A program on a terminal of its own can't type into ours (`TIOCSTI`).
///
/// The child's end is opened by the parent, so a child whose root has no `/dev`
/// has a terminal all the same. (`tty` can't tell its name there.)
///
/// # Afterwards
///
/// The parent has the master: what it reads is the program's output, what it
/// writes is typed. [`Terminal`] has the calls for size, foreground group and
/// attributes, by [`Pump::terminal`](crate::Pump::terminal) or
/// [`Terminal::of`].
///
/// * *The program's end* is `Closed` by `Peer` when nobody has the terminal open
///   any more, after all output; the kernel says `EIO` then. A process that the
///   program left in the background may hold it open. Our end is closed then too,
///   which hangs up on a program that has closed its terminal and lives on.
/// * *Closing it* is a hang-up: the session's leader and the foreground group get
///   `SIGHUP`, and what they have not read yet is lost.
/// * *The end of the input* is a character, Ctrl-D at the start of a line: see
///   [`ControlCharacter::EndOfFile`](crate::ControlCharacter::EndOfFile). Half a
///   terminal can't be closed.
/// * *Input in lines* (not raw) is the kernel's: it drops what exceeds a line of
///   4,095 bytes.
///
/// # Several in one child
///
/// One of them is the controlling one; the others are said to be
/// `controlling(false)`.
#[derive(Clone, Debug)]
#[must_use = "it is mapped on fds by `Command::fds`"]
pub struct Pty {
    size: Option<WindowSize>,
    attributes: Option<Attributes>,
    raw: bool,
    echo: Option<bool>,
    controlling: bool,
    adopted: Option<Arc<Adopted>>,
}

/// A pair that somebody else has made.
#[derive(Debug)]
struct Adopted {
    master: OnceFd,
    slave: OnceFd,
    name: PathBuf,
}

impl Pty {
    /// A new pseudoterminal at each spawn: with the system's attributes (lines,
    /// echo, signals), without a size, controlling.
    pub fn new() -> Self {
        Self {
            size: None,
            attributes: None,
            raw: false,
            echo: None,
            controlling: true,
            adopted: None,
        }
    }

    /// A pseudoterminal that is there already: both its ends, and the path of
    /// the slave, which [`Opened::terminal_name`](crate::Opened::terminal_name)
    /// gives back.
    ///
    /// It serves one child. A spawn that succeeds makes the master the child's
    /// end of ours and closes the slave; one that fails closes neither and may be
    /// tried again. A second spawn, of this command or a clone, is an error:
    /// [`PlanError::AlreadyGiven`](crate::PlanError::AlreadyGiven). Both ends are
    /// closed when those are dropped and no spawn has taken them.
    ///
    /// ```
    /// use forkplan::{Command, Pty};
    ///
    /// let (master, slave, name) = {
    ///     use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    ///     let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    ///     let master = openpt(flags)?;
    ///     grantpt(&master)?;
    ///     unlockpt(&master)?;
    ///     let name = ptsname(&master, [])?.into_string()?;
    ///     let slave = std::fs::File::options().read(true).write(true).open(&name)?;
    ///     (master, slave, name)
    /// };
    /// let mut command = Command::new("true");
    /// command.fds([0, 1, 2], Pty::adopt(master, slave, &name));
    /// assert!(command.spawn()?.wait()?.success());
    /// assert!(command.spawn().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn adopt(
        master: impl Into<OwnedFd>,
        slave: impl Into<OwnedFd>,
        name: impl Into<PathBuf>,
    ) -> Self {
        let (master, slave) = (OnceFd::new(master.into()), OnceFd::new(slave.into()));
        let adopted = Adopted { master, slave, name: name.into() };
        Self { adopted: Some(Arc::new(adopted)), ..Self::new() }
    }

    /// Its size.
    pub fn size(mut self, size: WindowSize) -> Self {
        self.size = Some(size);
        self
    }

    /// Its attributes. Forgets earlier calls of [`raw`](Self::raw) and
    /// [`echo`](Self::echo).
    pub fn attributes(mut self, attributes: Attributes) -> Self {
        self.attributes = Some(attributes);
        self.raw = false;
        self.echo = None;
        self
    }

    /// Bytes go through as they are: [`Attributes::make_raw`], of the attributes
    /// that it would have. Forgets an earlier call of [`echo`](Self::echo).
    pub fn raw(mut self) -> Self {
        self.raw = true;
        self.echo = None;
        self
    }

    /// Whether what we write to it comes back.
    pub fn echo(mut self, echo: bool) -> Self {
        self.echo = Some(echo);
        self
    }

    /// The attributes and the size that another terminal has now: the user's
    /// own, mostly. The error is the system's: `ENOTTY` if it is none.
    pub fn like(self, terminal: &impl AsFd) -> io::Result<Self> {
        let terminal = Terminal::of(terminal.as_fd());
        Ok(self.attributes(terminal.attributes()?).size(terminal.size()?))
    }

    /// Whether it becomes the controlling terminal of a session that the child
    /// starts; without this call it does. Of several in one child only one can,
    /// and neither beside
    /// [`Command::controlling_terminal`](crate::Command::controlling_terminal) nor
    /// in a [`Command::process_group`](crate::Command::process_group) of another
    /// session.
    pub fn controlling(mut self, controlling: bool) -> Self {
        self.controlling = controlling;
        self
    }

    pub(crate) fn is_controlling(&self) -> bool {
        self.controlling
    }

    /// What the user says that the slave's path is.
    pub(crate) fn given_name(&self) -> Option<&Path> {
        self.adopted.as_ref().map(|adopted| adopted.name.as_path())
    }

    /// Both ends for one spawn, master and slave, ready for the program.
    pub(crate) fn open(&self) -> Result<(OwnedFd, OwnedFd), OpenError> {
        let Some(adopted) = &self.adopted else {
            let (master, slave) = terminal::open_pair()?;
            self.make_ready(slave.as_fd())?;
            return Ok((master, slave));
        };
        // Who has the master has both: it is taken first and put back last.
        let master = adopted.master.take().ok_or(OpenError::Gone)?;
        let slave = adopted.slave.take().ok_or(OpenError::Gone)?;
        match self.make_ready(slave.as_fd()) {
            Ok(()) => Ok((master, slave)),
            Err(error) => {
                self.give_back(master, slave);
                Err(error)
            }
        }
    }

    /// Takes the ends of a spawn that failed: adopted ones for the next spawn,
    /// others to be closed.
    pub(crate) fn give_back(&self, master: OwnedFd, slave: OwnedFd) {
        if let Some(adopted) = &self.adopted {
            adopted.slave.put_back(slave);
            adopted.master.put_back(master);
        }
    }

    fn make_ready(&self, slave: BorrowedFd<'_>) -> Result<(), OpenError> {
        if let Some(size) = self.size {
            terminal::set_size(slave, size.into()).map_err(failed("ioctl TIOCSWINSZ"))?;
        }
        if self.attributes.is_none() && !self.raw && self.echo.is_none() {
            return Ok(());
        }
        let mut attributes = match &self.attributes {
            Some(attributes) => attributes.clone(),
            None => Attributes(terminal::attributes(slave).map_err(failed("tcgetattr"))?),
        };
        if self.raw {
            attributes.make_raw();
        }
        if let Some(echo) = self.echo {
            attributes.set_echo(echo);
        }
        terminal::set_attributes(slave, &attributes.0).map_err(failed("tcsetattr"))
    }
}

impl Default for Pty {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Pty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.given_name() {
            Some(name) => write!(f, "adopted PTY {name:?}"),
            None => f.write_str("PTY"),
        }
    }
}

impl From<Pty> for Channel<'_> {
    fn from(pty: Pty) -> Self {
        Self::Pty(pty)
    }
}

/// Why there is no terminal for a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// A call failed.
    Call(&'static str, Errno),
    /// The adopted one was given to a child, or is being given to one.
    Gone,
}

impl From<terminal::Failed> for OpenError {
    fn from((call, errno): terminal::Failed) -> Self {
        Self::Call(call, errno)
    }
}

fn failed(call: &'static str) -> impl Fn(Errno) -> OpenError {
    move |errno| OpenError::Call(call, errno)
}

static_assertions::assert_impl_all!(Pty: Send, Sync);
