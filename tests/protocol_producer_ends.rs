//! How producers end: with their channel, by a panic, with a child that is taken out.
//! Whatever happens, each is told to stop once at most, and
//! nothing after.

#[path = "support/producers.rs"]
mod producers;
#[path = "support/protocol.rs"]
mod support;

use core::time::Duration;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::unix::net::UnixStream;
use std::panic::resume_unwind;
use std::rc::Rc;

use forkplan::{
    Channel, ChildKey, Command, End, Event, OnData, OnEvent, Process, Producer, Protocols, Pump,
    Signal, Transport,
};
use producers::{Told, both_forms, nothing};
use support::{Looped, Random, sh, spawn};

/// A child with a socket on its fd 0, of which it reads nothing before it is told to
/// over fd 3.
fn waiting(protocols: &mut Protocols<'_>, script: &str) -> ChildKey {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("read go <&3; {script}")]);
    command.fd(0, Channel::SocketPair).fd(3, Channel::WritePipe);
    protocols.add(spawn(&mut command), ())
}

type Act = fn(&mut Pump, ChildKey);

/// What ends a producer.
const ENDS: [(&str, Act); 7] = [
    ("close", |pump, key| pump.close(key, 0).unwrap()),
    ("close all", |pump, key| pump.close_all(key).unwrap()),
    ("close write", |pump, key| pump.close_write(key, 0).unwrap()),
    ("abort", |pump, key| pump.abort(key, 0).unwrap()),
    ("abort all", |pump, key| pump.abort_all(key).unwrap()),
    ("kill", |pump, key| pump.signal(key, Signal::KILL).unwrap()),
    ("exit", |pump, key| assert_eq!(pump.write(key, 3, b"go\n"), Ok(3))),
];

#[test]
fn whatever_ends_its_channel_a_producer_is_stopped_once_and_before_closed() {
    for (end, act) in ENDS {
        for full in [false, true] {
            for form in 0..2 {
                let told = Told::default();
                let mut looped = Looped::new();
                let key = waiting(&mut looped.protocols, "exit 0");
                let also = told.clone();
                let closed = OnEvent(move |_: &mut Process<'_>, event: Event<'_>| {
                    if let Event::Closed { channel, .. } = event {
                        if channel == 0.into() {
                            also.0.borrow_mut().push("closed");
                        }
                    }
                });
                looped.protocols.on_process(key, closed);
                let producer = both_forms(&told).into_iter().nth(form).unwrap();
                looped.protocols.register_producer(key, 0, producer).unwrap();
                if full {
                    while looped.protocols.pump_mut().write(key, 0, &[0; 10_000]).unwrap() > 0 {}
                }
                looped.step(Duration::from_millis(10));
                let before = told.taken();
                assert!(!before.contains(&"stop"));
                act(looped.protocols.pump_mut(), key);
                looped.until(|_| told.0.borrow().contains(&"stop"));
                let _ = looped.protocols.pump().signal(key, Signal::KILL);
                looped.finish();
                assert_eq!(told.taken(), ["stop", "closed"], "{end}, full: {full}, {form}");
            }
        }
    }
}

#[test]
fn a_producer_that_comes_when_all_is_closed_is_stopped_before_the_end() {
    let told = Told::default();
    let mut looped = Looped::new();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let protocols = &mut looped.protocols;
    let key = protocols.pump_mut().attach([End::new(0, ours).unwrap()]);
    let also = told.clone();
    let ended = OnEvent(move |_: &mut Process<'_>, event: Event<'_>| {
        if let Event::Ended { .. } = event {
            also.0.borrow_mut().push("ended");
        }
    });
    protocols.on_process(key, ended);
    protocols.pump_mut().abort(key, 0).unwrap();
    protocols.register_producer(key, 0, Producer::pull(told.then(nothing))).unwrap();
    looped.finish();
    assert_eq!(told.taken(), ["stop", "ended"]);
}

#[test]
fn a_socket_that_is_read_no_more_stops_its_producer_and_is_read_on() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (told, said) = (Told::default(), RefCell::new(Vec::new()));
    let mut looped = Looped::new();
    let protocols = &mut looped.protocols;
    let key = protocols.pump_mut().attach([End::new(0, ours).unwrap()]);
    protocols.on(key, 0, OnData(|_, bytes| said.borrow_mut().extend_from_slice(bytes))).unwrap();
    let producer = told.then(|what, channel: &mut Transport<'_>| {
        if what == "produce" {
            assert_eq!(channel.write(b"to nobody"), Ok(9));
        }
    });
    protocols.register_producer(key, 0, Producer::pull(producer)).unwrap();
    theirs.shutdown(std::net::Shutdown::Read).unwrap();
    looped.until(|_| told.0.borrow().contains(&"stop"));
    assert!(looped.protocols.pump().is_open(key, 0));
    io::Write::write_all(&mut &theirs, b"still here").unwrap();
    looped.until(|_| said.borrow().len() == 10);
    drop(theirs);
    looped.finish();
    assert_eq!(told.taken(), ["produce", "stop"]);
}

/// A producer that panics when it is told this, and when it is dropped if that is
/// "drop".
struct Fragile(&'static str);

impl Fragile {
    fn told(&mut self, what: &str) {
        if self.0 == what {
            resume_unwind(Box::new(self.0));
        }
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        if self.0 == "drop" {
            resume_unwind(Box::new(self.0));
        }
    }
}

#[test]
fn a_producer_that_panics_takes_down_its_own_child_and_no_other() {
    for at in ["pause", "resume", "produce", "stop", "drop"] {
        let (told, other, events) = (Told::default(), Told::default(), Cell::new(0));
        let mut looped = Looped::new();
        let protocols = &mut looped.protocols;
        let key = waiting(protocols, "head -c 1 >&0; cat >/dev/null");
        protocols.on_process(key, OnEvent(|_, _| events.set(events.get() + 1)));
        let mut fragile = Fragile(at);
        let producer = told.then(move |what, _: &mut Transport<'_>| fragile.told(what));
        let producer = match at {
            "produce" => Producer::pull(producer),
            _ => Producer::push(producer),
        };
        protocols.register_producer(key, 0, producer).unwrap();
        let cat = protocols.add(spawn(Command::new("cat").arg("-")), ());
        protocols.register_producer(cat, 0, Producer::pull(other.then(nothing))).unwrap();
        while protocols.pump_mut().write(key, 0, &[0; 10_000]).unwrap() > 0 {}
        protocols.dispatch();
        if ["resume", "produce"].contains(&at) {
            protocols.pump_mut().write(key, 3, b"go\n").unwrap();
        }
        if ["stop", "drop"].contains(&at) {
            protocols.pump_mut().abort(key, 0).unwrap();
        }
        let caught = Cell::new(None);
        looped.until(|protocols| {
            caught.set(
                protocols.take_panic().map(|panic| (panic.child(), panic.message() == Some(at))),
            );
            caught.get().is_some()
        });
        assert_eq!(caught.get(), Some((key, true)), "{at}");
        looped.until(|_| other.is(&["produce"]));
        let (before, seen) = (told.taken(), events.get());
        looped.protocols.pump_mut().abort_all(cat).unwrap();
        let _ = looped.protocols.pump().signal(key, Signal::KILL);
        looped.finish();
        assert_eq!(other.taken(), ["produce", "stop"], "{at}");
        assert_eq!(told.taken(), [""; 0], "after {before:?}");
        assert!(at == "drop" || events.get() == seen, "its handlers are gone");
        assert_eq!(Rc::strong_count(&told.0), 1, "dropped");
        assert!(looped.protocols.take_panic().is_none(), "{at}");
    }
}

/// How a child is taken out.
const WAYS: [fn(&mut Protocols<'_>, ChildKey); 2] = [
    |protocols, key| drop(protocols.remove(key).unwrap()),
    |protocols, key| drop(protocols.pump_mut().remove(key).unwrap()),
];

#[test]
fn a_child_that_is_taken_out_leaves_no_handler_and_no_producer() {
    for (way, remove) in WAYS.into_iter().enumerate() {
        for form in 0..2 {
            let (told, stays) = (Told::default(), Told::default());
            let handler = Rc::new(());
            let mut looped = Looped::new();
            let protocols = &mut looped.protocols;
            let key = waiting(protocols, "");
            let other = waiting(protocols, "");
            protocols.dispatch();
            let (of_process, of_channel) = (handler.clone(), handler.clone());
            let on = move |_: &mut Process<'_>, _: Event<'_>| unreachable!("{of_process:?}");
            protocols.on_process(key, OnEvent(on));
            let on = move |_: &mut Transport<'_>, _: &[u8]| unreachable!("{of_channel:?}");
            protocols.on(key, 0, OnData(on)).unwrap();
            let producer = both_forms(&told).into_iter().nth(form).unwrap();
            protocols.register_producer(key, 0, producer).unwrap();
            let producer = both_forms(&stays).into_iter().nth(form).unwrap();
            protocols.register_producer(other, 0, producer).unwrap();
            for key in [key, other] {
                while protocols.pump_mut().write(key, 0, &[0; 10_000]).unwrap() > 0 {}
            }
            // What is to be told of it is forgotten.
            remove(protocols, key);
            if way > 0 {
                assert_eq!(Rc::strong_count(&handler), 3, "nobody knows yet");
            }
            protocols.dispatch();
            assert_eq!(Rc::strong_count(&handler), 1);
            assert_eq!((told.taken(), Rc::strong_count(&told.0)), (vec![], 1));
            // The other's are as they were.
            looped.protocols.pump_mut().abort(other, 0).unwrap();
            looped.until(|_| stays.0.borrow().last() == Some(&"stop"));
            looped.protocols.pump_mut().signal(other, Signal::KILL).unwrap();
            looped.finish();
        }
    }
}

#[test]
fn a_handler_takes_its_own_child_out_and_is_dropped() {
    let (told, handler) = (Told::default(), Rc::new(()));
    let mut looped = Looped::new();
    let key = looped.protocols.add(sh("echo now; read never"), ());
    let own = handler.clone();
    let remove = OnData(move |channel: &mut Transport<'_>, _: &[u8]| {
        let process = channel.process();
        let key = process.key();
        let producer = Producer::push(Told::default().then(nothing));
        process.register_producer(0, producer).unwrap();
        let mut removed = process.pump().remove(key).unwrap();
        // In another loop the pump still has its end, so none of ours ends it.
        removed.child.signal(Signal::KILL).unwrap();
        assert!(removed.child.wait().is_ok(), "{own:?}");
    });
    looped.protocols.on(key, 1, remove).unwrap();
    looped.protocols.register_producer(key, 2, Producer::push(told.then(nothing))).unwrap_err();
    looped.finish();
    looped.protocols.dispatch();
    assert_eq!(Rc::strong_count(&handler), 1);
}

#[test]
fn a_pump_that_is_given_back_knows_of_no_producer() {
    let told = Told::default();
    let mut protocols = Protocols::new();
    let keys = [(); 2].map(|()| {
        let mut sleep = Command::new("sleep");
        protocols.add(spawn(sleep.arg("1000").fd(0, Channel::WritePipe)), ())
    });
    protocols.dispatch();
    for (key, producer) in keys.into_iter().zip(both_forms(&told)) {
        protocols.register_producer(key, 0, producer).unwrap();
        while protocols.pump_mut().write(key, 0, &[0; 10_000]).unwrap() > 0 {}
    }
    let mut pump = protocols.into_pump();
    assert_eq!(Rc::strong_count(&told.0), 1);
    // Nothing is to be told, and nothing waits for room but what is queued.
    assert!(!pump.has_events());
    assert!(!pump.poll(Some(Duration::from_millis(20))).unwrap());
    let mut protocols = Protocols::from(pump);
    for (key, producer) in keys.into_iter().zip(both_forms(&told)) {
        protocols.register_producer(key, 0, producer).unwrap();
    }
    assert_eq!(protocols.dispatch(), 0);
    assert_eq!(told.taken(), [""; 0]);
}

/// Events that are taken by hand are dispatched to nobody, and no producer is left
/// behind that nobody could replace.
#[test]
fn what_is_taken_from_the_pump_by_hand_no_producer_is_told() {
    let told = Told::default();
    let mut protocols = Protocols::new();
    let key = waiting(&mut protocols, "");
    protocols.register_producer(key, 0, Producer::push(told.then(nothing))).unwrap();
    while protocols.pump_mut().write(key, 0, &[0; 10_000]).unwrap() > 0 {}
    protocols.pump_mut().abort(key, 0).unwrap();
    while let Some(event) = protocols.pump_mut().next_event() {
        assert!(matches!(event, Event::Made { .. } | Event::Closed { .. }), "{event:?}");
    }
    protocols.register_producer(key, 0, Producer::push(told.then(nothing))).unwrap();
    protocols.dispatch();
    assert_eq!(told.taken(), ["stop"], "the second one");
    assert_eq!(Rc::strong_count(&told.0), 1);
}

/// Whoever writes, closes, kills, sets and unsets as the dice say: what a producer is
/// told is `(pause resume)* pause? stop?` or `produce* stop?`, and of those that were
/// not taken away each is stopped.
#[test]
fn whatever_happens_producers_are_told_in_order_and_stopped_once() {
    let random = RefCell::new(Random::new());
    for _ in 0..10 {
        let mut all: Vec<(bool, Told)> = Vec::new();
        let taken_away = RefCell::new(Vec::new());
        let mut looped = Looped::new();
        let scripts =
            ["cat", "head -c 100000", "exec 0<&-; sleep 0.01", "sleep 0.05; cat", "exit 0"];
        let keys: Vec<ChildKey> = (0..8)
            .map(|_| {
                let script = random.borrow_mut().pick(&scripts);
                let mut command = Command::new("sh");
                command.args(["-c", script]).fd(0, Channel::SocketPair).fd(1, Channel::Null);
                looped.protocols.add(spawn(&mut command), ())
            })
            .collect();
        let mut current: Vec<Option<usize>> = vec![None; keys.len()];
        for _ in 0..150 {
            let of = random.borrow_mut().below(keys.len());
            let (key, dice) = (keys[of], random.borrow_mut().below(24));
            match dice {
                0..6 => {
                    let (pull, told) = (dice % 2 == 0, Told::default());
                    let random = &random;
                    let producer = told.then(move |what, channel: &mut Transport<'_>| {
                        let dice = random.borrow_mut().below(20);
                        if ["produce", "resume"].contains(&what) && dice > 0 {
                            let _ = channel.write(&[0; 100_000][..dice * 5000]);
                        }
                    });
                    let producer = match pull {
                        true => Producer::pull(producer),
                        false => Producer::push(producer),
                    };
                    if looped.protocols.register_producer(key, 0, producer).is_ok() {
                        current[of] = Some(all.len());
                        all.push((pull, told));
                    }
                }
                6 => {
                    if looped.protocols.unregister_producer(key, 0).is_ok() {
                        taken_away.borrow_mut().extend(current[of].take());
                    }
                }
                7..11 => drop(looped.protocols.pump_mut().write(key, 0, &[0; 60_000])),
                11 if random.borrow_mut().below(4) == 0 => {
                    let _ = looped.protocols.pump_mut().close_write(key, 0);
                }
                12 if random.borrow_mut().below(4) == 0 => {
                    let _ = looped.protocols.pump().signal(key, Signal::KILL);
                }
                13 if random.borrow_mut().below(8) == 0 => {
                    if looped.protocols.remove(key).is_ok() {
                        taken_away.borrow_mut().extend(current[of].take());
                    }
                }
                _ => drop(looped.step(Duration::from_millis(1))),
            }
        }
        for &key in &keys {
            let _ = looped.protocols.pump_mut().abort_all(key);
            let _ = looped.protocols.pump().signal(key, Signal::KILL);
        }
        looped.finish();
        drop(looped);
        for (at, (pull, told)) in all.iter().enumerate() {
            assert_eq!(Rc::strong_count(&told.0), 1, "dropped");
            check(*pull, &told.taken(), taken_away.borrow().contains(&at));
        }
    }
}

fn check(pull: bool, told: &[&str], taken_away: bool) {
    let stops = told.iter().filter(|&&what| what == "stop").count();
    assert!(stops == 1 || taken_away && stops == 0, "{told:?}");
    let before = told.iter().take_while(|&&what| what != "stop").copied();
    let before: Vec<&str> = before.collect();
    assert_eq!(before.len() + stops, told.len(), "nothing after the stop: {told:?}");
    match pull {
        true => assert!(before.iter().all(|&what| what == "produce"), "{told:?}"),
        false => {
            let by_turns = ["pause", "resume"].into_iter().cycle().take(before.len());
            assert!(before.iter().copied().eq(by_turns), "{told:?}");
        }
    }
}

#[test]
fn control_what_is_out_of_order_is_noticed() {
    let holds = |pull, told: &[&str]| std::panic::catch_unwind(|| check(pull, told, false)).is_ok();
    assert!(holds(false, &["pause", "resume", "pause", "stop"]));
    assert!(holds(true, &["produce", "produce", "stop"]));
    for bad in
        [&["resume", "stop"][..], &["pause", "pause", "stop"], &["stop", "pause"], &["pause"]]
    {
        assert!(!holds(false, bad), "{bad:?}");
    }
    assert!(!holds(true, &["produce", "stop", "stop"]) && !holds(true, &["pause", "stop"]));
}
