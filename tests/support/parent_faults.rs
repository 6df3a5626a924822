//! Faults in the parent's own calls: one of them fails, once, and what came of the
//! spawn and of the parent is looked at.

use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::support::held::{Call, Held, Verdict, holding};
use crate::support::seccomp::Rule;
use crate::support::state::State;
use crate::support::{Open, fds_of, signal_set};

/// The parent's call of this number, counted from 0, fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) call: libc::c_long,
    pub(crate) at: usize,
    pub(crate) errno: i32,
}

/// What a spawn came to, and what its thread was in the end.
pub(crate) struct Watched<T> {
    pub(crate) came: T,
    pub(crate) thread: State,
    /// The call that failed, if the parent came to it.
    pub(crate) failed: Option<Call>,
}

/// By which threads wait for each other and memory comes to those who allocate.
const OF_THE_RUNTIME: [libc::c_long; 6] = [
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_brk,
    libc::SYS_exit,
    libc::SYS_gettid,
    libc::SYS_rt_sigreturn,
];

/// All that the parent calls in `body`, of which `look` leaves no child.
pub(crate) fn calls_of<T>(
    mut on_sleep: impl FnMut(),
    body: impl FnOnce() -> T + Send,
    look: impl FnOnce(T) + Send,
) -> Vec<Call> {
    let allowed = || Held::AllBut(OF_THE_RUNTIME.map(Rule::allow).into());
    let mut calls = Vec::with_capacity(1024);
    let each = |call: &Call| {
        if !is_of_the_allocator(call) {
            calls.push(*call);
        }
        if call.number == libc::SYS_clock_nanosleep {
            on_sleep();
        }
        Verdict::Made
    };
    run(allowed, each, body, look);
    calls
}

/// Runs `body` in a thread of which this call fails, where all others are made, also
/// its children's. `on_sleep` is called before it sleeps.
///
/// What `look` makes of it is made in that thread too, for no child is to be left
/// at its end.
pub(crate) fn watched<T, L: Send>(
    fault: Option<Fault>,
    mut on_sleep: impl FnMut(),
    body: impl FnOnce() -> T + Send,
    look: impl FnOnce(T) -> L + Send,
) -> Watched<L> {
    let sleep = libc::SYS_clock_nanosleep;
    let call = fault.map_or(sleep, |fault| fault.call);
    let (mut failed, mut met) = (None, 0);
    let verdict = |call: &Call| {
        if call.number == sleep {
            on_sleep();
        }
        match fault {
            Some(fault) if fault.call == call.number && !is_of_the_allocator(call) => {
                met += 1;
                if met != fault.at + 1 {
                    return Verdict::Made;
                }
                failed = Some(*call);
                if call.number == libc::SYS_close {
                    // Linux's close closes, whatever it says. The fds are the same
                    // here.
                    // SAFETY: the fd is its owner's, who is in the midst of a close.
                    unsafe { libc::close(call.arguments[0] as i32) };
                }
                Verdict::Errno(fault.errno)
            }
            _ => Verdict::Made,
        }
    };
    let rules = || Held::These([call, sleep].map(Rule::hold).into());
    let (came, thread) = run(rules, verdict, body, |came| {
        let thread = State::of_thread();
        (look(came), thread)
    });
    Watched { came, thread, failed }
}

/// Whether it makes room for those who allocate, and not a guard.
fn is_of_the_allocator(call: &Call) -> bool {
    call.number == libc::SYS_mprotect && call.arguments[2] != libc::PROT_NONE as u64
}

/// Has `verdict` judge the calls that the thread of `body` makes in it.
fn run<T, L: Send>(
    held: impl FnOnce() -> Held + Send,
    mut verdict: impl FnMut(&Call) -> Verdict,
    body: impl FnOnce() -> T + Send,
    look: impl FnOnce(T) -> L + Send,
) -> L {
    let (own, over) = (AtomicI32::new(0), AtomicBool::new(false));
    let of_the_parent = |call: &Call| {
        let its = call.by == own.load(Ordering::Relaxed) && !over.load(Ordering::Relaxed);
        if its { verdict(call) } else { Verdict::Made }
    };
    holding(held, of_the_parent, || {
        block_one();
        // SAFETY: no pointers.
        own.store(unsafe { libc::gettid() }, Ordering::Relaxed);
        let came = body();
        over.store(true, Ordering::Relaxed);
        look(came)
    })
}

/// A mask that is none would be the same after it was lost.
fn block_one() {
    let one: u64 = 1 << (libc::SIGUSR1 - 1);
    let (how, none) = (libc::SIG_BLOCK, core::ptr::null_mut::<u64>());
    // SAFETY: reads the eight bytes.
    let set = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const one, none, 8) };
    assert_eq!(set, 0);
}

/// What of a child does not depend on when it was made: its program, the kinds and
/// flags of its fds, its signals, and the same of the parent's ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    program: (u64, u64),
    fds: BTreeMap<i32, (u32, i32)>,
    signals: [u64; 3],
    ends: Vec<(String, u32, i32)>,
}

impl Shape {
    /// Of a child that stands still, or has ended: then its program is not known.
    pub(crate) fn of(child: &forkplan::Child) -> Self {
        let pid = child.id().unwrap();
        let program = fs::metadata(format!("/proc/{pid}/exe")).unwrap();
        let kind =
            |pid: &str, fd: i32| fs::metadata(format!("/proc/{pid}/fd/{fd}")).unwrap().mode();
        // A terminal that was opened by its name may be.
        let large = rustix::fs::OFlags::LARGEFILE.bits() as i32;
        // And the file itself was opened to be close-on-exec, or not.
        let of_child = |(fd, open): (i32, Open)| {
            (fd, (kind(&pid.to_string(), fd), open.flags & !large & !libc::O_CLOEXEC))
        };
        let ends = child.channels().map(|name| {
            let end = child.end(name).unwrap();
            let flags = rustix::fs::fcntl_getfl(end).unwrap().bits() as i32;
            let own = rustix::io::fcntl_getfd(end).unwrap().bits() as i32;
            (format!("{name}"), rustix::fs::fstat(end).unwrap().st_mode, flags | own << 28)
        });
        Self {
            program: (program.dev(), program.ino()),
            fds: fds_of(pid).into_iter().map(of_child).collect(),
            signals: ["SigBlk", "SigIgn", "SigCgt"].map(|set| signal_set(pid, set)),
            ends: ends.collect(),
        }
    }
}

/// How much memory is mapped, but for the heap and stacks that grow by themselves.
pub(crate) fn mapped() -> u64 {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let size = |line: &str| {
        let (range, rest) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        match rest.ends_with("[heap]") || rest.ends_with("[stack]") {
            true => 0,
            false => to - from,
        }
    };
    maps.lines().map(size).sum()
}
