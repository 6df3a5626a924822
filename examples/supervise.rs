//! Keeps services running: starts again what ends, ever more slowly if it ends at
//! once, and stops all of them with grace.
//!
//!     cargo run --example supervise
//!     cargo run --example supervise -- [OPTION...] FILE
//!
//! FILE has a service a line: its name, a blank, and a command for the shell. Without
//! arguments two services of its own run for a second.
//!
//! * `--backoff MILLISECONDS`: the pause before the first restart (else 100); each
//!   is twice as long as the one before, up to 10 seconds,
//! * `--restarts N`: gives a service up after so many in a row (else never),
//! * `--grace MILLISECONDS`: how long a service may take to end when it is told to
//!   (else 5000), before it is killed,
//! * `--for MILLISECONDS`: stops all of them then.
//!
//! `SIGTERM` and `SIGINT` stop all of them too. What services write is shown line by
//! line after their name. The exit code is 1 if one was given up.
//!
//! All is one loop over one pump: the services, their restarts, and the signals,
//! which come through a pipe. For Linux.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use forkplan::{Channel::*, ChildKey, Command, End, Event, Exit, Ladder, OnDrop, Pump, Signal};
use rustix::pipe::{PipeFlags, pipe_with};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A service that ran so long begins anew with the shortest pause.
const STABLE: Duration = Duration::from_secs(10);
/// Longer lines are shown in pieces.
const LINE_MAX: usize = 4096;

struct Options {
    backoff: Duration,
    restarts: Option<u32>,
    grace: Duration,
    until: Option<Instant>,
}

struct Service {
    name: String,
    command: Command<'static>,
    /// What was written since the last newline.
    line: Vec<u8>,
    state: State,
    /// Restarts in a row.
    restarts: u32,
}

enum State {
    Runs { since: Instant },
    Starts { at: Instant },
    Over,
}

struct Supervisor {
    pump: Pump,
    options: Options,
    services: Vec<Service>,
    running: HashMap<ChildKey, usize>,
    stopping: bool,
    given_up: bool,
}

impl Service {
    fn new(line: &str) -> Result<Self> {
        let (name, script) = line.trim().split_once(' ').ok_or("a service is: NAME COMMAND")?;
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .fd(0, Null)
            .fds([1, 2], ReadPipe)
            // For signals that reach all that it has started.
            .process_group(0)
            .parent_death_signal(Signal::KILL)
            .on_drop(OnDrop::Kill);
        let state = State::Starts { at: Instant::now() };
        Ok(Self { name: name.into(), command, line: Vec::new(), state, restarts: 0 })
    }

    /// Shows the lines that are whole now.
    fn log(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let whole = piece.ends_with(b"\n");
            self.line.extend_from_slice(piece.strip_suffix(b"\n").unwrap_or(piece));
            while self.line.len() > LINE_MAX {
                let rest = self.line.split_off(LINE_MAX);
                self.show_line();
                self.line = rest;
            }
            if whole {
                self.show_line();
            }
        }
    }

    fn show_line(&mut self) {
        println!("{} | {}", self.name, String::from_utf8_lossy(&self.line));
        self.line.clear();
    }

    fn say(&self, what: &str) {
        println!("{}: {what}", self.name);
    }
}

impl Supervisor {
    fn run(&mut self) -> Result<bool> {
        self.pump.attach([End::new("signals", signals()?)?]);
        loop {
            let now = Instant::now();
            if self.options.until.is_some_and(|until| until <= now) {
                self.stop();
            }
            self.start_what_is_due(now);
            if self.services.iter().all(|service| matches!(service.state, State::Over)) {
                return Ok(!self.given_up);
            }
            let due = self.services.iter().filter_map(|service| match service.state {
                State::Starts { at } => Some(at),
                _ => None,
            });
            let due = due.chain(self.options.until).min();
            self.pump.poll(due.map(|due| due.saturating_duration_since(now)))?;
            self.note_events();
        }
    }

    fn note_events(&mut self) {
        let mut told_to_stop = false;
        let mut exited = Vec::new();
        while let Some(event) = self.pump.next_event() {
            let Some(&index) = self.running.get(&event.child()) else {
                told_to_stop |= matches!(event, Event::Data { .. });
                continue;
            };
            let service = &mut self.services[index];
            match event {
                Event::Data { bytes, .. } => service.log(bytes),
                Event::Signalled { signal, .. } => service.say(&format!("{signal} was sent")),
                Event::Exited { child, .. } => exited.push(child),
                Event::Ended { child, exit } => {
                    self.running.remove(&child);
                    self.ended(index, exit);
                }
                _ => {}
            }
        }
        for key in exited {
            self.stop_what_is_left(key);
        }
        if told_to_stop {
            self.stop();
        }
    }

    /// A service has exited: what it has started ends too, as far as the kernel
    /// lets a group be signalled without its leader.
    fn stop_what_is_left(&mut self, key: ChildKey) {
        if !self.stopping {
            let _ = self.pump.stop(key, Ladder::terminate(self.options.grace).to_group());
        }
    }

    fn start_what_is_due(&mut self, now: Instant) {
        for index in 0..self.services.len() {
            match self.services[index].state {
                State::Starts { at } if at <= now => self.start(index),
                _ => {}
            }
        }
    }

    fn start(&mut self, index: usize) {
        let service = &mut self.services[index];
        match service.command.spawn() {
            Ok(child) => {
                service.say("started");
                service.state = State::Runs { since: Instant::now() };
                let key = self.pump.add(child);
                // What is out of reach does not keep it from being started again.
                let _ = self.pump.set_drain_limit(key, Some(2 * self.options.grace));
                self.running.insert(key, index);
            }
            Err(error) => {
                service.say(&error.to_string());
                self.again(index);
            }
        }
    }

    fn ended(&mut self, index: usize, exit: Exit) {
        let service = &mut self.services[index];
        if !service.line.is_empty() {
            service.show_line();
        }
        service.say(&exit.to_string());
        if matches!(service.state, State::Runs { since } if since.elapsed() >= STABLE) {
            service.restarts = 0;
        }
        self.again(index);
    }

    /// Plans the next start, if there is to be one.
    fn again(&mut self, index: usize) {
        let service = &mut self.services[index];
        service.state = State::Over;
        if self.stopping {
            return;
        }
        if self.options.restarts.is_some_and(|most| service.restarts >= most) {
            service.say("given up");
            self.given_up = true;
            return;
        }
        let times = 1u32.checked_shl(service.restarts).unwrap_or(u32::MAX);
        let pause = self.options.backoff.saturating_mul(times).min(BACKOFF_MAX);
        service.restarts += 1;
        service.say(&format!("again in {} ms", pause.as_millis()));
        service.state = State::Starts { at: Instant::now() + pause };
    }

    /// Starts none any more and brings those that run to their end.
    fn stop(&mut self) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        self.options.until = None;
        println!("stopping");
        for service in &mut self.services {
            if let State::Starts { .. } = service.state {
                service.state = State::Over;
            }
        }
        for &key in self.running.keys() {
            let _ = self.pump.stop(key, Ladder::terminate(self.options.grace).to_group());
        }
    }
}

/// Where the handler writes.
static SIGNALS: AtomicI32 = AtomicI32::new(-1);

extern "C" fn handler(_: libc::c_int) {
    // SAFETY: `write` and errno's place are async-signal-safe; errno is as it was.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(SIGNALS.load(Ordering::Relaxed), b"x".as_ptr().cast(), 1);
        *libc::__errno_location() = errno;
    }
}

/// A pipe with a byte for each `SIGTERM` and `SIGINT`: a source of the pump like any
/// other.
fn signals() -> Result<OwnedFd> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    SIGNALS.store(writer.as_raw_fd(), Ordering::Relaxed);
    // The handler has it from now on, for good.
    std::mem::forget(writer);
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: the handler is async-signal-safe, and has its pipe.
        unsafe { libc::signal(signal, handler as *const () as libc::sighandler_t) };
    }
    Ok(reader)
}

fn supervisor() -> Result<Supervisor> {
    let millis = Duration::from_millis;
    let mut options =
        Options { backoff: millis(100), restarts: None, grace: millis(5000), until: None };
    let mut text =
        "clock while echo tick; do sleep 0.3; done\nflaky echo oh no >&2; exit 1\n".into();
    let mut args = env::args().skip(1);
    if args.len() == 0 {
        options.until = Some(Instant::now() + millis(1000));
    }
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a number"));
        match arg.as_str() {
            "--backoff" => options.backoff = millis(value()?.parse()?),
            "--restarts" => options.restarts = Some(value()?.parse()?),
            "--grace" => options.grace = millis(value()?.parse()?),
            "--for" => options.until = Some(Instant::now() + millis(value()?.parse()?)),
            file => text = fs::read_to_string(file)?,
        }
    }
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    Ok(Supervisor {
        pump: Pump::new(),
        options,
        services: lines.map(Service::new).collect::<Result<_>>()?,
        running: HashMap::new(),
        stopping: false,
        given_up: false,
    })
}

fn main() -> ExitCode {
    match supervisor().and_then(|mut supervisor| supervisor.run()) {
        Ok(fine) => ExitCode::from(u8::from(!fine)),
        Err(error) => {
            eprintln!("supervise: {error}");
            ExitCode::from(2)
        }
    }
}
