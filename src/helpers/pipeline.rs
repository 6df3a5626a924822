//! Commands whose output is each other's input.

extern crate std;

use core::borrow::Borrow;
use std::io;
use std::vec::Vec;

use super::jobs::{Jobs, Terms, Told};
use super::{Output, inherited, read};
use crate::channel::Channel;
use crate::child::{Child, Exit, OnDrop};
use crate::command::Command;

/// Commands that run at the same time, the 1 of each connected to the 0 of the
/// next: `one | two | three`.
///
/// The pipes between them are [`Channel::connected`]: no byte goes through the
/// parent, and the end of a command is the end of file for the next. A command
/// that has a channel of its own where a pipe has to be is an error of its spawn.
///
/// ```
/// use forkplan::{Command, Pipeline};
///
/// let pipeline = Pipeline::new([
///     Command::new("printf").arg("b\\na\\nb\\n"),
///     Command::new("sort").arg("-u"),
///     Command::new("wc").arg("-l"),
/// ]);
/// let stages = pipeline.output()?;
/// assert!(stages.iter().all(|stage| stage.exit.success()));
/// assert_eq!(stages[2].stdout.trim_ascii(), b"2");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pipeline<'fd> {
    stages: Vec<Command<'fd>>,
}

impl<'fd> Pipeline<'fd> {
    /// Copies the commands.
    pub fn new(stages: impl IntoIterator<Item = impl Borrow<Command<'fd>>>) -> Self {
        Self { stages: stages.into_iter().map(|stage| stage.borrow().clone()).collect() }
    }

    /// Runs all and says how each has ended: blocks until they are reaped, and
    /// their channels closed. What is left of 0, 1 and 2 is the parent's if
    /// nothing else is said.
    ///
    /// ```
    /// use forkplan::{Command, Pipeline, Signal};
    ///
    /// let yes = Command::new("yes");
    /// let mut head = Command::new("head");
    /// head.arg("-n1").stdout(forkplan::Channel::Null);
    /// let exits = Pipeline::new([&yes, &head]).status()?;
    /// assert_eq!(exits[0].signal(), Some(Signal::PIPE)); // nobody read on
    /// assert!(exits[1].success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn status(&self) -> io::Result<Vec<Exit>> {
        let outputs = run(self.spawn_with(inherited())?, &Terms { limit: 0, ..Terms::default() })?;
        Ok(outputs.into_iter().map(|output| output.exit).collect())
    }

    /// Runs all and collects what they write, each by itself: the stdout is that of
    /// the last. What is left of 0 is `/dev/null`, and of 1 and 2 is read, if
    /// nothing else is said. Blocks as [`Command::output`] does.
    pub fn output(&self) -> io::Result<Vec<Output>> {
        run(self.spawn_with(read())?, &Terms::default())
    }

    /// Starts all, for who has a pump of his own. What is left of 0, 1 and 2 is the
    /// parent's if nothing else is said.
    ///
    /// Should one fail, those before it are killed and reaped.
    ///
    /// ```
    /// use forkplan::{Channel::*, Command, Pipeline, wait_all};
    ///
    /// let mut tr = Command::new("tr");
    /// let pipeline = Pipeline::new([
    ///     Command::new("cat").fd(0, WritePipe),
    ///     tr.args(["a-z", "A-Z"]).stdout(ReadPipe),
    /// ]);
    /// let mut children = pipeline.spawn()?;
    /// let mut to_cat = std::fs::File::from(children[0].take(0).unwrap());
    /// std::io::Write::write_all(&mut to_cat, b"loud")?;
    /// drop(to_cat);
    /// let from_tr = std::fs::File::from(children[1].take(1).unwrap());
    /// assert_eq!(std::io::read_to_string(from_tr)?, "LOUD");
    /// assert!(wait_all(&mut children)?.iter().all(|exit| exit.success()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn spawn(&self) -> io::Result<Vec<Child>> {
        let mut children = self.spawn_with(inherited())?;
        for (child, stage) in children.iter_mut().zip(&self.stages) {
            child.set_on_drop(stage.on_drop);
        }
        Ok(children)
    }

    /// Children that are killed when they are dropped.
    fn spawn_with(&self, stdio: [Channel<'fd>; 3]) -> io::Result<Vec<Child>> {
        let mut children: Vec<Child> = Vec::with_capacity(self.stages.len());
        let mut from_last = None;
        for (stage, left) in self.stages.iter().zip((0..self.stages.len()).rev()) {
            let mut stage = stage.clone();
            // A pipe comes beside what is there, for which an error is told.
            if let Some(reader) = from_last.take() {
                stage.fd(0, reader);
            }
            if left > 0 {
                let (writer, reader) = Channel::connected()?;
                stage.fd(1, writer);
                from_last = Some(reader);
            }
            let mut stage = stage.with_stdio(stdio.clone());
            children.push(stage.on_drop(OnDrop::Kill).spawn()?);
        }
        Ok(children)
    }
}

fn run(children: Vec<Child>, terms: &Terms) -> io::Result<Vec<Output>> {
    let mut jobs = Jobs::new();
    let mut outputs: Vec<Option<io::Result<Output>>> = Vec::new();
    for (index, child) in children.into_iter().enumerate() {
        jobs.add(index, child, terms, &[])?;
        outputs.push(None);
    }
    while jobs.len() > 0 {
        jobs.turn(true, |told| {
            if let Told::Ended { index, captured } = told {
                outputs[index] = Some(captured.into_output());
            }
        })?;
    }
    outputs.into_iter().flatten().collect()
}
