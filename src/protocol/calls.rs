//! The handlers of all children, and what it takes to call one.

extern crate std;

use core::panic::AssertUnwindSafe;
use std::boxed::Box;
use std::collections::{HashMap, VecDeque};
use std::panic::catch_unwind;
use std::vec::Vec;

use super::failure::HandlerPanic;
use super::handler::{ChannelHandler, ProcessHandler};
use super::transport::{Added, Process, Transport};
use crate::channel::ChannelInfo;
use crate::child::OnDrop;
use crate::pump::{ChildKey, Event, Pump};
use crate::signal::Signal;

/// One child's handlers. One that is being called is not here.
#[derive(Default)]
struct Handlers<'h> {
    process: Option<Box<dyn ProcessHandler + 'h>>,
    /// By the channel's place among the child's; as long as it has to be.
    channels: Vec<Option<Box<dyn ChannelHandler + 'h>>>,
    /// One has panicked. No other is set.
    torn_down: bool,
}

impl<'h> Handlers<'h> {
    fn channel(&mut self, place: usize) -> &mut Option<Box<dyn ChannelHandler + 'h>> {
        if self.channels.len() <= place {
            self.channels.resize_with(place + 1, || None);
        }
        &mut self.channels[place]
    }
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
}

impl<'h> Calls<'h> {
    pub(super) fn new(pump: Pump) -> Self {
        Self { pump, panics: VecDeque::new(), handlers: HashMap::new(), added: Vec::new() }
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

    /// Whose turn the event is.
    pub(super) fn route(&mut self, event: Event<'_>, channel: Option<(usize, &ChannelInfo)>) {
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
            }
        }
    }

    /// The handlers of a child, unless it has ended or was torn down.
    fn open_entry(&mut self, child: ChildKey) -> Option<&mut Handlers<'h>> {
        self.pump.channel_infos(child)?;
        let handlers = self.handlers.entry(child).or_default();
        (!handlers.torn_down).then_some(handlers)
    }
}
