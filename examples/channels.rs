//! One child with a terminal on 0, 1 and 2, a socket on 3, a pipe on 4 and one on
//! 5, and a named pipe on 6, each with a protocol of its own; both sides are
//! written with handlers.
//!
//! Without arguments: starts this program again as the far side, tells it over the
//! terminal who is there, gives it numbers on 4, hears of each on 5, and asks for
//! the sum on 3.
//!
//! | child fd | name | what goes through it |
//! |---|---|---|
//! | 0, 1, 2 | `terminal` | lines, both ways: what a person would see and type |
//! | 3 | `control` | frames with their length before them, both ways |
//! | 4 | `numbers` | lines to the child |
//! | 5 | `log` | lines from the child |
//! | 6 | `ledger` | lines from the child, by a named pipe |

use std::cell::Cell;
use std::env;
use std::process::ExitCode;
use std::rc::Rc;

use forkplan::{
    Channel, CloseReason, Command, Event, Exit, FdKind, Frame, Framed, Inherited, LengthPrefixed,
    Lines, Name, NamedPipe, OnDrop, OnEvent, Prefix, Process, ProcessHandler, Protocols, Pty,
    Transport,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const LINE_MAX: usize = 200;
const FRAME_MAX: usize = 1000;

fn main() -> ExitCode {
    let far = env::args().nth(1).as_deref() == Some("far");
    match if far { far_side() } else { near_side() } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("channels: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What both sides say on `control`.
fn framing() -> LengthPrefixed {
    LengthPrefixed::new(Prefix::U32Be, FRAME_MAX)
}

fn frame(text: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    Prefix::U32Be.append(text.as_bytes(), &mut frame).expect("it fits four bytes");
    frame
}

fn text(frame: Frame<'_>) -> String {
    String::from_utf8_lossy(frame.bytes).into_owned()
}

/// So little is taken whole, and a channel that is closed is told by its event.
fn send(process: &mut Process<'_>, channel: &str, bytes: &[u8]) {
    let _ = process.write(channel, bytes);
}

// The near side.

/// Tells what becomes of the process, and keeps how it ended.
struct Watch(Rc<Cell<Option<Exit>>>);

impl ProcessHandler for Watch {
    fn made(&mut self, _: &mut Process<'_>, pid: Option<u32>) {
        println!("process: made, with the id {}", pid.unwrap_or_default());
    }

    fn closed(&mut self, _: &mut Process<'_>, channel: Name<'_>, reason: CloseReason, _: usize) {
        println!("process: {channel} was closed by {reason:?}");
    }

    fn ended(&mut self, _: &mut Process<'_>, exit: Exit) {
        println!("process: ended, {exit}");
        self.0.set(Some(exit));
    }
}

fn near_side() -> Result<()> {
    let ledger = env::temp_dir().join(format!("forkplan-ledger-{}", std::process::id()));
    let mut command = Command::new(env::current_exe()?);
    command
        .arg("far")
        .channel("terminal", Channel::Pty(Pty::new().echo(false)), [0, 1, 2])
        .channel("control", Channel::SocketPair, [3])
        .channel("numbers", Channel::WritePipe, [4])
        .channel("log", Channel::ReadPipe, [5])
        // Under its name others could write to it too, as long as it is there.
        .channel("ledger", NamedPipe::read(ledger).create(0o600).unlink(), [6])
        .on_drop(OnDrop::Kill);

    let exit = Rc::new(Cell::new(None));
    let mut protocols = Protocols::new();
    let child = protocols.add(command.spawn()?, Watch(exit.clone()));
    protocols.on(child, "terminal", Framed::new(Lines::new(LINE_MAX).crlf(), on_terminal))?;
    protocols.on(child, "log", Framed::new(Lines::new(LINE_MAX), on_log))?;
    protocols.on(child, "control", Framed::new(framing(), on_control))?;
    let on_ledger = |_: &mut Transport<'_>, line: Frame<'_>| println!("ledger: {}", text(line));
    protocols.on(child, "ledger", Framed::new(Lines::new(LINE_MAX), on_ledger))?;
    protocols.run()?;
    match exit.get() {
        Some(exit) if exit.success() => Ok(()),
        other => Err(format!("the far side's end: {other:?}").into()),
    }
}

/// What a person would do.
fn on_terminal(terminal: &mut Transport<'_>, line: Frame<'_>) {
    let line = text(line);
    println!("terminal: {line}");
    if line == "who is there?" {
        send(terminal.process(), "terminal", b"Ada\n");
    } else {
        let process = terminal.process();
        send(process, "numbers", b"17\n4\nmany\n21\n");
        let _ = process.close("numbers");
    }
}

fn on_log(log: &mut Transport<'_>, line: Frame<'_>) {
    let line = text(line);
    println!("log: {line}");
    if line == "that was all" {
        send(log.process(), "control", &frame("sum"));
    }
}

fn on_control(control: &mut Transport<'_>, frame: Frame<'_>) {
    println!("control: {}", text(frame));
    // The far side ends when it is closed.
    let _ = control.close();
}

// The far side.

fn far_side() -> Result<()> {
    // SAFETY: the first thing that this program does; nobody has taken or opened
    // any of these numbers.
    let mut inherited = unsafe { Inherited::new() }?;
    let ends = [
        inherited.duplex()?.named("terminal"),
        inherited.end(3, FdKind::STREAM)?.named("control"),
        inherited.end(4, FdKind::PIPE_READER)?.named("numbers"),
        inherited.end(5, FdKind::PIPE_WRITER)?.named("log"),
        inherited.end(6, FdKind::PIPE_WRITER)?.named("ledger"),
    ];

    let sum = Cell::new(0u64);
    let mut protocols = Protocols::new();
    let near = protocols.pump_mut().attach(ends);
    protocols.on_process(near, OnEvent(far_events));
    protocols.on(
        near,
        "terminal",
        Framed::new(Lines::new(LINE_MAX), |terminal, line| {
            let hello = format!("hello, {}\n", text(line));
            send(terminal.process(), "terminal", hello.as_bytes());
        }),
    )?;
    protocols.on(
        near,
        "numbers",
        Framed::new(Lines::new(LINE_MAX), |numbers, line| {
            let line = text(line);
            let said = match line.parse::<u64>() {
                Ok(number) => {
                    sum.set(sum.get() + number);
                    let total = format!("{} in all\n", sum.get());
                    send(numbers.process(), "ledger", total.as_bytes());
                    format!("added {number}\n")
                }
                Err(error) => format!("{line:?}: {error}\n"),
            };
            send(numbers.process(), "log", said.as_bytes());
        }),
    )?;
    protocols.on(
        near,
        "control",
        Framed::new(framing(), |control, request| {
            let answer = match request.bytes {
                b"sum" => format!("the sum is {}", sum.get()),
                other => format!("what is {other:?}?"),
            };
            send(control.process(), "control", &frame(&answer));
        }),
    )?;
    protocols.run()?;
    Ok(())
}

/// What concerns more than one channel.
fn far_events(near: &mut Process<'_>, event: Event<'_>) {
    match event {
        Event::Made { .. } => send(near, "terminal", b"who is there?\n"),
        Event::Closed { channel: Name::Text("numbers"), .. } => {
            send(near, "log", b"that was all\n");
            let _ = near.close("log");
        }
        Event::Closed { channel: Name::Text("control"), .. } => {
            let _ = near.close_all();
        }
        _ => {}
    }
}
