//! What a shell does with its jobs on a terminal: each in a process group of its
//! own, one of them in the foreground, and the terminal handed from one to the
//! next and back.
//!
//! Without arguments: a terminal emulator in small. It opens a PTY, starts a
//! shell on it (this program again, the leader of a new session), types three
//! lines ahead and shows what is said. The shell starts two jobs (this program
//! once more), which read a line when they are told to.
//!
//! The shell hands the terminal over at the spawn, `process_group(0)` and
//! `foreground(terminal)`, so no job runs a moment in the wrong group. For the
//! second job that is done from the background, where a careless `tcsetpgrp`
//! would stop the child by `SIGTTOU`.

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use forkplan::{Channel, Child, Command, OnDrop, Signal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, getpgrp};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Nothing here takes longer, or it is given up.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    match env::args().nth(1).as_deref() {
        Some("shell") => shell(),
        Some("job") => job(&env::args().nth(2).unwrap_or_default()),
        _ => terminal(),
    }
}

/// The other side of the PTY.
fn terminal() -> Result<()> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let slave = rustix::fs::open(&name, flags, rustix::fs::Mode::empty())?;

    let mut shell = {
        let mut command = Command::new(env::current_exe()?);
        command
            .arg("shell")
            .fds([0, 1, 2], Channel::borrowed(&slave))
            .controlling_terminal(forkplan::PassedFd::borrowed(&slave))
            .on_drop(OnDrop::Kill);
        let mut prepared = command.prepare()?;
        let opened = prepared.open()?;
        println!("The shell's plan:\n{}", opened.plan());
        opened.spawn()?
    };
    // The last one but the session's: when that ends, we are told.
    drop(slave);

    rustix::io::write(&master, b"one\ntwo\nthree\n")?;
    let deadline = Instant::now() + 2 * PATIENCE;
    let mut bytes = [0; 4096];
    loop {
        let mut polled = [PollFd::new(&master, PollFlags::IN)];
        let left = deadline.saturating_duration_since(Instant::now());
        if poll(&mut polled, Some(&left.try_into()?))? == 0 {
            return Err("the shell takes too long".into());
        }
        match rustix::io::read(&master, &mut bytes) {
            // How Linux says that nobody has the terminal any more.
            Ok(0) | Err(rustix::io::Errno::IO) => break,
            Ok(read) => {
                let said = String::from_utf8_lossy(&bytes[..read]).replace('\r', "");
                print!("{said}");
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    match shell.wait()? {
        exit if exit.success() => Ok(()),
        exit => Err(format!("the shell's {exit}").into()),
    }
}

fn shell() -> Result<()> {
    // As shells do: to take the terminal back from a job, out of the background.
    // Jobs start with the default action again, without a word from us.
    // SAFETY: an ignored signal runs no code of ours.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
    println!("shell: process group {}, as is its session", number(getpgrp()));
    holds("the shell", getpgrp())?;

    let mut first = Job::start("first")?;
    holds("the first job", first.group()?)?;
    first.read_line()?;

    // From the background: we do not have the terminal now.
    let mut second = Job::start("second")?;
    holds("the second job", second.group()?)?;
    second.read_line()?;

    // The first is in the background and reads all the same, so it is stopped.
    first.tell()?;
    first.await_state('T')?;
    println!("shell: the first job reads from the background: stopped, by SIGTTIN");
    // What `fg` does.
    tcsetpgrp(io::stdin(), first.group()?)?;
    first.child.signal(Signal::CONT)?;
    holds("the first job", first.group()?)?;
    first.answer()?;

    tcsetpgrp(io::stdin(), getpgrp())?;
    holds("the shell", getpgrp())?;
    for job in [first, second] {
        job.end()?;
    }
    println!("shell: nobody was stopped by SIGTTOU");
    Ok(())
}

/// Shows who has the terminal, and that it is who should.
fn holds(who: &str, group: Pid) -> Result<()> {
    let foreground = tcgetpgrp(io::stdin())?;
    println!("shell: the terminal is group {}'s: {who}", number(foreground));
    match foreground == group {
        true => Ok(()),
        false => Err(format!("it should be group {}'s", number(group)).into()),
    }
}

fn number(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}

struct Job {
    name: &'static str,
    child: Child,
    /// A byte there: read a line. A byte back: done. Closed: end.
    control: UnixStream,
}

impl Job {
    fn start(name: &'static str) -> Result<Self> {
        let terminal = io::stdin();
        let mut child = Command::new(env::current_exe()?)
            .args(["job", name])
            .fds([0, 1, 2], Channel::borrowed(&terminal))
            .fd(3, Channel::SocketPair)
            .process_group(0)
            .foreground(forkplan::PassedFd::borrowed(&terminal))
            .on_drop(OnDrop::Kill)
            .spawn()?;
        let control = UnixStream::from(child.take(3).ok_or("no control")?);
        control.set_read_timeout(Some(PATIENCE))?;
        let job = Self { name, child, control };
        let [state, group, foreground] = job.stat()?;
        println!(
            "shell: {name} is {state}, in group {group}; its terminal is group {foreground}'s"
        );
        Ok(job)
    }

    fn group(&self) -> Result<Pid> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id as i32));
        pid.ok_or_else(|| format!("{} has ended", self.name).into())
    }

    /// State, group, and the foreground group of its terminal.
    fn stat(&self) -> Result<[String; 3]> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", number(self.group()?)))?;
        // After the name, which may hold anything: 3 is the state, 5 and 8.
        let (_, fields) = stat.rsplit_once(')').ok_or("no name in stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        Ok([fields[0], fields[2], fields[5]].map(str::to_owned))
    }

    fn await_state(&self, wanted: char) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.stat()?[0].starts_with(wanted) {
            if Instant::now() > deadline {
                return Err(format!("{} does not come to state {wanted}", self.name).into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn read_line(&mut self) -> Result<()> {
        self.tell()?;
        self.answer()
    }

    fn tell(&mut self) -> Result<()> {
        Ok(self.control.write_all(b"r")?)
    }

    fn answer(&mut self) -> Result<()> {
        Ok(self.control.read_exact(&mut [0])?)
    }

    fn end(self) -> Result<()> {
        let Self { name, mut child, control } = self;
        drop(control);
        match child.wait_timeout(PATIENCE)? {
            Some(exit) if exit.success() => Ok(()),
            other => Err(format!("{name}: {other:?}").into()),
        }
    }
}

fn job(name: &str) -> Result<()> {
    // SAFETY: 3 is the socket that the shell gave us, and nothing else here
    // takes it.
    let mut shell = UnixStream::from(unsafe { OwnedFd::from_raw_fd(3) });
    let mut told = [0];
    while shell.read(&mut told)? == 1 {
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        println!("{name} job: the terminal says {:?}", line.trim_end());
        shell.write_all(&told)?;
    }
    Ok(())
}
