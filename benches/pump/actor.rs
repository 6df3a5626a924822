//! The children of these benches that have something to do: this program
//! again, told so by its first argument.

use std::env;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

const FLOOD: &str = "--as-flood";
const TICKER: &str = "--as-ticker";

/// Bytes of one write of a flood.
const BLOCK: usize = 64 * 1024;

/// What makes this program write `bytes` bytes to its 1 as fast as it can.
pub fn flood(bytes: u64) -> [String; 2] {
    [FLOOD.into(), bytes.to_string()]
}

/// What makes this program say every `period` on its 1 what time it is, in
/// `TICK` bytes, until nobody reads it.
pub fn ticker(period: Duration) -> [String; 2] {
    [TICKER.into(), period.as_nanos().to_string()]
}

/// Plays the part that the arguments say, if they do.
pub fn act() -> Option<ExitCode> {
    let mut args = env::args().skip(1);
    let (part, number) = (args.next()?, args.next()?);
    let done = match part.as_str() {
        FLOOD => be_flood(number.parse().ok()?),
        TICKER => be_ticker(Duration::from_nanos(number.parse().ok()?)),
        _ => return None,
    };
    Some(if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn be_flood(bytes: u64) -> io::Result<()> {
    let block = vec![b'x'; BLOCK];
    // Not stdout(): it looks for newlines.
    let mut out = raw_stdout();
    let mut left = bytes;
    while left > 0 {
        let len = left.min(BLOCK as u64);
        out.write_all(&block[..len as usize])?;
        left -= len;
    }
    Ok(())
}

fn be_ticker(period: Duration) -> io::Result<()> {
    let mut out = raw_stdout();
    let period_ns = period.as_nanos() as u64;
    let mut next = Instant::now() + Duration::from_nanos(fastrand::u64(..period_ns));
    loop {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        out.write_all(&clock().to_ne_bytes())?;
        // A machine too busy for one tick does not make up for it by a burst.
        next = (next + period).max(Instant::now());
    }
}

fn raw_stdout() -> impl Write {
    use std::fs::File;
    use std::os::fd::FromRawFd;
    // SAFETY: open, as the bench makes these children, and used by nobody else.
    unsafe { File::from_raw_fd(1) }
}

/// Bytes of one tick.
pub const TICK: usize = 8;

/// Nanoseconds on a clock that all processes see.
pub fn clock() -> u64 {
    forkplan_benches::cpu::monotonic().as_nanos() as u64
}

/// Checks that all of it came.
pub fn count(mut from: impl Read, buffer: &mut [u8]) -> u64 {
    let mut count = 0;
    loop {
        match from.read(buffer).unwrap() {
            0 => return count,
            len => count += len as u64,
        }
    }
}
