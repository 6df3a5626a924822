//! Drives an interactive program on a terminal: waits for what it says, types,
//! and gives up when its time is over.
//!
//!     cargo run --example expect
//!     cargo run --example expect -- PROGRAM [ARGUMENT...] < SCRIPT
//!
//! Without arguments it talks to a shell script that asks for a name and, without
//! echo, for a password, and shows the dialogue. With a program, the dialogue is
//! read from standard input, a line each:
//!
//! * `expect TEXT` waits until the program has said it,
//! * `send TEXT` types it and a newline,
//! * `control LETTER` types a control character,
//! * `within MILLISECONDS` is how long each of the following waits may last (else
//!   5000),
//! * `end` waits until the program has ended.
//!
//! The exit code is the program's; 2 for a wait that was in vain.

use std::env;
use std::fmt;
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use forkplan::{ChildKey, Command, Event, Exit, OnDrop, Pty, Pump, WindowSize};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A program on a terminal, and what it has said.
struct Session {
    pump: Pump,
    child: ChildKey,
    /// Said, and not waited for yet.
    said: Vec<u8>,
    exit: Option<Exit>,
}

/// A wait that was in vain.
#[derive(Debug)]
struct InVain {
    text: String,
    /// Whether the program has ended, or else the time was over.
    ended: bool,
    /// What it said instead.
    instead: String,
}

impl fmt::Display for InVain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = if self.ended { "before it ended" } else { "in time" };
        write!(f, "it did not say {:?} {why}, but {:?}", self.text, self.instead)
    }
}

impl std::error::Error for InVain {}

impl Session {
    fn new(command: &mut Command<'_>) -> Result<Self> {
        // Wide enough for no line to be broken.
        let pty = Pty::new().size(WindowSize::new(24, 500));
        command.channel("terminal", pty, [0, 1, 2]).on_drop(OnDrop::Kill);
        let mut pump = Pump::new();
        let child = pump.add(command.spawn()?);
        Ok(Self { pump, child, said: Vec::new(), exit: None })
    }

    /// Waits until the program has said `text`; what it has said up to there.
    fn expect(&mut self, text: &str, within: Duration) -> Result<String> {
        let deadline = Instant::now() + within;
        let found = |said: &[u8]| {
            said.windows(text.len().max(1)).position(|window| window == text.as_bytes())
        };
        loop {
            if let Some(at) = found(&self.said) {
                let upto: Vec<u8> = self.said.drain(..at + text.len()).collect();
                return Ok(String::from_utf8_lossy(&upto).into_owned());
            }
            let ended = self.exit.is_some();
            if ended || !self.listen(deadline)? {
                let instead = String::from_utf8_lossy(&self.said).into_owned();
                return Err(InVain { text: text.into(), ended, instead }.into());
            }
        }
    }

    /// Waits until the program has ended and all that it said was read.
    fn end(&mut self, within: Duration) -> Result<Exit> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(exit) = self.exit {
                return Ok(exit);
            }
            if !self.listen(deadline)? {
                return Err("it did not end in time".into());
            }
        }
    }

    /// One wait for news; `false` if the time is over.
    fn listen(&mut self, deadline: Instant) -> Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        self.pump.poll(Some(left))?;
        while let Some(event) = self.pump.next_event() {
            match event {
                Event::Data { bytes, .. } => self.said.extend_from_slice(bytes),
                Event::Ended { exit, .. } => self.exit = Some(exit),
                _ => {}
            }
        }
        Ok(true)
    }

    /// Types a line. What the program does not read is queued.
    fn send(&mut self, line: &str) -> Result<()> {
        self.type_bytes(&[line.as_bytes(), b"\n"].concat())
    }

    /// Types a control character: `'c'` for Ctrl-C.
    fn control(&mut self, letter: char) -> Result<()> {
        self.type_bytes(&[letter.to_ascii_uppercase() as u8 & 0x1f])
    }

    fn type_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        match self.pump.write(self.child, "terminal", bytes)? == bytes.len() {
            true => Ok(()),
            false => Err("it does not read what is typed".into()),
        }
    }
}

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let outcome = match args.next() {
        Some(program) => script(Command::new(program).args(args)),
        None => dialogue(),
    };
    match outcome {
        Ok(exit) => ExitCode::from(exit.code().unwrap_or(1) as u8),
        Err(error) => {
            eprintln!("expect: {error}");
            ExitCode::from(2)
        }
    }
}

/// Says what standard input tells to say.
fn script(command: &mut Command<'_>) -> Result<Exit> {
    let mut session = Session::new(command)?;
    let mut within = Duration::from_secs(5);
    for line in io::stdin().lines() {
        let line = line?;
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match word {
            "expect" => print!("{}", session.expect(rest, within)?),
            "send" => session.send(rest)?,
            "control" => session.control(rest.chars().next().ok_or("control: which?")?)?,
            "within" => within = Duration::from_millis(rest.parse()?),
            "end" => drop(session.end(within)?),
            "" => {}
            other => return Err(format!("{other:?} is none of the words").into()),
        }
    }
    let exit = session.end(within)?;
    print!("{}", String::from_utf8_lossy(&session.said));
    Ok(exit)
}

const LOGIN: &str = r#"
    printf 'name: '; read name
    stty -echo; printf 'password: '; read word; stty echo; echo
    [ "$word" = secret ] || { echo "wrong, $name"; exit 1; }
    echo "welcome, $name"
    trap 'echo interrupted; exit 0' INT
    printf 'busy...'; while :; do read line; done
"#;

fn dialogue() -> Result<Exit> {
    let within = Duration::from_secs(10);
    let mut session = Session::new(Command::new("sh").args(["-c", LOGIN]))?;
    println!("it: {:?}", session.expect("name: ", within)?);
    session.send("alice")?;
    println!("it: {:?}", session.expect("password: ", within)?);
    session.send("secret")?;
    println!("it: {:?}", session.expect("welcome, alice", within)?);
    println!("it: {:?}", session.expect("busy...", within)?);
    match session.expect("ready", Duration::from_millis(100)) {
        Err(error) => println!("we waited: {error}"),
        Ok(said) => return Err(format!("it can't be ready: {said:?}").into()),
    }
    session.control('c')?;
    println!("it: {:?}", session.expect("interrupted", within)?);
    let exit = session.end(within)?;
    println!("it ended: {exit}");
    Ok(exit)
}
