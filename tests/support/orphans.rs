//! Children that leave processes behind, for tests of who adopts them.

// Each test file uses a part of this.
#![allow(dead_code)]

use core::time::Duration;
use std::time::Instant;
use std::{fs, io, process};

use forkplan::{Backend, Channel, ChildKey, Command, OnDrop, Pump};
use rustix::event::epoll::EventFlags;
use rustix::process::{getpid, set_child_subreaper};

use super::{Driver, Seen, TestPump};

/// Leaves a process that ends as it is told on fd 5, says its pid, and ends with 3
/// when it has read a line.
pub(crate) const LEAVES_ONE: &str = "(read code <&5; exit $code) & echo $!; read go; exit 3";

/// The same, but the process is an orphan from the beginning.
pub(crate) const LEAVES_ONE_AT_ONCE: &str =
    "(sh -c 'read code <&5; exit $code' & echo $!); read go; exit 3";

pub(crate) fn become_subreaper() {
    set_child_subreaper(Some(getpid())).unwrap();
}

pub(crate) fn pumps() -> Vec<Driver> {
    let backends = [
        (Backend::Poll, EventFlags::empty()),
        (Backend::Epoll, EventFlags::empty()),
        (Backend::Foreign, EventFlags::empty()),
        (Backend::Foreign, EventFlags::ET),
        (Backend::Foreign, EventFlags::ET | EventFlags::ONESHOT),
    ];
    let pump = |(backend, flags)| TestPump::in_loop(Pump::with_backend(backend).unwrap(), flags);
    backends.into_iter().map(pump).map(Driver::with).collect()
}

pub(crate) fn leader(script: &str) -> Command<'static> {
    let mut command = Command::new("sh");
    command.args(["-c", script]).setsid().on_drop(OnDrop::Kill);
    command.fd(0, Channel::WritePipe).fd(1, Channel::ReadPipe).fd(5, Channel::WritePipe);
    command
}

/// Has every poll find that it is time to look.
pub(crate) fn hurry(pump: &mut Pump) {
    let mut now = Instant::now();
    pump.set_clock(move || {
        now += Duration::from_secs(2);
        now
    });
}

/// Looks that nothing has announced, in a pump that is in a hurry.
pub(crate) fn look(driver: &mut Driver) {
    for _ in 0..3 {
        driver.pump.poll(Some(Duration::ZERO)).unwrap();
        driver.drain();
    }
}

pub(crate) fn said_pid(driver: &mut Driver, leader: ChildKey) -> u32 {
    driver.until(|driver| driver.data(leader, "1").ends_with(b"\n"));
    String::from_utf8(driver.data(leader, "1")).unwrap().trim().parse().unwrap()
}

/// The orphans that were adopted, and their pids.
pub(crate) fn adopted(driver: &Driver, of: ChildKey) -> Vec<(ChildKey, u32)> {
    let orphan = |(key, seen): &(ChildKey, Seen)| match seen {
        Seen::Adopted(leader, pid) if *leader == of => Some((*key, *pid)),
        _ => None,
    };
    driver.log.iter().filter_map(orphan).collect()
}

pub(crate) fn position(driver: &Driver, of: ChildKey, is: fn(&Seen) -> bool) -> usize {
    driver.log.iter().position(|(key, seen)| *key == of && is(seen)).unwrap()
}

/// Waits until a process has ended and is a zombie of ours.
pub(crate) fn wait_for_zombie(pid: u32) {
    let until = Instant::now() + Duration::from_secs(120);
    let own = process::id().to_string();
    loop {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        if fields[0] == "Z" && fields[1] == own {
            return;
        }
        assert!(Instant::now() < until, "{stat}");
    }
}

/// How a child of this process ended, if it has.
pub(crate) fn waited(pid: u32) -> io::Result<Option<i32>> {
    let mut status = 0;
    // SAFETY: writes the status. The pid is that of a child of this process.
    match unsafe { libc::waitpid(pid as i32, &mut status, libc::WNOHANG) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        _ => Ok(Some(libc::WEXITSTATUS(status))),
    }
}
