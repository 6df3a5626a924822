//! How plans and steps read: syscall words, one numbered step a line.

use core::fmt::{self, Write};

use super::{Bytes, Mapping, Names, Plan, Step, Strings, Text};

/// A step in words: what an error and a printed plan say of it.
///
/// ```
/// use forkplan::{Command, plan::Step};
///
/// let mut prepared = Command::new("/bin/true").current_dir("/tmp").prepare()?;
/// let opened = prepared.open()?;
/// let plan = opened.plan();
/// let chdir = plan.steps().iter().find(|step| matches!(step, Step::Chdir { .. })).unwrap();
/// assert_eq!(plan.show(*chdir).to_string(), "chdir \"/tmp\"");
/// // Without its plan a step does not know its strings, nor what signals are called.
/// assert_eq!(chdir.to_string(), "chdir");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct StepDisplay<'a> {
    pub(super) step: Step,
    pub(super) strings: Option<Strings<'a>>,
}

impl StepDisplay<'_> {
    fn names(&self) -> Names {
        self.strings.map_or(Names::NONE, |strings| strings.names)
    }

    fn path(&self, f: &mut fmt::Formatter<'_>, call: &str, path: Text) -> fmt::Result {
        match self.strings {
            Some(strings) => write!(f, "{call} {}", Quoted(strings.get(path))),
            None => f.write_str(call),
        }
    }
}

impl StepDisplay<'_> {
    /// Ids, sessions, limits, isolation.
    fn privilege(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Step::SetGroups { ids } => self.list(f, format_args!("setgroups"), ids, groups),
            Step::SetGid { gid } => write!(f, "setresgid {gid}"),
            Step::SetUid { uid } => write!(f, "setresuid {uid}"),
            Step::KeepCaps => f.write_str("prctl PR_SET_KEEPCAPS 1"),
            Step::SecureBits { bits } => write!(f, "prctl PR_SET_SECUREBITS {bits:#x}"),
            Step::LimitBoundingSet { keep } => {
                write!(f, "prctl PR_CAPBSET_DROP, all but {keep:#x}")
            }
            Step::SetCapabilities { capabilities, setpcap } => {
                let besides = if setpcap { ", and CAP_SETPCAP until exec" } else { "" };
                write!(f, "capset {capabilities:#x}{besides}")
            }
            Step::RaiseAmbient { capabilities } => {
                write!(f, "prctl PR_CAP_AMBIENT_RAISE {capabilities:#x}")
            }
            Step::NoNewPrivs => f.write_str("prctl PR_SET_NO_NEW_PRIVS 1"),
            Step::SetSid => f.write_str("setsid"),
            Step::SetPgid { pgid } => write!(f, "setpgid 0 {pgid}"),
            Step::ControllingTerminal { fd } => write!(f, "ioctl {fd} TIOCSCTTY"),
            Step::Foreground { fd } => write!(f, "tcsetpgrp {fd}"),
            Step::ParentDeathSignal { signal } => {
                write!(f, "prctl PR_SET_PDEATHSIG {}", self.names().signal(signal))
            }
            Step::CheckParent { pid } => write!(f, "getppid, which is {pid}"),
            Step::SetLimit { resource, limits: values } => {
                let resource = self.names().limit(resource);
                self.list(f, format_args!("prlimit {resource}"), values, limits)
            }
            Step::SetNice { nice } => write!(f, "setpriority {nice}"),
            Step::SetScheduler { policy, priority } => {
                write!(f, "sched_setscheduler {policy} {priority}")
            }
            Step::SetAffinity { mask } => {
                self.list(f, format_args!("sched_setaffinity"), mask, cpus)
            }
            Step::SetIoPriority { priority } => write!(f, "ioprio_set {priority:#x}"),
            Step::WriteFile { path, contents } => {
                self.path(f, "write", path)?;
                match self.strings {
                    Some(strings) => write!(f, " {}", Quoted(strings.bytes(contents))),
                    None => Ok(()),
                }
            }
            Step::SetNs { fd, kind } => write!(f, "setns {fd} {}", self.names().namespaces(kind)),
            Step::OpenFile { path, flags, to } => {
                self.path(f, "openat", path)?;
                write!(f, " {flags:#o} -> {to}")
            }
            Step::PrivateMounts => f.write_str("mount \"/\" MS_REC|MS_PRIVATE"),
            Step::Landlock { fd } => write!(f, "landlock_restrict_self {fd}"),
            Step::Seccomp { filter } => {
                write!(f, "seccomp SECCOMP_SET_MODE_FILTER, {} instructions", filter.len / 8)
            }
            Step::Close { fd } => write!(f, "close {fd}"),
            Step::AwaitParent { fd } => write!(f, "read {fd}, until the id maps are written"),
            Step::WritePid { .. } => f.write_str("getpid, written into the environment"),
            // Those that `fmt` knows.
            _ => Ok(()),
        }
    }

    /// A call, and what the plan's bytes are a list of.
    fn list(
        &self,
        f: &mut fmt::Formatter<'_>,
        call: fmt::Arguments<'_>,
        list: Bytes,
        show: fn(&mut fmt::Formatter<'_>, &[u8]) -> fmt::Result,
    ) -> fmt::Result {
        f.write_fmt(call)?;
        let Some(strings) = self.strings else { return Ok(()) };
        f.write_str(" [")?;
        show(f, strings.bytes(list))?;
        f.write_char(']')
    }
}

/// Numbers of 32 bits.
fn groups(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for (i, id) in bytes.chunks_exact(4).enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        write!(f, "{comma}{}", id.try_into().map_or(0, u32::from_ne_bytes))?;
    }
    Ok(())
}

/// A bit for each, in whole words.
fn cpus(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let words = bytes.chunks_exact(size_of::<usize>());
    let words = words.map(|word| word.try_into().map_or(0, usize::from_ne_bytes));
    let mut comma = "";
    for (word, at) in words.zip(0..) {
        for bit in (0..usize::BITS).filter(|bit| word >> bit & 1 == 1) {
            write!(f, "{comma}{}", at * usize::BITS + bit)?;
            comma = ", ";
        }
    }
    Ok(())
}

/// Soft and hard.
fn limits(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for (i, limit) in bytes.chunks_exact(8).enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        match limit.try_into().map_or(0, u64::from_ne_bytes) {
            u64::MAX => write!(f, "{comma}unlimited")?,
            limit => write!(f, "{comma}{limit}")?,
        }
    }
    Ok(())
}

impl fmt::Display for StepDisplay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Step::Unshare { first } => write!(f, "close_range {first} -> ~0 UNSHARE"),
            Step::MarkRange { first, last: None } => {
                write!(f, "close_range {first} -> ~0 CLOEXEC")
            }
            Step::MarkRange { first, last: Some(last) } => {
                write!(f, "close_range {first} -> {last} CLOEXEC")
            }
            Step::MarkListed { first } => {
                write!(f, "fcntl {first}.. F_SETFD FD_CLOEXEC, those in /proc/self/fd")
            }
            Step::MarkEach { first, below } => {
                write!(f, "fcntl {first}..{below} F_SETFD FD_CLOEXEC, each")
            }
            Step::Dup2 { from, to } => write!(f, "dup2 {from} -> {to}"),
            Step::DupCloexec { from, to } => write!(f, "dup3 {from} -> {to} CLOEXEC"),
            Step::ClearCloexec { fd } => write!(f, "fcntl {fd} F_SETFD 0"),
            Step::SetCloexec { fd } => write!(f, "fcntl {fd} F_SETFD FD_CLOEXEC"),
            Step::Chdir { path } => self.path(f, "chdir", path),
            Step::Chroot { path } => self.path(f, "chroot", path),
            Step::PivotRoot { path } => self.path(f, "pivot_root", path),
            Step::Fchdir { fd } => write!(f, "fchdir {fd}"),
            Step::Umask { mode } => write!(f, "umask {mode:#05o}"),
            Step::DefaultSignal { signal } => {
                write!(f, "sigaction {} SIG_DFL", self.names().signal(signal))
            }
            Step::IgnoreSignal { signal } => {
                write!(f, "sigaction {} SIG_IGN", self.names().signal(signal))
            }
            Step::ClearHandlers => f.write_str("sigaction SIG_DFL for each signal with a handler"),
            Step::SignalMask { mask } => {
                write!(f, "sigprocmask SIG_SETMASK {}", self.names().signals(mask))
            }
            Step::Exec { path } => self.path(f, "execve", path),
            Step::ExecFd { fd } => write!(f, "execveat {fd} AT_EMPTY_PATH"),
            Step::ExecShell { shell, .. } => {
                self.path(f, "execve", shell)?;
                f.write_str(" if that is a script without #!")
            }
            Step::Hook => f.write_str("the hook"),
            _ => self.privilege(f),
        }
    }
}

/// Without the plan's text, so without paths and lists, and with numbers in place of
/// the platform's names. [`Plan::show`] has both.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        StepDisplay { step: *self, strings: None }.fmt(f)
    }
}

impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespaces != 0 {
            let namespaces = self.strings.names.namespaces(self.namespaces);
            writeln!(f, "A child in new namespaces, {namespaces}:")?;
        }
        for Mapping { target, source } in self.lent {
            writeln!(f, "The parent before: dup3 {source} -> {target} CLOEXEC")?;
        }
        let digits = self.steps.len().max(1).ilog10() as usize + 1;
        let mut arguments_shown = false;
        for (number, &step) in (1..).zip(self.steps) {
            write!(f, "{number:digits$}  {}", self.show(step))?;
            match step {
                Step::Dup2 { to: fd, .. }
                | Step::ClearCloexec { fd }
                | Step::OpenFile { to: fd, .. } => self.label(f, fd)?,
                // The same for every candidate.
                Step::Exec { .. } | Step::ExecFd { .. } if !arguments_shown => {
                    arguments_shown = true;
                    self.arguments(f)?;
                }
                _ => {}
            }
            f.write_char('\n')?;
        }
        Ok(())
    }
}

impl Plan<'_> {
    fn label(&self, f: &mut fmt::Formatter<'_>, fd: i32) -> fmt::Result {
        match self.labels.binary_search_by_key(&fd, |label| label.fd) {
            Ok(at) => {
                let words = self.text(self.labels[at].words);
                write!(f, "  ({})", Escaped(words))
            }
            Err(_) => Ok(()),
        }
    }

    fn arguments(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let args = self.strings.from(self.program.args).take(self.program.arg_count as usize);
        f.write_str(" [")?;
        for (i, arg) in args.enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}", Quoted(arg))?;
        }
        write!(f, "] with {} environment strings", self.program.env_count + self.program.pid_count)
    }
}

/// Bytes in quotes.
struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", Escaped(self.0))
    }
}

/// Bytes on one line, with escapes for what would leave it or end a quote, and
/// for what is not UTF-8.
struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\'' => f.write_char(c)?,
                    _ => write!(f, "{}", c.escape_debug())?,
                }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::Quoted;
    use std::string::ToString;

    #[test]
    fn quoted_bytes_stay_on_their_line_and_in_their_quotes() {
        let shown = Quoted(b"it's \"\\\" \n \xff \xc3\xa9").to_string();
        assert_eq!(shown, r#""it's \"\\\" \n \xff \u{e9}""#.replace("\\u{e9}", "\u{e9}"));
    }
}
