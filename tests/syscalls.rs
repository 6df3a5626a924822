//! How many syscalls a spawn makes, in the parent and in the child, as strace
//! counts them. A call more is a cost that somebody has to have meant.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::process::{self, Stdio};

use forkplan::{Child, Command, Features, Launcher, Prepared, SpawnError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{pause, self_as};

/// Says that this is the process that is traced.
const TRACED: &str = "FORKPLAN_TEST_SYSCALLS";

/// Begins the number of a process that can't exist, by which the traced process
/// marks a place in its trace.
const MARK: i32 = 0x4000_0000;

/// Spawns of each kind, of which the one with the fewest calls is looked at.
const ROUNDS: usize = 20;

/// The syscalls of one spawn with three pipes.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    /// Until the program is known to have been reached.
    spawn: usize,
    /// And until it is reaped and everything closed.
    full: usize,
    /// Of the child, exec among them.
    child: usize,
}

/// What is counted, each with what it may take.
const EXPECTED: [(&str, Counts); 6] = [
    // Three pipes made, signals blocked, the clone, unblocked, whether exec was
    // reached, three ends closed; then the wait, three ends, the pidfd. The child:
    // a table of its own, marks, three copies, SIGPIPE, the mask, exec.
    ("prepared", Counts { spawn: 10, full: 15, child: 8 }),
    // And what a busy program has: no shared table, so one call fewer.
    ("prepared, high fds", Counts { spawn: 10, full: 15, child: 7 }),
    // Three ends onto slots, and off them. Nothing lies between those that would
    // have to be marked.
    ("prepared, high fds, launcher", Counts { spawn: 16, full: 21, child: 7 }),
    // The limit on fds and 64 signals besides; the stack was there.
    ("one-shot", Counts { spawn: 75, full: 80, child: 8 }),
    ("one-shot, launcher", Counts { spawn: 75, full: 80, child: 8 }),
    // A pipe and a word of shared memory besides, one end each closed, a look at
    // the pipe; the child has its own table from the start.
    ("prepared, fork path", Counts { spawn: 16, full: 21, child: 7 }),
];

#[test]
fn a_spawn_makes_no_more_syscalls_than_it_says() {
    if std::env::var_os(TRACED).is_some() {
        return spawn_under_trace();
    }
    if Features::of_this_kernel() != Features::all() {
        io::stderr().write_all(b"SKIPPED: syscalls: this kernel lacks a feature\n").unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let test = self_as("a_spawn_makes_no_more_syscalls_than_it_says");
    let mut strace = process::Command::new("strace");
    strace.args(["-ff", "-qq", "-a1", "-o"]).arg(dir.path().join("trace")).arg("--");
    strace.arg(test.get_program()).args(test.get_args()).env(TRACED, "1");
    let output = match strace.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Not by a macro, which the harness would keep to itself.
            io::stderr().write_all(b"SKIPPED: syscalls: there is no strace\n").unwrap();
            return;
        }
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let traces: BTreeMap<String, String> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.extension().unwrap().to_str().unwrap().into(), path))
        .map(|(pid, path)| (pid, fs::read_to_string(path).unwrap()))
        .collect();
    let parent = traces.values().find(|trace| trace.contains(&mark(0))).unwrap();
    for (number, (name, expected)) in EXPECTED.iter().enumerate() {
        let places: Vec<&str> = parent.split(&mark(number as i32)).collect();
        assert_eq!(places.len(), 2 * ROUNDS + 2, "{name}");
        let rounds = places[1..].chunks_exact(2).map(|round| (round[0], round[1]));
        // The kernel may let a parent go on a moment too early, which then looks
        // more than once.
        let (spawn, rest) = rounds.min_by_key(|(spawn, rest)| calls(spawn) + calls(rest)).unwrap();
        let pid = spawn.lines().find_map(clones).unwrap_or_else(|| panic!("{name}:\n{spawn}"));
        let child = &traces[pid];
        let (before, _) = child.split_once("execve(").unwrap();
        let counted = Counts {
            spawn: calls(spawn),
            full: calls(spawn) + calls(rest),
            child: calls(before) + 1,
        };
        assert_eq!(&counted, expected, "{name}:\n{spawn}\n{rest}\n{before}");
    }
}

fn mark(number: i32) -> String {
    format!("getpgid({}) = -1 ESRCH (No such process)\n", MARK + number)
}

/// Lines that are syscalls (not signals, nor the end of the process), less what is
/// not the library's in a release build: what std's debug build looks at before each
/// close, the test's own kill, and the real-time signal that whoever started this
/// test by glibc's `posix_spawn` had it ignore.
fn calls(trace: &str) -> usize {
    let is_call = |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase());
    let others = [("kill(", ""), ("rt_sigaction(SIGRTMIN, ", "SIG_DFL"), ("fcntl(", ", F_GETFD)")];
    let is_ours = |line: &&str| {
        !others.iter().any(|(start, part)| line.starts_with(start) && line.contains(part))
    };
    trace.lines().filter(is_call).filter(is_ours).count()
}

/// The child's pid, if the line is of the call that makes one.
fn clones(line: &str) -> Option<&str> {
    line.starts_with("clone").then(|| line.rsplit_once(" = ").unwrap().1)
}

/// In a process of its own, in the order of `EXPECTED`.
fn spawn_under_trace() {
    let program = pause();
    let launcher = Launcher::new(3).unwrap();
    let command = Command::new(program);
    let prepare = || command.prepare().unwrap();
    let mut number = 0;
    let mut count = |mut spawn: Box<dyn FnMut() -> Result<Child, SpawnError> + '_>| {
        // What is looked up once, and grown once.
        finish(spawn().unwrap());
        leave_mark(number);
        for _ in 0..ROUNDS {
            let child = spawn().unwrap();
            leave_mark(number);
            finish(child);
            leave_mark(number);
        }
        number += 1;
    };
    let spawn = |mut prepared: Prepared<'static>| move || prepared.spawn();
    count(Box::new(spawn(prepare())));
    {
        let _busy = take_all_low_numbers();
        count(Box::new(spawn(prepare())));
        let mut prepared = prepare();
        count(Box::new(|| launcher.spawn(&mut prepared)));
        assert_eq!(launcher.fallbacks(), 0);
    }
    count(Box::new(|| command.spawn()));
    count(Box::new(|| launcher.spawn_once(&command)));
    let mut forks = command.clone();
    count(Box::new(spawn(forks.without(Features::SHARED_MEMORY).prepare().unwrap())));
}

/// Ends it without asking the library to.
fn finish(mut child: Child) {
    let pid = child.id().unwrap() as i32;
    // SAFETY: no pointers; the child is not reaped.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    child.wait().unwrap();
}

fn leave_mark(number: i32) {
    // SAFETY: no pointers; asks.
    assert_eq!(unsafe { libc::getpgid(MARK + number) }, -1);
}

/// What is opened after has a number with which the table is not shared.
fn take_all_low_numbers() -> Vec<fs::File> {
    use std::os::fd::AsRawFd;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let mut taken = vec![fs::File::open("/dev/null").unwrap()];
    while taken.last().unwrap().as_raw_fd() < 1024 {
        let next = taken[0].try_clone().unwrap();
        taken.push(next);
    }
    taken
}
