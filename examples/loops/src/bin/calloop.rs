//! A pump as one source of a calloop event loop, level-triggered.
//!
//! **When the fd is ready, poll with a timeout of zero, and drain.**

#[path = "../../../support/load.rs"]
mod load;

use std::os::fd::AsFd;
use std::time::Duration;

use calloop::generic::Generic;
use calloop::{EventLoop, Interest, Mode, PostAction};
use forkplan::{EmbeddedPump, Pump};

/// What the loop's callbacks share.
struct Program {
    embedded: EmbeddedPump,
    load: load::Load,
    outcome: Result<(), Box<dyn std::error::Error>>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut embedded = EmbeddedPump::new(Pump::new())?;
    let load = load::Load::start(&mut embedded.pump())?;
    // calloop keeps what it watches, and we use the pump: so it gets a copy of the fd.
    let ready = embedded.as_fd().try_clone_to_owned()?;
    let mut program = Program { embedded, load, outcome: Ok(()) };

    let mut event_loop = EventLoop::<Program>::try_new()?;
    let signal = event_loop.get_signal();
    let source = Generic::new(ready, Interest::READ, Mode::Level);
    event_loop.handle().insert_source(source, move |_, _, program| {
        program.outcome = turn(program);
        if program.outcome.is_err() || program.embedded.pump().is_empty() {
            signal.stop();
            return Ok(PostAction::Remove);
        }
        Ok(PostAction::Continue)
    })?;
    event_loop.run(None, &mut program, |_| {})?;
    program.outcome?;
    program.load.finish()
}

fn turn(program: &mut Program) -> Result<(), Box<dyn std::error::Error>> {
    let mut pump = program.embedded.pump();
    pump.poll(Some(Duration::ZERO))?;
    program.load.drain(&mut pump)
}
