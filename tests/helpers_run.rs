//! One command, or a few: `status`, `output`, `communicate`, waiting.

mod support;

use core::time::Duration;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::process::ExitStatusExt;

use forkplan::{
    Channel::{self, *},
    ChannelError, CloseReason, Command, Ladder, Signal, SpawnError, wait_all, wait_any,
};
use support::{in_subprocess, no_child_is_left};

/// Nothing here comes near it.
const LONG: Duration = Duration::from_secs(300);
/// For what is to be seen to be over.
const SHORT: Duration = Duration::from_millis(100);

fn sh(script: &str) -> Command<'static> {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// More than any pipe and any queue holds.
fn much() -> Vec<u8> {
    (0..3_000_000u32).map(|i| (i % 251) as u8).collect()
}

#[test]
fn status_shares_the_parents_stdio_and_tells_the_exit() {
    let same = "for fd in 0 1 2; do \
                [ \"$(readlink /proc/self/fd/$fd)\" = \"$(readlink /proc/$PPID/fd/$fd)\" ] || exit 1; \
                done";
    // In a substitution 1 is the pipe of that.
    let same = same.replace("/proc/self/", "/proc/$$/");
    assert_eq!(sh(&same).status().unwrap().code(), Some(0));
    assert_eq!(sh(&same).stdout(Null).status().unwrap().code(), Some(1), "control");
    assert_eq!(sh("kill -9 $$").status().unwrap().signal(), Some(Signal::KILL));
}

#[test]
fn status_reads_what_nobody_wants_and_closes_what_nobody_writes() {
    // Would fill the pipe, and wait for the end of 0, if nobody did.
    let exit = sh("head -c 3000000 /dev/zero >&7; cat").stdin(WritePipe).fd(7, ReadPipe).status();
    assert!(exit.unwrap().success());
}

#[test]
fn output_has_no_input_and_keeps_large_outputs_apart() {
    let script = "cat; head -c 2000000 /dev/zero; head -c 1000000 /dev/zero >&2; exit 3";
    let output = sh(script).output().unwrap();
    assert_eq!(output.exit.code(), Some(3));
    assert_eq!((output.stdout.len(), output.stderr.len()), (2_000_000, 1_000_000));
}

#[test]
fn output_takes_what_the_command_says_and_fills_in_the_rest() {
    // A map of one fd leaves 0, 1 and 2 to the call.
    let output = sh("echo $(cat) to 5 >&5; echo out").fd(5, Null).output().unwrap();
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b""[..]));
    let output = sh("echo out; echo err >&2").fds([1, 2], ReadPipe).output().unwrap();
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\nerr\n"[..], &b""[..]));
    let output = sh("cat; echo gone").fd(1, Null).stdin(Channel::bytes("x")).output().unwrap();
    assert_eq!(output.stdout, b"");
    // It can be run again.
    let mut command = sh("cat");
    command.stdin(Channel::bytes("twice"));
    for _ in 0..2 {
        assert_eq!(command.output().unwrap().stdout, b"twice");
    }
}

#[test]
fn large_inputs_and_outputs_pass_each_other_on_several_channels() {
    let much = much();
    let captured = sh("cat <&3 >&4 & cat; wait")
        .fd(3, WritePipe)
        .fd(4, ReadPipe)
        .channel("talk", SocketPair, [0, 1])
        .communicate(&much)
        .input(3, &much)
        .run()
        .unwrap();
    assert!(captured.exit.success());
    assert!(captured.stdout() == much && captured.channel(4).unwrap().bytes == much);
    assert!(captured.channel("talk").unwrap().bytes == much, "by its name too");
    assert_eq!(captured.channels().map(|(_, channel)| channel.unsent).sum::<usize>(), 0);
    assert!(!captured.truncated() && !captured.abandoned() && !captured.timed_out);
}

#[test]
fn input_that_nobody_reads_is_counted_and_no_error() {
    let much = much();
    let captured = sh("head -c 1000 | wc -c").communicate(&much).run().unwrap();
    assert!(captured.exit.success());
    assert_eq!(captured.stdout().trim_ascii(), b"1000");
    let stdin = captured.channel(0).unwrap();
    // What lay in the pipe was written, read or not.
    assert!(stdin.unsent > 0 && stdin.unsent <= much.len() - 1000, "{}", stdin.unsent);
    let all = sh("cat >/dev/null").communicate(&much).run().unwrap();
    assert_eq!(all.channel(0).unwrap().unsent, 0, "control");
}

#[test]
fn input_for_what_is_no_input_is_refused_before_anything_is_spawned() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("touch");
    command.arg(dir.path().join("ran")).fd(5, ReadPipe).channel("in", WritePipe, [6]);
    let refused = |error: std::io::Error| -> ChannelError {
        *error.get_ref().unwrap().downcast_ref().unwrap()
    };
    for (name, why) in [(7, ChannelError::NoChannel), (5, ChannelError::NotWritable)] {
        let error = command.communicate("").input(name, "x").run().unwrap_err();
        assert_eq!(refused(error), why);
    }
    let error = command.communicate("").input("none", "x").run().unwrap_err();
    assert_eq!(refused(error), ChannelError::NoChannel);
    let error = command.clone().stdin(Null).communicate("x").run().unwrap_err();
    assert_eq!(refused(error), ChannelError::NoChannel);
    assert!(!dir.path().join("ran").exists());
    assert!(command.communicate("x").input("in", "y").run().unwrap().exit.success(), "control");
    assert!(dir.path().join("ran").exists());
}

#[test]
fn large_output_is_the_same_in_huge_pages() {
    let input: Vec<u8> = much().iter().copied().cycle().take(9_000_000).collect();
    for huge in [false, true] {
        let captured = Command::new("cat").communicate(&input).huge_pages(huge).run().unwrap();
        assert!(captured.stdout() == input, "huge pages {huge}");
    }
}

#[test]
fn what_is_beyond_a_limit_is_read_counted_and_dropped() {
    let script = "head -c 2000000 /dev/zero; printf abcdef >&2; printf ghi >&5";
    let captured =
        sh(script).fd(5, ReadPipe).communicate("").limit(4).limit_of(5, 3).run().unwrap();
    // The child was never stopped by it.
    assert!(captured.exit.success() && captured.truncated());
    let of = |fd| captured.channel(fd).map(|channel| (channel.bytes.len(), channel.dropped));
    assert_eq!((of(1), of(2), of(5)), (Some((4, 1_999_996)), Some((4, 2)), Some((3, 0))));
    assert_eq!(captured.stderr(), b"abcd");
}

#[test]
fn a_child_that_is_stopped_leaves_what_it_has_said() {
    // The deadline may come before a word: so it is as far as a pipe shows.
    for after in [10, 100, 1_000, 10_000, 100_000].map(Duration::from_millis) {
        let command = sh("echo partial; exec sleep 1000");
        let captured = command.communicate("").timeout(after, Ladder::kill()).run().unwrap();
        assert!(captured.timed_out);
        assert_eq!(captured.exit.signal(), Some(Signal::KILL));
        if captured.stdout() == b"partial\n" {
            assert_eq!(captured.channel(1).unwrap().closed, CloseReason::Peer);
            return;
        }
    }
    panic!("not a word in 100 seconds");
}

#[test]
fn a_child_that_ends_in_time_has_not_timed_out() {
    let captured = sh("echo all").communicate("").timeout(LONG, Ladder::kill()).run().unwrap();
    assert!(!captured.timed_out && captured.exit.success());
    assert_eq!(captured.stdout(), b"all\n");
}

/// A grandchild that holds 1 until the end of what it reads, which the parent has.
fn held(script: &str) -> (Command<'static>, File) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let mut command = sh(&format!("cat <&9 & exec 9<&-; {script}"));
    command.fd(9, Channel::give(reader));
    (command, File::from(writer))
}

#[test]
fn a_grandchild_that_holds_a_pipe_is_left_when_the_drain_limit_is_over() {
    let (command, _writer) = held("echo said");
    let captured = command.communicate("").drain_limit(SHORT).run().unwrap();
    assert!(captured.exit.success() && captured.abandoned() && !captured.timed_out);
    assert_eq!(captured.stdout(), b"said\n");
    assert_eq!(captured.channel(1).unwrap().closed, CloseReason::Abandoned);
}

#[test]
fn a_grandchild_that_holds_a_pipe_is_left_when_the_time_is_over() {
    // Neither the kill of a child reaches it, nor the exit of one.
    for (script, code) in [("echo said", Some(0)), ("echo said; exec sleep 1000", None)] {
        let (command, _writer) = held(script);
        let captured = command.communicate("").timeout(SHORT, Ladder::kill()).run().unwrap();
        // Where the machine is slow, the first is killed too.
        assert!(captured.exit.code() == code || captured.exit.signal() == Some(Signal::KILL));
        assert!(captured.timed_out);
    }
}

#[test]
fn a_spawn_that_fails_is_the_error_inside() {
    for error in [
        Command::new("/bin/nope").status().unwrap_err(),
        Command::new("/bin/nope").output().unwrap_err(),
        Command::new("/bin/nope").communicate("x").run().unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let spawn = error.get_ref().unwrap().downcast_ref::<SpawnError>().unwrap();
        assert_eq!(spawn.description(), Some("execve \"/bin/nope\""));
    }
}

#[test]
fn wait_all_closes_the_inputs_of_all_before_it_waits_for_one() {
    // The first waits for the end of the second, which waits for us.
    let (writer, reader) = Channel::connected().unwrap();
    let second = Command::new("cat").fd(0, WritePipe).fd(1, writer).spawn().unwrap();
    let first = Command::new("cat").fd(0, reader).fd(1, Null).spawn().unwrap();
    let exits = wait_all(&mut [first, second]).unwrap();
    assert!(exits.len() == 2 && exits.iter().all(|exit| exit.success()));
    assert_eq!(wait_all(&mut []).unwrap(), []);
}

#[test]
fn wait_any_tells_who_ended_and_closes_nothing() {
    let cat = || Command::new("cat").fd(0, WritePipe).fd(1, ReadPipe).spawn().unwrap();
    let mut children = vec![cat(), cat(), cat()];
    assert_eq!(wait_any(&mut children, Some(Duration::ZERO)).unwrap(), None);
    drop(children[1].take(0));
    let (index, exit) = wait_any(&mut children, None).unwrap().unwrap();
    assert!(index == 1 && exit.success());
    assert!(children[0].end(0).is_some() && children[2].end(0).is_some());
    children.remove(1);
    drop(children[1].take(0));
    assert_eq!(wait_any(&mut children, Some(LONG)).unwrap().unwrap().0, 1);
    children.remove(1);
    // It runs, and can be talked to.
    rustix::io::write(children[0].end(0).unwrap(), b"x").unwrap();
    let mut byte = [0];
    let mut from = File::from(children[0].take(1).unwrap());
    from.read_exact(&mut byte).unwrap();
    assert_eq!(wait_all(&mut children).unwrap()[0].status().unwrap().into_raw(), 0);
    assert_eq!(wait_any(&mut [], None).unwrap(), None);
}

#[test]
fn wait_any_looks_again_and_again_where_there_are_no_pidfds() {
    let mut command = Command::new("sleep");
    command.fd(0, Null).without(forkplan::Features::PIDFD);
    let mut children =
        [command.arg("1000").spawn().unwrap(), command.clone().arg("-").spawn().unwrap()];
    let (index, exit) = wait_any(&mut children, None).unwrap().unwrap();
    assert!(index == 1 && !exit.success(), "{exit}");
    children[0].kill().unwrap();
    assert_eq!(children[0].wait().unwrap().signal(), Some(Signal::KILL));
}

#[test]
fn calls_leave_no_child_and_no_fd() {
    in_subprocess("calls_leave_no_child_and_no_fd", || {
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        sh("exit 1").status().unwrap();
        sh("echo x").output().unwrap();
        Command::new("/bin/nope").output().unwrap_err();
        let hung = sh("exec sleep 1000");
        let captured = hung.communicate("").timeout(SHORT, Ladder::kill()).run().unwrap();
        assert!(captured.timed_out);
        assert!(no_child_is_left());
        assert_eq!(open(), before);
    });
}
