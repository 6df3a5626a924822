//! Channels that keep message boundaries, half-close from both sides, and how a
//! channel without an end of file comes to its end.

#![cfg(target_os = "linux")]

#[path = "support/pump.rs"]
mod support;

use std::os::fd::AsFd;

use forkplan::Channel::{self, DatagramPair, ReadPipe, SeqpacketPair, SocketPair};
use forkplan::{ChannelError, ChildKey, CloseReason, Command, Signal};
use support::{Driver, Orphan, Seen};

const MESSAGE_PAIRS: [Channel<'static>; 2] = [SeqpacketPair, DatagramPair];

/// Copies each message that comes on fd 3 back, one at a time.
const ECHO: &str = "exec dd bs=300000 status=none <&3 >&3";

fn messages(driver: &Driver, key: ChildKey) -> Vec<Vec<u8>> {
    let data = driver.of(key).filter_map(|seen| match seen {
        Seen::Data(name, bytes) if name == "3" => Some(bytes.clone()),
        _ => None,
    });
    data.collect()
}

#[test]
fn each_write_is_one_message_and_each_data_is_one() {
    for pair in MESSAGE_PAIRS {
        let mut driver = Driver::new();
        let key = driver.add(Command::new("sh").args(["-c", ECHO]).fd(3, pair));
        let sent: Vec<Vec<u8>> = (1..200).map(|i| vec![i as u8; i * 50 % 999 + 1]).collect();
        for (message, count) in sent.iter().zip(1..) {
            // More than the socket holds: some are queued.
            while driver.pump.write(key, 3, message).unwrap() == 0 {
                driver.step();
            }
            if count % 50 == 0 {
                driver.drain();
            }
        }
        driver.until(|d| messages(d, key).len() == sent.len());
        assert_eq!(messages(&driver, key), sent);
        driver.pump.signal(key, Signal::KILL).unwrap();
        driver.finish();
    }
}

#[test]
fn a_message_is_taken_whole_or_not_at_all() {
    for pair in MESSAGE_PAIRS {
        let mut driver = Driver::new();
        let mut agent = driver.agent(|command| {
            command.fd(3, pair).fd(1, ReadPipe);
        });
        let key = agent.key;
        driver.pump.set_high_water(key, 3, 1000).unwrap();
        // The socket is full, then the queue.
        let mut sent = 0;
        while driver.pump.write(key, 3, &[b'm'; 600]).unwrap() == 600 {
            sent += 1;
        }
        assert_eq!(driver.pump.queued(key, 3), Ok(600));
        assert_eq!(driver.pump.write(key, 3, &[b's'; 401]), Ok(0));
        assert_eq!(driver.pump.write(key, 3, &[b's'; 400]), Ok(400));
        assert_eq!(driver.pump.write(key, 3, b""), Ok(0));
        driver.assert_quiet();
        let read = format!("dd bs=1000 count={} status=none <&3", sent + 1);
        agent.tell(&read);
        driver.until(|d| d.data(key, "1").len() == sent * 600 + 400);
        assert!(driver.has(key, &Seen::Drained("3".into())));
        drop(agent);
        driver.finish();
    }
}

#[test]
fn the_longest_message_goes_both_ways_and_a_longer_one_is_refused() {
    for pair in MESSAGE_PAIRS {
        let mut driver = Driver::new();
        let key = driver.add(Command::new("sh").args(["-c", ECHO]).fd(3, pair));
        let (mut fits, mut refused) = (1, 1 << 20);
        // What a default socket takes is the system's to say.
        while fits + 1 < refused {
            let middle = (fits + refused) / 2;
            match driver.pump.write(key, 3, &vec![7; middle]) {
                Ok(0) => driver.step(),
                Ok(_) => {
                    fits = middle;
                    let before = messages(&driver, key).len();
                    driver.until(|d| messages(d, key).len() > before);
                    assert_eq!(messages(&driver, key)[before].len(), fits);
                }
                Err(error) => {
                    assert_eq!(error, ChannelError::MessageTooLong);
                    refused = middle;
                }
            }
        }
        driver.pump.signal(key, Signal::KILL).unwrap();
        driver.finish();
    }
}

#[test]
fn a_message_longer_than_the_buffer_closes_the_channel_and_is_never_cut() {
    for pair in MESSAGE_PAIRS {
        let mut driver = Driver::new();
        let mut command = Command::new("sleep");
        command.arg("300").fd(3, pair).on_drop(forkplan::OnDrop::Kill);
        let child = command.spawn().unwrap();
        let theirs = take_childs_fd(&child, 3);
        let key = driver.pump.add(child);
        if rustix::net::sockopt::set_socket_send_buffer_size_force(&theirs, 1 << 20).is_err() {
            eprintln!("SKIPPED: a message longer than the buffer: wants root");
            return;
        }
        rustix::net::send(&theirs, b"before", rustix::net::SendFlags::empty()).unwrap();
        let long = vec![b'l'; 256 * 1024 + 1];
        let sent = rustix::net::send(&theirs, &long, rustix::net::SendFlags::empty()).unwrap();
        assert_eq!(sent, long.len());
        driver.until(|d| d.closed(key, "3").is_some());
        assert_eq!(messages(&driver, key), [b"before"]);
        assert_eq!(driver.closed(key, "3"), Some((CloseReason::Error(libc::EMSGSIZE), 0)));
        driver.pump.signal(key, Signal::KILL).unwrap();
        driver.finish();
    }
}

/// A copy of a child's fd.
fn take_childs_fd(child: &forkplan::Child, number: i32) -> std::os::fd::OwnedFd {
    let pidfd = child.pidfd().expect("a kernel with pidfds");
    rustix::process::pidfd_getfd(pidfd, number, rustix::process::PidfdGetfdFlags::empty()).unwrap()
}

#[test]
fn an_empty_message_is_data_and_not_the_end_of_file() {
    for pair in MESSAGE_PAIRS {
        let mut driver = Driver::new();
        let mut command = Command::new("sleep");
        command.arg("300").fd(3, pair).on_drop(forkplan::OnDrop::Kill);
        let child = command.spawn().unwrap();
        let theirs = take_childs_fd(&child, 3);
        let key = driver.pump.add(child);
        for message in [&b"a"[..], b"", b"b"] {
            rustix::net::send(theirs.as_fd(), message, rustix::net::SendFlags::empty()).unwrap();
        }
        driver.pump.signal(key, Signal::KILL).unwrap();
        driver.until(|d| messages(d, key).len() == 3);
        assert_eq!(messages(&driver, key), [&b"a"[..], b"", b"b"]);
        drop(theirs);
        driver.until(|d| d.has_ended(key));
    }
}

#[test]
fn messages_before_the_end_are_told_before_it() {
    for pair in MESSAGE_PAIRS {
        let mut driver = Driver::new();
        let script = "printf one >&3; printf two >&3; printf three >&3";
        let key = driver.add(Command::new("sh").args(["-c", script]).fd(3, pair));
        driver.finish();
        assert_eq!(messages(&driver, key), [&b"one"[..], b"two", b"three"]);
        assert_eq!(driver.closed(key, "3"), Some((CloseReason::Peer, 0)));
    }
}

/// A peer that closes with something unread is an error that such sockets tell
/// before what is queued.
#[test]
fn messages_of_a_child_that_leaves_ours_unread_are_told() {
    for pair in [SocketPair, SeqpacketPair, DatagramPair] {
        let mut driver = Driver::new();
        let mut agent = driver.agent(|command| {
            command.fd(3, pair);
        });
        let key = agent.key;
        assert_eq!(driver.pump.write(key, 3, b"unread"), Ok(6));
        agent.ask("printf last >&3; printf words >&3; exec 3>&-");
        drop(agent);
        driver.finish();
        assert_eq!(messages(&driver, key).concat(), b"lastwords");
        assert_eq!(driver.closed(key, "3"), Some((CloseReason::Peer, 0)));
    }
}

#[test]
fn a_datagram_pair_is_closed_when_the_process_was_reaped_and_not_before() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(|command| {
        command.fd(3, DatagramPair).fd(4, SeqpacketPair);
    });
    let key = agent.key;
    agent.ask("printf last >&3; exec 3>&- 4>&-");
    driver.until(|d| d.closed(key, "4").is_some());
    assert_eq!(messages(&driver, key), [b"last"]);
    driver.assert_quiet();
    // No end of file, and so no way to know.
    assert_eq!(driver.closed(key, "3"), None);
    drop(agent);
    driver.finish();
    assert_eq!(driver.closed(key, "3"), Some((CloseReason::Peer, 0)));
}

#[test]
fn a_paused_datagram_pair_keeps_what_has_arrived_until_it_is_resumed() {
    let mut driver = Driver::new();
    let key = driver.add(Command::new("sh").args(["-c", "printf kept >&3"]).fd(3, DatagramPair));
    driver.pump.pause(key, 3).unwrap();
    driver.until(|d| d.exit(key).is_some());
    driver.assert_quiet();
    assert_eq!((messages(&driver, key).len(), driver.closed(key, "3")), (0, None));
    driver.pump.resume(key, 3).unwrap();
    driver.finish();
    assert_eq!(messages(&driver, key), [b"kept"]);
}

#[test]
fn a_grandchild_with_a_datagram_pair_does_not_delay_its_end_and_gets_epipe() {
    let mut driver = Driver::new();
    let script = "sh -c 'read -r line <&4; printf late >&3 2>/dev/null || echo refused' & echo $!";
    let mut command = Command::new("sh");
    command.args(["-c", script]).fd(3, DatagramPair).fd(1, ReadPipe).fd(4, SocketPair);
    let key = driver.add(&mut command);
    driver.until(|d| d.closed(key, "3").is_some());
    let _orphan = Orphan(String::from_utf8(driver.data(key, "1")).unwrap().trim().parse().unwrap());
    assert_eq!(driver.closed(key, "3"), Some((CloseReason::Peer, 0)));
    assert!(!driver.has_ended(key));
    driver.pump.write(key, 4, b"go on\n").unwrap();
    driver.finish();
    assert!(String::from_utf8(driver.data(key, "1")).unwrap().ends_with("refused\n"));
}

#[test]
fn a_write_to_a_datagram_pair_whose_other_end_is_closed_is_unsent() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(|command| {
        command.fd(3, DatagramPair);
    });
    let key = agent.key;
    agent.ask("exec 3>&-");
    assert_eq!(driver.pump.write(key, 3, b"lost"), Ok(4));
    assert_eq!(driver.pump.write(key, 3, b"more"), Err(ChannelError::Closed));
    drop(agent);
    driver.finish();
    assert_eq!(driver.closed(key, "3"), Some((CloseReason::Peer, 4)));
}

#[test]
fn close_read_gives_the_child_epipe_and_leaves_our_writes() {
    for pair in [SocketPair, SeqpacketPair, DatagramPair] {
        let mut driver = Driver::new();
        let mut agent = driver.agent(|command| {
            command.fd(3, pair);
        });
        let key = agent.key;
        driver.pump.close_read(key, 3).unwrap();
        driver.pump.close_read(key, 3).unwrap();
        let print = "trap '' PIPE; printf x >&3 2>/dev/null || echo refused >&9";
        assert_eq!(agent.ask(print), "refused\n");
        assert_eq!(driver.pump.write(key, 3, b"still\n"), Ok(6));
        assert_eq!(agent.ask("dd bs=100 count=1 status=none <&3 >&9"), "still\n");
        driver.assert_quiet();
        assert_eq!(driver.closed(key, "3"), None);
        drop(agent);
        driver.finish();
        assert_eq!(driver.closed(key, "3"), Some((CloseReason::Peer, 0)));
    }
}

#[test]
fn close_read_of_what_only_reads_or_has_closed_its_writing_half_closes_it() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(|command| {
        command.fd(3, SocketPair).fd(1, ReadPipe).fd(0, Channel::WritePipe);
    });
    let key = agent.key;
    assert_eq!(driver.pump.close_read(key, 0), Err(ChannelError::NotReadable));
    driver.pump.close_write(key, 3).unwrap();
    for name in [1, 3] {
        driver.pump.close_read(key, name).unwrap();
        driver.drain();
        assert_eq!(driver.closed(key, &name.to_string()), Some((CloseReason::Us, 0)));
    }
    assert_eq!(agent.ask("cat <&3 >&9"), "");
    drop(agent);
    driver.finish();
}

/// The control: a stream has no boundaries to keep.
#[test]
fn control_a_stream_socket_joins_what_is_written_apart() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(|command| {
        command.fd(3, SocketPair);
    });
    agent.ask("printf one >&3; printf two >&3");
    let key = agent.key;
    drop(agent);
    driver.finish();
    assert_eq!(messages(&driver, key), [b"onetwo"]);
}
