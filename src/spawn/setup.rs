//! From what is to be set up to the steps that do it, in their order.

extern crate std;

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

use super::check::in_range;
use super::child_files::open_steps;
use super::cpus;
use super::environment::checked;
use super::prepare::signal_set;
use super::strings::Strings;
use super::terminals;
use crate::channel::PassedFd;
use crate::command::{
    Command, Directory, Groups, IdRange, Mapped, Namespaces, PlanError, Scheduler,
};
use crate::plan::Step;
use crate::sys::{Errno, users};

/// Linux's `SECCOMP` limit, `BPF_MAXINSNS`.
const FILTER_MAX: usize = 4096;

/// The steps, and what the parent has to do for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps<'fd> {
    /// Before the fd map.
    pub(super) before: Vec<Step>,
    /// After the fd map and before the signals.
    pub(super) after: Vec<Step>,
    /// Fds that the steps before need, under the parent's numbers.
    pub(super) early: Vec<PassedFd<'fd>>,
    /// The ruleset, which a step after the fd map needs.
    pub(super) landlock: Option<PassedFd<'fd>>,
}

/// What a user's name stands for.
#[derive(Clone, Copy, Default)]
struct Ids {
    uid: Option<u32>,
    gid: Option<u32>,
}

impl<'fd> Command<'fd> {
    /// Whether the child must not share the parent's memory: a change of ids or
    /// capabilities would clear the parent's dumpable flag and share memory with
    /// somebody else's, the core-dump filter belongs to the memory, a namespace
    /// or a hook is a child of another kind.
    pub(super) fn must_fork(&self) -> bool {
        let s = &self.setup;
        s.uid.is_some()
            || s.gid.is_some()
            || s.user.is_some()
            || matches!(s.groups, Some(Groups::These(_) | Groups::OfUser(_)))
            || s.bounding.is_some()
            || s.ambient.is_some()
            || s.secure_bits.is_some()
            || s.namespaces.is_some()
            || !s.joined.is_empty()
            || s.private_mounts
            || s.pivot_root.is_some()
            || s.coredump_filter.is_some()
            || s.hook.is_some()
    }

    /// Whether a child that runs beside us must not share our memory, though one
    /// for which we stop may: `oom_score_adj` is the same for all processes that
    /// share memory, unless it was made by vfork.
    pub(super) fn must_start_by_fork(&self) -> bool {
        self.setup.oom_score_adj.is_some()
    }

    /// The steps. Reasons for the order, where it is ours:
    ///
    /// * what needs privileges comes before they go: namespaces, `/proc`,
    ///   mounts, chroot, limits that rise, priorities, the bounding set;
    /// * `/proc` is written before a namespace, a mount or a chroot could hide it;
    /// * a session comes before its terminal, and that before a foreground group;
    /// * limits come after the fd map, for a low `RLIMIT_NOFILE` would forbid it;
    /// * groups, gid, uid: each takes away the right to change the next;
    /// * securebits after ambient capabilities, since they can forbid to keep
    ///   capabilities and to raise any: `CAP_SETPCAP` is kept for them, and exec takes
    ///   it away;
    /// * files that the child opens after the ids, so with the program's rights;
    /// * the parent's death after the ids, since a change of ids clears it;
    /// * Landlock after all that opens a file.
    ///
    /// `pty`: one of the channels is to be the controlling terminal.
    pub(super) fn setup_steps(
        &self,
        channels: &[Mapped<'fd>],
        strings: &mut Strings,
        pty: bool,
    ) -> Result<Steps<'fd>, PlanError> {
        let mut steps = Steps::default();
        self.namespace_steps(&mut steps, strings)?;
        self.session_steps(&mut steps, pty)?;
        self.directory_steps(&mut steps, strings)?;
        self.limit_steps(&mut steps, strings)?;
        self.identity_steps(&mut steps, strings)?;
        steps.after.extend(open_steps(channels, strings)?);
        self.restriction_steps(&mut steps)?;
        Ok(steps)
    }

    fn namespace_steps(
        &self,
        steps: &mut Steps<'fd>,
        strings: &mut Strings,
    ) -> Result<(), PlanError> {
        let s = &self.setup;
        if let Some(score) = s.oom_score_adj {
            in_range("oom_score_adj", score.into(), -1000..=1000)?;
            write_number(steps, strings, "/proc/self/oom_score_adj", &score.to_string())?;
        }
        if let Some(bits) = s.coredump_filter {
            let bits = std::format!("{bits:#x}");
            write_number(steps, strings, "/proc/self/coredump_filter", &bits)?;
        }
        for (namespace, kind) in &s.joined {
            let fd = namespace.number();
            steps.before.push(Step::SetNs { fd, kind: kind.bits() });
            steps.early.push(namespace.clone());
        }
        if s.private_mounts {
            steps.before.push(Step::PrivateMounts);
        }
        if let Some(root) = &s.pivot_root {
            let path = checked(root.as_os_str(), || "new root".into())?;
            steps.before.push(Step::PivotRoot { path: strings.push(&[path])? });
        }
        Ok(())
    }

    fn session_steps(&self, steps: &mut Steps<'fd>, pty: bool) -> Result<(), PlanError> {
        let s = &self.setup;
        if s.setsid || pty {
            steps.before.push(Step::SetSid);
        }
        if let Some(pgid) = s.process_group {
            in_range("process_group", pgid.into(), 0..=i64::from(i32::MAX))?;
            steps.before.push(Step::SetPgid { pgid });
        }
        if pty {
            steps.before.push(terminals::CONTROLLING);
        }
        if let Some(terminal) = &s.controlling_terminal {
            steps.before.push(Step::ControllingTerminal { fd: terminal.number() });
            steps.early.push(terminal.clone());
        }
        if let Some(terminal) = &s.foreground {
            steps.before.push(Step::Foreground { fd: terminal.number() });
            steps.early.push(terminal.clone());
        }
        Ok(())
    }

    fn directory_steps(
        &self,
        steps: &mut Steps<'fd>,
        strings: &mut Strings,
    ) -> Result<(), PlanError> {
        for directory in &self.setup.directories {
            steps.before.push(match directory {
                Directory::Chdir(path) => {
                    let path = checked(path.as_os_str(), || "directory".into())?;
                    Step::Chdir { path: strings.push(&[path])? }
                }
                Directory::Chroot(path) => {
                    let path = checked(path.as_os_str(), || "root directory".into())?;
                    Step::Chroot { path: strings.push(&[path])? }
                }
                Directory::Fchdir(dir) => {
                    steps.early.push(dir.clone());
                    Step::Fchdir { fd: dir.number() }
                }
            });
        }
        if let Some(dir) = &self.current_dir {
            let path = checked(dir.as_os_str(), || "current directory".into())?;
            steps.before.push(Step::Chdir { path: strings.push(&[path])? });
        }
        if let Some(mode) = self.setup.umask {
            in_range("umask", mode.into(), 0..=0o777)?;
            steps.before.push(Step::Umask { mode });
        }
        Ok(())
    }

    fn limit_steps(&self, steps: &mut Steps<'fd>, strings: &mut Strings) -> Result<(), PlanError> {
        let s = &self.setup;
        for &(resource, soft, hard) in &s.limits {
            if soft > hard {
                let (first, second) = ("a soft limit", "a lower hard limit");
                return Err(PlanError::Contradiction { first, second });
            }
            let limits = [soft.to_ne_bytes(), hard.to_ne_bytes()].concat();
            let limits = strings.push_bytes(&limits)?;
            let unknown = PlanError::Unsupported { what: resource.name() };
            let resource = resource.number().ok_or(unknown)?;
            steps.after.push(Step::SetLimit { resource, limits });
        }
        if let Some(scheduler) = s.scheduler {
            let (policy, priority) = scheduler.numbers();
            let lowest = match scheduler {
                Scheduler::Fifo(_) | Scheduler::RoundRobin(_) => 1,
                _ => 0,
            };
            in_range("the scheduler's priority", priority.into(), lowest..=99)?;
            steps.after.push(Step::SetScheduler { policy, priority });
        }
        if let Some(nice) = s.nice {
            in_range("nice", nice.into(), -20..=19)?;
            steps.after.push(Step::SetNice { nice });
        }
        if let Some(cpus) = &s.affinity {
            let mask = strings.push_bytes(&cpus::mask(cpus)?)?;
            steps.after.push(Step::SetAffinity { mask });
        }
        if let Some(priority) = s.io_priority {
            let priority = priority.number();
            in_range("the I/O level", i64::from(priority & 0x1fff), 0..=7)?;
            steps.after.push(Step::SetIoPriority { priority });
        }
        Ok(())
    }

    fn identity_steps(
        &self,
        steps: &mut Steps<'fd>,
        strings: &mut Strings,
    ) -> Result<(), PlanError> {
        let s = &self.setup;
        let named = s.user.as_deref().map(look_up).transpose()?.unwrap_or_default();
        let ids = Ids { uid: s.uid.or(named.uid), gid: s.gid.or(named.gid) };
        for (what, id) in [("uid", ids.uid), ("gid", ids.gid)] {
            // −1, which the kernel reads as "leave it".
            in_range(what, id.unwrap_or(0).into(), 0..=i64::from(u32::MAX) - 1)?;
        }
        let secure_bits = s.secure_bits.map(|bits| Step::SecureBits { bits });
        // The right to set them goes with the user.
        let (early, late) = match s.ambient {
            Some(_) => (None, secure_bits),
            None => (secure_bits, None),
        };
        steps.after.extend(early);
        if let Some(bounding) = s.bounding {
            steps.after.push(Step::LimitBoundingSet { keep: bounding.bits() });
        }
        if s.ambient.is_some() && ids.uid.is_some() {
            steps.after.push(Step::KeepCaps);
        }
        if let Some(groups) = self.supplementary_groups(ids)? {
            let bytes: Vec<u8> = groups.iter().flat_map(|id| id.to_ne_bytes()).collect();
            steps.after.push(Step::SetGroups { ids: strings.push_bytes(&bytes)? });
        }
        if let Some(gid) = ids.gid {
            steps.after.push(Step::SetGid { gid });
        }
        if let Some(uid) = ids.uid {
            steps.after.push(Step::SetUid { uid });
        }
        if let Some(ambient) = s.ambient {
            // What the kernel does not know it refuses, by name.
            let capabilities = ambient.bits();
            steps.after.push(Step::SetCapabilities { capabilities, setpcap: late.is_some() });
            steps.after.push(Step::RaiseAmbient { capabilities });
        }
        steps.after.extend(late);
        Ok(())
    }

    /// The supplementary groups to set. `None`: they stay.
    fn supplementary_groups(&self, ids: Ids) -> Result<Option<Vec<u32>>, PlanError> {
        let of_user = |name: &OsStr| -> Result<Vec<u32>, PlanError> {
            // Also where the gid is given: of a user who is not there libc says
            // that he has no groups.
            let user = look_up(name)?;
            groups_of(name, ids.gid.or(user.gid).unwrap_or(0))
        };
        match (&self.setup.groups, &self.setup.user) {
            (Some(Groups::Keep), _) => Ok(None),
            (Some(Groups::These(groups)), _) => {
                for &group in groups {
                    in_range("group", group.into(), 0..=i64::from(u32::MAX) - 1)?;
                }
                Ok(Some(groups.clone()))
            }
            (Some(Groups::OfUser(name)), _) => of_user(name).map(Some),
            (None, Some(name)) => of_user(name).map(Some),
            (None, None) if ids.uid.is_some() => Err(PlanError::UidWithoutGroups),
            (None, None) => Ok(None),
        }
    }

    fn restriction_steps(&self, steps: &mut Steps<'fd>) -> Result<(), PlanError> {
        let s = &self.setup;
        if let Some(signal) = s.parent_death {
            signal_set(&[signal])?;
            steps.after.push(Step::ParentDeathSignal { signal: signal.number() });
            // In a namespace of its own the child does not see its parent.
            if !s.namespaces.is_some_and(|kinds| kinds.contains(Namespaces::PID)) {
                // Filled in at the spawn: the program may fork for itself.
                steps.after.push(Step::CheckParent { pid: 0 });
            }
        }
        if s.no_new_privs {
            steps.after.push(Step::NoNewPrivs);
        }
        if let Some(ruleset) = &s.landlock {
            steps.after.push(Step::Landlock { fd: ruleset.number() });
            steps.landlock = Some(ruleset.clone());
        }
        Ok(())
    }

    /// The filter's bytes, checked.
    pub(super) fn filter(&self) -> Result<Option<Vec<u8>>, PlanError> {
        let Some(filter) = &self.setup.seccomp else { return Ok(None) };
        in_range("the filter's length", filter.len() as i64, 1..=FILTER_MAX as i64)?;
        Ok(Some(filter.iter().flat_map(|instruction| instruction.bytes()).collect()))
    }
}

fn write_number(
    steps: &mut Steps<'_>,
    strings: &mut Strings,
    path: &str,
    number: &str,
) -> Result<(), PlanError> {
    let path = strings.push(&[path.as_bytes()])?;
    let contents = strings.push_bytes(number.as_bytes())?;
    steps.before.push(Step::WriteFile { path, contents });
    Ok(())
}

fn c_name(name: &OsStr) -> Result<CString, PlanError> {
    CString::new(name.as_bytes()).map_err(|_| PlanError::NulByte { what: "user name".into() })
}

fn look_up(name: &OsStr) -> Result<Ids, PlanError> {
    let c_name = c_name(name)?;
    let mut room = vec![0; 1024];
    loop {
        match users::user(&c_name, &mut room) {
            Ok(Some(user)) => return Ok(Ids { uid: Some(user.uid), gid: Some(user.gid) }),
            Ok(None) => room.resize(room.len() * 4, 0),
            Err(Errno::NOENT) => return Err(PlanError::UnknownUser { name: name.into() }),
            Err(errno) => {
                let errno = errno.raw_os_error();
                return Err(PlanError::System { call: "getpwnam_r", errno });
            }
        }
    }
}

fn groups_of(name: &OsStr, gid: u32) -> Result<Vec<u32>, PlanError> {
    let c_name = c_name(name)?;
    let mut groups = vec![0; 32];
    loop {
        match users::groups(&c_name, gid, &mut groups) {
            Ok(Some(count)) => {
                groups.truncate(count);
                return Ok(groups);
            }
            Ok(None) => groups.resize(groups.len() * 2, 0),
            Err(errno) => {
                let errno = errno.raw_os_error();
                return Err(PlanError::System { call: "getgrouplist", errno });
            }
        }
    }
}

/// What `/proc/PID/uid_map` takes.
pub(super) fn map_lines(ranges: &[IdRange]) -> std::string::String {
    let line = |r: &IdRange| std::format!("{} {} {}\n", r.inside, r.outside, r.count);
    ranges.iter().map(line).collect()
}

// Everything that a prepared command keeps of this may go to another thread.
static_assertions::assert_impl_all!(Steps<'static>: Send, Sync);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Resource;

    #[test]
    fn a_limit_that_the_platform_has_not_is_refused_by_name() {
        let error = Command::new("true").rlimit(Resource::UNHEARD_OF, 0, 0).prepare().unwrap_err();
        assert_eq!(error, PlanError::Unsupported { what: "RLIMIT_UNHEARD_OF" });
        assert_eq!(error.to_string(), "RLIMIT_UNHEARD_OF: not on this platform");
        assert_eq!(Resource::from_number(Resource::CORE.number().unwrap()), Resource::CORE);
    }
}
