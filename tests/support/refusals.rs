//! Modern calls that a kernel or a sandbox may lack, one by one and all at once.

use forkplan::Features;

use super::seccomp::Rule;

pub(crate) const ERRNOS: [i32; 3] = [libc::ENOSYS, libc::EPERM, libc::EINVAL];

/// What is refused, and what the probe has to find missing then.
pub(crate) struct Refusal {
    pub(crate) name: &'static str,
    pub(crate) rules: fn(i32) -> Vec<Rule>,
    pub(crate) missing: Features,
}

const NOT_SHARED: Features = Features::CLONE3
    .union(Features::SHARED_MEMORY)
    .union(Features::SHARED_FILES)
    .union(Features::PIDFD);

const UNSHARE: i32 = 1 << 1;
pub(crate) const CLOEXEC: i32 = 1 << 2;
/// `_IOWR(0xff, 11, struct pidfd_info)`, whatever its size.
const GET_INFO: i32 = 0xff0b;

pub(crate) const REFUSALS: [Refusal; 17] = [
    Refusal { name: "nothing", rules: |_| Vec::new(), missing: Features::empty() },
    Refusal {
        name: "clone3",
        rules: |e| vec![Rule::errno(libc::SYS_clone3, e)],
        missing: Features::CLONE3,
    },
    Refusal {
        name: "close_range",
        rules: |e| vec![Rule::errno(libc::SYS_close_range, e)],
        missing: Features::CLOSE_RANGE.union(Features::SHARED_FILES),
    },
    Refusal {
        name: "close_range with UNSHARE",
        rules: |e| vec![Rule::errno(libc::SYS_close_range, e).having(2, UNSHARE)],
        missing: Features::SHARED_FILES,
    },
    Refusal {
        name: "close_range with CLOEXEC",
        rules: |e| vec![Rule::errno(libc::SYS_close_range, e).having(2, CLOEXEC)],
        missing: Features::CLOSE_RANGE.union(Features::SHARED_FILES),
    },
    Refusal {
        name: "pidfd_open",
        rules: |e| vec![Rule::errno(libc::SYS_pidfd_open, e)],
        missing: Features::empty(),
    },
    // A filter does not see the flags of clone3.
    Refusal {
        name: "CLONE_PIDFD",
        rules: |e| {
            let old = Rule::errno(libc::SYS_clone, e).having(0, libc::CLONE_PIDFD);
            vec![Rule::errno(libc::SYS_clone3, e), old]
        },
        missing: Features::CLONE3.union(Features::PIDFD),
    },
    Refusal {
        name: "CLONE_VM",
        rules: |e| {
            let old = Rule::errno(libc::SYS_clone, e).having(0, libc::CLONE_VM);
            vec![Rule::errno(libc::SYS_clone3, e), old]
        },
        missing: NOT_SHARED,
    },
    // As user-mode qemu, which is particular about a fork's exit signal too.
    Refusal {
        name: "a fork without SIGCHLD",
        rules: |e| {
            let shared = libc::CLONE_VM | libc::CLONE_PIDFD;
            vec![
                Rule::errno(libc::SYS_clone3, e),
                Rule::errno(libc::SYS_clone, libc::EINVAL).having(0, shared),
                Rule::errno(libc::SYS_clone, libc::EINVAL).with(0, 0),
            ]
        },
        missing: NOT_SHARED,
    },
    Refusal {
        name: "waitid on a pidfd",
        rules: |e| vec![Rule::errno(libc::SYS_waitid, e).with(0, libc::P_PIDFD as i32)],
        missing: Features::PIDFD,
    },
    Refusal {
        name: "pidfd_send_signal",
        rules: |e| vec![Rule::errno(libc::SYS_pidfd_send_signal, e)],
        missing: Features::empty(),
    },
    Refusal {
        name: "PIDFD_GET_INFO",
        rules: |e| {
            let sized = |size: i32| {
                Rule::errno(libc::SYS_ioctl, e).with(1, -0x4000_0000 | size << 16 | GET_INFO)
            };
            vec![sized(64)]
        },
        missing: Features::empty(),
    },
    Refusal {
        name: "epoll_create1",
        rules: |e| vec![Rule::errno(libc::SYS_epoll_create1, e)],
        missing: Features::empty(),
    },
    Refusal {
        name: "epoll_ctl",
        rules: |e| vec![Rule::errno(libc::SYS_epoll_ctl, e)],
        missing: Features::empty(),
    },
    // With the flag by which no SIGPIPE is raised.
    Refusal {
        name: "pwritev2",
        rules: |e| vec![Rule::errno(libc::SYS_pwritev2, e)],
        missing: Features::empty(),
    },
    // By which the kernel is asked whether exec was reached.
    Refusal {
        name: "setpgid",
        rules: |e| vec![Rule::errno(libc::SYS_setpgid, e)],
        missing: Features::empty(),
    },
    Refusal {
        name: "all of them",
        rules: |e| {
            let mut rules =
                vec![Rule::errno(libc::SYS_clone, e).having(0, libc::CLONE_VM | libc::CLONE_PIDFD)];
            let whole = [
                libc::SYS_clone3,
                libc::SYS_close_range,
                libc::SYS_pidfd_open,
                libc::SYS_pidfd_send_signal,
                libc::SYS_epoll_create1,
                libc::SYS_pwritev2,
            ];
            rules.extend(whole.map(|number| Rule::errno(number, e)));
            rules.push(Rule::errno(libc::SYS_waitid, e).with(0, libc::P_PIDFD as i32));
            rules
        },
        missing: NOT_SHARED.union(Features::CLOSE_RANGE),
    },
];
