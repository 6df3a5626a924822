//! A pump in async-io (smol, async-std): a task that waits for its fd.
//!
//! **When the fd is ready, poll with a timeout of zero, and drain.**

#[path = "../../../support/load.rs"]
mod load;

use std::os::fd::AsFd;
use std::time::Duration;

use async_io::{Async, block_on};
use forkplan::{EmbeddedPump, Pump};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    block_on(children())
}

async fn children() -> Result<(), Box<dyn std::error::Error>> {
    let mut embedded = EmbeddedPump::new(Pump::new())?;
    // async-io lends what it watches only by reference, and we change the pump: so
    // it gets a copy of the fd. `Async::new` would set a flag that no epoll set needs.
    let ready = Async::new_nonblocking(embedded.as_fd().try_clone_to_owned()?)?;
    let mut load = load::Load::start(&mut embedded.pump())?;
    while !embedded.pump().is_empty() {
        ready.readable().await?;
        let mut pump = embedded.pump();
        pump.poll(Some(Duration::ZERO))?;
        load.drain(&mut pump)?;
    }
    load.finish()
}
