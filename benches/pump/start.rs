//! The same, for children that nobody waits for until they have come to their
//! program: by the pump, and by the least that can be done.

use std::collections::VecDeque;
use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;

use forkplan::{Backend, Event, Prepared, Pump};
use forkplan_benches::floor::{close, environment, pipe, wait};
use forkplan_benches::program::Program;

use crate::sample::Contender;

/// By this backend, or by the one that it chooses.
pub fn pump<'a>(
    name: String,
    prepared: Prepared<'static>,
    children: u32,
    in_flight: u32,
    backend: Option<Backend>,
) -> Contender<'a> {
    let mut pool: Vec<_> = (1..in_flight).map(|_| prepared.try_clone().unwrap()).collect();
    pool.push(prepared);
    let mut pump = backend.map_or_else(Pump::new, |by| Pump::with_backend(by).unwrap());
    Contender::new(name, move || {
        let (mut started, mut said) = (0, 0);
        while started < in_flight.min(children) {
            started += 1;
            pump.start(pool.pop().unwrap());
        }
        while !pump.is_empty() {
            pump.poll(None).unwrap();
            while let Some(event) = pump.next_event() {
                match event {
                    Event::Data { bytes, .. } => said += bytes.len(),
                    Event::Made { child, .. } => pool.extend(pump.take_prepared(child)),
                    Event::Ended { exit, .. } => {
                        assert!(exit.success(), "{exit}");
                        if started < children {
                            started += 1;
                            pump.start(pool.pop().unwrap());
                        }
                    }
                    Event::NotStarted { child } => panic!("{:?}", pump.take_spawn_error(child)),
                    _ => {}
                }
            }
        }
        assert!(said >= children as usize);
    })
}

const STACK_SIZE: usize = 64 * 1024;

/// What a parent needs to know more than the floor, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Knows {
    /// The end of the oldest child.
    End,
    /// And by a pidfd, which belongs to one child alone.
    Pidfd,
    /// And by one more pipe, whose end of file comes with exec.
    Exec,
}

struct Job {
    theirs: c_int,
    path: CString,
    argv: [*const c_char; 2],
    envp: Vec<*const c_char>,
    _env: Vec<CString>,
}

/// A child and its place, and what is open for it.
struct Running {
    at: usize,
    pid: c_int,
    ours: c_int,
    pidfd: Option<c_int>,
    notice: Option<c_int>,
}

/// Where a child finds its job, and its stack.
#[derive(Clone, Copy)]
struct Place {
    job: *mut Job,
    stack: *mut u128,
}

impl Place {
    fn new(program: &Program) -> Self {
        let (path, env) = (program.c_path(), environment());
        let envp = env.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect();
        let argv = [path.as_ptr(), ptr::null()];
        let job = Job { theirs: -1, path, argv, envp, _env: env };
        let stack: &mut [u128] = vec![0; STACK_SIZE / 16].leak();
        Self { job: Box::into_raw(Box::new(job)), stack: stack.as_mut_ptr() }
    }

    /// `clone(CLONE_VM)`, and a pipe on the child's 1.
    fn start(self, at: usize, knows: Knows) -> Running {
        let (ours, theirs) = pipe().unwrap();
        let notice = (knows >= Knows::Exec).then(|| pipe().unwrap());
        let with_pidfd = knows >= Knows::Pidfd;
        let flags = if with_pidfd { libc::CLONE_PIDFD } else { 0 };
        let mut pidfd: c_int = -1;
        // SAFETY: the place is free: its last child was reaped. The child makes
        // syscalls only, of which the failing ones write `errno`. The kernel writes
        // the number of the pidfd, if there is one.
        let pid = unsafe {
            (*self.job).theirs = theirs;
            let top = self.stack.byte_add(STACK_SIZE).cast();
            let flags = libc::CLONE_VM | libc::SIGCHLD | flags;
            libc::clone(child, top, flags, self.job.cast(), &raw mut pidfd)
        };
        assert!(pid > 0);
        close(theirs);
        let notice = notice.map(|(reader, writer)| {
            close(writer);
            reader
        });
        Running { at, pid, ours, pidfd: with_pidfd.then_some(pidfd), notice }
    }
}

impl Running {
    /// Reads what it says, waits and closes. Which place is free.
    fn finish(self, said: &mut [u8; 64]) -> usize {
        let mut read = |from: c_int| {
            // SAFETY: the kernel writes to the buffer.
            let got = unsafe { libc::read(from, said.as_mut_ptr().cast(), said.len()) };
            usize::try_from(got).unwrap_or(0)
        };
        if let Some(notice) = self.notice {
            assert_eq!(read(notice), 0);
            close(notice);
        }
        let mut len = 0;
        loop {
            match read(self.ours) {
                0 => break,
                got => len += got,
            }
        }
        assert!(len > 0);
        wait(self.pid);
        close(self.ours);
        if let Some(pidfd) = self.pidfd {
            close(pidfd);
        }
        self.at
    }
}

/// As many stacks as there are children, and a blocking read of the oldest. Unless
/// it `knows` more, it never asks whether exec was reached.
pub fn floor<'a>(
    name: &'a str,
    program: &Program,
    children: u32,
    in_flight: u32,
    knows: Knows,
) -> Contender<'a> {
    let places: Vec<_> = (0..in_flight).map(|_| Place::new(program)).collect();
    Contender::new(name, move || {
        let mut running = VecDeque::new();
        let (mut started, mut said) = (0, [0; 64]);
        let mut free: Vec<usize> = (0..places.len()).collect();
        while started < children || !running.is_empty() {
            while let (true, Some(at)) = (started < children, free.pop()) {
                started += 1;
                running.push_back(places[at].start(at, knows));
            }
            let Some(oldest) = running.pop_front() else { break };
            free.push(oldest.finish(&mut said));
        }
    })
}

extern "C" fn child(job: *mut c_void) -> c_int {
    // SAFETY: `floor` leaves the job as it is until the child is reaped.
    unsafe {
        let job = &*job.cast::<Job>();
        libc::dup2(job.theirs, 1);
        libc::execve(job.path.as_ptr(), job.argv.as_ptr(), job.envp.as_ptr());
        libc::_exit(127)
    }
}
