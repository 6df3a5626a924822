//! A kernel or a sandbox that lacks one modern call, whichever it is and however
//! it says so, with `/proc` and without: all that a child is for works, and what
//! is missing is said by name to whoever requires it.
//!
//! `tests/spawn_refused.rs` has calls that are refused later, or in one thread.
//! Under valgrind and user-mode qemu: `.ci/tools valgrind`, `.ci/tools qemu`.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use core::ptr;
use core::time::Duration;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;

use forkplan::Channel::{self, Null, ReadPipe, SocketPair};
use forkplan::{
    Backend, ChildKey, Command, Event, Exit, Features, OnDrop, PlanError, Prepared, Pump, Signal,
    SignalError,
};
use rustix::fs::{SeekFrom, seek};
use support::refusals::{CLOEXEC, ERRNOS, REFUSALS};
use support::seccomp::{Rule, install};
use support::{
    By, MAKERS, Maker, PATHS, in_subprocesses, marker, no_child_is_left, pause, place_at, say,
    with_fd,
};

const CASES: usize = REFUSALS.len() * ERRNOS.len() * 2;

#[test]
fn whatever_is_refused_all_works_or_is_missed_by_name() {
    let name = "whatever_is_refused_all_works_or_is_missed_by_name";
    in_subprocesses(name, CASES, |number| {
        let refusal = &REFUSALS[number / 2 / ERRNOS.len()];
        let errno = ERRNOS[number / 2 % ERRNOS.len()];
        let hidden = number % 2 == 1;
        // Of the slowest way of closing. And what would be forked for is there.
        let limit = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
        // SAFETY: reads the limit; the process is the test's own.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
        marker();
        pause();
        if hidden && !hide_proc() {
            return;
        }
        install(&(refusal.rules)(errno));
        let mut missing = refusal.missing;
        missing.set(Features::PROC_FD, hidden);
        let is_hidden = if hidden { "hidden" } else { "there" };
        let cell = format!("{}: errno {errno}, /proc {is_hidden}", refusal.name);
        std::panic::catch_unwind(|| check_all(missing, refusal.name, errno))
            .unwrap_or_else(|_| panic!("{cell}"));
    });
}

/// Puts an empty file system over `/proc`, for this process alone. `false`
/// without privileges.
fn hide_proc() -> bool {
    // SAFETY: C strings and no data. The process is the test's own.
    let done = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(
                c"none".as_ptr(),
                c"/".as_ptr(),
                ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                ptr::null(),
            ) == 0
            && libc::mount(c"none".as_ptr(), c"/proc".as_ptr(), c"tmpfs".as_ptr(), 0, ptr::null())
                == 0
    };
    if !done {
        say("SKIPPED: /proc can't be hidden without privileges");
        return false;
    }
    assert!(!Path::new("/proc/self").exists());
    true
}

fn check_all(missing: Features, refused: &str, errno: i32) {
    assert_eq!(Features::of_this_kernel(), Features::all() - missing);
    says_what_is_missing(missing);
    let before = open_fds();
    for without in [Features::empty(), Features::SHARED_MEMORY, Features::SHARED_FILES] {
        for by in MAKERS {
            any_fd_map_is_exact(by, without);
            errors_are_named(by, without);
            ends_are_told(by, without);
            kills_arrive(by, without, refused);
        }
        a_pump_converses(without, |pump, prepared| pump.add(prepared.spawn().unwrap()));
        a_pump_converses(without, |pump, prepared| pump.start(prepared.try_clone().unwrap()));
        what_is_on_its_way_is_taken_back(without);
        assert!(no_child_is_left());
        assert_eq!(open_fds(), before);
    }
    a_start_says_what_it_can_not_have(missing);
    // The one thing without a fallback: a backend that was insisted on.
    let set = Pump::with_backend(Backend::Epoll);
    match refused {
        "epoll_create1" | "all of them" => {
            assert_eq!(set.expect_err("refused").raw_os_error(), Some(errno));
        }
        _ => drop(set.expect("an epoll set")),
    }
    a_killed_child_has_not_started();
    assert!(no_child_is_left());
    assert_eq!(open_fds(), before);
}

/// The last of all: no program is reached after this.
fn a_killed_child_has_not_started() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads the limit, which keeps core files away.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) }, 0);
    install(&[Rule::kill(libc::SYS_execve)]);
    for (without, by) in PATHS.into_iter().flat_map(|without| MAKERS.map(|by| (without, by))) {
        let error = by.make(Command::new("/bin/true").without(without)).unwrap_err();
        assert_eq!(error.signal(), Some(Signal::SYS), "{error}");
    }
}

/// Without `/proc`, which may be hidden.
fn open_fds() -> Vec<i32> {
    // SAFETY: takes integers alone.
    (0..1024).filter(|&fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0).collect()
}

fn says_what_is_missing(missing: Features) {
    for feature in Features::all().iter() {
        let mut command = Command::new("/bin/true");
        match command.require(feature).prepare() {
            Err(PlanError::MissingFeature { features }) => {
                assert_eq!(features, feature);
                assert!(missing.contains(feature), "{feature:?}");
            }
            result => {
                drop(result.unwrap());
                assert!(!missing.contains(feature), "{feature:?}");
            }
        }
    }
}

/// A swap, one that stays, a source that is shared and far away, and fds that
/// nobody named.
fn any_fd_map_is_exact(by: By, without: Features) {
    let files = [(); 5].map(|()| tempfile::tempfile().unwrap());
    let saved: Vec<_> =
        (0..3).map(|fd| rustix::io::fcntl_dupfd_cloexec(with_fd(fd), 50).unwrap()).collect();
    for (file, at) in files.iter().zip([0, 1, 2, 40, 41]) {
        place_at(file, at);
    }
    let mut command = Command::new(marker());
    command.without(without).fd(0, with_fd(1)).fd(1, with_fd(0)).fd(2, with_fd(2));
    command.fds([3, 4, 7], Channel::from(with_fd(40)));
    let exit = by.make(&command).map(|mut child| child.wait().unwrap());
    for (fd, at) in saved.iter().zip(0..) {
        place_at(fd, at);
    }
    // SAFETY: placed above, and nobody's property.
    unsafe { assert_eq!(libc::close(40) | libc::close(41), 0) };
    assert!(exit.unwrap().success());
    let seen = files.each_ref().map(|file| seek(file, SeekFrom::Current(0)).unwrap());
    assert_eq!(seen, [1 << 1, 1 << 0, 1 << 2, 1 << 3 | 1 << 4 | 1 << 7, 0], "{without:?}");
}

fn errors_are_named(by: By, without: Features) {
    let error = by.make(Command::new("/nowhere/at/all").without(without)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    assert_eq!(error.description(), Some("execve \"/nowhere/at/all\""));
    let mut command = Command::new("/bin/true");
    let error = by.make(command.without(without).current_dir("/dev/null")).unwrap_err();
    assert_eq!(error.to_string(), "chdir \"/dev/null\": Not a directory");
}

fn ends_are_told(by: By, without: Features) {
    let mut command = Command::new("sh");
    let mut maker = Maker::new(by, command.args(["-c", "exit 7"]).without(without), 1);
    let exit = maker.make_one().unwrap().wait().unwrap();
    assert_eq!((exit.code(), exit.usage().is_some()), (Some(7), true));
    let mut child = maker.make_one().unwrap();
    let exit = child.wait_timeout(Duration::from_secs(600)).unwrap().expect("it ends");
    assert_eq!(exit.code(), Some(7));
    // Somebody else is first: known if the kernel tells, and else said to be not.
    let mut child = maker.make_one().unwrap();
    let pid = child.id().unwrap() as i32;
    // SAFETY: a child of this process, whose status nobody needs.
    assert_eq!(unsafe { libc::waitpid(pid, ptr::null_mut(), 0) }, pid);
    let exit = child.wait().unwrap();
    assert!(matches!(exit.code(), Some(7) | None), "{exit}");
}

fn kills_arrive(by: By, without: Features, refused: &str) {
    let mut command = Command::new(pause());
    command.without(without).fd(0, Null).on_drop(OnDrop::Kill);
    let mut maker = Maker::new(by, &command, 1);
    let mut child = maker.make_one().unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    assert_eq!(child.wait_timeout(Duration::from_millis(1)).unwrap(), None);
    child.signal(Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::TERM), "{refused}");
    assert_eq!(child.kill(), Err(SignalError::AlreadyExited));
    // By its drop, which must not wait for ever.
    drop(maker.make_one().unwrap());
}

/// By a drop and by a pump's, whether it comes to a program or not, and whether that
/// is known or not.
fn what_is_on_its_way_is_taken_back(without: Features) {
    let before = open_fds();
    for program in [pause(), Path::new("/nowhere/at/all")] {
        let mut command = Command::new(program);
        let prepared = command.without(without).fds([0, 3], SocketPair).prepare().unwrap();
        for is_known in [false, true] {
            let mut starting = prepared.try_clone().unwrap().start();
            while is_known && !starting.look() {
                thread::yield_now();
            }
            drop(starting);
            assert!(no_child_is_left());
        }
        let mut pump = Pump::new();
        for _ in 0..3 {
            pump.start(prepared.try_clone().unwrap());
        }
        drop(pump);
        assert!(no_child_is_left());
        assert_eq!(open_fds(), before);
    }
}

/// What it takes for a child in our memory that does not stop us.
fn a_start_says_what_it_can_not_have(missing: Features) {
    let takes = Features::SHARED_MEMORY | Features::CLONE3 | Features::PIDFD;
    let mut command = Command::new("/bin/true");
    let Ok(prepared) = command.require(Features::SHARED_MEMORY).prepare() else {
        return assert!(missing.contains(Features::SHARED_MEMORY));
    };
    match prepared.start().finish().1 {
        Ok(mut child) => {
            assert!(child.wait().unwrap().success());
            assert!(!missing.intersects(takes), "{missing:?}");
        }
        Err(error) => {
            let features = Features::SHARED_MEMORY;
            assert_eq!(error.plan_error(), Some(&PlanError::MissingFeature { features }));
            assert!(missing.intersects(takes), "{missing:?}");
        }
    }
}

/// More children than poll(2) is used for, if there is something better.
fn a_pump_converses(without: Features, made: fn(&mut Pump, &mut Prepared<'static>) -> ChildKey) {
    let mut pump = Pump::new();
    let mut command = Command::new("sh");
    command.args(["-c", "cat; cat <&3 >&3; exit 5"]).without(without);
    command.fd(0, Channel::WritePipe).fds([1, 2], ReadPipe).fd(3, SocketPair);
    let mut prepared = command.prepare().unwrap();
    for _ in 0..8 {
        made(&mut pump, &mut prepared);
    }
    let mut bytes = [0, 0];
    let mut ends: Vec<Exit> = Vec::new();
    while !pump.is_empty() {
        pump.poll(Some(Duration::from_secs(60))).unwrap();
        while let Some(event) = pump.next_event() {
            match event {
                Event::Made { child, .. } => {
                    assert_eq!(pump.write(child, 0, &[b'x'; 30_000]), Ok(30_000));
                    pump.close(child, 0).unwrap();
                    assert_eq!(pump.write(child, 3, b"back"), Ok(4));
                    pump.close_write(child, 3).unwrap();
                }
                Event::NotStarted { child } => panic!("{:?}", pump.take_spawn_error(child)),
                Event::Data { channel, bytes: data, .. } => {
                    bytes[usize::from(channel.to_string() == "3")] += data.len();
                }
                Event::Ended { exit, .. } => ends.push(exit),
                _ => {}
            }
        }
    }
    assert_eq!(bytes, [8 * 30_000, 8 * 4]);
    assert!(ends.len() == 8 && ends.iter().all(|exit| exit.code() == Some(5)));
}

/// What the cells rest on: a filter that is installed does refuse the call, and a
/// hidden `/proc` is.
#[test]
fn control_the_filters_refuse_what_they_name() {
    in_subprocesses("control_the_filters_refuse_what_they_name", ERRNOS.len(), |number| {
        let errno = ERRNOS[number];
        for refusal in REFUSALS.iter().filter(|refusal| refusal.name != "nothing") {
            assert!(!(refusal.rules)(errno).is_empty());
        }
        let mut child = Command::new("/bin/true").spawn().unwrap();
        let pidfd = child.pidfd().map_or(-1, |pidfd| pidfd.as_raw_fd());
        let info = REFUSALS.iter().find(|refusal| refusal.name == "PIDFD_GET_INFO").unwrap();
        install(&(info.rules)(errno));
        install(&(REFUSALS.last().unwrap().rules)(errno));
        let refused = |result: libc::c_long| {
            result == -1 && io::Error::last_os_error().raw_os_error() == Some(errno)
        };
        let mut info = [0u64; 8];
        let request = libc::_IOWR::<[u64; 8]>(0xff, 11);
        // SAFETY: the calls get no pointers but null and one to the 64 bytes that
        // the request names.
        unsafe {
            assert!(refused(libc::syscall(libc::SYS_clone3, 0, 0)));
            assert!(refused(libc::syscall(libc::SYS_close_range, 900, 900, CLOEXEC)));
            assert!(refused(libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0)));
            assert!(refused(libc::syscall(libc::SYS_epoll_create1, 0)));
            assert!(refused(libc::syscall(libc::SYS_pidfd_send_signal, pidfd, 0, 0, 0)));
            assert!(refused(libc::syscall(libc::SYS_pwritev2, 1, 0, 0, 0, 0, 0)));
            assert!(refused(libc::ioctl(pidfd, request, info.as_mut_ptr()).into()));
        }
        child.wait().unwrap();
    });
}
