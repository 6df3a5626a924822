//! The parent's calls on fds: making channels, writing without `SIGPIPE`.

use core::ffi::{CStr, c_int};
use core::mem::MaybeUninit;

use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::fcntl_dupfd_cloexec;

use super::{Errno, signals};

/// A pipe, both ends CLOEXEC from birth: (reader, writer).
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    #[cfg(not(target_vendor = "apple"))]
    {
        Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
    }
    // No pipe2 there: a thread that forks between these calls leaks the ends.
    #[cfg(target_vendor = "apple")]
    {
        let (reader, writer) = rustix::pipe::pipe()?;
        rustix::io::ioctl_fioclex(&reader)?;
        rustix::io::ioctl_fioclex(&writer)?;
        Ok((reader, writer))
    }
}

/// A connected pair of Unix stream sockets, CLOEXEC from birth.
pub(crate) fn socket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    #[cfg(not(target_vendor = "apple"))]
    {
        Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
    }
    #[cfg(target_vendor = "apple")]
    {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None)?;
        rustix::io::ioctl_fioclex(&ours)?;
        rustix::io::ioctl_fioclex(&theirs)?;
        Ok((ours, theirs))
    }
}

/// Opens a file, CLOEXEC, never as a controlling terminal.
pub(crate) fn open(path: &CStr, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    loop {
        let opened = rustix::fs::open(path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, mode);
        if opened.as_ref().err() != Some(&rustix::io::Errno::INTR) {
            return Ok(opened?);
        }
    }
}

/// `EBADF` if the fd is closed: the standard ones may be, whatever their type
/// says.
pub(crate) fn check_open(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::io::fcntl_getfd(fd)?;
    Ok(())
}

/// `/dev/null`, at a number that is not 0, 1 or 2: those may be closed, and are
/// not to seem open because of us.
pub(crate) fn open_null() -> Result<OwnedFd, Errno> {
    let null = open(c"/dev/null", OFlags::RDWR, Mode::empty())?;
    match rustix::fd::AsRawFd::as_raw_fd(&null) {
        0..3 => Ok(fcntl_dupfd_cloexec(null, 3)?),
        _ => Ok(null),
    }
}

/// An fd of no use but to hold its number, which is `lowest` or above. The call
/// that failed comes with its errno.
pub(crate) fn reserve(lowest: i32) -> Result<OwnedFd, (&'static str, Errno)> {
    let (any, _) = pipe().map_err(|errno| ("pipe2", errno))?;
    fcntl_dupfd_cloexec(any, lowest).map_err(|errno| ("fcntl F_DUPFD_CLOEXEC", errno.into()))
}

/// Sets `O_NONBLOCK` on an end that we made and keep.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    Ok(rustix::io::ioctl_fionbio(fd, true)?)
}

/// Takes `O_NONBLOCK` off an end that we made, for who gets it back.
pub(crate) fn set_blocking(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    Ok(rustix::io::ioctl_fionbio(fd, false)?)
}

/// Another fd for the same open file, CLOEXEC.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    Ok(fcntl_dupfd_cloexec(fd, 0)?)
}

/// The soft limit on fd numbers, or `i32::MAX` for none, also where a filter lets
/// nobody ask: then a number above it is an error of the step that takes it.
pub(crate) fn limit() -> i32 {
    limits().map_or(i32::MAX, |limits| as_number(limits.rlim_cur))
}

/// One more than the highest number at which an fd can be, as far as the slow
/// way of closing looks. The soft limit may have been lowered below open fds;
/// the hard one bounds it where nobody lowered that too.
pub(crate) fn highest() -> i32 {
    let hard = limits().map_or(i32::MAX, |limits| as_number(limits.rlim_max));
    hard.min(crate::limits::CLOSE_EACH_MAX)
}

/// By libc's call: rustix takes it for one that can't fail.
pub(super) fn limits_of(resource: c_int) -> Result<libc::rlimit, Errno> {
    let mut limits = MaybeUninit::<libc::rlimit>::zeroed();
    // SAFETY: writes the limits.
    super::check(unsafe { libc::getrlimit(resource as _, limits.as_mut_ptr()) })?;
    // SAFETY: all zero is valid too.
    Ok(unsafe { limits.assume_init() })
}

fn limits() -> Result<libc::rlimit, Errno> {
    limits_of(libc::RLIMIT_NOFILE as c_int)
}

fn as_number(limit: libc::rlim_t) -> i32 {
    // `RLIM_INFINITY` is more than that everywhere.
    i32::try_from(limit).unwrap_or(i32::MAX)
}

/// `close_range(first, last, CLOSE_RANGE_CLOEXEC)` of this process.
#[cfg(linux)]
pub(crate) fn mark_range(first: i32, last: Option<i32>) -> Result<(), Errno> {
    const CLOSE_RANGE_CLOEXEC: usize = 1 << 2;
    // The kernel looks at 32 bits of each.
    let last = last.map_or(u32::MAX as usize, |last| last as usize);
    // SAFETY: no pointers; marks, closes nothing.
    super::check(unsafe {
        libc::syscall(libc::SYS_close_range, first as usize, last, CLOSE_RANGE_CLOEXEC) as i32
    })
    .map(drop)
}

/// Linux's alone.
#[cfg(not(linux))]
pub(crate) fn mark_range(_first: i32, _last: Option<i32>) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

/// Opens `/proc/self/fd`.
pub(crate) fn open_listing() -> Result<OwnedFd, Errno> {
    open(c"/proc/self/fd", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}

/// The kind of a namespace, `CLONE_NEW*`, if the fd is that of one.
/// `NS_GET_NSTYPE`, Linux 4.11.
pub(crate) fn namespace_kind(fd: BorrowedFd<'_>) -> Option<u32> {
    #[cfg(linux)]
    {
        use rustix::fd::AsRawFd;
        const NS_GET_NSTYPE: libc::Ioctl = libc::_IO(0xb7, 3);
        // SAFETY: the request takes no argument. Another kind of file may know the
        // number, but no driver of Linux's has it.
        let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
        u32::try_from(kind).ok()
    }
    #[cfg(not(linux))]
    {
        let _ = fd;
        None
    }
}

/// Whether a file begins with `#!`. `None` if it can't be read by this fd.
pub(crate) fn is_script(fd: BorrowedFd<'_>) -> Option<bool> {
    let mut start = [0; 2];
    let read = rustix::io::pread(fd, &mut start, 0).ok()?;
    Some(read == 2 && start == *b"#!")
}

/// Whether it is a file that can be opened without waiting and without effects.
pub(crate) fn is_regular(fd: BorrowedFd<'_>) -> bool {
    let mode = rustix::fs::fstat(fd).map_or(0, |stat| stat.st_mode);
    rustix::fs::FileType::from_raw_mode(mode) == rustix::fs::FileType::RegularFile
}

/// Has a pipe hold at least so many bytes, if the kernel lets it; whether it held
/// fewer.
pub(crate) fn grow_pipe(fd: BorrowedFd<'_>, size: usize) -> Result<bool, Errno> {
    #[cfg(linux)]
    {
        let small = rustix::pipe::fcntl_getpipe_size(fd)? < size;
        if small {
            rustix::pipe::fcntl_setpipe_size(fd, size)?;
        }
        Ok(small)
    }
    #[cfg(not(linux))]
    {
        let _ = (fd, size);
        Ok(false)
    }
}

/// Reads once. `Ok(0)` is the end of file.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    Ok(rustix::io::read(fd, buffer)?)
}

/// Writes all to a file.
pub(crate) fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Writes one byte to a pipe whose reader waits for it.
pub(crate) fn write_byte(fd: &OwnedFd) -> Result<(), Errno> {
    use rustix::fd::AsFd;
    PipeWriter::new().write(fd.as_fd(), &[0]).map(drop)
}

/// Half-closes a socket: the peer reads the end of file.
pub(crate) fn shutdown_write(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    Ok(rustix::net::shutdown(fd, rustix::net::Shutdown::Write)?)
}

/// Writes to a socket what there is room for, whatever its flags say of blocking;
/// a peer that is gone is `EPIPE` and no signal.
pub(crate) fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    use rustix::net::{SendFlags, send};
    #[cfg(not(target_vendor = "apple"))]
    {
        Ok(send(fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
    }
    #[cfg(target_vendor = "apple")]
    {
        signals::without_sigpipe(|| Ok(send(fd, bytes, SendFlags::DONTWAIT)?))
    }
}

/// Reads from a socket what there is, whatever its flags say of blocking.
pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    Ok(rustix::net::recv(fd, buffer, rustix::net::RecvFlags::DONTWAIT)?.0)
}

/// Writes once, where no reader can be gone: to a terminal or a file.
pub(crate) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    Ok(rustix::io::write(fd, bytes)?)
}

/// How writes to pipes keep `SIGPIPE` away. Starts with the kernel's flag and
/// goes over to the signal mask when the kernel does not know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PipeWriter {
    by_flag: bool,
}

impl PipeWriter {
    pub(crate) fn new() -> Self {
        Self { by_flag: true }
    }

    /// The way without the flag, for tests on a kernel that has it.
    #[cfg(test)]
    pub(crate) fn by_mask() -> Self {
        Self { by_flag: false }
    }

    /// Writes to a pipe; a reader that is gone is `EPIPE` and no signal.
    pub(crate) fn write(&mut self, fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
        if self.by_flag {
            match write_nosignal(fd, bytes) {
                // EOPNOTSUPP: a kernel before 6.18. The others: before 4.6, or
                // a filter.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
                    self.by_flag = false;
                }
                result => return result,
            }
        }
        signals::without_sigpipe(|| Ok(rustix::io::write(fd, bytes)?))
    }
}

/// `pwritev2` with `RWF_NOSIGNAL`, at the current offset as pipes want it.
#[cfg(linux)]
fn write_nosignal(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    use rustix::fd::AsRawFd;
    const RWF_NOSIGNAL: libc::c_long = 0x100;
    const NO_OFFSET: libc::c_long = -1;
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the kernel reads one iovec and the bytes that it names. The
    // offset comes in two halves.
    let written = unsafe {
        libc::syscall(
            libc::SYS_pwritev2,
            libc::c_long::from(fd.as_raw_fd()),
            &raw const part,
            1usize,
            NO_OFFSET,
            NO_OFFSET,
            RWF_NOSIGNAL,
        )
    };
    if written < 0 { Err(super::last_errno()) } else { Ok(written as usize) }
}

/// Linux's alone.
#[cfg(not(linux))]
fn write_nosignal(_fd: BorrowedFd<'_>, _bytes: &[u8]) -> Result<usize, Errno> {
    Err(Errno::NOSYS)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use rustix::fd::AsFd;

    /// Sets SIGPIPE to its default in a child process of the test's own: the
    /// test binary is run again, for this test alone.
    fn with_default_sigpipe(name: &str, body: impl FnOnce()) {
        const KEY: &str = "FORKPLAN_TEST_SIGPIPE";
        if std::env::var_os(KEY).is_some() {
            // SAFETY: no handler of anybody's is in the way; Rust's runtime has
            // set the signal to be ignored.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            return body();
        }
        let own = std::env::current_exe().unwrap();
        let status = std::process::Command::new(own)
            .args(["--exact", name, "--nocapture"])
            .env(KEY, "1")
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
    }

    #[test]
    fn a_write_to_a_pipe_without_reader_is_epipe_and_no_signal() {
        with_default_sigpipe(
            "sys::fd::tests::a_write_to_a_pipe_without_reader_is_epipe_and_no_signal",
            || {
                for mut writer in [PipeWriter::new(), PipeWriter::by_mask()] {
                    let (reader, end) = pipe().unwrap();
                    assert_eq!(writer.write(end.as_fd(), b"abc"), Ok(3));
                    drop(reader);
                    assert_eq!(writer.write(end.as_fd(), b"abc"), Err(Errno::PIPE));
                    assert_eq!(writer.write(end.as_fd(), b"abc"), Err(Errno::PIPE));
                }
            },
        );
    }

    #[test]
    fn a_send_to_a_socket_without_peer_is_epipe_and_no_signal() {
        with_default_sigpipe(
            "sys::fd::tests::a_send_to_a_socket_without_peer_is_epipe_and_no_signal",
            || {
                let (ours, theirs) = socket_pair().unwrap();
                assert_eq!(send(ours.as_fd(), b"abc"), Ok(3));
                drop(theirs);
                assert_eq!(send(ours.as_fd(), b"abc"), Err(Errno::PIPE));
            },
        );
    }

    #[test]
    fn control_a_plain_write_to_a_pipe_without_reader_kills() {
        const KEY: &str = "FORKPLAN_TEST_SIGPIPE_CONTROL";
        if std::env::var_os(KEY).is_some() {
            // SAFETY: as above.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            let (reader, end) = pipe().unwrap();
            drop(reader);
            let _ = rustix::io::write(&end, b"abc");
            return;
        }
        use std::os::unix::process::ExitStatusExt;
        let own = std::env::current_exe().unwrap();
        let name = "sys::fd::tests::control_a_plain_write_to_a_pipe_without_reader_kills";
        let output =
            std::process::Command::new(own).args(["--exact", name]).env(KEY, "1").output().unwrap();
        assert_eq!(output.status.signal(), Some(libc::SIGPIPE));
    }
}
