//! Which children this process has, and in whose session each is. Asks and takes
//! nobody's status.

use core::ffi::c_int;

use super::{Errno, check};

/// Whether what is orphaned below this process is given to it: it is a child
/// subreaper, or the first of its pid namespace.
pub(crate) fn takes_orphans() -> bool {
    #[cfg(linux)]
    {
        let mut is_subreaper: c_int = 0;
        // SAFETY: the kernel writes one int.
        let asked = check(unsafe {
            libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut is_subreaper, 0, 0, 0)
        });
        super::process::own_pid() == 1 || asked.is_ok() && is_subreaper != 0
    }
    #[cfg(not(linux))]
    {
        false
    }
}

/// The session that a process is in. By its number: the process may be another's
/// as soon as somebody has reaped it.
pub(crate) fn session_of(pid: c_int) -> Result<c_int, Errno> {
    // SAFETY: no pointers.
    check(unsafe { libc::getsid(pid) })
}

/// Whether the children can be listed here: there is a `/proc`, with this process
/// under its own number, and the kernel has `CONFIG_PROC_CHILDREN`. The error is one
/// that does not tell.
pub(crate) fn lists_children() -> Result<bool, Errno> {
    #[cfg(linux)]
    {
        linux::lists_children()
    }
    #[cfg(not(linux))]
    {
        Ok(false)
    }
}

/// Calls `each` with every child of each thread of this process. Where some are
/// reaped or a thread ends meanwhile, others may be left out; a list that is the
/// same twice has left out none that was there all the time.
pub(crate) fn each_child(each: impl FnMut(c_int)) -> Result<(), Errno> {
    #[cfg(linux)]
    {
        linux::each_child(each)
    }
    #[cfg(not(linux))]
    {
        let _ = each;
        Err(Errno::NOSYS)
    }
}

#[cfg(linux)]
mod linux {
    use core::ffi::{CStr, c_int};
    use core::mem::MaybeUninit;

    use rustix::fd::{AsFd, OwnedFd};
    use rustix::fs::{Mode, OFlags, RawDir, openat};

    use super::super::{Errno, fd, proc};
    use crate::limits::DIRENT_BUFFER_SIZE;

    const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

    pub(super) fn lists_children() -> Result<bool, Errno> {
        if proc::is_ours() != Ok(true) {
            return Ok(false);
        }
        match fd::open(c"/proc/thread-self/children", OFlags::RDONLY, Mode::empty()) {
            Err(Errno::NOENT) => Ok(false),
            opened => opened.map(|_| true),
        }
    }

    pub(super) fn each_child(mut each: impl FnMut(c_int)) -> Result<(), Errno> {
        let threads = fd::open(c"/proc/self/task", DIRECTORY, Mode::empty())?;
        let mut buffer = [MaybeUninit::uninit(); DIRENT_BUFFER_SIZE];
        let mut entries = RawDir::new(&threads, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            if entry.file_name().to_bytes().first().is_some_and(u8::is_ascii_digit) {
                match children_of(&threads, entry.file_name(), &mut each) {
                    // The thread has ended, and others have its children.
                    Err(Errno::NOENT | Errno::SRCH) => {}
                    listed => listed?,
                }
            }
        }
        Ok(())
    }

    fn children_of(
        threads: &OwnedFd,
        thread: &CStr,
        each: &mut impl FnMut(c_int),
    ) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let thread = openat(threads, thread, DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let list = openat(&thread, c"children", flags, Mode::empty())?;
        let mut numbers = Numbers::default();
        let mut buffer = [0; 1024];
        loop {
            match fd::read(list.as_fd(), &mut buffer) {
                Ok(0) => return Ok(()),
                Ok(len) => {
                    let found = buffer[..len].iter().filter_map(|&byte| numbers.next(byte));
                    found.for_each(&mut *each);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Numbers with a blank after each, as they come.
    #[derive(Default)]
    struct Numbers(Option<c_int>);

    impl Numbers {
        fn next(&mut self, byte: u8) -> Option<c_int> {
            if !byte.is_ascii_digit() {
                return self.0.take();
            }
            let digit = c_int::from(byte - b'0');
            self.0 = Some(self.0.unwrap_or(0).saturating_mul(10).saturating_add(digit));
            None
        }
    }

    #[cfg(test)]
    mod tests {
        extern crate std;
        use super::*;
        use std::vec::Vec;

        #[test]
        fn numbers_are_read_whatever_a_read_cuts_in_two() {
            let mut numbers = Numbers::default();
            let found: Vec<c_int> =
                b"12 345  6 78".iter().filter_map(|&b| numbers.next(b)).collect();
            assert_eq!(found, [12, 345, 6]);
            assert_eq!(numbers.next(b' '), Some(78));
        }

        #[test]
        fn a_child_is_listed_whichever_thread_has_it() {
            assert!(lists_children().unwrap());
            let spawn = || {
                std::process::Command::new("cat")
                    .stdin(std::process::Stdio::piped())
                    .spawn()
                    .unwrap()
            };
            let mut children = std::vec![spawn()];
            std::thread::scope(|scope| {
                let (started, heard) = std::sync::mpsc::channel();
                let (over, wait) = std::sync::mpsc::channel::<()>();
                scope.spawn(move || {
                    started.send(spawn()).unwrap();
                    let _ = wait.recv();
                });
                children.push(heard.recv().unwrap());
                // Other tests have children that come and go meanwhile.
                let is_listed = |pid: u32| {
                    (0..100).any(|_| {
                        let mut found = false;
                        each_child(|child| found |= child as u32 == pid).unwrap();
                        found
                    })
                };
                for child in &children {
                    assert!(is_listed(child.id()), "{}", child.id());
                }
                drop(over);
            });
            for mut child in children {
                drop(child.stdin.take());
                child.wait().unwrap();
            }
        }
    }
}
