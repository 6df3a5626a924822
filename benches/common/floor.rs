//! The least that can be done: what a spawn with pipes costs if nothing is
//! checked, closed, blocked or reported.
//!
//! For three pipes: `pipe2` three times, `clone(CLONE_VM | CLONE_VFORK)` on a
//! static stack, three `dup2`, `execve`; then `waitid` and six closes in all.
//! 11 syscalls in the parent, 4 in the child and the program's own exit.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

const STACK_SIZE: usize = 64 * 1024;

#[repr(C, align(64))]
struct Stack([u8; STACK_SIZE]);

static mut STACK: Stack = Stack([0; STACK_SIZE]);

/// A command with `N` pipes that is prepared as far as can be.
pub struct Floor<const N: usize> {
    fds: [c_int; N],
    path: CString,
    argv: [*const c_char; 2],
    envp: Vec<*const c_char>,
    _env: Vec<CString>,
}

/// A child and our ends of its pipes.
pub struct Running<const N: usize> {
    pid: c_int,
    ends: [c_int; N],
}

struct Job<'a, const N: usize> {
    floor: &'a Floor<N>,
    theirs: [c_int; N],
}

impl<const N: usize> Floor<N> {
    /// The child writes to its `fds` and reads from its 0, if that is among them.
    pub fn new(path: CString, fds: [c_int; N]) -> Self {
        use std::os::unix::ffi::OsStringExt;
        let string = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
            let (mut bytes, value) = (key.into_vec(), value.into_vec());
            bytes.push(b'=');
            bytes.extend(value);
            CString::new(bytes).expect("no NUL in the environment")
        };
        let env: Vec<CString> = std::env::vars_os().map(string).collect();
        let envp = env.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect();
        Self { fds, argv: [path.as_ptr(), ptr::null()], path, envp, _env: env }
    }

    /// One at a time: there is one stack, which `&mut` alone does not say of
    /// two floors in two threads. The bench has one thread.
    pub fn spawn(&mut self) -> io::Result<Running<N>> {
        let (mut theirs, mut ends) = ([0; N], [0; N]);
        for (i, &fd) in self.fds.iter().enumerate() {
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
            libc::clone(child::<N>, top, flags, (&raw const job).cast_mut().cast())
        };
        theirs.into_iter().for_each(close);
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Running { pid, ends })
    }
}

impl<const N: usize> Running<N> {
    /// One read from our end of that pipe. 0 is the end of file, or an error.
    pub fn read(&self, end: usize, buffer: &mut [u8]) -> usize {
        // SAFETY: the kernel writes to the buffer.
        let len = unsafe { libc::read(self.ends[end], buffer.as_mut_ptr().cast(), buffer.len()) };
        usize::try_from(len).unwrap_or(0)
    }

    /// Waits and closes.
    pub fn finish(self) {
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        let id = self.pid as libc::id_t;
        // SAFETY: writes the info. The child is ours and not reaped.
        let waited = unsafe { libc::waitid(libc::P_PID, id, info.as_mut_ptr(), libc::WEXITED) };
        assert_eq!(waited, 0, "{}", io::Error::last_os_error());
        // SAFETY: waitid has written it.
        let status = unsafe { info.assume_init().si_status() };
        assert_eq!(status, 0, "the floor's child failed");
        self.ends.into_iter().for_each(close);
    }
}

extern "C" fn child<const N: usize>(job: *mut c_void) -> c_int {
    // SAFETY: `spawn` passed a job that lives until exec. The strings are
    // NUL-terminated and the arrays NULL-terminated.
    unsafe {
        let job = &*job.cast::<Job<'_, N>>();
        for (&theirs, &fd) in job.theirs.iter().zip(&job.floor.fds) {
            libc::dup2(theirs, fd);
        }
        libc::execve(job.floor.path.as_ptr(), job.floor.argv.as_ptr(), job.floor.envp.as_ptr());
        libc::_exit(127)
    }
}

/// Reader and writer, CLOEXEC.
fn pipe() -> io::Result<(c_int, c_int)> {
    let mut ends = [0; 2];
    // SAFETY: writes two numbers.
    match unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } {
        0 => Ok((ends[0], ends[1])),
        _ => Err(io::Error::last_os_error()),
    }
}

fn close(fd: c_int) {
    // SAFETY: an end that `pipe` made and nobody else knows.
    unsafe { libc::close(fd) };
}
