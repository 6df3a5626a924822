//! Fds that go through channels, both ways. The far side is this test binary.

#![cfg(target_os = "linux")]

#[path = "support/pump.rs"]
mod support;

use core::mem::MaybeUninit;
use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::{Read, Seek, Write, read_to_string};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use forkplan::Channel::{self, DatagramPair, ReadPipe, SeqpacketPair, SocketPair, WritePipe};
use forkplan::{ChannelError, ChildKey, CloseReason, Command, Event, Signal};
use rustix::io::{FdFlags, IoSlice, IoSliceMut, fcntl_getfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use support::{Driver, Seen, alone};

const SOCKETS: [Channel<'static>; 3] = [SocketPair, SeqpacketPair, DatagramPair];

/// Says which part the far side plays.
const PART: &str = "FORKPLAN_TEST_FAR_SIDE";

/// This binary as a child: it plays `part` in the test `far_side`.
fn far(part: &str, pair: Channel<'static>) -> Command<'static> {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "far_side", "--nocapture"]).env(PART, part).fd(3, pair);
    command.fd(4, WritePipe).fd(1, Channel::Null).fd(2, std::io::stderr());
    command
}

/// Not a test of its own: what the children of the others run.
#[test]
fn far_side() {
    let Ok(part) = env::var(PART) else { return };
    // SAFETY: the number is what the command has mapped there.
    let socket = unsafe { BorrowedFd::borrow_raw(3) };
    match part.as_str() {
        // Two pipes with something in them, then a byte without.
        "sends" => {
            for text in ["one", "two"] {
                let (reader, writer) = rustix::pipe::pipe().unwrap();
                rustix::io::write(&writer, text.as_bytes()).unwrap();
                send(socket, b"fd", &[reader.as_fd()]);
            }
            send(socket, b"over", &[]);
        }
        // Says with each message how many fds came, and what is in the first.
        "receives" => {
            for _ in 0..3 {
                let mut bytes = [0; 64];
                let (len, fds) = receive(socket, &mut bytes);
                let text = fds.first().map_or(String::new(), |fd| {
                    let mut file = File::from(fd.try_clone().unwrap());
                    file.rewind().unwrap();
                    read_to_string(file).unwrap()
                });
                let read = String::from_utf8_lossy(&bytes[..len]);
                send(socket, format!("[{read} {} {text}]", fds.len()).as_bytes(), &[]);
            }
        }
        // More than may wait, and less than a user may have on their way.
        "floods" => {
            let null = File::open("/dev/null").unwrap();
            (0..6).for_each(|_| send(socket, b"f", &[null.as_fd(); 128]));
        }
        part => panic!("no such part: {part}"),
    }
    // Stays until it is told, so that nothing but what it sent is in play.
    // SAFETY: as above.
    let wait = unsafe { BorrowedFd::borrow_raw(4) };
    let _ = rustix::io::read(wait, &mut [0; 1][..]);
}

fn try_send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    assert_eq!(try_send(socket, bytes, fds), Ok(bytes.len()));
}

/// A raw `recvmsg` that takes whatever fds come.
fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> (usize, Vec<OwnedFd>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message =
        recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::empty()).unwrap();
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds = rights.flatten().collect();
    (message.bytes, fds)
}

fn open_fds() -> BTreeSet<String> {
    let fds = fs::read_dir("/proc/self/fd").unwrap();
    fds.map(|fd| fd.unwrap().file_name().into_string().unwrap()).collect()
}

fn end(mut driver: Driver, key: ChildKey) -> Driver {
    driver.pump.close(key, 4).unwrap();
    driver.finish();
    driver
}

#[test]
fn fds_from_the_child_are_told_before_their_data_and_are_cloexec() {
    for pair in SOCKETS {
        let mut driver = Driver::new();
        let key = driver.add(&mut far("sends", pair));
        driver.pump.receive_fds(key, 3, true).unwrap();
        driver.until(|d| d.data(key, "3") == b"fdfdover");
        let told = driver.of(key).filter_map(|seen| match seen {
            Seen::Fds(name, count) => Some(format!("{count} on {name}")),
            Seen::Data(_, bytes) => Some(String::from_utf8(bytes.clone()).unwrap()),
            _ => None,
        });
        assert_eq!(told.collect::<Vec<_>>(), ["1 on 3", "fd", "1 on 3", "fd", "over"]);
        let fds = driver.pump.take_fds(key, 3).unwrap();
        let texts = fds.into_iter().map(|fd| {
            assert_eq!(fcntl_getfd(&fd), Ok(FdFlags::CLOEXEC));
            read_to_string(File::from(fd)).unwrap()
        });
        assert_eq!(texts.collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(driver.pump.take_fds(key, 3).unwrap().len(), 0);
        end(driver, key);
    }
}

#[test]
fn fds_that_nobody_asked_for_are_refused_and_their_bytes_come() {
    alone("fds_that_nobody_asked_for_are_refused_and_their_bytes_come", || {
        for pair in SOCKETS {
            let mut driver = Driver::new();
            let key = driver.add(&mut far("sends", pair));
            let before = open_fds();
            driver.until(|d| d.data(key, "3") == b"fdfdover");
            assert_eq!(open_fds(), before);
            assert_eq!(driver.pump.take_fds(key, 3).unwrap().len(), 0);
            assert!(!driver.of(key).any(|seen| matches!(seen, Seen::Fds(..))));
            end(driver, key);
        }
    });
}

#[test]
fn a_pause_between_fds_and_their_data_holds_the_data_back() {
    for pair in SOCKETS {
        let mut driver = Driver::new();
        let key = driver.add(&mut far("sends", pair));
        driver.pump.receive_fds(key, 3, true).unwrap();
        loop {
            let fds_came = match driver.pump.next_event() {
                Some(event) => matches!(event, Event::Fds { count: 1, .. }),
                None => {
                    driver.poll();
                    continue;
                }
            };
            if fds_came {
                break;
            }
        }
        driver.pump.pause(key, 3).unwrap();
        driver.assert_quiet();
        assert_eq!(driver.data(key, "3"), b"");
        driver.pump.resume(key, 3).unwrap();
        driver.until(|d| d.data(key, "3") == b"fdfdover");
        assert_eq!(driver.pump.take_fds(key, 3).unwrap().len(), 2);
        driver.pump.signal(key, Signal::KILL).unwrap();
        while !driver.pump.is_empty() {
            driver.step();
        }
    }
}

/// The control: a raw `recvmsg` on the same end does get them.
#[test]
fn control_a_raw_recvmsg_gets_fds_that_the_pump_refuses() {
    for pair in SOCKETS {
        let mut child = far("sends", pair).on_drop(forkplan::OnDrop::Kill).spawn().unwrap();
        let end = child.take(3).unwrap();
        let (len, fds) = receive(end.as_fd(), &mut [0; 64]);
        assert!(len >= 2);
        assert_eq!(fds.len(), 1);
        assert_eq!(fcntl_getfd(&fds[0]), Ok(FdFlags::empty()));
    }
}

#[test]
fn untaken_fds_are_closed_with_the_channel() {
    alone("untaken_fds_are_closed_with_the_channel", || {
        for pair in SOCKETS {
            let mut driver = Driver::new();
            let before = open_fds();
            let key = driver.add(&mut far("sends", pair));
            driver.pump.receive_fds(key, 3, true).unwrap();
            driver.until(|d| d.data(key, "3") == b"fdfdover");
            let mut driver = end(driver, key);
            assert_eq!(open_fds(), before);
            assert_eq!(driver.pump.take_fds(key, 3).unwrap_err(), ChannelError::NoChild);
        }
    });
}

#[test]
fn a_child_that_floods_us_with_fds_fills_no_table() {
    alone("a_child_that_floods_us_with_fds_fills_no_table", || {
        for pair in SOCKETS {
            let mut driver = Driver::new();
            let key = driver.add(&mut far("floods", pair));
            driver.pump.receive_fds(key, 3, true).unwrap();
            // Two messages are above the bound, and the others wait in the socket.
            for round in 1..=3 {
                driver.until(|d| d.data(key, "3").len() == 2 * round);
                driver.assert_quiet();
                assert_eq!(driver.data(key, "3").len(), 2 * round);
                assert_eq!(driver.pump.take_fds(key, 3).unwrap().len(), 256);
            }
            driver.pump.signal(key, Signal::KILL).unwrap();
            driver.pump.abort(key, 3).unwrap();
            driver.finish();
        }
    });
}

#[test]
fn a_full_table_closes_the_channel_with_emfile() {
    alone("a_full_table_closes_the_channel_with_emfile", || {
        let mut driver = Driver::new();
        let key = driver.add(&mut far("sends", SeqpacketPair));
        driver.pump.receive_fds(key, 3, true).unwrap();
        let mut taken = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            taken.push(file);
        }
        driver.until(|d| d.closed(key, "3").is_some());
        assert_eq!(driver.closed(key, "3"), Some((CloseReason::Error(libc::EMFILE), 0)));
        drop(taken);
        end(driver, key);
    });
}

#[test]
fn fds_to_the_child_go_with_their_bytes_and_ours_are_closed() {
    for pair in SOCKETS {
        let mut driver = Driver::new();
        let key = driver.add(&mut far("receives", pair));
        // A reader that has an end of file when all writers are closed.
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"in the file").unwrap();
        let (mut witness, given) = rustix::pipe::pipe().map(|(r, w)| (File::from(r), w)).unwrap();
        let mut fds = vec![file.into(), given];
        assert_eq!(driver.pump.send_fds(key, 3, b"two", &mut fds), Ok(3));
        assert_eq!(fds.len(), 0);
        driver.until(|d| d.data(key, "3").ends_with(b"]"));
        assert_eq!(driver.data(key, "3"), b"[two 2 in the file]");
        // The child has closed its copies after its answer; ours are too.
        assert_eq!(driver.pump.write(key, 3, b"none"), Ok(4));
        driver.until(|d| d.data(key, "3").ends_with(b"[none 0 ]"));
        assert_eq!(witness.read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(driver.pump.write(key, 3, b"last"), Ok(4));
        end(driver, key);
    }
}

#[test]
fn queued_fds_go_with_their_own_first_byte() {
    for pair in SOCKETS {
        let mut driver = Driver::new();
        let mut command = Command::new("sleep");
        command.arg("300").fd(3, pair).on_drop(forkplan::OnDrop::Kill);
        let child = command.spawn().unwrap();
        let pidfd = child.pidfd().expect("a kernel with pidfds");
        let flags = rustix::process::PidfdGetfdFlags::empty();
        let theirs = rustix::process::pidfd_getfd(pidfd, 3, flags).unwrap();
        let key = driver.pump.add(child);
        // Full, and some in the queue.
        let mut plain = 0;
        while driver.pump.queued(key, 3) == Ok(0) {
            plain += driver.pump.write(key, 3, &[b'p'; 1000]).unwrap();
        }
        for number in 0..3 {
            let null = |_| OwnedFd::from(File::open("/dev/null").unwrap());
            let mut fds = (0..=number).map(null).collect();
            assert_eq!(driver.pump.send_fds(key, 3, b"FF", &mut fds), Ok(2));
            assert_eq!(driver.pump.write(key, 3, b"ppp"), Ok(3));
            plain += 3;
        }
        let (mut counts, mut read) = (Vec::new(), 0);
        while read < plain + 6 {
            driver.step();
            let mut bytes = [0; 1000];
            rustix::io::ioctl_fionbio(&theirs, false).unwrap();
            while rustix::io::ioctl_fionread(&theirs).unwrap() > 0 {
                let (len, fds) = receive(theirs.as_fd(), &mut bytes);
                read += len;
                if !fds.is_empty() {
                    assert_eq!(bytes[0], b'F');
                    counts.push(fds.len());
                }
            }
        }
        assert_eq!((counts, read), (vec![1, 2, 3], plain + 6));
        driver.pump.signal(key, Signal::KILL).unwrap();
        drop(theirs);
        driver.finish();
    }
}

#[test]
fn fds_that_can_not_be_sent_stay_with_the_caller() {
    let mut driver = Driver::new();
    let mut agent = driver.agent(|command| {
        command.fd(3, SocketPair).fd(0, WritePipe).fd(1, ReadPipe);
    });
    let key = agent.key;
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    let mut fds = vec![null()];
    let number = fds[0].as_raw_fd();
    let mut send = |name: i32, bytes: &[u8]| driver.pump.send_fds(key, name, bytes, &mut fds);
    assert_eq!(send(0, b"x"), Err(ChannelError::NoSocket));
    assert_eq!(send(1, b"x"), Err(ChannelError::NotWritable));
    assert_eq!(send(7, b"x"), Err(ChannelError::NoChannel));
    assert_eq!(send(3, b""), Err(ChannelError::BadFdCount));
    assert_eq!(fds[0].as_raw_fd(), number);
    let mut many: Vec<OwnedFd> = (0..254).map(|_| null()).collect();
    let refused = driver.pump.send_fds(key, 3, b"x", &mut many);
    assert_eq!((refused, many.len()), (Err(ChannelError::BadFdCount), 254));
    many.pop();
    assert_eq!(driver.pump.send_fds(key, 3, b"x", &mut many), Ok(1));
    assert_eq!(driver.pump.receive_fds(key, 1, true), Err(ChannelError::NoSocket));
    // No room: not one byte, and so no fd.
    driver.pump.set_high_water(key, 3, 0).unwrap();
    while driver.pump.write(key, 3, &[0; 4096]).unwrap() > 0 {}
    assert_eq!(driver.pump.send_fds(key, 3, b"x", &mut fds), Ok(0));
    assert_eq!(fds[0].as_raw_fd(), number);
    agent.ask("exec 3>&-");
    drop(agent);
    driver.finish();
}
