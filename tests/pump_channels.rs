//! Channels in the pump: what a write, a close and a half-close do, and how
//! the child's own doings show. Twisted's tests are named as in `pump_events`.

#[path = "support/pump.rs"]
mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;

use forkplan::{Channel, ChannelError, CloseReason, Command, Signal};
use support::{Driver, Seen};

/// More than a pipe holds, and less than with a full queue.
const MORE_THAN_A_PIPE: usize = 400_000;

fn pipes(command: &mut Command<'_>) {
    command.fd(0, Channel::WritePipe).fd(1, Channel::ReadPipe).fd(2, Channel::ReadPipe);
}

fn socket_on_3(command: &mut Command<'_>) {
    command.fd(3, Channel::SocketPair);
}

// I.test_writeToChildBadFileDescriptor
#[test]
fn a_write_to_a_channel_that_is_none_or_closed_is_an_error() {
    let mut driver = Driver::new();
    let key = driver.sh("cat");
    assert_eq!(driver.pump.write(key, 5, b"x"), Err(ChannelError::NoChannel));
    assert_eq!(driver.pump.write(key, "stdin", b"x"), Err(ChannelError::NoChannel));
    assert_eq!(driver.pump.write(key, 1, b"x"), Err(ChannelError::NotWritable));
    assert_eq!(driver.pump.pause(key, 0), Err(ChannelError::NotReadable));
    assert_eq!(driver.pump.close_write(key, 1), Err(ChannelError::NotWritable));
    assert_eq!(driver.pump.write(key, 0, b"kept"), Ok(4));
    assert_eq!(driver.pump.write(key, 0, b""), Ok(0));
    driver.pump.close(key, 0).unwrap();
    // At once, and not only when Closed is told.
    assert_eq!(driver.pump.write(key, 0, b"x"), Err(ChannelError::Closed));
    driver.finish();
    assert_eq!(driver.data(key, "1"), b"kept");
}

#[test]
fn closing_what_is_closed_does_nothing() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(pipes);
    let key = agent.key;
    for _ in 0..3 {
        driver.pump.close(key, 0).unwrap();
        driver.pump.close_write(key, 0).unwrap();
        driver.pump.close(key, 1).unwrap();
        driver.pump.close_all(key).unwrap();
        driver.drain();
    }
    for name in ["0", "1", "2"] {
        assert_eq!(driver.closed(key, name), Some((CloseReason::Us, 0)));
    }
    // What was never there is another matter.
    assert_eq!(driver.pump.close(key, 5), Err(ChannelError::NoChannel));
    assert_eq!(agent.ask(":"), "");
    drop(agent);
    driver.finish();
}

// T.test_stdio, test_echo
#[test]
fn a_close_writes_what_is_queued_first() {
    for close in [0, 1, 2] {
        let mut driver = Driver::new();
        let mut agent = driver.agent(pipes);
        let key = agent.key;
        let bytes: Vec<u8> = (0..MORE_THAN_A_PIPE).map(|i| (i % 251) as u8).collect();
        driver.pump.set_high_water(key, 0, bytes.len()).unwrap();
        assert_eq!(driver.pump.write(key, 0, &bytes), Ok(bytes.len()));
        assert!(driver.pump.queued(key, 0).unwrap() > 0);
        match close {
            0 => driver.pump.close(key, 0).unwrap(),
            1 => driver.pump.close_write(key, 0).unwrap(),
            _ => driver.pump.close(key, 0).and_then(|()| driver.pump.close_write(key, 0)).unwrap(),
        }
        assert_eq!(driver.pump.write(key, 0, b"x"), Err(ChannelError::Closed));
        driver.assert_quiet();
        assert_eq!(driver.closed(key, "0"), None);
        // Now it reads, slowly.
        agent.tell("dd bs=1000 status=none");
        drop(agent);
        driver.finish();
        assert!(driver.data(key, "1") == bytes);
        assert_eq!(driver.closed(key, "0"), Some((CloseReason::Us, 0)));
    }
}

#[test]
fn an_abort_closes_a_channel_that_nobody_reads_and_counts_what_was_queued() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(pipes);
    let key = agent.key;
    let bytes = vec![b'q'; MORE_THAN_A_PIPE];
    driver.pump.set_high_water(key, 0, bytes.len()).unwrap();
    assert_eq!(driver.pump.write(key, 0, &bytes), Ok(bytes.len()));
    let queued = driver.pump.queued(key, 0).unwrap();
    assert!(queued > 0);
    // A close waits for a reader, and there is none.
    driver.pump.close(key, 0).unwrap();
    driver.assert_quiet();
    assert_eq!(driver.closed(key, "0"), None);
    driver.pump.abort(key, 0).unwrap();
    driver.drain();
    assert_eq!(driver.closed(key, "0"), Some((CloseReason::Us, queued)));
    assert_eq!(driver.pump.abort(key, 0), Ok(()));
    assert_eq!(driver.pump.abort(key, 7), Err(ChannelError::NoChannel));
    assert_eq!(agent.ask(":"), "");
    drop(agent);
    driver.finish();
}

// T.ClosingPipesTests
#[test]
fn closing_a_read_channel_gives_the_child_sigpipe() {
    let mut driver = Driver::new();
    let key = driver.add(Command::new("yes").fd(1, Channel::ReadPipe));
    driver.until(|d| !d.data(key, "1").is_empty());
    driver.pump.close(key, 1).unwrap();
    driver.finish();
    assert_eq!(driver.exit(key).unwrap().signal(), Some(Signal::PIPE));
    assert_eq!(driver.closed(key, "1"), Some((CloseReason::Us, 0)));
}

// T.ClosingPipesTests
#[test]
fn closing_a_read_channel_gives_a_child_that_ignores_sigpipe_an_error() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(pipes);
    driver.pump.close(agent.key, 1).unwrap();
    driver.drain();
    assert_eq!(agent.ask("trap '' PIPE; echo x 2>/dev/null || echo refused >&9"), "refused\n");
    drop(agent);
    driver.finish();
}

// The source documents' promise that a child that closes its stdin is noticed.
#[test]
fn a_child_that_closes_its_stdin_is_noticed_with_nothing_queued() {
    let mut driver = Driver::new();
    let key = driver.sh("exec 0<&-; exec sleep 300");
    driver.until(|d| d.closed(key, "0").is_some());
    assert_eq!(driver.closed(key, "0"), Some((CloseReason::Peer, 0)));
    assert_eq!(driver.pump.write(key, 0, b"x"), Err(ChannelError::Closed));
    driver.assert_quiet();
    driver.pump.signal(key, Signal::KILL).unwrap();
    driver.finish();
}

#[test]
fn what_is_queued_for_a_stdin_that_the_child_closes_is_counted_as_unsent() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(pipes);
    let key = agent.key;
    let bytes = vec![b'x'; 2 * MORE_THAN_A_PIPE];
    let taken = driver.pump.write(key, 0, &bytes).unwrap();
    assert!(taken < bytes.len());
    let queued = driver.pump.queued(key, 0).unwrap();
    agent.ask("exec 0<&-");
    driver.until(|d| d.closed(key, "0").is_some());
    assert_eq!(driver.closed(key, "0"), Some((CloseReason::Peer, queued)));
    // He who was refused bytes is not told to write on.
    assert!(!driver.has(key, &Seen::Drained("0".into())));
    drop(agent);
    driver.finish();
}

#[test]
fn the_write_that_finds_the_reader_gone_is_no_error_and_counted_as_unsent() {
    for socket in [false, true] {
        let mut driver = Driver::new();
        let mut agent = driver.agent(|command| match socket {
            true => socket_on_3(command),
            false => pipes(command),
        });
        let (key, fd) = (agent.key, if socket { 3 } else { 0 });
        agent.ask(&format!("exec {fd}<&-"));
        // No poll since, so the pump can't know.
        assert_eq!(driver.pump.write(key, fd, b"into the void"), Ok(13));
        driver.until(|d| d.closed(key, &fd.to_string()).is_some());
        let lost = driver.closed(key, &fd.to_string());
        assert_eq!(lost, Some((CloseReason::Peer, 13)), "socket: {socket}");
        assert_eq!(driver.pump.write(key, fd, b"x"), Err(ChannelError::Closed));
        drop(agent);
        driver.finish();
    }
}

/// Says something on the socket on 3, shuts its half down, and then copies what
/// comes from it to 5: a child that needs shutdown(2), which no shell has.
fn speak_and_listen() {
    // SAFETY: the parent has mapped both for us, and nobody else here uses them.
    let (mut socket, mut out) =
        unsafe { (UnixStream::from_raw_fd(3), std::fs::File::from_raw_fd(5)) };
    socket.write_all(b"all I say").unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    // Not io::copy, which splices: see the pump's documentation for what that
    // does to whoever reads the pipe.
    let mut bytes = [0; 4096];
    loop {
        match socket.read(&mut bytes).unwrap() {
            0 => break,
            len => out.write_all(&bytes[..len]).unwrap(),
        }
    }
}

#[test]
fn a_socket_whose_child_writes_no_more_is_half_closed_and_still_written_to() {
    const CHILD: &str = "FORKPLAN_TEST_HALF_CLOSE";
    if std::env::var_os(CHILD).is_some() {
        return speak_and_listen();
    }
    let own = std::env::current_exe().unwrap();
    let name = "a_socket_whose_child_writes_no_more_is_half_closed_and_still_written_to";
    let mut command = Command::new(own);
    command.args(["--exact", name, "--nocapture"]).env(CHILD, "1");
    command.fds([0, 1, 2], Channel::Null).fd(3, Channel::SocketPair).fd(5, Channel::ReadPipe);
    let mut driver = Driver::new();
    let key = driver.add(&mut command);
    driver.until(|d| d.has(key, &Seen::HalfClosed("3".into())));
    assert_eq!(driver.data(key, "3"), b"all I say");
    driver.assert_quiet();
    let bytes = vec![b'q'; MORE_THAN_A_PIPE];
    driver.pump.set_high_water(key, 3, bytes.len()).unwrap();
    assert_eq!(driver.pump.write(key, 3, &bytes), Ok(bytes.len()));
    driver.until(|d| d.data(key, "5").len() == bytes.len());
    assert_eq!(driver.closed(key, "3"), None);
    driver.pump.close_write(key, 3).unwrap();
    driver.finish();
    assert_eq!(driver.closed(key, "3"), Some((CloseReason::Us, 0)));
    assert!(driver.exit(key).unwrap().success());
}

#[test]
fn a_socket_that_we_write_to_no_more_is_still_read_from() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(socket_on_3);
    let key = agent.key;
    let bytes = vec![b'q'; MORE_THAN_A_PIPE];
    driver.pump.set_high_water(key, 3, bytes.len()).unwrap();
    assert_eq!(driver.pump.write(key, 3, &bytes), Ok(bytes.len()));
    driver.pump.close_write(key, 3).unwrap();
    assert_eq!(driver.pump.write(key, 3, b"x"), Err(ChannelError::Closed));
    // `wc` answers when it has read to the end, which is our half-close.
    agent.tell("wc -c <&3 >&3");
    driver.until(|d| d.data(key, "3").ends_with(b"\n"));
    assert_eq!(String::from_utf8(driver.data(key, "3")).unwrap(), format!("{}\n", bytes.len()));
    driver.assert_quiet();
    assert_eq!(driver.closed(key, "3"), None);
    agent.ask("echo still >&3");
    driver.until(|d| d.data(key, "3").ends_with(b"still\n"));
    agent.tell("exec 3>&-");
    driver.until(|d| d.closed(key, "3").is_some());
    assert_eq!(driver.closed(key, "3"), Some((CloseReason::Peer, 0)));
    drop(agent);
    driver.finish();
}

#[test]
fn a_socket_closed_with_bytes_queued_tells_what_the_child_has_written_too() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(socket_on_3);
    let key = agent.key;
    let bytes = vec![b'q'; 4 * MORE_THAN_A_PIPE];
    let taken = driver.pump.write(key, 3, &bytes).unwrap();
    assert!(taken < bytes.len());
    let queued = driver.pump.queued(key, 3).unwrap();
    agent.ask("echo parting words >&3; exec 3>&-");
    driver.until(|d| d.closed(key, "3").is_some());
    assert_eq!(driver.data(key, "3"), b"parting words\n");
    assert_eq!(driver.closed(key, "3"), Some((CloseReason::Peer, queued)));
    drop(agent);
    driver.finish();
}

#[test]
fn a_socket_on_0_and_1_stands_beside_a_read_pipe_on_2() {
    let mut driver = Driver::new();
    let mut command = Command::new("sh");
    command.args(["-c", "cat; echo bye >&2"]);
    command.channel("talk", Channel::SocketPair, [0, 1]).fd(2, Channel::ReadPipe);
    let key = driver.add(&mut command);
    driver.pump.write(key, "talk", b"by name, ").unwrap();
    driver.pump.write(key, 0, b"by one number, ").unwrap();
    driver.pump.write(key, 1, b"by the other").unwrap();
    driver.until(|d| d.data(key, "talk").ends_with(b"other"));
    driver.pump.close_write(key, 1).unwrap();
    driver.finish();
    assert_eq!(driver.data(key, "talk"), b"by name, by one number, by the other");
    assert_eq!(driver.data(key, "2"), b"bye\n");
    assert_eq!(driver.closed(key, "talk"), Some((CloseReason::Peer, 0)));
}

#[test]
fn one_pipe_on_several_fds_is_one_channel_that_the_last_of_them_closes() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(|command| {
        command.channel("out", Channel::ReadPipe, [1, 2, 5]).fds([0, 4], Channel::WritePipe);
    });
    let key = agent.key;
    agent.ask("echo a; echo b >&2; echo c >&5; exec 1>&- 5>&-; exec 0<&-");
    driver.until(|d| d.data(key, "out") == b"a\nb\nc\n");
    driver.assert_quiet();
    assert_eq!(driver.closed(key, "out"), None);
    agent.tell("exec 2>&-");
    driver.until(|d| d.closed(key, "out").is_some());
    // Events tell an unnamed channel by its first fd; calls know it by any.
    assert_eq!(driver.closed(key, "0"), None);
    driver.pump.write(key, 4, b"x").unwrap();
    driver.pump.close(key, 4).unwrap();
    driver.drain();
    assert_eq!(driver.closed(key, "0"), Some((CloseReason::Us, 0)));
    drop(agent);
    driver.finish();
}

#[test]
fn a_child_may_have_no_channel_at_all() {
    let mut driver = Driver::new();
    let key = driver.add(Command::new("sh").args(["-c", "exit 2"]).fd(0, Channel::Null));
    driver.finish();
    let seen: Vec<_> = driver.of(key).collect();
    assert!(matches!(seen[..], [Seen::Made(_), Seen::Exited(_), Seen::Ended(_)]), "{seen:?}");
}
