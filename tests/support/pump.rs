//! Driving a pump in tests: a loop that fails where it would hang, a log of
//! what came, and children that do as they are told.

// Each test file uses a part of this.
#![allow(dead_code)]

use core::fmt::Debug;
use core::time::Duration;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use forkplan::{Backend, ChildKey, CloseReason, Command, End, Event, Exit, OnDrop, Pump, Signal};

#[cfg(target_os = "linux")]
#[path = "orphans.rs"]
pub(crate) mod orphans;
#[path = "outer.rs"]
pub(crate) mod outer;
pub(crate) use outer::TestPump;

/// How long a test may take before it is taken for hung. No test comes near it
/// on a slow machine; none measures anything by it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A poll that fails instead of waiting for ever.
pub(crate) struct Watch(Instant);

impl Watch {
    pub(crate) fn new() -> Self {
        Self(Instant::now() + PATIENCE)
    }

    /// One poll of the pump.
    pub(crate) fn poll(&self, pump: &mut TestPump) -> bool {
        self.check(pump);
        pump.poll(Some(Duration::from_secs(1))).expect("poll")
    }

    /// One poll of a pump that waits by itself.
    pub(crate) fn poll_plain(&self, pump: &mut Pump) -> bool {
        self.check(pump);
        pump.poll(Some(Duration::from_secs(1))).expect("poll")
    }

    pub(crate) fn check(&self, pump: &Pump) {
        assert!(Instant::now() < self.0, "hung: {} children left", pump.len());
    }
}

/// An event, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Made(Option<u32>),
    Adopted(ChildKey, u32),
    Data(String, Vec<u8>),
    Fds(String, usize),
    HalfClosed(String),
    Drained(String),
    TeeFailed(String, i32),
    Closed(String, CloseReason, usize),
    Idle(String),
    TimedOut,
    Signalled(Signal),
    Stopped(Signal),
    Continued,
    Exited(Exit),
    Ended(Exit),
    NotStarted,
}

/// The event, owned, and whose it is.
pub(crate) fn owned(event: Event<'_>) -> (ChildKey, Seen) {
    match event {
        Event::Made { child, pid } => (child, Seen::Made(pid)),
        Event::Adopted { child, leader, pid } => (child, Seen::Adopted(leader, pid)),
        Event::Data { child, channel, bytes } => {
            (child, Seen::Data(channel.to_string(), bytes.to_vec()))
        }
        Event::Fds { child, channel, count } => (child, Seen::Fds(channel.to_string(), count)),
        Event::HalfClosed { child, channel } => (child, Seen::HalfClosed(channel.to_string())),
        Event::Drained { child, channel } => (child, Seen::Drained(channel.to_string())),
        Event::Closed { child, channel, reason, unsent } => {
            (child, Seen::Closed(channel.to_string(), reason, unsent))
        }
        Event::TeeFailed { child, channel, errno } => {
            (child, Seen::TeeFailed(channel.to_string(), errno))
        }
        Event::Idle { child, channel } => (child, Seen::Idle(channel.to_string())),
        Event::TimedOut { child } => (child, Seen::TimedOut),
        Event::Signalled { child, signal } => (child, Seen::Signalled(signal)),
        Event::Stopped { child, signal } => (child, Seen::Stopped(signal)),
        Event::Continued { child } => (child, Seen::Continued),
        Event::Exited { child, exit } => (child, Seen::Exited(exit)),
        Event::Ended { child, exit } => (child, Seen::Ended(exit)),
        Event::NotStarted { child } => (child, Seen::NotStarted),
        other => panic!("an event that the tests do not know: {other:?}"),
    }
}

/// A pump and all that it has told.
pub(crate) struct Driver {
    pub(crate) pump: TestPump,
    pub(crate) log: Vec<(ChildKey, Seen)>,
    /// Those that have no process.
    pub(crate) attached: Vec<ChildKey>,
    pub(crate) watch: Watch,
}

impl Driver {
    pub(crate) fn new() -> Self {
        Self::with(TestPump::new())
    }

    pub(crate) fn with(pump: TestPump) -> Self {
        Self { pump, log: Vec::new(), attached: Vec::new(), watch: Watch::new() }
    }

    /// Spawns and adds. Should the test fail, the child is killed.
    pub(crate) fn add(&mut self, command: &mut Command<'_>) -> ChildKey {
        self.pump.add(command.on_drop(OnDrop::Kill).spawn().expect("spawn"))
    }

    /// Attaches ends that somebody else has made.
    pub(crate) fn attach(&mut self, ends: impl IntoIterator<Item = End>) -> ChildKey {
        let key = self.pump.attach(ends);
        self.attached.push(key);
        key
    }

    /// Adds `sh -c script` with the channels of the default map.
    pub(crate) fn sh(&mut self, script: &str) -> ChildKey {
        self.add(Command::new("sh").args(["-c", script]))
    }

    /// Adds a shell that does line by line what it is told over a socket on its
    /// fd 9, with the channels that `map` adds to that.
    pub(crate) fn agent(&mut self, map: impl FnOnce(&mut Command<'_>)) -> Agent {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "while read -r line <&9; do eval \"$line\"; done"]).fd(9, theirs);
        map(&mut command);
        Agent::on(self.add(&mut command), ours)
    }

    /// Notes what there is to be told.
    pub(crate) fn drain(&mut self) {
        while let Some(event) = self.pump.next_event() {
            self.log.push(owned(event));
        }
        self.pump.follow();
    }

    /// One poll; what it found is not told yet.
    pub(crate) fn poll(&mut self) {
        self.watch.poll(&mut self.pump);
    }

    /// One poll, and all that it found.
    pub(crate) fn step(&mut self) {
        self.poll();
        self.drain();
    }

    /// Goes on until what is wanted is seen.
    pub(crate) fn until(&mut self, mut seen: impl FnMut(&Self) -> bool) {
        self.drain();
        while !seen(self) {
            assert!(!self.pump.is_empty(), "all ended, and not seen: {:?}", self.log);
            self.step();
        }
    }

    /// Goes on until all children have ended, and looks at the log as a whole.
    pub(crate) fn finish(&mut self) {
        self.drain();
        while !self.pump.is_empty() {
            self.step();
        }
        assert!(!self.pump.has_events());
        self.check();
    }

    pub(crate) fn of(&self, key: ChildKey) -> impl Iterator<Item = &Seen> {
        self.log.iter().filter(move |(child, _)| *child == key).map(|(_, seen)| seen)
    }

    pub(crate) fn data(&self, key: ChildKey, name: &str) -> Vec<u8> {
        let parts = self.of(key).filter_map(|seen| match seen {
            Seen::Data(channel, bytes) if channel == name => Some(bytes.as_slice()),
            _ => None,
        });
        parts.collect::<Vec<_>>().concat()
    }

    pub(crate) fn data_len(&self, key: ChildKey, name: &str) -> usize {
        let len = |seen: &Seen| match seen {
            Seen::Data(channel, bytes) if channel == name => bytes.len(),
            _ => 0,
        };
        self.of(key).map(len).sum()
    }

    pub(crate) fn closed(&self, key: ChildKey, name: &str) -> Option<(CloseReason, usize)> {
        self.of(key).find_map(|seen| match seen {
            Seen::Closed(channel, reason, unsent) if channel == name => Some((*reason, *unsent)),
            _ => None,
        })
    }

    pub(crate) fn exit(&self, key: ChildKey) -> Option<Exit> {
        self.of(key).find_map(|seen| match seen {
            Seen::Exited(exit) => Some(*exit),
            _ => None,
        })
    }

    pub(crate) fn has(&self, key: ChildKey, wanted: &Seen) -> bool {
        self.of(key).any(|seen| seen == wanted)
    }

    pub(crate) fn has_ended(&self, key: ChildKey) -> bool {
        self.of(key).any(|seen| matches!(seen, Seen::Ended(_)))
    }

    /// Nothing is ready and nothing is told: a poll that found a hang-up again
    /// and again would return at once. Only for children that wait for us.
    pub(crate) fn assert_quiet(&mut self) {
        self.drain();
        let (before, start) = (self.log.len(), Instant::now());
        let timeout = Duration::from_millis(50);
        let mut polls = 0;
        // Another test's spawn has its signals blocked, and a SIGCHLD that comes
        // then is nobody's to ignore: it ends an epoll_wait of any thread.
        while start.elapsed() < timeout {
            let found = self.pump.poll(Some(timeout)).unwrap();
            self.drain();
            // In another loop a source has one look more than it has bytes.
            let may_look = self.pump.backend() == Backend::Foreign;
            let told = &self.log[before..];
            assert!(told.is_empty() && (!found || may_look), "poll returned at once, for {told:?}");
            polls += 1;
            assert!(polls < 100, "poll returns again and again, for nothing");
        }
    }

    /// The promises of `Event`, for every child in the log that has ended.
    pub(crate) fn check(&self) {
        let mut keys: Vec<_> = self.log.iter().map(|(key, _)| *key).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let seen: Vec<_> = self.of(key).collect();
            // The only event of a start that has failed.
            if seen == [&Seen::NotStarted] {
                continue;
            }
            let fail = |what: &str| -> ! { panic!("{what}: {:?}", brief(&seen)) };
            let count = |is: fn(&Seen) -> bool| seen.iter().filter(|seen| is(seen)).count();
            let ends = count(|seen| matches!(seen, Seen::Ended(_)));
            let exits = count(|seen| matches!(seen, Seen::Exited(_)));
            let begins = |seen: &Seen| matches!(seen, Seen::Made(_) | Seen::Adopted(..));
            if !begins(seen[0]) || count(begins) != 1 {
                fail("Made, or Adopted, is first and once");
            }
            let has_process = !self.attached.contains(&key);
            if ends != 1
                || exits != usize::from(has_process)
                || !matches!(seen.last(), Some(Seen::Ended(_)))
            {
                fail("Exited is once, Ended is once and last");
            }
            let Some(Seen::Ended(end)) = seen.last() else { fail("no end") };
            if has_process && self.exit(key) != Some(*end) {
                fail("Exited and Ended tell the same");
            }
            for (at, event) in seen.iter().enumerate() {
                let (Seen::Data(name, _) | Seen::HalfClosed(name) | Seen::Drained(name)) = event
                else {
                    continue;
                };
                if matches!(event, Seen::Data(_, bytes) if bytes.is_empty()) {
                    fail("Data has a byte at least");
                }
                let closed = |s: &&Seen| matches!(s, Seen::Closed(channel, ..) if channel == name);
                if !seen[at..].iter().copied().any(|seen| closed(&seen)) {
                    fail("Closed comes after all else of a channel");
                }
            }
            for (at, event) in seen.iter().enumerate() {
                let Seen::Closed(name, ..) = event else { continue };
                let again = |s: &&Seen| matches!(s, Seen::Closed(channel, ..) if channel == name);
                if seen[at + 1..].iter().copied().any(|seen| again(&seen)) {
                    fail("Closed is once a channel");
                }
            }
        }
    }
}

fn brief(seen: &[&Seen]) -> Vec<String> {
    let show = |seen: &&Seen| match seen {
        Seen::Data(channel, bytes) => format!("Data({channel}, {} bytes)", bytes.len()),
        other => format!("{other:?}"),
    };
    seen.iter().map(show).collect()
}

/// A shell that does what it is told, and ends when it is dropped.
pub(crate) struct Agent {
    pub(crate) key: ChildKey,
    control: BufReader<UnixStream>,
}

impl Agent {
    /// One that is told over `control`, which is its fd 9.
    pub(crate) fn on(key: ChildKey, control: UnixStream) -> Self {
        control.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { key, control: BufReader::new(control) }
    }

    /// Has it run a line, without waiting.
    pub(crate) fn tell(&mut self, line: &str) {
        self.control.get_mut().write_all(format!("{line}\n").as_bytes()).expect("tell an agent");
    }

    /// Has it run a line; returns when that is done, with what the line has
    /// written to fd 9.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.tell(&format!("{line}\necho done >&9"));
        let mut said = String::new();
        loop {
            let mut answer = String::new();
            let len = self.control.read_line(&mut answer).expect("the agent answers");
            assert!(len > 0, "the agent has ended");
            if answer == "done\n" {
                return said;
            }
            said += &answer;
        }
    }

    /// Waits for one line that something in it writes to fd 9 by itself.
    pub(crate) fn hear(&mut self) -> String {
        let mut answer = String::new();
        self.control.read_line(&mut answer).expect("the agent answers");
        answer
    }
}

/// A process that a child left behind: killed by its id when dropped.
pub(crate) struct Orphan(pub(crate) i32);

impl Drop for Orphan {
    fn drop(&mut self) {
        // SAFETY: no pointers. The caller knows the process to be running.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
    }
}

/// Waits until a child of ours has ended, and leaves it to be reaped.
pub(crate) fn wait_for_end(pid: u32) {
    let mut info = core::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOWAIT;
    // SAFETY: writes the info.
    let waited = unsafe { libc::waitid(libc::P_PID, pid, info.as_mut_ptr(), options) };
    assert_eq!(waited, 0, "{}", std::io::Error::last_os_error());
}

/// Runs `body` in a process of its own, for what a process has but once: the
/// dispositions of signals, a seccomp filter, who reaps. The test binary is run
/// again for the test `name` alone; its end is returned to whoever asked first.
pub(crate) fn in_own_process(name: &str, body: impl FnOnce()) -> Option<std::process::ExitStatus> {
    const KEY: &str = "FORKPLAN_TEST_ALONE";
    if std::env::var_os(KEY).is_some_and(|alone| alone == name) {
        // Should it hang, the kernel ends it.
        // SAFETY: no pointers.
        unsafe { libc::alarm(2 * PATIENCE.as_secs() as u32) };
        body();
        return None;
    }
    let own = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new(own);
    command.args(["--exact", name, "--nocapture"]).env(KEY, name);
    let output = command.output().unwrap();
    if !output.status.success() {
        print!("{}", String::from_utf8_lossy(&output.stdout));
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let ran = String::from_utf8_lossy(&output.stdout).contains("running 1 test");
    assert!(ran, "no test has the name {name}");
    Some(output.status)
}

/// As [`in_own_process`], for a body that has to succeed.
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    if let Some(status) = in_own_process(name, body) {
        assert!(status.success(), "{status}");
    }
}

/// Makes one syscall fail with `errno` in this thread and its children.
pub(crate) fn refuse_syscall(number: i64, errno: i32) {
    let filter = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        filter(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        filter(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number as u32),
        filter(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        filter(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

/// Numbers that look random and are the same for the same seed (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    /// The seed is the clock's, or that of the variable `FORKPLAN_TEST_SEED`;
    /// it is printed, and shown when the test fails.
    pub(crate) fn new() -> Self {
        let given = std::env::var("FORKPLAN_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let seed = given.unwrap_or_else(clock);
        println!("FORKPLAN_TEST_SEED={seed}");
        Self(seed | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    pub(crate) fn pick<T: Copy + Debug>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}
