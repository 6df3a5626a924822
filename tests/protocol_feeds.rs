//! Every byte of a producer arrives, through every kind of channel and in every loop;
//! and what becomes of a reader.

#[path = "support/kinds.rs"]
mod kinds;
#[path = "support/producers.rs"]
mod producers;
#[path = "support/protocol.rs"]
mod support;

use std::cell::{Cell, RefCell};
use std::io;

use forkplan::{
    Backend, Channel, CloseReason, Command, Event, FromReader, OnData, OnEvent, Producer, Pump,
    Transport,
};
use kinds::KINDS;
use producers::Told;
use rustix::event::epoll::EventFlags;
use support::{Looped, TestPump, spawn};

#[test]
fn a_reader_feeds_every_kind_that_is_written_to() {
    const LEN: u64 = 300_000;
    for kind in KINDS.iter().filter(|kind| kind.writes) {
        let dir = tempfile::tempdir().unwrap();
        let count = RefCell::new(String::new());
        let closes = kind.has_end && kind.name != "terminal";
        let rest = if closes { "cat <&3" } else { "exit 0" };
        let mut command = Command::new("sh");
        let script = format!("head -c {LEN} <&3 | wc -c >&4; {rest}");
        command.args(["-c", &script]).fd(3, (kind.make)(dir.path())).fd(4, Channel::ReadPipe);
        let mut looped = Looped::new();
        let key = looped.protocols.add(spawn(&mut command), ());
        let said = OnData(|_, bytes| count.borrow_mut().push_str(&String::from_utf8_lossy(bytes)));
        looped.protocols.on(key, 4, said).unwrap();
        // Of pieces that `head` reads whole, where each is a message.
        let zeros = io::Read::take(Small(io::repeat(0)), LEN);
        let reader = Producer::pull(FromReader::new(zeros));
        looped.protocols.register_producer(key, 3, reader).unwrap();
        looped.finish();
        drop(looped);
        assert_eq!(count.borrow().trim(), LEN.to_string(), "{}", kind.name);
    }
}

/// A reader that gives a little at a time.
struct Small<R>(R);

impl<R: io::Read> io::Read for Small<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(1000);
        self.0.read(&mut buffer[..len])
    }
}

#[test]
fn a_reader_that_fails_gives_its_channel_up_with_its_errno() {
    struct Failing(Option<i32>, usize);
    impl io::Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            match self.1 {
                1 => Ok(buffer.len()),
                2 => Err(io::ErrorKind::Interrupted.into()),
                _ => Err(self.0.map_or(io::ErrorKind::Other.into(), io::Error::from_raw_os_error)),
            }
        }
    }
    for (errno, told) in [(Some(libc::ESTALE), libc::ESTALE), (None, libc::EIO)] {
        let reason = Cell::new(None);
        let mut looped = Looped::new();
        let mut cat = Command::new("cat");
        cat.fd(0, Channel::WritePipe).fd(1, Channel::Null);
        let closed = OnEvent(|_, event| {
            if let Event::Closed { reason: why, .. } = event {
                reason.set(Some(why));
            }
        });
        let key = looped.protocols.add(spawn(&mut cat), closed);
        let reader = Producer::pull(FromReader::new(Failing(errno, 0)));
        looped.protocols.register_producer(key, 0, reader).unwrap();
        looped.finish();
        drop(looped);
        assert_eq!(reason.get(), Some(CloseReason::Error(told)));
    }
}

#[test]
fn every_backend_serves_both_forms() {
    const LEN: u64 = 3_000_000;
    let none = EventFlags::empty();
    let edge = EventFlags::ET;
    let ways = [
        (Backend::Poll, none),
        (Backend::Epoll, none),
        (Backend::Foreign, none),
        (Backend::Foreign, edge),
        (Backend::Foreign, edge | EventFlags::ONESHOT),
    ];
    for (backend, flags) in ways {
        let counts = [const { RefCell::new(String::new()) }; 2];
        let pump = Pump::with_backend(backend).unwrap();
        let mut looped = Looped::with(TestPump::in_loop(pump, flags));
        for (count, pull) in counts.iter().zip([true, false]) {
            let wc = looped.protocols.add(spawn(Command::new("wc").arg("-c")), ());
            let said =
                OnData(|_, bytes| count.borrow_mut().push_str(&String::from_utf8_lossy(bytes)));
            looped.protocols.on(wc, 1, said).unwrap();
            if pull {
                let zeros = io::Read::take(io::repeat(0), LEN);
                let reader = Producer::pull(FromReader::new(zeros));
                looped.protocols.register_producer(wc, 0, reader).unwrap();
                continue;
            }
            // More than pipe and queue hold.
            let first = looped.protocols.pump_mut().write(wc, 0, &vec![0; 2 << 20]).unwrap();
            assert!(first < 2 << 20);
            let mut left = LEN - first as u64;
            let push = Told::default().then(move |what, channel: &mut Transport<'_>| {
                let mut refused = what != "resume";
                while !refused && left > 0 {
                    let piece = left.min(100_000) as usize;
                    let taken = channel.write(&vec![0; piece]).unwrap();
                    left -= taken as u64;
                    refused = taken < piece;
                }
                if left == 0 {
                    channel.close().unwrap();
                }
            });
            looped.protocols.register_producer(wc, 0, Producer::push(push)).unwrap();
            // What was refused before it came it does not know of; but this.
            assert_eq!(looped.protocols.pump_mut().write(wc, 0, &[0; 1]), Ok(0));
        }
        looped.finish();
        drop(looped);
        assert_eq!(counts[0].borrow().trim(), LEN.to_string(), "{backend:?} {flags:?}");
        assert_eq!(counts[1].borrow().trim(), LEN.to_string(), "{backend:?} {flags:?}");
    }
}
