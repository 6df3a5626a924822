//! Names of users, looked up in the parent before the fork.

extern crate std;

use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::ptr;
use std::vec;
use std::vec::Vec;

use super::Errno;

/// What `/etc/passwd`, or whatever the system asks in its place, says of a user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// `getpwnam_r`. `ENOENT` if there is no such user.
pub(crate) fn user(name: &CStr) -> Result<User, Errno> {
    let mut buffer = vec![0u8; 1024];
    loop {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found = ptr::null_mut();
        // SAFETY: libc writes an entry and, into the buffer, its strings.
        let errno = unsafe {
            let (start, len) = (buffer.as_mut_ptr().cast(), buffer.len());
            libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), start, len, &mut found)
        };
        match errno {
            0 if found.is_null() => return Err(Errno::NOENT),
            // SAFETY: found, so the entry was written.
            0 => return Ok(unsafe { User { uid: (*found).pw_uid, gid: (*found).pw_gid } }),
            libc::ERANGE if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            // glibc's words for "no such user", besides 0.
            libc::ENOENT | libc::ESRCH => return Err(Errno::NOENT),
            errno => return Err(Errno::from_raw_os_error(errno)),
        }
    }
}

/// `getgrouplist`: the groups that a user is in, and `gid`.
pub(crate) fn groups(name: &CStr, gid: u32) -> Vec<u32> {
    let mut groups: Vec<u32> = vec![0; 32];
    loop {
        let mut count = groups.len() as i32;
        // SAFETY: libc writes `count` ids at most. Apple has `int` for both.
        let got = unsafe {
            libc::getgrouplist(name.as_ptr(), gid as _, groups.as_mut_ptr().cast(), &mut count)
        };
        if got >= 0 {
            groups.truncate(count as usize);
            return groups;
        }
        // Some systems don't say how many there are.
        let wanted = (count as usize).max(groups.len() * 2);
        groups.resize(wanted, 0);
    }
}
