//! What a loop without a library does: nonblocking fds, poll, `None` for
//! `EAGAIN`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Bytes of one read: a pipe's capacity.
pub const BLOCK: usize = 64 * 1024;

pub fn set_nonblocking(end: &impl AsRawFd) {
    let fd = end.as_raw_fd();
    // SAFETY: no pointers.
    let failed = unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) < 0
    };
    assert!(!failed, "{}", io::Error::last_os_error());
}

/// A pipe of `bytes`, as far as the system grants it.
pub fn set_pipe_size(end: &impl AsRawFd, bytes: usize) {
    // SAFETY: no pointers.
    unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETPIPE_SZ, bytes as libc::c_int) };
}

pub fn polled(fd: RawFd, events: i16) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// How many are ready.
pub fn poll(fds: &mut [libc::pollfd], timeout_ms: i32) -> usize {
    // SAFETY: the kernel writes their `revents`.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms) };
    usize::try_from(ready).expect("poll works")
}

/// One read; `None` if there is nothing for now.
pub fn read(mut from: &File, buffer: &mut [u8]) -> Option<usize> {
    would_block(from.read(buffer))
}

/// One write; `None` if there is no room for now.
pub fn write(mut to: &File, bytes: &[u8]) -> Option<usize> {
    would_block(to.write(bytes))
}

fn would_block(result: io::Result<usize>) -> Option<usize> {
    match result {
        Ok(len) => Some(len),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

pub fn file(end: Option<OwnedFd>) -> File {
    File::from(end.expect("a channel that was asked for"))
}
