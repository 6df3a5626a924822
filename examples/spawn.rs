//! Runs a program with any map of child fds, and tells what happens.
//!
//! Without arguments: the verbose session of Twisted's process how-to. Verses
//! go into the real `wc`, and every event is printed.
//!
//! With arguments: `spawn [--fd CHILD=SOURCE]... [STEP]... [--explain] -- PROGRAM ARG...`
//!
//! SOURCE is a number (an fd of ours), `r` (a pipe that we read from), `w` (a
//! pipe that we write to), `s` (a socket pair), `null`, `<FILE`, `>FILE` or
//! `>>FILE`. Of 0, 1 and 2, those not said are ours, as in a shell. What comes
//! from the program's channels is copied to our stdout; what we read from stdin
//! goes into its first `w` or `s`, unless its own 0 is our stdin.
//!
//! STEP is what the child sets up before the program: `--chroot DIR` and `--chdir
//! DIR`, as often and in which order one likes, `--uid N` (without supplementary
//! groups), `--gid N`, `--setsid`, `--nice N`, `--rlimit NAME=SOFT:HARD` (`NOFILE`,
//! `CORE` and so on; `unlimited`), `--no-new-privs`.
//! `--explain` prints the plan before it is carried out, and every event.

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::process::ExitCode;
use std::time::Duration;

use forkplan::{Channel, ChildKey, Command, Event, Exit, Name, Open, Pump, Resource, UNLIMITED};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = if args.is_empty() { verses().map(Some) } else { any(&args) };
    match outcome {
        // A shell's convention for signals.
        Ok(Some(exit)) => match (exit.code(), exit.signal()) {
            (Some(code), _) => ExitCode::from(code as u8),
            (None, Some(signal)) => ExitCode::from(128 + signal.number() as u8),
            (None, None) => ExitCode::FAILURE,
        },
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spawn: {error}");
            ExitCode::from(127)
        }
    }
}

/// The how-to's session: ten verses for `wc`.
fn verses() -> Result<Exit> {
    const VERSE: &str = "Aleph-null bottles of beer on the wall,\n\
                         Aleph-null bottles of beer,\n\
                         Take one down and pass it around,\n\
                         Aleph-null bottles of beer on the wall.\n";

    // Nothing said of fds: 0 is written to, 1 and 2 are read.
    let mut prepared = Command::new("wc").prepare()?;
    let opened = prepared.open()?;
    println!("The plan:\n{}", opened.plan());

    let mut pump = Pump::new();
    let wc = pump.add(opened.spawn()?);
    for _ in 0..10 {
        pump.write(wc, 0, VERSE.as_bytes())?;
    }
    pump.close(wc, 0)?;

    let mut counts = Vec::new();
    let mut outcome = None;
    while !pump.is_empty() {
        pump.poll(None)?;
        while let Some(event) = pump.next_event() {
            println!("{}", describe(&event));
            match event {
                Event::Data { channel: Name::Fd(1), bytes, .. } => counts.extend_from_slice(bytes),
                Event::Ended { exit, .. } => outcome = Some(exit),
                _ => {}
            }
        }
    }
    let counts = String::from_utf8(counts)?;
    let lines = counts.split_whitespace().next().ok_or("wc said nothing")?;
    println!("I saw {lines} lines.");
    outcome.ok_or_else(|| "the child did not end".into())
}

/// What the command line asks for.
struct Request<'a> {
    command: Command<'static>,
    fds: Vec<(i32, &'a str)>,
    explain: bool,
}

const USAGE: &str = "usage: spawn [--fd CHILD=SOURCE]... [STEP]... [--explain] -- PROGRAM ARG...";

fn parse(args: &[String]) -> Result<Request<'_>> {
    let at = args.iter().position(|arg| arg == "--").ok_or(USAGE)?;
    let (options, program) = (&args[..at], &args[at + 1..]);
    let (program, arguments) = program.split_first().ok_or(USAGE)?;
    let mut command = Command::new(program);
    command.args(arguments);
    let mut request = Request { command, fds: Vec::new(), explain: false };

    let mut options = options.iter();
    while let Some(option) = options.next() {
        let mut value = || options.next().ok_or_else(|| format!("{option} wants a value"));
        let command = &mut request.command;
        match option.as_str() {
            "--explain" => request.explain = true,
            "--fd" => {
                let (child, source) = value()?.split_once('=').ok_or("--fd wants CHILD=SOURCE")?;
                request.fds.push((child.parse()?, source));
            }
            "--chdir" => drop(command.chdir(value()?)),
            "--chroot" => drop(command.chroot(value()?)),
            "--uid" => drop(command.uid(value()?.parse()?).groups([])),
            "--gid" => drop(command.gid(value()?.parse()?)),
            "--setsid" => drop(command.setsid()),
            "--nice" => drop(command.nice(value()?.parse()?)),
            "--rlimit" => {
                let (resource, soft, hard) = limit(value()?)?;
                command.rlimit(resource, soft, hard);
            }
            "--no-new-privs" => drop(command.no_new_privs()),
            other => {
                return Err(format!("{other}: what is that? See the head of the source").into());
            }
        }
    }
    Ok(request)
}

/// `NAME=SOFT:HARD`
fn limit(said: &str) -> Result<(Resource, u64, u64)> {
    const WANTED: &str = "--rlimit wants NAME=SOFT:HARD";
    let (name, limits) = said.split_once('=').ok_or(WANTED)?;
    let (soft, hard) = limits.split_once(':').ok_or(WANTED)?;
    let resource = match name {
        "AS" => Resource::AS,
        "CORE" => Resource::CORE,
        "CPU" => Resource::CPU,
        "DATA" => Resource::DATA,
        "FSIZE" => Resource::FSIZE,
        "MEMLOCK" => Resource::MEMLOCK,
        "NOFILE" => Resource::NOFILE,
        "NPROC" => Resource::NPROC,
        "STACK" => Resource::STACK,
        _ => return Err(format!("{name}: no limit of this program's list").into()),
    };
    let number = |text: &str| match text {
        "unlimited" => Ok(UNLIMITED),
        _ => text.parse(),
    };
    Ok((resource, number(soft)?, number(hard)?))
}

fn channel(source: &str) -> Result<Channel<'static>> {
    Ok(match source {
        "r" => Channel::ReadPipe,
        "w" => Channel::WritePipe,
        "s" => Channel::SocketPair,
        "null" => Channel::Null,
        _ => {
            if let Some(path) = source.strip_prefix(">>") {
                Channel::file(path, Open::Append)
            } else if let Some(path) = source.strip_prefix('>') {
                Channel::file(path, Open::Write)
            } else if let Some(path) = source.strip_prefix('<') {
                Channel::file(path, Open::Read)
            } else {
                let number: i32 = source.parse().map_err(|_| format!("{source}: no source"))?;
                if number < 0 {
                    return Err(format!("{source}: no fd is negative").into());
                }
                // SAFETY: not -1, and nobody in this program closes an fd that
                // it was started with. If it is not open, the child's plan fails
                // at the step that uses it, which is what we want to show.
                Channel::from(unsafe { BorrowedFd::borrow_raw(number) })
            }
        }
    })
}

fn any(args: &[String]) -> Result<Option<Exit>> {
    let mut request = parse(args)?;
    let command = &mut request.command;
    for &(child, source) in &request.fds {
        command.fd(child, channel(source)?);
    }
    for own in 0..3 {
        if !request.fds.iter().any(|&(child, _)| child == own) {
            command.fd(own, channel(&own.to_string())?);
        }
    }
    let mut prepared = command.prepare()?;
    let opened = prepared.open()?;
    if request.explain {
        println!("{}", opened.plan());
    }
    let mut pump = Pump::new();
    let child = pump.add(opened.spawn()?);

    let reads_ours = !request.fds.iter().any(|&(child, _)| child == 0);
    let mut writers = request.fds.iter().filter(|(_, source)| matches!(*source, "w" | "s"));
    let mut input = if reads_ours { None } else { writers.next().map(|&(fd, _)| Input::to(fd)) };
    for &(fd, _) in writers {
        pump.close_write(child, fd)?;
    }
    let mut outcome = None;
    while !pump.is_empty() {
        if let Some(open) = &mut input {
            if !open.feed(&mut pump, child)? {
                input = None;
            }
        }
        // Our stdin is not the pump's to wait for, so it is looked at now and
        // then.
        pump.poll(input.is_some().then_some(Duration::from_millis(10)))?;
        while let Some(event) = pump.next_event() {
            if request.explain {
                println!("{}", describe(&event));
            }
            match event {
                Event::Data { bytes, .. } => io::stdout().write_all(bytes)?,
                Event::Ended { exit, .. } => outcome = Some(exit),
                _ => {}
            }
        }
    }
    Ok(outcome)
}

/// Our stdin on its way into a channel.
struct Input {
    fd: i32,
    bytes: Vec<u8>,
}

impl Input {
    fn to(fd: i32) -> Self {
        Self { fd, bytes: Vec::new() }
    }

    /// Hands on what is there, without blocking. Whether there may be more.
    fn feed(&mut self, pump: &mut Pump, child: ChildKey) -> Result<bool> {
        if self.bytes.is_empty() {
            let stdin = io::stdin();
            let mut polled = [rustix::event::PollFd::new(&stdin, rustix::event::PollFlags::IN)];
            if rustix::event::poll(&mut polled, Some(&Default::default()))? == 0 {
                return Ok(true);
            }
            self.bytes.resize(64 * 1024, 0);
            let read = stdin.lock().read(&mut self.bytes)?;
            self.bytes.truncate(read);
            if read == 0 {
                pump.close_write(child, self.fd)?;
                return Ok(false);
            }
        }
        match pump.write(child, self.fd, &self.bytes) {
            Ok(taken) => {
                self.bytes.drain(..taken);
                Ok(true)
            }
            // The program reads no more.
            Err(_) => Ok(false),
        }
    }
}

fn describe(event: &Event<'_>) -> String {
    match event {
        Event::Made { pid, .. } => format!("made: process {}", pid.unwrap_or_default()),
        Event::Data { channel, bytes, .. } => format!("data: {} bytes on {channel}", bytes.len()),
        Event::HalfClosed { channel, .. } => format!("half-closed: {channel}"),
        Event::Drained { channel, .. } => format!("drained: {channel}"),
        Event::Closed { channel, reason, unsent, .. } => {
            format!("closed: {channel}, by {reason:?}, {unsent} bytes unsent")
        }
        Event::Exited { exit, .. } => format!("exited: {exit}"),
        Event::Ended { exit, .. } => format!("ended: {exit}"),
        other => format!("{other:?}"),
    }
}
