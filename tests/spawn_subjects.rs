//! What an error says a failed step or call concerned, for each kind of subject.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use forkplan::Channel::{self, Null, ReadPipe, SocketPair, WritePipe};
use forkplan::plan::Step;
use forkplan::{
    Capabilities, Command, Features, FilterInstruction, IdRange, IoPriority, Namespaces, Open,
    PassedFd, Resource, Scheduler, Signal, SpawnError, Subject,
};
use rustix::process::{Rlimit, getrlimit, setrlimit};
use support::seccomp::{Rule, under, under_made_there};
use support::{PATHS, in_subprocess, no_child_is_left, own_cpu, place_at, with_fd, write_program};

/// No step fails with this by itself, and nothing is tried again for it.
const STRANGE: i32 = libc::EXFULL;

fn quick<'fd>() -> Command<'fd> {
    let mut command = Command::new("/bin/true");
    command.fd(0, Null);
    command
}

/// The error of a command, by both paths: of what it concerned they say the same.
#[track_caller]
fn error_of(command: &Command<'_>) -> SpawnError {
    let [fast, forked] = PATHS.map(|without| command.clone().without(without).spawn().unwrap_err());
    assert_eq!((fast.subject(), fast.raw_os_error()), (forked.subject(), forked.raw_os_error()));
    forked
}

#[track_caller]
fn assert_subject(command: &Command<'_>, errno: i32, subject: &Subject) {
    let error = error_of(command);
    assert_eq!((error.subject(), error.raw_os_error()), (subject, Some(errno)), "{error}");
}

/// As above, where the kernel refuses one kind of call, which would work.
#[track_caller]
fn assert_refused(rule: libc::c_long, command: &Command<'_>, subject: &Subject) {
    // The kernel is asked what it has before the rule hides some of it.
    command.prepare().unwrap();
    let error = under(&[Rule::errno(rule, STRANGE)], || error_of(command));
    assert_eq!((error.subject(), error.raw_os_error()), (subject, Some(STRANGE)), "{error}");
}

fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        let _ = writeln!(io::stderr(), "SKIPPED: {test}: not root");
    }
    root
}

fn path(path: impl AsRef<Path>) -> Subject {
    Subject::Path(path.as_ref().into())
}

#[test]
fn a_directory_or_file_is_its_path() {
    assert_subject(quick().current_dir("/nowhere"), libc::ENOENT, &path("/nowhere"));
    assert_subject(quick().chdir("/etc/passwd"), libc::ENOTDIR, &path("/etc/passwd"));
    let file = Channel::file("/nowhere/file", Open::Read);
    assert_subject(quick().fd(1, file), libc::ENOENT, &path("/nowhere/file"));
    // A path is bytes, and stays so.
    let strange: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"/\xff \n\"");
    assert_subject(quick().chdir(strange), libc::ENOENT, &path(strange));
    let score = path("/proc/self/oom_score_adj");
    assert_refused(libc::SYS_write, quick().oom_score_adj(1000), &score);
}

#[test]
fn roots_and_mounts_are_their_path() {
    if !is_root("roots_and_mounts_are_their_path") {
        return;
    }
    assert_subject(quick().chroot("/nowhere"), libc::ENOENT, &path("/nowhere"));
    let mut command = quick();
    command.unshare(Namespaces::MOUNT).private_mounts();
    assert_refused(libc::SYS_mount, &command, &path("/"));
    assert_subject(command.pivot_root("/nowhere"), libc::ENOENT, &path("/nowhere"));
    let none = IdRange { inside: 0, outside: 0, count: 0 };
    let error = quick().unshare(Namespaces::USER).uid_map([none]).spawn().unwrap_err();
    let Subject::Path(map) = error.subject() else { panic!("{error}") };
    assert_eq!(error.description().unwrap(), format!("write {map:?}"));
    assert!(map.ends_with("uid_map"), "{error}");
}

#[test]
fn a_program_is_the_candidate_that_failed_with_its_place_in_the_search() {
    let (missing, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let search = std::env::join_paths([missing.path(), dir.path(), missing.path()]).unwrap();
    let prog = dir.path().join("prog");
    let candidate = |index, path: &Path| Subject::Candidate { index, path: path.into() };
    write_program(&prog, "", 0o644);
    assert_subject(&Command::new(&prog), libc::EACCES, &candidate(0, &prog));
    let mut command = Command::new("prog");
    assert_subject(command.env("PATH", &search), libc::EACCES, &candidate(1, &prog));
    // The steps between candidates that try a shell are no candidates.
    command.shell_fallback("/bin/sh");
    assert_subject(&command, libc::EACCES, &candidate(1, &prog));
    let nowhere = Path::new("/nowhere/program");
    assert_subject(&Command::new(nowhere), libc::ENOENT, &candidate(0, nowhere));
}

#[test]
fn a_program_that_is_nowhere_is_its_name_and_all_its_candidates() {
    let mut command = Command::new("prog");
    command.env("PATH", "/nowhere:/etc/passwd:/dev");
    let paths = ["/nowhere/prog", "/etc/passwd/prog", "/dev/prog"];
    let candidates: Vec<_> = paths.iter().map(Into::into).collect();
    let subject = Subject::Search { program: "prog".into(), candidates };
    assert_subject(&command, libc::ENOENT, &subject);
    assert_subject(command.shell_fallback("/bin/sh"), libc::ENOENT, &subject);
}

#[test]
fn a_shell_is_named_with_its_script() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    write_program(&script, "exit 0\n", 0o755);
    let mut command = Command::new("script");
    command.env("PATH", format!("/nowhere:{}", dir.path().display()));
    command.shell_fallback("/nowhere/sh");
    let subject = Subject::Shell { shell: "/nowhere/sh".into(), script };
    assert_subject(&command, libc::ENOENT, &subject);
}

#[test]
fn an_fd_is_its_number() {
    let file = File::open("/etc/passwd").unwrap();
    let fd = Subject::Fd(file.as_raw_fd());
    assert_subject(quick().fchdir(PassedFd::borrowed(&file)), libc::ENOTDIR, &fd);
    let mut command = quick();
    assert_subject(command.controlling_terminal(PassedFd::borrowed(&file)), libc::ENOTTY, &fd);
    assert_subject(quick().foreground(PassedFd::borrowed(&file)), libc::ENOTTY, &fd);
    let mut command = quick();
    command.no_new_privs().landlock(PassedFd::borrowed(&file));
    let error = error_of(&command);
    // Where there is no Landlock: ENOSYS, EOPNOTSUPP.
    assert!(matches!(error.step(), Some(Step::Landlock { .. })), "{error}");
    assert!(matches!(error.subject(), Subject::Fd(_)), "{error}");
}

#[test]
fn an_fd_that_is_closed_is_named_by_what_was_to_become_of_it() {
    in_subprocess("an_fd_that_is_closed_is_named_by_what_was_to_become_of_it", || {
        place_at(tempfile::tempfile().unwrap(), 50);
        let mut same = quick();
        same.fd(50, with_fd(50));
        let mut moved = quick();
        moved.fd(7, with_fd(50));
        let mut elsewhere = quick();
        elsewhere.fchdir(with_fd(50));
        // SAFETY: this process is the test's own.
        unsafe { libc::close(50) };
        assert_subject(&same, libc::EBADF, &Subject::Fd(50));
        assert_subject(&moved, libc::EBADF, &Subject::Move { from: 50, to: 7 });
        assert_subject(&elsewhere, libc::EBADF, &Subject::Fd(50));
        assert!(no_child_is_left());
    });
}

#[test]
fn a_copy_of_an_fd_is_both_numbers() {
    in_subprocess("a_copy_of_an_fd_is_both_numbers", || {
        place_at(tempfile::tempfile().unwrap(), 20);
        for without in PATHS {
            let mut command = quick();
            command.without(without).fd(700, with_fd(20));
            let mut prepared = command.prepare().unwrap();
            let maximum = getrlimit(rustix::process::Resource::Nofile).maximum;
            let set = |current| {
                setrlimit(rustix::process::Resource::Nofile, Rlimit { current, maximum }).unwrap();
            };
            set(Some(64));
            let error = prepared.spawn().unwrap_err();
            set(maximum);
            assert_eq!(error.subject(), &Subject::Move { from: 20, to: 700 }, "{error}");
        }
    });
}

#[test]
fn closing_is_the_range_to_close() {
    let all = Features::SHARED_FILES | Features::CLOSE_RANGE | Features::PROC_FD;
    for (call, without) in [
        (libc::SYS_close_range, Features::SHARED_FILES),
        (libc::SYS_getdents64, Features::SHARED_FILES | Features::CLOSE_RANGE),
        (libc::SYS_fcntl, all),
    ] {
        let mut command = quick();
        let mut prepared = command.without(without | Features::SHARED_MEMORY).prepare().unwrap();
        let opened = prepared.open().unwrap();
        let range = match opened.plan().steps()[0] {
            Step::MarkRange { first, last } => Subject::Range { first, last },
            Step::MarkListed { first } => Subject::Range { first, last: None },
            Step::MarkEach { first, below } => Subject::Range { first, last: Some(below - 1) },
            other => panic!("{other}"),
        };
        let rule = match call {
            libc::SYS_fcntl => Rule::errno(call, STRANGE).with(1, libc::F_SETFD),
            _ => Rule::errno(call, STRANGE),
        };
        let error = under(&[rule], || opened.spawn().unwrap_err());
        assert_eq!(error.subject(), &range, "{error}");
    }
    let mut prepared = quick().prepare().unwrap();
    if !prepared.open().unwrap().plan().to_string().contains("UNSHARE") {
        let _ = writeln!(io::stderr(), "SKIPPED: closing_is_the_range_to_close: fds not shared");
        return;
    }
    let opened = prepared.open().unwrap();
    let Step::Unshare { first } = opened.plan().steps()[0] else { panic!("{}", opened.plan()) };
    let refused = [Rule::errno(libc::SYS_close_range, STRANGE)];
    let error = under(&refused, || opened.spawn().unwrap_err());
    assert_eq!(error.subject(), &Subject::Range { first, last: None }, "{error}");
}

#[test]
fn a_channel_without_ends_is_its_name_and_child_fds() {
    in_subprocess("a_channel_without_ends_is_its_name_and_child_fds", || {
        // A file has no end of the parent's: the one after it is meant.
        let null = || Channel::file("/dev/null", Open::Read);
        let mut pipe = Command::new("/bin/true");
        pipe.fd(9, null()).fds([5, 3], ReadPipe).fd(0, WritePipe);
        let mut pair = Command::new("/bin/true");
        pair.fd(9, null()).channel("control", SocketPair, [4]);
        let channel = |name: Option<&str>, fds: &[i32]| Subject::Channel {
            name: name.map(Into::into),
            fds: fds.into(),
        };
        let maximum = getrlimit(rustix::process::Resource::Nofile).maximum;
        let lowest = File::open("/dev/null").unwrap().as_raw_fd() as u64;
        for (command, subject, words) in [
            (&pipe, channel(None, &[5, 3]), "pipe2 for child fd 5: Too many open files"),
            (
                &pair,
                channel(Some("control"), &[4]),
                "socketpair for channel \"control\": Too many open files",
            ),
        ] {
            for without in PATHS {
                let mut prepared = command.clone().without(without).prepare().unwrap();
                // One for the file, and one too few.
                let current = Some(lowest + 2);
                setrlimit(rustix::process::Resource::Nofile, Rlimit { current, maximum }).unwrap();
                let error = prepared.spawn().unwrap_err();
                let current = maximum;
                setrlimit(rustix::process::Resource::Nofile, Rlimit { current, maximum }).unwrap();
                assert_eq!((error.subject(), &*error.to_string()), (&subject, words));
            }
        }
    });
}

#[test]
fn ids_are_themselves() {
    let mut command = quick();
    command.groups([7, 4_000_000_000, 7]).gid(12).uid(34);
    let groups = Subject::Groups(vec![7, 4_000_000_000, 7]);
    assert_refused(libc::SYS_setgroups, &command, &groups);
    command.keep_groups();
    assert_refused(libc::SYS_setresgid, &command, &Subject::Group(12));
    assert_refused(libc::SYS_setresuid, quick().uid(34).keep_groups(), &Subject::User(34));
    // None is a list too.
    assert_refused(libc::SYS_setgroups, quick().groups([]), &Subject::Groups(vec![]));
    // The kernel has no group with the largest number.
    let group = i32::MAX;
    let subject = Subject::ProcessGroup(group);
    assert_subject(quick().process_group(group), libc::EPERM, &subject);
}

#[test]
fn capabilities_are_their_set() {
    if !is_root("capabilities_are_their_set") {
        return;
    }
    let set = Capabilities::CHOWN | Capabilities::NET_RAW;
    let subject = Subject::Capabilities(set);
    assert_refused(libc::SYS_capset, quick().ambient_capabilities(set), &subject);
    let drop = [Rule::errno(libc::SYS_prctl, STRANGE).with(0, libc::PR_CAPBSET_DROP)];
    let error = under(&drop, || error_of(quick().bounding_set(set)));
    assert_eq!(error.subject(), &subject);
    let raise = [Rule::errno(libc::SYS_prctl, STRANGE).with(0, libc::PR_CAP_AMBIENT)];
    let error = under(&raise, || error_of(quick().ambient_capabilities(set)));
    assert_eq!(error.subject(), &subject);
}

#[test]
fn limits_and_scheduling_are_what_was_asked_for() {
    let most = 1 << 40;
    let subject = Subject::Limit { resource: Resource::NOFILE, soft: 64, hard: most };
    assert_subject(quick().rlimit(Resource::NOFILE, 64, most), libc::EPERM, &subject);
    for scheduler in [
        Scheduler::Other,
        Scheduler::Batch,
        Scheduler::Idle,
        Scheduler::Fifo(3),
        Scheduler::RoundRobin(99),
    ] {
        let subject = Subject::Scheduler(scheduler);
        assert_refused(libc::SYS_sched_setscheduler, quick().scheduler(scheduler), &subject);
    }
    for priority in [IoPriority::RealTime(0), IoPriority::BestEffort(7), IoPriority::Idle] {
        let subject = Subject::IoPriority(priority);
        assert_refused(libc::SYS_ioprio_set, quick().io_priority(priority), &subject);
    }
    let mut command = quick();
    let cpu = own_cpu();
    let mut cpus = vec![0, cpu];
    cpus.dedup();
    command.cpu_affinity([cpu, 0, cpu]);
    assert_refused(libc::SYS_sched_setaffinity, &command, &Subject::Cpus(cpus));
}

#[test]
fn other_numbers_are_themselves() {
    let number = Subject::Number;
    assert_refused(libc::SYS_umask, quick().umask(0o77), &number(0o77));
    assert_refused(libc::SYS_setpriority, quick().nice(-3), &number(-3));
    let bits = [Rule::errno(libc::SYS_prctl, STRANGE).with(0, libc::PR_SET_SECUREBITS)];
    let error = under(&bits, || error_of(quick().securebits(1 << 31)));
    assert_eq!(error.subject(), &number(1 << 31));
    let none = FilterInstruction { code: 0xffff, jt: 0, jf: 0, k: 0 };
    let mut command = quick();
    assert_subject(command.no_new_privs().seccomp([none; 3]), libc::EINVAL, &number(3));
}

#[test]
fn signals_are_themselves() {
    let kill = Subject::Signal(Signal::KILL);
    assert_subject(quick().ignore_signals([Signal::KILL]), libc::EINVAL, &kill);
    assert_refused(libc::SYS_prctl, quick().parent_death_signal(Signal::KILL), &kill);
    // 64 is the last real-time signal.
    let signals: Vec<_> = [Signal::USR1, Signal::TERM, 64.into()].into();
    let mut command = quick();
    command.block_signals(signals.iter().rev().copied());
    let last = Rule::errno(libc::SYS_rt_sigprocmask, STRANGE).with(0, libc::SIG_SETMASK);
    for without in PATHS {
        let mut prepared = command.clone().without(without).prepare().unwrap();
        // The masks that the parent sets are on its own stack.
        let rules = || vec![last.clone().unless_on_this_stack(1)];
        let error = under_made_there(rules, || prepared.spawn().unwrap_err());
        assert_eq!(error.subject(), &Subject::Signals(signals.clone()), "{error}");
    }
}

#[test]
fn a_namespace_is_its_fd_and_kind() {
    let file = File::open("/etc/passwd").unwrap();
    let (fd, kind) = (file.as_raw_fd(), Namespaces::UTS);
    let mut command = quick();
    command.join_namespace(PassedFd::borrowed(&file), kind);
    assert_subject(&command, libc::EINVAL, &Subject::Namespace { fd, kind });
}

#[test]
fn a_clone_is_what_the_child_was_to_be_cloned_into() {
    let none = Namespaces::empty();
    let plain = Subject::Clone { namespaces: none, cgroup: None };
    assert_refused(libc::SYS_clone3, &quick(), &plain);
    let namespaces = Namespaces::NET | Namespaces::USER;
    let mut command = quick();
    let subject = Subject::Clone { namespaces, cgroup: None };
    assert_refused(libc::SYS_clone3, command.unshare(namespaces), &subject);
    // A directory that is no cgroup's.
    let dir = File::open("/").unwrap();
    let cgroup = Some(dir.as_raw_fd());
    let mut command = quick();
    command.cgroup(PassedFd::borrowed(&dir));
    if command.prepare().is_err() {
        let _ = writeln!(io::stderr(), "SKIPPED: a cgroup as subject: no clone3");
        return;
    }
    let subject = Subject::Clone { namespaces: none, cgroup };
    assert_subject(&command, libc::EBADF, &subject);
    let words = format!("clone3 into the cgroup of fd {}: Bad file descriptor", dir.as_raw_fd());
    assert_eq!(error_of(&command).to_string(), words);
}

#[test]
fn a_parent_that_is_gone_is_its_pid() {
    let parent = std::process::id() as i32;
    let refused = [Rule::errno(libc::SYS_getppid, STRANGE)];
    let error = under(&refused, || error_of(quick().parent_death_signal(Signal::KILL)));
    assert_eq!(error.subject(), &Subject::Process(parent));
}

#[test]
fn a_variable_for_the_pid_is_its_name() {
    in_subprocess("a_variable_for_the_pid_is_its_name", || {
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        setrlimit(rustix::process::Resource::Core, none).unwrap();
        for without in PATHS {
            let mut prepared = quick().env_pid("OWN").without(without).prepare().unwrap();
            // It can't fail; it can be where the child dies.
            let kill = [Rule::kill(libc::SYS_getpid)];
            let error = under(&kill, || prepared.spawn().unwrap_err());
            assert_eq!(error.subject(), &Subject::Variable("OWN".into()), "{error}");
            assert_eq!(error.signal(), Some(Signal::SYS));
        }
    });
}

#[test]
fn a_call_without_arguments_concerns_nothing() {
    assert_refused(libc::SYS_setsid, quick().setsid(), &Subject::Nothing);
    let rule = [Rule::errno(libc::SYS_prctl, STRANGE).with(0, libc::PR_SET_NO_NEW_PRIVS)];
    let error = under(&rule, || error_of(quick().no_new_privs()));
    assert_eq!(error.subject(), &Subject::Nothing);
    // An error of the request is a matter of its own.
    let error = Command::new("").spawn().unwrap_err();
    assert_eq!((error.subject(), error.description()), (&Subject::Nothing, None));
    assert!(error.plan_error().is_some());
}

/// The control: the same commands, where nothing is in their way.
#[test]
fn control_what_was_refused_works_otherwise() {
    let (end, _other) = UnixStream::pair().unwrap();
    let mut command = quick();
    command.fd(700, end).umask(0o77).setsid().no_new_privs().parent_death_signal(Signal::KILL);
    command.env_pid("OWN").scheduler(Scheduler::Batch).io_priority(IoPriority::Idle);
    command.cpu_affinity([own_cpu()]).oom_score_adj(1000).block_signals([Signal::USR1]);
    for without in PATHS {
        let mut child = command.clone().without(without).spawn().unwrap();
        assert!(child.wait().unwrap().success());
    }
}
