//! Any request: `prepare` never panics, says what is wrong if something is, and
//! nothing if nothing is. What can be prepared is opened and its plan printed;
//! nothing is spawned.
#![no_main]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use arbitrary::Arbitrary;
use forkplan::plan::{Plan, Step};
use forkplan::{Channel, Command, Features, Open, PlanError, Signal};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Request {
    program: Program,
    arg0: Option<Bytes>,
    args: Vec<Bytes>,
    env: Vec<Env>,
    dir: Option<Bytes>,
    channels: Vec<Mapped>,
    stdio: [Option<Kind>; 3],
    blocked: Vec<i32>,
    inherit_ignored: bool,
    inherit_unnamed: bool,
    without: u32,
    require: Option<u32>,
}

/// Plain most of the time, so that something comes after it.
#[derive(Arbitrary, Debug)]
enum Program {
    Plain,
    Named,
    Any(Vec<u8>),
}

type Bytes = Vec<u8>;

#[derive(Arbitrary, Debug)]
enum Env {
    Set(Bytes, Bytes),
    SetPath(Bytes),
    Remove(Bytes),
    Clear,
}

#[derive(Arbitrary, Debug)]
struct Mapped {
    name: Option<String>,
    kind: Kind,
    fds: Vec<Number>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Kind {
    ReadPipe,
    WritePipe,
    SocketPair,
    Null,
    Stdin,
    Stderr,
    File,
    MissingFile,
    FileWithNul,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Number {
    Near(u8),
    Any(i32),
}

impl Number {
    fn get(self) -> i32 {
        match self {
            Self::Near(number) => i32::from(number % 32),
            Self::Any(number) => number,
        }
    }
}

impl Kind {
    fn channel(self) -> Channel<'static> {
        match self {
            Self::ReadPipe => Channel::ReadPipe,
            Self::WritePipe => Channel::WritePipe,
            Self::SocketPair => Channel::SocketPair,
            Self::Null => Channel::Null,
            Self::Stdin => Channel::stdin(),
            Self::Stderr => Channel::stderr(),
            Self::File => Channel::file("/dev/null", Open::Read),
            Self::MissingFile => Channel::file("/dev/null/missing", Open::Read),
            Self::FileWithNul => Channel::file("/dev/n\0ll", Open::Read),
        }
    }
}

fuzz_target!(|request: Request| {
    let free = lowest_free_number();
    let command = request.command();
    match command.prepare() {
        Ok(mut prepared) => {
            assert_eq!(request.first_flaw(), None, "{request:?}");
            match prepared.open() {
                Ok(opened) => request.check_plan(opened.plan()),
                Err(error) => request.check_open_error(io::Error::from(error)),
            }
        }
        Err(error) => {
            assert!(request.is_at_fault(&error), "{error:?}: {request:?}");
            assert!(!error.to_string().is_empty());
            assert_eq!(io::Error::from(error.clone()).kind(), error.kind());
        }
    }
    drop(command);
    assert_eq!(lowest_free_number(), free, "something was left open");
});

fn lowest_free_number() -> i32 {
    File::open("/dev/null").expect("it is always there").as_raw_fd()
}

impl Request {
    fn program(&self) -> &[u8] {
        match &self.program {
            Program::Plain => b"/bin/true",
            Program::Named => b"true",
            Program::Any(bytes) => bytes,
        }
    }

    fn command(&self) -> Command<'static> {
        let mut command = Command::new(OsStr::from_bytes(self.program()));
        command.args(self.args.iter().map(|arg| OsStr::from_bytes(arg)));
        if let Some(arg0) = &self.arg0 {
            command.arg0(OsStr::from_bytes(arg0));
        }
        for env in &self.env {
            match env {
                Env::Set(key, value) => {
                    command.env(OsStr::from_bytes(key), OsStr::from_bytes(value))
                }
                Env::SetPath(path) => command.env("PATH", OsStr::from_bytes(path)),
                Env::Remove(key) => command.env_remove(OsStr::from_bytes(key)),
                Env::Clear => command.env_clear(),
            };
        }
        if let Some(dir) = &self.dir {
            command.current_dir(PathBuf::from(OsString::from_vec(dir.clone())));
        }
        for Mapped { name, kind, fds } in &self.channels {
            let fds = fds.iter().map(|fd| fd.get());
            match name {
                Some(name) => command.channel(name, kind.channel(), fds),
                None => command.fds(fds, kind.channel()),
            };
        }
        if let Some(kind) = self.stdio[0] {
            command.stdin(kind.channel());
        }
        if let Some(kind) = self.stdio[1] {
            command.stdout(kind.channel());
        }
        if let Some(kind) = self.stdio[2] {
            command.stderr(kind.channel());
        }
        command.block_signals(self.blocked.iter().copied().map(Signal::from));
        command.inherit_ignored_signals(self.inherit_ignored);
        command.inherit_unnamed_fds(self.inherit_unnamed);
        command.without(Features::from_bits_truncate(self.without));
        command.require(Features::from_bits_truncate(self.require.unwrap_or(0)));
        command
    }

    /// The changes to the environment that count in the end.
    fn changes(&self) -> BTreeMap<&[u8], Option<&[u8]>> {
        let mut changes = BTreeMap::new();
        for env in &self.env {
            match env {
                Env::Set(key, value) => drop(changes.insert(&key[..], Some(&value[..]))),
                Env::SetPath(path) => drop(changes.insert(b"PATH", Some(path))),
                Env::Remove(key) => drop(changes.insert(key, None)),
                Env::Clear => changes.clear(),
            }
        }
        changes
    }

    /// The child's `PATH`, if it has one.
    fn path(&self) -> Option<Vec<u8>> {
        let cleared = self.env.iter().any(|env| matches!(env, Env::Clear));
        match self.changes().get(&b"PATH"[..]) {
            Some(path) => path.map(<[u8]>::to_vec),
            None if cleared => None,
            None => std::env::var_os("PATH").map(OsString::into_vec),
        }
    }

    fn kinds(&self) -> impl Iterator<Item = Kind> + '_ {
        self.channels.iter().map(|mapped| mapped.kind).chain(self.stdio.into_iter().flatten())
    }

    /// Child fds that were asked for, as often as they were.
    fn fds(&self) -> Vec<i32> {
        let stdio = (0..).zip(self.stdio).filter(|(_, said)| said.is_some());
        let mapped = self.channels.iter().flat_map(|mapped| mapped.fds.iter().map(|fd| fd.get()));
        mapped.chain(stdio.map(|(fd, _)| fd)).collect()
    }

    fn has_nul(&self) -> bool {
        let changes = self.changes();
        let values = changes.values().flatten().copied();
        let env = changes.keys().copied().chain(values);
        let strings = self.args.iter().chain(&self.arg0).chain(&self.dir).map(|s| &s[..]);
        let nul = |bytes: &[u8]| bytes.contains(&0);
        strings.chain(env).chain([self.program()]).any(nul)
            || self.kinds().any(|kind| matches!(kind, Kind::FileWithNul))
    }

    fn has_bad_key(&self) -> bool {
        self.changes().keys().any(|key| bad_key(key))
    }

    fn is_nowhere(&self) -> bool {
        let searched = !self.program().is_empty() && !self.program().contains(&b'/');
        searched && self.path().is_some_and(|path| path.iter().all(|&byte| byte == b':'))
    }

    fn names(&self, name: &str) -> usize {
        self.channels.iter().filter(|mapped| mapped.name.as_deref() == Some(name)).count()
    }

    /// Something that must not be prepared.
    fn first_flaw(&self) -> Option<&'static str> {
        let fds = self.fds();
        let twice = |fd: &i32| fds.iter().filter(|other| *other == fd).count() > 1;
        let named = || self.channels.iter().filter_map(|mapped| mapped.name.as_deref());
        let flaws = [
            (self.program().is_empty(), "no program"),
            (self.is_nowhere(), "an empty PATH"),
            (self.has_nul(), "a NUL byte"),
            (self.has_bad_key(), "a bad key"),
            (self.blocked.iter().any(|&signal| bad_signal(signal)), "a bad signal"),
            (self.channels.iter().any(|mapped| mapped.fds.is_empty()), "a channel on no fd"),
            (fds.iter().any(|&fd| fd < 0), "a negative fd"),
            (fds.iter().any(|&fd| fd >= soft_limit()), "an fd at the limit"),
            (fds.iter().any(twice), "an fd mapped twice"),
            (named().any(|name| self.names(name) > 1), "a name used twice"),
        ];
        flaws.into_iter().find(|(there, _)| *there).map(|(_, flaw)| flaw)
    }

    /// Whether the request has what the error complains of.
    fn is_at_fault(&self, error: &PlanError) -> bool {
        let fds = self.fds();
        match error {
            PlanError::EmptyProgram => self.program().is_empty(),
            PlanError::EmptyPath { program } => {
                program.as_bytes() == self.program() && self.is_nowhere()
            }
            PlanError::NulByte { .. } => self.has_nul(),
            PlanError::BadEnvKey { key } => {
                bad_key(key.as_bytes()) && self.changes().contains_key(key.as_bytes())
            }
            PlanError::BadSignal { signal } => bad_signal(*signal) && self.blocked.contains(signal),
            PlanError::NoFd { .. } => self.channels.iter().any(|mapped| mapped.fds.is_empty()),
            PlanError::NegativeFd { fd, .. } => *fd < 0 && fds.contains(fd),
            PlanError::FdAtLimit { fd, limit, .. } => {
                *limit == soft_limit() && fd >= limit && fds.contains(fd)
            }
            PlanError::DuplicateFd { fd, .. } => {
                fds.iter().filter(|other| *other == fd).count() > 1
            }
            PlanError::DuplicateName { name } => self.names(name) > 1,
            PlanError::MissingFeature { features } => {
                !features.is_empty() && self.require.is_some_and(|r| r & features.bits() != 0)
            }
            // Too long for the fuzzer, or out of memory or fds, or new.
            _ => false,
        }
    }

    fn check_open_error(&self, error: io::Error) {
        let missing = self.kinds().any(|kind| matches!(kind, Kind::MissingFile));
        assert!(missing && !error.to_string().is_empty(), "{error}: {self:?}");
    }

    /// Each child fd is made by one step, and nothing comes after the exec.
    fn check_plan(&self, plan: Plan<'_>) {
        let text = plan.to_string();
        assert!(text.lines().count() >= plan.steps().len(), "{text}");
        for fd in self.fds() {
            let makes = |step: &&Step| match **step {
                Step::Dup2 { to, .. } => to == fd,
                Step::ClearCloexec { fd: cleared } => cleared == fd,
                _ => false,
            };
            assert_eq!(plan.steps().iter().filter(makes).count(), 1, "{fd}: {text}");
        }
        let is_exec = |step: &Step| matches!(step, Step::Exec { .. });
        let first = plan.steps().iter().position(is_exec).expect("a plan ends in an exec");
        assert!(plan.steps()[first..].iter().all(is_exec), "{text}");
        for step in &plan.steps()[first..] {
            let Step::Exec { path } = *step else { continue };
            assert!(plan.text(path).ends_with(self.program()), "{text}");
        }
    }
}

fn bad_key(key: &[u8]) -> bool {
    key.is_empty() || key.contains(&b'=')
}

fn bad_signal(signal: i32) -> bool {
    !(1..=64).contains(&signal)
}

/// `RLIMIT_NOFILE` as `/proc` tells it, which is not how the crate asks.
fn soft_limit() -> i32 {
    use std::sync::OnceLock;
    static LIMIT: OnceLock<i32> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let limits = std::fs::read_to_string("/proc/self/limits").expect("Linux");
        let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
        line.split_whitespace().nth(3).and_then(|soft| soft.parse().ok()).unwrap_or(i32::MAX)
    })
}
