//! A prepared spawn allocates nothing, in the parent or in the child.
//!
//! In a file of its own, since its allocator counts, and traps in children.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::hint::black_box;
use core::sync::atomic::{AtomicI32, Ordering};
use std::alloc::System;
use std::os::fd::OwnedFd;

use forkplan::Channel::{self, DatagramPair, Null, ReadPipe, SeqpacketPair, SocketPair, WritePipe};
use forkplan::{
    Command, Features, IdRange, Launcher, NamedPipe, Namespaces, OnDrop, Open, Prepared, Pty,
    Resource, Signal, WindowSize,
};
use support::isolation::lets_anybody_make_namespaces;
use support::{EXCLUSIONS, PATHS, in_subprocess, pause};

/// Counts each thread's allocations, and ends any process but the one that
/// armed it. A child that shares memory is found out too: its pid is its own.
struct Tripwire;

/// The process that may allocate; 0 until it is armed.
static ARMED: AtomicI32 = AtomicI32::new(0);

thread_local! {
    // `const`, and nothing to drop: reaching it never allocates.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn pid() -> i32 {
    // SAFETY: no pointers.
    unsafe { libc::getpid() }
}

fn noticed() {
    let armed = ARMED.load(Ordering::Relaxed);
    if armed != 0 && armed != pid() {
        // SAFETY: ends this process, by a signal whatever is blocked.
        unsafe { libc::abort() };
    }
    COUNT.set(COUNT.get() + 1);
}

// SAFETY: everything is the system's allocator's.
unsafe impl GlobalAlloc for Tripwire {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        noticed();
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        noticed();
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(pointer, layout) };
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        noticed();
        // SAFETY: the caller's contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Tripwire = Tripwire;

/// Arms the tripwire, in a process of the test's own: `std::process` would
/// trip it.
fn armed(name: &str, body: impl FnOnce()) {
    in_subprocess(name, || {
        pause();
        ARMED.store(pid(), Ordering::Relaxed);
        body();
    });
}

/// How often this thread allocated or freed meanwhile.
fn count(body: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    body();
    COUNT.get() - before
}

/// A command with some of everything: environment, directory, a search, five
/// channels, two fds that change places.
fn rich(without: Features) -> Command<'static> {
    let mut command = Command::new("true");
    command
        .args(["some", "arguments"])
        .env("KEY", "value")
        .env("PATH", "/nowhere:/bin:/usr/bin")
        .current_dir("/")
        .fd(0, WritePipe)
        .fd(1, ReadPipe)
        .channel("control", SocketPair, [3, 9])
        .fd(4, Channel::file("/dev/null", Open::ReadWrite))
        .fd(2, Channel::stderr())
        .fd(5, Pty::new().size(WindowSize::new(24, 80)).raw())
        .without(without);
    command
}

#[test]
fn a_prepared_spawn_and_its_wait_allocate_nothing() {
    armed("a_prepared_spawn_and_its_wait_allocate_nothing", || {
        for without in EXCLUSIONS {
            for inherit in [false, true] {
                let mut command = rich(without);
                let mut prepared = command.inherit_unnamed_fds(inherit).prepare().unwrap();
                // The first may grow what the others use again.
                prepared.spawn().unwrap().wait().unwrap();
                let allocated = count(|| {
                    for _ in 0..20 {
                        let mut child = prepared.spawn().unwrap();
                        assert!(child.take("control").is_some());
                        assert!(child.wait().unwrap().success());
                    }
                });
                assert_eq!(allocated, 0, "without {without:?}, inherit {inherit}");
            }
        }
    });
}

/// Of the steps, the id maps have the parent write something at each spawn.
#[test]
fn neither_do_setup_steps_and_id_maps() {
    let name = "neither_do_setup_steps_and_id_maps";
    armed(name, || {
        let mut set_up = rich(Features::empty());
        set_up.setsid().umask(0o77).rlimit(Resource::CORE, 0, 0).nice(19).env_pid("OWN");
        set_up.oom_score_adj(1000).no_new_privs().ignore_signals([Signal::USR1]);
        let mut commands = vec![set_up];
        if lets_anybody_make_namespaces(name) {
            let map = |outside| [IdRange { inside: 0, outside, count: 1 }];
            let mut mapped = rich(Features::empty());
            mapped.unshare(Namespaces::USER | Namespaces::UTS);
            mapped.uid_map(map(rustix::process::geteuid().as_raw()));
            mapped.gid_map(map(rustix::process::getegid().as_raw()));
            commands.push(mapped);
        }
        for command in commands {
            for without in PATHS {
                let mut prepared = command.clone().without(without).prepare().unwrap();
                prepared.spawn().unwrap().wait().unwrap();
                let allocated = count(|| {
                    assert!(prepared.spawn().unwrap().wait().unwrap().success());
                });
                assert_eq!(allocated, 0, "without {without:?}");
            }
        }
    });
}

#[test]
fn no_kind_of_channel_allocates_when_it_is_opened_again() {
    armed("no_kind_of_channel_allocates_when_it_is_opened_again", || {
        let dir = tempfile::tempdir().unwrap();
        let fifo = |name: &str| dir.path().join(name);
        for without in EXCLUSIONS {
            let mut command = Command::new("/bin/true");
            command.without(without).fd(0, Channel::bytes("input")).fd(1, SeqpacketPair);
            command.fd(2, DatagramPair).fd(3, NamedPipe::read(fifo("a")).create(0o600).unlink());
            command.fds([4, 5], NamedPipe::write(fifo("b")).create(0o600)).fd(6, Null);
            let mut fast = command.prepare().unwrap();
            command.fds([7, 8], Channel::file_in_child("/dev/null", Open::Append));
            let mut forked = command.prepare().unwrap();
            for prepared in [&mut fast, &mut forked] {
                prepared.spawn().unwrap().wait().unwrap();
                let allocated = count(|| {
                    for _ in 0..10 {
                        assert!(prepared.spawn().unwrap().wait().unwrap().success());
                    }
                });
                assert_eq!(allocated, 0, "without {without:?}");
            }
        }
    });
}

#[test]
fn neither_does_one_through_a_launcher() {
    armed("neither_does_one_through_a_launcher", || {
        let launcher = Launcher::new(8).unwrap();
        let high = an_fd_too_high_to_be_shared();
        for (slots, lent) in [(&launcher, true), (&Launcher::new(0).unwrap(), false)] {
            let mut command = rich(Features::empty());
            let mut prepared = command.fd(11, Channel::borrowed(&high)).prepare().unwrap();
            slots.spawn(&mut prepared).unwrap().wait().unwrap();
            let allocated = count(|| {
                for _ in 0..20 {
                    assert!(slots.spawn(&mut prepared).unwrap().wait().unwrap().success());
                }
            });
            assert_eq!(allocated, 0, "{slots:?}");
            // The premise: one went through slots, one did without.
            assert_eq!(slots.fallbacks() == 0, lent);
        }
    });
}

#[test]
fn neither_does_a_start_and_the_command_comes_back() {
    armed("neither_does_a_start_and_the_command_comes_back", || {
        for without in EXCLUSIONS {
            let prepared = rich(without).prepare().unwrap();
            // Two on their way at once, in the places of two.
            let mut pool = [Some(prepared.try_clone().unwrap()), Some(prepared)];
            let mut round = || {
                let mut starting = pool.each_mut().map(|place| place.take().map(Prepared::start));
                for (place, starting) in pool.iter_mut().zip(&mut starting) {
                    let (prepared, child) = starting.take().unwrap().finish();
                    assert!(child.unwrap().wait().unwrap().success());
                    *place = Some(prepared);
                }
            };
            round();
            assert_eq!(count(|| (0..10).for_each(|_| round())), 0, "without {without:?}");
        }
    });
}

/// An fd that a child which shares the table can't have.
fn an_fd_too_high_to_be_shared() -> OwnedFd {
    rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 300).unwrap()
}

#[test]
fn neither_does_a_kill_on_drop() {
    armed("neither_does_a_kill_on_drop", || {
        for without in PATHS {
            let mut command = Command::new(pause());
            let mut prepared = command.without(without).on_drop(OnDrop::Kill).prepare().unwrap();
            assert_eq!(count(|| (0..20).for_each(|_| drop(prepared.spawn().unwrap()))), 0);
        }
    });
}

/// The documented exception: one allocation, and its end, for the ends past the
/// sixteenth.
#[test]
fn with_more_than_sixteen_ends_a_spawn_allocates_once() {
    armed("with_more_than_sixteen_ends_a_spawn_allocates_once", || {
        for (channels, expected) in [(16, 0), (17, 2), (40, 2)] {
            let mut command = Command::new("/bin/true");
            (0..channels).for_each(|fd| {
                command.fd(fd, ReadPipe);
            });
            let mut prepared = command.prepare().unwrap();
            prepared.spawn().unwrap().wait().unwrap();
            let allocated = count(|| {
                assert!(prepared.spawn().unwrap().wait().unwrap().success());
            });
            assert_eq!(allocated, expected, "{channels}");
        }
    });
}

#[test]
fn a_failed_spawn_allocates_in_the_parent_alone() {
    armed("a_failed_spawn_allocates_in_the_parent_alone", || {
        for without in EXCLUSIONS {
            let error = Command::new("/nowhere/program").without(without).spawn().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        }
    });
}

#[test]
fn control_a_child_that_allocates_trips() {
    armed("control_a_child_that_allocates_trips", || {
        // SAFETY: one thread; the child allocates, which is the point, and ends.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            drop(black_box(Box::new(7)));
            // SAFETY: ends this process.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: writes the status.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status & 0x7f, libc::SIGABRT);
        // And in the parent allocations are seen.
        assert_eq!(count(|| drop(black_box(Box::new(7)))), 2);
    });
}
