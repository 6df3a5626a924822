//! Kernels and containers that refuse a modern call, with whatever errno: the
//! spawn goes the older way, whether that is so from the start or comes later.

#![cfg(target_os = "linux")]

mod support;

use core::time::Duration;
use std::fs::File;
use std::io::{Read, Write};
use std::iter;

use forkplan::plan::Step;
use forkplan::{Command, Features, OnDrop, Prepared, Signal};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::seccomp::{Rule, install, under};
use support::{fds_of, fds_of_self, in_subprocess, in_subprocesses, no_child_is_left, pause};

const ERRNOS: [i32; 3] = [libc::ENOSYS, libc::EPERM, libc::EINVAL];

/// One way to refuse, and what is found missing if it is so from the start.
struct Refusal {
    rules: fn(i32) -> Vec<Rule>,
    missing: Features,
}

const REFUSALS: [Refusal; 6] = [
    Refusal { rules: |e| vec![Rule::errno(libc::SYS_clone3, e)], missing: Features::CLONE3 },
    Refusal {
        rules: |e| vec![Rule::errno(libc::SYS_close_range, e)],
        missing: Features::CLOSE_RANGE.union(Features::SHARED_FILES),
    },
    Refusal {
        rules: |e| vec![Rule::errno(libc::SYS_waitid, e).with(0, libc::P_PIDFD as i32)],
        missing: Features::PIDFD,
    },
    Refusal {
        rules: |e| vec![Rule::errno(libc::SYS_pidfd_send_signal, e)],
        missing: Features::empty(),
    },
    // As a system that has no vfork.
    Refusal {
        rules: |e| {
            vec![
                Rule::errno(libc::SYS_clone3, e),
                Rule::errno(libc::SYS_clone, e).having(0, libc::CLONE_VFORK),
            ]
        },
        missing: Features::CLONE3
            .union(Features::SHARED_MEMORY)
            .union(Features::SHARED_FILES)
            .union(Features::PIDFD),
    },
    // Everything at once.
    Refusal {
        rules: |e| {
            vec![
                Rule::errno(libc::SYS_clone3, e),
                Rule::errno(libc::SYS_clone, e).having(0, libc::CLONE_VFORK | libc::CLONE_PIDFD),
                Rule::errno(libc::SYS_close_range, e),
                Rule::errno(libc::SYS_waitid, e).with(0, libc::P_PIDFD as i32),
                Rule::errno(libc::SYS_pidfd_send_signal, e),
            ]
        },
        missing: Features::all().difference(Features::PROC_FD),
    },
];

const CASES: usize = REFUSALS.len() * ERRNOS.len();

fn case(number: usize) -> (Vec<Rule>, Features) {
    let refusal = &REFUSALS[number / ERRNOS.len()];
    ((refusal.rules)(ERRNOS[number % ERRNOS.len()]), refusal.missing)
}

/// Everything that a child is for.
fn check_all_works(commands: Commands<'_>) {
    let before = fds_of_self();
    let Commands { mut cat, mut standing, mut missing } = commands;

    let mut child = cat.spawn().unwrap();
    File::from(child.take(0).unwrap()).write_all(b"through").unwrap();
    let mut text = String::new();
    File::from(child.take(1).unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
    let exit = child.wait().unwrap();
    assert!(exit.success() && exit.usage().is_some());
    drop(child);

    let mut child = standing.spawn().unwrap();
    let fds: Vec<i32> = fds_of(child.id().unwrap()).into_keys().collect();
    assert_eq!(fds, [0, 1, 2]);
    assert_eq!(child.try_wait().unwrap(), None);
    assert_eq!(child.wait_timeout(Duration::from_millis(15)).unwrap(), None);
    child.signal(Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::TERM));
    child.kill().unwrap_err();
    drop(child);

    // Killed and reaped by its drop, which must not wait for ever.
    drop(standing.spawn().unwrap());

    assert_eq!(missing.spawn().unwrap_err().raw_os_error(), Some(libc::ENOENT));
    assert!(no_child_is_left());
    assert_eq!(fds_of_self(), before);
    check_starts_work(Commands { cat, standing, missing });
    assert!(no_child_is_left());
    assert_eq!(fds_of_self(), before);
}

/// The same of children that nobody waits for.
fn check_starts_work(commands: Commands<'_>) {
    let Commands { cat, standing, missing } = commands;
    let [cat, standing, missing] = [cat, standing, missing].map(Prepared::start);
    let mut child = cat.finish().1.unwrap();
    File::from(child.take(0).unwrap()).write_all(b"through").unwrap();
    let mut text = String::new();
    File::from(child.take(1).unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
    assert!(child.wait().unwrap().success());
    assert_eq!(missing.finish().1.unwrap_err().raw_os_error(), Some(libc::ENOENT));
    let (standing, child) = standing.finish();
    child.unwrap().kill().unwrap();
    drop(standing.start());
}

struct Commands<'fd> {
    cat: Prepared<'fd>,
    standing: Prepared<'fd>,
    missing: Prepared<'fd>,
}

fn commands<'fd>() -> Commands<'fd> {
    Commands {
        cat: Command::new("cat").prepare().unwrap(),
        standing: Command::new(pause()).on_drop(OnDrop::Kill).prepare().unwrap(),
        missing: Command::new("/nowhere/program").prepare().unwrap(),
    }
}

#[test]
fn what_is_refused_from_the_start_is_done_without() {
    in_subprocesses("what_is_refused_from_the_start_is_done_without", CASES, |number| {
        let (rules, missing) = case(number);
        pause();
        install(&rules);
        // The first question to the kernel in this process.
        let found = Features::of_this_kernel();
        assert_eq!(found & missing, Features::empty());
        check_all_works(commands());
    });
}

#[test]
fn what_is_refused_after_prepare_is_done_without_from_then_on() {
    in_subprocesses(
        "what_is_refused_after_prepare_is_done_without_from_then_on",
        CASES,
        |number| {
            let (rules, _) = case(number);
            let commands = commands();
            install(&rules);
            check_all_works(commands);
            // And by what is prepared later.
            check_all_works(self::commands());
        },
    );
}

#[test]
fn a_thread_with_a_filter_does_not_disturb_the_others() {
    in_subprocesses("a_thread_with_a_filter_does_not_disturb_the_others", CASES, |number| {
        let (rules, _) = case(number);
        let commands = commands();
        under(&rules, || check_all_works(commands));
        check_all_works(self::commands());
    });
}

#[test]
fn a_child_that_was_there_before_the_filter_is_signalled_and_reaped() {
    let name = "a_child_that_was_there_before_the_filter_is_signalled_and_reaped";
    in_subprocesses(name, CASES, |number| {
        let (rules, _) = case(number);
        let mut child = Command::new(pause()).on_drop(OnDrop::Kill).spawn().unwrap();
        install(&rules);
        assert_eq!(child.try_wait().unwrap(), None);
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL));
        assert!(no_child_is_left());
    });
}

#[test]
fn an_opened_spawn_keeps_its_plan_and_names_what_was_refused() {
    let name = "an_opened_spawn_keeps_its_plan_and_names_what_was_refused";
    in_subprocesses(name, ERRNOS.len(), |number| {
        let errno = ERRNOS[number];
        let mut prepared = Command::new("/bin/true").prepare().unwrap();

        let opened = prepared.open().unwrap();
        let rules = [Rule::errno(libc::SYS_close_range, errno)];
        let error = under(&rules, || opened.spawn().unwrap_err());
        assert_eq!((error.raw_os_error(), error.step_index()), (Some(errno), Some(0)));
        assert!(matches!(error.step(), Some(Step::Unshare { .. } | Step::MarkRange { .. })));

        let opened = prepared.open().unwrap();
        if Features::of_this_kernel().contains(Features::CLONE3) {
            let rules = [Rule::errno(libc::SYS_clone3, errno)];
            let error = under(&rules, || opened.spawn().unwrap_err());
            assert_eq!((error.raw_os_error(), error.step()), (Some(errno), None));
            assert_eq!(error.description(), Some("clone3"));
        }
        assert!(no_child_is_left());
    });
}

/// Whatever a filter says of the pidfd: nobody else would reap what has failed.
#[test]
fn a_child_that_failed_is_reaped_whatever_errno_the_wait_by_pidfd_has() {
    const ERRNOS: [i32; 5] = [libc::EAGAIN, libc::EBADF, libc::ESRCH, libc::EIO, libc::ENOSYS];
    let test = "a_child_that_failed_is_reaped_whatever_errno_the_wait_by_pidfd_has";
    in_subprocesses(test, ERRNOS.len(), |number| {
        let mut missing = Command::new("/nowhere/program").prepare().unwrap();
        let by_pidfd = Rule::errno(libc::SYS_waitid, ERRNOS[number]);
        under(&[by_pidfd.with(0, libc::P_PIDFD as i32)], || {
            let error = missing.spawn().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
        });
        assert!(no_child_is_left());
    });
}

#[test]
fn what_could_not_be_found_out_for_want_of_fds_is_asked_again() {
    in_subprocess("what_could_not_be_found_out_for_want_of_fds_is_asked_again", || {
        let old = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(32), ..old }).unwrap();
        let all: Vec<File> = iter::from_fn(|| File::open("/dev/null").ok()).collect();
        // Control: a pidfd and a directory are wanted, for which there is no number.
        assert!(!Features::of_this_kernel().intersects(Features::PIDFD | Features::PROC_FD));
        drop(all);
        setrlimit(Resource::Nofile, old).unwrap();
        let found = Features::of_this_kernel();
        assert!(found.contains(Features::PIDFD | Features::PROC_FD), "{found:?}");
        // From now on it is known, and nobody makes a child for it.
        under(&[Rule::kill(libc::SYS_clone3), Rule::kill(libc::SYS_clone)], || {
            assert_eq!(Features::of_this_kernel(), found);
        });
    });
}
