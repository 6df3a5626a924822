//! What Linux's `/proc` knows of a child. Allocates nothing.

#[cfg(linux)]
use core::ffi::CStr;
use core::ffi::c_int;

use super::Errno;

/// The kernel's flag `PF_FORKNOEXEC`, from `/proc/PID/stat`.
#[cfg(linux)]
pub(super) fn forked_without_exec(pid: c_int) -> Option<bool> {
    use rustix::fs::{Mode, OFlags};

    const PF_FORKNOEXEC: u64 = 0x40;
    let mut room = [0; PATH_SIZE];
    let path = path_of(pid, "stat", &mut room).ok()?;
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut line = [0; 1024];
    let len = rustix::io::read(&file, &mut line).ok()?;
    // The name, in parentheses, may hold any byte; the flags are the seventh
    // field after it.
    let after = line[..len].rsplit(|&byte| byte == b')').next()?;
    let flags = after.split(|&byte| byte == b' ').nth(7)?;
    let flags: u64 = core::str::from_utf8(flags).ok()?.parse().ok()?;
    Some(flags & PF_FORKNOEXEC != 0)
}

#[cfg(not(linux))]
pub(super) fn forked_without_exec(_pid: c_int) -> Option<bool> {
    None
}

/// Writes a file of a process in `/proc`, which takes the text whole or not at
/// all.
pub(crate) fn write_to_proc(pid: c_int, name: &str, text: &str) -> Result<(), Errno> {
    #[cfg(linux)]
    {
        use rustix::fs::{Mode, OFlags};

        let mut room = [0; PATH_SIZE];
        let path = path_of(pid, name, &mut room)?;
        let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(rustix::io::write(&file, text.as_bytes()).map(drop)?)
    }
    #[cfg(not(linux))]
    {
        let _ = (pid, name, text);
        Err(Errno::NOSYS)
    }
}

/// What `/proc/PID/` and a name of up to 13 bytes take.
#[cfg(linux)]
const PATH_SIZE: usize = 32;

/// `/proc/PID/name`. `ENOENT` where that would be somebody else's.
#[cfg(linux)]
fn path_of<'a>(pid: c_int, name: &str, room: &'a mut [u8; PATH_SIZE]) -> Result<&'a CStr, Errno> {
    let path = if is_ours()? { joined(pid, name, room) } else { None };
    path.ok_or(Errno::NOENT)
}

#[cfg(linux)]
fn joined<'a>(pid: c_int, name: &str, room: &'a mut [u8; PATH_SIZE]) -> Option<&'a CStr> {
    let mut digits = [0; 11];
    let digits = in_digits(pid, &mut digits)?;
    let mut at = 0;
    for part in [b"/proc/", digits, b"/", name.as_bytes(), b"\0"] {
        room.get_mut(at..at + part.len())?.copy_from_slice(part);
        at += part.len();
    }
    CStr::from_bytes_until_nul(room).ok()
}

/// Whether `/proc` has this process under its own number. In a pid namespace whose
/// `/proc` is still that of the one around it, numbers there mean others.
#[cfg(linux)]
pub(super) fn is_ours() -> Result<bool, Errno> {
    let (mut room, mut own) = ([core::mem::MaybeUninit::uninit(); PATH_SIZE], [0; 11]);
    let (link, _) = rustix::fs::readlinkat_raw(rustix::fs::CWD, c"/proc/self", &mut room)?;
    Ok(in_digits(super::process::own_pid(), &mut own) == Some(link))
}

#[cfg(linux)]
fn in_digits(number: c_int, room: &mut [u8; 11]) -> Option<&[u8]> {
    // SAFETY: eleven bytes.
    unsafe { super::decimal::write(number.unsigned_abs(), room.as_mut_ptr()) };
    room.split(|&byte| byte == 0).next()
}

/// Whether the next child of this thread will be the first process of a new pid
/// namespace: one that was made by `unshare(CLONE_NEWPID)`, and into which no child
/// was born. Its file is there then, and leads nowhere yet.
#[cfg(raw_syscalls)]
pub(super) fn next_child_is_init() -> bool {
    use rustix::fs::{AtFlags, CWD, statat};
    let file = c"/proc/thread-self/ns/pid_for_children";
    statat(CWD, file, AtFlags::SYMLINK_NOFOLLOW).is_ok()
        && statat(CWD, file, AtFlags::empty()).err() == Some(rustix::io::Errno::NOENT)
}
