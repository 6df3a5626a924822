//! What `tests/support/state.rs` sees of a process: every change of what a spawn is
//! to leave as it was. The tests that rely on it: `proof_errnos`, `hazards`,
//! `spawn_blocked`, `spawn_faults`, `channel_faults`.
#![cfg(target_os = "linux")]

mod support;

use core::ffi::{c_int, c_long};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::{env, io, ptr};

use support::isolation::is_root;
use support::seccomp::install;
use support::state::State;
use support::{in_subprocess, own_cpu, place_at, with_fd};

fn done(result: c_long) {
    assert!(result >= 0, "{}", io::Error::last_os_error());
}

fn prctl(option: c_int, value: usize) {
    // SAFETY: the options that are set here take a number.
    done(unsafe { libc::prctl(option, value, 0, 0, 0) }.into());
}

/// Where the tests put a file.
const AT: i32 = 300;

fn place(file: File) {
    place_at(file, AT);
}

/// What anybody may change, each by the component that it is.
const CHANGES: [(&str, fn()); 19] = [
    // One more, its flag, another file in its place, the file's flags, none again.
    ("fds", || place(tempfile::tempfile().unwrap())),
    // SAFETY: no pointers.
    ("fds", || done(unsafe { libc::fcntl(AT, libc::F_SETFD, libc::FD_CLOEXEC) }.into())),
    ("fds", || place(File::open("/dev/null").unwrap())),
    ("fds", || rustix::io::ioctl_fionbio(with_fd(AT), true).unwrap()),
    // SAFETY: placed above, and nobody's property.
    ("fds", || done(unsafe { libc::close(AT) }.into())),
    // SAFETY: the process is the test's own.
    ("dispositions", || unsafe {
        assert_ne!(libc::signal(64, libc::SIG_IGN), libc::SIG_ERR);
    }),
    ("limits", || {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: reads the limit.
        done(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) }.into());
    }),
    ("directory", || env::set_current_dir("/proc").unwrap()),
    // SAFETY: no pointers.
    ("umask", || unsafe {
        libc::umask(0o123);
    }),
    ("subreaper", || prctl(libc::PR_SET_CHILD_SUBREAPER, 1)),
    // SAFETY: no pointers.
    ("session and group", || done(unsafe { libc::setpgid(0, 0) }.into())),
    ("scores", || fs::write("/proc/self/oom_score_adj", "999").unwrap()),
    ("mask", || {
        let usr2: u64 = 1 << (libc::SIGUSR2 - 1);
        let (how, size) = (libc::SIG_BLOCK, size_of::<u64>());
        // SAFETY: reads the eight bytes.
        done(unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const usr2, 0, size) });
    }),
    ("death signal", || prctl(libc::PR_SET_PDEATHSIG, libc::SIGUSR2 as usize)),
    // SAFETY: no pointers.
    ("nice", || done(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 7) }.into())),
    ("scheduler", || {
        let none = libc::sched_param { sched_priority: 0 };
        // SAFETY: reads the parameter.
        done(unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &none) }.into());
    }),
    // The idle class.
    // SAFETY: no pointers.
    ("disk", || done(unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, 3 << 13) })),
    ("personality", || {
        // SAFETY: no pointers.
        done(unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) }.into());
    }),
    ("CPUs", || {
        let mut one = rustix::thread::CpuSet::new();
        one.set(own_cpu());
        rustix::thread::sched_setaffinity(None, &one).unwrap();
    }),
];

/// What root may, and what is not undone.
const CHANGES_OF_ROOT: [(&str, fn()); 10] = [
    ("kept capabilities", || prctl(libc::PR_SET_KEEPCAPS, 1)),
    ("securebits", || prctl(libc::PR_SET_SECUREBITS, 1 << 2)),
    ("capabilities", || prctl(libc::PR_CAPBSET_DROP, 40)),
    // SAFETY: no pointers. Raw calls, which change this thread alone.
    ("ids", || done(unsafe { libc::syscall(libc::SYS_setresgid, 0, 0, 5) })),
    ("groups", || {
        let five = 5u32;
        // SAFETY: reads one group.
        done(unsafe { libc::syscall(libc::SYS_setgroups, 1, &raw const five) });
    }),
    // SAFETY: no pointers.
    ("namespaces", || done(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into())),
    ("root", || {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("forkplan-root");
        fs::create_dir_all(dir.join("proc")).unwrap();
        let proc = std::ffi::CString::new(dir.join("proc").to_str().unwrap()).unwrap();
        // SAFETY: strings that end with NUL, and no options. Seen by this process's
        // own mount namespace alone.
        unsafe {
            let (none, private) = (c"none".as_ptr(), libc::MS_REC | libc::MS_PRIVATE);
            done(libc::mount(none, c"/".as_ptr(), ptr::null(), private, ptr::null()).into());
            let kind = c"proc".as_ptr();
            done(libc::mount(none, proc.as_ptr(), kind, 0, ptr::null()).into());
        }
        std::os::unix::fs::chroot(&dir).unwrap();
    }),
    ("no_new_privs", || prctl(libc::PR_SET_NO_NEW_PRIVS, 1)),
    ("filters", || install(&[])),
    ("dumpable", || prctl(libc::PR_SET_DUMPABLE, 0)),
];

#[test]
fn control_each_change_of_a_parent_is_noticed_by_its_name() {
    let test = "control_each_change_of_a_parent_is_noticed_by_its_name";
    in_subprocess(test, || {
        let mut changes = CHANGES.to_vec();
        let root = is_root(test);
        if root {
            changes.extend(CHANGES_OF_ROOT);
        }
        if std::thread::available_parallelism().unwrap().get() == 1 {
            changes.retain(|(name, _)| *name != "CPUs");
        }
        let mut seen = BTreeSet::new();
        for (name, change) in changes {
            let before = State::now();
            assert_eq!(before.changed(&State::now()), [""; 0], "{name}");
            change();
            let changed = before.changed(&State::now());
            assert!(changed.contains(&name), "{name}: {changed:?}");
            // One change has one name; but securebits are capabilities that are kept.
            let both = ["kept capabilities", "securebits"];
            assert!(changed.len() == 1 || changed == both || changed == ["disk", "nice"]);
            seen.insert(name);
        }
        let unseen: Vec<_> =
            State::now().names().into_iter().filter(|name| !seen.contains(name)).collect();
        assert!(!root || unseen.is_empty() || unseen == ["CPUs"], "{unseen:?}");
    });
}
