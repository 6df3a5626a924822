//! Events for who uses the pump while he is told: their bytes and names do not
//! lie in it.

extern crate std;

use std::boxed::Box;
use std::sync::Arc;
use std::vec;

use super::event::{ChildKey, Event};
use super::feed::Ask;
use super::turns::Note;
use super::{Part, Pump, Token, Told};
use crate::channel::{ChannelInfo, Name};

/// What events are lent from in place of the pump.
#[derive(Debug)]
pub(crate) struct Lent {
    buffer: Box<[u8]>,
    infos: Arc<[ChannelInfo]>,
}

/// What there is to be told.
#[derive(Debug)]
pub(crate) enum News<'l> {
    Event(Event<'l>),
    /// For the producer of a channel of this child.
    Producer(ChildKey, Ask),
}

/// What is told, and the channel that it is about: its place among the child's, and
/// what is known of it.
pub(crate) type Addressed<'l> = (News<'l>, Option<(usize, &'l ChannelInfo)>);

impl Pump {
    /// What its events can be lent from. Allocates a buffer as large as its own.
    pub(crate) fn lent(&self) -> Lent {
        Lent { buffer: vec![0; self.buffer.len()].into(), infos: Arc::default() }
    }

    /// As [`next_event`](Self::next_event). Copies nothing: what is read goes to
    /// the buffer of `lent` at once, and the names are shared.
    pub(crate) fn next_lent<'l>(&mut self, lent: &'l mut Lent) -> Option<Addressed<'l>> {
        let Lent { buffer, infos } = lent;
        let told = self.turn(buffer)?;
        let mut channel = None;
        // Moves `infos` in: what it finds lives as long as what is lent.
        let name = |token: Token| {
            let kept = infos;
            let slot = self.slots.get(token.child);
            *kept = slot.map(|slot| slot.infos.clone()).unwrap_or_default();
            let kept: &'l [ChannelInfo] = kept;
            channel = match (slot, token.part) {
                (Some(slot), Part::Channel(part)) => {
                    let place = slot.whole(part);
                    kept.get(place).map(|info| (place, info))
                }
                _ => None,
            };
            // Tokens of events are those of channels of children that have not ended.
            channel.map_or(Name::Fd(-1), |(_, info)| info.name())
        };
        let news = match told {
            Told::Data { token, len } => {
                let (child, channel) = (token.child, name(token));
                News::Event(Event::Data { child, channel, bytes: &buffer[..len] })
            }
            Told::Note(Note::Producer(token, ask)) => {
                name(token);
                self.told_producer(token, ask);
                News::Producer(token.child, ask)
            }
            Told::Note(note) => {
                let event = note.event(name)?;
                self.forget_ended(note);
                News::Event(event)
            }
        };
        Some((news, channel))
    }
}
