//! Every kind of step, as strace sees it in the child, spawned or started, is what the
//! printed plan says, in its order; and what is no step is in the clone.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use core::ffi::{c_int, c_void};
use core::ptr;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use forkplan::Channel::{self, ReadPipe};
use forkplan::{
    Capabilities, Command, Features, IdRange, IoPriority, Namespaces, Open, PassedFd, Resource,
    Scheduler, Signal,
};
use rustix::process::{Resource as Limited, Rlimit, setrlimit};
use support::isolation::{ALLOW, Cgroup, access, is_root, ruleset};
use support::trace::{
    assert_traced, files, kind, kinds_of_the_enum, note, spawn_and_note, start_and_note, trace,
};
use support::trace_lines::clone_flags;
use support::{CLONES, EXCLUSIONS, PATHS, end, own_cpu, terminal, write_program};
use tempfile::TempDir;

#[test]
fn every_kind_of_step_is_its_syscalls_in_the_order_of_the_plan() {
    let name = "every_kind_of_step_is_its_syscalls_in_the_order_of_the_plan";
    let Some(dir) = trace(name, spawn_under_trace) else { return };
    let all = files(dir.path(), "trace.");
    let traced = |pid: &str| &all.iter().find(|(of, _)| of == pid).unwrap().1;
    let expected = files(dir.path(), "expected.");
    assert!(expected.len() >= 2 * (EXCLUSIONS.len() + 2 * PATHS.len()), "{}", expected.len());
    for (pid, expected) in &expected {
        assert_traced(traced(pid), expected);
    }
    let clones = files(dir.path(), "clone.");
    assert_eq!(clones.len(), expected.len());
    for (pid, flags) in clones {
        let made = format!(") = {pid}");
        let mut lines = all.iter().flat_map(|(_, text)| text.lines());
        let clone = lines.find(|line| line.starts_with("clone") && line.ends_with(&made)).unwrap();
        assert_eq!(isolating_flags(clone), flags, "{clone}");
    }
    let seen: BTreeSet<String> =
        files(dir.path(), "kinds").into_iter().flat_map(|(_, text)| lines(&text)).collect();
    if is_root(name) {
        let mut kinds = kinds_of_the_enum();
        if ruleset(name, access::MAKE_SOCK).is_none() {
            kinds.remove("Landlock");
        }
        assert_eq!(seen, kinds);
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(String::from).collect()
}

/// What the clone says of namespaces and cgroup, of all its flags.
fn isolating_flags(clone: &str) -> String {
    let (_, flags) = clone.split_once("flags=").unwrap();
    let flags = flags.split([',', ' ', ')']).next().unwrap().split('|');
    let isolating =
        flags.filter(|flag| flag.starts_with("CLONE_NEW") || *flag == "CLONE_INTO_CGROUP");
    sorted(&isolating.collect::<Vec<_>>().join("|"))
}

fn sorted(flags: &str) -> String {
    let flags: BTreeSet<&str> = flags.split('|').collect();
    flags.into_iter().collect::<Vec<_>>().join("|")
}

/// What the traced commands lend.
struct Lent {
    dir: TempDir,
    root: File,
    terminal: File,
    _master: OwnedFd,
    namespace: File,
    program: File,
    ruleset: Option<OwnedFd>,
    files: [OwnedFd; 3],
    cgroup: Option<Cgroup>,
}

unsafe extern "C" fn hook(_: *mut c_void) -> c_int {
    // SAFETY: no pointers.
    unsafe { libc::sched_yield() }
}

impl Lent {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_program(dir.path().join("script"), "exit 0\n", 0o755);
        let (master, terminal) = terminal();
        Self {
            root: File::open("/").unwrap(),
            terminal,
            _master: master,
            namespace: File::open("/proc/self/ns/uts").unwrap(),
            program: File::open(end()).unwrap(),
            // Nothing that the program does.
            ruleset: ruleset("landlock_restrict_self", access::MAKE_SOCK),
            files: [(); 3].map(|()| tempfile::tempfile().unwrap().into()),
            cgroup: Cgroup::new("every_kind_of_step"),
            dir,
        }
    }

    /// What anybody may ask for, with an fd map that has every kind of step.
    fn ordinary(&self) -> Command<'_> {
        let [a, b, c] = &self.files;
        let mut command = Command::new("/bin/true");
        command
            .args(["some", "arguments"])
            .fd(a.as_raw_fd(), Channel::borrowed(b))
            .fd(b.as_raw_fd(), Channel::borrowed(a))
            .fd(c.as_raw_fd(), Channel::borrowed(c))
            .fd(1, ReadPipe)
            .chdir("/proc")
            .fchdir(PassedFd::borrowed(&self.root))
            .current_dir("tmp")
            .umask(0o27)
            .controlling_terminal(PassedFd::borrowed(&self.terminal))
            .foreground(PassedFd::borrowed(&self.terminal))
            .parent_death_signal(Signal::KILL)
            .rlimit(Resource::CORE, 0, 0)
            .rlimit(Resource::NOFILE, 32, 48)
            .nice(1)
            .scheduler(Scheduler::Other)
            .cpu_affinity(0..=own_cpu())
            .io_priority(IoPriority::BestEffort(7))
            .oom_score_adj(1000)
            .no_new_privs()
            .seccomp([ALLOW; 3])
            .env_pid("OWN")
            .default_signals([Signal::TERM])
            .ignore_signals([Signal::HUP])
            .block_signals([Signal::USR1]);
        if let Some(ruleset) = &self.ruleset {
            command.landlock(PassedFd::borrowed(ruleset));
        }
        command
    }

    /// A group, sockets, and a script that is searched for.
    fn script(&self) -> Command<'_> {
        let path = format!("/nowhere:/bin/sh:{}:/bin", self.dir.path().to_str().unwrap());
        let mut command = Command::new("script");
        command.arg("argument").env("PATH", path).shell_fallback("/bin/sh").process_group(0);
        command.listen_fds([("a", self.files[0].as_fd()), ("b", self.files[1].as_fd())]);
        command
    }

    /// What wants a fork, and privileges.
    fn privileged(&self) -> Command<'_> {
        let mut command = self.ordinary();
        let capabilities = Capabilities::CHOWN | Capabilities::KILL;
        command
            .chroot("/")
            .coredump_filter(0x7f)
            .uid(12_345)
            .gid(12_346)
            .groups([1, 2])
            .securebits(1)
            .bounding_set(capabilities | Capabilities::BPF)
            .ambient_capabilities(capabilities);
        // SAFETY: the hook makes one syscall.
        unsafe { command.pre_exec(hook, ptr::null_mut()) };
        command
    }

    /// In a root, of which the program is no part.
    fn isolated(&self) -> Command<'_> {
        let mut command = Command::new("/name");
        command
            .program_fd(PassedFd::borrowed(&self.program))
            .unshare(Namespaces::MOUNT | Namespaces::PID | Namespaces::NET)
            .join_namespace(PassedFd::borrowed(&self.namespace), Namespaces::UTS)
            .join_namespace(PassedFd::borrowed(&self.namespace), Namespaces::empty())
            .private_mounts()
            .pivot_root(self.dir.path())
            .setsid()
            .env_pid("OWN");
        command
    }

    fn mapped(&self) -> Command<'_> {
        let map = [IdRange { inside: 0, outside: 1000, count: 10 }];
        let mut command = Command::new("/bin/true");
        command.unshare(Namespaces::USER | Namespaces::UTS).uid_map(map).gid_map(map).uid(3);
        command.gid(4).groups([5, 6]);
        command
    }

    /// The commands, with the namespaces that each is cloned into, and what is
    /// done without in turn.
    fn commands(&self) -> Vec<(Command<'_>, Namespaces, &'static [Features])> {
        let none = Namespaces::empty();
        let mut inheriting = self.ordinary();
        inheriting.inherit_unnamed_fds(true);
        let mut opening = Command::new("/bin/true");
        opening.fds([5, 6], Channel::file_in_child("/etc/passwd", Open::Read));
        let mut commands: Vec<(_, _, &[Features])> = vec![
            (opening, none, &CLONES),
            (self.ordinary(), none, &EXCLUSIONS),
            (inheriting, none, &PATHS),
            (self.script(), none, &PATHS),
        ];
        if is_root("steps that want privileges") {
            let kinds = Namespaces::MOUNT | Namespaces::PID | Namespaces::NET;
            // These are always forked.
            commands.push((self.privileged(), none, &CLONES));
            commands.push((self.isolated(), kinds, &CLONES));
            commands.push((self.mapped(), Namespaces::USER | Namespaces::UTS, &CLONES));
        }
        commands
    }
}

/// The traced process: spawns and starts, and writes down what each plan lets expect.
fn spawn_under_trace(dir: &Path) {
    // The slowest way of closing makes a syscall for each number.
    setrlimit(Limited::Nofile, Rlimit { current: Some(64), maximum: Some(64) }).unwrap();
    let lent = Lent::new();
    let mut kinds = BTreeSet::new();
    let mut spawn = |command: &Command<'_>, namespaces: Namespaces, flags: &str| {
        let mut prepared = command.prepare().unwrap();
        let opened = prepared.open().unwrap();
        kinds.extend(opened.plan().steps().iter().map(|&step| kind(step)));
        let mut child = spawn_and_note(dir, opened, namespaces.contains(Namespaces::PID));
        note(dir, &format!("clone.{}", child.id().unwrap()), flags);
        assert!(child.wait().unwrap().success());
        drop(prepared);
        let mut child = start_and_note(dir, command, namespaces.contains(Namespaces::PID));
        note(dir, &format!("clone.{}", child.id().unwrap()), flags);
        assert!(child.wait().unwrap().success());
    };
    for (command, namespaces, exclusions) in lent.commands() {
        let flags = match namespaces.is_empty() {
            true => String::new(),
            false => sorted(&clone_flags(namespaces.bits())),
        };
        if let Some(cgroup) = &lent.cgroup {
            let mut command = command.clone();
            command.cgroup(PassedFd::borrowed(cgroup.directory()));
            let flags = format!("CLONE_INTO_CGROUP|{flags}");
            spawn(&command, namespaces, flags.trim_end_matches('|'));
        }
        for &without in exclusions {
            spawn(command.clone().without(without), namespaces, &flags);
        }
    }
    let kinds: Vec<String> = kinds.into_iter().collect();
    note(dir, "kinds", &kinds.join("\n"));
}
