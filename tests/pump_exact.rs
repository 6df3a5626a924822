//! In a loop that is not the pump's own nothing is told twice: a source that is
//! watched by edges, or for one event alone, is lost with the first thing that
//! somebody forgets about it. So the suite's loops are seen to hang here, within a
//! number of polls that does not depend on the machine, for each thing that they
//! could forget; and to come through without. Each test is a process of its own: a
//! child that another has just forked has copies of all its fds.
#![cfg(target_os = "linux")]

#[path = "support/pump.rs"]
mod support;

use core::time::Duration;

use forkplan::Channel;
use rustix::event::epoll::EventFlags;
use support::outer::{Loss, Traffic};
use support::{Agent, Driver, Seen, TestPump, alone};

const LEVEL: EventFlags = EventFlags::empty();
const EDGE: EventFlags = EventFlags::ET;
const ONE_SHOT: EventFlags = EventFlags::ET.union(EventFlags::ONESHOT);

/// How often a loop may look for what is there already.
const POLLS_MAX: usize = 50;

/// What a loop does that has found nothing for so long.
#[derive(Clone, Copy)]
enum AtAStandstill {
    GiveUp,
    LookAtAll,
}

/// Why a conversation did not come to its end.
#[derive(Debug)]
struct Hung(#[allow(dead_code, reason = "shown where a test fails")] &'static str);

/// Polls without waiting until it is seen what has happened already.
fn see(
    driver: &mut Driver,
    then: AtAStandstill,
    what: &'static str,
    mut seen: impl FnMut(&Driver) -> bool,
) -> Result<(), Hung> {
    for poll in 0..2 * POLLS_MAX {
        match then {
            AtAStandstill::GiveUp if poll == POLLS_MAX => break,
            AtAStandstill::LookAtAll if poll == POLLS_MAX => driver.pump.look_at_all(),
            _ => {}
        }
        driver.drain();
        if seen(driver) {
            return Ok(());
        }
        driver.pump.poll(Some(Duration::ZERO)).unwrap();
    }
    Err(Hung(what))
}

/// A child that reads what did not fit into pipes and sockets, says something on
/// two channels several times, closes channels one by one and ends. Each thing
/// has happened before the loop looks for it, and nothing follows by which the loop
/// could find what it has lost.
fn converse(flags: EventFlags, loses: Option<Loss>, then: AtAStandstill) -> Result<Traffic, Hung> {
    let mut driver = Driver::with(TestPump::in_broken_loop(flags, loses));
    let mut agent = driver.agent(|command| {
        command.fd(0, Channel::WritePipe).fds([1, 2], Channel::ReadPipe);
        command.fd(3, Channel::SocketPair).fd(4, Channel::WritePipe);
        command.fd(5, Channel::SeqpacketPair);
    });
    let key = agent.key;
    driver.drain();
    for (fd, name) in [(0, "0"), (3, "3")] {
        // More than is taken.
        let taken = driver.pump.write(key, fd, &[b'x'; 2_000_000]).unwrap();
        let inside = taken - driver.pump.queued(key, fd).unwrap();
        driver.drain();
        agent.ask(&format!("head -c {inside} <&{fd} >/dev/null"));
        see(&mut driver, then, "that there is room", |d| d.has(key, &Seen::Drained(name.into())))?;
    }
    messages(&mut driver, then, &mut agent)?;
    for round in 1..=2 {
        agent.ask("echo said; echo more >&3");
        see(&mut driver, then, "what it said", |d| d.data_len(key, "1") == round * 5)?;
        see(&mut driver, then, "what came by the socket", |d| d.data_len(key, "3") == round * 5)?;
    }
    agent.ask("exec 0<&- 4<&-; echo last >&3");
    see(&mut driver, then, "that nobody reads", |d| {
        d.closed(key, "0").and(d.closed(key, "4")).is_some()
    })?;
    see(&mut driver, then, "what came last", |d| d.data(key, "3").ends_with(b"last\n"))?;
    agent.ask("exec 1>&- 2>&-");
    see(&mut driver, then, "the end of file", |d| d.closed(key, "1").is_some())?;
    agent.tell("exit 7");
    support::wait_for_end(driver.pump.child(key).unwrap().id().unwrap());
    see(&mut driver, then, "the end", |d| d.has_ended(key))?;
    assert_eq!(driver.exit(key).unwrap().code(), Some(7));
    driver.check();
    Ok(driver.pump.traffic())
}

/// More messages at once than one turn writes or reads: of all of them a loop that
/// is not the pump's says once that they can be.
fn messages(driver: &mut Driver, then: AtAStandstill, agent: &mut Agent) -> Result<(), Hung> {
    let key = agent.key;
    let mut taken = 0;
    loop {
        match driver.pump.write(key, 5, &[b'm'; 1000]).unwrap() {
            0 => break,
            written => taken += written,
        }
    }
    let queued = driver.pump.queued(key, 5).unwrap();
    assert!(queued > 20_000, "{queued} bytes in messages of 1000");
    driver.drain();
    agent.ask(&format!("head -c {} <&5 >/dev/null", taken - queued));
    see(driver, then, "that there is room for messages", |d| {
        d.has(key, &Seen::Drained("5".into()))
    })?;
    agent.ask("for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do echo m >&5; done");
    see(driver, then, "all messages", |d| d.data_len(key, "5") == 40)
}

/// Every loss that there can be in a conversation, one at a time: which of them it
/// survives.
fn survived(flags: EventFlags, then: AtAStandstill) -> (Traffic, Vec<Loss>) {
    let all = converse(flags, None, AtAStandstill::GiveUp).expect("nothing is lost");
    (all, losses(all).filter(|&loss| converse(flags, Some(loss), then).is_ok()).collect())
}

fn losses(all: Traffic) -> impl Iterator<Item = Loss> {
    let events = (0..all.events).map(Loss::Event);
    events.chain((0..all.changes).map(Loss::Change))
}

#[test]
fn an_exact_loop_of_any_kind_finds_all_there_is() {
    alone("an_exact_loop_of_any_kind_finds_all_there_is", || {
        for flags in [LEVEL, EDGE, ONE_SHOT] {
            let seen = converse(flags, None, AtAStandstill::GiveUp);
            // Six channels and the process are found once at least.
            assert!(seen.as_ref().is_ok_and(|seen| seen.events >= 7), "{flags:?}: {seen:?}");
        }
    });
}

#[test]
fn control_every_edge_that_is_lost_is_missed() {
    alone("control_every_edge_that_is_lost_is_missed", || {
        let (all, survived) = survived(EDGE, AtAStandstill::GiveUp);
        // Room is asked for three times.
        assert!(all.changes >= 3 && all.events >= 7, "{all:?}");
        assert_eq!(survived, [], "of {all:?}");
    });
}

#[test]
fn control_every_event_and_every_watch_once_more_that_is_lost_is_missed() {
    alone("control_every_event_and_every_watch_once_more_that_is_lost_is_missed", || {
        let (all, survived) = survived(ONE_SHOT, AtAStandstill::GiveUp);
        assert!(all.changes >= 6 && all.events >= 7, "{all:?}");
        assert_eq!(survived, [], "of {all:?}");
    });
}

/// The control of the controls: what is lost is lost, and not the pump's loop broken.
#[test]
fn a_level_that_is_lost_once_is_found_by_the_next_look() {
    alone("a_level_that_is_lost_once_is_found_by_the_next_look", || {
        let (all, survived) = survived(LEVEL, AtAStandstill::GiveUp);
        let events: Vec<Loss> = (0..all.events).map(Loss::Event).collect();
        assert_eq!(survived, events, "room is asked for once");
    });
}

#[test]
fn whatever_a_loop_has_lost_is_found_by_a_look_at_all() {
    alone("whatever_a_loop_has_lost_is_found_by_a_look_at_all", || {
        for flags in [EDGE, ONE_SHOT] {
            let (all, survived) = survived(flags, AtAStandstill::LookAtAll);
            assert!(survived.into_iter().eq(losses(all)), "{flags:?}");
        }
    });
}
