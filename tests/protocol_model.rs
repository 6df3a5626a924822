//! Random lives under random handlers: who writes, closes, pauses, signals, hands
//! on, adds and panics as the dice say. Whatever they do, each is told in the
//! order that is promised, nobody after a panic, and every child ends.

#[path = "support/protocol.rs"]
mod support;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::rc::Rc;

use forkplan::{
    Channel, ChannelHandler, Child, ChildKey, Command, Event, Process, ProcessHandler, Protocols,
    Signal, Transport,
};
use support::{Random, drive, spawn};

/// What one handler was told: `None` stands for a process's.
type Call = (ChildKey, Option<String>, &'static str, Option<String>);

struct World {
    random: Random,
    calls: Vec<Call>,
    keys: Vec<ChildKey>,
    added: usize,
    panicked: BTreeSet<ChildKey>,
    told_after_panic: bool,
}

#[derive(Clone)]
struct Dicing(Rc<RefCell<World>>);

fn brief(event: &Event<'_>) -> (&'static str, Option<String>) {
    match event {
        Event::Made { .. } => ("made", None),
        Event::Data { channel, .. } => ("data", Some(channel.to_string())),
        Event::HalfClosed { channel, .. } => ("half closed", Some(channel.to_string())),
        Event::Drained { channel, .. } => ("drained", Some(channel.to_string())),
        Event::Closed { channel, .. } => ("closed", Some(channel.to_string())),
        Event::Exited { .. } => ("exited", None),
        Event::Ended { .. } => ("ended", None),
        _ => ("other", None),
    }
}

fn child(random: &mut Random) -> Child {
    let scripts = [
        "head -c 200000 /dev/zero; echo err >&2; exit 3",
        "cat >&3 3>&-; echo after",
        "exec 1>&-; cat >&2",
        "for i in 1 2 3 4 5; do echo $i; echo $i >&2; done; cat",
        "exit 0",
    ];
    let mut command = Command::new("sh");
    command.args(["-c", random.pick(&scripts)]);
    command.fd(0, Channel::WritePipe).fds([1, 2], Channel::ReadPipe).fd(3, Channel::SocketPair);
    spawn(&mut command)
}

impl Dicing {
    fn add(&self, protocols: &mut Protocols<'_>) {
        let child = child(&mut self.0.borrow_mut().random);
        let key = protocols.add(child, self.clone());
        self.0.borrow_mut().keys.push(key);
        for fd in [0, 1, 3] {
            if self.0.borrow_mut().random.below(3) > 0 {
                protocols.on(key, fd, self.clone()).unwrap();
            }
        }
    }

    fn act(&self, channel: Option<String>, event: &Event<'_>, process: &mut Process<'_>) {
        let key = process.key();
        let mut world = self.0.borrow_mut();
        let (what, about) = brief(event);
        world.told_after_panic |= world.panicked.contains(&key);
        world.calls.push((key, channel, what, about));
        let (dice, fd) = (world.random.below(40), world.random.pick(&[0, 1, 3]));
        match dice {
            0 if world.panicked.len() < 10 => {
                world.panicked.insert(key);
                drop(world);
                resume_unwind(Box::new("the dice"));
            }
            1 => drop(process.signal(world.random.pick(&[Signal::TERM, Signal::KILL]))),
            2 => drop(process.close(fd)),
            3 => drop(process.pump().abort(key, fd)),
            4 => drop(process.close_all()),
            5 => drop(process.on(fd, self.clone())),
            6..10 => drop(process.write(fd, &[b'x'; 100_000][..world.random.pick(&[1, 100_000])])),
            10 => drop(process.pump().pause(key, fd)),
            11..14 => drop(process.resume_all()),
            14 | 15 if world.added < 40 => {
                world.added += 1;
                let child = child(&mut world.random);
                let key = process.add(child, self.clone());
                world.keys.push(key);
                let _ = process.other(key).on(1, self.clone());
            }
            _ => {}
        }
    }
}

impl ProcessHandler for Dicing {
    fn event(&mut self, process: &mut Process<'_>, event: Event<'_>) {
        self.act(None, &event, process);
    }
}

impl ChannelHandler for Dicing {
    fn event(&mut self, channel: &mut Transport<'_>, event: Event<'_>) {
        let name = channel.name().to_string();
        self.act(Some(name), &event, channel.process());
    }
}

/// What is promised of one child's calls.
fn check(key: ChildKey, calls: &[&Call], panicked: bool) {
    let fail = |what: &str| -> ! { panic!("{key:?}: {what}: {calls:#?}") };
    let count = |what| calls.iter().filter(|call| call.1.is_none() && call.2 == what).count();
    if (&calls[0].1, calls[0].2) != (&None, "made") || count("made") != 1 {
        fail("made comes to the process first, and once");
    }
    let mut closed = BTreeSet::new();
    for (at, (_, handler, what, about)) in calls.iter().enumerate() {
        if *what == "closed" && handler.is_none() {
            let channel = about.clone().unwrap();
            let before = calls[at - 1].1 == *about && calls[at - 1].2 == "closed";
            let known = calls[..at].iter().any(|call| call.1 == *about);
            if !closed.insert(channel) || known && !before {
                fail("closed comes once, and right after the channel's own");
            }
        } else if about.as_ref().is_some_and(|channel| closed.contains(channel)) {
            fail("nothing comes after closed");
        }
        if handler.is_some() && about.is_some() && handler != about {
            fail("a channel's handler is told of its own channel");
        }
    }
    if panicked {
        return;
    }
    if count("exited") != 1 || count("ended") != 1 || calls.last().unwrap().2 != "ended" {
        fail("exited comes once, ended once and last");
    }
    if closed.len() != 3 {
        fail("each channel is closed");
    }
}

#[test]
fn whatever_handlers_do_they_are_told_as_promised_and_every_child_ends() {
    for _ in 0..12 {
        let random = Random::new();
        let world = World {
            random,
            calls: vec![],
            keys: vec![],
            added: 0,
            panicked: BTreeSet::new(),
            told_after_panic: false,
        };
        let dicing = Dicing(Rc::new(RefCell::new(world)));
        let mut protocols = Protocols::new();
        for _ in 0..10 {
            dicing.add(&mut protocols);
        }
        // The dice may leave a child waiting for ever: paused, or not written to.
        for _ in 0..50 {
            protocols.pump_mut().poll(Some(core::time::Duration::from_millis(1))).unwrap();
            protocols.dispatch();
        }
        for &key in &dicing.0.borrow().keys {
            let pump = protocols.pump_mut();
            let _ = pump.abort_all(key);
            let _ = pump.signal(key, Signal::KILL);
        }
        // Nobody is added from now on.
        dicing.0.borrow_mut().added = 40;
        drive(&mut protocols);
        let mut panics = BTreeSet::new();
        while let Some(panic) = protocols.take_panic() {
            assert!(panics.insert(panic.child()), "a child's handlers panic once");
        }
        drop(protocols);
        let world = Rc::into_inner(dicing.0).expect("all handlers are dropped").into_inner();
        assert_eq!(panics, world.panicked);
        assert!(!world.told_after_panic);
        let mut of: BTreeMap<ChildKey, Vec<&Call>> = BTreeMap::new();
        world.calls.iter().for_each(|call| of.entry(call.0).or_default().push(call));
        for (key, calls) in of {
            check(key, &calls, panics.contains(&key));
        }
    }
}

/// Lists that break a promise each, and one that breaks none.
#[test]
fn control_calls_that_break_a_promise_are_noticed() {
    let mut protocols = Protocols::new();
    let key = protocols.add(spawn(&mut Command::new("true")), ());
    drive(&mut protocols);
    let holds = |calls: &[(&str, &'static str, &str)]| {
        let name = |name: &str| (!name.is_empty()).then(|| name.to_string());
        let calls: Vec<Call> =
            calls.iter().map(|&(of, what, on)| (key, name(of), what, name(on))).collect();
        let calls: Vec<&Call> = calls.iter().collect();
        std::panic::catch_unwind(|| check(key, &calls, false)).is_ok()
    };
    let good = [
        ("", "made", ""),
        ("1", "made", ""),
        ("1", "data", "1"),
        ("1", "closed", "1"),
        ("", "closed", "1"),
        ("", "data", "2"),
        ("", "closed", "2"),
        ("", "exited", ""),
        ("", "closed", "3"),
        ("", "ended", ""),
    ];
    assert!(holds(&good));
    for missing in [0, 4, 6, 7, 9] {
        let mut bad = good.to_vec();
        bad.remove(missing);
        assert!(!holds(&bad), "without {:?}", good[missing]);
    }
    for (a, b) in [(0, 1), (2, 5), (3, 4), (4, 5), (5, 6), (8, 9)] {
        let mut bad = good.to_vec();
        bad.swap(a, b);
        assert!(!holds(&bad), "{a} and {b} swapped");
    }
}
