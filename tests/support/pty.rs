//! Terminals in tests: pairs made without the library, and reading to the end.

// Each test file uses a part of this.
#![allow(dead_code)]

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};

/// A master, its slave and the slave's path, made without the library.
pub(crate) fn pair() -> (OwnedFd, OwnedFd, String) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    let name = ptsname(&master, []).unwrap().into_string().unwrap();
    (master, slave, name)
}

/// All that is written to a terminal until nobody has it open, which is `EIO`.
pub(crate) fn read_to_eio(master: impl Into<OwnedFd>) -> String {
    let mut bytes = Vec::new();
    // What was read before the error stays.
    let error = File::from(master.into()).read_to_end(&mut bytes).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    String::from_utf8(bytes).unwrap()
}
