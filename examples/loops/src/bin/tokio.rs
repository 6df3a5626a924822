//! A pump in tokio, edge-triggered: a task that waits for its fd. `AsyncFd` alone is
//! needed, not tokio's own processes.
//!
//! **When the fd is ready, poll with a timeout of zero, and drain**, until there is
//! no more: tokio tells of an edge once.

#[path = "../../../support/load.rs"]
mod load;

use std::os::fd::AsFd;
use std::time::Duration;

use forkplan::{EmbeddedPump, Pump};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(children())
}

async fn children() -> Result<()> {
    let mut embedded = EmbeddedPump::new(Pump::new())?;
    let mut load = load::Load::start(&mut embedded.pump())?;
    // tokio keeps what it watches, and we use the pump: so it gets a copy of the fd.
    let fd = embedded.as_fd().try_clone_to_owned()?;
    // SAFETY: it is open, and no other's, until tokio drops it.
    let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE)? };
    while !embedded.pump().is_empty() {
        let mut ready = fd.readable().await?;
        while turn(&mut embedded.pump(), &mut load)? {}
        // What comes from here on is an edge of its own, and readies the fd again.
        ready.clear_ready();
    }
    load.finish()
}

/// Whether there was something to do.
fn turn(pump: &mut Pump, load: &mut load::Load) -> Result<bool> {
    let found = pump.poll(Some(Duration::ZERO))?;
    load.drain(pump)?;
    Ok(found)
}
