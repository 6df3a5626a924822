//! A pump in a loop that is not its own, and that says exactly what it found.

#[path = "support/pump.rs"]
mod support;

use core::time::Duration;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant;

use forkplan::{Backend, Change, Channel, Command, Interest, OnDrop, Pump, Readiness, SourceKey};
use support::{Seen, owned};

/// poll(2), as a caller may have it.
struct Loop {
    pump: Pump,
    watched: BTreeMap<SourceKey, (RawFd, i16)>,
    log: Vec<Seen>,
}

impl Loop {
    fn new() -> Self {
        let pump = Pump::with_backend(Backend::Foreign).unwrap();
        Self { pump, watched: BTreeMap::new(), log: Vec::new() }
    }

    fn drain(&mut self) {
        while let Some(event) = self.pump.next_event() {
            self.log.push(owned(event).1);
        }
        while let Some(change) = self.pump.next_change() {
            match change {
                Change::Add { source, fd, interest } | Change::Modify { source, fd, interest } => {
                    let read = if interest.contains(Interest::READ) { libc::POLLIN } else { 0 };
                    let write = if interest.contains(Interest::WRITE) { libc::POLLOUT } else { 0 };
                    self.watched.insert(source, (fd.as_raw_fd(), read | write));
                }
                Change::Remove { source, .. } => drop(self.watched.remove(&source)),
                other => panic!("a change that the tests do not know: {other:?}"),
            }
        }
    }

    /// Waits, and tells the pump of each source what poll(2) said; so does this.
    fn turn(&mut self) -> Vec<i16> {
        let mut polled: Vec<libc::pollfd> = self
            .watched
            .values()
            .map(|&(fd, events)| libc::pollfd { fd, events, revents: 0 })
            .collect();
        // SAFETY: an array of so many.
        let count = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as _, 120_000) };
        assert!(count > 0, "hung: {:?}", self.log.last());
        let gone = libc::POLLHUP | libc::POLLERR;
        for (&key, polled) in self.watched.keys().zip(&polled) {
            let mut ready = Readiness::empty();
            ready.set(Readiness::READ, polled.revents & libc::POLLIN != 0);
            ready.set(Readiness::WRITE, polled.revents & libc::POLLOUT != 0);
            ready.set(Readiness::HANGUP, polled.revents & gone != 0);
            if !ready.is_empty() {
                self.pump.on_ready(key, ready);
            }
        }
        self.pump.poll(Some(Duration::ZERO)).unwrap();
        polled.iter().map(|polled| polled.revents).collect()
    }

    /// Until the child has ended: what poll(2) has said meanwhile.
    fn finish(&mut self) -> Vec<i16> {
        let mut said = Vec::new();
        self.drain();
        while !self.pump.is_empty() {
            // Each turn finds something that is then done.
            assert!(said.len() < 1000, "nothing is done about {:?}", self.watched);
            said.extend(self.turn());
            self.drain();
        }
        assert!(self.watched.is_empty());
        said
    }
}

#[test]
fn a_hang_up_and_nothing_else_is_the_end_of_a_read_pipe() {
    let mut foreign = Loop::new();
    let mut command = Command::new("true");
    foreign.pump.add(command.on_drop(OnDrop::Kill).spawn().unwrap());
    let said = foreign.finish();
    let alone = |revents: &&i16| **revents == libc::POLLHUP;
    // Without it this would show nothing.
    assert!(said.iter().filter(alone).count() >= 2, "both of its pipes: {said:?}");
}

#[test]
fn a_hang_up_of_a_write_pipe_on_which_nothing_is_sent_is_told() {
    let mut foreign = Loop::new();
    let mut command = Command::new("sh");
    command.args(["-c", "exec 0<&-; read line <&3"]).on_drop(OnDrop::Kill);
    command.fd(0, Channel::WritePipe).fd(3, Channel::WritePipe);
    let sh = foreign.pump.add(command.spawn().unwrap());
    foreign.drain();
    while foreign.pump.is_open(sh, 0) {
        foreign.turn();
        foreign.drain();
    }
    foreign.pump.close(sh, 3).unwrap();
    foreign.finish();
}

#[test]
fn what_was_not_told_yet_is_due_at_once() {
    let mut foreign = Loop::new();
    let mut command = Command::new("cat");
    let cat = foreign.pump.add(command.on_drop(OnDrop::Kill).spawn().unwrap());
    assert!(foreign.pump.next_deadline().is_some_and(|due| due <= Instant::now()), "Made");
    foreign.drain();
    // Control: all was told, and nothing is due.
    assert_eq!(foreign.pump.next_deadline(), None);
    foreign.pump.abort(cat, 1).unwrap();
    assert!(foreign.pump.next_deadline().is_some_and(|due| due <= Instant::now()), "Closed");
    foreign.pump.close(cat, 0).unwrap();
    foreign.finish();
}

#[test]
fn a_source_that_is_said_to_be_ready_and_is_not_tells_nothing() {
    let mut foreign = Loop::new();
    foreign.pump.add(Command::new("true").on_drop(OnDrop::Kill).spawn().unwrap());
    foreign.drain();
    // Of sources that have gone, and whose places others get.
    let gone: Vec<SourceKey> = foreign.watched.keys().copied().collect();
    assert!(gone.len() >= 3);
    foreign.finish();
    let mut command = Command::new("cat");
    let cat = foreign.pump.add(command.on_drop(OnDrop::Kill).spawn().unwrap());
    foreign.drain();
    let told = foreign.log.len();
    let nobody = [0, 1 << 40, u64::MAX].map(SourceKey::from);
    let keys: Vec<SourceKey> = foreign.watched.keys().copied().chain(gone).chain(nobody).collect();
    for round in 0..3 {
        for &key in &keys {
            foreign.pump.on_ready(key, Readiness::all());
        }
        foreign.pump.poll(Some(Duration::ZERO)).unwrap();
        foreign.drain();
        assert_eq!(foreign.log.len(), told, "{round}: {:?}", foreign.log.last());
    }
    foreign.pump.close(cat, 0).unwrap();
    foreign.finish();
    assert!(matches!(foreign.log.last(), Some(Seen::Ended(exit)) if exit.success()));
}
