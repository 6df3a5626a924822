//! Many commands: pipelines, and lists of them some at a time.

mod support;

use core::ops::ControlFlow::{Break, Continue};
use core::time::Duration;
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use forkplan::{
    Channel::*, Command, Ladder, OnDrop, Parallel, Pipeline, PlanError, Progress, Signal,
    SpawnError,
};
use support::{in_subprocess, no_child_is_left};

fn sh(script: &str) -> Command<'static> {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn open_fds() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn every_stage_of_a_pipeline_has_its_status_and_its_stderr() {
    let pipeline = Pipeline::new([
        sh("echo first >&2; head -c 3000000 /dev/zero; exit 1"),
        sh("echo second >&2; cat; kill -TERM $$"),
        sh("echo third >&2; wc -c"),
    ]);
    for _ in 0..2 {
        let stages = pipeline.output().unwrap();
        assert_eq!(stages[0].exit.code(), Some(1));
        assert_eq!(stages[1].exit.signal(), Some(Signal::TERM));
        assert!(stages[2].exit.success());
        assert_eq!(stages[2].stdout.trim_ascii(), b"3000000");
        let stderr: Vec<&[u8]> = stages.iter().map(|stage| &stage.stderr[..]).collect();
        assert_eq!(stderr, [&b"first\n"[..], b"second\n", b"third\n"]);
        assert!(stages[0].stdout.is_empty() && stages[1].stdout.is_empty());
    }
    let exits = Pipeline::new([sh("exit 4"), sh("exit 5")]).status().unwrap();
    assert_eq!([exits[0].code(), exits[1].code()], [Some(4), Some(5)]);
}

#[test]
fn a_pipeline_of_one_or_of_none_is_one_too() {
    assert_eq!(Pipeline::new([sh("echo x")]).output().unwrap()[0].stdout, b"x\n");
    assert!(Pipeline::new([] as [Command<'_>; 0]).output().unwrap().is_empty());
}

#[test]
fn a_stage_that_can_not_be_spawned_leaves_nothing() {
    in_subprocess("a_stage_that_can_not_be_spawned_leaves_nothing", || {
        let before = open_fds();
        for detached in [false, true] {
            let mut hung = sh("exec sleep 1000");
            hung.on_drop(OnDrop::Detach);
            let pipeline = Pipeline::new([&hung, &Command::new("/bin/nope"), &hung]);
            let error = match detached {
                false => pipeline.output().unwrap_err(),
                true => pipeline.spawn().map(drop).unwrap_err(),
            };
            let error = error.get_ref().unwrap().downcast_ref::<SpawnError>().unwrap();
            assert_eq!(error.description(), Some("execve \"/bin/nope\""));
            assert!(no_child_is_left());
            assert_eq!(open_fds(), before);
        }
        // Control: these do leave what was asked for.
        let mut children = Pipeline::new([sh("exec sleep 1000")]).spawn().unwrap();
        assert!(!no_child_is_left());
        children[0].kill().unwrap();
        children[0].wait().unwrap();
    });
}

#[test]
fn a_channel_where_a_pipe_has_to_be_is_an_error() {
    let mut said = sh("echo x");
    said.stdout(Null);
    let error = Pipeline::new([&said, &Command::new("cat")]).output().unwrap_err();
    let error = error.get_ref().unwrap().downcast_ref::<SpawnError>().unwrap();
    assert!(matches!(error.plan_error(), Some(PlanError::DuplicateFd { fd: 1, .. })), "{error}");
}

/// Commands that say when they begin and when they end, by a file that is there
/// meanwhile, and count how many there are then.
fn counting(dir: &std::path::Path, count: usize) -> Vec<Command<'static>> {
    let script = "mkdir $1/$$ && ls $1 | wc -l && head -c 100000 /dev/zero >&2; rmdir $1/$$";
    let command = |_| {
        let mut command = sh(script);
        command.arg("sh").arg(dir);
        command
    };
    (0..count).map(command).collect()
}

#[test]
fn no_more_run_at_a_time_than_were_asked_for() {
    for at_most in [1, 3, 0] {
        let dir = tempfile::tempdir().unwrap();
        let (mut alive, mut most) = (BTreeSet::new(), 0);
        let run = Parallel::new(at_most);
        let results = run
            .run(counting(dir.path(), 20), |progress| {
                match progress {
                    Progress::Started { index, running, .. } => {
                        assert!(alive.insert(index));
                        assert_eq!(running, alive.len());
                        most = most.max(running);
                    }
                    Progress::Ended { index, .. } => assert!(alive.remove(&index)),
                    _ => {}
                }
                Continue(())
            })
            .unwrap();
        let at_most = at_most.max(1);
        // As many as there may be, told; and never more, counted by themselves.
        assert_eq!(most, at_most);
        assert_eq!(results.len(), 20);
        for result in results {
            let captured = result.unwrap();
            let counted = str::from_utf8(captured.stdout()).unwrap().trim();
            assert!((1..=at_most).contains(&counted.parse().unwrap()), "{counted}");
            assert_eq!(captured.stderr().len(), 100_000);
        }
    }
}

#[test]
fn more_than_one_do_run_at_a_time() {
    // Each end of a FIFO waits for the other to be opened.
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let with_fifo = |script| {
        let mut command = sh(script);
        command.arg("sh").arg(&fifo);
        command
    };
    let commands = [with_fifo("echo met > $1"), with_fifo("cat $1")];
    let results = Parallel::new(2).run(&commands, |_| Continue(())).unwrap();
    assert_eq!(results[1].as_ref().unwrap().stdout(), b"met\n");
}

#[test]
fn progress_comes_in_the_order_of_each_command_and_starts_in_that_of_the_list() {
    let commands = [sh("echo 0"), Command::new("/bin/nope"), sh("echo 2; exit 2"), sh("echo 3")];
    let mut told = vec![Vec::new(); commands.len()];
    let mut begun = Vec::new();
    let results = Parallel::new(2)
        .run(&commands, |progress| {
            let (index, what) = match progress {
                Progress::Started { index, pid, .. } => {
                    assert!(pid.is_some());
                    (index, "started".to_string())
                }
                Progress::Failed { index, error } => (index, error.to_string()),
                Progress::Data { index, channel, bytes } => {
                    (index, format!("{channel}: {}", String::from_utf8_lossy(bytes)))
                }
                Progress::Ended { index, captured } => (index, captured.exit.to_string()),
                other => panic!("{other:?}"),
            };
            if told[index].is_empty() {
                begun.push(index);
            }
            told[index].push(what);
            Continue(())
        })
        .unwrap();
    assert_eq!(begun, [0, 1, 2, 3]);
    assert_eq!(told[0], ["started", "1: 0\n", "exit status: 0"]);
    assert_eq!(told[1], ["execve \"/bin/nope\": No such file or directory"]);
    assert_eq!(told[2], ["started", "1: 2\n", "exit status: 2"]);
    assert_eq!(told[3], ["started", "1: 3\n", "exit status: 0"]);
    let fine: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(fine, [true, false, true, true]);
    assert_eq!(results[2].as_ref().unwrap().exit.code(), Some(2));
}

#[test]
fn after_a_break_nothing_starts_and_the_ladder_says_what_becomes_of_the_rest() {
    // The failure comes when the other runs.
    let fails = || sh("exit 1");
    let commands = [sh("exec sleep 1000"), fails(), sh("exit 0")];
    let results = Parallel::new(2)
        .run(&commands, |progress| match progress {
            Progress::Ended { captured, .. } if !captured.exit.success() => Break(Ladder::kill()),
            _ => Continue(()),
        })
        .unwrap();
    assert_eq!(results.len(), 2);
    assert_eq!(results[0].as_ref().unwrap().exit.signal(), Some(Signal::KILL));

    let commands = [sh("cat; exit 6"), fails(), sh("exit 0")];
    let results = Parallel::new(2)
        .run(&commands, |progress| match progress {
            Progress::Ended { captured, .. } if !captured.exit.success() => Break(Ladder::new()),
            _ => Continue(()),
        })
        .unwrap();
    assert_eq!(results.len(), 2);
    assert_eq!(results[0].as_ref().unwrap().exit.code(), Some(6));

    // Left alone, they still have no more than their time.
    let commands = [sh("exec sleep 1000"), fails()];
    let results = Parallel::new(2)
        .timeout(Duration::from_millis(500), Ladder::kill())
        .run(&commands, |_| Break(Ladder::new()))
        .unwrap();
    assert!(results[0].as_ref().unwrap().timed_out);

    // Already at the start.
    let results = Parallel::new(2).run(&commands, |_| Break(Ladder::kill())).unwrap();
    assert_eq!(results.len(), 1);
}

#[test]
fn each_command_has_its_time_and_its_limit() {
    let commands = [sh("echo long enough; exec sleep 1000"), sh("echo long enough")];
    let results = Parallel::new(1)
        .limit(4)
        .timeout(Duration::from_secs(2), Ladder::kill())
        .run(&commands, |_| Continue(()))
        .unwrap();
    let [slow, fast] = &results[..] else { panic!("{results:?}") };
    let (slow, fast) = (slow.as_ref().unwrap(), fast.as_ref().unwrap());
    assert!(slow.timed_out && slow.exit.signal() == Some(Signal::KILL));
    // A machine may be so slow that even this one is late.
    assert!(fast.timed_out || fast.stdout() == b"long" && fast.truncated());
}

#[test]
fn a_panic_of_the_callback_leaves_no_child() {
    in_subprocess("a_panic_of_the_callback_leaves_no_child", || {
        let before = open_fds();
        let commands = [sh("exec sleep 1000"), sh("exec sleep 1000")];
        let panics = || {
            Parallel::new(2).run(&commands, |progress| match progress {
                Progress::Started { running: 2, .. } => panic!("expected"),
                _ => Continue(()),
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert!(no_child_is_left());
        assert_eq!(open_fds(), before);
    });
}

#[test]
fn a_list_may_be_made_while_it_runs() {
    let made = core::cell::Cell::new(0);
    let commands = core::iter::from_fn(|| {
        made.set(made.get() + 1);
        Some(sh("exit 0"))
    });
    // It has no end.
    let results = Parallel::new(3)
        .run(commands, |progress| match progress {
            Progress::Started { index: 9, .. } => Break(Ladder::new()),
            _ => Continue(()),
        })
        .unwrap();
    assert_eq!((results.len(), made.get()), (10, 10));
}

#[test]
fn commands_that_can_not_be_started_do_not_hide_the_deadline_of_one_that_runs() {
    let mut sleep = Command::new("sleep");
    let (sleep, bad) = (sleep.arg("1000"), Command::new("/nowhere/program"));
    let start = std::time::Instant::now();
    let failures = core::cell::Cell::new(0);
    let (mut sleep_ended, mut gave_up) = (false, false);
    // No list ends this test but the end of the one that runs, or its patience.
    let patience = Duration::from_secs(20);
    let results = Parallel::new(2)
        .timeout(Duration::from_millis(1), Ladder::kill())
        .run(core::iter::once(&*sleep).chain(core::iter::repeat(&bad)), |progress| {
            match progress {
                Progress::Failed { .. } => failures.set(failures.get() + 1),
                Progress::Ended { captured, .. } => sleep_ended = captured.timed_out,
                _ => {}
            }
            gave_up |= !sleep_ended && start.elapsed() > patience;
            match sleep_ended || gave_up {
                true => Break(Ladder::kill()),
                false => Continue(()),
            }
        })
        .unwrap();
    assert!(sleep_ended && !gave_up, "{} commands were tried", failures.get());
    assert_eq!(results.len(), failures.get() + 1);
}
