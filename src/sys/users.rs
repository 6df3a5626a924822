//! Names of users, looked up in the parent before the fork.

use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::ptr;

use super::{Errno, last_errno};

/// What `/etc/passwd`, or whatever the system asks in its place, says of a user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// `getpwnam_r`, with room for the entry's strings. `None`: the room is too
/// small. `ENOENT`: there is no such user.
pub(crate) fn user(name: &CStr, room: &mut [u8]) -> Result<Option<User>, Errno> {
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let mut found = ptr::null_mut();
    // SAFETY: libc writes an entry and, into the room, its strings.
    let errno = unsafe {
        let (start, len) = (room.as_mut_ptr().cast(), room.len());
        libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), start, len, &mut found)
    };
    match errno {
        0 if found.is_null() => Err(Errno::NOENT),
        // SAFETY: found, so the entry was written.
        0 => Ok(Some(unsafe { User { uid: (*found).pw_uid, gid: (*found).pw_gid } })),
        libc::ERANGE => Ok(None),
        // glibc's words for "no such user", besides 0.
        libc::ENOENT | libc::ESRCH => Err(Errno::NOENT),
        errno => Err(Errno::from_raw_os_error(errno)),
    }
}

/// `getgrouplist`: the groups that a user is in, and `gid`; how many were
/// written. `None`: there are more than there is room for.
pub(crate) fn groups(name: &CStr, gid: u32, room: &mut [u32]) -> Result<Option<usize>, Errno> {
    let size = i32::try_from(room.len()).unwrap_or(i32::MAX);
    let mut count = size;
    // SAFETY: libc writes `count` ids at most. Apple has `int` for both.
    let got = unsafe {
        libc::getgrouplist(name.as_ptr(), gid as _, room.as_mut_ptr().cast(), &mut count)
    };
    match got {
        0.. => Ok(Some(count as usize)),
        // musl says the same of a file that it can't read, but that no more are wanted
        // than there is room for. Apple never says how many.
        _ if count <= size && !cfg!(target_vendor = "apple") => Err(last_errno()),
        _ => Ok(None),
    }
}
