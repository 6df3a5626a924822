//! Frames of real processes.

#[path = "support/protocol.rs"]
mod support;

use std::cell::RefCell;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use forkplan::{
    Channel, ChildKey, CloseReason, Command, Event, FrameError, Framed, LengthPrefixed, Lines,
    OnData, OnEvent, Prefix, Process, Protocols, Transport,
};
use support::{Log, finish, sh, spawn};

/// Lines of a child's channel, each with whether it was complete.
type Told = Vec<(String, bool)>;

fn lines(script: &str, limit: usize) -> (Told, Vec<String>) {
    let mut told = Vec::new();
    let log = Log::default();
    let mut protocols = Protocols::new();
    let key = protocols.add(sh(script), log.process("p"));
    let note = Framed::new(Lines::new(limit), |_, line| {
        told.push((String::from_utf8(line.bytes.to_vec()).unwrap(), line.complete));
    });
    protocols.on(key, 1, note).unwrap();
    finish(&mut protocols);
    drop(protocols);
    (told, log.taken())
}

#[test]
fn lines_come_whole_though_they_are_written_byte_by_byte() {
    let script = "for c in o n e '\\n' t w o '\\n' '\\n' t h r e e; do printf \"$c\"; done";
    let (told, _) = lines(script, 10);
    let expected = [("one", true), ("two", true), ("", true), ("three", false)];
    assert_eq!(told, expected.map(|(line, complete)| (line.to_string(), complete)));
}

#[test]
fn a_line_above_the_limit_closes_its_channel_after_all_that_came_before() {
    let script = "printf 'one\\ntwo\\n123456789\\nnever\\n'; echo err >&2; exit 5";
    let (told, said) = lines(script, 8);
    let expected = [("one", true), ("two", true)];
    assert_eq!(told, expected.map(|(line, complete)| (line.to_string(), complete)));
    // The process's handler sees why; the other channels go on.
    let closed = format!("p closed 1 Error({}) 0", FrameError::TooLong { limit: 8 }.errno());
    assert_eq!(closed, format!("p closed 1 Error({}) 0", libc::EMSGSIZE));
    assert!(said.contains(&closed), "{said:#?}");
    assert!(said.contains(&"p data 2 \"err\\n\"".to_string()), "{said:#?}");
    assert_eq!(said.last().unwrap(), "p ended exit status: 5");
}

#[test]
fn control_with_a_limit_that_fits_nothing_is_wrong_with_the_same_lines() {
    let script = "printf 'one\\ntwo\\n123456789\\nnever\\n'; echo err >&2; exit 5";
    let (told, said) = lines(script, 9);
    assert_eq!(told.len(), 4);
    assert!(said.contains(&"p closed 1 Peer 0".to_string()), "{said:#?}");
}

#[test]
fn a_line_without_an_end_is_an_error_before_more_than_the_limit_is_kept() {
    // Never a line, and more than there is memory for.
    let log = Log::default();
    let mut protocols = Protocols::new();
    let mut command = Command::new("cat");
    command.fd(0, Channel::file("/dev/zero", forkplan::Open::Read)).fd(1, Channel::ReadPipe);
    let key = protocols.add(spawn(&mut command), log.process("p"));
    let never = Framed::new(Lines::new(1 << 20), |_: &mut Transport<'_>, _| unreachable!());
    protocols.on(key, 1, never).unwrap();
    finish(&mut protocols);
    let said = log.taken();
    assert!(said.contains(&format!("p closed 1 Error({}) 0", libc::EMSGSIZE)), "{said:#?}");
}

#[test]
fn prefixed_frames_go_through_a_child_and_back_whatever_their_prefix() {
    let prefixes = [
        Prefix::U8,
        Prefix::U16Be,
        Prefix::U16Le,
        Prefix::U32Be,
        Prefix::U32Le,
        Prefix::U64Be,
        Prefix::U64Le,
    ];
    let told = RefCell::new(Vec::new());
    let notes = &told;
    let mut protocols = Protocols::new();
    let frames: Vec<Vec<u8>> = (0..200u32).map(|i| vec![i as u8; (i * i % 256) as usize]).collect();
    for prefix in prefixes {
        let key = protocols.add(spawn(&mut Command::new("cat")), ());
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| prefix.append(frame, &mut bytes).unwrap());
        let pump = protocols.pump_mut();
        pump.set_high_water(key, 0, bytes.len()).unwrap();
        assert_eq!(pump.write(key, 0, &bytes), Ok(bytes.len()));
        pump.close(key, 0).unwrap();
        let note = Framed::new(LengthPrefixed::new(prefix, 255), move |_, frame| {
            assert!(frame.complete);
            notes.borrow_mut().push((prefix, frame.bytes.to_vec()));
        });
        protocols.on(key, 1, note).unwrap();
    }
    finish(&mut protocols);
    drop(protocols);
    let told = told.into_inner();
    for prefix in prefixes {
        let back = told.iter().filter(|(of, _)| *of == prefix).map(|(_, frame)| frame);
        assert!(back.eq(&frames), "{prefix:?}");
    }
}

#[test]
fn a_closure_that_closes_its_channel_gets_no_more_frames_of_what_was_read() {
    for at_once in [false, true] {
        let mut told = Vec::new();
        let mut protocols = Protocols::new();
        let key = protocols.add(sh("printf 'one\\nquit\\nmore\\nhalf'"), ());
        let quit = Framed::new(Lines::new(10), |channel, line| {
            told.push(line.bytes.to_vec());
            if line.bytes == b"quit" {
                if at_once { channel.abort() } else { channel.close() }.unwrap();
            }
        });
        protocols.on(key, 1, quit).unwrap();
        finish(&mut protocols);
        drop(protocols);
        assert_eq!(told, [&b"one"[..], b"quit"]);
    }
}

#[test]
fn a_closure_that_pauses_still_gets_the_frames_that_were_read_and_no_others() {
    let mut told = Vec::new();
    let mut protocols = Protocols::new();
    let script = "printf 'one\\ntwo\\n'; read go; printf 'three\\n'; echo written >&2";
    let key = protocols.add(sh(script), ());
    let pausing = Framed::new(Lines::new(10), |channel, line| {
        told.push(String::from_utf8_lossy(line.bytes).into_owned());
        if line.bytes == b"one" {
            channel.pause().unwrap();
        }
        if line.bytes == b"two" {
            channel.process().write(0, b"go\n").unwrap();
        }
    });
    protocols.on(key, 1, pausing).unwrap();
    let mut held = true;
    protocols.on(key, 2, OnData(|_, _| held = false)).unwrap();
    let watch = support::Watch::new();
    // Until both have had their turn, whichever was first.
    while protocols.pump().child(key).unwrap().id().is_some() {
        watch.poll_plain(protocols.pump_mut());
        protocols.dispatch();
    }
    assert!(protocols.pump().is_open(key, 1), "paused, its end is not seen");
    protocols.pump_mut().resume(key, 1).unwrap();
    finish(&mut protocols);
    drop(protocols);
    assert_eq!(told, ["one", "two", "three"]);
    assert!(!held);
}

#[test]
fn a_line_that_a_half_close_has_cut_is_told_with_it_and_not_again() {
    const CHILD: &str = "FORKPLAN_TEST_CUT";
    if std::env::var_os(CHILD).is_some() {
        let socket = UnixStream::from(rustix::io::dup(rustix::stdio::stdin()).unwrap());
        (&socket).write_all(b"whole\ncut").unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        // Until we are closed.
        std::io::copy(&mut &socket, &mut std::io::sink()).unwrap();
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = "a_line_that_a_half_close_has_cut_is_told_with_it_and_not_again";
    command.args(["--exact", name]).env(CHILD, "1");
    command.fd(0, Channel::SocketPair).fds([1, 2], Channel::Null);
    let mut told = Vec::new();
    let mut protocols = Protocols::new();
    let key = protocols.add(spawn(&mut command), ());
    let note = Framed::new(Lines::new(10), |channel, line| {
        told.push((line.bytes.to_vec(), line.complete));
        if !line.complete {
            channel.close().unwrap();
        }
    });
    protocols.on(key, 0, note).unwrap();
    finish(&mut protocols);
    drop(protocols);
    assert_eq!(told, [(b"whole".to_vec(), true), (b"cut".to_vec(), false)]);
}

#[test]
fn a_hundred_children_that_chatter_are_each_heard_in_order() {
    const LINES: usize = 20;
    let told = RefCell::new(std::collections::HashMap::<ChildKey, Vec<usize>>::new());
    let mut protocols = Protocols::new();
    let ended = RefCell::new(0);
    for _ in 0..100 {
        let script = format!("i=0; while [ $i -lt {LINES} ]; do printf $i; echo; i=$((i+1)); done");
        let end = OnEvent(|_: &mut Process<'_>, event: Event<'_>| match event {
            Event::Closed { reason, .. } => assert_eq!(reason, CloseReason::Peer),
            Event::Ended { .. } => *ended.borrow_mut() += 1,
            _ => {}
        });
        let mut command = Command::new("sh");
        command.args(["-c", &script]).fd(1, Channel::ReadPipe);
        let key = protocols.add(spawn(&mut command), end);
        let note = Framed::new(Lines::new(2), |channel, line| {
            let number = std::str::from_utf8(line.bytes).unwrap().parse().unwrap();
            told.borrow_mut().entry(channel.process().key()).or_default().push(number);
        });
        protocols.on(key, 1, note).unwrap();
    }
    finish(&mut protocols);
    drop(protocols);
    assert_eq!(ended.into_inner(), 100);
    let told = told.into_inner();
    assert_eq!(told.len(), 100);
    assert!(told.values().all(|numbers| numbers.iter().copied().eq(0..LINES)));
}
