//! What a process and a thread of it have that a spawn is to leave as it was.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::{fmt, fs, io};

/// Each component by its name, in words that are the same if it is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct State(BTreeMap<&'static str, String>);

impl State {
    /// What all threads share.
    pub(crate) fn of_process() -> Self {
        let limits: [_; 16] = core::array::from_fn(|limit| {
            let mut value = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
            // Its type depends on the libc.
            // SAFETY: writes the limit.
            assert_eq!(unsafe { libc::getrlimit64(limit as _, &mut value) }, 0);
            (value.rlim_cur, value.rlim_max)
        });
        // SAFETY: no pointers.
        let (dumpable, reaps, session) = unsafe {
            let mut reaps: libc::c_int = 0;
            assert_eq!(libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut reaps), 0);
            (libc::prctl(libc::PR_GET_DUMPABLE), reaps, [libc::getsid(0), libc::getpgid(0)])
        };
        let umask = from_status("/proc/thread-self/status", &["Umask"]);
        let oom = ["oom_score_adj", "coredump_filter"]
            .map(|file| fs::read_to_string(format!("/proc/self/{file}")).unwrap());
        Self(BTreeMap::from([
            ("fds", fds()),
            ("dispositions", format!("{:x?}", dispositions())),
            ("limits", format!("{limits:?}")),
            ("directory", place("/proc/thread-self/cwd")),
            ("root", place("/proc/thread-self/root")),
            ("umask", umask),
            ("dumpable", dumpable.to_string()),
            ("subreaper", reaps.to_string()),
            ("session and group", format!("{session:?}")),
            ("scores", format!("{oom:?}")),
        ]))
    }

    /// What the calling thread has for itself.
    pub(crate) fn of_thread() -> Self {
        const OWN: &str = "/proc/thread-self/status";
        let prctl = |option| {
            // SAFETY: the options asked for here take no argument.
            unsafe { libc::prctl(option, 0, 0, 0, 0) }.to_string()
        };
        let mut death_signal: libc::c_int = 0;
        // SAFETY: the first writes an int; the others take numbers.
        let [nice, policy, disk, personality] = unsafe {
            assert_eq!(libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut death_signal), 0);
            [
                libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0),
                libc::syscall(libc::SYS_sched_getscheduler, 0),
                libc::syscall(libc::SYS_ioprio_get, 1, 0),
                libc::syscall(libc::SYS_personality, 0xffff_ffff_u32),
            ]
        };
        let namespaces = ["mnt", "uts", "pid_for_children", "user", "net", "ipc"]
            .map(|kind| place(&format!("/proc/thread-self/ns/{kind}")));
        Self(BTreeMap::from([
            ("mask", from_status(OWN, &["SigBlk"])),
            ("ids", from_status(OWN, &["Uid", "Gid"])),
            ("groups", from_status(OWN, &["Groups"])),
            ("capabilities", from_status(OWN, &["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])),
            ("no_new_privs", from_status(OWN, &["NoNewPrivs"])),
            ("filters", from_status(OWN, &["Seccomp", "Seccomp_filters"])),
            ("CPUs", from_status(OWN, &["Cpus_allowed"])),
            ("securebits", prctl(libc::PR_GET_SECUREBITS)),
            ("kept capabilities", prctl(libc::PR_GET_KEEPCAPS)),
            ("death signal", death_signal.to_string()),
            ("nice", nice.to_string()),
            ("scheduler", policy.to_string()),
            ("disk", disk.to_string()),
            ("personality", personality.to_string()),
            ("namespaces", format!("{namespaces:?}")),
        ]))
    }

    /// Both.
    pub(crate) fn now() -> Self {
        let mut all = Self::of_process().0;
        all.extend(Self::of_thread().0);
        Self(all)
    }

    /// The names of the components in which `self` and `other` differ.
    pub(crate) fn changed(&self, other: &Self) -> Vec<&'static str> {
        let differs = |name: &&&'static str| self.0.get(**name) != other.0.get(**name);
        self.0.keys().filter(differs).copied().collect()
    }

    /// The names of all components.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.0.keys().copied().collect()
    }

    /// Fails with what differs, both ways.
    pub(crate) fn assert_is(&self, before: &Self, what: impl fmt::Display) {
        if let Some(name) = before.changed(self).first() {
            panic!("{what}: {name} changed\n{}\n{}", before.0[name], self.0[name]);
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.0).finish()
    }
}

/// Number, flags of the fd and of the open file, and which file it is.
fn fds() -> String {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    let numbers = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut listed: Vec<i32> = numbers.map(|number| number.parse().unwrap()).collect();
    listed.sort_unstable();
    let mut words = String::new();
    for number in listed {
        // SAFETY: not −1. One that is gone, by which the directory was read, is
        // only asked about.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let Ok(of_fd) = rustix::io::fcntl_getfd(fd) else { continue };
        let of_file = rustix::fs::fcntl_getfl(fd).unwrap();
        let stat = rustix::fs::fstat(fd).unwrap();
        let which = (stat.st_dev, stat.st_ino, stat.st_rdev);
        words += &format!("{}: {of_fd:?} {of_file:?} {which:x?}; ", fd.as_raw_fd());
    }
    words
}

/// The kernel's own, of all 64.
fn dispositions() -> [[u64; 4]; 64] {
    core::array::from_fn(|at| {
        let mut action = [0u64; 4];
        // SAFETY: the kernel writes one of its sigactions.
        let asked = unsafe {
            libc::syscall(libc::SYS_rt_sigaction, at + 1, 0, action.as_mut_ptr(), 8usize)
        };
        assert_eq!(asked, 0, "{}", io::Error::last_os_error());
        action
    })
}

fn place(link: &str) -> String {
    let metadata = fs::metadata(link).unwrap();
    format!("{:?}", (metadata.dev(), metadata.ino()))
}

fn from_status(file: &str, names: &[&str]) -> String {
    let status = fs::read_to_string(file).unwrap();
    let wanted = |line: &&str| names.contains(&line.split(':').next().unwrap());
    status.lines().filter(wanted).collect::<Vec<_>>().join("; ")
}
