//! The children of a pump, by key.

extern crate std;

use std::boxed::Box;
use std::collections::VecDeque;
use std::sync::Arc;
use std::vec::Vec;

use super::event::{ChannelError, ChildKey};
use super::flow::Account;
use super::lifecycle::Lifecycle;
use super::orphans::Leaves;
use super::source::{AfterFlush, Source};
use super::time::Bounds;
use super::{Part, Token};
use crate::channel::{ChannelInfo, Name};
use crate::child::{Child, Exit};
use crate::limits::READS_PER_TURN_MAX;
use crate::sys::poll::Readiness;

/// One child in the pump.
#[derive(Debug)]
pub(super) struct Slot {
    /// `None`: channels without a process.
    pub(super) child: Option<Child>,
    pub(super) infos: Arc<[ChannelInfo]>,
    /// One for each of `infos`.
    pub(super) sources: Box<[Source]>,
    pub(super) life: Lifecycle,
    /// The pidfd's place in the backend, until the process is reaped.
    pub(super) exit_place: Option<usize>,
    /// The process waits for its turn to be reaped.
    pub(super) exit_in_turn: bool,
    pub(super) bounds: Bounds,
    /// What is queued for it, if that is limited.
    pub(super) account: Option<Arc<Account>>,
    /// Whether what it leaves behind is adopted.
    pub(super) leaves: Leaves,
}

impl Slot {
    /// How the process ended. Of one that is not there nothing is known, at once.
    pub(super) fn exit(&self) -> Option<Exit> {
        self.child.as_ref().map_or(Some(Exit::missed(None)), Child::exit)
    }

    /// The channel of this name, open or closed.
    pub(super) fn part(&self, channel: Name<'_>) -> Option<usize> {
        self.infos.iter().position(|info| info.is(channel))
    }

    /// One part for each channel: of two halves the first.
    pub(super) fn whole(&self, part: u32) -> usize {
        let other = self.sources.get(part as usize).and_then(|source| source.other_half);
        other.map_or(part, |other| other.min(part)) as usize
    }

    /// The part of this channel that is written to.
    pub(super) fn writing_part(&self, channel: Name<'_>) -> Option<usize> {
        let part = self.part(channel)?;
        Some(self.sources[part].other_half.map_or(part, |other| other as usize))
    }
}

/// Places that are used again, each with a count of who was there.
#[derive(Debug, Default)]
pub(super) struct Slots {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place {
    generation: u32,
    slot: Option<Slot>,
}

impl Slots {
    /// The key that [`insert`](Self::insert) will give.
    pub(super) fn next_key(&self) -> ChildKey {
        match self.free.last() {
            Some(&index) => ChildKey { index, generation: self.places[index as usize].generation },
            // A pump of 2^32 children has run out of fds long before.
            None => ChildKey { index: self.places.len() as u32, generation: 0 },
        }
    }

    pub(super) fn insert(&mut self, slot: Slot) {
        match self.free.pop() {
            Some(index) => self.places[index as usize].slot = Some(slot),
            None => self.places.push(Place { generation: 0, slot: Some(slot) }),
        }
    }

    pub(super) fn get(&self, key: ChildKey) -> Option<&Slot> {
        let place = self.places.get(key.index as usize)?;
        place.slot.as_ref().filter(|_| place.generation == key.generation)
    }

    pub(super) fn get_mut(&mut self, key: ChildKey) -> Option<&mut Slot> {
        let place = self.places.get_mut(key.index as usize)?;
        let current = place.generation == key.generation;
        place.slot.as_mut().filter(|_| current)
    }

    pub(super) fn remove(&mut self, key: ChildKey) -> Option<Slot> {
        self.get(key)?;
        let place = &mut self.places[key.index as usize];
        place.generation = place.generation.wrapping_add(1);
        self.free.push(key.index);
        place.slot.take()
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Of all that are there, in no order.
    pub(super) fn keys(&self) -> impl Iterator<Item = ChildKey> {
        self.places
            .iter()
            .zip(0..)
            .filter(|(place, _)| place.slot.is_some())
            .map(|(&Place { generation, .. }, index)| ChildKey { index, generation })
    }

    /// Of all processes that are there and were not reaped.
    pub(super) fn pids(&self) -> impl Iterator<Item = i32> {
        let slots = self.places.iter().filter_map(|place| place.slot.as_ref());
        slots.filter_map(|slot| slot.child.as_ref()?.id()).map(|pid| pid as i32)
    }

    /// The source of a token that is still open.
    pub(super) fn source(&mut self, token: Token) -> Option<&mut Source> {
        self.source_or_closed(token).filter(|source| source.end.is_some())
    }

    /// The source of a token.
    pub(super) fn source_or_closed(&mut self, token: Token) -> Option<&mut Source> {
        let Part::Channel(part) = token.part else { return None };
        self.get_mut(token.child)?.sources.get_mut(part as usize)
    }

    /// The other half of a channel that has two, while that is open.
    pub(super) fn other_half(&self, token: Token) -> Option<Token> {
        let Part::Channel(part) = token.part else { return None };
        let sources = &self.get(token.child)?.sources;
        let other = sources.get(part as usize)?.other_half?;
        sources.get(other as usize)?.end.as_ref()?;
        Some(Token { child: token.child, part: Part::Channel(other) })
    }

    /// The open channel of this name. Of two halves, the one that is read from as
    /// long as it is open.
    pub(super) fn find(
        &mut self,
        child: ChildKey,
        channel: Name<'_>,
    ) -> Result<(Token, &mut Source), ChannelError> {
        let slot = self.get_mut(child).ok_or(ChannelError::NoChild)?;
        let part = slot.part(channel).ok_or(ChannelError::NoChannel)?;
        match slot.sources[part].end {
            Some(_) => self.find_part(child, Some(part)),
            None => self.find_writing(child, channel),
        }
    }

    /// As above, the half that is written to.
    pub(super) fn find_writing(
        &mut self,
        child: ChildKey,
        channel: Name<'_>,
    ) -> Result<(Token, &mut Source), ChannelError> {
        let part = self.get(child).ok_or(ChannelError::NoChild)?.writing_part(channel);
        self.find_part(child, part)
    }

    fn find_part(
        &mut self,
        child: ChildKey,
        part: Option<usize>,
    ) -> Result<(Token, &mut Source), ChannelError> {
        let slot = self.get_mut(child).ok_or(ChannelError::NoChild)?;
        let part = part.ok_or(ChannelError::NoChannel)?;
        let source = &mut slot.sources[part];
        if source.end.is_none() {
            return Err(ChannelError::Closed);
        }
        Ok((Token { child, part: Part::Channel(part as u32) }, source))
    }

    /// The open channel of this name, if it takes writes.
    pub(super) fn writable(
        &mut self,
        child: ChildKey,
        channel: Name<'_>,
    ) -> Result<(Token, &mut Source), ChannelError> {
        let (token, source) = self.find_writing(child, channel)?;
        if !source.info.direction.writes() {
            return Err(ChannelError::NotWritable);
        }
        if !source.writing || source.after_flush != AfterFlush::Stay {
            return Err(ChannelError::Closed);
        }
        Ok((token, source))
    }

    /// The name of a token's channel.
    pub(super) fn name(&self, token: Token) -> Name<'_> {
        match (self.get(token.child), token.part) {
            (Some(slot), Part::Channel(part)) => slot.infos[part as usize].name(),
            // Tokens of events are those of children that have not ended.
            _ => Name::Fd(-1),
        }
    }

    /// The place in the backend of a source that has one.
    pub(super) fn place(&mut self, token: Token) -> Option<usize> {
        match token.part {
            Part::Channel(_) => self.source(token).map(|source| source.place),
            Part::Process => self.get(token.child)?.exit_place,
        }
    }

    /// Queues a source for its turn, once.
    pub(super) fn give_turn(
        &mut self,
        turns: &mut VecDeque<Token>,
        token: Token,
        readiness: Readiness,
    ) {
        let queued = match token.part {
            Part::Process => match self.get_mut(token.child) {
                Some(slot) => core::mem::replace(&mut slot.exit_in_turn, true),
                None => true,
            },
            Part::Channel(_) => match self.source(token) {
                Some(source) => {
                    source.ready |= readiness;
                    source.reads_left = READS_PER_TURN_MAX;
                    core::mem::replace(&mut source.in_turn, true)
                }
                None => true,
            },
        };
        if !queued {
            turns.push_back(token);
        }
    }

    /// Queues each process that has no pidfd and was not reaped, once.
    pub(super) fn give_ticking_turns(&mut self, turns: &mut VecDeque<Token>) {
        for (place, index) in self.places.iter_mut().zip(0..) {
            let Some(slot) = &mut place.slot else { continue };
            let ticks = slot.exit_place.is_none() && !slot.life.has_exited();
            if ticks && !core::mem::replace(&mut slot.exit_in_turn, true) {
                let child = ChildKey { index, generation: place.generation };
                turns.push_back(Token { child, part: Part::Process });
            }
        }
    }
}
