//! Producers that note what they are told.

// Each test file uses a part of this.
#![allow(dead_code)]

use std::cell::RefCell;
use std::rc::Rc;

use forkplan::{Producer, PullProducer, PushProducer, Transport};

/// What producers were told.
#[derive(Clone, Default)]
pub(crate) struct Told(pub(crate) Rc<RefCell<Vec<&'static str>>>);

impl Told {
    pub(crate) fn taken(&self) -> Vec<&'static str> {
        self.0.take()
    }

    pub(crate) fn is(&self, wanted: &[&str]) -> bool {
        *self.0.borrow() == wanted
    }

    /// A producer that notes what it is told and then does as `act` says.
    pub(crate) fn then<F: FnMut(&'static str, &mut Transport<'_>)>(&self, act: F) -> Noting<F> {
        Noting(self.clone(), act)
    }
}

pub(crate) struct Noting<F>(Told, F);

impl<F: FnMut(&'static str, &mut Transport<'_>)> Noting<F> {
    fn note(&mut self, what: &'static str, channel: &mut Transport<'_>) {
        self.0.0.borrow_mut().push(what);
        (self.1)(what, channel);
    }
}

impl<F: FnMut(&'static str, &mut Transport<'_>)> PushProducer for Noting<F> {
    fn pause(&mut self, channel: &mut Transport<'_>) {
        self.note("pause", channel);
    }

    fn resume(&mut self, channel: &mut Transport<'_>) {
        self.note("resume", channel);
    }

    fn stop(&mut self, channel: &mut Transport<'_>) {
        self.note("stop", channel);
    }
}

impl<F: FnMut(&'static str, &mut Transport<'_>)> PullProducer for Noting<F> {
    fn produce(&mut self, channel: &mut Transport<'_>) {
        self.note("produce", channel);
    }

    fn stop(&mut self, channel: &mut Transport<'_>) {
        self.note("stop", channel);
    }
}

/// For a producer that only notes.
pub(crate) fn nothing(_: &'static str, _: &mut Transport<'_>) {}

/// One of either form that only notes.
pub(crate) fn both_forms(told: &Told) -> [Producer<'static>; 2] {
    [Producer::push(told.then(nothing)), Producer::pull(told.then(nothing))]
}
