//! The same promises where the kernel offers less: each feature excluded, and
//! all of them.

#[path = "support/pump.rs"]
mod support;

use core::time::Duration;
use std::time::Instant;

use forkplan::{Channel, CloseReason, Command, Features, Signal};
use support::{Driver, Orphan};

fn exclusions() -> impl Iterator<Item = Features> {
    let together = [Features::PIDFD | Features::SHARED_MEMORY, Features::all()];
    Features::all().iter().chain(together)
}

#[test]
fn a_whole_conversation() {
    for without in exclusions() {
        let mut driver = Driver::new();
        let mut command = Command::new("sh");
        let script = "cat; echo err >&2; echo three >&3; cat <&3 >&3; exit 11";
        command.args(["-c", script]).without(without).fds([0], Channel::WritePipe);
        command.fd(1, Channel::ReadPipe).fd(2, Channel::ReadPipe).fd(3, Channel::SocketPair);
        let key = driver.add(&mut command);
        let bytes = vec![b'x'; 100_000];
        assert_eq!(driver.pump.write(key, 0, &bytes), Ok(bytes.len()));
        driver.pump.close(key, 0).unwrap();
        driver.pump.write(key, 3, b"back").unwrap();
        driver.pump.close_write(key, 3).unwrap();
        driver.finish();
        assert!(driver.data(key, "1") == bytes, "without {without:?}");
        assert_eq!(driver.data(key, "2"), b"err\n");
        assert_eq!(driver.data(key, "3"), b"three\nback");
        assert_eq!(driver.exit(key).unwrap().code(), Some(11));
    }
}

#[test]
fn exited_comes_at_the_reap_though_a_grandchild_holds_the_channels() {
    for without in exclusions() {
        let mut driver = Driver::new();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 300 & echo $!"]).without(without).fd(1, Channel::ReadPipe);
        let key = driver.add(&mut command);
        driver.until(|d| d.exit(key).is_some() && d.data(key, "1").ends_with(b"\n"));
        let said = String::from_utf8(driver.data(key, "1")).unwrap();
        let grandchild = Orphan(said.trim().parse().unwrap());
        // Nothing ticks any more.
        driver.assert_quiet();
        assert!(!driver.has_ended(key));
        drop(grandchild);
        driver.finish();
    }
}

#[test]
fn a_lost_stdin_is_noticed_and_a_signal_arrives() {
    for without in exclusions() {
        let mut driver = Driver::new();
        let mut agent = driver.agent(|command| {
            command.without(without).fd(0, Channel::WritePipe).fd(1, Channel::ReadPipe);
        });
        let key = agent.key;
        driver.until(|d| d.pump.child(key).unwrap().pidfd().is_some() || !d.pump.has_events());
        agent.tell("exec 0<&-");
        driver.until(|d| d.closed(key, "0").is_some());
        assert_eq!(driver.closed(key, "0"), Some((CloseReason::Peer, 0)));
        driver.pump.signal(key, Signal::TERM).unwrap();
        driver.finish();
        assert_eq!(driver.exit(key).unwrap().signal(), Some(Signal::TERM));
    }
}

#[test]
fn a_child_without_a_pidfd_does_not_make_poll_spin() {
    let mut driver = Driver::new();
    let agent = driver.agent(|command| {
        command.without(Features::PIDFD);
    });
    driver.drain();
    assert!(driver.pump.child(agent.key).unwrap().pidfd().is_none());
    // A poll comes back at every tick, to look; not more often.
    let start = Instant::now();
    for _ in 0..10 {
        driver.pump.poll(None).unwrap();
        driver.drain();
    }
    assert!(start.elapsed() >= Duration::from_millis(50), "{:?}", start.elapsed());
    // And no later than it was asked to.
    driver.pump.poll(Some(Duration::ZERO)).unwrap();
    driver.drain();
    drop(agent);
    driver.finish();
}
