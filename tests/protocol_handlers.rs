//! Who is told of what, and in which order. Where Twisted has a test of the same,
//! it is named (T: `twisted.test.test_process`, I:
//! `twisted.internet.test.test_process`).

#[path = "support/protocol.rs"]
mod support;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use forkplan::{
    Channel, ChannelError, ChannelHandler, CloseReason, Command, Event, Exit, Name, OnData,
    OnEvent, Process, ProcessHandler, Protocols, Signal, Transport,
};
use support::{Log, finish, sh, spawn};

// I.test_processTransportInterface, T.FDTests.test_linger
#[test]
fn a_process_without_channel_handlers_is_told_all_in_the_order_of_the_pump() {
    let log = Log::default();
    let mut protocols = Protocols::new();
    let child = sh("echo out; exit 3");
    let pid = child.id();
    let key = protocols.add(child, log.process("p"));
    finish(&mut protocols);
    let said = log.taken();
    assert_eq!(said[0], format!("p made {pid:?}"));
    assert_eq!(said.last().unwrap(), "p ended exit status: 3");
    assert_eq!(said.iter().filter(|line| line.starts_with("p exited")).count(), 1);
    let of = |channel: &str| {
        let of = said.iter().filter(|line| line.split(' ').nth(2) == Some(channel));
        of.map(String::as_str).collect::<Vec<_>>()
    };
    assert_eq!(of("1"), ["p data 1 \"out\\n\"", "p closed 1 Peer 0"]);
    assert_eq!(of("2"), ["p closed 2 Peer 0"]);
    assert!(protocols.pump().child(key).is_none());
}

// T.test_process: each channel's data precede its end, whoever is told.
#[test]
fn a_channel_s_events_go_to_its_handler_and_its_end_to_the_process_s_too() {
    let log = Log::default();
    let mut protocols = Protocols::new();
    let key = protocols.add(sh("echo out; echo err >&2"), log.process("p"));
    protocols.on(key, 1, log.channel("c")).unwrap();
    finish(&mut protocols);
    let said = log.taken();
    let at = |line: &str| {
        said.iter().position(|said| said == line).unwrap_or_else(|| panic!("{line}: {said:#?}"))
    };
    // Made: the process first, then its channels.
    assert_eq!((said[0].starts_with("p made"), at("c made")), (true, 1));
    assert!(at("c data \"out\\n\"") < at("c closed Peer 0"));
    assert_eq!(at("p closed 1 Peer 0"), at("c closed Peer 0") + 1);
    assert!(at("p data 2 \"err\\n\"") < at("p closed 2 Peer 0"));
    assert!(said.iter().all(|line| !line.starts_with("p data 1")), "{said:#?}");
    assert_eq!(at("p ended exit status: 0"), said.len() - 1);
}

// I.test_processExited: the exit does not wait for who holds a channel.
#[test]
fn exited_comes_while_a_grandchild_holds_a_channel_and_ended_after_it_is_closed() {
    let log = Log::default();
    let mut protocols = Protocols::new();
    let mut command = Command::new("sh");
    command.args(["-c", "read x <&5 & exit 7"]);
    command.fd(1, Channel::ReadPipe).fd(5, Channel::WritePipe);
    let closing = OnEvent(|process: &mut Process<'_>, event: Event<'_>| {
        if let Event::Exited { exit, .. } = event {
            assert_eq!((exit.code(), process.id()), (Some(7), None));
            // What the grandchild waits for.
            process.close(5).unwrap();
        }
    });
    let handler = log.process("p").then(closing);
    protocols.add(spawn(&mut command), handler);
    finish(&mut protocols);
    let said = log.taken();
    let exited = said.iter().position(|line| line == "p exited exit status: 7").unwrap();
    assert!(said[..exited].iter().all(|line| !line.starts_with("p closed")), "{said:#?}");
    assert_eq!(said.last().unwrap(), "p ended exit status: 7");
}

// T.test_stdio, test_echo
#[test]
fn a_handler_closes_its_own_channel_and_what_it_wrote_before_arrives() {
    let mut back = Vec::new();
    let mut protocols = Protocols::new();
    let cat = protocols.add(spawn(&mut Command::new("cat")), ());
    struct Feeder;
    impl ChannelHandler for Feeder {
        fn made(&mut self, channel: &mut Transport<'_>) {
            assert_eq!(channel.write(&[b'x'; 100_000]), Ok(100_000));
            assert!(channel.is_open());
            channel.close().unwrap();
            assert_eq!(channel.write(b"more"), Err(ChannelError::Closed));
        }
        fn closed(&mut self, channel: &mut Transport<'_>, reason: CloseReason, unsent: usize) {
            assert_eq!((reason, unsent, channel.is_open()), (CloseReason::Us, 0, false));
            // Once more is no error.
            channel.close().unwrap();
        }
    }
    protocols.on(cat, 0, Feeder).unwrap();
    protocols.on(cat, 1, OnData(|_, bytes| back.extend_from_slice(bytes))).unwrap();
    finish(&mut protocols);
    drop(protocols);
    assert_eq!(back.len(), 100_000);
}

// T.ClosingPipesTests
#[test]
fn a_reader_that_closes_its_own_channel_gets_no_more_and_the_child_notices() {
    let calls = RefCell::new(Vec::new());
    struct Once<'a>(&'a RefCell<Vec<&'static str>>);
    impl ChannelHandler for Once<'_> {
        fn data(&mut self, channel: &mut Transport<'_>, _: &[u8]) {
            self.0.borrow_mut().push("data");
            channel.close().unwrap();
            assert!(!channel.is_open());
        }
        fn closed(&mut self, _: &mut Transport<'_>, reason: CloseReason, _: usize) {
            assert_eq!(reason, CloseReason::Us);
            self.0.borrow_mut().push("closed");
        }
    }
    let mut exit = None;
    let mut protocols = Protocols::new();
    let yes = protocols.add(spawn(&mut Command::new("yes")), Exits(&mut exit));
    protocols.on(yes, 1, Once(&calls)).unwrap();
    finish(&mut protocols);
    drop(protocols);
    assert_eq!(calls.into_inner(), ["data", "closed"]);
    assert_eq!(exit.unwrap().signal(), Some(Signal::PIPE));
}

struct Exits<'a>(&'a mut Option<Exit>);

impl ProcessHandler for Exits<'_> {
    fn ended(&mut self, _: &mut Process<'_>, exit: Exit) {
        *self.0 = Some(exit);
    }
}

// T.test_signalKILL, I.test_processExited
#[test]
fn a_handler_kills_its_process_and_all_that_follows_is_told() {
    let log = Log::default();
    let mut protocols = Protocols::new();
    let key = protocols.add(sh("echo ready; exec sleep 1000"), log.process("p"));
    let kill = OnData(|channel: &mut Transport<'_>, _: &[u8]| {
        let process = channel.process();
        assert!(process.id().is_some());
        process.signal(Signal::KILL).unwrap();
        process.close_all().unwrap();
    });
    protocols.on(key, 1, kill).unwrap();
    finish(&mut protocols);
    let said = log.taken();
    for channel in ["0", "1", "2"] {
        assert!(said.contains(&format!("p closed {channel} Us 0")), "{said:#?}");
    }
    assert!(said.last().unwrap().starts_with("p ended signal: 9"), "{said:#?}");
}

#[test]
fn a_handler_adds_children_and_their_handlers_are_called() {
    /// Each starts the next.
    struct Chain(u32, Rc<RefCell<Vec<u32>>>);
    impl ProcessHandler for Chain {
        fn ended(&mut self, process: &mut Process<'_>, exit: Exit) {
            assert!(exit.success());
            self.1.borrow_mut().push(self.0);
            if self.0 > 0 {
                let (left, ended) = (self.0 - 1, self.1.clone());
                let next = process.add(sh(&format!("echo {left}")), Chain(left, ended));
                let said = OnData(move |_: &mut Transport<'_>, bytes: &[u8]| {
                    assert_eq!(bytes, format!("{left}\n").as_bytes());
                });
                process.other(next).on(1, said).unwrap();
                // Of a child that has ended nothing is left.
                assert_eq!(process.on(1, ()), Err(ChannelError::NoChild));
                assert_eq!(process.id(), None);
            }
        }
    }
    let ended = Rc::new(RefCell::new(Vec::new()));
    let mut protocols = Protocols::new();
    protocols.add(sh("exit 0"), Chain(5, ended.clone()));
    finish(&mut protocols);
    assert_eq!(*ended.borrow(), [5, 4, 3, 2, 1, 0]);
    // All handlers are gone with their children.
    assert_eq!(Rc::strong_count(&ended), 1);
}

#[test]
fn one_child_s_handler_writes_to_another_child() {
    let mut upper = Vec::new();
    let mut protocols = Protocols::new();
    let tr = protocols.add(spawn(Command::new("tr").args(["a-z", "A-Z"])), ());
    protocols.on(tr, 1, OnData(|_, bytes| upper.extend_from_slice(bytes))).unwrap();
    let forward = OnEvent(move |process: &mut Process<'_>, event: Event<'_>| match event {
        Event::Data { bytes, .. } => {
            assert_eq!(process.other(tr).write(0, bytes), Ok(bytes.len()));
        }
        Event::Ended { .. } => process.other(tr).close(0).unwrap(),
        _ => {}
    });
    protocols.add(sh("echo from one; echo to the other >&2"), forward);
    finish(&mut protocols);
    drop(protocols);
    // No order is promised between its channels.
    let mut lines: Vec<_> = upper.split_inclusive(|&byte| byte == b'\n').collect();
    lines.sort();
    assert_eq!(lines, [&b"FROM ONE\n"[..], b"TO THE OTHER\n"]);
}

#[test]
fn a_handler_hands_its_channel_on_from_the_next_event_on() {
    let log = Log::default();
    let mut protocols = Protocols::new();
    let mut command = Command::new("sh");
    command.args(["-c", "echo first; read go; echo second"]);
    let key = protocols.add(spawn(&mut command), ());
    let second = log.channel("second");
    let mut second = Some(second);
    let first = OnData(move |channel: &mut Transport<'_>, bytes: &[u8]| {
        assert_eq!(bytes, b"first\n");
        let name = channel.name();
        channel.process().on(name, second.take().unwrap()).unwrap();
        channel.process().write(0, b"go\n").unwrap();
    });
    protocols.on(key, 1, first).unwrap();
    finish(&mut protocols);
    assert_eq!(log.taken(), ["second data \"second\\n\"", "second closed Peer 0"]);
}

// I.test_pauseAndResumeProducing
#[test]
fn a_handler_that_pauses_gets_nothing_until_somebody_resumes_it() {
    let log = Log::default();
    let mut protocols = Protocols::new();
    let mut command = Command::new("sh");
    command.args(["-c", "echo one; read go; echo two; echo told >&2; read go; echo three"]);
    let key = protocols.add(spawn(&mut command), ());
    let pausing = OnData(|channel: &mut Transport<'_>, bytes: &[u8]| {
        if bytes == b"one\n" {
            channel.pause().unwrap();
            channel.process().write(0, b"go\n").unwrap();
        }
    });
    protocols.on(key, 1, log.channel("out").then(pausing)).unwrap();
    let resuming = OnData(|channel: &mut Transport<'_>, _: &[u8]| {
        let process = channel.process();
        let key = process.key();
        process.pump().resume(key, 1).unwrap();
        process.write(0, b"go\n").unwrap();
    });
    protocols.on(key, 2, log.channel("err").then(resuming)).unwrap();
    finish(&mut protocols);
    let said: Vec<String> =
        log.taken().into_iter().filter(|line| line.contains(" data ")).collect();
    // Two was there before told, and came after it.
    assert_eq!(said[..2], ["out data \"one\\n\"", "err data \"told\\n\""]);
    let rest: String = said[2..].concat();
    assert!(rest.find("two") < rest.find("three"), "{said:#?}");
}

// SEMANTICS: a producer pauses while the queue is full, and goes on.
#[test]
fn a_producer_writes_what_is_taken_and_goes_on_when_the_queue_is_empty() {
    const LEN: usize = 3_000_000;
    #[derive(Default)]
    struct Producer {
        written: usize,
        refused: usize,
    }
    impl Producer {
        fn produce(&mut self, channel: &mut Transport<'_>) {
            while self.written < LEN {
                let piece = &[b'x'; 10_000][..10_000.min(LEN - self.written)];
                let taken = channel.write(piece).unwrap();
                self.written += taken;
                assert!(channel.queued() <= 65_536);
                if taken < piece.len() {
                    self.refused += 1;
                    return;
                }
            }
            channel.close().unwrap();
        }
    }
    impl ChannelHandler for Producer {
        fn made(&mut self, channel: &mut Transport<'_>) {
            self.produce(channel);
        }
        fn drained(&mut self, channel: &mut Transport<'_>) {
            self.produce(channel);
        }
    }
    let (mut producer, mut read) = (Producer::default(), 0);
    let mut protocols = Protocols::new();
    let cat = protocols.add(spawn(&mut Command::new("cat")), ());
    protocols.on(cat, 0, &mut producer).unwrap();
    protocols.on(cat, 1, OnData(|_, bytes| read += bytes.len())).unwrap();
    finish(&mut protocols);
    drop(protocols);
    assert_eq!(read, LEN);
    assert!(producer.refused > 0);
}

#[test]
fn a_socket_s_half_close_goes_to_its_handler_which_still_writes() {
    let log = Log::default();
    let mut protocols = Protocols::new();
    // Writes, and then no more; then it reads.
    const NAME: &str = "a_socket_s_half_close_goes_to_its_handler_which_still_writes";
    if std::env::var_os("FORKPLAN_TEST_HALF").is_some() {
        let socket = UnixStream::from(rustix::io::dup(rustix::stdio::stdin()).unwrap());
        (&socket).write_all(b"half").unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        (&socket).read_to_string(&mut answer).unwrap();
        eprint!("{answer}");
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", NAME, "--nocapture"]).env("FORKPLAN_TEST_HALF", "1");
    command.fd(0, Channel::SocketPair).fd(1, Channel::Null).fd(2, Channel::ReadPipe);
    let child = spawn(&mut command);
    let key = protocols.add(child, ());
    struct Answer;
    impl ChannelHandler for Answer {
        fn half_closed(&mut self, channel: &mut Transport<'_>) {
            assert_eq!(channel.write(b"late"), Ok(4));
            channel.close_write().unwrap();
        }
    }
    protocols.on(key, 0, log.channel("s").then(Answer)).unwrap();
    protocols.on(key, 2, log.channel("err")).unwrap();
    finish(&mut protocols);
    let said = log.taken();
    for line in ["s data \"half\"", "s half closed", "err data \"late\""] {
        assert!(said.iter().any(|said| said == line), "no {line}: {said:#?}");
    }
}

#[test]
fn handlers_are_lent_boxed_shared_or_nothing_at_all() {
    let mut lent = Exits(&mut None);
    let shared = Rc::new(RefCell::new(Counter(0)));
    let boxed: Box<dyn ChannelHandler> = Box::new(shared.clone());
    let mut protocols = Protocols::new();
    let first = protocols.add(sh("printf 1234; printf 12 >&2"), &mut lent);
    protocols.on(first, 1, boxed).unwrap();
    protocols.on(first, 2, shared.clone()).unwrap();
    protocols.add(sh("echo nobody reads this"), ());
    finish(&mut protocols);
    drop(protocols);
    assert!(lent.0.unwrap().success());
    assert_eq!(shared.borrow().0, 6);
}

struct Counter(usize);

impl ChannelHandler for Counter {
    fn data(&mut self, _: &mut Transport<'_>, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

#[test]
fn channels_are_known_to_their_handlers_by_name_and_by_the_child_s_fds() {
    let seen = RefCell::new(Vec::new());
    let mut protocols = Protocols::new();
    let mut command = Command::new("sh");
    command.args(["-c", "echo to 6 >&6; echo lost >&7"]);
    command.channel("log", Channel::ReadPipe, [5, 7]).fds([6, 8], Channel::ReadPipe);
    let key = protocols.add(spawn(&mut command), ());
    let note = |channel: &mut Transport<'_>, _: &[u8]| {
        seen.borrow_mut().push((channel.name().to_string(), channel.fds().to_vec()));
    };
    // By any of its names.
    protocols.on(key, 7, OnData(note)).unwrap();
    protocols.on(key, 8, OnData(note)).unwrap();
    assert_eq!(protocols.on(key, 9, ()), Err(ChannelError::NoChannel));
    assert_eq!(protocols.on(key, Name::Text("lag"), ()), Err(ChannelError::NoChannel));
    protocols.pump_mut().close(key, "log").unwrap();
    assert_eq!(protocols.on(key, "log", ()), Err(ChannelError::Closed));
    finish(&mut protocols);
    assert_eq!(protocols.on(key, 6, ()), Err(ChannelError::NoChild));
    drop(protocols);
    assert_eq!(seen.into_inner(), [("6".to_string(), vec![6, 8])]);
}
