//! One spawn in which a call of the parent's fails, judged.

use std::fs;
use std::path::{Path, PathBuf};

use crate::parent_errnos::Row;
use crate::parent_faults::{Fault, Shape, Watched, calls_of, mapped, watched};
use crate::parent_ways::{Came, Entry, Program, Ready, Scenario};
use crate::support::fds_of_self;
use crate::support::held::Call;
use crate::support::state::State;

/// What a spawn came to, when its child is gone.
#[derive(Debug, PartialEq)]
enum Seen {
    Child(Shape),
    /// The child has ended; whether it is known how, and the errno of a first wait.
    Ended {
        known: bool,
        failed: Option<i32>,
    },
    Error {
        text: String,
        errno: Option<i32>,
    },
    Dropped,
}

/// By what a child is made: [`Ready::spawn`], or something that is to be noticed.
pub(crate) type Spawn<'a> = &'a (dyn Fn(&mut Ready) -> Came + Sync);

/// A scenario in its process, and what comes of it without faults.
pub(crate) struct Trial<'a> {
    scenario: &'a Scenario,
    /// The program of those that are busy.
    copy: PathBuf,
    spawn: Spawn<'a>,
    clean: Seen,
    thread: State,
    process: State,
    /// All that the parent calls.
    pub(crate) calls: Vec<Call>,
}

/// What became of a fault.
pub(crate) struct Judged {
    /// What it came to, in a word.
    pub(crate) word: &'static str,
    /// What is not as documented.
    pub(crate) wrong: Vec<String>,
}

impl<'a> Trial<'a> {
    pub(crate) fn new(scenario: &'a Scenario, copy: &Path, spawn: Spawn<'a>) -> Self {
        // What is looked for once.
        drop(attempt(scenario, copy, &Ready::spawn, None));
        let nothing = watched(None, || (), || (), |()| ());
        let process = State::of_process();
        let clean = attempt(scenario, copy, &Ready::spawn, None).1.came.0;
        let is_right = match (&clean, scenario.program, scenario.entry) {
            (Seen::Error { .. }, Program::Nowhere, _) => true,
            (Seen::Dropped, _, Entry::Dropped) => true,
            (Seen::Ended { known, failed }, Program::End, _) => *known && failed.is_none(),
            (Seen::Child(_), Program::Pause | Program::Busy, _) => true,
            _ => false,
        };
        assert!(is_right, "{}: {clean:?}", scenario.name);
        // On a busy machine a parent may have to look more than once.
        let calls = (0..3).map(|_| {
            let mut ready = Ready::new(scenario, copy);
            let mut busy = ready.busy.take();
            calls_of(|| busy = None, || ready.spawn(), |came| drop(look(came)))
        });
        let calls = calls.min_by_key(Vec::len).unwrap();
        let (thread, copy) = (nothing.thread, copy.to_path_buf());
        Self { scenario, copy, spawn, clean, thread, process, calls }
    }

    /// Spawns with this fault in the way. `None` if the parent did not come to the
    /// call.
    pub(crate) fn judge(&self, row: &Row, fault: Fault) -> Option<Judged> {
        let before = mapped();
        let (mut ready, Watched { came: (seen, mut wrong), thread, failed }) =
            attempt(self.scenario, &self.copy, self.spawn, Some(fault));
        let failed = failed?;
        let word = match self.outcome(row, fault, &seen) {
            Ok(word) => word,
            Err(why) => {
                wrong.push(why);
                "as documented"
            }
        };
        wrong.extend(self.thread.changed(&thread).iter().map(|name| format!("{name} changed")));
        if let Seen::Error { .. } = seen {
            // What was given is there again, and nothing but the fault was in the way.
            let (again, left) = look(ready.spawn());
            wrong.extend(left);
            if again != self.clean {
                wrong.push(format!("the next is another: {again:?}"));
            }
        }
        drop(ready);
        if let (libc::SYS_munmap, [at, len, ..]) = (failed.number, failed.arguments) {
            // SAFETY: who was to have it unmapped has nothing there any more.
            unsafe { libc::munmap(at as *mut _, len as usize) };
        }
        let process = State::of_process();
        wrong.extend(self.process.changed(&process).iter().map(|name| format!("{name} changed")));
        let after = mapped();
        if after != before {
            wrong.push(format!("bytes more: {before}, {after} are mapped"));
        }
        let documented = match word {
            "named" => Vec::new(),
            _ => row.leaves(fault.errno, &failed),
        };
        wrong.retain(|what| !documented.iter().any(|words| what.starts_with(words)));
        Some(Judged { word, wrong })
    }

    /// Done without, or named.
    fn outcome(&self, row: &Row, fault: Fault, seen: &Seen) -> Result<&'static str, String> {
        match seen {
            _ if *seen == self.clean => Ok("as without it"),
            Seen::Ended { known: true, failed } if *failed == Some(fault.errno) => Ok("named"),
            Seen::Error { text, errno } if *errno == Some(fault.errno) => {
                match row.words.iter().any(|words| text.starts_with(words)) {
                    true => Ok("named"),
                    false => Err(format!("the error names something else: {text}")),
                }
            }
            _ => Err(format!("came to {seen:?} in place of {:?}", self.clean)),
        }
    }
}

/// What has come of a spawn, and what is left that should not be.
type Looked = (Seen, Vec<String>);

fn attempt(
    scenario: &Scenario,
    copy: &Path,
    spawn: Spawn<'_>,
    fault: Option<Fault>,
) -> (Ready, Watched<Looked>) {
    let mut ready = Ready::new(scenario, copy);
    let (fds, files) = (fds_of_self(), ready.files());
    let mut busy = ready.busy.take();
    let closed = busy.as_ref().map(std::os::fd::AsRawFd::as_raw_fd);
    let mut watched = watched(fault, || busy = None, || spawn(&mut ready), look);
    let (seen, wrong) = &mut watched.came;
    if let Seen::Error { .. } = seen {
        let is_new = |(fd, open): &(i32, _)| fds.get(fd) != Some(open);
        let left: Vec<_> = fds_of_self().into_iter().filter(is_new).collect();
        let there = fds_of_self();
        let gone = fds.keys().find(|fd| !there.contains_key(fd) && Some(**fd) != closed);
        if !left.is_empty() || gone.is_some() {
            wrong.push(format!("fds changed: {left:?} more, {gone:?} closed"));
        }
        if ready.files() != files {
            wrong.push(format!("files are left: {:?}", ready.files()));
        }
    }
    (ready, watched)
}

/// Looks at what has come of it, and ends it.
fn look(came: Came) -> Looked {
    let seen = match came {
        Came::Child(mut child) => {
            let shape = Shape::of(&child);
            child.kill().unwrap();
            child.wait().unwrap();
            Seen::Child(shape)
        }
        Came::Ended(mut child, first) => {
            let failed = first.as_ref().err().and_then(std::io::Error::raw_os_error);
            let exit = first.or_else(|_| child.wait()).unwrap();
            assert!(exit.success() || exit.status().is_none(), "{exit}");
            Seen::Ended { known: exit.success(), failed }
        }
        Came::Error(error) => Seen::Error { text: error.to_string(), errno: error.raw_os_error() },
        Came::Dropped => Seen::Dropped,
    };
    (seen, children_left())
}

/// Ends and reaps what is left of children.
fn children_left() -> Vec<String> {
    let mut left = Vec::new();
    loop {
        let mut status = 0;
        // SAFETY: writes the status. Called where a child is a failure of the test.
        match unsafe { libc::waitpid(-1, &mut status, libc::__WALL | libc::WNOHANG) } {
            -1 => return left,
            0 => {
                for pid in children() {
                    left.push(format!("a child is left, {:?}", program_of(pid)));
                    // SAFETY: no pointers but to the status. It is not reaped, so the
                    // pid is its own.
                    unsafe {
                        libc::kill(pid, libc::SIGKILL);
                        libc::waitpid(pid, &mut status, libc::__WALL);
                    }
                }
            }
            pid => left.push(format!("a zombie is left, {pid}")),
        }
    }
}

/// This process's.
fn children() -> Vec<i32> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let list = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).ok();
    let lists: String = tasks.filter_map(|task| list(task.unwrap())).collect();
    lists.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn program_of(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}
