//! Calls that are held until another thread says what becomes of them: killed,
//! refused this once, or made.

use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use core::time::Duration;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::Instant;

use super::seccomp::{Rule, install_with_listener, install_with_listener_to_all};
use super::subprocess::say;

/// What becomes of a call that is held.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    /// Whoever makes it gets this signal, which ends it.
    Signal(i32),
    /// It fails, and is not made.
    Errno(i32),
    /// It is made.
    Made,
}

/// A call that is held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// The thread that makes it.
    pub(crate) by: i32,
    pub(crate) number: libc::c_long,
    pub(crate) arguments: [u64; 6],
}

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Default)]
struct Notice {
    id: u64,
    pid: u32,
    flags: u32,
    /// `struct seccomp_data`: the number and the architecture, the address, six
    /// arguments.
    data: [u64; 8],
}

impl Notice {
    fn call(&self) -> Call {
        let [number, _, arguments @ ..] = self.data;
        Call { by: self.pid as i32, number: libc::c_long::from(number as i32), arguments }
    }
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// Above all numbers of tests.
const ASIDE: i32 = 800;

const RECEIVE: libc::Ioctl = libc::_IOWR::<Notice>(b'!' as u32, 0);
const SEND: libc::Ioctl = libc::_IOWR::<Answer>(b'!' as u32, 1);
/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`.
const CONTINUE: u32 = 1;

/// How long a body may take. No body of a test's that works takes a hundredth.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which calls are held.
pub(crate) enum Held {
    /// Those of these rules.
    These(Vec<Rule>),
    /// All but those of these rules.
    AllBut(Vec<Rule>),
}

impl Held {
    fn install(&self) -> i32 {
        match self {
            Self::These(rules) => install_with_listener(rules),
            Self::AllBut(rules) => install_with_listener_to_all(rules),
        }
    }
}

/// Runs `body` in a thread whose calls, and whose children's, are held where they
/// are of those that it says itself. What is not to be held of all has to be that by
/// which threads wait for each other.
///
/// Answers until the thread and all of its children have ended: who is held when
/// nobody answers any more sleeps for ever, if it has a copy of the listener.
pub(crate) fn holding<T: Send>(
    held: impl FnOnce() -> Held + Send,
    mut verdict: impl FnMut(&Call) -> Verdict,
    body: impl FnOnce() -> T + Send,
) -> T {
    let (number, may_go_on) = (AtomicI32::new(-1), AtomicBool::new(false));
    let thread = || {
        number.store(held().install(), Ordering::Release);
        // Without a call that may be held, for nobody answers yet.
        while !may_go_on.load(Ordering::Acquire) {
            thread::yield_now();
        }
        body()
    };
    thread::scope(|scope| {
        let thread = scope.spawn(thread);
        while number.load(Ordering::Acquire) == -1 && !thread.is_finished() {
            thread::yield_now();
        }
        if let listener @ 0.. = number.load(Ordering::Acquire) {
            // SAFETY: the kernel has made this fd for us. Its number goes to whom it
            // would belong without a filter.
            let listener = unsafe { OwnedFd::from_raw_fd(listener) };
            let listener = rustix::io::fcntl_dupfd_cloexec(&{ listener }, ASIDE).unwrap();
            may_go_on.store(true, Ordering::Release);
            let start = Instant::now();
            while let Some(notice) = next(&listener, start) {
                answer(&listener, &notice, verdict(&notice.call()));
            }
        }
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The next call that is held; `None` when nobody is left to make one.
fn next(listener: &OwnedFd, start: Instant) -> Option<Notice> {
    loop {
        let (fd, events) = (listener.as_raw_fd(), libc::POLLIN);
        let mut polled = libc::pollfd { fd, events, revents: 0 };
        // SAFETY: one entry.
        unsafe { libc::poll(&mut polled, 1, 1000) };
        if polled.revents & libc::POLLIN != 0 {
            let mut notice = Notice::default();
            // SAFETY: the kernel writes the notice.
            if unsafe { libc::ioctl(fd, RECEIVE, &raw mut notice) } == 0 {
                return Some(notice);
            }
            // It has ended meanwhile.
            continue;
        }
        if polled.revents & libc::POLLHUP != 0 {
            return None;
        }
        if start.elapsed() > PATIENCE {
            give_up();
        }
    }
}

/// Ends this process's children, and this process, which may never end by itself.
fn give_up() -> ! {
    let mut children = String::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        children += &fs::read_to_string(task.unwrap().path().join("children")).unwrap();
    }
    for child in children.split_whitespace() {
        let status = fs::read_to_string(format!("/proc/{child}/stat"));
        say(&format!("this child is left: {status:?}"));
        // SAFETY: no pointers. A child that is not reaped, so the pid is its own.
        unsafe { libc::kill(child.parse().unwrap(), libc::SIGKILL) };
    }
    say("a body under a filter, or a child of its, does not end");
    // SAFETY: ends the process.
    unsafe { libc::_exit(1) }
}

fn answer(listener: &OwnedFd, notice: &Notice, verdict: Verdict) {
    let id = notice.id;
    let mut answer = match verdict {
        Verdict::Signal(signal) => {
            // SAFETY: no pointers. The process is held, so the pid is its own.
            assert_eq!(unsafe { libc::kill(notice.pid as i32, signal) }, 0);
            return;
        }
        Verdict::Errno(errno) => Answer { id, value: 0, error: -errno, flags: 0 },
        Verdict::Made => Answer { id, value: 0, error: 0, flags: CONTINUE },
    };
    // SAFETY: the kernel reads the answer.
    let sent = unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw mut answer) };
    if sent == -1 {
        let error = io::Error::last_os_error();
        // Killed meanwhile, by somebody else.
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
    }
}
