//! The kinds of things that setup steps set.

use core::fmt;

use bitflags::bitflags;

use crate::sys::numbers;

/// A resource that is limited: `getrlimit(2)`. One that the platform has not is an
/// error when the command is prepared.
///
/// ```
/// use forkplan::{Command, Resource};
///
/// let mut child = Command::new("sh")
///     .args(["-c", "test $(ulimit -n) = 64"])
///     .rlimit(Resource::NOFILE, 64, 64)
///     .spawn()?;
/// assert!(child.wait()?.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Resource {
    name: &'static str,
    number: i32,
}

/// No limit, for [`Command::rlimit`](crate::Command::rlimit).
pub const UNLIMITED: u64 = u64::MAX;

macro_rules! resources {
    ($($name:ident)*) => {
        impl Resource {$(
            #[doc = concat!("`RLIMIT_", stringify!($name), "`")]
            pub const $name: Self = Self::called(concat!("RLIMIT_", stringify!($name)));
        )*}
    };
}

impl Resource {
    const fn called(name: &'static str) -> Self {
        Self { name, number: numbers::limit(name) }
    }

    /// Of [`number`](Self::number).
    pub(crate) fn from_number(number: i32) -> Self {
        let known = numbers::LIMITS.iter().find(|(_, known)| *known == number);
        Self { name: known.map_or("RLIMIT", |(name, _)| *name), number }
    }

    /// The platform's. `None`: it has no such limit.
    pub(crate) fn number(self) -> Option<i32> {
        (self.number >= 0).then_some(self.number)
    }

    pub(crate) fn name(self) -> &'static str {
        self.name
    }

    /// One that no platform has.
    #[cfg(test)]
    pub(crate) const UNHEARD_OF: Self = Self::called("RLIMIT_UNHEARD_OF");
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `RLIMIT_NOFILE`
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

resources! {
    AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO
    RTTIME SIGPENDING STACK
}

bitflags! {
    /// Kinds of namespaces: `namespaces(7)`. Linux.
    ///
    /// ```
    /// use forkplan::{Command, Namespaces};
    ///
    /// let mut command = Command::new("hostname");
    /// command.unshare(Namespaces::UTS | Namespaces::IPC);
    /// ```
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Namespaces: u32 {
        /// Cgroup root: `CLONE_NEWCGROUP`.
        const CGROUP = 0x0200_0000;
        /// System V IPC and POSIX message queues: `CLONE_NEWIPC`.
        const IPC = 0x0800_0000;
        /// Mount points: `CLONE_NEWNS`.
        const MOUNT = 0x0002_0000;
        /// Network devices, ports: `CLONE_NEWNET`.
        const NET = 0x4000_0000;
        /// Process ids: `CLONE_NEWPID`. The program is its first process.
        const PID = 0x2000_0000;
        /// Users and groups: `CLONE_NEWUSER`.
        const USER = 0x1000_0000;
        /// Host name: `CLONE_NEWUTS`.
        const UTS = 0x0400_0000;
    }
}

bitflags! {
    /// A set of capabilities: `capabilities(7)`. Linux.
    ///
    /// ```
    /// use forkplan::{Capabilities, Command};
    ///
    /// let mut command = Command::new("server");
    /// command
    ///     .uid(1000)
    ///     .gid(1000)
    ///     .groups([])
    ///     .ambient_capabilities(Capabilities::NET_BIND_SERVICE);
    /// ```
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Capabilities: u64 {
        /// `CAP_CHOWN`
        const CHOWN = 1 << 0;
        /// `CAP_DAC_OVERRIDE`
        const DAC_OVERRIDE = 1 << 1;
        /// `CAP_DAC_READ_SEARCH`
        const DAC_READ_SEARCH = 1 << 2;
        /// `CAP_FOWNER`
        const FOWNER = 1 << 3;
        /// `CAP_FSETID`
        const FSETID = 1 << 4;
        /// `CAP_KILL`
        const KILL = 1 << 5;
        /// `CAP_SETGID`
        const SETGID = 1 << 6;
        /// `CAP_SETUID`
        const SETUID = 1 << 7;
        /// `CAP_SETPCAP`
        const SETPCAP = 1 << 8;
        /// `CAP_LINUX_IMMUTABLE`
        const LINUX_IMMUTABLE = 1 << 9;
        /// `CAP_NET_BIND_SERVICE`
        const NET_BIND_SERVICE = 1 << 10;
        /// `CAP_NET_BROADCAST`
        const NET_BROADCAST = 1 << 11;
        /// `CAP_NET_ADMIN`
        const NET_ADMIN = 1 << 12;
        /// `CAP_NET_RAW`
        const NET_RAW = 1 << 13;
        /// `CAP_IPC_LOCK`
        const IPC_LOCK = 1 << 14;
        /// `CAP_IPC_OWNER`
        const IPC_OWNER = 1 << 15;
        /// `CAP_SYS_MODULE`
        const SYS_MODULE = 1 << 16;
        /// `CAP_SYS_RAWIO`
        const SYS_RAWIO = 1 << 17;
        /// `CAP_SYS_CHROOT`
        const SYS_CHROOT = 1 << 18;
        /// `CAP_SYS_PTRACE`
        const SYS_PTRACE = 1 << 19;
        /// `CAP_SYS_PACCT`
        const SYS_PACCT = 1 << 20;
        /// `CAP_SYS_ADMIN`
        const SYS_ADMIN = 1 << 21;
        /// `CAP_SYS_BOOT`
        const SYS_BOOT = 1 << 22;
        /// `CAP_SYS_NICE`
        const SYS_NICE = 1 << 23;
        /// `CAP_SYS_RESOURCE`
        const SYS_RESOURCE = 1 << 24;
        /// `CAP_SYS_TIME`
        const SYS_TIME = 1 << 25;
        /// `CAP_SYS_TTY_CONFIG`
        const SYS_TTY_CONFIG = 1 << 26;
        /// `CAP_MKNOD`
        const MKNOD = 1 << 27;
        /// `CAP_LEASE`
        const LEASE = 1 << 28;
        /// `CAP_AUDIT_WRITE`
        const AUDIT_WRITE = 1 << 29;
        /// `CAP_AUDIT_CONTROL`
        const AUDIT_CONTROL = 1 << 30;
        /// `CAP_SETFCAP`
        const SETFCAP = 1 << 31;
        /// `CAP_MAC_OVERRIDE`
        const MAC_OVERRIDE = 1 << 32;
        /// `CAP_MAC_ADMIN`
        const MAC_ADMIN = 1 << 33;
        /// `CAP_SYSLOG`
        const SYSLOG = 1 << 34;
        /// `CAP_WAKE_ALARM`
        const WAKE_ALARM = 1 << 35;
        /// `CAP_BLOCK_SUSPEND`
        const BLOCK_SUSPEND = 1 << 36;
        /// `CAP_AUDIT_READ`
        const AUDIT_READ = 1 << 37;
        /// `CAP_PERFMON`
        const PERFMON = 1 << 38;
        /// `CAP_BPF`
        const BPF = 1 << 39;
        /// `CAP_CHECKPOINT_RESTORE`
        const CHECKPOINT_RESTORE = 1 << 40;

        /// Capabilities that are newer than this list.
        const _ = !0;
    }
}

/// How a process shares the CPUs: `sched(7)`. Linux.
///
/// ```
/// use forkplan::{Command, Scheduler};
///
/// let mut child = Command::new("true").scheduler(Scheduler::Batch).spawn()?;
/// assert!(child.wait()?.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheduler {
    /// `SCHED_OTHER`: by nice value.
    Other,
    /// `SCHED_BATCH`: as `Other`, for work that is never waited for.
    Batch,
    /// `SCHED_IDLE`: when nobody else wants to run.
    Idle,
    /// `SCHED_FIFO`, with a priority from 1 to 99.
    Fifo(i32),
    /// `SCHED_RR`, with a priority from 1 to 99.
    RoundRobin(i32),
}

impl Scheduler {
    /// The kernel's policy and priority.
    pub(crate) fn numbers(self) -> (i32, i32) {
        match self {
            Self::Other => (0, 0),
            Self::Fifo(priority) => (1, priority),
            Self::RoundRobin(priority) => (2, priority),
            Self::Batch => (3, 0),
            Self::Idle => (5, 0),
        }
    }

    /// Of [`numbers`](Self::numbers).
    pub(crate) fn from_numbers(policy: i32, priority: i32) -> Self {
        match policy {
            1 => Self::Fifo(priority),
            2 => Self::RoundRobin(priority),
            3 => Self::Batch,
            5 => Self::Idle,
            _ => Self::Other,
        }
    }
}

/// How a process shares disks: `ioprio_set(2)`. Linux.
///
/// ```
/// use forkplan::{Command, IoPriority};
///
/// let mut child = Command::new("true").io_priority(IoPriority::Idle).spawn()?;
/// assert!(child.wait()?.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IoPriority {
    /// Before all others, at a level from 0 (first) to 7.
    RealTime(u8),
    /// Among the others, at a level from 0 (first) to 7.
    BestEffort(u8),
    /// When nobody else wants the disk.
    Idle,
}

impl IoPriority {
    /// The kernel's class and level.
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::RealTime(level) => 1 << 13 | i32::from(level),
            Self::BestEffort(level) => 2 << 13 | i32::from(level),
            Self::Idle => 3 << 13,
        }
    }

    /// Of [`number`](Self::number).
    pub(crate) fn from_number(number: i32) -> Self {
        let level = (number & 7) as u8;
        match number >> 13 {
            1 => Self::RealTime(level),
            2 => Self::BestEffort(level),
            _ => Self::Idle,
        }
    }
}

/// A range of ids of a user namespace: `user_namespaces(7)`. Linux.
///
/// ```
/// use forkplan::{Command, IdRange, Namespaces};
///
/// let mut command = Command::new("id");
/// command
///     .unshare(Namespaces::USER)
///     .uid_map([IdRange { inside: 0, outside: 1000, count: 1 }]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdRange {
    /// The first id in the namespace.
    pub inside: u32,
    /// The id outside that it stands for.
    pub outside: u32,
    /// How many ids.
    pub count: u32,
}

/// One instruction of a seccomp filter: `struct sock_filter`. Linux.
///
/// ```
/// use forkplan::FilterInstruction;
///
/// // BPF_RET | BPF_K, SECCOMP_RET_ALLOW: allows everything.
/// let allow = FilterInstruction { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 };
/// let mut child = forkplan::Command::new("true").no_new_privs().seccomp([allow]).spawn()?;
/// assert!(child.wait()?.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FilterInstruction {
    /// What it does.
    pub code: u16,
    /// How many to skip if true.
    pub jt: u8,
    /// How many to skip if false.
    pub jf: u8,
    /// Its operand.
    pub k: u32,
}

impl FilterInstruction {
    /// As it lies in memory.
    pub(crate) fn bytes(self) -> [u8; 8] {
        let ([a, b], [c, d, e, f]) = (self.code.to_ne_bytes(), self.k.to_ne_bytes());
        [a, b, self.jt, self.jf, c, d, e, f]
    }
}
