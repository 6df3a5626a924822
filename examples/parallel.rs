//! Runs a list of commands, some at a time.
//!
//!     cargo run --example parallel
//!     cargo run --example parallel -- [OPTION...] FILE
//!
//! FILE has a command a line, for the shell; `-` is standard input. Without
//! arguments it runs a list of its own.
//!
//! * `-j N`: so many at a time (else as many as there are CPUs),
//! * `--fail-fast`: after a failure, stop those that run and start no more,
//! * `--timeout MILLISECONDS`: how long each may take.
//!
//! What a command has written comes in one piece when it has ended, each stream to
//! its own. Progress goes to standard error: on a terminal one line that shows what
//! runs now, elsewhere a line for each beginning and end. Failures are summed up.
//! The exit code is 1 if there were any.
//!
//! On a terminal the commands share our process group, so that ^C reaches all. Without
//! one each has its own, so that a stop reaches all that a command has started.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow::{Break, Continue};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, thread};

use forkplan::{Captured, Command, Ladder, Parallel, Progress, SpawnError};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How long a command has between a friendly signal and the last one.
const GRACE: Duration = Duration::from_secs(2);

struct Options {
    at_most: usize,
    fail_fast: bool,
    timeout: Option<Duration>,
    lines: Vec<String>,
}

impl Options {
    fn parse() -> Result<Self> {
        let at_most = thread::available_parallelism().map_or(1, |count| count.get());
        let mut options = Self { at_most, fail_fast: false, timeout: None, lines: Vec::new() };
        let mut args = env::args().skip(1);
        let mut file = None;
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} wants a number"));
            match arg.as_str() {
                "-j" => options.at_most = value()?.parse()?,
                "--timeout" => options.timeout = Some(Duration::from_millis(value()?.parse()?)),
                "--fail-fast" => options.fail_fast = true,
                _ => file = Some(arg),
            }
        }
        let text = match file.as_deref() {
            None => "echo one\nsleep 0.3; echo two\nsleep 0.2; echo three >&2\n".to_string(),
            Some("-") => io::read_to_string(io::stdin())?,
            Some(file) => fs::read_to_string(file)?,
        };
        options.lines = text.lines().map(str::to_string).filter(|line| !line.is_empty()).collect();
        Ok(options)
    }
}

/// What is shown while the commands run.
struct Display<'a> {
    lines: &'a [String],
    running: BTreeSet<usize>,
    ended: usize,
    failures: Vec<(usize, String)>,
    on_terminal: bool,
}

impl Display<'_> {
    fn begun(&mut self, index: usize) {
        self.running.insert(index);
        self.tell(&format!("{}: started: {}", index + 1, self.lines[index]));
    }

    /// Whether it went well.
    fn ended(&mut self, index: usize, captured: &Captured) -> bool {
        self.running.remove(&index);
        let how = match (captured.timed_out, captured.exit.success()) {
            (true, _) => Some(format!("out of time, {}", captured.exit)),
            (false, false) => Some(captured.exit.to_string()),
            (false, true) => None,
        };
        self.clear();
        // One that is gone misses nothing.
        let _ = io::stdout().write_all(captured.stdout()).and_then(|()| io::stdout().flush());
        let _ = io::stderr().write_all(captured.stderr());
        self.outcome(index, how)
    }

    fn failed(&mut self, index: usize, error: &SpawnError) -> bool {
        self.outcome(index, Some(error.to_string()))
    }

    fn outcome(&mut self, index: usize, failure: Option<String>) -> bool {
        self.ended += 1;
        let how = failure.clone().unwrap_or("done".into());
        self.tell(&format!("{}: {how}: {}", index + 1, self.lines[index]));
        let fine = failure.is_none();
        self.failures.extend(failure.map(|why| (index, why)));
        fine
    }

    /// One more line, or the one line anew.
    fn tell(&self, line: &str) {
        if !self.on_terminal {
            eprintln!("{line}");
            return;
        }
        let names: Vec<&str> = self.running.iter().map(|&index| &*self.lines[index]).collect();
        let (ended, all, failed) = (self.ended, self.lines.len(), self.failures.len());
        let line = format!("[{ended}/{all}, {failed} failed] {}", names.join(" | "));
        let columns = rustix::termios::tcgetwinsize(io::stderr()).map_or(80, |size| size.ws_col);
        let line: String = line.chars().take(usize::from(columns.max(2)) - 1).collect();
        eprint!("\r\x1b[K{line}");
    }

    fn clear(&self) {
        if self.on_terminal {
            eprint!("\r\x1b[K");
        }
    }

    fn sum_up(mut self) -> bool {
        self.clear();
        self.failures.sort();
        for (index, why) in &self.failures {
            eprintln!("failed: {}: {why}: {}", index + 1, self.lines[*index]);
        }
        let (failed, not_run) = (self.failures.len(), self.lines.len() - self.ended);
        eprintln!("{} done, {failed} failed, {not_run} not run", self.ended - failed);
        failed == 0
    }
}

fn run(options: &Options) -> Result<bool> {
    let has_terminal = fs::File::open("/dev/tty").is_ok();
    let commands = options.lines.iter().map(|line| {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        if !has_terminal {
            command.process_group(0);
        }
        command
    });
    let ladder = Ladder::terminate(GRACE);
    let ladder = if has_terminal { ladder } else { ladder.to_group() };
    let mut parallel = Parallel::new(options.at_most);
    if let Some(timeout) = options.timeout {
        parallel = parallel.timeout(timeout, ladder.clone());
    }
    let mut display = Display {
        lines: &options.lines,
        running: BTreeSet::new(),
        ended: 0,
        failures: Vec::new(),
        on_terminal: io::stderr().is_terminal(),
    };
    parallel.run(commands, |progress| {
        let fine = match progress {
            Progress::Started { index, .. } => {
                display.begun(index);
                true
            }
            Progress::Failed { index, error } => display.failed(index, error),
            Progress::Ended { index, captured } => display.ended(index, captured),
            _ => true,
        };
        if options.fail_fast && !fine { Break(ladder.clone()) } else { Continue(()) }
    })?;
    Ok(display.sum_up())
}

fn main() -> ExitCode {
    match Options::parse().and_then(|options| run(&options)) {
        Ok(fine) => ExitCode::from(u8::from(!fine)),
        Err(error) => {
            eprintln!("parallel: {error}");
            ExitCode::from(2)
        }
    }
}
