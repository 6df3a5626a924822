//! The handlers of all children, and what it takes to call one.

extern crate std;

use core::panic::AssertUnwindSafe;
use std::boxed::Box;
use std::collections::{HashMap, VecDeque};
use std::panic::catch_unwind;
use std::vec::Vec;

use super::failure::HandlerPanic;
use super::handler::{ChannelHandler, ProcessHandler};
use super::producer::Producer;
use super::transport::{Added, Process, Transport};
use crate::channel::ChannelInfo;
use crate::child::OnDrop;
use crate::pump::{Ask, ChildKey, Event, News, Pump};
use crate::signal::Signal;

/// One child's handlers. One that is being called is not here.
#[derive(Default)]
struct Handlers<'h> {
    process: Option<Box<dyn ProcessHandler + 'h>>,
    /// By the channel's place among the child's; as long as it has to be.
    channels: Vec<Option<Box<dyn ChannelHandler + 'h>>>,
    /// The same.
    producers: Vec<Option<Producer<'h>>>,
    /// One has panicked. No other is set.
    torn_down: bool,
}

impl<'h> Handlers<'h> {
    fn channel(&mut self, place: usize) -> &mut Option<Box<dyn ChannelHandler + 'h>> {
        at(&mut self.channels, place)
    }

    fn producer(&mut self, place: usize) -> &mut Option<Producer<'h>> {
        at(&mut self.producers, place)
    }
}

/// The place in a list that is as long as it has to be.
fn at<T>(list: &mut Vec<Option<T>>, place: usize) -> &mut Option<T> {
    if list.len() <= place {
        list.resize_with(place + 1, || None);
    }
    &mut list[place]
}

/// The pump and the handlers.
///
/// A handler is taken out while it is called, and put back: so it can be lent
/// all the rest. What it sets meanwhile is noted, and done after that, so that
/// it may set one in its own place.
pub(super) struct Calls<'h> {
    pub(super) pump: Pump,
    pub(super) panics: VecDeque<HandlerPanic>,
    handlers: HashMap<ChildKey, Handlers<'h>>,
    added: Vec<Added>,
    /// How many children had been taken out of the pump when it was last looked.
    removals: u64,
}

impl<'h> Calls<'h> {
    pub(super) fn new(pump: Pump) -> Self {
        let removals = pump.removals();
        let (panics, handlers, added) = (VecDeque::new(), HashMap::new(), Vec::new());
        Self { pump, panics, handlers, added, removals }
    }

    pub(super) fn set_process(&mut self, child: ChildKey, handler: Box<dyn ProcessHandler + 'h>) {
        match self.open_entry(child) {
            Some(handlers) => {
                let old = handlers.process.replace(handler);
                self.discard(child, old);
            }
            None => self.discard(child, handler),
        }
    }

    pub(super) fn set_channel(
        &mut self,
        child: ChildKey,
        place: usize,
        handler: Box<dyn ChannelHandler + 'h>,
    ) {
        match self.open_entry(child) {
            Some(handlers) => {
                let old = handlers.channel(place).replace(handler);
                self.discard(child, old);
            }
            None => self.discard(child, handler),
        }
    }

    pub(super) fn set_producer(
        &mut self,
        child: ChildKey,
        place: usize,
        producer: Option<Producer<'h>>,
    ) {
        match self.open_entry(child) {
            Some(handlers) => {
                let old = core::mem::replace(handlers.producer(place), producer);
                self.discard(child, old);
            }
            None => self.discard(child, producer),
        }
    }

    /// Drops the handlers of children that were taken out of the pump.
    pub(super) fn forget_removed(&mut self) {
        let removals = self.pump.removals();
        if core::mem::replace(&mut self.removals, removals) == removals {
            return;
        }
        let gone = |child: &ChildKey| self.pump.channel_infos(*child).is_none();
        let gone: Vec<ChildKey> = self.handlers.keys().copied().filter(gone).collect();
        for child in gone {
            let handlers = self.handlers.remove(&child);
            self.discard(child, handlers);
        }
    }

    /// Whose turn it is.
    pub(super) fn route(&mut self, news: News<'_>, channel: Option<(usize, &ChannelInfo)>) {
        match (news, channel) {
            (News::Event(event), channel) => self.route_event(event, channel),
            (News::Producer(child, ask), Some((place, info))) => {
                self.call_producer(child, place, info, ask);
            }
            // A producer has a channel.
            (News::Producer(..), None) => {}
        }
    }

    fn route_event(&mut self, event: Event<'_>, channel: Option<(usize, &ChannelInfo)>) {
        let child = event.child();
        match (&event, channel) {
            (_, Some((place, info))) => {
                let handled = self.call_channel(child, place, info, event.clone());
                if !handled || matches!(event, Event::Closed { .. }) {
                    self.call_process(child, event);
                }
            }
            (Event::Made { .. }, None) => {
                self.call_process(child, event.clone());
                self.made(child, event);
            }
            (Event::Ended { .. } | Event::NotStarted { .. }, None) => {
                self.call_process(child, event);
                let handlers = self.handlers.remove(&child);
                self.discard(child, handlers);
            }
            // The orphan has no handler yet.
            (Event::Adopted { leader, .. }, None) => self.call_process(*leader, event),
            (_, None) => self.call_process(child, event),
        }
    }

    /// Tells each channel's handler that the child was added.
    fn made(&mut self, child: ChildKey, event: Event<'_>) {
        let Some(infos) = self.pump.channel_infos(child) else { return };
        for (place, info) in infos.iter().enumerate() {
            self.call_channel(child, place, info, event.clone());
        }
    }

    fn call_process(&mut self, child: ChildKey, event: Event<'_>) {
        let Some(handlers) = self.handlers.get_mut(&child) else { return };
        let Some(mut handler) = handlers.process.take() else { return };
        if self.caught(child, |process| handler.event(process, event)) {
            if let Some(handlers) = self.handlers.get_mut(&child) {
                handlers.process = Some(handler);
            }
        } else {
            self.discard(child, handler);
        }
        self.do_what_was_asked();
    }

    /// Whether the channel has a handler.
    fn call_channel(
        &mut self,
        child: ChildKey,
        place: usize,
        info: &ChannelInfo,
        event: Event<'_>,
    ) -> bool {
        let Some(handlers) = self.handlers.get_mut(&child) else { return false };
        let Some(mut handler) = handlers.channels.get_mut(place).and_then(Option::take) else {
            return false;
        };
        let call = |process: &mut Process<'_>| {
            let process = process.other(process.key());
            handler.event(&mut Transport { process, info }, event);
        };
        if self.caught(child, call) {
            if let Some(handlers) = self.handlers.get_mut(&child) {
                *handlers.channel(place) = Some(handler);
            }
        } else {
            self.discard(child, handler);
        }
        self.do_what_was_asked();
        true
    }

    fn call_producer(&mut self, child: ChildKey, place: usize, info: &ChannelInfo, ask: Ask) {
        let Some(handlers) = self.handlers.get_mut(&child) else { return };
        let Some(mut producer) = handlers.producers.get_mut(place).and_then(Option::take) else {
            return;
        };
        let call = |process: &mut Process<'_>| {
            let process = process.other(process.key());
            producer.tell(ask, &mut Transport { process, info });
        };
        if self.caught(child, call) && ask != Ask::Stop {
            if let Some(handlers) = self.handlers.get_mut(&child) {
                *handlers.producer(place) = Some(producer);
            }
        } else {
            self.discard(child, producer);
        }
        self.do_what_was_asked();
    }

    /// One call. `false`: it has panicked, and its child is torn down.
    ///
    /// Nobody sees a broken state: the pump calls nobody, so what it was asked
    /// to do it has done; and a handler that panics is not called again.
    fn caught(&mut self, child: ChildKey, call: impl FnOnce(&mut Process<'_>)) -> bool {
        let mut process = Process { pump: &mut self.pump, added: &mut self.added, child };
        let Err(payload) = catch_unwind(AssertUnwindSafe(|| call(&mut process))) else {
            return true;
        };
        self.panics.push_back(HandlerPanic::new(child, payload));
        self.tear_down(child);
        false
    }

    /// Goes on without the handlers of a child.
    fn tear_down(&mut self, child: ChildKey) {
        // Both fail if it has ended, and then there is nothing to do.
        let _ = self.pump.abort_all(child);
        if self.pump.child(child).is_some_and(|child| child.on_drop() == OnDrop::Kill) {
            let _ = self.pump.signal(child, Signal::KILL);
        }
        let torn_down = Handlers { torn_down: true, ..Handlers::default() };
        let handlers = self.handlers.insert(child, torn_down);
        self.discard(child, handlers);
    }

    /// Drops what is a user's, which may panic as well.
    fn discard<T>(&mut self, child: ChildKey, value: T) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
            self.panics.push_back(HandlerPanic::new(child, payload));
        }
    }

    fn do_what_was_asked(&mut self) {
        for added in core::mem::take(&mut self.added) {
            match added {
                Added::Process(child, handler) => self.set_process(child, handler),
                Added::Channel(child, place, handler) => self.set_channel(child, place, handler),
                Added::Producer(child, place, producer) => {
                    self.set_producer(child, place, Some(producer));
                }
                Added::NoProducer(child, place) => self.set_producer(child, place, None),
            }
        }
        // Of a child that it took out nobody else is told, not of this event either.
        self.forget_removed();
    }

    /// The handlers of a child, unless it has ended or was torn down.
    fn open_entry(&mut self, child: ChildKey) -> Option<&mut Handlers<'h>> {
        self.pump.channel_infos(child)?;
        let handlers = self.handlers.entry(child).or_default();
        (!handlers.torn_down).then_some(handlers)
    }
}
