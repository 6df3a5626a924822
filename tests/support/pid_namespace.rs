//! Numbers of processes that come round again: in a pid namespace, where nobody else
//! takes them.

use std::{fs, io, ptr};

/// Lets the next process have this number, if it is free.
pub(crate) fn next_pid(pid: u32) -> io::Result<()> {
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string())
}

/// This process's children, and theirs, in a pid namespace of their own, where
/// numbers come round again as often as one likes. `false` without privileges.
pub(crate) fn in_a_pid_namespace(body: impl FnOnce()) -> bool {
    // SAFETY: no pointers. The process is the test's own.
    if unsafe { libc::unshare(libc::CLONE_NEWPID | libc::CLONE_NEWNS) } != 0 {
        eprintln!("SKIPPED: no pid namespace without privileges");
        return false;
    }
    // SAFETY: this process has one thread that matters, the harness's other one
    // waits; the child leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let mount = |what: &str, flags| {
            let what = std::ffi::CString::new(what).unwrap();
            let target = if flags == 0 { c"/proc" } else { c"/" };
            // SAFETY: C strings, and no data.
            unsafe {
                libc::mount(what.as_ptr(), target.as_ptr(), what.as_ptr(), flags, ptr::null())
            }
        };
        // Not to be seen outside.
        assert_eq!(mount("none", libc::MS_REC | libc::MS_PRIVATE), 0);
        assert_eq!(mount("proc", 0), 0);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        // SAFETY: ends this process and all of the namespace.
        unsafe { libc::_exit(i32::from(result.is_err())) };
    }
    let mut status = 0;
    // SAFETY: writes the status of a child made here.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    true
}
