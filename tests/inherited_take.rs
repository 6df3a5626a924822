//! What a program takes of the fds that it was started with: each kind as what it
//! is, each once, and nothing else. The far side of each test is this binary, run
//! by the crate with the fds that the test plans.

mod support;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use forkplan::Channel::{Null, ReadPipe, SocketPair, WritePipe};
use forkplan::{Channel, Child, FdKind, Inherited, InheritedError};
use rustix::io::{FdFlags, fcntl_getfd};
use support::{
    assert_done, far_side, far_side_without_stderr, file_of, if_far_side, seccomp, with_fd,
};

fn record() -> Inherited {
    // SAFETY: the test is the first that runs here of what opens anything, but for
    // the harness, which has opened nothing that it keeps.
    unsafe { Inherited::new() }.unwrap()
}

fn done(mut child: Child) {
    assert_done(child.wait().unwrap());
}

/// Which kind each number is that the near side gives.
const KINDS: [(i32, FdKind); 13] = [
    (3, FdKind::PIPE_WRITER),
    (4, FdKind::PIPE_READER),
    (5, FdKind::STREAM),
    (6, FdKind::TERMINAL),
    (7, FdKind::FILE),
    (8, FdKind::NULL),
    (9, FdKind::DIRECTORY),
    (10, FdKind::LISTENER),
    (11, FdKind::DATAGRAM),
    (12, FdKind::SEQPACKET),
    (13, FdKind::DEVICE),
    (14, FdKind::OTHER),
    (15, FdKind::PIPE),
];

fn open(path: &str) -> OwnedFd {
    File::open(path).unwrap().into()
}

fn terminal() -> (OwnedFd, OwnedFd) {
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    (master, slave)
}

#[test]
fn each_kind_is_taken_as_what_it_is_and_as_nothing_else() {
    const NAME: &str = "each_kind_is_taken_as_what_it_is_and_as_nothing_else";
    if_far_side(NAME, |_| {
        let mut inherited = record();
        let all: BTreeSet<i32> = inherited.numbers().collect();
        assert_eq!(all, (0..16).collect());
        for (fd, kind) in KINDS {
            assert_eq!(inherited.kind(fd), Ok(kind), "{fd}");
            for expected in FdKind::ANY.iter().filter(|other| !kind.intersects(*other)) {
                let refused = inherited.take(fd, expected).unwrap_err();
                assert_eq!(refused, InheritedError::WrongKind { fd, expected, found: kind });
            }
            assert_eq!(fcntl_getfd(with_fd(fd)), Ok(FdFlags::empty()), "not touched yet");
            let taken = inherited.take(fd, kind | FdKind::DEVICE).unwrap();
            assert_eq!(taken.as_raw_fd(), fd);
            assert_eq!(fcntl_getfd(&taken), Ok(FdFlags::CLOEXEC));
            assert_eq!(FdKind::of(&taken).unwrap(), kind);
            let again = Err(InheritedError::TakenAlready { fd });
            assert_eq!(inherited.take(fd, FdKind::ANY).map(drop), again);
            assert_eq!(inherited.kind(fd).map(drop), again);
            drop(taken);
            assert_eq!(inherited.take(fd, FdKind::ANY).map(drop), again, "closed by its owner");
            assert!(!inherited.numbers().any(|number| number == fd));
        }
    });
    use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let both = rustix::fs::open(&fifo, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let (_master, slave) = terminal();
    let (unix, seqpacket) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let (packets, _theirs) = socketpair(unix, seqpacket, SocketFlags::CLOEXEC, None).unwrap();
    let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
    let mut command = far_side(NAME, "");
    command.fd(0, Null).fd(1, Null).fd(3, ReadPipe).fd(4, WritePipe).fd(5, SocketPair);
    command.fd(6, slave).fd(7, open("/proc/self/exe")).fd(8, Null).fd(9, open("/"));
    command.fd(10, TcpListener::bind("127.0.0.1:0").unwrap());
    command.fd(11, UnixDatagram::unbound().unwrap()).fd(12, packets).fd(13, open("/dev/zero"));
    done(command.fd(14, event).fd(15, both).spawn().unwrap());
}

#[test]
fn what_is_closed_or_was_opened_by_the_program_is_refused() {
    const NAME: &str = "what_is_closed_or_was_opened_by_the_program_is_refused";
    if_far_side(NAME, |_| {
        // Marked close-on-exec: exec would have closed it.
        let before = File::open("/dev/null").unwrap();
        let mut inherited = record();
        let marked = File::open("/dev/null").unwrap();
        let unmarked = rustix::io::dup(&marked).unwrap();
        for own in [before.as_raw_fd(), marked.as_raw_fd(), unmarked.as_raw_fd()] {
            let refused = inherited.take(own, FdKind::ANY).unwrap_err();
            assert_eq!(refused, InheritedError::NotInherited { fd: own });
            assert_eq!(inherited.end(own, FdKind::ANY).map(drop), Err(refused));
        }
        for fd in [i32::MIN, -1, 899, i32::MAX] {
            let refused = inherited.take(fd, FdKind::ANY).unwrap_err();
            assert_eq!(refused, InheritedError::NotOpen { fd });
        }
        // A number that was opened where an inherited one had been is another's.
        drop(inherited.take(5, FdKind::STREAM).unwrap());
        let next = rustix::io::fcntl_dupfd_cloexec(&marked, 5).unwrap();
        assert_eq!(next.as_raw_fd(), 5);
        let refused = inherited.take(5, FdKind::ANY).unwrap_err();
        assert_eq!(refused, InheritedError::TakenAlready { fd: 5 });
        let numbers: Vec<i32> = inherited.numbers().collect();
        assert_eq!(numbers, [0, 1, 2]);
    });
    done(far_side(NAME, "").fd(0, Null).fd(1, Null).fd(5, SocketPair).spawn().unwrap());
}

#[test]
fn control_an_unmarked_fd_that_was_open_at_the_record_is_taken_for_inherited() {
    const NAME: &str = "control_an_unmarked_fd_that_was_open_at_the_record_is_taken_for_inherited";
    if_far_side(NAME, |_| {
        let own = rustix::io::dup(File::open("/dev/null").unwrap()).unwrap();
        let number = own.as_raw_fd();
        // Given up, as the contract of the record has it.
        core::mem::forget(own);
        let mut inherited = record();
        assert_eq!(inherited.take(number, FdKind::NULL).unwrap().as_raw_fd(), number);
    });
    done(far_side(NAME, "").fd(0, Null).fd(1, Null).spawn().unwrap());
}

#[test]
fn there_is_one_record_in_a_program() {
    const NAME: &str = "there_is_one_record_in_a_program";
    if_far_side(NAME, |_| {
        let mut inherited = record();
        // SAFETY: it is refused, which is what is tested.
        let second = unsafe { Inherited::new() };
        assert_eq!(second.map(drop), Err(InheritedError::Recorded));
        drop(inherited.take(3, FdKind::PIPE).unwrap());
        drop(inherited);
        // SAFETY: as above.
        let third = unsafe { Inherited::new() };
        assert_eq!(third.map(drop), Err(InheritedError::Recorded));
    });
    done(far_side(NAME, "").fd(0, Null).fd(1, Null).fd(3, ReadPipe).spawn().unwrap());
}

#[test]
fn without_proc_and_dev_null_the_record_is_made_and_0_stays_to_be_taken() {
    const NAME: &str = "without_proc_and_dev_null_the_record_is_made_and_0_stays_to_be_taken";
    if_far_side(NAME, |_| {
        seccomp::install(&seccomp::no_open(libc::ENOENT));
        let mut inherited = record();
        let numbers: Vec<i32> = inherited.numbers().collect();
        assert_eq!(numbers, [0, 1, 2, 7]);
        drop(inherited.take(7, FdKind::PIPE_WRITER).unwrap());
        let refused = inherited.take(0, FdKind::PIPE).unwrap_err();
        assert_eq!(refused, InheritedError::Errno { fd: Some(0), errno: libc::ENOENT });
        assert_eq!(inherited.kind(0), Ok(FdKind::PIPE_READER), "it is where it was");
    });
    done(far_side(NAME, "").fd(0, WritePipe).fd(1, Null).fd(7, ReadPipe).spawn().unwrap());
}

#[test]
fn the_numbers_0_1_and_2_stay_occupied_when_they_are_taken() {
    const NAME: &str = "the_numbers_0_1_and_2_stay_occupied_when_they_are_taken";
    if_far_side(NAME, |_| {
        let mut inherited = record();
        let [mut stdin, mut stdout, mut stderr] =
            [0, 1, 2].map(|fd| File::from(inherited.take(fd, FdKind::PIPE).unwrap()));
        for (taken, fd) in [&stdin, &stdout, &stderr].into_iter().zip(0..) {
            assert!(taken.as_raw_fd() > 2);
            assert_eq!(fcntl_getfd(taken), Ok(FdFlags::CLOEXEC));
            assert_eq!(FdKind::of(with_fd(fd)).unwrap(), FdKind::NULL);
            // What the program runs finds the three open.
            assert_eq!(fcntl_getfd(with_fd(fd)), Ok(FdFlags::empty()));
            let again = inherited.take(fd, FdKind::ANY).unwrap_err();
            assert_eq!(again, InheritedError::TakenAlready { fd });
        }
        // Goes nowhere, and fails nowhere.
        println!("to nobody");
        eprintln!("to nobody");
        let mut nothing = String::new();
        assert_eq!(std::io::stdin().read_line(&mut nothing).unwrap(), 0);
        let mut said = String::new();
        stdin.read_to_string(&mut said).unwrap();
        stdout.write_all(format!("MARK{said} on 1").as_bytes()).unwrap();
        stderr.write_all(format!("MARK{said} on 2").as_bytes()).unwrap();
    });
    let mut command = far_side_without_stderr(NAME, "");
    let mut child = command.fd(0, WritePipe).fd(1, ReadPipe).fd(2, ReadPipe).spawn().unwrap();
    let mut stdin = File::from(child.take(0).unwrap());
    stdin.write_all(b"hello").unwrap();
    drop(stdin);
    for fd in [1, 2] {
        let said = std::io::read_to_string(File::from(child.take(fd).unwrap())).unwrap();
        let after = said.split_once("MARK").expect("the far side's words").1;
        assert_eq!(after, format!("hello on {fd}"));
    }
    done(child);
}

// What is at 0 afterwards is not the pipe: else its writer would wait for ever to
// learn that nobody reads.
#[test]
fn dropping_what_was_0_is_the_end_of_the_pipe_for_its_writer() {
    const NAME: &str = "dropping_what_was_0_is_the_end_of_the_pipe_for_its_writer";
    if_far_side(NAME, |_| {
        let mut inherited = record();
        drop(inherited.take(0, FdKind::PIPE_READER).unwrap());
        let mut wait = File::from(inherited.take(3, FdKind::STREAM).unwrap());
        wait.write_all(b"dropped").unwrap();
        assert_eq!(wait.read(&mut [0; 8]).unwrap(), 0);
    });
    let mut command = far_side(NAME, "");
    let mut child = command.fd(0, WritePipe).fd(1, Null).fd(3, SocketPair).spawn().unwrap();
    let mut wait = File::from(child.take(3).unwrap());
    let mut word = [0; 7];
    wait.read_exact(&mut word).unwrap();
    let mut stdin = File::from(child.take(0).unwrap());
    let broken = stdin.write_all(b"x").unwrap_err();
    assert_eq!(broken.raw_os_error(), Some(libc::EPIPE));
    drop(wait);
    done(child);
}

#[test]
fn what_std_puts_at_a_closed_number_is_found_as_the_null_device() {
    const NAME: &str = "what_std_puts_at_a_closed_number_is_found_as_the_null_device";
    if_far_side(NAME, |_| {
        let mut inherited = record();
        for fd in [0, 1] {
            assert_eq!(inherited.kind(fd), Ok(FdKind::NULL));
            let refused = inherited.take(fd, FdKind::PIPE | FdKind::FILE).unwrap_err();
            assert!(refused.to_string().ends_with("a file but /dev/null"), "{refused}");
        }
        let refused = inherited.duplex().unwrap();
        assert!(refused.reader().is_some() && refused.writer().is_some());
    });
    done(far_side(NAME, "").spawn().unwrap());
}

#[test]
fn what_was_taken_is_inherited_by_nobody_and_the_rest_is_as_it_was() {
    const NAME: &str = "what_was_taken_is_inherited_by_nobody_and_the_rest_is_as_it_was";
    if_far_side(NAME, |_| {
        let mut inherited = record();
        let [taken, end, stdin, left] = [3, 4, 0, 5].map(|fd| file_of(with_fd(fd)).1);
        let _taken = inherited.take(3, FdKind::PIPE).unwrap();
        let _end = inherited.end(4, FdKind::PIPE).unwrap();
        let _stdin = inherited.take(0, FdKind::PIPE).unwrap();
        // std closes nothing in what it starts.
        let mut shell = Command::new("sh");
        shell.args(["-c", "readlink /proc/$$/fd/*"]);
        let said = shell.stderr(Stdio::inherit()).output().unwrap().stdout;
        let said = String::from_utf8(said).unwrap();
        let has = |inode: u64| said.lines().any(|line| line == format!("pipe:[{inode}]"));
        assert!(!has(taken) && !has(end) && !has(stdin), "{said}");
        // The control: what was not taken is still there.
        assert!(has(left), "{said}");
    });
    let mut command = far_side(NAME, "");
    command.fd(0, WritePipe).fd(1, Null).fd(3, ReadPipe).fd(4, ReadPipe).fd(5, ReadPipe);
    let child = command.spawn().unwrap();
    done(child);
}

#[test]
fn an_end_has_to_have_a_stream_and_stays_to_be_taken_if_it_has_none() {
    const NAME: &str = "an_end_has_to_have_a_stream_and_stays_to_be_taken_if_it_has_none";
    if_far_side(NAME, |_| {
        let mut inherited = record();
        let refused = inherited.end(3, FdKind::ANY).unwrap_err();
        assert!(matches!(refused, InheritedError::NoEnd { fd: 3, .. }), "{refused}");
        assert!(std::error::Error::source(&refused).is_some());
        assert_eq!(inherited.take(3, FdKind::DIRECTORY).unwrap().as_raw_fd(), 3);
        // 0 is for writing here, 1 for reading.
        let refused = inherited.duplex().unwrap_err();
        assert!(matches!(refused, InheritedError::NoEnd { fd: 0, .. }), "{refused}");
        assert_eq!(inherited.kind(0), Ok(FdKind::PIPE_WRITER));
        let writer = inherited.end(0, FdKind::PIPE).unwrap();
        assert!(writer.reader().is_none() && writer.writer().is_some());
    });
    let mut command = far_side(NAME, "");
    let child = command.fd(0, ReadPipe).fd(1, Channel::file("/dev/null", forkplan::Open::Read));
    done(child.fd(3, open("/")).spawn().unwrap());
}
