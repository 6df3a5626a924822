//! What shuts a child in: rulesets, filters, cgroups.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use forkplan::FilterInstruction;

use super::skipped;

/// Allows every call.
pub(crate) const ALLOW: FilterInstruction =
    FilterInstruction { code: 6, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };

/// Whether this is root; says it if not.
pub(crate) fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped(test, "not root");
    }
    root
}

/// Somebody without privileges and groups.
pub(crate) const NOBODY: u32 = 65_534;

/// Makes this thread nobody's, if it is root's. As if the program had been
/// started so: `/proc` of it and its children is not root's.
pub(crate) fn become_nobody() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // SAFETY: an empty list and no pointers. Raw calls, which change this thread
    // alone.
    let results = unsafe {
        [
            libc::syscall(libc::SYS_setgroups, 0, 0),
            libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY),
            libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY),
            libc::syscall(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0),
        ]
    };
    assert_eq!(results, [0; 4]);
}

/// Whether this system lets users without privileges make user namespaces; says
/// it if not.
pub(crate) fn lets_anybody_make_namespaces(test: &str) -> bool {
    let forbids = [
        ("/proc/sys/user/max_user_namespaces", "0"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
    ];
    let set = |(file, value): &(&str, &str)| {
        fs::read_to_string(file).is_ok_and(|text| text.trim() == *value)
    };
    match forbids.iter().find(|knob| set(knob)) {
        Some((file, value)) => skipped(test, format_args!("{file} is {value}")),
        None => return true,
    }
    false
}

/// `LANDLOCK_ACCESS_FS_*`.
pub(crate) mod access {
    pub(crate) const WRITE_FILE: u64 = 1 << 1;
    pub(crate) const MAKE_SOCK: u64 = 1 << 9;
}

/// A Landlock ruleset that forbids this kind of access everywhere; `None`, which
/// is said, where the kernel has no Landlock.
pub(crate) fn ruleset(test: &str, forbidden: u64) -> Option<OwnedFd> {
    let size = size_of_val(&forbidden);
    // SAFETY: the kernel reads the attributes, of which this is the first
    // version; what it returns is an fd of ours.
    unsafe {
        let fd = libc::syscall(libc::SYS_landlock_create_ruleset, &raw const forbidden, size, 0);
        if fd < 0 {
            let error = io::Error::last_os_error();
            skipped(test, format_args!("Landlock: {error}"));
            return None;
        }
        Some(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// Allows this kind of access beneath a directory after all.
pub(crate) fn allow_beneath(ruleset: &OwnedFd, directory: &Path, allowed: u64) {
    #[repr(C, packed)]
    struct PathBeneath {
        allowed: u64,
        directory: i32,
    }
    const LANDLOCK_RULE_PATH_BENEATH: i32 = 1;
    let directory = File::open(directory).unwrap();
    let rule = PathBeneath { allowed, directory: directory.as_raw_fd() };
    // SAFETY: the kernel reads the rule.
    let result = unsafe {
        let number = libc::SYS_landlock_add_rule;
        let (fd, kind) = (ruleset.as_raw_fd(), LANDLOCK_RULE_PATH_BENEATH);
        libc::syscall(number, fd, kind, &raw const rule, 0)
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// A cgroup of the second version, removed when it is dropped. Nobody must be
/// in it by then.
pub(crate) struct Cgroup {
    path: PathBuf,
    directory: File,
}

impl Cgroup {
    /// `None`, which is said, where this may not be made.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let Some(mount) = mounts.find(|words| words[2] == "cgroup2") else {
            skipped(test, "there is no cgroup2");
            return None;
        };
        // Beneath our own, where we are.
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
        let name = format!("forkplan-{}-{test}", std::process::id());
        let path = Path::new(mount[1]).join(own).join(name);
        if let Err(error) = fs::create_dir(&path) {
            skipped(test, format_args!("{}: {error}", path.display()));
            return None;
        }
        let directory = File::open(&path).unwrap();
        Some(Self { path, directory })
    }

    pub(crate) fn directory(&self) -> &File {
        &self.directory
    }

    /// As the second version has it in `/proc/PID/cgroup`.
    pub(crate) fn of(pid: u32) -> String {
        let all = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        all.lines().find_map(|line| line.strip_prefix("0::")).unwrap().into()
    }

    /// The last of its path.
    pub(crate) fn name(&self) -> &str {
        self.path.file_name().unwrap().to_str().unwrap()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Who was in it may still be on the way out when he has been reaped.
        let gone = (0..10_000).any(|_| match fs::remove_dir(&self.path) {
            Ok(()) => true,
            Err(_) => {
                thread::sleep(Duration::from_millis(1));
                false
            }
        });
        assert!(gone || thread::panicking(), "{} is left", self.path.display());
    }
}
