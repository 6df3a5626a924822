//! An interactive session on a terminal of its own, as `script` and `ssh` have
//! it: what is typed here goes there as it is, what is said there is shown here.
//!
//!     cargo run --example terminal -- vi README.md
//!
//! Without arguments it runs `$SHELL`. It ends as the program does, with its exit
//! code.
//!
//! * The user's terminal is raw meanwhile, and as it was on every way out: the
//!   program's end, an error, a panic, a signal. (But `SIGKILL`, of course.)
//! * The program's terminal is like the user's from before its start, and follows
//!   each resize. The library installs no handler for that: the signals are
//!   blocked here and come as data, from a signalfd.
//! * Neither side waits for the other: while the program does not read what was
//!   typed, its output is still shown.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("terminal: signalfd is Linux's");
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    match linux::session() {
        Ok(code) => code.into(),
        Err(error) => {
            // The user's terminal is as it was already.
            eprintln!("terminal: {error}");
            std::process::ExitCode::from(127)
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::env;
    use std::fs::File;
    use std::io::{self, ErrorKind, Read, Write};
    use std::os::fd::{AsFd, FromRawFd, OwnedFd};

    use forkplan::{Attributes, Child, Command, Exit, Pty, Signal, Terminal};
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::io::retry_on_intr;
    use rustix::process::{getpid, kill_process};

    type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

    /// The user's terminal, raw until this is dropped.
    struct Raw {
        before: Attributes,
    }

    impl Raw {
        fn new() -> io::Result<Self> {
            let raw = Self { before: Terminal::of(io::stdin().as_fd()).attributes()? };
            raw.set()?;
            Ok(raw)
        }

        fn set(&self) -> io::Result<()> {
            let mut attributes = self.before.clone();
            attributes.make_raw();
            Terminal::of(io::stdin().as_fd()).set_attributes(&attributes)
        }

        fn restore(&self) -> io::Result<()> {
            Terminal::of(io::stdin().as_fd()).set_attributes(&self.before)
        }
    }

    impl Drop for Raw {
        fn drop(&mut self) {
            // It may be gone, and then it needs nothing.
            let _ = self.restore();
        }
    }

    pub(crate) fn session() -> Result<u8> {
        let signals = signals_as_data()?;
        let mut args = env::args_os().skip(1);
        let shell = || env::var_os("SHELL").unwrap_or("/bin/sh".into());
        let mut command = Command::new(args.next().unwrap_or_else(shell));
        // The program starts with an empty mask, whatever ours is.
        command.args(args);
        let stdin = io::stdin();
        let pty = Pty::new().like(&stdin).map_err(|error| format!("standard input: {error}"))?;
        command.channel("terminal", pty, [0, 1, 2]);
        // Before the program can say or be told anything.
        let raw = Raw::new()?;
        let mut child = command.spawn()?;
        let master = File::from(child.take("terminal").ok_or("no terminal")?);
        rustix::io::ioctl_fionbio(&master, true)?;
        let end = relay(&child, &master, &signals, &raw);
        // A hang-up, for a program that has not ended.
        drop(master);
        drop(raw);
        let exit = match end? {
            End::Program => child.wait()?,
            End::Signal(signal) => {
                eprintln!("terminal: {signal}");
                return Ok(128 + signal.number() as u8);
            }
        };
        Ok(code(exit))
    }

    fn code(exit: Exit) -> u8 {
        let signal = exit.signal().map(|signal| 128 + signal.number());
        exit.code().or(signal).unwrap_or(127) as u8
    }

    enum End {
        /// The program has ended, or nobody has its terminal open any more.
        Program,
        /// A signal wants us to end.
        Signal(Signal),
    }

    /// Shows and types until there is an end.
    fn relay(child: &Child, mut master: &File, mut signals: &File, raw: &Raw) -> Result<End> {
        let pidfd = child.pidfd().ok_or("this kernel has no pidfds")?;
        let (stdin, mut stdout) = (io::stdin(), io::stdout());
        // Typed, and not taken yet. Nothing more is read until it is.
        let mut typed: Vec<u8> = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let wanted = if typed.is_empty() { PollFlags::IN } else { PollFlags::empty() };
            let room = if typed.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            let [user, program, signal, ended] = {
                let mut polled = [
                    PollFd::new(&stdin, wanted),
                    PollFd::new(master, PollFlags::IN | room),
                    PollFd::new(signals, PollFlags::IN),
                    PollFd::new(&pidfd, PollFlags::IN),
                ];
                retry_on_intr(|| poll(&mut polled, None))?;
                polled.map(|polled| polled.revents())
            };
            if signal.contains(PollFlags::IN) {
                let mut info = [0; size_of::<libc::signalfd_siginfo>()];
                signals.read_exact(&mut info)?;
                // Its first field.
                let number = i32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
                match number {
                    libc::SIGWINCH => {
                        let size = Terminal::of(stdin.as_fd()).size()?;
                        Terminal::of(master.as_fd()).resize(size)?;
                    }
                    libc::SIGTSTP => {
                        raw.restore()?;
                        kill_process(getpid(), rustix::process::Signal::STOP)?;
                        raw.set()?;
                    }
                    number => return Ok(End::Signal(number.into())),
                }
            }
            if program.intersects(PollFlags::IN | PollFlags::HUP) {
                match master.read(&mut buffer) {
                    Ok(len) => {
                        stdout.write_all(&buffer[..len])?;
                        stdout.flush()?;
                        // What is there is shown before the end is looked at.
                        continue;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    // EIO: all was read.
                    Err(_) => return Ok(End::Program),
                }
            }
            if ended.contains(PollFlags::IN) && !program.contains(PollFlags::IN) {
                // Who was left in the background may have the terminal still.
                return Ok(End::Program);
            }
            if program.contains(PollFlags::OUT) {
                // If nobody reads it any more, the next read says so.
                let len = master.write(&typed).unwrap_or(0);
                typed.drain(..len);
            }
            if user.intersects(PollFlags::IN | PollFlags::HUP) {
                // Past std's buffer, of whose contents poll knows nothing.
                match rustix::io::read(&stdin, &mut buffer) {
                    Ok(len @ 1..) => typed.extend_from_slice(&buffer[..len]),
                    // The user's terminal is gone.
                    Ok(0) | Err(rustix::io::Errno::IO) => return Ok(End::Signal(Signal::HUP)),
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    /// Blocks the signals that concern us, for them to be read from an fd. To be
    /// called before any other thread is started.
    fn signals_as_data() -> io::Result<File> {
        const SIGNALS: [i32; 6] = [
            libc::SIGWINCH,
            libc::SIGTSTP,
            libc::SIGHUP,
            libc::SIGINT,
            libc::SIGQUIT,
            libc::SIGTERM,
        ];
        // SAFETY: the set is initialised before it is used, the calls read it, and
        // the fd is new and ours.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for signal in SIGNALS {
                libc::sigaddset(&mut set, signal);
            }
            if libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            match libc::signalfd(-1, &set, libc::SFD_CLOEXEC) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(OwnedFd::from_raw_fd(fd).into()),
            }
        }
    }
}
