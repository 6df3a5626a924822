//! A pump in mio's loop, which waits for each of its sources, edge-triggered.
//!
//! **Before each wait: events until there are none, then changes until there are
//! none, then `next_deadline`. After it: `on_ready` for each source that is, then a
//! poll, for what is due.**

#[path = "../../../support/load.rs"]
mod load;

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use forkplan::{Backend, Change, Interest, Pump, Readiness, SourceKey};
use mio::unix::SourceFd;
use mio::{Events, Poll, Registry, Token};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut mio = Poll::new()?;
    let mut found = Events::with_capacity(64);

    let mut pump = Pump::with_backend(Backend::Foreign)?;
    let mut load = load::Load::start(&mut pump)?;
    loop {
        // Before the wait.
        load.drain(&mut pump)?;
        while let Some(change) = pump.next_change() {
            follow(mio.registry(), change)?;
        }
        if pump.is_empty() {
            break;
        }
        let timeout = pump.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));

        // The wait.
        match mio.poll(&mut found, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }

        // After it. Which readiness it was may be left to the pump to find out.
        for event in &found {
            pump.on_ready(SourceKey::from(event.token().0 as u64), Readiness::all());
        }
        pump.poll(Some(Duration::ZERO))?;
    }
    load.finish()
}

/// Has mio watch what the pump waits for. The fd of a source that is removed stays
/// open until all changes are told.
fn follow(registry: &Registry, change: Change<'_>) -> std::io::Result<()> {
    match change {
        Change::Add { source, fd, interest } => {
            registry.register(&mut SourceFd(&fd.as_raw_fd()), token(source), of(interest))
        }
        Change::Modify { source, fd, interest } => {
            registry.reregister(&mut SourceFd(&fd.as_raw_fd()), token(source), of(interest))
        }
        Change::Remove { fd, .. } => registry.deregister(&mut SourceFd(&fd.as_raw_fd())),
        _ => Ok(()),
    }
}

/// A key is a number of 64 bits, and so, where this runs, is a token.
fn token(source: SourceKey) -> Token {
    Token(u64::from(source) as usize)
}

/// mio wants to be asked for something: where the pump waits for a hang-up alone,
/// for reading.
fn of(interest: Interest) -> mio::Interest {
    match (interest.contains(Interest::READ), interest.contains(Interest::WRITE)) {
        (true, true) => mio::Interest::READABLE | mio::Interest::WRITABLE,
        (false, true) => mio::Interest::WRITABLE,
        (_, false) => mio::Interest::READABLE,
    }
}
