//! A pump in a loop as C programs have it: poll(2) over a fixed array, and no
//! allocation once the children are there, which is counted.
//!
//! **Before each wait: events until there are none, then changes until there are
//! none, then `next_deadline`. After it: `on_ready` for each source that is, then a
//! poll, for what is due.**

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use forkplan::{Backend, Change, ChildKey, Command, Event, Interest, Ladder, Pump, Readiness};
use forkplan::{Name, SourceKey};

/// The system's allocator, counted.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands through to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are those that it wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CHILDREN: usize = 50;
/// Three pipes and a pidfd each.
const SOURCES_MAX: usize = CHILDREN * 4;
/// What each child is sent in a round, and sends back: more than a pipe holds.
const ROUND_SIZE: usize = 100_000;
/// Rounds until every queue has had its fill, and those that are counted.
const ROUNDS: [u8; 2] = [5, 10];

/// The array, and whose each place is.
struct Table {
    polled: [libc::pollfd; SOURCES_MAX],
    keys: [Option<SourceKey>; SOURCES_MAX],
    len: usize,
}

impl Table {
    fn new() -> Self {
        let none = libc::pollfd { fd: -1, events: 0, revents: 0 };
        Self { polled: [none; SOURCES_MAX], keys: [None; SOURCES_MAX], len: 0 }
    }

    /// Does what the pump asks for. The fd of a source that is removed stays open
    /// until all changes are told.
    fn follow(&mut self, change: Change<'_>) {
        use std::os::fd::AsRawFd;
        let at = |source| self.keys.iter().position(|key| *key == Some(source));
        match change {
            Change::Add { source, fd, interest } => {
                let (fd, events) = (fd.as_raw_fd(), events(interest));
                self.polled[self.len] = libc::pollfd { fd, events, revents: 0 };
                self.keys[self.len] = Some(source);
                self.len += 1;
            }
            Change::Modify { source, interest, .. } => {
                if let Some(at) = at(source) {
                    self.polled[at].events = events(interest);
                }
            }
            Change::Remove { source, .. } => {
                if let Some(at) = at(source) {
                    // The last one comes to its place.
                    self.len -= 1;
                    self.polled[at] = self.polled[self.len];
                    self.keys[at] = self.keys[self.len].take();
                }
            }
            _ => {}
        }
    }

    /// One turn of the loop, when all events were heard.
    fn turn(&mut self, pump: &mut Pump) -> std::io::Result<()> {
        // Before the wait.
        while let Some(change) = pump.next_change() {
            self.follow(change);
        }
        let timeout = pump.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        // Rounded up, so that nothing is due later than the wait ends.
        let millis = timeout.map_or(-1, |time| time.as_nanos().div_ceil(1_000_000) as i32);

        // The wait. What a signal interrupts is a wait that found nothing.
        let polled = &mut self.polled[..self.len];
        // SAFETY: an array of so many.
        let count = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as _, millis) };

        // After it.
        for (polled, key) in polled.iter().zip(self.keys).filter(|_| count > 0) {
            if let (1.., Some(key)) = (polled.revents, key) {
                pump.on_ready(key, readiness(polled.revents));
            }
        }
        pump.poll(Some(Duration::ZERO))?;
        Ok(())
    }
}

/// Of `Interest::HANGUP` poll(2) tells unasked.
fn events(interest: Interest) -> i16 {
    let read = if interest.contains(Interest::READ) { libc::POLLIN } else { 0 };
    let write = if interest.contains(Interest::WRITE) { libc::POLLOUT } else { 0 };
    read | write
}

fn readiness(revents: i16) -> Readiness {
    let gone = libc::POLLHUP | libc::POLLERR | libc::POLLNVAL;
    let mut ready = Readiness::empty();
    ready.set(Readiness::READ, revents & libc::POLLIN != 0);
    ready.set(Readiness::WRITE, revents & libc::POLLOUT != 0);
    ready.set(Readiness::HANGUP, revents & gone != 0);
    ready
}

/// Sends `ROUND_SIZE` times `byte` to each child, and has them all come back.
fn round(
    table: &mut Table,
    pump: &mut Pump,
    cats: &[ChildKey],
    byte: u8,
) -> Result<(), Box<dyn std::error::Error>> {
    let bytes = [byte; ROUND_SIZE];
    let (mut taken, mut back, mut wrong) = ([0; CHILDREN], [0; CHILDREN], 0);
    while back != [ROUND_SIZE; CHILDREN] {
        while let Some(event) = pump.next_event() {
            if let Event::Data { child, channel: Name::Fd(1), bytes } = event {
                if let Some(at) = cats.iter().position(|cat| *cat == child) {
                    back[at] += bytes.len();
                    wrong += bytes.iter().filter(|&&found| found != byte).count();
                }
            }
        }
        if wrong > 0 || back.iter().any(|&len| len > ROUND_SIZE) {
            return Err(format!("{wrong} wrong bytes, {back:?}").into());
        }
        for (&cat, taken) in cats.iter().zip(&mut taken) {
            *taken += pump.write(cat, 0, &bytes[*taken..])?;
        }
        // What is written to a program that is gone is an event at once.
        if !pump.has_events() && back != [ROUND_SIZE; CHILDREN] {
            table.turn(pump)?;
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut table = Table::new();
    let mut pump = Pump::with_backend(Backend::Foreign)?;
    let mut cat = Command::new("cat").prepare()?;
    let mut cats = Vec::new();
    for _ in 0..CHILDREN {
        cats.push(pump.add(cat.spawn()?));
    }
    for byte in 0..ROUNDS[0] {
        round(&mut table, &mut pump, &cats, byte)?;
    }
    let before = ALLOCATIONS.load(Relaxed);
    for byte in 0..ROUNDS[1] {
        round(&mut table, &mut pump, &cats, byte)?;
    }
    let made = ALLOCATIONS.load(Relaxed) - before;

    // All but the last are told to end; that one has a deadline.
    let Some((&last, others)) = cats.split_last() else { return Ok(()) };
    for &cat in others {
        pump.close(cat, 0)?;
    }
    let deadline = Instant::now() + Duration::from_millis(100);
    pump.set_deadline(last, Some(deadline), Ladder::kill())?;
    let (mut well, mut killed) = (0, 0);
    loop {
        while let Some(event) = pump.next_event() {
            if let Event::Ended { child, exit } = event {
                well += usize::from(child != last && exit.success());
                killed += usize::from(child == last && exit.signal().is_some());
            }
        }
        if pump.is_empty() {
            break;
        }
        table.turn(&mut pump)?;
    }
    while let Some(change) = pump.next_change() {
        table.follow(change);
    }
    let bytes = ROUND_SIZE * CHILDREN * usize::from(ROUNDS[1]);
    println!("{bytes} bytes there and back: {made} allocations");
    println!("{well} exits, {killed} killed at its deadline, {} sources left", table.len);
    if (made, well, killed, table.len) == (0, CHILDREN - 1, 1, 0) {
        Ok(())
    } else {
        Err("wrong".into())
    }
}
