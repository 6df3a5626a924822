//! A pump in a hand-written epoll loop that waits for each of its sources.
//!
//! `epoll`, `epoll edge` and `epoll oneshot`: how the sources are watched.
//!
//! **Before each wait: events until there are none, then changes until there are
//! none, then `next_deadline`. After it: `on_ready` for each source that is, then a
//! poll, for what is due.**

#[path = "support/load.rs"]
mod load;

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use forkplan::{Backend, Change, Interest, Pump, Readiness, SourceKey};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let how = match std::env::args().nth(1).as_deref() {
        None | Some("level") => EventFlags::empty(),
        Some("edge") => EventFlags::ET,
        Some("oneshot") => EventFlags::ONESHOT,
        Some(other) => return Err(format!("{other}: level, edge or oneshot").into()),
    };
    let set = epoll::create(CreateFlags::CLOEXEC)?;
    let mut found = Vec::with_capacity(64);

    let mut pump = Pump::with_backend(Backend::Foreign)?;
    // Only then is a source that was found ready told again.
    pump.set_one_shot(how.contains(EventFlags::ONESHOT));
    let mut load = load::Load::start(&mut pump)?;
    loop {
        // Before the wait.
        load.drain(&mut pump)?;
        while let Some(change) = pump.next_change() {
            follow(&set, change, how)?;
        }
        if pump.is_empty() {
            break;
        }
        let timeout = pump.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));

        // The wait. Other fds of the program's would be in the same set.
        let timeout = timeout.map(Timespec::try_from).transpose()?;
        found.clear();
        epoll::wait(&set, rustix::buffer::spare_capacity(&mut found), timeout.as_ref())?;

        // After it.
        for event in &found {
            pump.on_ready(SourceKey::from(event.data.u64()), readiness(event.flags));
        }
        pump.poll(Some(Duration::ZERO))?;
    }
    load.finish()
}

/// Has the set watch what the pump waits for. The fd of a source that is removed
/// stays open until all changes are told.
fn follow(set: &OwnedFd, change: Change<'_>, how: EventFlags) -> rustix::io::Result<()> {
    let data = |source: SourceKey| EventData::new_u64(source.into());
    match change {
        Change::Add { source, fd, interest } => {
            epoll::add(set, fd, data(source), events(interest) | how)
        }
        Change::Modify { source, fd, interest } => {
            epoll::modify(set, fd, data(source), events(interest) | how)
        }
        Change::Remove { fd, .. } => epoll::delete(set, fd),
        _ => Ok(()),
    }
}

/// Of `Interest::HANGUP` epoll tells unasked.
fn events(interest: Interest) -> EventFlags {
    let mut events = EventFlags::empty();
    events.set(EventFlags::IN, interest.contains(Interest::READ));
    events.set(EventFlags::OUT, interest.contains(Interest::WRITE));
    events
}

fn readiness(events: EventFlags) -> Readiness {
    let mut ready = Readiness::empty();
    ready.set(Readiness::READ, events.contains(EventFlags::IN));
    ready.set(Readiness::WRITE, events.contains(EventFlags::OUT));
    ready.set(Readiness::HANGUP, events.intersects(EventFlags::HUP | EventFlags::ERR));
    ready
}
