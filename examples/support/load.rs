//! What the examples of loops carry: fifty children, whose every byte and exit is
//! checked, with about two hundred channels and processes to wait for.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use forkplan::{Channel, ChildKey, Command, Event, Exit, Ladder, Name, OnDrop, Pump};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The children that have not ended.
pub(crate) struct Load {
    children: HashMap<ChildKey, Expected>,
    ended: usize,
    wrong: Vec<String>,
}

/// What one child is given and has to do.
#[derive(Default)]
struct Expected {
    input: Vec<u8>,
    written: usize,
    /// All input was written, or there is none to write yet.
    fed: bool,
    /// By fd: what it has to say, and how much of that it has said.
    output: [Vec<u8>; 3],
    said: [usize; 3],
    /// Its exit code; none if it has to be killed at its deadline.
    code: Option<i32>,
    timed_out: bool,
    /// Waits for a line on its 3, which it gets when it was seen to close its 0.
    closes_first: bool,
}

impl Load {
    /// Spawns them all.
    pub(crate) fn start(pump: &mut Pump) -> Result<Self> {
        let mut load = Self { children: HashMap::new(), ended: 0, wrong: Vec::new() };
        // More than a pipe holds, and more than a queue takes at once.
        let mut cat = Command::new("cat").prepare()?;
        for input in (0..32).map(|n| pattern(n * 17_389)) {
            let output = [vec![], input.clone(), vec![]];
            let cat = pump.add(cat.spawn()?);
            load.children
                .insert(cat, Expected { input, output, code: Some(0), ..Expected::default() });
        }
        // One socket for both ways: the end of the input is half a close.
        let mut cat = Command::new("cat");
        let mut cat = cat.fds([0, 1], Channel::SocketPair).prepare()?;
        for input in [0, 1, 100_000, 300_000].map(pattern) {
            let output = [input.clone(), vec![], vec![]];
            let cat = pump.add(cat.spawn()?);
            load.children
                .insert(cat, Expected { input, output, code: Some(0), ..Expected::default() });
        }
        // Each with an exit of its own.
        let script = "read code; echo said; echo $code >&2; exit $code";
        let mut sh = Command::new("sh").args(["-c", script]).prepare()?;
        for code in 0..8 {
            let input = format!("{code}\n").into_bytes();
            let output = [vec![], b"said\n".to_vec(), input.clone()];
            let sh = pump.add(sh.spawn()?);
            load.children
                .insert(sh, Expected { input, output, code: Some(code), ..Expected::default() });
        }
        load.add_difficult_ones(pump)?;
        Ok(load)
    }

    /// Those that a loop forgets most easily.
    fn add_difficult_ones(&mut self, pump: &mut Pump) -> Result<()> {
        for _ in 0..2 {
            // Reads ten bytes of a million: nobody takes the rest.
            let head = pump.add(Command::new("head").args(["-c", "10"]).spawn()?);
            let output = [vec![], pattern(10), vec![]];
            let (input, code) = (pattern(1_000_000), Some(0));
            self.children.insert(head, Expected { input, output, code, ..Expected::default() });

            // Closes a channel on which nothing is sent.
            let mut command = Command::new("sh");
            command.args(["-c", "exec 0<&-; read line <&3; echo $line"]);
            command.fd(0, Channel::WritePipe).fd(1, Channel::ReadPipe).fd(3, Channel::WritePipe);
            let sh = pump.add(command.spawn()?);
            let (output, code) = ([vec![], b"heard\n".to_vec(), vec![]], Some(0));
            let last =
                Expected { output, code, fed: true, closes_first: true, ..Expected::default() };
            self.children.insert(sh, last);

            // Does nothing: only a deadline ends it.
            let mut command = Command::new("sleep");
            let sleep = pump.add(command.arg("1000").on_drop(OnDrop::Kill).spawn()?);
            let deadline = Instant::now() + Duration::from_millis(200);
            pump.set_deadline(sleep, Some(deadline), Ladder::kill())?;
            self.children.insert(sleep, Expected { fed: true, ..Expected::default() });
        }
        Ok(())
    }

    /// Hears all events that there are, and goes on writing.
    pub(crate) fn drain(&mut self, pump: &mut Pump) -> Result<()> {
        loop {
            while let Some(event) = pump.next_event() {
                self.hear(&event);
            }
            self.feed(pump)?;
            // What is written to a program that is gone is an event at once.
            if !pump.has_events() {
                return Ok(());
            }
        }
    }

    fn hear(&mut self, event: &Event<'_>) {
        let Some(child) = self.children.get_mut(&event.child()) else {
            self.wrong.push(format!("an event of a child that has ended: {event:?}"));
            return;
        };
        match *event {
            Event::Data { channel: Name::Fd(fd @ 0..3), bytes, .. } => {
                let (output, said) = (&child.output[fd as usize], &mut child.said[fd as usize]);
                if output.get(*said..*said + bytes.len()) != Some(bytes) {
                    self.wrong.push(format!("wrong bytes on {fd}, after {said}"));
                }
                *said += bytes.len();
            }
            Event::Closed { channel: Name::Fd(0), .. } if child.closes_first => {
                child.closes_first = false;
                child.fed = false;
                child.input = b"heard\n".to_vec();
            }
            Event::TimedOut { .. } => child.timed_out = true,
            Event::Ended { child: key, exit } => {
                if let Err(what) = child.check(exit) {
                    self.wrong.push(what);
                }
                self.children.remove(&key);
                self.ended += 1;
            }
            _ => {}
        }
    }

    /// Writes what is left, as far as it is taken.
    fn feed(&mut self, pump: &mut Pump) -> Result<()> {
        for (&key, child) in &mut self.children {
            // By 3, who has one.
            let fd = if pump.is_open(key, 3) { 3 } else { 0 };
            if child.fed || !pump.is_open(key, fd) {
                continue;
            }
            child.written += pump.write(key, fd, &child.input[child.written..])?;
            child.fed = child.written == child.input.len();
            if child.fed {
                // As soon as its queue is written.
                pump.close_write(key, fd)?;
            }
        }
        Ok(())
    }

    /// Whether all has been right.
    pub(crate) fn finish(self) -> Result<()> {
        println!("{} children have ended", self.ended);
        match (&self.wrong[..], self.ended, self.children.len()) {
            ([], 50, 0) => Ok(()),
            (wrong, ended, left) => Err(format!("{ended} ended, {left} left: {wrong:#?}").into()),
        }
    }
}

impl Expected {
    fn check(&self, exit: Exit) -> std::result::Result<(), String> {
        let killed = exit.signal().map(|signal| signal.number()) == Some(9);
        let right = match self.code {
            Some(code) => exit.code() == Some(code) && !self.timed_out,
            None => killed && self.timed_out,
        };
        let all = self.output.iter().zip(self.said).all(|(output, said)| output.len() == said);
        if right && all {
            return Ok(());
        }
        Err(format!("{exit}, timed out: {}, said {:?}", self.timed_out, self.said))
    }
}

/// No two pieces are alike, nor in a wrong order.
fn pattern(size: u32) -> Vec<u8> {
    (0..size).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}
