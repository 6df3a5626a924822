//! Files in memory.

use rustix::fd::OwnedFd;

use super::Errno;

/// Whether there are such files.
pub(crate) const HAS_MEMFD: bool = cfg!(linux);

/// A file with these bytes and its offset at their beginning, which nobody can
/// change any more. The call that failed comes with its errno.
pub(crate) fn sealed(bytes: &[u8]) -> Result<OwnedFd, (&'static str, Errno)> {
    #[cfg(linux)]
    {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
        let failed = |call| move |errno: rustix::io::Errno| (call, Errno::from(errno));
        // A write beyond the limit on files would be a signal that kills us. Where a
        // filter lets nobody ask there is no limit, as for numbers of fds.
        let limits = super::fd::limits_of(libc::RLIMIT_FSIZE as core::ffi::c_int);
        if limits.is_ok_and(|limits| bytes.len() as u64 > limits.rlim_cur) {
            return Err(("pwrite to a memfd", Errno::FBIG));
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create(c"forkplan", flags).map_err(failed("memfd_create"))?;
        let mut at = 0;
        while at < bytes.len() {
            // At a place, so that the offset stays where it is.
            match rustix::io::pwrite(&file, &bytes[at..], at as u64) {
                Ok(0) => return Err(("pwrite to a memfd", Errno::IO)),
                Ok(written) => at += written,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(failed("pwrite to a memfd")(errno)),
            }
        }
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        fcntl_add_seals(&file, seals).map_err(failed("fcntl F_ADD_SEALS"))?;
        Ok(file)
    }
    #[cfg(not(linux))]
    {
        let _ = bytes;
        Err(("memfd_create", Errno::NOSYS))
    }
}
