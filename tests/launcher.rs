//! Spawns through a launcher: the same children, the same table of fds before and
//! after, and plans that do not depend on how many fds are open.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use core::sync::atomic::{AtomicU32, Ordering};
use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use forkplan::Channel::{self, Null, ReadPipe, SocketPair, WritePipe};
use forkplan::plan::Step;
use forkplan::{Child, Command, Features, Launcher, OnDrop, PassedFd, Plan};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::seccomp::{Rule, under};
use support::{
    EXCLUSIONS, File, fds_of, fds_of_self, file_of, in_subprocess, no_child_is_left, pause,
    place_at, with_fd, write_program,
};

/// From here on a launcher lends numbers.
const HIGH: i32 = 256;

/// Takes all low numbers, as a busy program does: whatever is opened from now on
/// has a high one. For processes of one test.
fn take_all_low_numbers() -> Vec<fs::File> {
    let null = fs::File::open("/dev/null").unwrap();
    let mut taken = vec![null];
    while taken.last().unwrap().as_raw_fd() < HIGH {
        let next = taken[0].try_clone().unwrap();
        taken.push(next);
    }
    taken
}

/// The slowest way of closing looks at each number below the hard limit.
fn lower_the_hard_limit() {
    let Rlimit { current, .. } = getrlimit(Resource::Nofile);
    let current = current.map(|limit| limit.min(1024));
    setrlimit(Resource::Nofile, Rlimit { current, maximum: Some(1024) }).unwrap();
}

fn set_soft_limit(limit: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum }).unwrap();
}

fn paused<'fd>() -> Command<'fd> {
    let mut command = Command::new(pause());
    command.on_drop(OnDrop::Kill);
    command
}

fn files_of(child: &Child) -> BTreeMap<i32, File> {
    fds_of(child.id().unwrap()).into_iter().map(|(fd, open)| (fd, open.file)).collect()
}

/// Whether the child shares the parent's table at first.
fn shares(plan: &Plan<'_>) -> bool {
    matches!(plan.steps().first(), Some(Step::Unshare { .. }))
}

/// Whether numbers are lent for it.
fn is_lent(plan: &Plan<'_>) -> bool {
    plan.to_string().starts_with("The parent before: dup3 ")
}

/// All fds of the parent's that a plan names.
fn highest_source(plan: &Plan<'_>) -> i32 {
    let sources = plan.steps().iter().map(|step| match *step {
        Step::Dup2 { from, .. } | Step::DupCloexec { from, .. } => from,
        Step::Fchdir { fd } => fd,
        _ => 0,
    });
    sources.max().unwrap()
}

/// Every map of up to four of these targets over four sources.
fn check_every_map(launcher: &Launcher, targets: [i32; 4], sources: [i32; 4]) {
    let files = sources.map(|source| file_of(with_fd(source)));
    let before = fds_of_self();
    for digits in 1..5usize.pow(4) {
        let mut command = paused();
        let mut expected = BTreeMap::new();
        for (at, &target) in targets.iter().enumerate() {
            let digit = digits / 5usize.pow(at as u32) % 5;
            let Some(source) = digit.checked_sub(1) else { continue };
            command.fd(target, with_fd(sources[source]));
            expected.insert(target, files[source]);
        }
        let mut prepared = command.prepare().unwrap();
        let opened = launcher.open(&mut prepared).unwrap();
        assert!(shares(&opened.plan()), "map {digits}:\n{}", opened.plan());
        let child = opened.spawn().unwrap();
        assert_eq!(files_of(&child), expected, "map {digits} of {targets:?} over {sources:?}");
        drop(child);
    }
    assert_eq!(fds_of_self(), before);
    assert_eq!(launcher.fallbacks(), 0);
}

#[test]
fn every_map_of_up_to_four_targets_over_four_high_sources_is_exact() {
    in_subprocess("every_map_of_up_to_four_targets_over_four_high_sources_is_exact", || {
        lower_the_hard_limit();
        pause();
        let before = fds_of_self();
        let launcher = Launcher::new(4).unwrap();
        let mut slots: Vec<i32> = fds_of_self().into_keys().collect();
        slots.retain(|fd| !before.contains_key(fd));
        // What they are copies of was there before them.
        slots.remove(0);
        for at in 300..304 {
            place_at(tempfile::tempfile().unwrap(), at);
        }
        check_every_map(&launcher, [0, 1, 2, 3], [300, 301, 302, 303]);
        // Targets that are the slots' own numbers, and sources' own.
        check_every_map(&launcher, slots.try_into().unwrap(), [300, 301, 302, 303]);
        check_every_map(&launcher, [300, 301, 302, 303], [300, 301, 302, 303]);
        // Low sources stay where they are.
        for at in [0, 1] {
            place_at(tempfile::tempfile().unwrap(), at);
        }
        check_every_map(&launcher, [0, 1, 2, 300], [0, 1, 300, 301]);
    });
}

#[test]
fn without_a_feature_a_launcher_changes_nothing() {
    in_subprocess("without_a_feature_a_launcher_changes_nothing", || {
        lower_the_hard_limit();
        let launcher = Launcher::new(8).unwrap();
        let _busy = take_all_low_numbers();
        let before = fds_of_self();
        for without in EXCLUSIONS {
            for inherit in [false, true] {
                let mut command = paused();
                command.without(without).inherit_unnamed_fds(inherit);
                let mut prepared = command.fds([0, 7], SocketPair).fd(1, Null).prepare().unwrap();
                let standing = fds_of_self();
                let child = launcher.spawn(&mut prepared).unwrap();
                let fds = fds_of(child.id().unwrap());
                if !inherit {
                    assert_eq!(fds.keys().copied().collect::<Vec<_>>(), [0, 1, 7], "{without:?}");
                }
                assert_eq!(fds[&0], fds[&7]);
                assert_ne!(fds[&0].file, fds[&1].file);
                drop(child);
                assert_eq!(fds_of_self(), standing, "{without:?}");
            }
        }
        assert_eq!(fds_of_self(), before);
        assert_eq!((launcher.free_slots(), launcher.fallbacks()), (8, 0));
    });
}

#[test]
fn a_plan_through_a_launcher_shares_the_table_and_says_what_is_lent() {
    in_subprocess("a_plan_through_a_launcher_shares_the_table_and_says_what_is_lent", || {
        let launcher = Launcher::new(3).unwrap();
        let _busy = take_all_low_numbers();
        let given = fs::File::open("/dev/null").unwrap();
        let mut command = Command::new("true");
        command.fd(0, WritePipe).fd(1, ReadPipe).fds([2, 5], Channel::borrowed(&given));
        let mut prepared = command.prepare().unwrap();
        // The control: without it all is copied as far as that.
        let opened = prepared.open().unwrap();
        assert!(!is_lent(&opened.plan()) && highest_source(&opened.plan()) >= HIGH);
        drop(opened);

        let opened = launcher.open(&mut prepared).unwrap();
        let (plan, source) = (opened.plan(), given.as_raw_fd());
        let printed = plan.to_string();
        assert!(shares(&plan), "{printed}");
        // One for each source, however many fds it is on.
        assert_eq!(printed.matches("The parent before: dup3 ").count(), 3, "{printed}");
        assert!(printed.contains(&format!("The parent before: dup3 {source} -> ")), "{printed}");
        assert_eq!(plan.place(source), Some(2));
        assert_eq!(launcher.free_slots(), 0);
        assert!(opened.spawn().unwrap().wait().unwrap().success());
        assert_eq!((launcher.free_slots(), launcher.fallbacks()), (3, 0));
    });
}

#[test]
fn a_step_that_needs_a_high_fd_finds_it() {
    in_subprocess("a_step_that_needs_a_high_fd_finds_it", || {
        let launcher = Launcher::new(8).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let _busy = take_all_low_numbers();
        let opened_dir = fs::File::open(dir.path()).unwrap();
        let program = fs::File::open("/bin/pwd").unwrap();
        let mut command = Command::new("pwd");
        command.fchdir(PassedFd::borrowed(&opened_dir)).program_fd(PassedFd::borrowed(&program));
        let mut prepared = command.fd(1, ReadPipe).prepare().unwrap();
        let opened = launcher.open(&mut prepared).unwrap();
        assert!(shares(&opened.plan()), "{}", opened.plan());
        assert!(highest_source(&opened.plan()) < HIGH);
        let mut child = opened.spawn().unwrap();
        let mut said = String::new();
        fs::File::from(child.take(1).unwrap()).read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(said.trim_end(), dir.path().canonicalize().unwrap().to_str().unwrap());
    });
}

#[test]
fn a_passed_fd_keeps_its_flags() {
    in_subprocess("a_passed_fd_keeps_its_flags", || {
        let launcher = Launcher::new(2).unwrap();
        pause();
        let _busy = take_all_low_numbers();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::CLOEXEC).unwrap();
        let flags = |fd: BorrowedFd<'_>| fds_of_self()[&fd.as_raw_fd()];
        let before = [flags(reader.as_fd()), flags(writer.as_fd())];
        let mut command = paused();
        command.fd(0, Channel::borrowed(&reader)).fd(9, Channel::borrowed(&writer));
        let child = launcher.spawn(&mut command.prepare().unwrap()).unwrap();
        let fds = fds_of(child.id().unwrap());
        assert_eq!(fds.len(), 2);
        assert_eq!(fds[&0].flags & (libc::O_NONBLOCK | libc::O_CLOEXEC), libc::O_NONBLOCK);
        assert_eq!(fds[&9].flags & (libc::O_NONBLOCK | libc::O_CLOEXEC), 0);
        assert_eq!([flags(reader.as_fd()), flags(writer.as_fd())], before);
    });
}

#[test]
fn what_fails_is_dropped_or_panics_gives_the_slots_back() {
    in_subprocess("what_fails_is_dropped_or_panics_gives_the_slots_back", || {
        let launcher = Launcher::new(3).unwrap();
        let _busy = take_all_low_numbers();
        let before = fds_of_self();
        let mut missing = Command::new("/nowhere/program").prepare().unwrap();
        for _ in 0..100 {
            let error = launcher.spawn(&mut missing).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            drop(launcher.open(&mut missing).unwrap());
            assert_eq!(fds_of_self(), before);
            assert_eq!((launcher.free_slots(), launcher.fallbacks()), (3, 0));
        }
        let panics = std::panic::AssertUnwindSafe(|| {
            let _opened = launcher.open(&mut missing).unwrap();
            assert_eq!(launcher.free_slots(), 0);
            panic!("on purpose");
        });
        std::panic::catch_unwind(panics).unwrap_err();
        assert_eq!(launcher.free_slots(), 3);
        assert_eq!(fds_of_self(), before);
        assert!(no_child_is_left());
        drop(launcher);
        let gone = before.len() - fds_of_self().len();
        assert_eq!(gone, 4, "three slots and what they are copies of");
    });
}

#[test]
fn who_finds_too_few_slots_goes_the_ordinary_way_and_is_counted() {
    in_subprocess("who_finds_too_few_slots_goes_the_ordinary_way_and_is_counted", || {
        let launcher = Launcher::new(5).unwrap();
        let _busy = take_all_low_numbers();
        let mut first = Command::new("true").prepare().unwrap();
        let mut second = first.try_clone().unwrap();
        let holding = launcher.open(&mut first).unwrap();
        assert_eq!(launcher.free_slots(), 2);
        for fallbacks in 1..=3 {
            let opened = launcher.open(&mut second).unwrap();
            assert!(!is_lent(&opened.plan()));
            // None of the two that were free is kept.
            assert_eq!((launcher.free_slots(), launcher.fallbacks()), (2, fallbacks));
            assert!(opened.spawn().unwrap().wait().unwrap().success());
        }
        assert!(holding.spawn().unwrap().wait().unwrap().success());
        let opened = launcher.open(&mut second).unwrap();
        assert!(is_lent(&opened.plan()));
        assert_eq!(launcher.fallbacks(), 3);

        let none = Launcher::new(0).unwrap();
        drop(opened);
        assert!(none.spawn(&mut second).unwrap().wait().unwrap().success());
        assert_eq!((none.free_slots(), none.fallbacks()), (0, 1));
    });
}

#[test]
fn what_can_not_be_held_is_an_error_and_leaves_nothing() {
    in_subprocess("what_can_not_be_held_is_an_error_and_leaves_nothing", || {
        let before = fds_of_self();
        let held = Launcher::new(200).unwrap();
        for slots in [60, 257, usize::MAX] {
            let error = Launcher::new(slots).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        }
        drop(held);
        assert_eq!(fds_of_self(), before);
        // Below a limit that is lower still, and late in a program.
        set_soft_limit(20);
        assert_eq!(Launcher::new(30).unwrap_err().raw_os_error(), Some(libc::EMFILE));
        assert_eq!(fds_of_self(), before);
        set_soft_limit(1000);
        let _busy = take_all_low_numbers();
        let before = fds_of_self();
        assert_eq!(Launcher::new(1).unwrap_err().raw_os_error(), Some(libc::EMFILE));
        assert_eq!(fds_of_self(), before);
    });
}

#[test]
fn sixteen_threads_share_a_launcher() {
    in_subprocess("sixteen_threads_share_a_launcher", || {
        // Enough for some of them at once.
        let launcher = Launcher::new(20).unwrap();
        let _busy = take_all_low_numbers();
        let before = fds_of_self();
        let children = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for thread in 0..16 {
                let (launcher, children) = (&launcher, &children);
                scope.spawn(move || {
                    let mut cat = Command::new("cat").prepare().unwrap();
                    for round in 0..40 {
                        let mut child = launcher.spawn(&mut cat).unwrap();
                        let sent = format!("{thread} {round}");
                        let mut to = fs::File::from(child.take(0).unwrap());
                        to.write_all(sent.as_bytes()).unwrap();
                        drop(to);
                        let mut back = String::new();
                        // Ends: nobody else has the child's ends, no slot either.
                        fs::File::from(child.take(1).unwrap()).read_to_string(&mut back).unwrap();
                        assert_eq!(back, sent);
                        assert!(child.wait().unwrap().success());
                        children.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(children.into_inner(), 16 * 40);
        assert_eq!(launcher.free_slots(), 20);
        assert_eq!(fds_of_self(), before);
        assert!(no_child_is_left());
    });
}

#[test]
fn a_retry_keeps_what_is_lent() {
    in_subprocess("a_retry_keeps_what_is_lent", || {
        let launcher = Launcher::new(3).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("busy");
        write_program(&path, "#!/bin/true", 0o755);
        let _busy = take_all_low_numbers();
        let before = fds_of_self();
        // Open for writing, so that each try is refused.
        let writing = fs::File::options().append(true).open(&path).unwrap();
        let mut busy = Command::new(&path).prepare().unwrap();
        let error = launcher.spawn(&mut busy).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ETXTBSY));
        drop(writing);
        assert!(launcher.spawn(&mut busy).unwrap().wait().unwrap().success());

        // A retry that still shares the table, and one that does not.
        for (refused, shares_still) in [(libc::SYS_clone3, true), (libc::SYS_close_range, false)] {
            let mut prepared = Command::new("true").prepare().unwrap();
            under(&[Rule::errno(refused, libc::ENOSYS)], || {
                assert!(launcher.spawn(&mut prepared).unwrap().wait().unwrap().success());
                let opened = launcher.open(&mut prepared).unwrap();
                assert_eq!(is_lent(&opened.plan()), shares_still);
                assert_eq!(shares(&opened.plan()), shares_still);
            });
        }
        assert_eq!((launcher.free_slots(), launcher.fallbacks()), (3, 0));
        assert_eq!(fds_of_self(), before);
    });
}

#[test]
fn a_limit_lowered_meanwhile_keeps_no_end_open() {
    in_subprocess("a_limit_lowered_meanwhile_keeps_no_end_open", || {
        let mut low = take_all_low_numbers();
        low.drain(100..);
        let launcher = Launcher::new(3).unwrap();
        let _busy = take_all_low_numbers();
        let mut prepared = Command::new("true").prepare().unwrap();
        let opened = launcher.open(&mut prepared).unwrap();
        // No slot can be written any more; one number is left for the pidfd.
        low.drain(..1);
        set_soft_limit(50);
        let mut child = opened.spawn().unwrap();
        set_soft_limit(1000);
        assert_eq!(launcher.free_slots(), 0, "they are lost");
        let mut rest = Vec::new();
        fs::File::from(child.take(1).unwrap()).read_to_end(&mut rest).unwrap();
        assert!(child.wait().unwrap().success());
        // Their numbers are others' now, and are left alone.
        let others: Vec<OwnedFd> =
            (0..3).map(|_| OwnedFd::from(fs::File::open("/").unwrap())).collect();
        assert!(others.iter().all(|fd| fd.as_raw_fd() < HIGH), "{others:?}");
        assert!(launcher.spawn(&mut prepared).unwrap().wait().unwrap().success());
        assert_eq!(launcher.fallbacks(), 1);
        drop(launcher);
        assert!(others.iter().all(|fd| rustix::fs::fstat(fd).is_ok()));
    });
}

#[test]
fn a_slot_below_which_the_limit_lies_is_not_used() {
    in_subprocess("a_slot_below_which_the_limit_lies_is_not_used", || {
        let launcher = Launcher::new(100).unwrap();
        let high = place_at(tempfile::tempfile().unwrap(), 300);
        let mut command = paused();
        let mut prepared = command.fd(0, high).prepare().unwrap();
        // The lowest slots are still below it: all is well.
        set_soft_limit(50);
        assert!(is_lent(&launcher.open(&mut prepared).unwrap().plan()));
        assert_eq!((launcher.free_slots(), launcher.fallbacks()), (100, 0));
        // None is.
        set_soft_limit(3);
        assert!(!is_lent(&launcher.open(&mut prepared).unwrap().plan()));
        assert_eq!(launcher.fallbacks(), 1);
        set_soft_limit(1000);
        assert!(is_lent(&launcher.open(&mut prepared).unwrap().plan()));
    });
}

#[test]
fn a_child_that_must_fork_uses_no_slot() {
    in_subprocess("a_child_that_must_fork_uses_no_slot", || {
        let launcher = Launcher::new(3).unwrap();
        let _busy = take_all_low_numbers();
        let mut command = Command::new("true");
        let mut prepared = command.without(Features::SHARED_MEMORY).prepare().unwrap();
        let opened = launcher.open(&mut prepared).unwrap();
        assert_eq!(launcher.free_slots(), 3);
        assert!(opened.spawn().unwrap().wait().unwrap().success());
        assert_eq!(launcher.fallbacks(), 0);
    });
}
