//! Limits on what is queued: of a channel, of a child, of a pump.

#[path = "support/pump.rs"]
mod support;

use forkplan::{Channel, ChannelError, ChildKey, CloseReason, Signal};
use support::{Agent, Driver, Seen};

/// An agent that never reads from its fds 0 and 3.
fn deaf(driver: &mut Driver) -> Agent {
    driver.agent(|command| {
        command.fd(0, Channel::WritePipe).fd(3, Channel::WritePipe).fd(4, Channel::WritePipe);
    })
}

/// Writes until nothing is taken any more; how many bytes were.
fn fill(driver: &mut Driver, key: ChildKey, channel: i32) -> usize {
    let piece = [b'x'; 10_000];
    let mut taken = 0;
    loop {
        match driver.pump.write(key, channel, &piece).unwrap() {
            0 => return taken,
            now => taken += now,
        }
    }
}

fn queued(driver: &Driver, key: ChildKey) -> usize {
    driver.pump.channels(key).unwrap().map(|channel| channel.queued).sum()
}

#[test]
fn a_drained_notice_comes_at_the_low_water_mark() {
    for (mark, left) in [(0, 0), (50_000, 50_000), (65_536, 65_536)] {
        let mut driver = Driver::new();
        let mut agent = deaf(&mut driver);
        driver.pump.set_low_water(agent.key, 0, mark).unwrap();
        let taken = fill(&mut driver, agent.key, 0);
        // A page at a time, so that the queue shrinks step by step.
        agent.tell("while read -r n <&9; do head -c 4096 >/dev/null; echo more >&9; done");
        let mut read = 0;
        while !driver.has(agent.key, &Seen::Drained("0".into())) {
            agent.tell("go on");
            assert_eq!(agent.hear(), "more\n");
            read += 4096;
            assert!(read <= taken + 4096, "no notice");
            driver.step();
        }
        assert!(driver.pump.queued(agent.key, 0).unwrap() <= left);
        // With a mark, something was left when it came.
        assert!(mark == 0 || driver.pump.queued(agent.key, 0).unwrap() > 0);
        driver.pump.abort_all(agent.key).unwrap();
        drop(agent);
        driver.finish();
    }
}

#[test]
fn the_channels_of_a_child_queue_no_more_together_than_its_limit() {
    let mut driver = Driver::new();
    let agent = deaf(&mut driver);
    // Counted also if it was there before.
    let before = fill(&mut driver, agent.key, 0);
    assert!(before > 65_536);
    driver.pump.set_queue_limit(agent.key, Some(70_000)).unwrap();
    for channel in [3, 4] {
        fill(&mut driver, agent.key, channel);
    }
    assert_eq!(queued(&driver, agent.key), 70_000);
    assert_eq!(driver.pump.queued(agent.key, 4), Ok(0));
    // What a channel gives back, another has.
    driver.pump.abort(agent.key, 0).unwrap();
    fill(&mut driver, agent.key, 4);
    assert_eq!(driver.pump.queued(agent.key, 4), Ok(65_536));
    assert_eq!(queued(&driver, agent.key), 70_000);
    // Without the limit, the marks hold.
    driver.pump.set_queue_limit(agent.key, None).unwrap();
    fill(&mut driver, agent.key, 3);
    assert_eq!(queued(&driver, agent.key), 2 * 65_536);
    driver.assert_quiet();
    driver.pump.signal(agent.key, Signal::KILL).unwrap();
    driver.finish();
    assert_eq!(driver.closed(agent.key, "4"), Some((CloseReason::Peer, 65_536)));
    assert_eq!(driver.pump.set_queue_limit(agent.key, None), Err(ChannelError::NoChild));
}

#[test]
fn all_children_that_never_read_cost_no_more_than_the_total_limit() {
    let mut driver = Driver::new();
    let early = deaf(&mut driver);
    driver.pump.set_total_queue_limit(Some(100_000));
    let mut agents = vec![early];
    agents.extend((0..4).map(|_| deaf(&mut driver)));
    for agent in &agents {
        for channel in [0, 3, 4] {
            fill(&mut driver, agent.key, channel);
        }
    }
    let total =
        |driver: &Driver| -> usize { agents.iter().map(|agent| queued(driver, agent.key)).sum() };
    assert_eq!(total(&driver), 100_000);
    // Those that end and those that leave give back what was theirs.
    let removed = driver.pump.remove(agents[0].key).unwrap();
    assert!(removed.lost(0).unsent == 65_536);
    drop(removed);
    agents.remove(0);
    for agent in &agents {
        fill(&mut driver, agent.key, 0);
    }
    let total =
        |driver: &Driver| -> usize { agents.iter().map(|agent| queued(driver, agent.key)).sum() };
    assert_eq!(total(&driver), 100_000);
    for agent in &agents {
        driver.pump.signal(agent.key, Signal::KILL).unwrap();
    }
    driver.drain();
    while !driver.pump.is_empty() {
        driver.step();
    }
    // All of it is there again.
    let last = deaf(&mut driver);
    fill(&mut driver, last.key, 0);
    fill(&mut driver, last.key, 3);
    assert_eq!(queued(&driver, last.key), 100_000);
    driver.pump.signal(last.key, Signal::KILL).unwrap();
    driver.until(|driver| driver.has_ended(last.key));
}

#[test]
fn a_limit_that_others_have_used_up_slows_a_channel_down_and_does_not_stop_it() {
    let mut driver = Driver::new();
    let hog = deaf(&mut driver);
    driver.pump.set_total_queue_limit(Some(10_000));
    fill(&mut driver, hog.key, 0);
    assert_eq!(queued(&driver, hog.key), 10_000);
    let cat = driver.sh("exec cat");
    let bytes = vec![b'y'; 1 << 20];
    let (mut sent, mut notices) = (0, 0);
    while sent < bytes.len() {
        let taken = driver.pump.write(cat, 0, &bytes[sent..]).unwrap();
        sent += taken;
        assert_eq!(driver.pump.queued(cat, 0), Ok(0));
        if sent < bytes.len() {
            // The notice comes, each time.
            notices += 1;
            let count = |driver: &Driver| {
                driver.of(cat).filter(|seen| **seen == Seen::Drained("0".into())).count()
            };
            driver.until(|driver| count(driver) == notices);
        }
    }
    assert!(notices > 0);
    driver.pump.close(cat, 0).unwrap();
    driver.until(|driver| driver.has_ended(cat));
    assert_eq!(driver.data_len(cat, "1"), bytes.len());
    driver.pump.signal(hog.key, Signal::KILL).unwrap();
    driver.finish();
}
