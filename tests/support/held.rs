//! Calls that are held until another thread says what becomes of them: killed,
//! refused this once, or made.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc;
use std::thread;

use super::seccomp::{Rule, install_with_listener};

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

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Default)]
struct Notice {
    id: u64,
    pid: u32,
    flags: u32,
    data: [u64; 8],
}

impl Notice {
    /// The first field of `struct seccomp_data`.
    fn call(&self) -> libc::c_long {
        libc::c_long::from(self.data[0] as i32)
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

/// Runs `body` in a thread whose calls, and whose children's, are held where they
/// are the rules', which it makes itself, by [`Rule::hold`]. `verdict` gets who
/// makes the call, a thread's number, and which it is.
pub(crate) fn holding<T: Send>(
    rules: impl FnOnce() -> Vec<Rule> + Send,
    mut verdict: impl FnMut(i32, libc::c_long) -> Verdict,
    body: impl FnOnce() -> T + Send,
) -> T {
    let (told, listeners) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let held = move || {
        told.send(install_with_listener(&rules())).unwrap();
        may_go_on.recv().unwrap();
        body()
    };
    thread::scope(|scope| {
        let thread = scope.spawn(held);
        // SAFETY: the kernel has made this fd for us. Its number goes to whom it
        // would belong without a filter.
        let listener = unsafe { OwnedFd::from_raw_fd(listeners.recv().unwrap()) };
        let listener = rustix::io::fcntl_dupfd_cloexec(&{ listener }, ASIDE).unwrap();
        go_on.send(()).unwrap();
        while !thread.is_finished() {
            if !is_ready(&listener) {
                continue;
            }
            let mut notice = Notice::default();
            // SAFETY: the kernel writes the notice.
            if unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut notice) } == -1 {
                // It has ended meanwhile.
                continue;
            }
            answer(&listener, &notice, verdict(notice.pid as i32, notice.call()));
        }
        drop(listener);
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn is_ready(listener: &OwnedFd) -> bool {
    let mut polled = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // Now and then the caller looks whether the thread has ended.
    // SAFETY: one entry.
    let ready = unsafe { libc::poll(&mut polled, 1, 2) };
    ready == 1 && polled.revents & libc::POLLIN != 0
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
    assert_eq!(sent, 0, "{}", io::Error::last_os_error());
}
