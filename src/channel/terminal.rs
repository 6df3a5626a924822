//! A terminal, from whichever of its ends: size, name, foreground, attributes.

extern crate std;

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::termios::{
    InputModes, LocalModes, OutputModes, SpecialCodeIndex, SpecialCodes, Termios, Winsize,
};

use crate::sys::terminal;

/// A terminal that is open: our end of a [`Pty`](crate::Pty), or any other, such
/// as the program's own standard input.
///
/// None of its calls blocks, and none but [`name`](Self::name) allocates. Each
/// fails with `ENOTTY` where the fd is no terminal.
///
/// ```
/// use forkplan::{Command, Pty, Terminal, WindowSize};
///
/// let mut command = Command::new("stty");
/// command.arg("size").fds([0, 1, 2], Pty::new().size(WindowSize::new(24, 80)));
/// let mut child = command.spawn()?;
/// let terminal = Terminal::of(child.end(0).unwrap());
/// assert_eq!(terminal.size()?, WindowSize::new(24, 80));
/// assert!(terminal.name()?.starts_with("/dev"));
/// assert!(child.wait()?.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Terminal<'fd> {
    fd: BorrowedFd<'fd>,
}

impl<'fd> Terminal<'fd> {
    /// The terminal that `fd` is open on. Nothing is asked of it yet.
    pub fn of(fd: BorrowedFd<'fd>) -> Self {
        Self { fd }
    }

    /// Its size.
    pub fn size(self) -> io::Result<WindowSize> {
        Ok(terminal::size(self.fd)?.into())
    }

    /// Changes its size. If that is another than before, its foreground process
    /// group gets `SIGWINCH`.
    pub fn resize(self, size: WindowSize) -> io::Result<()> {
        Ok(terminal::set_size(self.fd, size.into())?)
    }

    /// The path under which the program has it: what `tty` prints there.
    pub fn name(self) -> io::Result<PathBuf> {
        let mut buffer = [0; terminal::NAME_SIZE];
        let name = terminal::name(self.fd, &mut buffer)?;
        Ok(OsStr::from_bytes(name.to_bytes()).into())
    }

    /// The process group in its foreground, which gets the signals of its
    /// control characters. `None` if it is nobody's controlling terminal, or
    /// that group is another namespace's.
    ///
    /// There is no call to change it from here: the kernel lets only processes
    /// of the terminal's own session do that.
    /// [`Command::foreground`](crate::Command::foreground) is for those.
    pub fn foreground_group(self) -> io::Result<Option<u32>> {
        Ok(u32::try_from(terminal::foreground(self.fd)?).ok().filter(|&group| group > 0))
    }

    /// Its attributes: those that the program has set, whichever end this is.
    pub fn attributes(self) -> io::Result<Attributes> {
        Ok(Attributes(terminal::attributes(self.fd)?))
    }

    /// Changes its attributes, at once. A process in the background of this
    /// very terminal gets `SIGTTOU` for that.
    pub fn set_attributes(self, attributes: &Attributes) -> io::Result<()> {
        Ok(terminal::set_attributes(self.fd, &attributes.0)?)
    }
}

/// How large a terminal is.
///
/// ```
/// use forkplan::WindowSize;
///
/// let size = WindowSize::new(24, 80);
/// assert_eq!((size.rows, size.columns, size.x_pixels, size.y_pixels), (24, 80, 0, 0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct WindowSize {
    /// Characters from top to bottom.
    pub rows: u16,
    /// Characters from left to right.
    pub columns: u16,
    /// From left to right; 0 where nobody knows.
    pub x_pixels: u16,
    /// From top to bottom; 0 where nobody knows.
    pub y_pixels: u16,
}

impl WindowSize {
    /// A size in characters.
    pub const fn new(rows: u16, columns: u16) -> Self {
        Self { rows, columns, x_pixels: 0, y_pixels: 0 }
    }
}

impl From<Winsize> for WindowSize {
    fn from(size: Winsize) -> Self {
        let Winsize { ws_row, ws_col, ws_xpixel, ws_ypixel } = size;
        Self { rows: ws_row, columns: ws_col, x_pixels: ws_xpixel, y_pixels: ws_ypixel }
    }
}

impl From<WindowSize> for Winsize {
    fn from(size: WindowSize) -> Self {
        let WindowSize { rows, columns, x_pixels, y_pixels } = size;
        Self { ws_row: rows, ws_col: columns, ws_xpixel: x_pixels, ws_ypixel: y_pixels }
    }
}

/// What a terminal does with what goes through it: `termios(3)`. Got from one by
/// [`Terminal::attributes`], changed, and given to the same or another, or to a
/// [`Pty`](crate::Pty).
///
/// ```
/// use forkplan::{Command, ControlCharacter, Pty, Terminal};
///
/// let mut child = Command::new("cat").fds([0, 1, 2], Pty::new()).spawn()?;
/// let terminal = Terminal::of(child.end(0).unwrap());
/// let mut attributes = terminal.attributes()?;
/// assert!(attributes.canonical() && attributes.echo() && attributes.signals());
/// assert_eq!(attributes.control(ControlCharacter::EndOfFile), Some(0x04));
/// attributes.make_raw();
/// assert!(!attributes.canonical() && !attributes.echo() && !attributes.signals());
/// terminal.set_attributes(&attributes)?;
/// child.kill()?;
/// child.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Attributes(pub(super) Termios);

impl Attributes {
    /// Bytes go through as they are, one by one: no lines, no echo, no signals,
    /// no translation of newlines, no flow control. As `cfmakeraw(3)`.
    pub fn make_raw(&mut self) {
        self.0.make_raw();
    }

    /// Whether input is written back.
    pub fn echo(&self) -> bool {
        self.0.local_modes.contains(LocalModes::ECHO)
    }

    /// Sets whether input is written back.
    pub fn set_echo(&mut self, echo: bool) {
        self.0.local_modes.set(LocalModes::ECHO, echo);
    }

    /// Whether input comes in lines, which may be edited, and has an end of file.
    pub fn canonical(&self) -> bool {
        self.0.local_modes.contains(LocalModes::ICANON)
    }

    /// Sets whether input comes in lines. Without them a read waits for one
    /// byte.
    pub fn set_canonical(&mut self, canonical: bool) {
        self.0.local_modes.set(LocalModes::ICANON, canonical);
        if !canonical {
            // On some systems these two share their places with characters of
            // canonical input.
            self.codes()[SpecialCodeIndex::VMIN] = 1;
            self.codes()[SpecialCodeIndex::VTIME] = 0;
        }
    }

    /// Whether control characters in the input become signals.
    pub fn signals(&self) -> bool {
        self.0.local_modes.contains(LocalModes::ISIG)
    }

    /// Sets whether control characters in the input become signals.
    pub fn set_signals(&mut self, signals: bool) {
        self.0.local_modes.set(LocalModes::ISIG, signals);
    }

    /// Whether output is processed: as a rule, a newline becomes a carriage
    /// return and a newline.
    pub fn output_processing(&self) -> bool {
        self.0.output_modes.contains(OutputModes::OPOST)
    }

    /// Sets whether output is processed.
    pub fn set_output_processing(&mut self, processing: bool) {
        self.0.output_modes.set(OutputModes::OPOST, processing);
    }

    /// Whether the characters [`Start`](ControlCharacter::Start) and
    /// [`Stop`](ControlCharacter::Stop) in the input hold and release the output.
    pub fn flow_control(&self) -> bool {
        self.0.input_modes.contains(InputModes::IXON)
    }

    /// Sets whether they do.
    pub fn set_flow_control(&mut self, flow_control: bool) {
        self.0.input_modes.set(InputModes::IXON, flow_control);
    }

    /// The byte that is this control character. `None`: it is switched off.
    pub fn control(&self, character: ControlCharacter) -> Option<u8> {
        let byte = self.0.special_codes[character.index()];
        Some(byte).filter(|&byte| byte != terminal::NO_CHARACTER)
    }

    /// Sets the byte that is this control character; `None` switches it off.
    pub fn set_control(&mut self, character: ControlCharacter, byte: Option<u8>) {
        self.codes()[character.index()] = byte.unwrap_or(terminal::NO_CHARACTER);
    }

    fn codes(&mut self) -> &mut SpecialCodes {
        &mut self.0.special_codes
    }
}

/// A byte of the input that does something: `termios(3)`.
///
/// ```
/// use forkplan::{Command, ControlCharacter, Pty, Terminal};
///
/// let mut child = Command::new("cat").fds([0, 1, 2], Pty::new()).spawn()?;
/// let attributes = Terminal::of(child.end(0).unwrap()).attributes()?;
/// let interrupt = attributes.control(ControlCharacter::Interrupt).unwrap();
/// assert_eq!(interrupt, 0x03); // Ctrl-C
/// std::io::Write::write_all(&mut std::fs::File::from(child.take(0).unwrap()), &[interrupt])?;
/// # child.kill()?;
/// # child.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ControlCharacter {
    /// `VINTR`: `SIGINT` to the foreground group.
    Interrupt,
    /// `VQUIT`: `SIGQUIT` to the foreground group.
    Quit,
    /// `VSUSP`: `SIGTSTP` to the foreground group.
    Suspend,
    /// `VEOF`: the line ends here, without a newline; an empty line is the end
    /// of file.
    EndOfFile,
    /// `VERASE`: takes back a character.
    Erase,
    /// `VKILL`: takes back the line.
    EraseLine,
    /// `VSTART`: the output goes on.
    Start,
    /// `VSTOP`: the output is held.
    Stop,
}

impl ControlCharacter {
    fn index(self) -> SpecialCodeIndex {
        match self {
            Self::Interrupt => SpecialCodeIndex::VINTR,
            Self::Quit => SpecialCodeIndex::VQUIT,
            Self::Suspend => SpecialCodeIndex::VSUSP,
            Self::EndOfFile => SpecialCodeIndex::VEOF,
            Self::Erase => SpecialCodeIndex::VERASE,
            Self::EraseLine => SpecialCodeIndex::VKILL,
            Self::Start => SpecialCodeIndex::VSTART,
            Self::Stop => SpecialCodeIndex::VSTOP,
        }
    }
}

static_assertions::assert_impl_all!(Terminal<'static>: Send, Sync);
static_assertions::assert_impl_all!(Attributes: Send, Sync);
