//! Channels without a process: what is attached to a pump, and how a channel of
//! two fds goes from open to closed.

#[path = "support/seccomp.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod seccomp;
#[path = "support/pump.rs"]
mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use core::time::Duration;

use forkplan::{
    ChannelError, ChildKey, CloseReason, Command, End, EndError, Event, FdKind, Ladder, Pump,
};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::pipe::{PipeFlags, pipe_with};
use support::{Driver, Random, Seen};

/// Runs `body` with open files of the pump's own, and where it can have none.
fn both_ways(body: impl Fn() + Sync) {
    body();
    seccomp::under(&seccomp::no_open(libc::EACCES), &body);
}

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC).unwrap()
}

/// A duplex named `both` over two pipes, and the other side of each.
fn duplex(driver: &mut Driver) -> (ChildKey, Option<File>, Option<File>) {
    let (reader, to_us) = pipe();
    let (from_us, writer) = pipe();
    let key = driver.attach([End::duplex("both", reader, writer).unwrap()]);
    (key, Some(to_us.into()), Some(from_us.into()))
}

fn only_closed(driver: &Driver, key: ChildKey, reason: CloseReason, unsent: usize) {
    assert_eq!(driver.closed(key, "both"), Some((reason, unsent)));
}

#[test]
fn an_attached_channel_has_no_process() {
    let mut driver = Driver::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let key = driver.attach([End::new(7, ours).unwrap()]);
    assert_eq!(driver.pump.next_event(), Some(Event::Made { child: key, pid: None }));
    driver.log.push((key, Seen::Made(None)));
    assert!(driver.pump.child(key).is_none());
    assert_eq!(driver.pump.signal(key, 15), Err(forkplan::SignalError::AlreadyExited));
    assert_eq!(driver.pump.len(), 1);
    driver.pump.write(key, 7, b"ping").unwrap();
    let mut got = [0; 4];
    theirs.read_exact(&mut got).unwrap();
    theirs.write_all(b"pong").unwrap();
    drop(theirs);
    driver.finish();
    assert_eq!(driver.data(key, "7"), b"pong");
    let Some(Seen::Ended(exit)) = driver.of(key).last() else { panic!() };
    assert_eq!((exit.status(), exit.success(), exit.usage()), (None, false, None));
    assert_eq!(driver.pump.write(key, 7, b"x"), Err(ChannelError::NoChild));
}

#[test]
fn nothing_attached_has_ended() {
    let mut driver = Driver::new();
    let key = driver.attach([]);
    driver.finish();
    assert!(driver.has_ended(key));
    assert_eq!(driver.of(key).count(), 2);
}

#[test]
fn attached_channels_and_children_are_served_side_by_side() {
    let mut driver = Driver::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let key = driver.attach([End::new("peer", ours).unwrap()]);
    let mut cat = Command::new("cat");
    let cat = driver.add(cat.fd(0, theirs).fd(1, forkplan::Channel::ReadPipe));
    driver.pump.write(key, "peer", b"through cat").unwrap();
    driver.pump.close(key, "peer").unwrap();
    driver.finish();
    assert_eq!(driver.data(cat, "1"), b"through cat");
    assert!(driver.exit(cat).unwrap().success());
}

#[test]
fn what_has_no_stream_or_goes_the_wrong_way_is_refused() {
    let no = |fd: OwnedFd| match End::new("no", fd).unwrap_err() {
        EndError::NoStream(kind) => kind,
        other => panic!("{other}"),
    };
    assert_eq!(no(File::open("/").unwrap().into()), FdKind::DIRECTORY);
    assert_eq!(no(std::net::TcpListener::bind("127.0.0.1:0").unwrap().into()), FdKind::LISTENER);
    let datagram = std::os::unix::net::UnixDatagram::unbound().unwrap();
    assert_eq!(no(datagram.into()), FdKind::DATAGRAM);
    let (reader, writer) = pipe();
    assert_eq!(End::duplex(0, writer, reader).unwrap_err(), EndError::NotReadable);
    let (reader, _writer) = pipe();
    let null = File::open("/dev/null").unwrap();
    assert_eq!(End::duplex(0, reader, null).unwrap_err(), EndError::NotWritable);
}

#[test]
fn the_ends_of_a_duplex_are_told_as_those_of_one_channel() {
    both_ways(|| {
        let mut driver = Driver::new();
        let (key, mut to_us, mut from_us) = duplex(&mut driver);
        driver.pump.write(key, "both", b"out").unwrap();
        let mut got = [0; 3];
        from_us.as_mut().unwrap().read_exact(&mut got).unwrap();
        to_us.as_mut().unwrap().write_all(b"in").unwrap();
        drop(to_us.take());
        driver.until(|d| d.has(key, &Seen::HalfClosed("both".into())));
        assert_eq!(driver.data(key, "both"), b"in");
        // We may still write; reading is over.
        assert_eq!(driver.pump.write(key, "both", b"more"), Ok(4));
        assert_eq!(driver.pump.pause(key, "both"), Err(ChannelError::Closed));
        driver.assert_quiet();
        drop(from_us.take());
        driver.finish();
        only_closed(&driver, key, CloseReason::Peer, 0);
    });
}

#[test]
fn a_duplex_whose_reader_is_gone_is_still_read_and_counts_what_was_not_sent() {
    both_ways(|| {
        for queued in [false, true] {
            let mut driver = Driver::new();
            let (key, mut to_us, mut from_us) = duplex(&mut driver);
            let mut taken = 0;
            if queued {
                taken = driver.pump.write(key, "both", &[0; 200_000]).unwrap();
                assert_eq!(driver.pump.queued(key, "both"), Ok(65536));
            }
            drop(from_us.take());
            driver.drain();
            if !queued {
                taken = driver.pump.write(key, "both", b"lost").unwrap();
            }
            to_us.as_mut().unwrap().write_all(b"in").unwrap();
            driver.until(|d| d.data(key, "both") == b"in");
            assert_eq!(driver.pump.write(key, "both", b"x"), Err(ChannelError::Closed));
            drop(to_us.take());
            driver.finish();
            assert!(taken >= 4);
            let unsent = if queued { 65536 } else { 4 };
            only_closed(&driver, key, CloseReason::Peer, unsent);
            assert!(!driver.has(key, &Seen::HalfClosed("both".into())));
        }
    });
}

#[test]
fn closing_the_writing_half_of_a_duplex_leaves_the_reading_half() {
    both_ways(|| {
        let mut driver = Driver::new();
        let (key, mut to_us, from_us) = duplex(&mut driver);
        driver.pump.write(key, "both", b"last").unwrap();
        driver.pump.close_write(key, "both").unwrap();
        assert_eq!(std::io::read_to_string(from_us.unwrap()).unwrap(), "last");
        assert_eq!(driver.pump.write(key, "both", b"x"), Err(ChannelError::Closed));
        assert_eq!(driver.pump.close_write(key, "both"), Ok(()));
        to_us.as_mut().unwrap().write_all(b"in").unwrap();
        driver.until(|d| d.data(key, "both") == b"in");
        drop(to_us.take());
        driver.finish();
        only_closed(&driver, key, CloseReason::Peer, 0);
    });
}

#[test]
fn closing_a_duplex_flushes_first_and_closes_both_halves() {
    both_ways(|| {
        for all in [false, true] {
            let mut driver = Driver::new();
            let (key, mut to_us, from_us) = duplex(&mut driver);
            let taken = driver.pump.write(key, "both", &[7; 200_000]).unwrap();
            match all {
                false => driver.pump.close(key, "both").unwrap(),
                true => driver.pump.close_all(key).unwrap(),
            }
            // Until the queue is written its data still come.
            to_us.as_mut().unwrap().write_all(b"in").unwrap();
            driver.until(|d| d.data(key, "both") == b"in");
            assert_eq!(driver.closed(key, "both"), None);
            let mut got = vec![0; taken];
            let mut from_us = from_us.unwrap();
            let mut read = 0;
            while read < taken {
                read += from_us.read(&mut got[read..]).unwrap();
                driver.pump.poll(Some(Duration::ZERO)).unwrap();
                driver.drain();
            }
            driver.finish();
            only_closed(&driver, key, CloseReason::Us, 0);
            assert_eq!(from_us.read(&mut got).unwrap(), 0);
            let broken = to_us.unwrap().write_all(b"x").unwrap_err();
            assert_eq!(broken.kind(), std::io::ErrorKind::BrokenPipe);
        }
    });
}

#[test]
fn aborting_a_duplex_closes_both_halves_at_once() {
    both_ways(|| {
        for half_closed in [false, true] {
            let mut driver = Driver::new();
            let (key, mut to_us, _from_us) = duplex(&mut driver);
            let taken = driver.pump.write(key, "both", &[7; 200_000]).unwrap();
            if half_closed {
                drop(to_us.take());
                driver.until(|d| d.has(key, &Seen::HalfClosed("both".into())));
            }
            let queued = driver.pump.queued(key, "both").unwrap();
            assert!(queued > 0 && queued < taken);
            driver.pump.abort(key, "both").unwrap();
            driver.finish();
            only_closed(&driver, key, CloseReason::Us, queued);
        }
    });
}

#[test]
fn one_socket_for_both_directions_is_one_end() {
    let mut driver = Driver::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let end = End::duplex("both", ours.try_clone().unwrap(), ours).unwrap();
    let key = driver.attach([end]);
    driver.pump.close_write(key, "both").unwrap();
    // Had the other copy stayed open, this would never end.
    assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0);
    theirs.write_all(b"in").unwrap();
    drop(theirs);
    driver.finish();
    assert_eq!(driver.data(key, "both"), b"in");
    only_closed(&driver, key, CloseReason::Peer, 0);
}

#[test]
fn a_regular_file_is_read_to_its_end_and_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, vec![b'f'; 300_000]).unwrap();
    let mut driver = Driver::new();
    let log = File::options().append(true).open(&path).unwrap();
    let ends = [End::new("in", File::open(&path).unwrap()).unwrap(), End::new("log", log).unwrap()];
    let key = driver.attach(ends);
    driver.until(|d| d.closed(key, "in").is_some());
    assert_eq!(driver.data(key, "in"), vec![b'f'; 300_000]);
    assert_eq!(driver.pump.write(key, "log", b"written"), Ok(7));
    driver.pump.close(key, "log").unwrap();
    driver.finish();
    assert!(std::fs::read(&path).unwrap().ends_with(b"fwritten"));
}

#[test]
fn time_bounds_hold_for_what_has_no_process() {
    let mut driver = Driver::new();
    let (one, _theirs) = UnixStream::pair().unwrap();
    let (other, _its) = UnixStream::pair().unwrap();
    let late = driver.attach([End::new(3, one).unwrap()]);
    let held = driver.attach([End::new(3, other).unwrap()]);
    let past = Instant::now();
    driver.pump.set_deadline(late, Some(past), Ladder::kill()).unwrap();
    driver.pump.set_drain_limit(held, Some(Duration::from_millis(1))).unwrap();
    driver.until(|d| d.has(late, &Seen::TimedOut) && d.closed(held, "3").is_some());
    assert_eq!(driver.closed(held, "3"), Some((CloseReason::Abandoned, 0)));
    assert!(driver.has_ended(held));
    assert_eq!(driver.closed(late, "3"), None, "it is for the caller to close");
    driver.pump.close_all(late).unwrap();
    driver.finish();
    assert!(!driver.of(late).any(|seen| matches!(seen, Seen::Signalled(_))));
}

// Both are found ready by the same poll, and the first takes it all.
#[test]
fn two_readers_of_one_pipe_do_not_wait_for_each_other() {
    both_ways(|| {
        let mut driver = Driver::new();
        let (reader, writer) = pipe();
        let other = reader.try_clone().unwrap();
        let ends = [End::new("one", reader).unwrap(), End::new("other", other).unwrap()];
        let key = driver.attach(ends);
        let mut writer = File::from(writer);
        for round in 1..100 {
            writer.write_all(b"x").unwrap();
            driver.until(|d| d.data(key, "one").len() + d.data(key, "other").len() == round);
        }
        drop(writer);
        driver.finish();
    });
}

#[test]
fn many_writes_of_random_sizes_arrive_through_a_duplex_in_order() {
    both_ways(|| {
        let mut random = Random::new();
        let mut driver = Driver::new();
        let (reader, back) = pipe();
        let (forth, writer) = pipe();
        let key = driver.attach([End::duplex("both", reader, writer).unwrap()]);
        let other = driver.attach([End::duplex("both", forth, back).unwrap()]);
        let (mut sent, mut echoed) = (Vec::new(), 0);
        while sent.len() < 1 << 20 {
            let bytes: Vec<u8> =
                (0..random.below(20_000)).map(|_| random.below(256) as u8).collect();
            let taken = driver.pump.write(key, "both", &bytes).unwrap();
            sent.extend_from_slice(&bytes[..taken]);
            driver.step();
            let got = driver.data(other, "both");
            echoed += driver.pump.write(other, "both", &got[echoed..]).unwrap();
        }
        driver.pump.close_write(key, "both").unwrap();
        driver.until(|d| d.has(other, &Seen::HalfClosed("both".into())));
        let got = driver.data(other, "both");
        while echoed < got.len() {
            echoed += driver.pump.write(other, "both", &got[echoed..]).unwrap();
            driver.step();
        }
        driver.pump.close(other, "both").unwrap();
        driver.finish();
        assert!(got == sent && driver.data(key, "both") == sent);
    });
}

#[test]
fn the_flags_of_what_is_attached_are_left_alone() {
    both_ways(|| {
        let (reader, writer) = pipe();
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let memory = rustix::fs::MemfdFlags::CLOEXEC;
        let file = rustix::fs::memfd_create("file", memory).unwrap();
        let kept: Vec<OwnedFd> = [reader.as_fd(), writer.as_fd(), ours.as_fd(), file.as_fd()]
            .map(|fd| fd.try_clone_to_owned().unwrap())
            .into();
        let flags = || kept.iter().map(|fd| fcntl_getfl(fd).unwrap()).collect::<Vec<_>>();
        let size = || rustix::pipe::fcntl_getpipe_size(&kept[0]).unwrap();
        let before = (flags(), size());
        let mut pump = Pump::new();
        let duplex = End::duplex(0, reader, writer).unwrap();
        let ends = [duplex, End::new(3, ours).unwrap(), End::new(4, file).unwrap()];
        let key = pump.attach(ends);
        // More than it holds.
        pump.write(key, 0, &[0; 300_000]).unwrap();
        for _ in 0..10 {
            pump.poll(Some(Duration::ZERO)).unwrap();
            while pump.next_event().is_some() {}
            assert_eq!((flags(), size()), before);
        }
        drop(pump);
        assert_eq!((flags(), size()), before);
        assert!(!before.0.iter().any(|flags| flags.contains(OFlags::NONBLOCK)));
    });
}
