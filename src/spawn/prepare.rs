//! From a request to everything that its spawns share.

extern crate std;

use std::format;
use std::os::unix::ffi::OsStrExt;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use super::environment::{Variables, checked};
use super::opener::openers;
use super::setup::map_lines;
use super::strings::{Extra, Frozen, Scripts, Strings, TooLong};
use super::terminals::Terminals;
use super::{CloneExtras, Entry, Prepared, Scratch, child_files, new_region, steps_max};
use crate::channel::{Channel, ChannelInfo, Name, OwnedName};
use crate::command::{Command, Mapped, Namespaces, PlanError};
use crate::plan::{Finish, Label, Program, Step, Text, candidates, finish};
use crate::signal::Signal;
use crate::sys::{Features, fd, signals};

impl<'fd> Command<'fd> {
    /// Works out all that can be known before a spawn: checks the request,
    /// copies every string, looks up the environment and the ignored signals,
    /// opens `/dev/null` where asked, and maps the child's stack, unless one is left of a
    /// command that was dropped (up to 16 stay mapped).
    ///
    /// A prepared command spawns again and again, without allocation. Nothing
    /// that is changed here or in the environment later touches it.
    pub fn prepare(&self) -> Result<Prepared<'fd>, PlanError> {
        let channels = self.all_channels();
        let features = self.features(&channels)?;
        self.check_setup(features)?;
        let limit = fd::limit();
        let entries = entries(&channels, limit)?;
        check_names(&channels)?;

        let mut strings = Strings::default();
        let environment = Variables::new(&self.env)?;
        let labels = labels(&mut strings, &channels, &entries)?;
        let program = self.program(&mut strings, &environment)?;
        let terminals = Terminals::among(&channels, &self.setup)?;
        let pty = terminals.controlling.is_some();
        let setup = self.setup_steps(&channels, &mut strings, pty)?;
        let mut finish: Vec<Step> =
            finish(&self.finish(&mut strings, &environment, features)?).collect();
        let (exec, shell) = self.exec_steps(&mut strings, &environment)?;
        finish.extend(exec);
        let pid_keys = environment.pid_keys.iter().map(|key| key.as_bytes().into()).collect();
        let extra = Extra { pid_keys, shell };

        let infos = infos(&channels, self.default_writer.as_ref())?;
        let openers = openers(&channels)?;
        let fixed = setup.before.len() + setup.after.len() + finish.len();
        let region = new_region()?;
        let steps = steps_max(fixed, entries.len());
        let scratch = Scratch::new(region, entries.len(), openers.len(), steps);
        // Without it a cgroup could only be left out, when a spawn is tried again.
        let require = match self.setup.cgroup {
            Some(_) => self.require | Features::CLONE3,
            None => self.require,
        };
        Ok(Prepared {
            strings: strings.freeze(program, extra),
            openers,
            infos,
            entries: entries.into(),
            labels: labels.into(),
            clone: self.clone_extras(),
            setup,
            terminals,
            finish,
            limit,
            features,
            require,
            inherit_unnamed_fds: self.inherit_unnamed_fds,
            starts_by_fork: self.must_start_by_fork(),
            on_drop: self.on_drop,
            scratch,
        })
    }

    fn finish(
        &self,
        strings: &mut Strings,
        environment: &Variables,
        features: Features,
    ) -> Result<Finish, PlanError> {
        let setup = &self.setup;
        let ignored = signal_set(&setup.ignored_signals)?;
        let default = self.ignored_by_parent()? | signal_set(&setup.default_signals)?;
        if ignored & signal_set(&setup.default_signals)? != 0 {
            let (first, second) = ("ignore_signals", "default_signals of the same");
            return Err(PlanError::Contradiction { first, second });
        }
        let filter = match self.filter()? {
            Some(filter) => Some(strings.push_bytes(&filter)?),
            None => None,
        };
        Ok(Finish {
            clear_handlers: !features.contains(Features::CLONE3),
            default_signals: default & !ignored,
            ignored_signals: ignored,
            mask: signal_set(&self.blocked_signals)?,
            pids: environment.pid_keys.len() as u32,
            hook: setup.hook.is_some(),
            filter,
        })
    }

    /// The last steps, and what a shell is tried with.
    fn exec_steps(
        &self,
        strings: &mut Strings,
        environment: &Variables,
    ) -> Result<(Vec<Step>, Option<Scripts>), PlanError> {
        if let Some(program) = &self.setup.program_fd {
            return Ok((vec![Step::ExecFd { fd: program.number() }], None));
        }
        let paths = self.candidates(strings, environment)?;
        let Some(shell) = &self.setup.shell else {
            return Ok((paths.into_iter().map(|path| Step::Exec { path }).collect(), None));
        };
        let shell = strings.push(&[checked(shell.as_os_str(), || "shell".into())?])?;
        let steps = paths
            .iter()
            .zip(0..)
            .flat_map(|(&path, argv)| [Step::Exec { path }, Step::ExecShell { shell, argv }]);
        let steps = steps.collect();
        Ok((steps, Some(Scripts { shell, paths })))
    }

    /// What the parent does for the child besides the clone.
    fn clone_extras(&self) -> CloneExtras<'fd> {
        let setup = &self.setup;
        CloneExtras {
            namespaces: setup.namespaces.unwrap_or(Namespaces::empty()),
            cgroup: setup.cgroup.clone(),
            program: setup.program_fd.clone(),
            uid_map: map_lines(&setup.uid_map),
            gid_map: map_lines(&setup.gid_map),
            hook: setup.hook,
        }
    }

    /// What the kernel has and the user does not exclude.
    fn features(&self, channels: &[Mapped<'_>]) -> Result<Features, PlanError> {
        let mut features = (Features::of_this_kernel() - self.without).consistent();
        if self.inherit_unnamed_fds {
            // The step that ends the sharing leaves fds behind, so there is none
            // here, and the moves would be the parent's.
            features -= Features::SHARED_FILES;
        }
        if self.must_fork() || child_files::are_asked_for(channels) {
            features = (features - Features::SHARED_MEMORY).consistent();
        }
        let missing = self.require - features;
        if !missing.is_empty() {
            return Err(PlanError::MissingFeature { features: missing });
        }
        Ok(features)
    }

    /// The channels said, and those that go without saying.
    fn all_channels(&self) -> Vec<Mapped<'fd>> {
        let mut channels = self.channels.clone();
        let mut stdio = self.stdio.clone();
        let nothing_said = channels.is_empty();
        if nothing_said || stdio.iter().any(Option::is_some) {
            let defaults = [Channel::WritePipe, Channel::ReadPipe, Channel::ReadPipe];
            for ((said, default), number) in stdio.iter_mut().zip(defaults).zip(0..) {
                let mapped = channels.iter().any(|mapped| mapped.fds.contains(&number));
                if said.is_none() && !mapped {
                    *said = Some(default);
                }
            }
        }
        for (said, number) in stdio.into_iter().zip(0..) {
            if let Some(channel) = said {
                channels.push(Mapped { name: None, channel, fds: [number].into() });
            }
        }
        channels
    }

    /// Writes `argv` and `envp`.
    fn program(
        &self,
        strings: &mut Strings,
        environment: &Variables,
    ) -> Result<Program, PlanError> {
        let args = strings.next()?;
        let arg0 = self.arg0.as_ref().unwrap_or(&self.program);
        strings.push(&[checked(arg0, || "argument 0".into())?])?;
        for (arg, number) in self.args.iter().zip(1..) {
            strings.push(&[checked(arg, || format!("argument {number}"))?])?;
        }
        let env = strings.next()?;
        for (key, value) in &environment.texts {
            strings.push(&[key.as_bytes(), b"=", value.as_bytes()])?;
        }
        // Each string takes a byte or more of the 4 GiB.
        let (arg_count, env_count) = (self.args.len() as u32 + 1, environment.texts.len() as u32);
        let pid_count = environment.pid_keys.len() as u32;
        Ok(Program { args, arg_count, env, env_count, pid_count })
    }

    /// Writes the paths at which the program is tried.
    fn candidates(
        &self,
        strings: &mut Strings,
        environment: &Variables,
    ) -> Result<Vec<Text>, PlanError> {
        let program = checked(&self.program, || "program".into())?;
        if program.is_empty() {
            return Err(PlanError::EmptyProgram);
        }
        let mut paths = Vec::new();
        for (dir, name) in candidates(program, environment.path()) {
            let slash: &[u8] = if dir.is_empty() || dir.ends_with(b"/") { b"" } else { b"/" };
            paths.push(strings.push(&[dir, slash, name])?);
        }
        if paths.is_empty() {
            return Err(PlanError::EmptyPath { program: self.program.clone() });
        }
        Ok(paths)
    }

    /// The signals that get their default action unasked: those that the parent
    /// ignores now, and `SIGPIPE`, which a Rust program begins to ignore when it
    /// starts.
    fn ignored_by_parent(&self) -> Result<u64, PlanError> {
        if self.inherit_ignored_signals {
            return Ok(0);
        }
        let ignored = signals::ignored().map_err(|errno| PlanError::System {
            call: "rt_sigaction",
            errno: errno.raw_os_error(),
        })?;
        Ok(ignored | bit(signals::SIGPIPE))
    }
}

/// A bit for each signal.
pub(super) fn signal_set(signals: &[Signal]) -> Result<u64, PlanError> {
    signals.iter().try_fold(0, |set, signal| match signal.number() {
        number @ 1..=signals::SIGNAL_MAX => Ok(set | bit(number)),
        number => Err(PlanError::BadSignal { signal: number }),
    })
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// The fd map, sorted by child fd.
fn entries(channels: &[Mapped<'_>], limit: i32) -> Result<Vec<Entry>, PlanError> {
    let mut entries = Vec::new();
    for (mapped, index) in channels.iter().zip(0..) {
        if mapped.fds.is_empty() {
            return Err(PlanError::NoFd { channel: describe(mapped) });
        }
        for &fd in &mapped.fds {
            if fd < 0 {
                return Err(PlanError::NegativeFd { fd, channel: describe(mapped) });
            }
            if fd >= limit {
                return Err(PlanError::FdAtLimit { fd, channel: describe(mapped), limit });
            }
            entries.push(Entry { fd, channel: index });
        }
    }
    // Stable, so that of two entries for one fd the first said comes first.
    entries.sort_by_key(|entry| entry.fd);
    let twice = entries.windows(2).find(|pair| pair[0].fd == pair[1].fd);
    if let Some(&[Entry { fd, channel: first }, Entry { channel: second, .. }]) = twice {
        let [first, second] = [first, second].map(|index| describe(&channels[index]));
        return Err(PlanError::DuplicateFd { fd, first, second });
    }
    Ok(entries)
}

fn check_names(channels: &[Mapped<'_>]) -> Result<(), PlanError> {
    let mut names: Vec<&str> = channels.iter().filter_map(|c| c.name.as_deref()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(PlanError::DuplicateName { name: pair[0].into() }),
        None => Ok(()),
    }
}

/// `read pipe`, `socket pair "control"`.
fn describe(mapped: &Mapped<'_>) -> String {
    match &mapped.name {
        Some(name) => format!("{} {name:?}", mapped.channel),
        None => mapped.channel.to_string(),
    }
}

fn labels(
    strings: &mut Strings,
    channels: &[Mapped<'_>],
    entries: &[Entry],
) -> Result<Vec<Label>, PlanError> {
    let words = |mapped| describe(mapped).replace('\0', "\\0");
    let texts: Result<Vec<Text>, TooLong> =
        channels.iter().map(|mapped| strings.push(&[words(mapped).as_bytes()])).collect();
    let texts = texts?;
    Ok(entries.iter().map(|e| Label { fd: e.fd, words: texts[e.channel] }).collect())
}

/// The channels of which the parent has an end, in their order.
fn infos(
    channels: &[Mapped<'_>],
    default_writer: Option<&OwnedName>,
) -> Result<Arc<[ChannelInfo]>, PlanError> {
    let with_end = channels.iter().filter_map(|mapped| {
        let end = mapped.channel.end_info()?;
        let (name, fds) = (mapped.name.clone(), mapped.fds.clone().into());
        Some(ChannelInfo { name, fds, end, default_writer: false })
    });
    let mut infos: Vec<ChannelInfo> = with_end.collect();
    let name = default_writer.map_or(Name::Fd(0), OwnedName::get);
    let writes = |info: &&mut ChannelInfo| info.is(name) && info.end.direction.writes();
    match infos.iter_mut().find(writes) {
        Some(info) => info.default_writer = true,
        None if default_writer.is_none() => {}
        None => return Err(PlanError::BadDefaultWriter { name: name.to_string() }),
    }
    Ok(infos.into())
}

impl From<TooLong> for PlanError {
    fn from(_: TooLong) -> Self {
        Self::TooLong
    }
}

// Prepared commands may be sent to and shared with other threads.
static_assertions::assert_impl_all!(Prepared<'static>: Send, Sync);
static_assertions::assert_impl_all!(Frozen: Send, Sync);
