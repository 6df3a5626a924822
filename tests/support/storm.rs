//! A handler that knows in which process it runs, and a thread that has it run
//! as often as can be.

use core::ffi::c_int;
use core::ptr;
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

use forkplan::Features;

use super::beside;

/// The variable for how many children the long forms of storms make.
pub(crate) const SPAWNS: &str = "FORKPLAN_TEST_SPAWNS";

/// The kinds of child that differ in what could go wrong in a storm. Not the slowest
/// way of closing, which adds nothing but time.
pub(crate) const KINDS: [Features; 4] = [
    Features::empty(),
    Features::CLONE3,
    Features::SHARED_MEMORY,
    Features::all().difference(Features::PROC_FD),
];

/// How often the handler ran in another process than the one that set it. In
/// shared memory, so that a child with a copy of the rest counts here too.
static IN_CHILD: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
static IN_PARENT: AtomicU32 = AtomicU32::new(0);
static PARENT: AtomicI32 = AtomicI32::new(0);

fn in_child() -> &'static AtomicU32 {
    // SAFETY: `count_handlers` stored a mapping that stays for good.
    unsafe { &*IN_CHILD.load(Ordering::Relaxed) }
}

extern "C" fn count(_signal: c_int) {
    // SAFETY: no pointers; may be called in a handler.
    if unsafe { libc::getpid() } == PARENT.load(Ordering::Relaxed) {
        IN_PARENT.fetch_add(1, Ordering::Relaxed);
    } else {
        in_child().fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts `SIGUSR1` from here on, in a process group of this process's own.
pub(crate) fn count_handlers() {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let page = unsafe { libc::mmap(ptr::null_mut(), 4096, protection, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    IN_CHILD.store(page.cast(), Ordering::Relaxed);
    // SAFETY: no pointers.
    unsafe {
        PARENT.store(libc::getpid(), Ordering::Relaxed);
        assert_eq!(libc::setpgid(0, 0), 0);
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = count as extern "C" fn(c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, ptr::null_mut()), 0);
    }
}

/// Runs `body` while a thread sends `SIGUSR1` to the group, children included,
/// as fast as it can.
pub(crate) fn in_a_storm(body: impl FnOnce()) {
    let storm = || {
        // SAFETY: no pointers; the group is ours.
        unsafe { libc::kill(0, libc::SIGUSR1) };
    };
    beside(storm, body);
}

/// How often the handler ran in a process that is not the one that set it.
pub(crate) fn hits_in_children() -> u32 {
    in_child().load(Ordering::Relaxed)
}

/// And how often in the one that did.
pub(crate) fn hits_in_parent() -> u32 {
    IN_PARENT.load(Ordering::Relaxed)
}
