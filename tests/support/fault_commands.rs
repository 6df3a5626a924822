//! Commands whose plans have every kind of step between them.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use forkplan::Channel::{self, Null, ReadPipe};
use forkplan::{
    Capabilities, Command, IdRange, IoPriority, Namespaces, Open, PassedFd, Resource, Scheduler,
    Signal,
};
use tempfile::TempDir;

use super::isolation::{ALLOW, access, is_root, ruleset};
use super::{end, own_cpu, terminal, write_program};

/// Some user and group that nobody is.
pub(crate) const ID: u32 = 12_345;
/// Their groups.
pub(crate) const GROUPS: [u32; 2] = [1, 2];

/// Has a child that shares memory set up what anybody may ask for.
pub(crate) fn set_up_by_anybody<'c, 'fd>(
    command: &'c mut Command<'fd>,
    root: &'fd File,
    slave: &'fd File,
) -> &'c mut Command<'fd> {
    command
        .fd(0, Null)
        .fchdir(PassedFd::borrowed(root))
        .umask(0o77)
        .controlling_terminal(PassedFd::borrowed(slave))
        .foreground(PassedFd::borrowed(slave))
        .parent_death_signal(Signal::KILL)
        .rlimit(Resource::CORE, 0, 0)
        .nice(19)
        .scheduler(Scheduler::Batch)
        .cpu_affinity([own_cpu()])
        .io_priority(IoPriority::Idle)
        .no_new_privs()
        .ignore_signals([Signal::USR1])
}

/// What the commands lend.
pub(crate) struct Lent {
    /// For a map that needs every kind of step: two that change places and one
    /// that stays.
    three: [OwnedFd; 3],
    root: File,
    slave: File,
    _master: OwnedFd,
    namespace: File,
    program: File,
    ruleset: Option<OwnedFd>,
    dir: TempDir,
}

impl Lent {
    pub(crate) fn new(test: &str) -> Self {
        let (master, slave) = terminal();
        let dir = tempfile::tempdir().unwrap();
        write_program(dir.path().join("script"), "exit 0\n", 0o755);
        fs::create_dir(dir.path().join("root")).unwrap();
        Self {
            three: [(); 3].map(|()| tempfile::tempfile().unwrap().into()),
            root: File::open("/").unwrap(),
            slave,
            _master: master,
            namespace: File::open("/proc/self/ns/uts").unwrap(),
            program: File::open(end()).unwrap(),
            ruleset: ruleset(test, access::MAKE_SOCK),
            dir,
        }
    }

    /// The same with fd numbers above `lowest`.
    pub(crate) fn moved_above(mut self, lowest: i32) -> Self {
        let moved = |fd: &dyn AsFd| rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), lowest).unwrap();
        self.three = self.three.each_ref().map(|fd| moved(fd));
        self.root = moved(&self.root).into();
        self.slave = moved(&self.slave).into();
        self.program = moved(&self.program).into();
        self.ruleset = self.ruleset.map(|ruleset| moved(&ruleset));
        self
    }

    /// A map that needs every kind of step, and nothing else.
    pub(crate) fn map(&self) -> Command<'_> {
        let [a, b, c] = &self.three;
        let mut command = Command::new(end());
        command
            .current_dir("/")
            .fd(a.as_raw_fd(), Channel::borrowed(b))
            .fd(b.as_raw_fd(), Channel::borrowed(a))
            .fd(c.as_raw_fd(), Channel::borrowed(c))
            .fd(1, ReadPipe);
        command
    }

    /// What anybody may ask for, but for files that the child opens.
    pub(crate) fn ordinary(&self) -> Command<'_> {
        let mut command = Command::new(end());
        set_up_by_anybody(&mut command, &self.root, &self.slave).oom_score_adj(1000).env_pid("PID");
        command
    }

    /// A group of its own, and files that the child opens.
    fn opening(&self) -> Command<'_> {
        let mut command = Command::new(end());
        command.fd(0, Null).process_group(0);
        command.fds([5, 6], Channel::file_in_child("/etc/passwd", Open::Read));
        command
    }

    /// What wants privileges, and a fork.
    fn privileged(&self) -> Command<'_> {
        let mut command = self.ordinary();
        command
            .chroot("/")
            .uid(ID)
            .gid(ID)
            .groups(GROUPS)
            .securebits(0)
            .bounding_set(Capabilities::CHOWN)
            .ambient_capabilities(Capabilities::CHOWN);
        command
    }

    /// A search that finds it at the second place.
    fn search(&self) -> Command<'_> {
        let mut command = Command::new(end().file_name().unwrap());
        let dir = end().parent().unwrap().display();
        command.env("PATH", format!("/nowhere:{dir}:/etc/passwd")).fds([0, 1, 2], Null);
        command
    }

    /// A script that wants a shell.
    fn script(&self) -> Command<'_> {
        let mut command = Command::new(self.dir.path().join("script"));
        command.shell_fallback("/bin/sh");
        command
    }

    /// By its fd, shut in by filters.
    fn filtered(&self) -> Command<'_> {
        let mut command = Command::new("end");
        command.program_fd(PassedFd::borrowed(&self.program)).no_new_privs().seccomp([ALLOW]);
        if let Some(ruleset) = &self.ruleset {
            command.landlock(PassedFd::borrowed(ruleset));
        }
        command
    }

    /// In a root and namespaces of its own.
    fn isolated(&self) -> Command<'_> {
        let mut command = Command::new("end");
        command
            .program_fd(PassedFd::borrowed(&self.program))
            .unshare(Namespaces::MOUNT | Namespaces::PID)
            .join_namespace(PassedFd::borrowed(&self.namespace), Namespaces::UTS)
            .private_mounts()
            .pivot_root(self.dir.path().join("root"));
        command
    }

    /// In a user namespace whose ids the parent maps.
    fn mapped(&self) -> Command<'_> {
        let map = [IdRange { inside: 0, outside: 0, count: 10 }];
        let mut command = Command::new(end());
        command.unshare(Namespaces::USER).uid_map(map).gid_map(map);
        command
    }

    /// Those that may share memory with the parent.
    pub(crate) fn sharing(&self) -> Vec<Command<'_>> {
        let mut inheriting = self.map();
        inheriting.inherit_unnamed_fds(true);
        let maps = vec![self.map(), inheriting, self.search(), self.script()];
        maps.into_iter().chain([self.filtered(), self.opening(), self.ordinary()]).collect()
    }

    /// Those that never do; none where this is not root, which is said.
    pub(crate) fn forking(&self, test: &str) -> Vec<Command<'_>> {
        match is_root(test) {
            true => vec![self.privileged(), self.isolated(), self.mapped()],
            false => Vec::new(),
        }
    }
}
