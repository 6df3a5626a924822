//! Channels that are given up after their child's exit: nobody is told less for being
//! late, and nobody is kept for ever.

#[path = "support/pump.rs"]
mod support;

use core::time::Duration;

use forkplan::{Channel, CloseReason, Command, Event, Ladder, Pump, Signal};
use support::{Agent, Driver, Orphan, Seen, wait_for_end};

/// More than one poll reads.
const MESSAGES: usize = 200;

/// A child that has sent messages and is gone, and a grandchild that holds its channel.
/// The pump has not looked yet.
fn late() -> (Driver, Agent, Orphan) {
    let mut driver = Driver::new();
    let mut agent = driver.agent(|command| {
        command.fd(3, Channel::SeqpacketPair);
    });
    let pid = driver.pump.child(agent.key).unwrap().id().unwrap();
    driver.pump.set_drain_limit(agent.key, Some(Duration::ZERO)).unwrap();
    let sends = format!("i=0; while [ $i -lt {MESSAGES} ]; do echo $i >&3; i=$((i+1)); done");
    let grandchild = agent.ask(&format!("{sends}; sleep 300 9<&- & echo $! >&9"));
    let orphan = Orphan(grandchild.trim().parse().unwrap());
    agent.tell("exit");
    wait_for_end(pid);
    (driver, agent, orphan)
}

fn messages(driver: &Driver, agent: &Agent) -> usize {
    driver
        .of(agent.key)
        .filter(|seen| matches!(seen, Seen::Data(channel, _) if channel == "3"))
        .count()
}

#[test]
fn what_lies_in_a_channel_when_its_time_is_over_is_told_first() {
    let (mut driver, agent, orphan) = late();
    driver.finish();
    assert_eq!(messages(&driver, &agent), MESSAGES);
    assert_eq!(driver.closed(agent.key, "3"), Some((CloseReason::Abandoned, 0)));
    drop(orphan);
}

#[test]
fn who_pauses_it_meanwhile_is_told_the_rest_when_he_goes_on() {
    let (mut driver, agent, orphan) = late();
    driver.until(|driver| driver.exit(agent.key).is_some());
    // The limit begins with this poll, and is over.
    driver.pump.poll(Some(Duration::ZERO)).unwrap();
    driver.pump.pause(agent.key, 3).unwrap();
    driver.drain();
    assert_eq!(driver.closed(agent.key, "3"), None);
    assert!(messages(&driver, &agent) < MESSAGES);
    driver.pump.resume(agent.key, 3).unwrap();
    driver.finish();
    assert_eq!(messages(&driver, &agent), MESSAGES);
    assert_eq!(driver.closed(agent.key, "3"), Some((CloseReason::Abandoned, 0)));
    drop(orphan);
}

/// Whether it is found empty before the last of its reads depends on who is faster.
#[test]
fn who_goes_on_writing_keeps_nobody() {
    let mut pump = Pump::new();
    let mut command = Command::new("sh");
    command.args(["-c", "yes 2>/dev/null & exec true"]).fd(1, Channel::ReadPipe);
    let child = pump.add(command.spawn().unwrap());
    pump.set_drain_limit(child, Some(Duration::ZERO)).unwrap();
    let mut closed = None;
    while !pump.is_empty() {
        pump.poll(None).unwrap();
        while let Some(event) = pump.next_event() {
            if let Event::Closed { reason, .. } = event {
                closed = Some(reason);
            }
        }
    }
    assert_eq!(closed, Some(CloseReason::Abandoned));
}

#[test]
fn a_ladder_for_a_group_that_nobody_leads_is_the_childs() {
    let mut driver = Driver::new();
    let agent = driver.agent(|_| {});
    driver.pump.stop(agent.key, Ladder::kill().to_group()).unwrap();
    driver.finish();
    assert_eq!(driver.exit(agent.key).unwrap().signal(), Some(Signal::KILL));
    assert!(driver.has(agent.key, &Seen::Signalled(Signal::KILL)));
}
