//! What can't be set up, found before anything has happened.

extern crate std;

use core::ops::RangeInclusive;
use std::ffi::CString;
use std::format;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};

use crate::channel::PassedFd;
use crate::command::{Command, Namespaces, PlanError, Setup};
use crate::sys::numbers::LINUX_STEPS;
use crate::sys::{Features, fd};

impl Command<'_> {
    /// Checks that nothing asked for contradicts something else, or is not had
    /// here.
    pub(super) fn check_setup(&self, features: Features) -> Result<(), PlanError> {
        let s = &self.setup;
        let contradicts = |first, second| Err(PlanError::Contradiction { first, second });
        if s.setsid && s.process_group.is_some() {
            return contradicts("setsid", "process_group");
        }
        let namespaces = s.namespaces.unwrap_or(Namespaces::empty());
        let maps = !s.uid_map.is_empty() || !s.gid_map.is_empty();
        if maps && !namespaces.contains(Namespaces::USER) {
            return contradicts("uid_map or gid_map", "no new user namespace");
        }
        if (s.private_mounts || s.pivot_root.is_some()) && !namespaces.contains(Namespaces::MOUNT) {
            return contradicts("private_mounts or pivot_root", "no new mount namespace");
        }
        if s.pivot_root.is_some() && !s.private_mounts {
            // Where mounts are shared, what it binds would be the parent's too,
            // and stay there when the kernel then refuses the rest.
            return contradicts("pivot_root", "no private_mounts");
        }
        if s.joined.iter().any(|(_, kind)| namespaces.intersects(*kind)) {
            // The new one would be left again, and its mounts be made private in
            // somebody else's.
            return contradicts("unshare", "join_namespace of the same kind");
        }
        if let (Some(bounding), Some(ambient)) = (s.bounding, s.ambient) {
            if !bounding.contains(ambient) {
                return contradicts("ambient_capabilities", "a bounding_set without them");
            }
        }
        for (namespace, kind) in &s.joined {
            let found = fd::namespace_kind(namespace.as_fd());
            let found = found.map_or(Namespaces::empty(), Namespaces::from_bits_retain);
            if (*kind | found).contains(Namespaces::PID) {
                return Err(PlanError::JoinedPidNamespace { fd: namespace.number() });
            }
        }
        if let Some(name) = s.socket_names.iter().find(|name| !names_a_socket(name)) {
            return Err(PlanError::BadSocketName { name: name.clone() });
        }
        if s.shell.is_some() && s.program_fd.is_some() {
            return contradicts("shell_fallback", "program_fd");
        }
        if s.program_fd.as_ref().is_some_and(is_script) {
            return Err(PlanError::ScriptByFd);
        }
        if s.cgroup.is_some() && !features.contains(Features::CLONE3) {
            return Err(PlanError::MissingFeature { features: Features::CLONE3 });
        }
        if !LINUX_STEPS {
            if let Some(what) = linux_only(s) {
                return Err(PlanError::Unsupported { what });
            }
        }
        Ok(())
    }
}

/// An fd that can't be read from, such as one of `O_PATH`, is opened again for that.
fn is_script(program: &PassedFd<'_>) -> bool {
    let again = || {
        if !fd::is_regular(program.as_fd()) {
            return None;
        }
        // Not `self`, which is the first thread: this one may have a table of its own.
        let path = format!("/proc/thread-self/fd/{}", program.number());
        let opened = fd::open(&CString::new(path).ok()?, OFlags::RDONLY, Mode::empty());
        fd::is_script(opened.ok()?.as_fd())
    };
    fd::is_script(program.as_fd()).or_else(again).unwrap_or(false)
}

/// systemd's rule.
fn names_a_socket(name: &str) -> bool {
    const LEN_MAX: usize = 255;
    name.len() <= LEN_MAX && name.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b':')
}

/// What is asked for that only Linux has.
fn linux_only(s: &Setup<'_>) -> Option<&'static str> {
    let asked = [
        (s.scheduler.is_some(), "scheduler"),
        (s.affinity.is_some(), "cpu_affinity"),
        (s.io_priority.is_some(), "io_priority"),
        (s.oom_score_adj.is_some(), "oom_score_adj"),
        (s.coredump_filter.is_some(), "coredump_filter"),
        (s.parent_death.is_some(), "parent_death_signal"),
        (s.no_new_privs, "no_new_privs"),
        (s.secure_bits.is_some(), "securebits"),
        (s.bounding.is_some(), "bounding_set"),
        (s.ambient.is_some(), "ambient_capabilities"),
        (s.namespaces.is_some(), "unshare"),
        (!s.joined.is_empty(), "join_namespace"),
        (s.cgroup.is_some(), "cgroup"),
        (s.private_mounts, "private_mounts"),
        (s.pivot_root.is_some(), "pivot_root"),
        (s.landlock.is_some(), "landlock"),
        (s.seccomp.is_some(), "seccomp"),
        (s.program_fd.is_some(), "program_fd"),
    ];
    asked.into_iter().find_map(|(asked, what)| asked.then_some(what))
}

pub(super) fn in_range(
    what: &'static str,
    value: i64,
    range: RangeInclusive<i64>,
) -> Result<(), PlanError> {
    match range.contains(&value) {
        true => Ok(()),
        false => Err(PlanError::OutOfRange { what, value }),
    }
}
