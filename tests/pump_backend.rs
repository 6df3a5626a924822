//! The two ways to wait, how one is chosen, and what happens where the kernel
//! refuses the other.
#![cfg(target_os = "linux")]

#[path = "support/pump.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use core::time::Duration;

use forkplan::{Backend, Channel, ChildKey, Command, EmbeddedPump, End, Pump};
use rustix::event::epoll::EventFlags;
use support::{Driver, TestPump, alone, refuse_syscall};

/// Sources of one child of `cats`: two pipes and the process.
const SOURCES_EACH: usize = 3;

/// Children that wait for what they give back.
fn cats(driver: &mut Driver, count: usize) -> Vec<ChildKey> {
    let mut command = Command::new("cat");
    command.fd(0, Channel::WritePipe).fd(1, Channel::ReadPipe).fd(2, Channel::stderr());
    (0..count).map(|_| driver.add(&mut command)).collect()
}

/// Every child still answers, and ends.
fn all_answer(driver: &mut Driver, cats: &[ChildKey]) {
    for (&cat, number) in cats.iter().zip(0..) {
        driver.pump.write(cat, 0, format!("cat {number}").as_bytes()).unwrap();
        driver.pump.close(cat, 0).unwrap();
    }
    driver.finish();
    for (&cat, number) in cats.iter().zip(0..) {
        assert_eq!(driver.data(cat, "1"), format!("cat {number}").as_bytes());
        assert!(driver.exit(cat).unwrap().success());
    }
}

fn driver(pump: Pump) -> Driver {
    Driver::with(TestPump::in_loop(pump, EventFlags::empty()))
}

/// What no set takes: a file to be appended to, one at its end, and a device.
fn attach_what_is_always_ready(pump: &mut Pump) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let log = fs::File::create(dir.path().join("log")).unwrap();
    let both = dir.path().join("both");
    let both = fs::File::options().read(true).write(true).create_new(true).open(both).unwrap();
    let null = fs::File::options().write(true).open("/dev/null").unwrap();
    let end = |name, file: fs::File| End::new(name, file).unwrap();
    pump.attach([end("log", log), end("both", both), end("null", null)]);
    dir
}

/// Looks until there is nothing to be told and, for another loop, nothing to change.
fn settle(pump: &mut Pump) {
    for _ in 0..20 {
        pump.poll(Some(Duration::ZERO)).unwrap();
        while pump.next_event().is_some() {}
        while pump.next_change().is_some() {}
    }
}

#[test]
fn files_that_have_nothing_to_do_keep_nobody_awake() {
    for backend in [Backend::Poll, Backend::Epoll] {
        let mut pump = Pump::with_backend(backend).unwrap();
        let _files = attach_what_is_always_ready(&mut pump);
        settle(&mut pump);
        assert!(!pump.poll(Some(Duration::ZERO)).unwrap(), "{backend:?}: it would never wait");
    }

    let mut pump = Pump::with_backend(Backend::Foreign).unwrap();
    let _files = attach_what_is_always_ready(&mut pump);
    settle(&mut pump);
    assert_eq!(pump.next_deadline(), None, "another loop would never wait");
    let key = pump.children().next().unwrap();
    // The control: nothing waits in vain either.
    pump.notify_drained(key, "log").unwrap();
    assert!(pump.next_deadline().is_some());

    let mut embedded = EmbeddedPump::new(Pump::new()).unwrap();
    let _files = attach_what_is_always_ready(&mut embedded.pump());
    settle(&mut embedded.pump());
    let mut polled = [rustix::event::PollFd::new(&embedded, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut polled, Some(&now)), Ok(0));
}

#[test]
fn a_few_sources_are_polled_and_more_go_into_a_set() {
    let mut driver = driver(Pump::new());
    let mut all = cats(&mut driver, 16 / SOURCES_EACH);
    assert_eq!(driver.pump.backend(), Backend::Poll);
    // What was asked for before the change is seen after it.
    driver.pump.write(all[0], 0, b"early").unwrap();
    all.extend(cats(&mut driver, 1));
    assert_eq!(driver.pump.backend(), Backend::Epoll);
    driver.until(|d| d.data(all[0], "1") == b"early");
    driver.pump.close(all[0], 0).unwrap();
    all_answer(&mut driver, &all[1..]);
}

#[test]
fn a_backend_that_was_asked_for_stays() {
    for backend in [Backend::Poll, Backend::Epoll] {
        let mut driver = driver(Pump::with_backend(backend).unwrap());
        let all = cats(&mut driver, 1);
        assert_eq!(driver.pump.backend(), backend);
        let more = cats(&mut driver, 16);
        assert_eq!(driver.pump.backend(), backend);
        all_answer(&mut driver, &[all, more].concat());
        assert_eq!(driver.pump.backend(), backend);
    }
}

#[test]
fn where_the_kernel_gives_no_set_poll_serves_on() {
    alone("where_the_kernel_gives_no_set_poll_serves_on", || {
        for call in [libc::SYS_epoll_create1, libc::SYS_epoll_ctl] {
            refuse_syscall(call, libc::ENOSYS);
            let mut driver = driver(Pump::new());
            let all = cats(&mut driver, 20);
            assert_eq!(driver.pump.backend(), Backend::Poll);
            all_answer(&mut driver, &all);
            if call == libc::SYS_epoll_create1 {
                let refused = Pump::with_backend(Backend::Epoll).unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(libc::ENOSYS));
            }
        }
    });
}

#[test]
fn a_set_that_takes_no_more_is_given_up_and_nothing_is_lost() {
    alone("a_set_that_takes_no_more_is_given_up_and_nothing_is_lost", || {
        let mut driver = driver(Pump::with_backend(Backend::Epoll).unwrap());
        let mut all = cats(&mut driver, 20);
        // What `fs.epoll.max_user_watches` says.
        refuse_syscall(libc::SYS_epoll_ctl, libc::ENOSPC);
        assert_eq!(driver.pump.backend(), Backend::Epoll);
        all.extend(cats(&mut driver, 1));
        assert_eq!(driver.pump.backend(), Backend::Poll);
        all_answer(&mut driver, &all);
    });
}

/// This process's fds and what they are.
fn fds() -> BTreeMap<i32, String> {
    let listed = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| {
        let entry = entry.unwrap();
        let target = fs::read_link(entry.path()).ok()?;
        let number = entry.file_name().to_str().unwrap().parse().unwrap();
        Some((number, target.to_str().unwrap().to_owned()))
    });
    listed.collect()
}

/// A copy of our end of the pipe that was not there before, as a process that
/// was just forked has one.
fn copy_of_the_new_pipe(before: &BTreeMap<i32, String>) -> OwnedFd {
    let new = |(fd, what): &(i32, String)| what.starts_with("pipe:") && !before.contains_key(fd);
    let (fd, _) = fds().into_iter().find(new).unwrap();
    // SAFETY: no pointers; the copy is nobody else's.
    unsafe {
        let copy = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0);
        assert!(copy >= 0);
        OwnedFd::from_raw_fd(copy)
    }
}

#[test]
fn a_closed_channel_that_somebody_has_a_copy_of_is_not_reported_any_more() {
    alone("a_closed_channel_that_somebody_has_a_copy_of_is_not_reported_any_more", || {
        for backend in [Backend::Epoll, Backend::Poll] {
            let mut driver = driver(Pump::with_backend(backend).unwrap());
            let before = fds();
            let mut agent = driver.agent(|command| {
                command.fd(1, Channel::ReadPipe);
            });
            let copy = copy_of_the_new_pipe(&before);
            driver.until(|d| d.pump.len() == 1 && !d.pump.has_events());
            driver.pump.close(agent.key, 1).unwrap();
            driver.drain();
            // The pipe has a reader, the copy, and something to read.
            agent.ask("echo somebody reads this");
            driver.assert_quiet();
            drop(copy);
            drop(agent);
            driver.finish();
        }
    });
}

/// The control: without `EPOLL_CTL_DEL` a close is not enough.
#[test]
fn control_a_set_reports_what_was_closed_as_long_as_there_is_a_copy() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let copy = reader.try_clone().unwrap();
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 7 };
    // SAFETY: the set is ours alone; the kernel reads one event and writes one.
    let found = unsafe {
        let set = OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC));
        let add = libc::EPOLL_CTL_ADD;
        assert_eq!(libc::epoll_ctl(set.as_raw_fd(), add, reader.as_raw_fd(), &raw mut event), 0);
        drop(reader);
        writer.write_all(b"x").unwrap();
        libc::epoll_wait(set.as_raw_fd(), &raw mut event, 1, 0)
    };
    assert_eq!((found, { event.u64 }), (1, 7));
    drop(copy);
}
