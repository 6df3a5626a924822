//! Every call of the child fails with every errno that it can have, on every way
//! to a child: what is said of it is worked out from the documented rules, nothing
//! is left, and the parent is as it was.
//!
//! The short form has the errnos of each call, from `tests/support/errnos.rs`, on the
//! fast path, and a seventh of them on each other way; with
//! `FORKPLAN_TEST_ERRNOS=manual` it has them on every way, and with `all` all 131
//! that Linux has. The rules, and no others, by which an errno is not just told:
//!
//! * a candidate of a search that is `ENOENT`, `ENOTDIR` or `EACCES` gives way to
//!   the next, one that is `ENOEXEC` to a shell, and `ETXTBSY` is tried again;
//! * a feature that is refused is done without, unless the plan is fixed;
//! * `EBADF` is an fd that there is not, where each number is looked at;
//! * `EINVAL` is the end of the capabilities that a kernel knows;
//! * a close after which nothing is left to do may fail;
//! * a `getppid` that is not the parent's pid is `ESRCH`.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::collections::BTreeSet;

use forkplan::plan::Step;
use forkplan::{Launcher, Plan, Signal, SpawnError};
use support::fault_commands::Lent;
use support::fault_search::{Candidate, Outcome, candidates, search};
use support::fault_ways::{Bench, Entry, WAYS, Way};
use support::faults::{Target, Verdict, lower_the_limits, rules};
use support::held::{Call, Held, Verdict as Judged, holding};
use support::isolation::is_root;
use support::seccomp::{Rule, under};
use support::state::State;
use support::{
    CLONES, description, errnos, in_subprocess, in_subprocesses, no_child_is_left, say, subjects,
};

/// What comes of it where this call of the step's fails.
fn outcome(
    way: Way,
    target: &Target,
    call: libc::c_long,
    errno: i32,
    exec: &[Candidate],
) -> Outcome {
    let index = target.index;
    let refused = [libc::ENOSYS, libc::EPERM, libc::EINVAL].contains(&errno);
    let closes_last = call == libc::SYS_close;
    let without = way.may_do_without();
    match target.step {
        Step::Exec { .. } | Step::ExecShell { .. } | Step::ExecFd { .. } => {
            let all = target.path.is_none();
            search(exec, |at| all || at == index, errno)
        }
        Step::Unshare { .. } if without => Outcome::Starts,
        Step::MarkRange { .. } if without && refused => Outcome::Starts,
        Step::MarkListed { .. } if without || closes_last => Outcome::Starts,
        Step::WriteFile { .. } if closes_last => Outcome::Starts,
        Step::MarkEach { .. } if errno == libc::EBADF => Outcome::Starts,
        Step::CheckParent { .. } => Outcome::Fails { index, errno: libc::ESRCH },
        _ => Outcome::Fails { index, errno },
    }
}

/// What the error has to say of the step, in the plan's words.
fn assert_is_named(plan: &Plan<'_>, error: &SpawnError, index: usize, errno: i32) {
    let step = plan.steps()[index];
    assert_eq!((error.step_index(), error.step()), (Some(index), Some(step)), "{error}");
    assert_eq!((error.raw_os_error(), error.signal()), (Some(errno), None), "{error}");
    assert_eq!(*error.subject(), subjects::subject_of(plan, index, errno), "{error}");
    let nowhere = matches!(error.subject(), forkplan::Subject::Search { .. });
    let words = plan.show(step).to_string();
    match nowhere {
        false => assert_eq!(description(error), Some(&*words)),
        true => assert!(description(error).unwrap().ends_with(" directories of PATH")),
    }
    let strerror = std::io::Error::from_raw_os_error(errno).to_string();
    let strerror = strerror.split(" (os error").next().unwrap();
    let text = format!("{}: {strerror}", description(error).unwrap());
    assert_eq!(error.to_string(), text);
}

/// The variable that asks for more than the short form.
const LONGER: &str = "FORKPLAN_TEST_ERRNOS";

/// Whether it is this fault's turn. The short form looks at the fast path in full,
/// and at every seventh of the others, each at another.
fn is_due(way: usize, fault: usize) -> bool {
    way == 0 || std::env::var_os(LONGER).is_some() || (way + fault) % 7 == 0
}

/// The errnos for a call. `EINTR` of a read is met by another read, which a filter
/// would refuse again, for ever: [`a_read_that_is_interrupted_is_made_again`].
fn errnos_of(call: libc::c_long, way: usize, fault: usize) -> Vec<i32> {
    let mut errnos = match std::env::var(LONGER).as_deref() {
        // Two numbers are nobody's.
        Ok("all") => (1..=133).filter(|errno| ![41, 58].contains(errno)).collect(),
        _ => errnos::of_call(call).1,
    };
    let mut turn = fault;
    errnos.retain(|_| {
        turn += 1;
        is_due(way, turn)
    });
    errnos.retain(|&errno| (call, errno) != (libc::SYS_read, libc::EINTR));
    errnos
}

/// Which call of which step had a fault, and how many there were.
#[derive(Default)]
struct Tally {
    steps: BTreeSet<String>,
    calls: BTreeSet<libc::c_long>,
    faults: usize,
    /// Those that were not due included.
    turn: usize,
}

fn name(step: Step) -> String {
    let words = format!("{step:?}");
    words.split([' ', '{']).next().unwrap().into()
}

fn every_fault(bench: &mut Bench<'_, '_>, place: [usize; 2], thread: &State, tally: &mut Tally) {
    let [way, command] = place;
    bench.look(|_| ());
    let before = State::of_process();
    let exec = bench.look(candidates);
    for at in 0..bench.targets().len() {
        let first = |target: &Target| rules(target, &|number| Rule::errno(number, 1));
        let calls: Vec<_> = first(&bench.targets()[at]).iter().map(Rule::call).collect();
        for (number, call) in calls.into_iter().enumerate() {
            tally.turn += 1;
            for errno in errnos_of(call, way, tally.turn) {
                let target = bench.targets()[at];
                let is_program = matches!(target.step, Step::Exec { .. });
                // Tried again for an eighth of a second.
                if errno == libc::ETXTBSY && is_program && command > 0 {
                    continue;
                }
                let expected = outcome(bench.way, &target, call, errno, &exec);
                let fails = |number| Rule::errno(number, errno);
                let (result, after) = bench.spawn_under(|| one_of(&target, number, &fails));
                let what = format!("{}, {}: {errno}", bench.way, target.step);
                match (&expected, result) {
                    (Outcome::Starts, Ok(())) => {}
                    (&Outcome::Fails { index, errno }, Err(error)) => {
                        bench.look(|plan| assert_is_named(plan, &error, index, errno));
                    }
                    (_, result) => panic!("{what}: {result:?} in place of {expected:?}"),
                }
                assert_nothing_is_left(bench, [&before, thread], &after, &what);
                tally.steps.insert(name(target.step));
                tally.calls.insert(call);
                tally.faults += 1;
            }
        }
    }
}

/// The rule for one of the step's calls.
fn one_of(target: &Target, number: usize, verdict: Verdict<'_>) -> Vec<Rule> {
    vec![rules(target, verdict).swap_remove(number)]
}

/// `before` and `after` are those of the process and of the thread that spawned.
fn assert_nothing_is_left(
    bench: &mut Bench<'_, '_>,
    [process, thread]: [&State; 2],
    after: &State,
    what: &str,
) {
    assert!(no_child_is_left(), "{what}");
    after.assert_is(thread, what);
    bench.look(|_| ());
    State::of_process().assert_is(process, what);
}

/// Where a child is that is killed at the call of this step; `None` if it does not
/// come to it.
fn killed_at(target: &Target, exec: &[Candidate]) -> Option<usize> {
    let is_program = |candidate: &Candidate| candidate.index == target.index;
    if !exec.iter().any(is_program) {
        return Some(target.index);
    }
    // As an errno with which a search ends.
    let hit = |index| target.path.is_none() || index == target.index;
    match search(exec, hit, libc::EXFULL) {
        Outcome::Starts => None,
        Outcome::Fails { index, .. } => Some(index),
    }
}

/// A call is made by a child that is killed there, by the kernel or somebody else.
fn every_kill(bench: &mut Bench<'_, '_>, place: [usize; 2], thread: &State, tally: &mut Tally) {
    bench.look(|_| ());
    let before = State::of_process();
    let exec = bench.look(candidates);
    for at in 0..bench.targets().len() {
        let calls = rules(&bench.targets()[at], &Rule::kill);
        tally.calls.extend(calls.iter().map(Rule::call));
        for number in 0..calls.len() {
            for signal in [Signal::SYS, Signal::KILL] {
                tally.turn += 1;
                if !is_due(place[0], tally.turn) {
                    continue;
                }
                let target = bench.targets()[at];
                let what = format!("{}, {}: {signal}", bench.way, target.step);
                let (result, after) = if signal == Signal::SYS {
                    bench.spawn_under(|| one_of(&target, number, &Rule::kill))
                } else {
                    let held = || Held::These(one_of(&target, number, &Rule::hold));
                    let kill = |_: &Call| Judged::Signal(libc::SIGKILL);
                    bench.spawn_in(|body| holding(held, kill, body))
                };
                match (killed_at(&target, &exec), result) {
                    // One that comes after the program.
                    (None, Ok(())) => {}
                    (Some(index), Err(error)) => {
                        assert_eq!(error.step_index(), Some(index), "{what}: {error}");
                        assert_eq!((error.raw_os_error(), error.signal()), (None, Some(signal)));
                        let words = bench.look(|plan| plan.show(plan.steps()[index]).to_string());
                        let words = format!("{words}: the child was killed by {signal}");
                        assert_eq!(error.to_string(), words);
                    }
                    (index, result) => panic!("{what}: {result:?} in place of {index:?}"),
                }
                assert_nothing_is_left(bench, [&before, thread], &after, &what);
                tally.steps.insert(name(target.step));
                tally.faults += 1;
            }
        }
    }
}

type Each = fn(&mut Bench<'_, '_>, [usize; 2], &State, &mut Tally);

/// Every command that there is, on the way of this number.
fn every_command(test: &str, case: usize, each: Each) -> Tally {
    let way = WAYS[case];
    let launcher = Launcher::new(12).unwrap();
    let mut lent = Lent::new(test);
    let mut tally = Tally::default();
    // Numbers that a launcher has to lend.
    let low: Vec<_> = match way.entry {
        Entry::Launcher | Entry::OneShotOfLauncher => {
            lent = lent.moved_above(280);
            let free = |_| rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 0).unwrap();
            (0..260).map(free).collect()
        }
        _ => Vec::new(),
    };
    let forking = match way.entry {
        Entry::Opened | Entry::Start => lent.forking(test),
        _ => Vec::new(),
    };
    // Under a filter that hits nothing.
    let ((), thread) = under(&[], || ((), State::of_thread()));
    let sharing = lent.sharing();
    for (at, mut command) in sharing.into_iter().chain(forking).enumerate() {
        command.without(way.without);
        let mut bench = Bench::new(&command, way, &launcher);
        each(&mut bench, [case, at], &thread, &mut tally);
        // The control: nothing but the faults was in the way.
        bench.look(|_| ());
        assert!(bench.spawn_under(Vec::new).0.is_ok());
    }
    drop(low);
    assert_eq!((launcher.fallbacks(), launcher.free_slots()), (0, 12));
    tally
}

/// With every call of the child's in it, but for those of another way to close, and
/// what this kernel or user lacks.
fn assert_is_complete(tally: &Tally, case: usize) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let of_another_way = match case {
        0 => libc::SYS_getdents64,
        4 => libc::SYS_close_range,
        _ => return,
    };
    let has = |call| tally.calls.contains(&call) || call == of_another_way;
    let calls = errnos::OF_THE_CHILD.iter();
    let missing: Vec<&str> =
        calls.filter(|(_, call, _)| !has(*call)).map(|(name, ..)| *name).collect();
    // Where the kernel has no Landlock.
    assert!(missing.is_empty() || missing == ["landlock_restrict_self"], "{missing:?}");
}

#[test]
fn every_call_that_fails_with_any_errno_is_named_and_leaves_nothing() {
    let test = "every_call_that_fails_with_any_errno_is_named_and_leaves_nothing";
    in_subprocesses(test, WAYS.len(), |case| {
        lower_the_limits();
        let tally = every_command(test, case, every_fault);
        assert_is_complete(&tally, case);
        say(&format!("{}: {} faults of {} steps", WAYS[case], tally.faults, tally.steps.len()));
    });
}

#[test]
fn a_child_that_is_killed_at_any_call_has_not_started_and_leaves_nothing() {
    let test = "a_child_that_is_killed_at_any_call_has_not_started_and_leaves_nothing";
    in_subprocesses(test, WAYS.len(), |case| {
        lower_the_limits();
        let tally = every_command(test, case, every_kill);
        assert_is_complete(&tally, case);
        say(&format!("{}: {} kills of {} steps", WAYS[case], tally.faults, tally.steps.len()));
    });
}

/// The calls of children that wait for their id maps, by every kind of clone.
fn each_that_waits(test: &str, mut each: impl FnMut(&mut Bench<'_, '_>, &Target)) {
    let lent = Lent::new(test);
    for without in CLONES {
        for mut command in lent.forking(test) {
            let launcher = Launcher::new(0).unwrap();
            command.without(without);
            let mut bench = Bench::new(&command, Way { entry: Entry::Opened, without }, &launcher);
            let waits = |target: &&Target| matches!(target.step, Step::AwaitParent { .. });
            let Some(target) = bench.targets().iter().find(waits).copied() else { continue };
            each(&mut bench, &target);
            assert!(no_child_is_left());
        }
    }
}

/// The one call of the child's that is made again.
#[test]
fn a_read_that_is_interrupted_is_made_again() {
    let test = "a_read_that_is_interrupted_is_made_again";
    if !is_root(test) {
        return;
    }
    in_subprocess(test, || {
        each_that_waits(test, |bench, target| {
            let mut held = 0;
            let twice = |_: &Call| {
                held += 1;
                if held < 3 { Judged::Errno(libc::EINTR) } else { Judged::Made }
            };
            let read = || Held::These(one_of(target, 0, &Rule::hold));
            bench.spawn_in(|body| holding(read, twice, body)).0.unwrap();
            assert_eq!(held, 3);
        });
    });
}

/// Not one of the parent, which finds nobody to write to any more.
#[test]
fn a_broken_pipe_of_a_child_that_waits_is_its_own_error() {
    let test = "a_broken_pipe_of_a_child_that_waits_is_its_own_error";
    if !is_root(test) {
        return;
    }
    in_subprocess(test, || {
        each_that_waits(test, |bench, target| {
            let rules = || {
                let mut rules = one_of(target, 0, &|call| Rule::errno(call, libc::EPIPE));
                rules.push(Rule::hold(libc::SYS_pwritev2));
                Held::These(rules)
            };
            let mut written = 0;
            let after_its_end = |_: &Call| {
                written += 1;
                let mut info = core::mem::MaybeUninit::<libc::siginfo_t>::uninit();
                let options = libc::WEXITED | libc::WNOWAIT | libc::__WALL;
                // SAFETY: writes what ended.
                let ended = unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) };
                assert_eq!(ended, 0);
                Judged::Made
            };
            let error = bench.spawn_in(|body| holding(rules, after_its_end, body)).0.unwrap_err();
            bench.look(|plan| assert_is_named(plan, &error, target.index, libc::EPIPE));
            assert_eq!(written, 1);
        });
    });
}

#[test]
fn every_listed_call_has_its_errnos() {
    let (_, section) =
        include_str!("../SECURITY.md").split_once("## What a child may call").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let calls = rows.map(|row| row.split('|').nth(3).unwrap());
    let listed: BTreeSet<&str> =
        calls.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let mut with_errnos: BTreeSet<&str> =
        errnos::OF_THE_CHILD.iter().map(|(name, ..)| *name).collect();
    assert!(with_errnos.insert("exit_group"));
    // Which newer architectures never had.
    with_errnos.insert("dup2");
    assert_eq!(with_errnos, listed);
}
