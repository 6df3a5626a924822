//! A pump in a loop of io_uring: one multishot poll request for its fd.
//!
//! **When the fd is ready, poll with a timeout of zero, and drain**, until there is
//! no more: a multishot request tells of what comes, not of what is there.
//!
//! Exits with 77 where the kernel or a filter refuses io_uring.

#[path = "../../../support/load.rs"]
mod load;

use std::io;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::Duration;

use forkplan::{EmbeddedPump, Pump};
use io_uring::{IoUring, cqueue, opcode, types};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What tells the pump's completions from the program's others.
const PUMP: u64 = 1;

fn main() -> ExitCode {
    let ring = match IoUring::new(8) {
        Ok(ring) => ring,
        Err(why) => {
            eprintln!("SKIPPED: this kernel gives no io_uring: {why}");
            return ExitCode::from(77);
        }
    };
    match children(ring) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("io_uring: {error}");
            ExitCode::FAILURE
        }
    }
}

fn children(mut ring: IoUring) -> Result<()> {
    let mut embedded = EmbeddedPump::new(Pump::new())?;
    let mut load = load::Load::start(&mut embedded.pump())?;
    watch(&mut ring, &embedded)?;
    while !embedded.pump().is_empty() {
        match ring.submit_and_wait(1) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        let mut ended = false;
        for completion in ring.completion().filter(|completion| completion.user_data() == PUMP) {
            if completion.result() < 0 {
                return Err(io::Error::from_raw_os_error(-completion.result()).into());
            }
            ended |= !cqueue::more(completion.flags());
        }
        if ended {
            // The kernel gives a multishot request up when it lacks room or memory.
            watch(&mut ring, &embedded)?;
        }
        let mut pump = embedded.pump();
        while pump.poll(Some(Duration::ZERO))? {
            load.drain(&mut pump)?;
        }
    }
    load.finish()
}

/// Asks to be told whenever the pump's fd becomes ready.
fn watch(ring: &mut IoUring, embedded: &EmbeddedPump) -> Result<()> {
    let fd = types::Fd(embedded.as_raw_fd());
    let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build().user_data(PUMP);
    // SAFETY: the request has no buffer, and the kernel holds the file of its fd.
    unsafe { ring.submission().push(&poll)? };
    Ok(())
}
