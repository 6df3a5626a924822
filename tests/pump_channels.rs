//! Channels in the pump: what a write, a close and a half-close do, and how
//! the child's own doings show. Twisted's tests are named as in `pump_events`.

#[path = "support/pump.rs"]
mod support;

use forkplan::{Channel, ChannelError, CloseReason, Command, Signal};
use support::{Driver, Seen};

/// More than a pipe holds, and less than with a full queue.
const MORE_THAN_A_PIPE: usize = 100_000;

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
    driver.to_end();
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
    driver.to_end();
}

// T.test_stdio, test_echo
#[test]
fn a_close_writes_what_is_queued_first() {
    for close in [0, 1, 2] {
        let mut driver = Driver::new();
        let mut agent = driver.agent(pipes);
        let key = agent.key;
        let bytes: Vec<u8> = (0..MORE_THAN_A_PIPE).map(|i| (i % 251) as u8).collect();
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
        driver.to_end();
        assert!(driver.data(key, "1") == bytes);
        assert_eq!(driver.closed(key, "0"), Some((CloseReason::Us, 0)));
    }
}

// T.ClosingPipesTests
#[test]
fn closing_a_read_channel_gives_the_child_sigpipe() {
    let mut driver = Driver::new();
    let key = driver.add(Command::new("yes").fd(1, Channel::ReadPipe));
    driver.until(|d| !d.data(key, "1").is_empty());
    driver.pump.close(key, 1).unwrap();
    driver.to_end();
    assert_eq!(driver.exit(key).unwrap().signal(), Some(Signal::PIPE));
    assert_eq!(driver.closed(key, "1"), Some((CloseReason::Us, 0)));
}

// T.ClosingPipesTests
#[test]
fn closing_a_read_channel_gives_a_child_that_ignores_sigpipe_an_error() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(pipes);
    driver.pump.close(agent.key, 1).unwrap();
    assert_eq!(agent.ask("trap '' PIPE; echo x 2>/dev/null || echo refused >&9"), "refused\n");
    drop(agent);
    driver.to_end();
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
    driver.to_end();
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
    driver.to_end();
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
        driver.to_end();
    }
}

#[test]
fn a_socket_whose_child_writes_no_more_is_half_closed_and_still_written_to() {
    // `cat` copies 3 to 1 for as long as we write; `exec 4>&-` closes nothing,
    // for a half-close takes shutdown(2): a program that has it is needed.
    let Some(python) = python() else { return };
    let script = "import socket, sys\n\
                  s = socket.socket(fileno=3)\n\
                  s.sendall(b'all I say')\n\
                  s.shutdown(socket.SHUT_WR)\n\
                  while True:\n\
                  \x20   data = s.recv(4096)\n\
                  \x20   if not data: break\n\
                  \x20   sys.stdout.buffer.write(data); sys.stdout.buffer.flush()\n";
    let mut driver = Driver::new();
    let mut command = Command::new(python);
    let key = driver
        .add(command.args(["-c", script]).fd(3, Channel::SocketPair).fd(1, Channel::ReadPipe));
    driver.until(|d| d.has(key, &Seen::HalfClosed("3".into())));
    assert_eq!(driver.data(key, "3"), b"all I say");
    driver.assert_quiet();
    let bytes = vec![b'q'; MORE_THAN_A_PIPE];
    driver.pump.set_high_water(key, 3, bytes.len()).unwrap();
    assert_eq!(driver.pump.write(key, 3, &bytes), Ok(bytes.len()));
    driver.until(|d| d.data(key, "1").len() == bytes.len());
    assert_eq!(driver.closed(key, "3"), None);
    driver.pump.close_write(key, 3).unwrap();
    driver.to_end();
    assert_eq!(driver.closed(key, "3"), Some((CloseReason::Us, 0)));
    assert!(driver.exit(key).unwrap().success());
}

fn python() -> Option<&'static str> {
    let found = ["/usr/bin/python3", "/usr/local/bin/python3"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists());
    if found.is_none() {
        println!("not tested: no python3, the program with shutdown(2) that this needs");
    }
    found
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
    driver.to_end();
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
    driver.to_end();
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
    driver.to_end();
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
    driver.to_end();
}

#[test]
fn a_child_may_have_no_channel_at_all() {
    let mut driver = Driver::new();
    let key = driver.add(Command::new("sh").args(["-c", "exit 2"]).fd(0, Channel::Null));
    driver.to_end();
    let seen: Vec<_> = driver.of(key).collect();
    assert!(matches!(seen[..], [Seen::Made(_), Seen::Exited(_), Seen::Ended(_)]), "{seen:?}");
}
