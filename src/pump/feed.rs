//! What a channel's producer is told, and when. Pure, but for the way to the
//! channel.

extern crate std;

use super::event::{ChannelError, ChildKey};
use super::source::AfterFlush;
use super::turns::Note;
use super::{Part, Pump, Token};
use crate::channel::Name;

/// How a producer produces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// When it likes, unless it was paused.
    Push,
    /// When it is asked.
    Pull,
}

/// What a producer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Bytes were refused.
    Pause,
    /// There is room: go on, or produce once.
    Resume,
    /// Nothing is written any more. The last of it.
    Stop,
}

/// A channel's producer, as far as the channel knows it.
///
/// A push producer is told to pause and to go on by turns, beginning with a pause;
/// a pull producer is asked when it comes, and once after each write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Feed {
    /// There is none.
    #[default]
    None,
    Push {
        paused: bool,
    },
    Pull {
        /// To be asked when there is room.
        due: bool,
    },
    /// It is to be told to stop, and was not yet.
    Over,
}

impl From<Form> for Feed {
    fn from(form: Form) -> Self {
        match form {
            Form::Push => Self::Push { paused: false },
            Form::Pull => Self::Pull { due: true },
        }
    }
}

impl Feed {
    /// So many of the bytes of a write were taken, whoever made it. What is to be
    /// told.
    #[must_use]
    pub(super) fn written(&mut self, taken: usize, of: usize) -> Option<Ask> {
        match self {
            Self::Push { paused } if taken < of => {
                let told = core::mem::replace(paused, true);
                (!told).then_some(Ask::Pause)
            }
            Self::Pull { due } => {
                // Nothing given is nothing done, and nobody is asked for more.
                *due |= of > 0;
                None
            }
            _ => None,
        }
    }

    /// The queue is at its low-water mark, and the channel takes more. What is to
    /// be told.
    #[must_use]
    pub(super) fn has_room(&mut self) -> Option<Ask> {
        let (Self::Push { paused: due } | Self::Pull { due }) = self else { return None };
        core::mem::take(due).then_some(Ask::Resume)
    }

    /// Nothing can be written any more. What is to be told.
    #[must_use]
    pub(super) fn ends(&mut self) -> Option<Ask> {
        match self {
            Self::None | Self::Over => None,
            Self::Push { .. } | Self::Pull { .. } => {
                *self = Self::Over;
                Some(Ask::Stop)
            }
        }
    }

    /// Whether room for a write is waited for.
    pub(super) fn wants_room(self) -> bool {
        matches!(self, Self::Push { paused: true } | Self::Pull { due: true })
    }
}

impl Pump {
    /// Tells of a channel what a producer of this form wants to know, to
    /// [`next_lent`](Self::next_lent) alone: if it is closed, that it is. The
    /// channel's place among the child's.
    pub(crate) fn set_producer(
        &mut self,
        child: ChildKey,
        channel: Name<'_>,
        form: Form,
    ) -> Result<usize, ChannelError> {
        let (token, place) = self.writing_token(child, channel)?;
        let Some(source) = self.slots.source_or_closed(token) else {
            return Err(ChannelError::NoChannel);
        };
        if !source.info.direction.writes() {
            return Err(ChannelError::NotWritable);
        }
        if source.feed != Feed::None {
            return Err(ChannelError::HasProducer);
        }
        if source.writing && source.after_flush == AfterFlush::Stay {
            source.feed = form.into();
            self.update(token);
        } else {
            source.feed = Feed::Over;
            // `Ended` is last, and may wait to be told.
            let is_end =
                |note: &Note| matches!(note, Note::Ended { child: of, .. } if *of == child);
            let at = self.notes.iter().position(is_end).unwrap_or(self.notes.len());
            self.notes.insert(at, Note::Producer(token, Ask::Stop));
        }
        Ok(place)
    }

    /// Forgets what was asked for by the above, and what of it was not told. The
    /// channel's place.
    pub(crate) fn unset_producer(
        &mut self,
        child: ChildKey,
        channel: Name<'_>,
    ) -> Result<usize, ChannelError> {
        let (token, place) = self.writing_token(child, channel)?;
        self.forget_producer(token);
        Ok(place)
    }

    /// The same, for every channel.
    pub(crate) fn unset_producers(&mut self) {
        for child in self.slots.keys().collect::<std::vec::Vec<_>>() {
            let count = self.slots.get(child).map_or(0, |slot| slot.sources.len());
            for part in 0..count as u32 {
                self.forget_producer(Token { child, part: Part::Channel(part) });
            }
        }
    }

    fn forget_producer(&mut self, token: Token) {
        let Some(source) = self.slots.source_or_closed(token) else { return };
        if core::mem::take(&mut source.feed) != Feed::None {
            self.notes.retain(|note| !matches!(note, Note::Producer(of, _) if *of == token));
            self.update(token);
        }
    }

    /// What a producer is to be told is told.
    pub(super) fn told_producer(&mut self, token: Token, ask: Ask) {
        if let (Ask::Stop, Some(source)) = (ask, self.slots.source_or_closed(token)) {
            source.feed = Feed::None;
        }
    }

    /// A write was made, of which so much was taken. Waits for what is wanted now.
    pub(super) fn written(&mut self, token: Token, taken: usize, of: usize) {
        let Some(source) = self.slots.source(token) else { return };
        if let Some(ask) = source.feed.written(taken, of) {
            self.notes.push_back(Note::Producer(token, ask));
        }
        self.sources.set(source.place, source.interest());
    }

    /// Nothing can be written to a channel any more.
    pub(super) fn stop_producer(&mut self, token: Token) {
        let Some(source) = self.slots.source_or_closed(token) else { return };
        if let Some(ask) = source.feed.ends() {
            self.notes.push_back(Note::Producer(token, ask));
        }
    }

    /// The part of a channel that is written to, open or closed, and the channel's
    /// place.
    fn writing_token(
        &self,
        child: ChildKey,
        channel: Name<'_>,
    ) -> Result<(Token, usize), ChannelError> {
        let slot = self.slots.get(child).ok_or(ChannelError::NoChild)?;
        let part = slot.writing_part(channel).ok_or(ChannelError::NoChannel)? as u32;
        Ok((Token { child, part: Part::Channel(part) }, slot.whole(part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn a_push_producer_is_paused_by_a_refusal_and_goes_on_when_there_is_room() {
        let mut feed = Feed::from(Form::Push);
        assert_eq!(feed.has_room(), None, "it was not paused");
        assert_eq!(feed.written(5, 5), None);
        assert_eq!(feed.written(3, 5), Some(Ask::Pause));
        assert_eq!(feed.written(0, 2), None, "told once");
        assert!(feed.wants_room());
        assert_eq!(feed.has_room(), Some(Ask::Resume));
        assert_eq!(feed.has_room(), None, "told once");
    }

    #[test]
    fn a_pull_producer_is_asked_at_first_and_once_after_each_write() {
        let mut feed = Feed::from(Form::Pull);
        assert_eq!(feed.has_room(), Some(Ask::Resume));
        assert_eq!(feed.has_room(), None, "it has written nothing");
        assert_eq!(feed.written(0, 0), None);
        assert!(!feed.wants_room());
        for (taken, of) in [(5, 5), (3, 5), (0, 5)] {
            assert_eq!(feed.written(taken, of), None, "never paused");
            assert_eq!(feed.has_room(), Some(Ask::Resume));
        }
    }

    #[test]
    fn a_producer_is_stopped_once_and_told_no_more() {
        for form in [Form::Push, Form::Pull] {
            let mut feed = Feed::from(form);
            let _ = feed.written(0, 1);
            assert_eq!(feed.ends(), Some(Ask::Stop));
            assert_eq!((feed.ends(), feed.has_room(), feed.written(0, 1)), (None, None, None));
        }
        assert_eq!(Feed::None.ends(), None);
    }

    /// An obviously right producer: what it is, after what it was told.
    fn check(form: Form, told: &[Ask]) -> Result<(), TestCaseError> {
        for (at, pair) in told.windows(2).enumerate() {
            prop_assert_ne!(pair[0], Ask::Stop, "told after the end, {}: {:?}", at, told);
            prop_assert!(form == Form::Pull || pair[0] != pair[1], "by turns: {:?}", told);
        }
        let never = if form == Form::Pull { Ask::Pause } else { Ask::Stop };
        prop_assert!(told.first().is_none_or(|first| form == Form::Pull || *first != Ask::Resume));
        prop_assert!(form == Form::Push || !told.contains(&never));
        Ok(())
    }

    proptest! {
        #[test]
        fn whatever_happens_it_is_told_by_turns_and_the_end_is_last(
            pull in any::<bool>(),
            facts in proptest::collection::vec((0usize..8, 0usize..3, 0usize..3), 0..60),
        ) {
            let form = if pull { Form::Pull } else { Form::Push };
            let mut feed = Feed::from(form);
            let (mut told, mut writes) = (Vec::new(), 1);
            for (fact, taken, refused) in facts {
                told.extend(match fact {
                    0 => feed.ends(),
                    1..=3 => feed.has_room(),
                    _ => {
                        writes += usize::from(taken + refused > 0);
                        feed.written(taken, taken + refused)
                    }
                });
                let asks = told.iter().filter(|&&ask| ask == Ask::Resume).count();
                prop_assert!(asks <= writes, "{} asks for {} writes", asks, writes);
            }
            check(form, &told)?;
        }
    }
}
