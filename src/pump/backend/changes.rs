//! What a loop that is not ours has to be told.

extern crate std;

use std::collections::VecDeque;
use std::vec::Vec;

use crate::sys::poll::Interest;

/// A change of a source, for who waits for it in our place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pump) enum What {
    Add(Interest),
    Modify(Interest),
    Remove,
}

/// Places whose sources wait for something else than the other loop knows. What
/// changes several times before it is told is told once.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// By place.
    known: Vec<Known>,
    queue: VecDeque<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// What the other loop waits for; empty if it does not know the source.
    interest: Option<Interest>,
    queued: bool,
    left: bool,
}

impl Changes {
    /// What the source at `place` waits for has changed, or is to be told again.
    pub(super) fn note(&mut self, place: usize) {
        if self.known.len() <= place {
            self.known.resize(place + 1, Known::default());
        }
        if !core::mem::replace(&mut self.known[place].queued, true) {
            self.queue.push_back(place);
        }
    }

    /// The source at `place` has left.
    pub(super) fn note_end(&mut self, place: usize) {
        self.note(place);
        self.known[place].left = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The next place that was noted, and what is to be told of it, if anything.
    pub(super) fn next(
        &mut self,
        interest: impl Fn(usize) -> Interest,
    ) -> Option<(usize, Option<What>)> {
        let place = self.queue.pop_front()?;
        let known = &mut self.known[place];
        known.queued = false;
        let now = Some(interest(place)).filter(|interest| !interest.is_empty());
        let before = core::mem::replace(&mut known.interest, now);
        let what = match (before, now) {
            (None, None) => None,
            (None, Some(now)) => Some(What::Add(now)),
            (Some(_), None) => Some(What::Remove),
            (Some(_), Some(now)) => Some(What::Modify(now)),
        };
        Some((place, what))
    }

    pub(super) fn has_left(&self, place: usize) -> bool {
        self.known[place].left
    }

    /// The places whose sources have left, and of which that was not told.
    pub(super) fn left(&self) -> impl Iterator<Item = usize> {
        self.known.iter().zip(0..).filter(|(known, _)| known.left).map(|(_, place)| place)
    }

    /// The place is free for another source.
    pub(super) fn forget(&mut self, place: usize) {
        self.known[place] = Known::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(changes: &mut Changes, now: Interest) -> Option<What> {
        changes.next(|_| now)?.1
    }

    #[test]
    fn a_source_is_added_modified_and_removed() {
        let mut changes = Changes::default();
        changes.note(3);
        assert_eq!(told(&mut changes, Interest::READ), Some(What::Add(Interest::READ)));
        changes.note(3);
        assert_eq!(told(&mut changes, Interest::WRITE), Some(What::Modify(Interest::WRITE)));
        changes.note(3);
        assert_eq!(told(&mut changes, Interest::empty()), Some(What::Remove));
        assert!(changes.is_empty());
    }

    #[test]
    fn several_changes_before_one_is_told_are_one() {
        let mut changes = Changes::default();
        changes.note(0);
        changes.note(0);
        assert_eq!(told(&mut changes, Interest::READ), Some(What::Add(Interest::READ)));
        assert!(changes.is_empty());
    }

    #[test]
    fn who_came_and_went_unknown_is_not_told_of() {
        let mut changes = Changes::default();
        changes.note(0);
        changes.note_end(0);
        assert_eq!(changes.next(|_| Interest::empty()), Some((0, None)));
        assert!(changes.has_left(0));
        assert!(changes.is_empty());
    }
}
