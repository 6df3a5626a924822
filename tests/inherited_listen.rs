//! Sockets handed over by `LISTEN_FDS`: to whom they are given, under which names,
//! and what makes no sense. The far side is this binary, run by the crate.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use forkplan::Channel::{Null, ReadPipe, SocketPair};
use forkplan::{Channel, Child, FdKind, Inherited, InheritedError};
use rustix::io::{FdFlags, fcntl_getfd};
use support::{assert_done, far_side, file_of, if_far_side, with_fd};

fn record() -> Inherited {
    // SAFETY: the test is the first that runs here of what opens anything, but for
    // the harness, which has opened nothing that it keeps.
    unsafe { Inherited::new() }.unwrap()
}

fn done(mut child: Child) {
    assert_done(child.wait().unwrap());
}

#[test]
fn listen_fds_are_handed_over_once_with_their_names_and_to_nobody_after() {
    const NAME: &str = "listen_fds_are_handed_over_once_with_their_names_and_to_nobody_after";
    if_far_side(NAME, |_| {
        let inodes = [3, 4].map(|fd| file_of(with_fd(fd)).1);
        let mut inherited = record();
        let sockets = inherited.listen_fds().unwrap();
        let again = inherited.listen_fds().unwrap_err();
        assert_eq!(again, InheritedError::TakenAlready { fd: 3 });
        let names: Vec<&str> = sockets.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["echo", "with space"]);
        let mut shell = Command::new("sh");
        let said = shell.args(["-c", "readlink /proc/$$/fd/*"]).output().unwrap().stdout;
        let said = String::from_utf8(said).unwrap();
        for ((name, fd), inode) in sockets.into_iter().zip(inodes) {
            assert_eq!(fcntl_getfd(&fd), Ok(FdFlags::CLOEXEC));
            assert_eq!(FdKind::of(&fd).unwrap(), FdKind::LISTENER);
            assert!(!said.contains(&format!("socket:[{inode}]")), "{said}");
            let (mut client, _) = TcpListener::from(fd).accept().unwrap();
            client.write_all(name.as_bytes()).unwrap();
        }
        // The control: a socket that was not taken is inherited.
        assert!(said.contains("socket:["), "{said}");
    });
    let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let named = ["echo", "with space"].into_iter().zip(listeners.iter().map(Channel::borrowed));
    let mut command = far_side(NAME, "");
    command.fd(0, Null).fd(1, Null).listen_fds(named).fd(20, SocketPair);
    let child = command.spawn().unwrap();
    for (listener, name) in listeners.iter().zip(["echo", "with space"]) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(std::io::read_to_string(client).unwrap(), name);
    }
    done(child);
}

#[test]
fn listen_fds_of_another_process_are_left_alone() {
    const NAME: &str = "listen_fds_of_another_process_are_left_alone";
    if_far_side(NAME, |case| {
        let mut inherited = record();
        assert_eq!(inherited.listen_fds().unwrap().len(), if case == "ours" { 1 } else { 0 });
        assert_eq!(inherited.numbers().any(|number| number == 3), case != "ours");
    });
    // The control is the last.
    for case in ["another", "no pid", "no count", "none", "ours"] {
        let mut command = far_side(NAME, case);
        command.fd(0, Null).fd(1, Null).fd(3, ReadPipe);
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            command.env_remove(name);
        }
        match case {
            "another" => command.env("LISTEN_PID", "1").env("LISTEN_FDS", "1"),
            "no pid" => command.env("LISTEN_FDS", "1"),
            "no count" => command.env_pid("LISTEN_PID"),
            "ours" => command.env_pid("LISTEN_PID").env("LISTEN_FDS", "1"),
            _ => &mut command,
        };
        done(command.spawn().unwrap());
    }
}

#[test]
fn listen_fds_that_make_no_sense_are_an_error_and_nothing_is_taken() {
    const NAME: &str = "listen_fds_that_make_no_sense_are_an_error_and_nothing_is_taken";
    if_far_side(NAME, |case| {
        let mut inherited = record();
        let refused = inherited.listen_fds().unwrap_err();
        assert_eq!(refused.to_string(), case);
        assert_eq!(inherited.numbers().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 6]);
        drop(inherited.take(3, FdKind::PIPE).unwrap());
    });
    const COUNT: &str = "not a number of fds";
    const NAMES: &str = "not as many names as LISTEN_FDS says";
    let cases = [
        ("two", None, format!("LISTEN_FDS=\"two\": {COUNT}")),
        ("", None, format!("LISTEN_FDS=\"\": {COUNT}")),
        ("-1", None, format!("LISTEN_FDS=\"-1\": {COUNT}")),
        ("2147483647", None, "LISTEN_FDS=\"2147483647\": too many".into()),
        ("2", Some("a"), format!("LISTEN_FDNAMES=\"a\": {NAMES}")),
        ("2", Some("a:b:c"), format!("LISTEN_FDNAMES=\"a:b:c\": {NAMES}")),
        ("3", Some("a:b:c"), "fd 5 is not open".into()),
        ("2000000000", None, "fd 5 is not open".into()),
    ];
    for (count, names, said) in cases {
        let mut command = far_side(NAME, said);
        command.fd(0, Null).fd(1, Null).fd(3, ReadPipe).fd(4, ReadPipe).fd(6, ReadPipe);
        command.env_remove("LISTEN_FDNAMES").env_pid("LISTEN_PID").env("LISTEN_FDS", count);
        names.map(|names| command.env("LISTEN_FDNAMES", names));
        done(command.spawn().unwrap());
    }
}

#[test]
fn listen_fds_are_not_handed_over_when_one_was_taken() {
    const NAME: &str = "listen_fds_are_not_handed_over_when_one_was_taken";
    if_far_side(NAME, |_| {
        let mut inherited = record();
        let mut taken = File::from(inherited.take(4, FdKind::STREAM).unwrap());
        let refused = inherited.listen_fds().unwrap_err();
        assert_eq!(refused, InheritedError::TakenAlready { fd: 4 });
        // And 3 may still be asked for.
        drop(inherited.take(3, FdKind::STREAM).unwrap());
        taken.write_all(b"mine").unwrap();
    });
    let mut command = far_side(NAME, "");
    command.fd(0, Null).fd(1, Null).listen_fds([("a", SocketPair), ("b", SocketPair)]);
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    File::from(child.take(4).unwrap()).read_to_string(&mut said).unwrap();
    assert_eq!(said, "mine");
    done(child);
}
