//! Commands whose children make every call that a child may make.

use core::ffi::c_int;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use forkplan::Channel::{self, Null, ReadPipe};
use forkplan::{
    Capabilities, Command, Features, FilterInstruction, IdRange, Namespaces, PassedFd, Signal,
};

use super::fault_commands::set_up_by_anybody;
use super::marker;

/// What the commands lend.
pub(crate) struct Lent {
    root: File,
    program: File,
    uts: File,
    pub(crate) ruleset: Option<OwnedFd>,
    slave: File,
    _master: OwnedFd,
    three: [File; 3],
    dir: tempfile::TempDir,
}

impl Lent {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(marker(), dir.path().join("marker")).unwrap();
        // `struct landlock_ruleset_attr`: the making of character devices.
        let handled: u64 = 1 << 6;
        // SAFETY: the call reads the eight bytes; the others take an fd that was
        // just made.
        unsafe {
            let at = &raw const handled;
            let ruleset = libc::syscall(libc::SYS_landlock_create_ruleset, at, 8, 0) as c_int;
            let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
            let master = libc::posix_openpt(flags);
            assert!(master >= 0);
            assert_eq!(libc::grantpt(master), 0);
            assert_eq!(libc::unlockpt(master), 0);
            let slave = libc::ioctl(master, libc::TIOCGPTPEER, flags);
            assert!(slave >= 0);
            Self {
                root: File::open("/").unwrap(),
                program: File::open(marker()).unwrap(),
                uts: File::open("/proc/self/ns/uts").unwrap(),
                ruleset: (ruleset >= 0).then(|| OwnedFd::from_raw_fd(ruleset)),
                slave: File::from_raw_fd(slave),
                _master: OwnedFd::from_raw_fd(master),
                three: [(); 3].map(|()| tempfile::tempfile().unwrap()),
                dir,
            }
        }
    }

    /// Maps and searches.
    fn maps(&self) -> Vec<Command<'_>> {
        let [a, b, c] = &self.three;
        let mut default = Command::new(marker());
        default.block_signals([Signal::USR1]);
        let mut swap = Command::new(marker());
        swap.fd(a.as_raw_fd(), Channel::borrowed(b)).fd(b.as_raw_fd(), Channel::borrowed(a));
        swap.fd(c.as_raw_fd(), Channel::borrowed(c)).fd(1, ReadPipe);
        let mut inherit = swap.clone();
        inherit.inherit_unnamed_fds(true);
        let mut search = Command::new(marker().file_name().unwrap());
        let dir = marker().parent().unwrap().display();
        search.env("PATH", format!("/nowhere:{dir}")).current_dir("/").fds([0, 1, 2], Null);
        let mut by_fd = Command::new("marker");
        by_fd.program_fd(PassedFd::borrowed(&self.program)).fd(0, Null).env_pid("PID");
        vec![default, swap, inherit, search, by_fd]
    }

    /// What a child on shared memory may set up.
    fn ordinary(&self) -> Command<'_> {
        let allow = FilterInstruction { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 };
        let mut command = Command::new(marker());
        set_up_by_anybody(&mut command, &self.root, &self.slave).seccomp([allow]);
        if let Some(ruleset) = &self.ruleset {
            command.landlock(PassedFd::borrowed(ruleset));
        }
        command
    }

    fn in_a_group(&self) -> Command<'_> {
        let mut command = Command::new(marker());
        command.fd(0, Null).process_group(0).chroot("/");
        command
    }

    /// Those whose child never shares memory.
    fn forked(&self) -> Vec<Command<'_>> {
        let mut ids = self.ordinary();
        ids.uid(12_345).gid(12_345).groups([1, 2]).securebits(0);
        ids.bounding_set(Capabilities::CHOWN).ambient_capabilities(Capabilities::CHOWN);
        let mut mapped = Command::new(marker());
        mapped.fd(0, Null).unshare(Namespaces::USER);
        mapped.uid_map([IdRange { inside: 0, outside: 0, count: 10 }]);
        let mut shut_in = Command::new("/marker");
        shut_in.fd(0, Null).unshare(Namespaces::MOUNT).private_mounts().pivot_root(self.dir.path());
        shut_in.join_namespace(PassedFd::borrowed(&self.uts), Namespaces::UTS);
        vec![ids, mapped, shut_in]
    }

    /// All of them.
    pub(crate) fn grid(&self) -> Vec<(Command<'_>, Shares)> {
        let mut shared = self.maps();
        shared.push(self.ordinary());
        let mut scored = self.ordinary();
        scored.oom_score_adj(1000);
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            shared.push(self.in_a_group());
        }
        let forked = if is_root { self.forked() } else { Vec::new() };
        let shared = shared.into_iter().map(|command| (command, Shares::Always));
        let forked = forked.into_iter().map(|command| (command, Shares::Never));
        shared.chain([(scored, Shares::Spawned)]).chain(forked).collect()
    }
}

/// Whether a child shares its parent's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shares {
    Never,
    /// Only with a parent that waits for it.
    Spawned,
    Always,
}

impl Shares {
    /// The path, as `SECURITY.md` has it.
    pub(crate) fn path(self, is_started: bool, without: Features) -> &'static str {
        let (shares, takes) = match is_started {
            false => (self != Self::Never, Features::SHARED_MEMORY),
            true => {
                let takes = Features::SHARED_MEMORY | Features::CLONE3 | Features::PIDFD;
                (self == Self::Always, takes)
            }
        };
        if shares && !without.intersects(takes) { "shared" } else { "fork" }
    }
}

pub(crate) fn lower_the_limits() {
    // The slowest way of closing makes a call for each number; no core files.
    for (resource, limit) in [(libc::RLIMIT_NOFILE, 1024), (libc::RLIMIT_CORE, 0)] {
        let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        // SAFETY: reads the limit.
        assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0);
    }
}
