//! A child's life as a list of facts, and what has to be told of each: slow,
//! written down fact by fact, and without a queue, a set or a turn.

use forkplan::{CloseReason, Signal};

use super::support::Seen;

/// What happens to a child and its channels, each once in a life. A process that
/// is not the child holds the far ends, so that no fact brings another about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fact {
    /// The child exits.
    Exit,
    /// The last bytes of channel 1, and its end of file.
    EndOfFile,
    /// We close channel 5.
    CloseByUs,
    /// A read of channel 3 fails.
    Error,
    /// A deadline comes, of a ladder that only tells.
    Deadline,
    /// Nobody reads channel 4 any more, and something is queued for it.
    BrokenPipe,
    /// Nobody reads channel 6 any more, and nothing is.
    HangUp,
    /// We close our half of channel 7.
    HalfClose,
    /// The other side closes channel 7.
    Gone,
    /// Channels may not outlive the process from here on.
    DrainLimit,
    /// Stops are to be told.
    Watch,
    /// The child is stopped, and goes on.
    StopAndGo,
    /// We close all channels.
    CloseAll,
    /// The child is taken out.
    Remove,
    /// The other side of what is attached writes no more.
    AttachedHalf,
    /// The other side of what is attached closes.
    AttachedGone,
}

pub(crate) const FACTS: [Fact; 16] = [
    Fact::Exit,
    Fact::EndOfFile,
    Fact::CloseByUs,
    Fact::Error,
    Fact::Deadline,
    Fact::BrokenPipe,
    Fact::HangUp,
    Fact::HalfClose,
    Fact::Gone,
    Fact::DrainLimit,
    Fact::Watch,
    Fact::StopAndGo,
    Fact::CloseAll,
    Fact::Remove,
    Fact::AttachedHalf,
    Fact::AttachedGone,
];

/// A rule of the model that may be broken, to see that somebody notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    EndedWaitsForTheExit,
    EndedWaitsForChannels,
    EndedIsLast,
    EndedIsOnce,
    DataComeBeforeClosed,
    NoDeadlineAfterTheExit,
    ErrorsAreTold,
}

pub(crate) const RULES: [Rule; 7] = [
    Rule::EndedWaitsForTheExit,
    Rule::EndedWaitsForChannels,
    Rule::EndedIsLast,
    Rule::EndedIsOnce,
    Rule::DataComeBeforeClosed,
    Rule::NoDeadlineAfterTheExit,
    Rule::ErrorsAreTold,
];

/// What the model says of an exit: the log that it is compared with says the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Seen(Seen),
    Exited,
    Ended,
}

impl From<&Seen> for Told {
    fn from(seen: &Seen) -> Self {
        match seen {
            Seen::Exited(_) => Self::Exited,
            Seen::Ended(_) => Self::Ended,
            seen => Self::Seen(seen.clone()),
        }
    }
}

/// Channels that are written to, and not read.
const WRITTEN: [i32; 2] = [4, 6];

pub(crate) struct Model {
    broken: Option<Rule>,
    open: Vec<i32>,
    exited: bool,
    watched: bool,
    limited: bool,
    /// It has ended, or was taken out.
    pub(crate) is_over: bool,
    pub(crate) told: Vec<Told>,
    pub(crate) attached_is_over: bool,
    pub(crate) told_of_attached: Vec<Told>,
}

impl Model {
    pub(crate) fn new(broken: Option<Rule>) -> Self {
        Self {
            broken,
            open: vec![1, 3, 4, 5, 6, 7],
            exited: false,
            watched: false,
            limited: false,
            is_over: false,
            told: vec![],
            attached_is_over: false,
            told_of_attached: vec![],
        }
    }

    pub(crate) fn is_open(&self, channel: i32) -> bool {
        !self.is_over && self.open.contains(&channel)
    }

    pub(crate) fn has_exited(&self) -> bool {
        self.exited
    }

    fn holds(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    fn tell(&mut self, seen: Seen) {
        self.told.push(Told::Seen(seen));
    }

    fn close(&mut self, channel: i32, reason: CloseReason, unsent: usize) {
        if self.is_open(channel) {
            self.open.retain(|&open| open != channel);
            self.tell(Seen::Closed(channel.to_string(), reason, unsent));
        }
    }

    fn close_all(&mut self, reason: CloseReason) {
        for channel in self.open.clone() {
            self.close(channel, reason, 0);
        }
    }

    /// What a fact brings about; `queued` bytes are lost with a broken pipe.
    pub(crate) fn take(&mut self, fact: Fact, queued: usize) {
        match fact {
            Fact::AttachedHalf if !self.attached_is_over => {
                self.told_of_attached.push(Told::Seen(Seen::HalfClosed("1".into())));
            }
            Fact::AttachedGone => {
                self.attached_is_over = true;
                let closed = Seen::Closed("1".into(), CloseReason::Peer, 0);
                self.told_of_attached.extend([Told::Seen(closed), Told::Ended]);
            }
            _ if self.is_over => {}
            fact => self.take_of_child(fact, queued),
        }
    }

    fn take_of_child(&mut self, fact: Fact, queued: usize) {
        let is_told = self.told.len();
        match fact {
            Fact::Exit => {
                self.exited = true;
                self.told.push(Told::Exited);
            }
            Fact::EndOfFile if self.is_open(1) => {
                self.tell(Seen::Data("1".into(), b"last".to_vec()));
                self.close(1, CloseReason::Peer, 0);
                if !self.holds(Rule::DataComeBeforeClosed) {
                    self.told[is_told..].reverse();
                }
            }
            Fact::CloseByUs => self.close(5, CloseReason::Us, 0),
            Fact::Error if self.holds(Rule::ErrorsAreTold) => {
                self.close(3, CloseReason::Error(libc::EIO), 0);
            }
            Fact::Error => self.close(3, CloseReason::Peer, 0),
            Fact::Deadline if !self.exited || !self.holds(Rule::NoDeadlineAfterTheExit) => {
                self.tell(Seen::TimedOut);
            }
            Fact::BrokenPipe => self.close(4, CloseReason::Peer, queued),
            Fact::HangUp => self.close(6, CloseReason::Peer, 0),
            Fact::Gone => self.close(7, CloseReason::Peer, 0),
            Fact::DrainLimit => self.limited = true,
            Fact::Watch => self.watched = true,
            Fact::StopAndGo if self.watched && !self.exited => {
                self.tell(Seen::Stopped(Signal::STOP));
                self.tell(Seen::Continued);
            }
            Fact::CloseAll => self.close_all(CloseReason::Us),
            Fact::Remove => self.is_over = true,
            _ => {}
        }
        if self.exited && self.limited {
            // What is read is read once more, when all others are closed.
            self.open.sort_by_key(|channel| !WRITTEN.contains(channel));
            self.close_all(CloseReason::Abandoned);
        }
        self.look_for_the_end(is_told);
    }

    fn look_for_the_end(&mut self, is_told: usize) {
        let exited = self.exited || !self.holds(Rule::EndedWaitsForTheExit);
        let closed = self.open.is_empty() || !self.holds(Rule::EndedWaitsForChannels);
        if self.is_over || !exited || !closed {
            return;
        }
        self.is_over = true;
        let at = if self.holds(Rule::EndedIsLast) { self.told.len() } else { is_told };
        self.told.insert(at, Told::Ended);
        if !self.holds(Rule::EndedIsOnce) {
            self.told.push(Told::Ended);
        }
    }
}
