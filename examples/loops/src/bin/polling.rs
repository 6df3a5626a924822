//! A pump in a loop of the crate `polling`, which waits for each of its sources and
//! tells of each once (one-shot) until it is asked again.
//!
//! **Before each wait: events until there are none, then changes until there are
//! none, then `next_deadline`. After it: `on_ready` for each source that is, then a
//! poll, for what is due.**

#[path = "../../../support/load.rs"]
mod load;

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use forkplan::{Backend, Change, Interest, Pump, Readiness, SourceKey};
use polling::{Event, Events, Poller};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let poller = Poller::new()?;
    let mut found = Events::new();

    let mut pump = Pump::with_backend(Backend::Foreign)?;
    // A source that was found ready is a change again when it was looked at.
    pump.set_one_shot(true);
    let mut load = load::Load::start(&mut pump)?;
    loop {
        // Before the wait.
        load.drain(&mut pump)?;
        while let Some(change) = pump.next_change() {
            follow(&poller, change)?;
        }
        if pump.is_empty() {
            break;
        }
        let timeout = pump.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));

        // The wait.
        found.clear();
        poller.wait(&mut found, timeout)?;

        // After it. Which readiness it was may be left to the pump to find out.
        for event in found.iter() {
            pump.on_ready(SourceKey::from(event.key as u64), Readiness::all());
        }
        pump.poll(Some(Duration::ZERO))?;
    }
    load.finish()
}

/// Has the poller watch what the pump waits for.
fn follow(poller: &Poller, change: Change<'_>) -> std::io::Result<()> {
    match change {
        // SAFETY: the fd of a source that is removed stays open until all changes
        // are told, so each is deleted here before it is closed.
        Change::Add { source, fd, interest } => unsafe {
            poller.add(fd.as_raw_fd(), event(source, interest))
        },
        Change::Modify { source, fd, interest } => poller.modify(fd, event(source, interest)),
        Change::Remove { fd, .. } => poller.delete(fd),
        _ => Ok(()),
    }
}

/// A key is a number of 64 bits, and so, where this runs, is an event's.
fn event(source: SourceKey, interest: Interest) -> Event {
    let (read, write) = (interest.contains(Interest::READ), interest.contains(Interest::WRITE));
    Event::new(u64::from(source) as usize, read, write).with_interrupt()
}
