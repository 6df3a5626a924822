//! Handlers on the far side: of channels that have no process, and of two fds that
//! are one channel. And what a pump tells besides: silence and deadlines.

#[path = "support/protocol.rs"]
mod support;

use core::time::Duration;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use forkplan::{
    Channel, ChannelError, ChannelHandler, CloseReason, Command, End, Framed, Ladder, Lines,
    OnData, OnDrop, Process, ProcessHandler, Protocols, Transport,
};
use rustix::pipe::pipe;
use support::{Log, finish, spawn};

#[test]
fn attached_ends_have_the_handlers_that_a_child_s_channels_have() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let log = Log::default();
    let mut protocols = Protocols::new();
    let near = protocols.pump_mut().attach([End::new("near", ours).unwrap()]);
    let far = protocols.pump_mut().attach([End::new(3, theirs).unwrap()]);
    protocols.on_process(near, log.process("p"));
    protocols.on(near, "near", log.channel("near")).unwrap();
    // The same handler type on the other side.
    let answer = Framed::new(Lines::new(10), |channel, line| {
        assert_eq!((line.bytes, channel.fds()), (&b"question"[..], &[3][..]));
        assert_eq!(channel.process().id(), None);
        assert_eq!(channel.write(b"answer"), Ok(6));
        channel.close().unwrap();
    });
    protocols.on(far, 3, answer).unwrap();
    protocols.pump_mut().write(near, "near", b"question\n").unwrap();
    finish(&mut protocols);
    let said = log.taken();
    assert_eq!(said[..3], ["p made None", "near made", "near data \"answer\""]);
    assert_eq!(
        said[said.len() - 3..said.len() - 1],
        ["near closed Peer 0", "p closed near Peer 0"]
    );
    assert!(said.iter().all(|line| !line.starts_with("p exited")), "{said:#?}");
    assert!(said.last().unwrap().starts_with("p ended"), "{said:#?}");
}

#[test]
fn a_channel_of_two_fds_has_one_handler_that_is_told_of_both() {
    let ((reader, their_writer), (their_reader, writer)) = (pipe().unwrap(), pipe().unwrap());
    let log = Log::default();
    let mut protocols = Protocols::new();
    let both = protocols.pump_mut().attach([End::duplex("both", reader, writer).unwrap()]);
    protocols.on_process(both, log.process("p"));
    /// Answers when all was said, with more than there is room for.
    struct Late(usize);
    impl Late {
        fn write(&mut self, channel: &mut Transport<'_>) {
            let bytes = vec![b'x'; 300_000];
            self.0 += channel.write(&bytes[self.0..]).unwrap();
            if self.0 == bytes.len() {
                channel.close().unwrap();
            }
        }
    }
    impl ChannelHandler for Late {
        fn half_closed(&mut self, channel: &mut Transport<'_>) {
            assert!(channel.is_open());
            self.write(channel);
        }
        fn drained(&mut self, channel: &mut Transport<'_>) {
            self.write(channel);
        }
    }
    protocols.on(both, "both", log.channel("c").then(Late(0))).unwrap();
    let mut got = 0;
    let ends = [End::new(4, their_writer).unwrap(), End::new(5, their_reader).unwrap()];
    let peer = protocols.pump_mut().attach(ends);
    protocols.on(peer, 5, OnData(|_, bytes| got += bytes.len())).unwrap();
    protocols.pump_mut().write(peer, 4, b"said").unwrap();
    protocols.pump_mut().close(peer, 4).unwrap();
    finish(&mut protocols);
    assert_eq!(protocols.on(both, "both", ()), Err(ChannelError::NoChild));
    drop(protocols);
    assert_eq!(got, 300_000);
    let said = log.taken();
    for line in ["c data \"said\"", "c half closed", "c closed Us 0"] {
        assert_eq!(said.iter().filter(|said| *said == line).count(), 1, "{line}: {said:#?}");
    }
    assert!(said.contains(&"c drained".to_string()), "{said:#?}");
    // Nothing of it but its end goes to the process's.
    let to_process: Vec<&str> =
        said.iter().map(String::as_str).filter(|line| line.starts_with("p ")).collect();
    assert_eq!(to_process[..2], ["p made None", "p closed both Us 0"]);
    assert_eq!(to_process.len(), 3, "{said:#?}");
}

/// What of time is told to whom, in order.
#[derive(Default)]
struct Clock(Vec<&'static str>);

impl ChannelHandler for Clock {
    fn idle(&mut self, channel: &mut Transport<'_>) {
        self.0.push("idle");
        if self.0.len() > 1 {
            return;
        }
        let child = channel.process().key();
        channel.process().pump().set_deadline(child, Some(Instant::now()), Ladder::new()).unwrap();
    }
}

impl ProcessHandler for Clock {
    fn timed_out(&mut self, process: &mut Process<'_>) {
        self.0.push("timed out");
        process.close(0).unwrap();
    }
}

#[test]
fn silence_is_told_to_the_channel_and_a_deadline_to_the_process() {
    let (mut of_channel, mut of_process) = (Clock::default(), Clock::default());
    let mut protocols = Protocols::new();
    let mut cat = Command::new("cat");
    cat.fd(0, Channel::WritePipe).fd(1, Channel::ReadPipe);
    let key = protocols.add(spawn(&mut cat), &mut of_process);
    protocols.on(key, 1, &mut of_channel).unwrap();
    protocols.pump_mut().set_idle_limit(key, 1, Some(Duration::from_millis(1))).unwrap();
    finish(&mut protocols);
    drop(protocols);
    assert_eq!((&of_process.0[..], of_channel.0[0]), (&["timed out"][..], "idle"));
}

/// Takes its child out of the pump when it is called, if it is told of this.
struct TakesOut {
    at_made: bool,
}

impl TakesOut {
    fn take_out(process: &mut Process<'_>) {
        let key = process.key();
        drop(process.pump().remove(key).unwrap());
    }
}

impl ChannelHandler for TakesOut {
    fn made(&mut self, channel: &mut Transport<'_>) {
        if self.at_made {
            Self::take_out(channel.process());
        }
    }

    fn closed(&mut self, channel: &mut Transport<'_>, _: CloseReason, _: usize) {
        Self::take_out(channel.process());
    }
}

#[test]
fn nobody_is_told_of_an_event_of_which_the_first_to_hear_took_the_child_out() {
    for at_made in [false, true] {
        let log = Log::default();
        let mut protocols = Protocols::new();
        let mut cat = Command::new("cat");
        let cat = cat.fd(0, Channel::WritePipe).fd(1, Channel::ReadPipe).on_drop(OnDrop::Kill);
        let cat = protocols.add(cat.spawn().unwrap(), log.process("p"));
        protocols.on(cat, 0, TakesOut { at_made }).unwrap();
        protocols.on(cat, 1, log.channel("1")).unwrap();
        protocols.pump_mut().close(cat, 0).unwrap();
        finish(&mut protocols);
        let said = log.taken();
        assert!(said[0].starts_with("p made"), "{said:?}");
        // The process's handler is told of no `Closed`, nor the other of `Made`.
        let rest: &[&str] = if at_made { &[] } else { &["1 made"] };
        assert_eq!(said[1..], *rest);
    }
}
