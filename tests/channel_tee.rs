//! Tees, the default writer, and a table of shorthands.

#![cfg(target_os = "linux")]

#[path = "support/pump.rs"]
mod support;

use std::fs::{self, File};

use forkplan::Channel::{self, Null, ReadPipe, SeqpacketPair, SocketPair, WritePipe};
use forkplan::{ChannelError, Command, Name, Open, PlanError};
use support::{Driver, Seen, alone};

#[test]
fn a_tee_gets_what_is_told_and_its_file_is_closed_with_the_channel() {
    let dir = tempfile::tempdir().unwrap();
    for channel in [ReadPipe, SocketPair, SeqpacketPair] {
        let path = dir.path().join("log");
        fs::write(&path, "before\n").unwrap();
        let mut driver = Driver::new();
        let mut command = Command::new("sh");
        command.args(["-c", "seq 1 20000 >&3"]).fd(3, channel);
        let key = driver.add(&mut command);
        let log = File::options().append(true).open(&path).unwrap();
        driver.pump.tee(key, 3, log).unwrap();
        driver.finish();
        let told = driver.data(key, "3");
        assert!(told.len() > 100_000);
        assert!(fs::read(&path).unwrap() == [b"before\n", told.as_slice()].concat());
    }
}

#[test]
fn a_tee_is_written_at_its_offset_and_a_second_replaces_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| dir.path().join(name));
    let mut driver = Driver::new();
    let mut agent = driver.agent(|command| {
        command.fd(1, ReadPipe);
    });
    let key = agent.key;
    driver.pump.tee(key, 1, File::create(&first).unwrap()).unwrap();
    agent.tell("echo one");
    driver.until(|d| d.data(key, "1") == b"one\n");
    driver.pump.tee(key, 1, File::create(&second).unwrap()).unwrap();
    agent.tell("echo two");
    driver.until(|d| d.data(key, "1") == b"one\ntwo\n");
    assert_eq!(fs::read_to_string(&first).unwrap(), "one\n");
    assert_eq!(fs::read_to_string(&second).unwrap(), "two\n");
    drop(agent);
    driver.finish();
}

#[test]
fn a_tee_that_fails_is_told_once_after_its_data_and_reading_goes_on() {
    alone("a_tee_that_fails_is_told_once_after_its_data_and_reading_goes_on", || {
        // SAFETY: this process is the test's own. Beyond the limit the errno is
        // what counts here, and not the signal.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        let mut driver = Driver::new();
        let mut agent = driver.agent(|command| {
            command.fd(1, ReadPipe);
        });
        let key = agent.key;
        let limit = libc::rlimit { rlim_cur: 6, rlim_max: 6 };
        // SAFETY: reads the limits.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
        driver.pump.tee(key, 1, tempfile::tempfile().unwrap()).unwrap();
        for line in ["one", "two", "three"] {
            agent.tell(&format!("echo {line}"));
            driver.until(|d| d.data(key, "1").ends_with(format!("{line}\n").as_bytes()));
            driver.drain();
        }
        drop(agent);
        driver.finish();
        let of_1 =
            driver.of(key).filter(|seen| matches!(seen, Seen::Data(..) | Seen::TeeFailed(..)));
        let data = |text: &str| Seen::Data("1".into(), text.into());
        let expected = [
            data("one\n"),
            data("two\n"),
            Seen::TeeFailed("1".into(), libc::EFBIG),
            data("three\n"),
        ];
        assert!(of_1.eq(&expected));
    });
}

#[test]
fn what_is_no_regular_file_or_no_reader_is_refused() {
    let mut driver = Driver::new();
    let agent = driver.agent(|command| {
        command.fd(1, ReadPipe).fd(0, WritePipe);
    });
    let key = agent.key;
    let null = || File::options().write(true).open("/dev/null").unwrap();
    assert_eq!(driver.pump.tee(key, 1, null()), Err(ChannelError::NoFile));
    let (_reader, writer) = rustix::pipe::pipe().unwrap();
    assert_eq!(driver.pump.tee(key, 1, writer), Err(ChannelError::NoFile));
    let file = || tempfile::tempfile().unwrap();
    assert_eq!(driver.pump.tee(key, 0, file()), Err(ChannelError::NotReadable));
    assert_eq!(driver.pump.tee(key, 7, file()), Err(ChannelError::NoChannel));
    drop(agent);
    driver.finish();
    assert_eq!(driver.pump.tee(key, 1, file()), Err(ChannelError::NoChild));
}

#[test]
fn the_default_writer_is_the_one_that_was_named_or_the_childs_stdin() {
    let mut driver = Driver::new();
    let script = "read -r a <&0; read -r b <&4; echo $a $b";
    let mut command = Command::new("sh");
    command.args(["-c", script]).fd(0, WritePipe).channel("more", WritePipe, [4]).fd(1, ReadPipe);
    let one = driver.add(&mut command);
    let two = driver.add(command.default_writer("more"));
    let three = driver.add(command.default_writer(4));
    for (key, name, other) in
        [(one, Name::Fd(0), 4), (two, Name::Text("more"), 0), (three, Name::Text("more"), 0)]
    {
        assert_eq!(driver.pump.child(key).unwrap().default_writer(), Some(name));
        assert_eq!(driver.pump.write_default(key, b"default\n"), Ok(8));
        assert_eq!(driver.pump.write(key, other, b"other\n"), Ok(6));
    }
    driver.finish();
    assert_eq!(driver.data(one, "1"), b"default other\n");
    assert_eq!(driver.data(two, "1"), b"other default\n");
    assert_eq!(driver.data(three, "1"), b"other default\n");
    assert_eq!(driver.pump.write_default(one, b"x"), Err(ChannelError::NoChild));
}

#[test]
fn a_child_without_a_writer_on_0_has_no_default_one() {
    let mut driver = Driver::new();
    let key = driver.add(Command::new("true").fd(0, Null).fd(1, ReadPipe).fd(3, WritePipe));
    assert_eq!(driver.pump.child(key).unwrap().default_writer(), None);
    assert_eq!(driver.pump.write_default(key, b"x"), Err(ChannelError::NoChannel));
    driver.finish();
}

#[test]
fn a_default_writer_that_is_none_is_refused_when_the_command_is_prepared() {
    let mut command = Command::new("true");
    command.fd(0, Null).channel("read", ReadPipe, [1]).fd(5, WritePipe);
    for (name, words) in
        [(Name::Text("read"), "read"), (0.into(), "0"), (9.into(), "9"), ("5".into(), "5")]
    {
        let error = command.default_writer(name).prepare().unwrap_err();
        assert_eq!(error, PlanError::BadDefaultWriter { name: words.into() });
    }
    command.default_writer(5).prepare().unwrap();
}

/// The shorthands of the table at `Channel`, by what the child finds.
#[test]
fn each_shorthand_is_what_the_table_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "given").unwrap();
    let mut driver = Driver::new();
    let passed = File::open(&path).unwrap();
    let mut command = Command::new("sh");
    let script = "cat <&4 >&5; echo both; echo of them >&2; read -r x <&7; echo $x >&7; echo a >&8";
    command.args(["-c", script]);
    // {name: 'r'}, {name: 'w'}, {name: int}, {name: instance}, and a tuple.
    command.fd(5, ReadPipe).fd(4, Channel::borrowed(&passed));
    command.fds([1, 2], ReadPipe).channel("talk", SocketPair, [7, 6]);
    command.fd(0, WritePipe).fd(8, Channel::file(&path, Open::Append));
    command.default_writer("talk");
    let key = driver.add(&mut command);
    driver.pump.write_default(key, b"said\n").unwrap();
    driver.finish();
    assert_eq!(driver.data(key, "5"), b"given");
    assert_eq!(driver.data(key, "1"), b"both\nof them\n");
    assert_eq!(driver.data(key, "talk"), b"said\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "givena\n");
}
