//! Tests that change what belongs to the whole process (its fd numbers, limits,
//! signals, children) run in a process of their own: the test binary again.

use core::panic::AssertUnwindSafe;
use core::sync::atomic::{AtomicBool, Ordering};
use std::panic;
use std::process::{Command, Stdio};
use std::{env, fs, io, thread};

use std::io::Write;

/// Says which test the process was started for.
const KEY: &str = "FORKPLAN_TEST_SUBPROCESS";
/// Says which of the test's cases.
const CASE: &str = "FORKPLAN_TEST_CASE";
/// Where messages go in a body's process, above all numbers that tests use.
const LOG: i32 = 900;
/// The body ran and returned. Not 0, which a test binary that found no such
/// test exits with too.
const DONE: i32 = 42;

/// This test binary, run again for the test `name` alone.
pub(crate) fn self_as(name: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(KEY, name);
    command
}

/// Runs `body` in a process of its own, with no other test beside it. `name` is
/// the calling test's.
///
/// There, 0 is `/dev/null`, 1 and 2 are pipes, and the lowest free fd is 3 or a
/// little above it. `body` may do with them what it likes.
pub(crate) fn in_subprocess(name: &str, body: impl FnOnce()) {
    if env::var_os(KEY).is_some_and(|for_whom| for_whom == name) {
        run_and_exit(body);
    }
    run(name, 0);
}

/// As above, once for each case, with its number: for what a process can be
/// asked only once.
pub(crate) fn in_subprocesses(name: &str, cases: usize, body: impl FnOnce(usize)) {
    if env::var_os(KEY).is_some_and(|for_whom| for_whom == name) {
        let case = env::var(CASE).unwrap().parse().unwrap();
        run_and_exit(|| body(case));
    }
    (0..cases).for_each(|case| run(name, case));
}

fn run(name: &str, case: usize) {
    let mut command = self_as(name);
    let output = match command.env(CASE, case.to_string()).stdin(Stdio::null()).output() {
        Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => {
            return super::skipped(name, "emulated: the kernel does not run this program");
        }
        output => output.unwrap(),
    };
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(DONE), "{name}, {case}: {}\n{text}", output.status);
    // What a test skips, it says.
    io::stderr().write_all(&output.stderr).unwrap();
}

fn run_and_exit(body: impl FnOnce()) -> ! {
    // Failures must be told even when the body has closed 2, or put something
    // else there.
    let log = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), LOG).unwrap();
    let log = fs::File::from(log);
    panic::set_hook(Box::new(move |info| {
        let _ = writeln!(&log, "{info}");
    }));
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    let code = if result.is_ok() { DONE } else { 1 };
    // SAFETY: ends the process at once: the harness would print to a stdout
    // that may be anything by now.
    unsafe { libc::_exit(code) }
}

/// Whether this process has no child: none that runs, and no zombie.
pub(crate) fn no_child_is_left() -> bool {
    let mut status = 0;
    // SAFETY: writes the status. Called where a child is a failure of the test.
    let result = unsafe { libc::waitpid(-1, &mut status, libc::__WALL | libc::WNOHANG) };
    result == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD)
}

/// This test binary as a command of the crate's own, to be run for the test `name`
/// with fds that are still to be said: all but 2, which is the test's.
pub(crate) fn far_side(name: &str, case: impl ToString) -> forkplan::Command<'static> {
    let mut command = far_side_without_stderr(name, case);
    command.fd(2, io::stderr());
    command
}

/// As above, with 2 still to be said. What the harness writes to stdout comes
/// before all that the test does.
pub(crate) fn far_side_without_stderr(
    name: &str,
    case: impl ToString,
) -> forkplan::Command<'static> {
    let mut command = forkplan::Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(KEY, name)
        .env(CASE, case.to_string())
        .on_drop(forkplan::OnDrop::Kill);
    command
}

/// Where this process was started as the far side of the test `name`: runs `body`
/// with the case, and ends. Should that hang, the kernel ends it.
pub(crate) fn if_far_side(name: &str, body: impl FnOnce(&str)) {
    if env::var_os(KEY).is_some_and(|for_whom| for_whom == name) {
        // SAFETY: no pointers.
        unsafe { libc::alarm(240) };
        run_and_exit(|| body(&env::var(CASE).unwrap()));
    }
}

/// Whether a far side has run its body to the end.
pub(crate) fn assert_done(exit: forkplan::Exit) {
    assert_eq!(exit.code(), Some(DONE), "{exit}");
}

/// Writes a line to what standard error was when [`in_subprocess`] began, for a
/// body that has put something else there.
pub(crate) fn say(line: &str) {
    let log = rustix::io::dup(super::with_fd(LOG)).unwrap();
    writeln!(fs::File::from(log), "{line}").unwrap();
}

/// Runs `body` while another thread does `work` again and again. That ends with
/// the body, also where the body panics.
pub(crate) fn beside(work: impl Fn() + Sync, body: impl FnOnce()) {
    struct Over<'a>(&'a AtomicBool);

    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                work();
            }
        });
        let _over = Over(&over);
        body();
    });
}
