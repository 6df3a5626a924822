//! Which process is an orphan, and whose.

extern crate std;

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;
use std::vec::Vec;

use super::super::event::ChildKey;
use super::super::slots::Slots;
use crate::child::{Child, OnDrop};
use crate::limits::CHILD_LISTS_MAX;
use crate::sys::{Errno, orphans, process};

/// The sessions whose orphans are adopted.
///
/// An orphan is told from a child that this program has made by its session. A
/// process is born in its parent's, and leaves it only for one that it leads. So a
/// child of ours which is in a session that another child of ours leads was born
/// below that one.
///
/// A session's number is its own as long as anybody is in it. That it still is the
/// session that was meant, we know from a **witness**: the leader, or an orphan that
/// was adopted, which nobody has reaped and which is in it. So each look comes before
/// such a process is reaped, and without a witness the number is not asked for any
/// more.
#[derive(Debug, Default)]
pub(in crate::pump) struct Orphans {
    pub(super) sessions: Vec<Session>,
    /// Orphans that the caller took out, until they are reaped: those are his.
    let_go: Vec<i32>,
    /// When the next look is, whatever happens.
    pub(super) due: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) leader: ChildKey,
    /// Its number, and the leader's.
    pub(super) id: i32,
    /// What becomes of an orphan whose handle is dropped.
    pub(super) on_drop: OnDrop,
    /// The orphans that were not reaped yet, by key and pid.
    pub(super) adopted: Vec<(ChildKey, i32)>,
}

/// An orphan that is not adopted yet, of the session of this leader.
pub(super) struct Found {
    pub(super) leader: ChildKey,
    pub(super) pid: i32,
    pub(super) pidfd: Option<OwnedFd>,
}

/// Whether a process has to be looked at once more before it is reaped, for what it
/// leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::pump) enum Leaves {
    /// Nobody has asked.
    #[default]
    Unasked,
    Unseen,
    /// It had ended before the last look.
    Seen,
}

impl Orphans {
    pub(in crate::pump) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The orphans that are not in the pump.
    pub(super) fn find(&mut self, slots: &Slots) -> Result<Vec<Found>, Errno> {
        if self.sessions.is_empty() {
            return Ok(Vec::new());
        }
        self.let_go.retain(|&pid| process::has_ended(pid, None).is_ok());
        let known: HashSet<i32> = slots.pids().chain(self.let_go.iter().copied()).collect();
        let mut found: Vec<Found> = list_children()?
            .into_iter()
            .filter(|pid| !known.contains(pid))
            .filter_map(|pid| self.claim(pid))
            .collect();
        // Whose number it is after they were seen in it, it was then.
        self.keep(|session| session.has_witness(slots));
        found.retain(|found| self.session(found.leader).is_some());
        Ok(found)
    }

    /// An orphan, if it is in one of the sessions.
    fn claim(&self, pid: i32) -> Option<Found> {
        let leader = || {
            let id = orphans::session_of(pid).ok()?;
            let session = self.sessions.iter().find(|session| session.id == id && pid != id);
            session.map(|session| session.leader)
        };
        leader()?;
        let pidfd = process::open_pidfd(pid);
        let leader = leader()?;
        // A child of ours that nobody has reaped, so what was asked was about it.
        process::has_ended(pid, pidfd.as_ref().map(AsFd::as_fd)).ok()?;
        Some(Found { leader, pid, pidfd })
    }

    pub(super) fn session(&mut self, leader: ChildKey) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.leader == leader)
    }

    /// A process was reaped: its session may have no witness any more.
    pub(super) fn reaped(&mut self, child: ChildKey, slots: &Slots) {
        self.keep(|session| {
            let before = session.adopted.len();
            session.adopted.retain(|&(key, _)| key != child);
            let was_in_it = session.leader == child || session.adopted.len() < before;
            !was_in_it || session.has_witness(slots)
        });
    }

    /// A process leaves the pump, and is no witness.
    pub(super) fn let_go(&mut self, child: ChildKey, pid: Option<i32>, slots: &Slots) {
        self.let_go.extend(pid);
        self.keep(|session| session.leader != child);
        self.reaped(child, slots);
    }

    /// Drops the sessions that are not to be kept.
    pub(super) fn keep(&mut self, keep: impl FnMut(&mut Session) -> bool) {
        self.sessions.retain_mut(keep);
        if self.sessions.is_empty() {
            self.due = None;
            // No later session has any of them.
            self.let_go.clear();
        }
    }
}

impl Session {
    fn has_witness(&self, slots: &Slots) -> bool {
        let is_unreaped = |key| {
            let child = slots.get(key).and_then(|slot| slot.child.as_ref());
            child.and_then(Child::has_ended).is_some()
        };
        // A leader can't leave its session, and an orphan not without it being seen.
        is_unreaped(self.leader)
            || self
                .adopted
                .iter()
                .any(|&(key, pid)| orphans::session_of(pid) == Ok(self.id) && is_unreaped(key))
    }
}

/// All children of this process, each once.
fn list_children() -> Result<Vec<i32>, Errno> {
    let mut all = Vec::new();
    orphans::each_child(|pid| all.push(pid))?;
    let mut last = 0;
    for _ in 1..CHILD_LISTS_MAX {
        let begin = all.len();
        orphans::each_child(|pid| all.push(pid))?;
        // What it left out, one of the two would have left out alone.
        if all[last..begin] == all[begin..] {
            break;
        }
        last = begin;
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_let_go_is_not_kept_when_no_session_is_left() {
        let (mut orphans, slots) = (Orphans::default(), Slots::default());
        for generation in 0..100 {
            let leader = ChildKey { index: 0, generation };
            let on_drop = OnDrop::Detach;
            orphans.sessions.push(Session { leader, id: 1, on_drop, adopted: Vec::new() });
            orphans.let_go(leader, Some(i32::MAX), &slots);
        }
        assert!(orphans.sessions.is_empty() && orphans.let_go.is_empty());
    }
}
