//! Children that are started and not waited for: how it went, and what is left.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::thread;

use forkplan::Channel::{self, Null, ReadPipe};
use forkplan::plan::Step;
use forkplan::{Child, Command, Features, OnDrop, Prepared, Pty, Signal, Starting};
use support::storm::{count_handlers, hits_in_children, hits_in_parent, in_a_storm};
use support::{
    EXCLUSIONS, PATHS, amount, beside, fds_of_self, in_subprocess, no_child_is_left, pause, say,
    skipped, write_program,
};

fn said(child: &mut Child) -> String {
    let mut text = String::new();
    File::from(child.take(1).unwrap()).read_to_string(&mut text).unwrap();
    text
}

/// Prints its arguments and one variable.
fn talks(word: &str) -> Command<'static> {
    let mut command = Command::new("sh");
    command.args(["-c", "echo \"$@\" $KEY", "sh", word]).env("KEY", "value").fd(1, ReadPipe);
    command
}

#[test]
fn a_start_gives_the_child_and_the_command_to_start_again() {
    for without in EXCLUSIONS {
        let mut prepared = talks("word").without(without).prepare().unwrap();
        for _ in 0..3 {
            let (back, child) = prepared.start().finish();
            let mut child = child.unwrap();
            assert_eq!(said(&mut child), "word value\n");
            assert!(child.wait().unwrap().success());
            prepared = back;
        }
        // It spawns as ever, too.
        assert_eq!(said(&mut prepared.spawn().unwrap()), "word value\n");
    }
}

#[test]
fn what_a_spawn_says_of_a_failure_a_start_says_too() {
    in_subprocess("what_a_spawn_says_of_a_failure_a_start_says_too", || {
        let mut commands = [(); 4].map(|()| Command::new("/bin/true"));
        commands[0].current_dir("/nowhere");
        commands[1] = Command::new("/nowhere/program");
        commands[2] = Command::new("no-such-program");
        commands[3].fd(3, Channel::file("/nowhere/file", forkplan::Open::Read));
        for command in &commands {
            for without in EXCLUSIONS {
                let mut prepared = command.clone().without(without).prepare().unwrap();
                let expected = prepared.spawn().unwrap_err().to_string();
                let before = fds_of_self();
                let (_prepared, result) = prepared.start().finish();
                assert_eq!(result.unwrap_err().to_string(), expected);
                assert!(no_child_is_left());
                assert_eq!(fds_of_self(), before);
            }
        }
    });
}

#[test]
fn a_feature_that_is_required_is_not_done_without() {
    let mut command = Command::new("true");
    if !Features::of_this_kernel().contains(Features::SHARED_FILES) {
        return skipped("a_feature_that_is_required_is_not_done_without", "no such feature");
    }
    command.require(Features::SHARED_FILES);
    let (mut prepared, result) = command.prepare().unwrap().start().finish();
    assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::Unsupported);
    // The control: a spawn has it.
    assert!(prepared.spawn().unwrap().wait().unwrap().success());
}

#[test]
fn the_plan_of_a_start_shares_no_table_and_keeps_the_notice() {
    let starting = Command::new("/bin/true").fd(0, Null).prepare().unwrap().start();
    let unshares = |step: &Step| matches!(step, Step::Unshare { .. });
    assert!(!starting.plan().steps().iter().any(unshares), "{}", starting.plan());
    // The control: a spawn of the same does.
    let (mut prepared, child) = starting.finish();
    assert!(child.unwrap().wait().unwrap().success());
    let shares = Features::of_this_kernel().contains(Features::SHARED_FILES);
    assert_eq!(prepared.open().unwrap().plan().steps().iter().any(unshares), shares);
}

#[test]
fn a_busy_program_is_tried_again_without_blocking() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    write_program(&path, "#!/bin/true\n", 0o755);
    for without in PATHS {
        let prepared = Command::new(&path).without(without).prepare().unwrap();
        let writer = File::options().append(true).open(&path).unwrap();
        let mut starting = prepared.start();
        // Until it waits to be tried again, it has a notice.
        while starting.notice().is_some() {
            assert!(!starting.look());
        }
        drop(writer);
        let (prepared, result) = starting.finish();
        assert!(result.unwrap().wait().unwrap().success());
        // One that stays busy is an error, in the end.
        let writer = File::options().append(true).open(&path).unwrap();
        let (prepared, result) = prepared.start().finish();
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ETXTBSY));
        // And one that is dropped meanwhile leaves nothing.
        let mut starting = prepared.start();
        while starting.notice().is_some() {
            assert!(!starting.look());
        }
        drop((starting, writer));
    }
}

#[test]
fn one_that_is_dropped_is_killed_and_leaves_nothing() {
    in_subprocess("one_that_is_dropped_is_killed_and_leaves_nothing", || {
        pause();
        for without in EXCLUSIONS {
            let given = Channel::give(File::open("/dev/null").unwrap());
            let mut command = Command::new(pause());
            command.without(without).fd(1, ReadPipe).fd(2, Pty::new()).fd(5, given);
            let mut prepared = command.prepare().unwrap();
            let before = fds_of_self();
            for _ in 0..5 {
                drop(prepared.try_clone().unwrap().start());
                assert!(no_child_is_left());
                assert_eq!(fds_of_self(), before);
            }
            // What was given was put back.
            let mut child = prepared.spawn().unwrap();
            child.signal(Signal::KILL).unwrap();
            child.wait().unwrap();
            // The control: now it is gone.
            prepared.spawn().unwrap_err();
        }
    });
}

#[test]
fn so_is_one_that_has_reached_its_program() {
    in_subprocess("so_is_one_that_has_reached_its_program", || {
        for without in EXCLUSIONS {
            let prepared = Command::new(pause()).without(without).prepare().unwrap();
            let mut starting = prepared.start();
            while !starting.look() {
                thread::yield_now();
            }
            drop(starting);
            assert!(no_child_is_left());
        }
    });
}

#[test]
fn a_storm_of_signals_runs_no_handler_in_a_child() {
    in_subprocess("a_storm_of_signals_runs_no_handler_in_a_child", || {
        pause();
        count_handlers();
        let before = fds_of_self();
        let (mut died, mut ran) = (0, 0);
        in_a_storm(|| {
            for without in PATHS {
                let mut command = Command::new("/bin/true");
                let mut prepared = command.without(without).fd(0, Null).prepare().unwrap();
                for _ in 0..amount("FORKPLAN_TEST_SPAWNS", 2000) / 4 {
                    let (back, result) = prepared.start().finish();
                    prepared = back;
                    match result {
                        Ok(mut child) => ran += usize::from(child.wait().is_ok()),
                        Err(error) => died += usize::from(error.signal().is_some()),
                    }
                }
            }
        });
        assert_eq!(hits_in_children(), 0);
        assert!(no_child_is_left());
        assert_eq!(fds_of_self(), before);
        // The premise: there was a storm, and children came through it.
        assert!(hits_in_parent() > 0 && ran > 0);
        say(&format!("{ran} ran, {died} died, {} hits", hits_in_parent()));
    });
}

/// Starts `each` children from each of so many threads, all on their way at once,
/// again and again, beside a thread that churns the heap.
fn many_at_once(threads: usize, each: usize, rounds: usize) {
    let churn = || {
        let mut held = Vec::new();
        for size in (16..4096).step_by(61) {
            held.push(vec![0xa5u8; size]);
        }
        drop(held);
    };
    let thread = |number: usize| {
        let word = |at: usize| format!("{}-{number}-{at}", "x".repeat(at));
        let mut pool: Vec<Prepared<'static>> =
            (0..each).map(|at| talks(&word(at)).prepare().unwrap()).collect();
        for _ in 0..rounds {
            let starting: Vec<Starting<'static>> = pool.drain(..).map(Prepared::start).collect();
            for (at, started) in starting.into_iter().enumerate() {
                let (prepared, child) = started.finish();
                let mut child = child.unwrap();
                assert_eq!(said(&mut child), format!("{} value\n", word(at)));
                assert!(child.wait().unwrap().success());
                pool.push(prepared);
            }
        }
    };
    beside(churn, || {
        thread::scope(|scope| {
            (0..threads).for_each(|number| drop(scope.spawn(move || thread(number))));
        });
    });
}

#[test]
fn many_threads_have_many_on_their_way_and_each_gets_its_own_strings() {
    many_at_once(4, 8, 5);
}

#[test]
fn sixty_four_are_on_their_way_at_once() {
    many_at_once(1, 64, 2);
}

#[test]
fn a_score_for_the_oom_killer_is_the_childs_alone() {
    in_subprocess("a_score_for_the_oom_killer_is_the_childs_alone", || {
        let own = || fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        let before = own();
        let mut command = Command::new("cat");
        command.arg("/proc/self/oom_score_adj").oom_score_adj(777).fd(1, ReadPipe);
        let (_prepared, child) = command.prepare().unwrap().start().finish();
        assert_eq!(said(&mut child.unwrap()), "777\n");
        assert_eq!(own(), before);

        // The control: of two processes that share memory, one sets it for both.
        extern "C" fn sets_it(_: *mut libc::c_void) -> i32 {
            // SAFETY: opens, writes, ends.
            unsafe {
                let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY);
                libc::write(file, c"778".as_ptr().cast(), 3);
                libc::_exit(0)
            }
        }
        let mut stack = vec![0u128; 4096];
        let top = stack.as_mut_ptr_range().end.cast();
        // SAFETY: the stack stays until the child has ended, and no other thread
        // runs that would mind the `errno` that it may write.
        let pid = unsafe { libc::clone(sets_it, top, libc::CLONE_VM, core::ptr::null_mut()) };
        assert!(pid > 0);
        // SAFETY: no pointers but null.
        assert_eq!(unsafe { libc::waitpid(pid, core::ptr::null_mut(), libc::__WALL) }, pid);
        assert_eq!(own(), "778\n");
    });
}

#[test]
fn what_is_on_its_way_leaks_no_fd_into_its_siblings() {
    in_subprocess("what_is_on_its_way_leaks_no_fd_into_its_siblings", || {
        pause();
        let mut command = Command::new(pause());
        command.fd(1, ReadPipe).on_drop(OnDrop::Kill);
        let starting: Vec<Starting<'_>> =
            (0..8).map(|_| command.prepare().unwrap().start()).collect();
        for started in starting {
            let (_prepared, child) = started.finish();
            let child = child.unwrap();
            let fds = support::fds_of(child.id().unwrap());
            assert_eq!(fds.keys().copied().collect::<Vec<_>>(), [1]);
            assert!(child.end(1).unwrap().as_raw_fd() > 2);
        }
    });
}
