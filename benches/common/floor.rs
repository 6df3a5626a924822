//! The least that can be done: what a spawn costs if nothing is checked, closed,
//! blocked or reported.
//!
//! For three pipes: `pipe2` three times, `clone(CLONE_VM | CLONE_VFORK)` on a
//! static stack, three `dup2`, `execve`; then `waitid` and six closes in all.
//! 11 syscalls in the parent, 4 in the child and the program's own exit.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

const STACK_SIZE: usize = 64 * 1024;
/// Pipes, and copies in the child.
const MAX: usize = 16;

#[repr(C, align(64))]
struct Stack([u8; STACK_SIZE]);

static mut STACK: Stack = Stack([0; STACK_SIZE]);

/// A command that is prepared as far as can be.
pub struct Floor {
    /// The child's fds that get a new pipe.
    pipes: Vec<c_int>,
    /// Copies that the child makes of fds that are there, in this order.
    copies: Vec<(c_int, c_int)>,
    path: CString,
    argv: [*const c_char; 2],
    envp: Vec<*const c_char>,
    _env: Vec<CString>,
}

/// A child and our ends of its pipes.
pub struct Running {
    pid: c_int,
    ends: [c_int; MAX],
    count: usize,
}

struct Job<'a> {
    floor: &'a Floor,
    theirs: [c_int; MAX],
}

impl Floor {
    /// The child writes to its fds of `pipes` and reads from its 0, if that is
    /// among them. The pipes' own numbers must be above those. `copies` are pairs
    /// of what is there and where it goes, in an order in which nothing is lost.
    pub fn new(path: CString, pipes: &[c_int], copies: &[(c_int, c_int)]) -> Self {
        assert!(pipes.len() <= MAX, "no more than {MAX} pipes");
        let env = environment();
        let envp = env.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect();
        let argv = [path.as_ptr(), ptr::null()];
        Self { pipes: pipes.into(), copies: copies.into(), argv, path, envp, _env: env }
    }

    /// One at a time: there is one stack, which `&mut` alone does not say of
    /// two floors in two threads. The benches have one thread that spawns.
    pub fn spawn(&mut self) -> io::Result<Running> {
        let (mut theirs, mut ends) = ([0; MAX], [0; MAX]);
        let count = self.pipes.len();
        for (i, &fd) in self.pipes.iter().enumerate() {
            let (reader, writer) = pipe()?;
            (theirs[i], ends[i]) = if fd == 0 { (reader, writer) } else { (writer, reader) };
        }
        let job = Job { floor: self, theirs };
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: the caller is stopped until the child has called exec or
        // ended, so the job lives long enough and the stack is the child's
        // alone. The child makes syscalls only.
        let pid = unsafe {
            let top = (&raw mut STACK).byte_add(STACK_SIZE).cast();
            libc::clone(child, top, flags, (&raw const job).cast_mut().cast())
        };
        theirs[..count].iter().for_each(|&fd| close(fd));
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Running { pid, ends, count })
    }
}

impl Running {
    /// One read from our end of that pipe. 0 is the end of file, or an error.
    pub fn read(&self, end: usize, buffer: &mut [u8]) -> usize {
        // SAFETY: the kernel writes to the buffer.
        let len = unsafe { libc::read(self.ends[end], buffer.as_mut_ptr().cast(), buffer.len()) };
        usize::try_from(len).unwrap_or(0)
    }

    /// Waits and closes.
    pub fn finish(self) {
        wait(self.pid);
        self.ends[..self.count].iter().for_each(|&fd| close(fd));
    }
}

extern "C" fn child(job: *mut c_void) -> c_int {
    // SAFETY: `spawn` passed a job that lives until exec. The strings are
    // NUL-terminated and the arrays NULL-terminated.
    unsafe {
        let job = &*job.cast::<Job<'_>>();
        for (&theirs, &fd) in job.theirs.iter().zip(&job.floor.pipes) {
            libc::dup2(theirs, fd);
        }
        for &(from, to) in &job.floor.copies {
            libc::dup2(from, to);
        }
        libc::execve(job.floor.path.as_ptr(), job.floor.argv.as_ptr(), job.floor.envp.as_ptr());
        libc::_exit(127)
    }
}

/// This process's environment, as exec wants it.
pub fn environment() -> Vec<CString> {
    use std::os::unix::ffi::OsStringExt;
    let string = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
        let (mut bytes, value) = (key.into_vec(), value.into_vec());
        bytes.push(b'=');
        bytes.extend(value);
        CString::new(bytes).expect("no NUL in the environment")
    };
    std::env::vars_os().map(string).collect()
}

/// Reaps a child of ours, which has to have ended well.
pub fn wait(pid: c_int) {
    let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
    let id = pid as libc::id_t;
    // SAFETY: writes the info. The child is ours and not reaped.
    let waited = unsafe { libc::waitid(libc::P_PID, id, info.as_mut_ptr(), libc::WEXITED) };
    assert_eq!(waited, 0, "{}", io::Error::last_os_error());
    // SAFETY: waitid has written it.
    let status = unsafe { info.assume_init().si_status() };
    assert_eq!(status, 0, "the child failed");
}

/// Reader and writer, CLOEXEC.
pub fn pipe() -> io::Result<(c_int, c_int)> {
    let mut ends = [0; 2];
    // SAFETY: writes two numbers.
    match unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } {
        0 => Ok((ends[0], ends[1])),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes an end that `pipe` made and nobody else knows.
pub fn close(fd: c_int) {
    // SAFETY: as above.
    unsafe { libc::close(fd) };
}
