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

struct Job {
    theirs: c_int,
    path: CString,
    argv: [*const c_char; 2],
    envp: Vec<*const c_char>,
    _env: Vec<CString>,
}

/// `clone(CLONE_VM)` on as many stacks as there are children, and a blocking read of
/// the oldest. Whether exec was reached it never asks.
pub fn floor<'a>(name: String, program: &Program, children: u32, in_flight: u32) -> Contender<'a> {
    let place = || {
        let (path, env) = (program.c_path(), environment());
        let envp = env.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect();
        let argv = [path.as_ptr(), ptr::null()];
        let job = Job { theirs: -1, path, argv, envp, _env: env };
        let stack: &mut [u128] = vec![0; STACK_SIZE / 16].leak();
        (Box::into_raw(Box::new(job)), stack.as_mut_ptr())
    };
    let places: Vec<_> = (0..in_flight).map(|_| place()).collect();
    Contender::new(name, move || {
        let mut running = VecDeque::new();
        let (mut started, mut said) = (0, [0; 64]);
        let mut free: Vec<usize> = (0..places.len()).collect();
        while started < children || !running.is_empty() {
            while let (true, Some(at)) = (started < children, free.pop()) {
                started += 1;
                let (job, stack) = places[at];
                let (ours, theirs) = pipe().unwrap();
                // SAFETY: the place is free: its last child was reaped. The child makes
                // syscalls only, of which the failing ones write `errno`.
                let pid = unsafe {
                    (*job).theirs = theirs;
                    let top = stack.byte_add(STACK_SIZE).cast();
                    libc::clone(child, top, libc::CLONE_VM | libc::SIGCHLD, job.cast())
                };
                assert!(pid > 0);
                close(theirs);
                running.push_back((at, pid, ours));
            }
            let Some((at, pid, ours)) = running.pop_front() else { break };
            let mut len = 0;
            loop {
                // SAFETY: the kernel writes to the buffer.
                match unsafe { libc::read(ours, said.as_mut_ptr().cast(), said.len()) } {
                    ..1 => break,
                    got => len += got,
                }
            }
            assert!(len > 0);
            wait(pid);
            close(ours);
            free.push(at);
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
