//! Producers: pushing ones are paused and go on, pulling ones are asked. Where
//! Twisted has a test of the same, it is named (P:
//! `twisted.test.test_internet.ProducerTests`, C:
//! `twisted.internet.test.connectionmixins`, N: `twisted.internet.test.test_tcp`).

#[path = "support/producers.rs"]
mod producers;
#[path = "support/protocol.rs"]
mod support;

use std::cell::Cell;
use std::rc::Rc;

use forkplan::{Channel, ChannelError, ChildKey, Command, OnData, Producer, Protocols, Transport};
use producers::{Told, nothing};
use support::{Looped, spawn};

/// A child that reads nothing from its fd 0.
fn deaf(protocols: &mut Protocols<'_>) -> ChildKey {
    let mut sleep = Command::new("sleep");
    protocols.add(spawn(sleep.arg("1000").fd(0, Channel::WritePipe)), ())
}

/// A child that reads all, and says how much it was.
fn counter<'h>(protocols: &mut Protocols<'h>, count: &'h Cell<usize>) -> ChildKey {
    let wc = protocols.add(spawn(Command::new("wc").arg("-c")), ());
    let said = OnData(|_, bytes| {
        count.set(String::from_utf8_lossy(bytes).trim().parse().unwrap());
    });
    protocols.on(wc, 1, said).unwrap();
    wc
}

/// Writes until the channel takes no more; how many bytes.
fn fill(protocols: &mut Protocols<'_>, key: ChildKey) -> usize {
    let mut taken = 0;
    loop {
        match protocols.pump_mut().write(key, 0, &[b'x'; 10_000]).unwrap() {
            0 => return taken,
            now => taken += now,
        }
    }
}

// P.test_doubleProducer
#[test]
fn a_pull_producer_is_asked_when_it_comes_and_a_second_producer_is_refused() {
    let mut looped = Looped::new();
    let key = deaf(&mut looped.protocols);
    let (told, other) = (Told::default(), Told::default());
    let protocols = &mut looped.protocols;
    protocols.register_producer(key, 0, Producer::pull(told.then(nothing))).unwrap();
    for second in [Producer::pull(other.then(nothing)), Producer::push(other.then(nothing))] {
        let refused = protocols.register_producer(key, 0, second);
        assert_eq!(refused, Err(ChannelError::HasProducer));
    }
    looped.until(|_| told.is(&["produce"]));
    // It has written nothing, and is not asked again.
    looped.assert_quiet();
    looped.protocols.pump_mut().abort(key, 0).unwrap();
    looped.until(|_| told.is(&["produce", "stop"]));
    assert_eq!(other.taken(), [""; 0]);
}

// P.test_unconnectedFileDescriptor
#[test]
fn a_producer_that_comes_to_a_closed_channel_is_stopped() {
    let mut looped = Looped::new();
    let key = deaf(&mut looped.protocols);
    fill(&mut looped.protocols, key);
    let told = Told::default();
    // When its queue is written, which is never: it takes nothing more.
    looped.protocols.pump_mut().close(key, 0).unwrap();
    looped.protocols.register_producer(key, 0, Producer::push(told.then(nothing))).unwrap();
    assert!(told.is(&[]), "not from within the call");
    looped.protocols.dispatch();
    assert_eq!(told.taken(), ["stop"]);
    // And closed.
    looped.protocols.pump_mut().abort(key, 0).unwrap();
    looped.protocols.dispatch();
    looped.protocols.register_producer(key, 0, Producer::pull(told.then(nothing))).unwrap();
    looped.protocols.dispatch();
    assert_eq!(told.taken(), ["stop"]);
    looped.assert_quiet();
    assert_eq!(Rc::strong_count(&told.0), 1, "both were dropped");
}

#[test]
fn a_producer_of_what_takes_no_writes_is_an_error() {
    let mut looped = Looped::new();
    let protocols = &mut looped.protocols;
    let key = protocols.add(spawn(Command::new("true").fd(1, Channel::ReadPipe)), ());
    let told = Told::default();
    let producer = || Producer::push(told.then(nothing));
    let refused = protocols.register_producer(key, 1, producer());
    assert_eq!(refused, Err(ChannelError::NotWritable));
    let refused = protocols.register_producer(key, "none", producer());
    assert_eq!(refused, Err(ChannelError::NoChannel));
    looped.finish();
    let refused = looped.protocols.register_producer(key, 1, producer());
    assert_eq!(refused, Err(ChannelError::NoChild));
    let gone = looped.protocols.unregister_producer(key, 1);
    assert_eq!(gone, Err(ChannelError::NoChild));
    assert_eq!(told.taken(), [""; 0]);
}

// P.test_dontPausePullConsumerOnWrite, N.test_nonStreamingProducer
#[test]
fn a_pull_producer_is_not_paused_by_a_full_queue() {
    let mut looped = Looped::new();
    let key = deaf(&mut looped.protocols);
    let told = Told::default();
    let pull = Producer::pull(told.then(nothing));
    looped.protocols.register_producer(key, 0, pull).unwrap();
    looped.until(|_| told.is(&["produce"]));
    fill(&mut looped.protocols, key);
    looped.assert_quiet();
    assert_eq!(told.taken(), ["produce"]);
    looped.protocols.pump_mut().abort_all(key).unwrap();
}

// P.test_reentrantStreamingProducerUsingWrite, N.test_streamingProducer
#[test]
fn a_push_producer_that_fills_the_queue_when_it_may_go_on_is_paused_again() {
    const LEN: usize = 2_000_000;
    let (told, count, bytes) = (Told::default(), Cell::new(0), vec![b'x'; LEN]);
    let mut looped = Looped::new();
    let wc = counter(&mut looped.protocols, &count);
    let depth = Cell::new(0);
    let mut sent = 0;
    let mut push = |channel: &mut Transport<'_>| {
        depth.set(depth.get() + 1);
        assert_eq!(depth.get(), 1, "called from within itself");
        while sent < LEN {
            // More than pipe and queue hold, but for the last one or two.
            let piece = &bytes[sent..];
            let taken = channel.write(piece).unwrap();
            sent += taken;
            if taken < piece.len() {
                break;
            }
        }
        if sent == LEN {
            channel.close().unwrap();
        }
        depth.set(depth.get() - 1);
    };
    let producer = told.then(|what, channel| {
        if what == "resume" {
            push(channel);
        }
    });
    looped.protocols.register_producer(wc, 0, Producer::push(producer)).unwrap();
    // A push producer begins by itself.
    let first = fill(&mut looped.protocols, wc);
    looped.finish();
    drop(looped);
    assert_eq!(count.get(), first + LEN);
    let told = told.taken();
    let (last, turns) = told.split_last().unwrap();
    assert_eq!(*last, "stop");
    // By turns, from the first pause on; the last write was taken whole.
    let by_turns = ["pause", "resume"].into_iter().cycle().take(turns.len());
    assert!(turns.iter().copied().eq(by_turns), "{told:?}");
    assert!(turns.len() > 4 && turns.len() % 2 == 0, "{told:?}");
}

#[test]
fn a_producer_is_asked_at_the_low_water_mark_and_not_before() {
    for (pull, mark) in [(false, 0), (false, 10_000), (true, 0), (true, 10_000)] {
        let (told, asked) = (Told::default(), Cell::new(0));
        let mut looped = Looped::new();
        let protocols = &mut looped.protocols;
        // Small pieces, so that the queue shrinks step by step.
        let mut dd = Command::new("dd");
        dd.args(["bs=512", "of=/dev/null"]).fd(0, Channel::WritePipe).fd(2, Channel::Null);
        let dd = protocols.add(spawn(&mut dd), ());
        protocols.pump_mut().set_low_water(dd, 0, mark).unwrap();
        let producer = told.then(|what, channel: &mut Transport<'_>| {
            if ["resume", "produce"].contains(&what) {
                assert!(channel.queued() <= mark, "{} are queued", channel.queued());
                asked.set(asked.get() + 1);
                // A push producer goes on until it is refused.
                while !pull && channel.write(&[b'x'; 10_000]) == Ok(10_000) {}
                channel.write(&[b'x'; 60_000]).unwrap();
            }
        });
        fill(protocols, dd);
        let producer = if pull { Producer::pull(producer) } else { Producer::push(producer) };
        protocols.register_producer(dd, 0, producer).unwrap();
        // What was refused before it came it does not know of; but this.
        assert_eq!(protocols.pump_mut().write(dd, 0, b"x"), Ok(0));
        looped.until(|protocols| {
            assert!(protocols.take_panic().is_none());
            asked.get() >= 20
        });
        looped.protocols.pump_mut().abort_all(dd).unwrap();
        looped.finish();
    }
}

// `twisted.internet.test.test_testing`: test_unregisterProducer
#[test]
fn an_unregistered_producer_is_told_nothing_more_and_another_may_come() {
    let (first, second) = (Told::default(), Told::default());
    let mut looped = Looped::new();
    let key = deaf(&mut looped.protocols);
    let protocols = &mut looped.protocols;
    protocols.unregister_producer(key, 0).unwrap();
    protocols.register_producer(key, 0, Producer::push(first.then(nothing))).unwrap();
    // What it was to be told of this is forgotten with it.
    fill(protocols, key);
    protocols.unregister_producer(key, 0).unwrap();
    assert_eq!(Rc::strong_count(&first.0), 1, "dropped");
    protocols.register_producer(key, 0, Producer::push(second.then(nothing))).unwrap();
    protocols.dispatch();
    assert_eq!(second.taken(), [""; 0], "it comes as one that is not paused");
    assert_eq!(protocols.pump_mut().write(key, 0, b"more"), Ok(0));
    protocols.dispatch();
    assert_eq!(second.taken(), ["pause"]);
    protocols.unregister_producer(key, 0).unwrap();
    looped.protocols.pump_mut().abort_all(key).unwrap();
    looped.until(|protocols| !protocols.pump().is_open(key, 0));
    assert_eq!((first.taken(), second.taken()), (vec![], vec![]));
}

#[test]
fn a_producer_puts_another_in_its_place_from_within_and_takes_itself_away() {
    let (told, next) = (Told::default(), Told::default());
    let mut looped = Looped::new();
    let count = Cell::new(0);
    let wc = counter(&mut looped.protocols, &count);
    let second = next.then(|what, channel| {
        if what == "produce" {
            assert_eq!(channel.write(b"of the second"), Ok(13));
            channel.unregister_producer();
        }
    });
    let mut second = Some(second);
    let first = told.then(move |_, channel| {
        assert_eq!(channel.write(b"of the first, "), Ok(14));
        let again = second.take().unwrap();
        let refused = channel.register_producer(Producer::pull(Told::default().then(nothing)));
        assert_eq!(refused, Err(ChannelError::HasProducer));
        channel.unregister_producer();
        channel.register_producer(Producer::pull(again)).unwrap();
    });
    looped.protocols.register_producer(wc, 0, Producer::pull(first)).unwrap();
    looped.until(|_| next.is(&["produce"]));
    looped.assert_quiet();
    assert_eq!(told.taken(), ["produce"]);
    assert_eq!((Rc::strong_count(&told.0), Rc::strong_count(&next.0)), (1, 1), "dropped");
    looped.protocols.pump_mut().close(wc, 0).unwrap();
    looped.finish();
    drop(looped);
    assert_eq!((count.get(), next.taken()), (27, vec!["produce"]));
}

// Unlike C.test_disconnectWhileProducing: what the queue has is written, and a
// producer that has more is stopped.
#[test]
fn a_close_writes_what_is_queued_and_stops_the_producer_at_once() {
    for pull in [false, true] {
        let (told, count) = (Told::default(), Cell::new(0));
        let mut looped = Looped::new();
        let mut command = Command::new("sh");
        // Does not read before it is told to.
        command.args(["-c", "read go <&3; wc -c"]).fd(3, Channel::WritePipe);
        command.fd(0, Channel::WritePipe).fd(1, Channel::ReadPipe);
        let key = looped.protocols.add(spawn(&mut command), ());
        let said = OnData(|_, bytes| {
            count.set(String::from_utf8_lossy(bytes).trim().parse().unwrap());
        });
        looped.protocols.on(key, 1, said).unwrap();
        let producer = told.then(nothing);
        let producer = if pull { Producer::pull(producer) } else { Producer::push(producer) };
        let sent = fill(&mut looped.protocols, key);
        looped.protocols.register_producer(key, 0, producer).unwrap();
        looped.protocols.pump_mut().close(key, 0).unwrap();
        looped.protocols.dispatch();
        assert!(looped.protocols.pump().is_open(key, 0));
        assert_eq!(told.taken(), ["stop"]);
        looped.protocols.pump_mut().write(key, 3, b"go\n").unwrap();
        looped.finish();
        drop(looped);
        assert_eq!((count.get(), told.taken()), (sent, vec![]));
    }
}

// C.test_unregisterProducerAfterDisconnect
#[test]
fn a_producer_that_is_unregistered_after_the_close_leaves_nothing_to_wait_for() {
    let told = Told::default();
    let mut looped = Looped::new();
    let key = deaf(&mut looped.protocols);
    let pull = Producer::pull(told.then(nothing));
    looped.protocols.register_producer(key, 0, pull).unwrap();
    looped.protocols.pump_mut().close(key, 0).unwrap();
    looped.protocols.unregister_producer(key, 0).unwrap();
    looped.protocols.dispatch();
    looped.assert_quiet();
    assert_eq!(told.taken(), [""; 0]);
}

#[test]
fn a_child_that_never_reads_costs_bounded_memory_with_either_form() {
    // Of a pipe that was grown, a queue, and one piece.
    const BOUND: usize = (256 << 10) + 65_536 + 10_000;
    for pull in [false, true] {
        let (told, produced) = (Told::default(), Cell::new(0));
        let paused = Cell::new(false);
        let produce = |write: &mut dyn FnMut(&[u8]) -> usize| {
            write(&[b'x'; 10_000]);
            produced.set(produced.get() + 10_000);
        };
        let mut looped = Looped::new();
        let key = deaf(&mut looped.protocols);
        let producer = told.then(|what, channel: &mut Transport<'_>| match what {
            "produce" => produce(&mut |bytes| channel.write(bytes).unwrap()),
            "pause" => paused.set(true),
            _ => paused.set(false),
        });
        let producer = if pull { Producer::pull(producer) } else { Producer::push(producer) };
        looped.protocols.register_producer(key, 0, producer).unwrap();
        for _ in 0..1000 {
            if !pull && !paused.get() {
                let pump = looped.protocols.pump_mut();
                produce(&mut |bytes| pump.write(key, 0, bytes).unwrap());
            }
            looped.step(core::time::Duration::ZERO);
        }
        assert!(produced.get() < BOUND, "{} of {BOUND}, pull: {pull}", produced.get());
        // A pull producer is not asked while anything is queued.
        let queued = looped.protocols.pump().queued(key, 0).unwrap();
        assert!(queued <= if pull { 10_000 } else { 65_536 }, "{queued}, pull: {pull}");
        looped.assert_quiet();
        looped.protocols.pump_mut().abort_all(key).unwrap();
        looped.protocols.dispatch();
    }
}

#[test]
fn control_a_producer_that_heeds_no_pause_produces_without_bound() {
    let told = Told::default();
    let mut looped = Looped::new();
    let key = deaf(&mut looped.protocols);
    looped.protocols.register_producer(key, 0, Producer::push(told.then(nothing))).unwrap();
    let (mut produced, mut taken) = (0, 0);
    for _ in 0..1000 {
        taken += looped.protocols.pump_mut().write(key, 0, &[b'x'; 10_000]).unwrap();
        produced += 10_000;
        looped.step(core::time::Duration::ZERO);
    }
    // The queue is bounded all the same; the rest is the producer's.
    assert_eq!(looped.protocols.pump().queued(key, 0), Ok(65_536));
    assert!(produced - taken > 9_000_000);
    assert_eq!(told.taken(), ["pause"]);
    looped.protocols.pump_mut().abort_all(key).unwrap();
}
