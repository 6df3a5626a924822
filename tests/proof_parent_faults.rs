//! Each call that the parent makes for a spawn fails once, with the errnos that it can
//! have: either it is done without, or the error names the call; nothing is left, and
//! the parent is as it was.
//!
//! The calls are found by holding all of them, one after the other, so none is
//! forgotten. What is done without shows in the child: it has the same program, fds
//! and signals, and the parent the same ends.
//!
//! The short form has a few errnos for each call; with `FORKPLAN_TEST_ERRNOS` set it
//! has those of the manual and ten of any call. What a fault may leave, and no more,
//! has `tests/support/parent_errnos.rs`: where it is an answer that is believed of the
//! kernel, as that somebody else has reaped a child; a name that may not be removed;
//! and a mask that may not be set back.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

#[path = "support/kinds.rs"]
mod kinds;
#[path = "support/parent_errnos.rs"]
mod parent_errnos;
#[path = "support/parent_faults.rs"]
mod parent_faults;
#[path = "support/parent_trial.rs"]
mod parent_trial;
#[path = "support/parent_ways.rs"]
mod parent_ways;
mod support;

use std::collections::{BTreeMap, BTreeSet};

use forkplan::Command;
use parent_errnos::Row;
use parent_faults::Fault;
use parent_trial::Trial;
use parent_ways::{Came, PASSED, Place, Ready, SCENARIOS};
use support::faults::lower_the_limits;
use support::held::Call;
use support::isolation::is_root;
use support::{in_subprocesses, pause, say};

/// The variable that asks for more than the short form.
const LONGER: &str = "FORKPLAN_TEST_ERRNOS";

/// Of all faults of a scenario.
const ONE_IN: usize = 9;

/// The faults of these calls that are due.
fn faults(calls: &[Call], case: usize) -> Vec<(Row, Fault)> {
    let mut met: BTreeMap<libc::c_long, usize> = BTreeMap::new();
    let mut faults = Vec::new();
    let mut turn = case;
    for (index, call) in calls.iter().enumerate() {
        let times = met.entry(call.number).or_default();
        let at = *times;
        *times += 1;
        let Some(row) = Row::of(call.number) else { continue };
        // A debug build of std looks before each close whether the fd is open, and
        // ends the program if it is not.
        let is_looked_at = calls.get(index + 1).is_some_and(|next| {
            (call.number, next.number) == (libc::SYS_fcntl, libc::SYS_close)
                && call.arguments[0] == next.arguments[0]
        });
        let is_close = call.number == libc::SYS_close;
        for errno in row.errnos() {
            turn += 1;
            let is_due = std::env::var_os(LONGER).is_some() || turn % ONE_IN == 0;
            if is_due && !(errno == libc::EBADF && (is_looked_at || is_close)) {
                faults.push((row, Fault { call: call.number, at, errno }));
            }
        }
    }
    faults
}

/// The calls of a scenario that failed, by what came of it.
type Tally = BTreeMap<&'static str, BTreeSet<&'static str>>;

/// Fails each call of a scenario's that is due. How many, and what came of them.
fn every_fault(case: usize, trial: &Trial<'_>) -> (usize, Tally) {
    let (mut count, mut came) = (0, Tally::new());
    for (row, fault) in faults(&trial.calls, case) {
        let what =
            format!("{}: {} {}: errno {}", SCENARIOS[case].name, row.name, fault.at, fault.errno);
        let Some(judged) = trial.judge(&row, fault) else {
            // From the clone on it depends on the child what the parent has to ask.
            assert!(row.may_be_asked_of_a_child(), "{what}: not met");
            continue;
        };
        assert!(judged.wrong.is_empty(), "{what}: {:?}", judged.wrong);
        came.entry(judged.word).or_default().insert(row.name);
        count += 1;
    }
    (count, came)
}

#[test]
fn every_call_of_the_parents_that_fails_once_is_done_without_or_named_and_leaves_nothing() {
    let test =
        "every_call_of_the_parents_that_fails_once_is_done_without_or_named_and_leaves_nothing";
    in_subprocesses(test, SCENARIOS.len(), |case| {
        let scenario = &SCENARIOS[case];
        if scenario.is_roots && !is_root(test) {
            return;
        }
        lower_the_limits();
        let place = Place::new(scenario);
        let trial = Trial::new(scenario, &place.copy, &Ready::spawn);
        let (count, came) = every_fault(case, &trial);
        assert!(count >= 8, "{count}");
        say(&format!("{}: {count} faults, {came:?}", scenario.name));
    });
}

/// A spawn with a flaw that shows where it fails, and how it is noticed.
type Flaw = (&'static str, fn(&mut Ready));

const FLAWS: [Flaw; 8] = [
    ("fds changed", |_| core::mem::forget(rustix::pipe::pipe().unwrap())),
    // SAFETY: the fd is the test's, and nobody's property.
    ("fds changed", |_| assert_eq!(unsafe { libc::close(PASSED[0]) }, 0)),
    ("files are left", |ready| std::fs::write(ready.dir.path().join("file"), "").unwrap()),
    ("a child is left", |_| drop(Command::new(pause()).spawn().unwrap())),
    ("a zombie is left", |_| {
        // SAFETY: the child ends at once; who waits here takes nothing of it away.
        unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::_exit(0);
            }
            let mut info = core::mem::zeroed();
            let options = libc::WEXITED | libc::WNOWAIT;
            assert_eq!(libc::waitid(libc::P_PID, pid as libc::id_t, &mut info, options), 0);
        }
    }),
    ("mask changed", |_| {
        let blocked = 1u64 << (libc::SIGUSR2 - 1);
        let (how, none) = (libc::SIG_BLOCK, core::ptr::null_mut::<u64>());
        // SAFETY: reads the eight bytes.
        let set = unsafe {
            libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const blocked, none, 8usize)
        };
        assert_eq!(set, 0);
    }),
    // SAFETY: nobody has a handler here.
    ("dispositions changed", |_| unsafe {
        assert_ne!(libc::signal(libc::SIGUSR2, libc::SIG_DFL), libc::SIG_ERR);
    }),
    ("bytes more", |_| {
        let (usable, flags) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping.
        let new = unsafe { libc::mmap(core::ptr::null_mut(), 1 << 16, usable, flags, -1, 0) };
        assert_ne!(new, libc::MAP_FAILED);
    }),
];

/// What is said in place of an error, and how it is noticed.
type Lie = (&'static str, fn() -> Came);

const LIES: [Lie; 2] = [
    ("came to Child", || Came::Child(Command::new(pause()).spawn().unwrap())),
    ("the error names", || Came::Error(Command::new("/nowhere/program").spawn().unwrap_err())),
];

#[test]
fn control_a_spawn_that_leaves_something_or_says_something_else_is_noticed() {
    let test = "control_a_spawn_that_leaves_something_or_says_something_else_is_noticed";
    in_subprocesses(test, 1 + FLAWS.len() + LIES.len(), |case| {
        let scenario = &SCENARIOS[1];
        let place = Place::new(scenario);
        let flaw = FLAWS.get(case);
        let lie = LIES.get(case.wrapping_sub(FLAWS.len()));
        let spawn = |ready: &mut Ready| match ready.spawn() {
            Came::Error(error) => {
                flaw.inspect(|(_, act)| act(ready));
                lie.map_or(Came::Error(error), |(_, say)| say())
            }
            came => came,
        };
        let trial = Trial::new(scenario, &place.copy, &spawn);
        // Which a program that is missing has too.
        let fault = Fault { call: libc::SYS_pipe2, at: 1, errno: libc::ENOENT };
        let row = Row::of(fault.call).unwrap();
        let wrong = trial.judge(&row, fault).unwrap().wrong;
        match flaw.map(|(words, _)| words).or(lie.map(|(words, _)| words)) {
            Some(words) => assert!(wrong.iter().any(|what| what.starts_with(words)), "{wrong:?}"),
            None => assert_eq!(wrong, [""; 0]),
        }
    });
}
