//! Terminals on any fds, beside other channels, ready before exec; the session
//! that they control; what can't be.

#![cfg(target_os = "linux")]

mod support;

#[path = "support/pty.rs"]
mod pty;

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{self, Stdio};

use forkplan::Channel::{Null, ReadPipe, SocketPair};
use forkplan::plan::Step;
use forkplan::{
    Attributes, Child, Command, ControlCharacter, PassedFd, PlanError, Pty, Terminal, WindowSize,
};
use pty::{pair, read_to_eio};
use rustix::process::{Resource, Rlimit, geteuid, setrlimit};
use support::{EXCLUSIONS, PATHS, in_subprocesses, pause, session_of, terminal_number};

fn sh<'fd>(script: &str) -> Command<'fd> {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// What `program` says on a terminal that is its 0, 1 and 2.
fn said_by(program: &[&str], pty: Pty) -> String {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).fds([0, 1, 2], pty);
    let [fast, forked] = PATHS.map(|without| {
        let mut child = command.clone().without(without).spawn().unwrap();
        let said = read_to_eio(child.take(0).unwrap());
        assert!(child.wait().unwrap().success(), "{said}");
        said
    });
    assert_eq!(fast, forked);
    fast
}

fn terminal_of(child: &Child) -> Terminal<'_> {
    Terminal::of(child.end("terminal").unwrap())
}

fn end(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The terminal's path, and that it is the session's of the child, who leads it
/// and is in the foreground.
fn assert_controls(child: &Child, name: &Path) {
    let pid = child.id().unwrap() as i32;
    let number = terminal_number(&fs::metadata(name).unwrap());
    assert_eq!(session_of(pid), [pid, pid, number, pid]);
}

#[test]
fn a_terminal_is_on_any_fds_beside_pipes_and_sockets() {
    let sets: [&[i32]; 9] =
        [&[0], &[1], &[2], &[0, 1], &[1, 2], &[0, 2], &[0, 1, 2], &[3], &[3, 8, 9]];
    // Which are terminals goes to the pipe, a word to each to the terminal, and
    // another to the socket.
    let script = "for n in 0 1 2 3 4 5 6 7 8 9; do
            if [ -t $n ]; then echo $n >&5; echo to $n >&$n; fi
        done; echo socket >&6";
    for (without, fds) in PATHS.iter().flat_map(|path| sets.map(|fds| (*path, fds))) {
        let mut command = sh(script);
        command.without(without).channel("terminal", Pty::new(), fds.iter().copied());
        command.fd(5, ReadPipe).fd(6, SocketPair).fd(7, Null);
        let mut child = command.spawn().unwrap();
        let numbers: Vec<i32> = fds.to_vec();
        let expected: String = numbers.iter().map(|n| format!("to {n}\r\n")).collect();
        assert_eq!(read_to_eio(child.take("terminal").unwrap()), expected);
        let rest = |child: &mut Child, fd| {
            std::io::read_to_string(fs::File::from(child.take(fd).unwrap())).unwrap()
        };
        let expected: String = numbers.iter().map(|n| format!("{n}\n")).collect();
        assert_eq!(rest(&mut child, 5), expected);
        assert_eq!(rest(&mut child, 6), "socket\n");
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn of_several_terminals_of_one_child_one_controls() {
    for without in PATHS {
        let mut command = Command::new(pause());
        command.without(without);
        command.fd(0, Pty::new().controlling(false)).channel("terminal", Pty::new(), [1, 2]);
        command.fds([3, 4], Pty::new().controlling(false));
        let mut prepared = command.prepare().unwrap();
        let opened = prepared.open().unwrap();
        let names = [0, 1, 3].map(|fd| opened.terminal_name(fd).unwrap());
        let mut child = opened.spawn().unwrap();
        assert_controls(&child, &names[1]);
        let pid = child.id().unwrap();
        for (fd, name) in [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2)] {
            let open = fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
            assert_eq!(open, names[name]);
        }
        assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2]);
        end(&mut child);
    }
}

#[test]
fn a_terminal_that_does_not_control_leaves_the_session_alone() {
    let mine = session_of(process::id() as i32);
    for without in PATHS {
        let mut command = Command::new(pause());
        command.without(without).fds([0, 1, 2], Pty::new().controlling(false));
        let mut child = command.spawn().unwrap();
        assert_eq!(session_of(child.id().unwrap() as i32), mine);
        assert_eq!(Terminal::of(child.end(0).unwrap()).foreground_group().unwrap(), None);
        end(&mut child);
    }
}

#[test]
fn the_program_finds_the_terminal_under_the_name_that_was_told_before() {
    for without in PATHS {
        let mut command = Command::new("tty");
        command.without(without).channel("terminal", Pty::new(), [0, 1]);
        let mut prepared = command.prepare().unwrap();
        let opened = prepared.open().unwrap();
        let name = opened.terminal_name("terminal").unwrap();
        assert_eq!(opened.terminal_name(1).unwrap(), name);
        let mut child = opened.spawn().unwrap();
        assert_eq!(terminal_of(&child).name().unwrap(), name);
        let said = read_to_eio(child.take("terminal").unwrap());
        assert_eq!(said, format!("{}\r\n", name.display()));
        child.wait().unwrap();
    }
}

#[test]
fn a_channel_that_is_no_terminal_has_no_name_of_one() {
    let mut prepared = Command::new("true").fd(0, Null).fd(1, ReadPipe).prepare().unwrap();
    let opened = prepared.open().unwrap();
    for missing in [0, 7] {
        let error = opened.terminal_name(missing).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
    assert_eq!(opened.terminal_name(1).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
}

#[test]
fn the_size_is_there_before_the_program_is() {
    let size = WindowSize { rows: 31, columns: 97, x_pixels: 400, y_pixels: 300 };
    assert_eq!(said_by(&["stty", "size"], Pty::new().size(size)), "31 97\r\n");
    // The control: nobody has said it.
    assert_eq!(said_by(&["stty", "size"], Pty::new()), "0 0\r\n");
    let mut child = Command::new(pause()).fd(0, Pty::new().size(size)).spawn().unwrap();
    assert_eq!(Terminal::of(child.end(0).unwrap()).size().unwrap(), size);
    end(&mut child);
}

/// Whether `stty -a` says each of these words.
#[track_caller]
fn assert_settings(pty: Pty, expected: &[&str]) {
    let said = said_by(&["stty", "-a"], pty);
    let words: Vec<&str> = said.split([' ', '\r', '\n', ';']).collect();
    for word in expected {
        assert!(words.contains(word), "no {word:?} in {said}");
    }
}

#[test]
fn the_attributes_are_there_before_the_program_is() {
    assert_settings(Pty::new(), &["echo", "icanon", "isig", "opost", "icrnl", "ixon"]);
    let raw = ["-echo", "-icanon", "-isig", "-opost", "-icrnl", "-ixon"];
    assert_settings(Pty::new().raw(), &raw);
    assert_settings(Pty::new().echo(false), &["-echo", "icanon", "isig", "opost"]);
    // What is said later counts.
    assert_settings(Pty::new().raw().echo(true), &["echo", "-icanon"]);
    assert_settings(Pty::new().echo(true).raw(), &raw);
    let plain = || attributes(|_| {});
    assert_settings(Pty::new().raw().attributes(plain()), &["echo", "icanon", "opost"]);
    assert_settings(Pty::new().attributes(plain()).raw(), &raw);

    let changed = attributes(|attributes| {
        attributes.set_canonical(false);
        attributes.set_signals(false);
        attributes.set_output_processing(false);
        attributes.set_flow_control(false);
        attributes.set_control(ControlCharacter::Erase, Some(b'#'));
        attributes.set_control(ControlCharacter::Quit, None);
    });
    let expected = ["echo", "-icanon", "-isig", "-opost", "-ixon", "#", "<undef>"];
    assert_settings(Pty::new().attributes(changed), &expected);
}

/// The system's, changed.
fn attributes(change: impl FnOnce(&mut Attributes)) -> Attributes {
    let (_master, slave, _) = pair();
    let mut attributes = Terminal::of(slave.as_fd()).attributes().unwrap();
    change(&mut attributes);
    attributes
}

#[test]
fn what_is_set_of_the_attributes_is_what_they_say() {
    type Get = fn(&Attributes) -> bool;
    type Set = fn(&mut Attributes, bool);
    let flags: [(Get, Set); 5] = [
        (Attributes::echo, Attributes::set_echo),
        (Attributes::canonical, Attributes::set_canonical),
        (Attributes::signals, Attributes::set_signals),
        (Attributes::output_processing, Attributes::set_output_processing),
        (Attributes::flow_control, Attributes::set_flow_control),
    ];
    let (master, slave, _) = pair();
    for (get, set) in flags {
        for on in [false, true] {
            let changed = attributes(|attributes| set(attributes, on));
            Terminal::of(master.as_fd()).set_attributes(&changed).unwrap();
            assert_eq!(get(&Terminal::of(slave.as_fd()).attributes().unwrap()), on);
        }
    }
    use ControlCharacter::*;
    let defaults = [
        (Interrupt, 3),
        (Quit, 28),
        (Suspend, 26),
        (EndOfFile, 4),
        (Erase, 127),
        (EraseLine, 21),
        (Start, 17),
        (Stop, 19),
    ];
    for (character, byte) in defaults {
        assert_eq!(attributes(|_| {}).control(character), Some(byte), "{character:?}");
        for byte in [Some(b'@'), None] {
            let changed = attributes(|attributes| attributes.set_control(character, byte));
            assert_eq!(changed.control(character), byte, "{character:?}");
        }
    }
}

#[test]
fn a_terminal_like_another_has_its_attributes_and_its_size() {
    let (_master, slave, _) = pair();
    let terminal = Terminal::of(slave.as_fd());
    terminal.resize(WindowSize::new(11, 22)).unwrap();
    let mut attributes = terminal.attributes().unwrap();
    attributes.set_echo(false);
    attributes.set_control(ControlCharacter::Interrupt, Some(0x18));
    terminal.set_attributes(&attributes).unwrap();
    let mut stty = process::Command::new("stty");
    let its_own = stdout(stty.arg("-g").stdin(slave.try_clone().unwrap()));
    let like = || Pty::new().like(&slave).unwrap();
    assert_eq!(said_by(&["stty", "-g"], like()).trim(), its_own.trim());
    assert_eq!(said_by(&["stty", "size"], like()), "11 22\r\n");
    // The control.
    assert_ne!(said_by(&["stty", "-g"], Pty::new()).trim(), its_own.trim());
    // It is what the other was when it was asked.
    let then = like();
    terminal.resize(WindowSize::new(33, 44)).unwrap();
    assert_eq!(said_by(&["stty", "size"], then), "11 22\r\n");

    let null = fs::File::open("/dev/null").unwrap();
    assert_eq!(Pty::new().like(&null).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
}

fn stdout(command: &mut process::Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// `setsid` and `TIOCSCTTY` of the plan, in its order.
fn session_steps(command: &Command<'_>) -> Vec<String> {
    let mut prepared = command.prepare().unwrap();
    let opened = prepared.open().unwrap();
    let plan = opened.plan();
    let steps = plan.steps().iter();
    let of_session = |step: &&Step| matches!(step, Step::SetSid | Step::ControllingTerminal { .. });
    let steps: Vec<String> = steps.filter(of_session).map(Step::to_string).collect();
    let text = plan.to_string();
    assert!(steps.iter().all(|step| text.contains(step)), "{text}");
    steps
}

#[test]
fn the_session_and_its_terminal_are_steps_of_the_plan() {
    for without in PATHS {
        let mut command = Command::new("true");
        command.without(without).fds([0, 1, 2], Pty::new());
        let steps = session_steps(&command);
        assert_eq!(steps.len(), 2, "{steps:?}");
        assert_eq!(steps[0], "setsid");
        assert!(steps[1].starts_with("ioctl ") && steps[1].ends_with(" TIOCSCTTY"), "{steps:?}");
        assert_ne!(steps[1], "ioctl -1 TIOCSCTTY");
        // Asked for besides, it is still one.
        assert_eq!(session_steps(command.setsid()).len(), 2);
        let mut command = Command::new("true");
        command.without(without).fds([0, 1, 2], Pty::new().controlling(false));
        assert_eq!(session_steps(&command), [""; 0]);
    }
}

#[test]
fn the_plan_says_which_fds_are_terminals() {
    let (master, slave, name) = pair();
    let mut command = Command::new("true");
    command.fd(0, Pty::new()).fd(9, Pty::adopt(master, slave, &name).controlling(false));
    let mut prepared = command.prepare().unwrap();
    let plan = prepared.open().unwrap().plan().to_string();
    assert!(plan.contains("-> 0  (PTY)\n"), "{plan}");
    assert!(plan.contains(&format!("  (adopted PTY \\\"{name}\\\")\n")), "{plan}");
}

#[test]
fn what_contradicts_a_controlling_terminal_is_refused_when_prepared() {
    let null = fs::File::open("/dev/null").unwrap();
    let first = "a controlling PTY";
    let says = |command: &Command<'_>| command.prepare().unwrap_err();
    let with_one = || {
        let mut command = Command::new("true");
        command.fds([0, 1, 2], Pty::new());
        command
    };
    let error = PlanError::Contradiction { first, second: "another controlling PTY" };
    assert_eq!(says(with_one().fd(3, Pty::new())), error);
    let error = PlanError::Contradiction { first, second: "controlling_terminal" };
    assert_eq!(says(with_one().controlling_terminal(PassedFd::borrowed(&null))), error);
    let error = PlanError::Contradiction { first, second: "process_group" };
    assert_eq!(says(with_one().process_group(0)), error);
    assert_eq!(says(with_one().process_group(77)), error);
    // The controls.
    with_one().fd(3, Pty::new().controlling(false)).prepare().unwrap();
    let mut command = Command::new("true");
    command.fd(0, Pty::new().controlling(false)).process_group(0).prepare().unwrap();
    command.spawn().unwrap().wait().unwrap();
}

#[test]
fn a_child_whose_root_has_no_devices_has_a_terminal() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: a_child_whose_root_has_no_devices_has_a_terminal: chroot wants root");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    fs::copy(pause(), root.path().join("pause")).unwrap();
    for without in PATHS {
        let mut command = Command::new("/pause");
        command.without(without).chroot(root.path()).chdir("/");
        command.channel("terminal", Pty::new().size(WindowSize::new(3, 4)), [0, 1, 2]);
        let mut prepared = command.prepare().unwrap();
        let opened = prepared.open().unwrap();
        let name = opened.terminal_name("terminal").unwrap();
        let mut child = opened.spawn().unwrap();
        assert_controls(&child, &name);
        assert_eq!(terminal_of(&child).size().unwrap(), WindowSize::new(3, 4));
        // Its characters reach it.
        let master = fs::File::from(child.take("terminal").unwrap());
        std::io::Write::write_all(&mut &master, b"\x03").unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(forkplan::Signal::INT));
    }
}

#[test]
fn a_terminal_may_land_on_0_1_and_2_of_a_parent_that_has_them_closed() {
    let name = "a_terminal_may_land_on_0_1_and_2_of_a_parent_that_has_them_closed";
    in_subprocesses(name, 8, |closed| {
        for fd in (0..3).filter(|fd| closed >> fd & 1 == 1) {
            // SAFETY: this process is the test's own.
            unsafe { libc::close(fd) };
        }
        // Of the slowest way of closing.
        let current = Some(1024);
        setrlimit(Resource::Nofile, Rlimit { current, maximum: current }).unwrap();
        for without in EXCLUSIONS {
            for fds in [&[0, 1, 2][..], &[1], &[2, 0]] {
                let mut command = Command::new("sh");
                let script = format!("tty <&{0} >&{0}; echo controls >/dev/tty", fds[0]);
                command.args(["-c", &script]).channel("terminal", Pty::new(), fds.iter().copied());
                let mut prepared = command.without(without).prepare().unwrap();
                let opened = prepared.open().unwrap();
                let name = opened.terminal_name("terminal").unwrap();
                let mut child = opened.spawn().unwrap();
                let said = read_to_eio(child.take("terminal").unwrap());
                assert_eq!(said, format!("{}\r\ncontrols\r\n", name.display()));
                child.wait().unwrap();
            }
        }
    });
}

#[test]
fn a_prepared_terminal_is_another_one_at_each_spawn() {
    let mut prepared = Command::new(pause()).fd(0, Pty::new().echo(false)).prepare().unwrap();
    let mut children: Vec<Child> = (0..3).map(|_| prepared.spawn().unwrap()).collect();
    let name = |child: &Child| Terminal::of(child.end(0).unwrap()).name().unwrap();
    let mut names: Vec<_> = children.iter().map(name).collect();
    for (child, name) in children.iter().zip(&names) {
        assert_controls(child, name);
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3);
    children.iter_mut().for_each(end);
}
