//! Limits, priorities, what is written to `/proc`, and signals by set.

#![cfg(target_os = "linux")]

mod support;

use std::fs;

use forkplan::Channel::{self, Null};
use forkplan::plan::Step;
use forkplan::{Child, Command, IoPriority, PlanError, Resource, Scheduler, Signal, UNLIMITED};
use support::{PATHS, fds_of, fds_of_self, in_subprocess, no_child_is_left, pause, signal_set};

/// Ends a test that wants root, where this is not root, and says so.
macro_rules! root_only {
    ($test:expr) => {
        // SAFETY: no pointers.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("SKIPPED: {}: wants root", $test);
            return;
        }
    };
}

fn paused<'fd>() -> Command<'fd> {
    let mut command = Command::new(pause());
    command.fd(0, Null);
    command
}

/// Spawns on both paths, looks at the standing program, ends it.
fn look(command: &Command<'_>, at: impl Fn(&Child)) {
    for without in PATHS {
        let mut child = command.clone().without(without).spawn().unwrap_or_else(|e| panic!("{e}"));
        at(&child);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// The error of a spawn in a process without other children, of which nothing
/// is left.
fn refused(command: &Command<'_>) -> forkplan::SpawnError {
    let before = fds_of_self();
    let error = command.spawn().unwrap_err();
    assert!(no_child_is_left());
    assert_eq!(fds_of_self(), before);
    error
}

fn proc_file(child: &Child, name: &str) -> String {
    fs::read_to_string(format!("/proc/{}/{name}", child.id().unwrap())).unwrap()
}

/// Soft and hard limit, in the words of `/proc/PID/limits`.
fn limit_of(child: &Child, name: &str) -> [String; 2] {
    let text = proc_file(child, "limits");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    [words[0].into(), words[1].into()]
}

/// A field of `/proc/PID/stat`, by its number in proc(5), from the third on.
fn stat_of(child: &Child, field: usize) -> i64 {
    let stat = proc_file(child, "stat");
    let after = stat.rsplit(')').next().unwrap();
    after.split_whitespace().nth(field - 3).unwrap().parse().unwrap()
}

#[test]
fn every_limit_is_the_one_asked_for() {
    let all = [
        (Resource::AS, "Max address space"),
        (Resource::CORE, "Max core file size"),
        (Resource::CPU, "Max cpu time"),
        (Resource::DATA, "Max data size"),
        (Resource::FSIZE, "Max file size"),
        (Resource::LOCKS, "Max file locks"),
        (Resource::MEMLOCK, "Max locked memory"),
        (Resource::MSGQUEUE, "Max msgqueue size"),
        (Resource::NICE, "Max nice priority"),
        (Resource::NOFILE, "Max open files"),
        (Resource::NPROC, "Max processes"),
        (Resource::RSS, "Max resident set"),
        (Resource::RTPRIO, "Max realtime priority"),
        (Resource::RTTIME, "Max realtime timeout"),
        (Resource::SIGPENDING, "Max pending signals"),
        (Resource::STACK, "Max stack size"),
    ];
    let mut together = paused();
    let mut expected = Vec::new();
    for (resource, name) in all {
        // Not more than this process has, which may be little; 1 GiB of memory
        // is enough for a program of a page.
        let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        let number = number_of(name);
        // SAFETY: writes the limits.
        assert_eq!(unsafe { libc::getrlimit(number, &mut now) }, 0);
        let (soft, hard) = ((1 << 30).min(now.rlim_max), (1 << 31).min(now.rlim_max));
        together.rlimit(resource, soft, hard);
        expected.push((name, [soft.to_string(), hard.to_string()]));
    }
    look(&together, |child| {
        for (name, limits) in &expected {
            assert_eq!(&limit_of(child, name), limits, "{name}");
        }
    });
    // The last of several calls for one resource counts.
    look(paused().rlimit(Resource::CORE, 1, 2).rlimit(Resource::CORE, 0, 1), |child| {
        assert_eq!(limit_of(child, "Max core file size"), ["0", "1"]);
    });
    look(paused().rlimit(Resource::CPU, 7, UNLIMITED), |child| {
        assert_eq!(limit_of(child, "Max cpu time"), ["7", "unlimited"]);
    });
}

fn number_of(name: &str) -> libc::__rlimit_resource_t {
    match name {
        "Max address space" => libc::RLIMIT_AS,
        "Max core file size" => libc::RLIMIT_CORE,
        "Max cpu time" => libc::RLIMIT_CPU,
        "Max data size" => libc::RLIMIT_DATA,
        "Max file size" => libc::RLIMIT_FSIZE,
        "Max file locks" => libc::RLIMIT_LOCKS,
        "Max locked memory" => libc::RLIMIT_MEMLOCK,
        "Max msgqueue size" => libc::RLIMIT_MSGQUEUE,
        "Max nice priority" => libc::RLIMIT_NICE,
        "Max open files" => libc::RLIMIT_NOFILE,
        "Max processes" => libc::RLIMIT_NPROC,
        "Max resident set" => libc::RLIMIT_RSS,
        "Max realtime priority" => libc::RLIMIT_RTPRIO,
        "Max realtime timeout" => libc::RLIMIT_RTTIME,
        "Max pending signals" => libc::RLIMIT_SIGPENDING,
        _ => libc::RLIMIT_STACK,
    }
}

#[test]
fn a_limit_of_fds_below_those_mapped_does_not_forbid_the_map() {
    let file = tempfile::tempfile().unwrap();
    let mut command = paused();
    command.fd(40, Channel::borrowed(&file)).fd(41, Null).rlimit(Resource::NOFILE, 4, 4);
    look(&command, |child| {
        assert_eq!(limit_of(child, "Max open files"), ["4", "4"]);
        assert_eq!(Vec::from_iter(fds_of(child.id().unwrap()).into_keys()), [0, 40, 41]);
    });
}

#[test]
fn what_is_out_of_range_is_named() {
    let says = |command: &Command<'_>| command.prepare().unwrap_err().to_string();
    let words = "a soft limit contradicts a lower hard limit";
    assert_eq!(says(paused().rlimit(Resource::CORE, 2, 1)), words);
    assert_eq!(says(paused().rlimit(Resource::CORE, UNLIMITED, 0)), words);
    assert_eq!(says(paused().nice(20)), "nice can't be 20");
    assert_eq!(says(paused().nice(-21)), "nice can't be -21");
    for fifo in [-1, 0, 100] {
        let words = format!("the scheduler's priority can't be {fifo}");
        assert_eq!(says(paused().scheduler(Scheduler::Fifo(fifo))), words);
        assert_eq!(says(paused().scheduler(Scheduler::RoundRobin(fifo))), words);
    }
    assert_eq!(says(paused().io_priority(IoPriority::BestEffort(8))), "the I/O level can't be 8");
    let words = "the I/O level can't be 255";
    assert_eq!(says(paused().io_priority(IoPriority::RealTime(255))), words);
    assert_eq!(says(paused().oom_score_adj(1001)), "oom_score_adj can't be 1001");
    assert_eq!(says(paused().oom_score_adj(-1001)), "oom_score_adj can't be -1001");
    assert_eq!(says(paused().umask(0o1000)), "umask can't be 512");
    assert_eq!(says(paused().cpu_affinity([])), "the number of CPUs can't be 0");
    for cpu in [70_000, usize::MAX] {
        let error = paused().cpu_affinity([0, cpu]).prepare().unwrap_err();
        assert_eq!(error, PlanError::UnknownCpu { cpu });
        assert_eq!(error.to_string(), format!("there is no CPU {cpu}"));
    }
    assert!(says(paused().default_signals([Signal::from(65)])).starts_with("65 is no signal"));
    assert!(says(paused().ignore_signals([Signal::from(0)])).starts_with("0 is no signal"));
}

#[test]
fn nice_scheduler_cpus_and_disk_are_the_programs() {
    let nice_now = own_nice();
    // There is nothing nicer than 19, at which the tests may run.
    let nicer = (nice_now + 3).min(19);
    look(paused().nice(nicer).scheduler(Scheduler::Batch), |child| {
        assert_eq!(stat_of(child, 19), i64::from(nicer));
        assert_eq!(stat_of(child, 41), i64::from(libc::SCHED_BATCH));
    });
    look(paused().scheduler(Scheduler::Idle), |child| {
        assert_eq!(stat_of(child, 41), i64::from(libc::SCHED_IDLE));
    });
    let allowed = |status: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        line.unwrap().trim().to_string()
    };
    let mine = allowed(&fs::read_to_string("/proc/self/status").unwrap());
    let last: usize = mine.rsplit([',', '-']).next().unwrap().parse().unwrap();
    look(paused().cpu_affinity([last]), |child| {
        assert_eq!(allowed(&proc_file(child, "status")), last.to_string());
    });
    for (asked, number) in [(IoPriority::BestEffort(6), 2 << 13 | 6), (IoPriority::Idle, 3 << 13)] {
        look(paused().io_priority(asked), |child| {
            // SAFETY: no pointers. 1 is IOPRIO_WHO_PROCESS.
            let got = unsafe { libc::syscall(libc::SYS_ioprio_get, 1, child.id().unwrap()) };
            assert_eq!(got, number);
        });
    }
    // Nothing of all this is the parent's.
    assert_eq!(own_nice(), nice_now);
    assert_eq!(allowed(&fs::read_to_string("/proc/self/status").unwrap()), mine);
}

fn own_nice() -> i32 {
    // SAFETY: no pointers.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

#[test]
fn real_time_is_had_by_root() {
    root_only!("real_time_is_had_by_root");
    for (asked, policy) in [
        (Scheduler::Fifo(1), libc::SCHED_FIFO),
        (Scheduler::Fifo(99), libc::SCHED_FIFO),
        (Scheduler::RoundRobin(7), libc::SCHED_RR),
    ] {
        let (Scheduler::Fifo(priority) | Scheduler::RoundRobin(priority)) = asked else { panic!() };
        let spawned = paused().scheduler(asked).spawn();
        if spawned.as_ref().is_err_and(|e| e.raw_os_error() == Some(libc::EPERM)) {
            eprintln!("SKIPPED: real_time_is_had_by_root: no real time in this cgroup");
            return;
        }
        let mut child = spawned.unwrap();
        assert_eq!([stat_of(&child, 41), stat_of(&child, 40)], [policy, priority].map(i64::from));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn oom_score_and_coredump_filter_are_the_programs_and_not_the_parents() {
    let name = "oom_score_and_coredump_filter_are_the_programs_and_not_the_parents";
    in_subprocess(name, || {
        let files = ["oom_score_adj", "coredump_filter"];
        let mine = || files.map(|f| fs::read_to_string(format!("/proc/self/{f}")).unwrap());
        let before = mine();
        look(paused().oom_score_adj(1000).coredump_filter(0x7), |child| {
            assert_eq!(proc_file(child, "oom_score_adj").trim(), "1000");
            assert_eq!(proc_file(child, "coredump_filter").trim(), "00000007");
            assert_eq!(mine(), before);
        });
        assert_eq!(mine(), before);
        // The filter is the memory's, so it alone wants a fork.
        look(paused().oom_score_adj(999), |child| {
            assert_eq!(proc_file(child, "oom_score_adj").trim(), "999");
            assert_eq!(mine(), before);
        });
    });
}

#[test]
fn what_the_kernel_refuses_is_named_and_leaves_nothing() {
    let name = "what_the_kernel_refuses_is_named_and_leaves_nothing";
    root_only!(name);
    in_subprocess(name, || {
        let error = refused(paused().rlimit(Resource::NOFILE, 1 << 40, 1 << 40));
        let words =
            format!("prlimit RLIMIT_NOFILE [{0}, {0}]: Operation not permitted", 1u64 << 40);
        assert_eq!(error.to_string(), words);
        let error = refused(paused().ignore_signals([Signal::KILL]));
        assert_eq!(error.to_string(), "sigaction SIGKILL SIG_IGN: Invalid argument");

        // Without privileges.
        for resource in [libc::RLIMIT_CORE, libc::RLIMIT_NICE, libc::RLIMIT_RTPRIO] {
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: reads the limits; the process is the test's own.
            assert_eq!(unsafe { libc::setrlimit(resource, &none) }, 0);
        }
        // SAFETY: no pointers; the process is the test's own.
        assert_eq!(unsafe { libc::setresuid(1000, 1000, 1000) }, 0);
        // Who has changed ids is not dumpable, and his /proc is root's.
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) }, 0);
        let says = |command: &Command<'_>, words: &str, errno: i32| {
            let error = refused(command);
            assert_eq!(error.description(), Some(words));
            assert_eq!(error.raw_os_error(), Some(errno), "{error}");
        };
        says(paused().rlimit(Resource::CORE, 0, 5), "prlimit RLIMIT_CORE [0, 5]", libc::EPERM);
        says(paused().nice(-20), "setpriority -20", libc::EACCES);
        let fifo = Scheduler::Fifo(3);
        says(paused().scheduler(fifo), "sched_setscheduler 1 3", libc::EPERM);
        let real_time = IoPriority::RealTime(0);
        says(paused().io_priority(real_time), "ioprio_set 0x2000", libc::EPERM);
        let words = "write \"/proc/self/oom_score_adj\" \"-1000\"";
        says(paused().oom_score_adj(-1000), words, libc::EACCES);
        // The control.
        look(&paused(), |child| assert_eq!(stat_of(child, 41), 0));
    });
}

#[test]
fn signals_are_set_by_set() {
    in_subprocess("signals_are_set_by_set", || {
        let bit = |signal: Signal| 1u64 << (signal.number() - 1);
        // SAFETY: no handler; the process is the test's own.
        let ignore = |signal| unsafe { libc::signal(signal, libc::SIG_IGN) };
        let _ = [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2].map(ignore);
        let sets = |child: &Child| ["SigIgn", "SigBlk"].map(|n| signal_set(child.id().unwrap(), n));

        // Ignored ones are asked for; those of the parent's are not kept.
        let mut command = paused();
        let rt = Signal::from(40);
        command.ignore_signals([Signal::INT, rt]).ignore_signals([Signal::USR1]);
        command.block_signals([Signal::TERM, rt]);
        let ignored = bit(Signal::INT) | bit(rt) | bit(Signal::USR1);
        let blocked = bit(Signal::TERM) | bit(rt);
        look(&command, |child| assert_eq!(sets(child), [ignored, blocked]));

        // Kept, but for one.
        let mut command = paused();
        command.inherit_ignored_signals(true).default_signals([Signal::USR1]);
        let parents = signal_set(std::process::id(), "SigIgn");
        assert_ne!(parents & bit(Signal::USR1), 0);
        look(&command, |child| assert_eq!(sets(child), [parents & !bit(Signal::USR1), 0]));

        let error = command.ignore_signals([Signal::INT, Signal::USR1]).prepare().unwrap_err();
        let words = "ignore_signals contradicts default_signals of the same";
        assert_eq!(error.to_string(), words);
    });
}

#[test]
fn what_has_a_name_is_printed_by_it() {
    let mut command = paused();
    command.rlimit(Resource::NOFILE, 64, UNLIMITED).parent_death_signal(Signal::KILL);
    command.ignore_signals([Signal::HUP, 40.into()]).default_signals([Signal::USR2]);
    command.block_signals([Signal::TERM, Signal::USR1, 64.into()]);
    let mut prepared = command.prepare().unwrap();
    let opened = prepared.open().unwrap();
    let plan = opened.plan().to_string();
    for words in [
        "prlimit RLIMIT_NOFILE [64, unlimited]",
        "prctl PR_SET_PDEATHSIG SIGKILL",
        "sigaction SIGHUP SIG_IGN",
        "sigaction 40 SIG_IGN",
        "sigaction SIGUSR2 SIG_DFL",
        "sigaction SIGPIPE SIG_DFL",
        "sigprocmask SIG_SETMASK [SIGUSR1, SIGTERM, 64]",
    ] {
        assert!(plan.lines().any(|line| line.ends_with(words)), "{words}:\n{plan}");
    }
    // A step alone does not know its platform.
    let is_pipe = |step: &&Step| matches!(step, Step::DefaultSignal { signal: 13 });
    let step = *opened.plan().steps().iter().find(is_pipe).unwrap();
    assert_eq!(step.to_string(), "sigaction 13 SIG_DFL");
}
