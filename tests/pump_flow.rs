//! What flows through the pump: every byte, in order, with bounded memory and
//! a turn for everybody.

#[path = "support/pump.rs"]
mod support;

use core::time::Duration;

use forkplan::{CaptureBuffer, Channel, ChildKey, CloseReason, Command, Event, Features, Signal};
use support::{Driver, Random, Seen, TestPump, Watch, owned};

/// A stream of bytes that repeats after a prime number of them, so that a piece
/// that is lost, doubled or moved does not fit.
struct Pattern(Vec<u8>);

impl Pattern {
    const PERIOD: usize = 65_521;
    const LONGEST: usize = 1 << 20;

    fn new() -> Self {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let period: Vec<u8> = (0..Self::PERIOD).map(|_| next()).collect();
        Self(period.iter().copied().cycle().take(Self::PERIOD + Self::LONGEST).collect())
    }

    fn at(&self, position: usize, len: usize) -> &[u8] {
        let start = position % Self::PERIOD;
        &self.0[start..start + len]
    }
}

/// Writes `total` bytes of the pattern to channel `to` as the pump takes them,
/// in chunks as `chunk` says, and compares what comes from `from`. Returns how
/// often the pump took less than it was given.
fn both_ways(
    pump: &mut TestPump,
    (key, to, from): (ChildKey, i32, i32),
    total: usize,
    mut chunk: impl FnMut(&mut TestPump) -> usize,
) -> usize {
    let (pattern, watch) = (Pattern::new(), Watch::new());
    let (mut sent, mut received, mut refusals) = (0, 0, 0);
    let mut may_write = true;
    while !pump.is_empty() {
        while may_write && sent < total {
            let len = chunk(pump).min(total - sent);
            let taken = pump.write(key, to, pattern.at(sent, len)).unwrap();
            sent += taken;
            if taken < len {
                // The contract: the notice comes, and writes before it are of
                // no use.
                refusals += 1;
                may_write = false;
            }
        }
        if sent == total {
            pump.close_write(key, to).unwrap();
        }
        watch.poll(pump);
        while let Some(event) = pump.next_event() {
            match event {
                Event::Data { channel, bytes, .. } => {
                    assert_eq!(channel, from.into());
                    assert!(bytes == pattern.at(received, bytes.len()), "at {received}");
                    received += bytes.len();
                }
                Event::Drained { channel, .. } => {
                    assert_eq!(channel, to.into());
                    assert!(!may_write, "nobody was refused");
                    may_write = true;
                }
                Event::Closed { channel, reason, unsent, .. } => {
                    assert_eq!(unsent, 0);
                    if channel == to.into() && to != from {
                        assert_eq!(reason, CloseReason::Us);
                    }
                }
                Event::Ended { exit, .. } => assert!(exit.success()),
                _ => {}
            }
        }
    }
    assert_eq!((sent, received), (total, total));
    refusals
}

#[test]
fn sixty_four_mebibytes_go_through_cat_and_back_unchanged() {
    let mut pump = TestPump::new();
    let key = pump.add(Command::new("cat").spawn().unwrap());
    let refusals = both_ways(&mut pump, (key, 0, 1), 64 << 20, |_| 1 << 20);
    // More than pipe and queue hold was given at a time.
    assert!(refusals > 0);
}

#[test]
fn a_socket_carries_both_ways_at_once() {
    for without in [Features::empty(), Features::SHARED_MEMORY] {
        let mut pump = TestPump::new();
        let mut cat = Command::new("cat");
        cat.without(without).fds([0, 1], Channel::SocketPair);
        let key = pump.add(cat.spawn().unwrap());
        both_ways(&mut pump, (key, 0, 0), 16 << 20, |_| 1 << 20);
    }
}

#[test]
fn chunks_of_any_size_under_any_high_water_mark_arrive() {
    let mut random = Random::new();
    for _ in 0..20 {
        let mut pump = TestPump::new();
        let key = pump.add(Command::new("cat").spawn().unwrap());
        let largest = random.pick(&[1, 100, 4096, 70_000, 300_000]);
        let total = 1 + random.below(largest * 100).min(2 << 20);
        both_ways(&mut pump, (key, 0, 1), total, |pump| {
            if random.below(4) == 0 {
                // 0 has nothing queued: each write takes what the pipe takes.
                let mark = random.pick(&[0, 1, 5000, 65_536, 200_000]);
                pump.set_high_water(key, 0, mark).unwrap();
            }
            1 + random.below(largest)
        });
    }
}

#[test]
fn a_high_water_mark_of_0_still_tells_when_there_is_room() {
    let mut pump = TestPump::new();
    let key = pump.add(Command::new("cat").spawn().unwrap());
    pump.set_high_water(key, 0, 0).unwrap();
    assert!(both_ways(&mut pump, (key, 0, 1), 4 << 20, |_| 1 << 20) > 0);
}

#[test]
fn for_a_child_that_never_reads_no_more_is_queued_than_the_high_water_mark() {
    for mark in [None, Some(1000), Some(1 << 20)] {
        let mut driver = Driver::new();
        let agent = driver.agent(|command| {
            command.fd(0, Channel::WritePipe);
        });
        let (key, piece) = (agent.key, [b'x'; 10_000]);
        if let Some(mark) = mark {
            driver.pump.set_high_water(key, 0, mark).unwrap();
        }
        let mark = mark.unwrap_or(65_536);
        let (mut taken, mut refused) = (0, 0);
        while refused < 100 {
            let now = driver.pump.write(key, 0, &piece).unwrap();
            taken += now;
            refused += usize::from(now == 0);
            assert!(driver.pump.queued(key, 0).unwrap() <= mark);
        }
        assert_eq!(driver.pump.queued(key, 0), Ok(mark));
        driver.assert_quiet();
        // A lower mark loses nothing of what is queued.
        driver.pump.set_high_water(key, 0, 10).unwrap();
        assert_eq!(driver.pump.queued(key, 0), Ok(mark));
        driver.pump.signal(key, Signal::KILL).unwrap();
        driver.finish();
        let (reason, unsent) = driver.closed(key, "0").unwrap();
        assert_eq!((reason, unsent), (CloseReason::Peer, mark));
        // The rest was in the pipe.
        assert!(taken > unsent);
        assert!(!driver.has(key, &Seen::Drained("0".into())));
    }
}

/// Drives the pump until it tells what the slow talker has said; for how many
/// events that took no more than `bound`. The floods are given time to write on
/// after each event, so that their channels are not empty at any read.
fn hear_the_slow_one(driver: &mut Driver, agent: &mut support::Agent, bound: usize) {
    let watch = Watch::new();
    let key = agent.key;
    let mut events = 0;
    // It speaks some events later, when its channel, read from just now, was
    // found empty and waits for a poll again.
    let mut has_spoken = false;
    loop {
        if events == 6 && !has_spoken {
            agent.ask("echo slow >&2");
            (has_spoken, events) = (true, 0);
        }
        assert!(events <= bound, "{events} events and the slow talker not heard");
        match driver.pump.next_event() {
            Some(Event::Data { child, channel, bytes }) if child == key && channel == 2.into() => {
                assert_eq!(bytes, b"slow\n");
                return;
            }
            Some(_) => {
                events += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            None => drop(watch.poll(&mut driver.pump)),
        }
    }
}

#[test]
fn a_channel_that_is_never_empty_does_not_keep_another_waiting() {
    for one_child in [true, false] {
        let mut driver = Driver::new();
        let mut agent = driver.agent(|command| {
            command.fd(1, Channel::ReadPipe).fd(2, Channel::ReadPipe);
        });
        let key = agent.key;
        let mut floods = Vec::new();
        match one_child {
            true => agent.tell("yes &"),
            false => {
                let flood = || Command::new("yes").fd(1, Channel::ReadPipe).clone();
                floods.extend([driver.add(&mut flood()), driver.add(&mut flood())]);
            }
        }
        let flooding = |driver: &Driver, flood| !driver.data(flood, "1").is_empty();
        match one_child {
            true => driver.until(|d| flooding(d, key)),
            false => driver.until(|d| floods.iter().all(|&flood| flooding(d, flood))),
        }
        // Each flood has eight reads in a turn; what was found before the slow
        // one spoke, and what was found with it.
        let bound = 2 * 8 * floods.len().max(1) + 2;
        for _ in 0..20 {
            hear_the_slow_one(&mut driver, &mut agent, bound);
        }
        // `yes` in the background gets SIGPIPE.
        driver.pump.close_all(key).unwrap();
        for flood in floods {
            driver.pump.close(flood, 1).unwrap();
        }
        drop(agent);
        while !driver.pump.is_empty() {
            driver.step();
        }
    }
}

#[test]
fn output_beyond_a_limit_is_drained_and_counted() {
    let mut driver = Driver::new();
    let key = driver.sh("head -c 3000000 /dev/zero; echo last; echo error >&2");
    let mut kept = [1, 2].map(|_| CaptureBuffer::new(10));
    while !driver.pump.is_empty() {
        driver.poll();
        while let Some(event) = driver.pump.next_event() {
            if let Event::Data { channel, bytes, .. } = &event {
                let at = usize::from(*channel == 2.into());
                kept[at].push(bytes);
            }
            driver.log.push(owned(event));
        }
        driver.pump.follow();
    }
    // It was stopped nowhere.
    assert_eq!(driver.exit(key).and_then(|exit| exit.code()), Some(0));
    assert_eq!((kept[0].bytes(), kept[0].dropped()), (&[0; 10][..], 2_999_995));
    assert_eq!((kept[1].bytes(), kept[1].dropped()), (&b"error\n"[..], 0));
}
