//! The pump on the far side: what was inherited is read and written without a
//! block, and without a change that the other side would see. The far side is this
//! binary, run by the crate with the fds that the test plans.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use core::time::Duration;

use forkplan::Channel::{Null, ReadPipe, SocketPair, WritePipe};
use forkplan::{Child, ChildKey, CloseReason, Command, End, Event, FdKind, Inherited, Pump};
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl};
use support::{assert_done, far_side, if_far_side, seccomp, with_fd};

/// How the far side of a case has to do with what it inherited.
const WAYS: [&str; 2] = ["by an open file of its own", "asking before each call"];

fn record() -> Inherited {
    // SAFETY: the test is the first that runs here of what opens anything, but for
    // the harness, which has opened nothing that it keeps.
    unsafe { Inherited::new() }.unwrap()
}

/// In the second way nothing can be opened, so not opened anew either.
fn go(way: &str) {
    if way.ends_with(WAYS[1]) {
        seccomp::install(&seccomp::no_open(libc::EACCES));
    }
}

fn done(mut child: Child) {
    assert_done(child.wait().unwrap());
}

fn poll(pump: &mut Pump) {
    pump.poll(Some(Duration::from_secs(1))).unwrap();
}

/// Writes back what comes, as far as there is room, until all of it is back.
fn echo(pump: &mut Pump, key: ChildKey) {
    let (mut waiting, mut over) = (Vec::new(), false);
    while !pump.is_empty() {
        poll(pump);
        while let Some(event) = pump.next_event() {
            match event {
                Event::Data { bytes, .. } => waiting.extend_from_slice(bytes),
                Event::HalfClosed { .. } => over = true,
                Event::Closed { reason, unsent, .. } => {
                    assert_eq!((reason, unsent), (CloseReason::Us, 0));
                }
                _ => {}
            }
        }
        if pump.is_empty() {
            break;
        }
        if !waiting.is_empty() {
            let taken = pump.write(key, 1, &waiting).unwrap();
            waiting.drain(..taken);
        }
        // Memory is bounded: no more is read than was written.
        match waiting.len() > 1 << 20 {
            true => pump.pause_all(key).unwrap(),
            false => pump.resume_all(key).unwrap(),
        }
        if over && waiting.is_empty() {
            pump.close(key, 0).unwrap();
        }
    }
}

/// What the harness writes to stdout comes before this.
const MARK: &[u8] = b"\nMARK\n";

fn strip(bytes: &[u8]) -> &[u8] {
    let at = bytes.windows(MARK.len()).position(|part| part == MARK).expect("the mark");
    &bytes[at + MARK.len()..]
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[test]
fn an_echo_over_0_and_1_gives_back_ten_mebibytes() {
    const NAME: &str = "an_echo_over_0_and_1_gives_back_ten_mebibytes";
    if_far_side(NAME, |way| {
        let mut inherited = record();
        let end = inherited.duplex().unwrap();
        go(way);
        let mut pump = Pump::new();
        let key = pump.attach([end]);
        assert_eq!(pump.write(key, 1, MARK), Ok(MARK.len()));
        echo(&mut pump, key);
    });
    type Map = fn(&mut Command<'_>);
    let pipes: Map = |command| {
        command.fd(0, WritePipe).fd(1, ReadPipe);
    };
    let socket: Map = |command| {
        command.fds([0, 1], SocketPair);
    };
    let sockets: Map = |command| {
        command.fd(0, SocketPair).fd(1, SocketPair);
    };
    let sent = pattern(10 << 20);
    for way in WAYS {
        for map in [pipes, socket, sockets] {
            let mut command = far_side(NAME, way);
            map(&mut command);
            let mut pump = Pump::new();
            let far = pump.add(command.spawn().unwrap());
            let (mut taken, mut got) = (0, Vec::new());
            while !pump.is_empty() {
                if taken < sent.len() {
                    taken += pump.write(far, 0, &sent[taken..]).unwrap();
                    if taken == sent.len() {
                        pump.close_write(far, 0).unwrap();
                    }
                }
                poll(&mut pump);
                while let Some(event) = pump.next_event() {
                    match event {
                        Event::Data { bytes, .. } => got.extend_from_slice(bytes),
                        Event::Exited { exit, .. } => assert_done(exit),
                        _ => {}
                    }
                }
            }
            assert!(strip(&got) == sent, "{way}: {} bytes", got.len());
        }
    }
}

/// Ends that the near side keeps a copy of, and what they are.
fn shared_ends() -> Vec<(FdKind, OwnedFd)> {
    use rustix::fs::{CWD, mknodat};
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let (stream, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let fifo = rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
    // The other sides stay open as long as the test runs.
    core::mem::forget((theirs, master));
    vec![
        (FdKind::PIPE_READER, reader),
        (FdKind::PIPE_WRITER, writer),
        (FdKind::STREAM, stream.into()),
        (FdKind::TERMINAL, slave),
        (FdKind::PIPE, fifo),
    ]
}

fn flags(ends: &[(FdKind, OwnedFd)]) -> Vec<OFlags> {
    ends.iter().map(|(_, fd)| fcntl_getfl(fd).unwrap()).collect()
}

/// A word from the far side, or to it.
fn hear(control: &mut impl Read) -> u8 {
    let mut word = [0];
    control.read_exact(&mut word).unwrap();
    word[0]
}

#[test]
fn the_other_side_sees_no_flag_change_while_its_ends_are_pumped() {
    const NAME: &str = "the_other_side_sees_no_flag_change_while_its_ends_are_pumped";
    if_far_side(NAME, |way| {
        let mut inherited = record();
        let mut control = File::from(inherited.take(9, FdKind::STREAM).unwrap());
        // The same open files, looked at from here.
        let numbers: Vec<i32> = inherited.numbers().filter(|&fd| fd >= 20).collect();
        assert_eq!(numbers.len(), 10);
        let look = || numbers[5..].iter().map(|&fd| fcntl_getfl(with_fd(fd)).unwrap());
        let before: Vec<OFlags> = look().collect();
        let ends: Vec<End> =
            numbers[..5].iter().map(|&fd| inherited.end(fd, FdKind::ANY).unwrap()).collect();
        go(way);
        let mut pump = Pump::new();
        let key = pump.attach(ends);
        for round in 0..5 {
            if round == 1 {
                // More than any of them holds, so all of them are full.
                for fd in [21, 22, 23] {
                    pump.write(key, fd, &[b'x'; 400_000]).unwrap();
                }
            }
            pump.poll(Some(Duration::ZERO)).unwrap();
            while pump.next_event().is_some() {}
            assert!(look().eq(before.iter().copied()));
            control.write_all(&[round]).unwrap();
            hear(&mut control);
        }
        if way.starts_with("control") {
            fcntl_setfl(with_fd(25), OFlags::NONBLOCK).unwrap();
        }
        drop(pump);
        control.write_all(&[9]).unwrap();
        hear(&mut control);
    });
    for way in WAYS.map(str::to_string).into_iter().chain(["control".to_string()]) {
        let ends = shared_ends();
        let before = flags(&ends);
        assert!(!before.iter().any(|flags| flags.contains(OFlags::NONBLOCK)));
        let mut command = far_side(NAME, &way);
        command.fd(0, Null).fd(1, Null).fd(9, SocketPair);
        for ((_, fd), at) in ends.iter().zip(20..) {
            command.fd(at, fd.as_fd()).fd(at + 5, fd.as_fd());
        }
        let mut child = command.spawn().unwrap();
        let mut control = File::from(child.take(9).unwrap());
        for round in 0..5 {
            assert_eq!(hear(&mut control), round);
            assert_eq!(flags(&ends), before, "{way}");
            control.write_all(&[0]).unwrap();
        }
        assert_eq!(hear(&mut control), 9);
        // A flag that the far side does set is seen here: they are the same files.
        assert_eq!(flags(&ends) == before, way != "control", "{way}");
        control.write_all(&[0]).unwrap();
        done(child);
    }
}

#[test]
fn a_pump_whose_writes_nobody_reads_never_blocks() {
    const NAME: &str = "a_pump_whose_writes_nobody_reads_never_blocks";
    const SIZE: usize = 1 << 20;
    if_far_side(NAME, |way| {
        let mut inherited = record();
        let mut control = File::from(inherited.take(9, FdKind::STREAM).unwrap());
        let writer = inherited.end(20, FdKind::ANY).unwrap();
        // Blocking, and known to be full below: a plain write would never return.
        let blocks = |fd| !fcntl_getfl(with_fd(fd)).unwrap().contains(OFlags::NONBLOCK);
        assert!(blocks(21));
        go(way);
        let mut pump = Pump::new();
        let key = pump.attach([writer]);
        pump.set_high_water(key, 20, SIZE).unwrap();
        let bytes = pattern(SIZE);
        let taken = pump.write(key, 20, &bytes).unwrap();
        let mut before = usize::MAX;
        // Until no write takes more.
        while pump.queued(key, 20).unwrap() < before {
            before = pump.queued(key, 20).unwrap();
            pump.poll(Some(Duration::ZERO)).unwrap();
            while pump.next_event().is_some() {}
        }
        assert!(before > 0 && blocks(21));
        let mut polled =
            rustix::event::PollFd::from_borrowed_fd(with_fd(21), rustix::event::PollFlags::OUT);
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let room = rustix::event::poll(core::slice::from_mut(&mut polled), Some(&now)).unwrap();
        assert_eq!(room, 0, "it is full");
        // It is still there for others: the near side hears of it through here.
        control.write_all(&[1]).unwrap();
        let mut sent = taken;
        while !pump.is_empty() {
            if sent < SIZE {
                sent += pump.write(key, 20, &bytes[sent..]).unwrap();
            } else {
                pump.close(key, 20).unwrap();
            }
            poll(&mut pump);
            while let Some(event) = pump.next_event() {
                if let Event::Closed { reason, unsent, .. } = event {
                    assert_eq!((reason, unsent), (CloseReason::Us, 0));
                }
            }
        }
        // The copy that was looked at: its end is the end of the file.
        drop(inherited.take(21, FdKind::ANY).unwrap());
    });
    for way in WAYS {
        for kind in [FdKind::PIPE, FdKind::STREAM] {
            let (mut reader, writer): (File, OwnedFd) = if kind == FdKind::PIPE {
                let flags = rustix::pipe::PipeFlags::CLOEXEC;
                let (reader, writer) = rustix::pipe::pipe_with(flags).unwrap();
                (reader.into(), writer)
            } else {
                let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
                (OwnedFd::from(ours).into(), theirs.into())
            };
            let mut command = far_side(NAME, way);
            command.fd(0, Null).fd(1, Null).fd(9, SocketPair).fds([20, 21], writer);
            let mut child = command.spawn().unwrap();
            drop(command);
            let mut control = File::from(child.take(9).unwrap());
            assert_eq!(hear(&mut control), 1, "{way}: it went on with nobody reading");
            let mut got = Vec::new();
            reader.read_to_end(&mut got).unwrap();
            assert!(got == pattern(SIZE), "{way}, {kind}: {} bytes", got.len());
            done(child);
        }
    }
}

#[test]
fn a_reader_that_is_gone_is_an_event_and_no_signal() {
    const NAME: &str = "a_reader_that_is_gone_is_an_event_and_no_signal";
    if_far_side(NAME, |way| {
        // SAFETY: no handler of anybody's; Rust's runtime ignores the signal.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let mut inherited = record();
        let ends = [20, 21].map(|fd| inherited.end(fd, FdKind::ANY).unwrap());
        go(way);
        if way.starts_with("control") {
            // Without the pump the signal ends us.
            let writer = ends[0].writer().unwrap();
            let _ = rustix::io::write(writer, b"x");
            return;
        }
        let mut pump = Pump::new();
        let key = pump.attach(ends);
        // At once, and if the hang-up was not noticed before.
        for fd in [20, 21] {
            assert_eq!(pump.write(key, fd, b"to nobody"), Ok(9));
        }
        let mut closed = 0;
        while !pump.is_empty() {
            poll(&mut pump);
            while let Some(event) = pump.next_event() {
                if let Event::Closed { reason, unsent, .. } = event {
                    assert_eq!((reason, unsent), (CloseReason::Peer, 9));
                    closed += 1;
                }
            }
        }
        assert_eq!(closed, 2);
    });
    for way in [WAYS[0], WAYS[1], "control"] {
        let mut command = far_side(NAME, way);
        command.fd(0, Null).fd(1, Null);
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        command.fd(20, writer).fd(21, theirs);
        drop((reader, ours));
        let exit = command.spawn().unwrap().wait().unwrap();
        match way {
            "control" => assert_eq!(exit.signal(), Some(forkplan::Signal::PIPE), "{exit}"),
            _ => assert_done(exit),
        }
    }
}

#[test]
fn a_terminal_that_is_shared_is_pumped_and_its_hang_up_is_the_end() {
    const NAME: &str = "a_terminal_that_is_shared_is_pumped_and_its_hang_up_is_the_end";
    if_far_side(NAME, |way| {
        let mut inherited = record();
        // The three numbers are one open file: the terminal.
        let end = inherited.end(0, FdKind::TERMINAL).unwrap();
        go(way);
        let mut pump = Pump::new();
        let key = pump.attach([end]);
        let mut closed = None;
        while !pump.is_empty() {
            let mut line = Vec::new();
            poll(&mut pump);
            while let Some(event) = pump.next_event() {
                match event {
                    Event::Data { bytes, .. } => line.extend_from_slice(bytes),
                    Event::Closed { reason, .. } => closed = Some(reason),
                    _ => {}
                }
            }
            if !line.is_empty() {
                line.make_ascii_uppercase();
                assert_eq!(pump.write(key, 0, &line), Ok(line.len()));
            }
        }
        assert_eq!(closed, Some(CloseReason::Peer));
    });
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    for way in WAYS {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        let mut command = far_side(NAME, way);
        command.fd(0, slave.as_fd()).fd(1, Null);
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut master = File::from(master);
        for word in ["one", "two", "three"] {
            master.write_all(format!("{word}\n").as_bytes()).unwrap();
            let wanted = format!("{}\r\n", word.to_uppercase());
            let mut got = String::new();
            // The terminal's own echo comes too.
            while !got.ends_with(&wanted) {
                got.push(char::from(hear(&mut master)));
            }
            assert!(!fcntl_getfl(&slave).unwrap().contains(OFlags::NONBLOCK), "{way}");
        }
        drop((master, slave));
        assert_done(child.wait().unwrap());
    }
}

#[test]
fn a_pipe_of_another_user_is_pumped_without_being_opened_anew() {
    const NAME: &str = "a_pipe_of_another_user_is_pumped_without_being_opened_anew";
    if_far_side(NAME, |_| {
        let mut inherited = record();
        let end = inherited.duplex().unwrap();
        assert!(File::open("/proc/self/fd/9").is_err(), "not ours to open");
        let mut pump = Pump::new();
        let key = pump.attach([end]);
        assert_eq!(pump.write(key, 1, MARK), Ok(MARK.len()));
        echo(&mut pump, key);
    });
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can become another user");
        return;
    }
    let mut command = far_side(NAME, "");
    command.fd(0, WritePipe).fd(1, ReadPipe).fd(9, ReadPipe).uid(65534).gid(65534).groups([]);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            eprintln!("SKIPPED: this binary lies where another user can't run it: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let mut to = File::from(child.take(0).unwrap());
    to.write_all(b"from another user").unwrap();
    drop(to);
    let mut got = Vec::new();
    File::from(child.take(1).unwrap()).read_to_end(&mut got).unwrap();
    assert_eq!(strip(&got), b"from another user");
    done(child);
}

#[test]
fn a_named_end_is_known_by_its_name_and_its_number() {
    const NAME: &str = "a_named_end_is_known_by_its_name_and_its_number";
    if_far_side(NAME, |_| {
        let mut inherited = record();
        let end = inherited.end(20, FdKind::STREAM).unwrap().named("control");
        let mut pump = Pump::new();
        let key = pump.attach([end]);
        pump.write(key, "control", b"by name, ").unwrap();
        pump.write(key, 20, b"by number").unwrap();
        pump.close(key, "control").unwrap();
        let mut names = Vec::new();
        while !pump.is_empty() {
            poll(&mut pump);
            while let Some(event) = pump.next_event() {
                if let Event::Closed { channel, .. } = event {
                    names.push(channel.to_string());
                }
            }
        }
        assert_eq!(names, ["control"]);
    });
    let mut command = far_side(NAME, "");
    command.fd(0, Null).fd(1, Null).fd(20, SocketPair);
    let mut child = command.spawn().unwrap();
    let said = std::io::read_to_string(File::from(child.take(20).unwrap())).unwrap();
    assert_eq!(said, "by name, by number");
    done(child);
}
