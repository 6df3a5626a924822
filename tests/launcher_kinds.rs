//! Every kind of channel through a launcher, in a program whose low numbers are all
//! taken: the child has the same files as without it.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

#[path = "support/kinds.rs"]
mod kinds;

use std::collections::BTreeMap;
use std::fs::File as Opened;
use std::os::fd::AsRawFd;

use forkplan::plan::Step;
use forkplan::{Channel, Child, Command, Launcher, OnDrop, PassedFd, Pty};
use kinds::{ENDLESS, KINDS};
use support::{fds_of, fds_of_self, in_subprocess, pause};

fn take_all_low_numbers() -> Vec<Opened> {
    let mut taken = vec![Opened::open("/dev/null").unwrap()];
    while taken.last().unwrap().as_raw_fd() < 256 {
        let next = taken[0].try_clone().unwrap();
        taken.push(next);
    }
    taken
}

fn paused(channel: Channel<'static>) -> Command<'static> {
    let mut command = Command::new(pause());
    command.fds([0, 5], channel).fd(1, Channel::ReadPipe).on_drop(OnDrop::Kill);
    command
}

/// The child's fds by their flags: what they are, where inodes differ by nature.
fn flags_of(child: &Child) -> BTreeMap<i32, i32> {
    fds_of(child.id().unwrap()).into_iter().map(|(fd, open)| (fd, open.flags)).collect()
}

#[test]
fn a_child_gets_every_kind_of_channel_through_a_launcher() {
    in_subprocess("a_child_gets_every_kind_of_channel_through_a_launcher", || {
        pause();
        let launcher = Launcher::new(4).unwrap();
        let _busy = take_all_low_numbers();
        let before = fds_of_self();
        let with_end = KINDS.iter().map(|kind| (kind.name, kind.make));
        let without = ENDLESS.iter().map(|kind| (kind.name, kind.make));
        for (name, make) in with_end.chain(without) {
            let [plain, lent] = [false, true].map(|through| {
                let dir = tempfile::tempdir().unwrap();
                let mut prepared = paused(make(dir.path())).prepare().unwrap();
                let child = match through {
                    true => launcher.spawn(&mut prepared),
                    false => prepared.spawn(),
                };
                let child = child.unwrap_or_else(|error| panic!("{name}: {error}"));
                let pair = fds_of(child.id().unwrap());
                assert_eq!(pair[&0], pair[&5], "{name}: one file on both");
                flags_of(&child)
            });
            assert_eq!(plain, lent, "{name}");
            assert_eq!(plain.keys().copied().collect::<Vec<_>>(), [0, 1, 5], "{name}");
            assert_eq!(fds_of_self(), before, "{name}");
            assert_eq!((launcher.free_slots(), launcher.fallbacks()), (4, 0), "{name}");
        }
    });
}

#[test]
fn a_terminal_with_a_high_number_becomes_the_controlling_one() {
    in_subprocess("a_terminal_with_a_high_number_becomes_the_controlling_one", || {
        let launcher = Launcher::new(4).unwrap();
        let _busy = take_all_low_numbers();
        let mut command = Command::new("sh");
        // The terminal by its name, which only its session has.
        command.args(["-c", "test -t 0 && echo here > /dev/tty"]).fds([0, 1, 2], Pty::new());
        let mut prepared = command.prepare().unwrap();
        let opened = launcher.open(&mut prepared).unwrap();
        let of_terminal = opened.plan().steps().iter().find_map(|step| match *step {
            Step::ControllingTerminal { fd } => Some(fd),
            _ => None,
        });
        assert!(of_terminal.unwrap() < 256, "{}", opened.plan());
        let mut child = opened.spawn().unwrap();
        let mut said = [0; 16];
        let len = rustix::io::read(child.end(0).unwrap(), &mut said).unwrap();
        assert_eq!(said[..len].trim_ascii(), b"here");
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn what_was_given_comes_back_from_a_spawn_through_a_launcher_that_failed() {
    in_subprocess("what_was_given_comes_back_from_a_spawn_through_a_launcher_that_failed", || {
        let launcher = Launcher::new(4).unwrap();
        let _busy = take_all_low_numbers();
        let dir = tempfile::tempdir().unwrap();
        let file = Opened::open(dir.path()).unwrap();
        let mut command = Command::new("./program");
        command.fd(7, Channel::give(Opened::open("/dev/null").unwrap()));
        let mut prepared = command.fchdir(PassedFd::borrowed(&file)).prepare().unwrap();
        let before = fds_of_self();
        launcher.spawn(&mut prepared).unwrap_err();
        assert_eq!(fds_of_self(), before);
        std::os::unix::fs::symlink("/bin/true", dir.path().join("program")).unwrap();
        assert!(launcher.spawn(&mut prepared).unwrap().wait().unwrap().success());
        assert_eq!(fds_of_self().len(), before.len() - 1, "given away");
        assert_eq!((launcher.free_slots(), launcher.fallbacks()), (4, 0));
    });
}
