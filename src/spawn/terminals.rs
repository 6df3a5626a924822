//! Channels that are PTYs: which one controls the session, what each is called,
//! and what becomes of adopted ones when a spawn fails.

extern crate std;

use std::boxed::Box;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use super::{Opened, Opener, Scratch};
use crate::channel::{Channel, Name, Terminal};
use crate::command::{Mapped, PlanError, Setup};
use crate::plan::Step;

/// Makes a PTY of the child's the controlling terminal; its number is filled in
/// at each spawn.
pub(super) const CONTROLLING: Step = Step::ControllingTerminal { fd: -1 };

/// Which channels are PTYs.
#[derive(Clone, Debug)]
pub(super) struct Terminals {
    /// The opener whose terminal becomes the controlling one.
    pub(super) controlling: Option<usize>,
    /// Where each PTY is among the openers, and where among our ends.
    places: Box<[Place]>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    opener: usize,
    end: usize,
}

impl Terminals {
    pub(super) fn among(channels: &[Mapped<'_>], setup: &Setup<'_>) -> Result<Self, PlanError> {
        let with_end = |mapped: &&Mapped<'_>| mapped.channel.end_info().is_some();
        let place = |(opener, mapped): (usize, &Mapped<'_>)| match &mapped.channel {
            Channel::Pty(_) => {
                Some(Place { opener, end: channels[..opener].iter().filter(with_end).count() })
            }
            _ => None,
        };
        let places = channels.iter().enumerate().filter_map(place).collect();
        Ok(Self { controlling: controlling(channels, setup)?, places })
    }
}

/// The one of the channels that becomes the controlling terminal.
fn controlling(channels: &[Mapped<'_>], setup: &Setup<'_>) -> Result<Option<usize>, PlanError> {
    let controls = |mapped: &Mapped<'_>| match &mapped.channel {
        Channel::Pty(pty) => pty.is_controlling(),
        _ => false,
    };
    let mut found = channels.iter().enumerate().filter(|(_, mapped)| controls(mapped));
    let Some((index, _)) = found.next() else { return Ok(None) };
    let second = if found.next().is_some() {
        "another controlling PTY"
    } else if setup.controlling_terminal.is_some() {
        "controlling_terminal"
    } else if setup.process_group.is_some() {
        // The leader of a session can't change its group.
        "process_group"
    } else {
        return Ok(Some(index));
    };
    Err(PlanError::Contradiction { first: "a controlling PTY", second })
}

impl Opened<'_, '_> {
    /// The path under which the child will have the terminal that a channel is,
    /// as `tty` prints it; of an adopted one the path that was given.
    ///
    /// The error is `NotFound` if there is no such channel with an end of ours,
    /// else the system's: `ENOTTY` if the channel is no terminal.
    pub fn terminal_name<'n>(&self, channel: impl Into<Name<'n>>) -> io::Result<PathBuf> {
        let index = self.ends.find(channel.into());
        let end = index.and_then(|index| self.ends.get(index));
        let Some((index, end)) = index.zip(end) else {
            let words = "the child has no such channel";
            return Err(io::Error::new(io::ErrorKind::NotFound, words));
        };
        let place = self.prepared.terminals.places.iter().find(|place| place.end == index);
        let opener = place.map(|place| &self.prepared.openers[place.opener]);
        let given = match opener {
            Some(Opener::Pty(pty)) => pty.given_name(),
            _ => None,
        };
        match given {
            Some(name) => Ok(name.into()),
            None => Terminal::of(end.as_fd()).name(),
        }
    }

    /// Gives adopted PTYs back to the command, for its next spawn. After a spawn
    /// that succeeded there is none: our ends are the child's handle's.
    pub(super) fn give_terminals_back(&mut self) {
        let Scratch { made, .. } = &mut self.prepared.scratch;
        for place in &self.prepared.terminals.places {
            let Opener::Pty(pty) = &self.prepared.openers[place.opener] else { continue };
            let Some(master) = self.ends.take(place.end) else { continue };
            // The two are opened together.
            if let Some(slave) = made.get_mut(place.opener).and_then(|made| made.theirs.take()) {
                pty.give_back(master, slave);
            }
        }
    }
}
