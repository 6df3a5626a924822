//! The memory that a spawn needs: the child's stack, and the page in which it
//! reports.

use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::sync::atomic::AtomicU64;

use super::{Errno, check, last_errno};
use crate::limits::CHILD_STACK_SIZE;

/// One mapping: a guard page that may not be touched, the stack above it, and
/// above that a page that stays shared when the rest is copied by a fork.
///
/// A spawn borrows its owner mutably from start to end, so no two children use
/// one stack.
#[derive(Debug)]
pub(crate) struct Region {
    base: NonNull<c_void>,
    page: usize,
}

// SAFETY: the mapping belongs to the region alone, and nothing in it refers to
// a thread. Through `&Region` only the report's atomic is reached.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Maps a new one. Three syscalls; the pages come when they are touched.
    pub(crate) fn map() -> Result<Self, Errno> {
        let page = page_size();
        let len = page + CHILD_STACK_SIZE + page;
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { map(ptr::null_mut(), len, libc::PROT_NONE, anonymous)? };
        // From here on `drop` unmaps.
        let region = Self { base, page };
        let usable = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the stack's part of the mapping just made.
        check(unsafe { libc::mprotect(region.at(page), CHILD_STACK_SIZE, usable) })?;
        let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: replaces the last page of the mapping just made.
        unsafe { map(region.at(page + CHILD_STACK_SIZE), page, usable, shared)? };
        Ok(region)
    }

    fn at(&self, offset: usize) -> *mut c_void {
        self.base.as_ptr().wrapping_byte_add(offset)
    }

    /// The stack's lowest address. It grows down from
    /// [`stack_top`](Self::stack_top).
    #[cfg(raw_syscalls)]
    pub(crate) fn stack(&self) -> *mut c_void {
        self.at(self.page)
    }

    /// The address above the stack, aligned to a page.
    #[cfg(raw_syscalls)]
    pub(crate) fn stack_top(&self) -> *mut c_void {
        self.at(self.page + CHILD_STACK_SIZE)
    }

    /// The word in the shared page. A new one is zero.
    pub(crate) fn report(&self) -> &AtomicU64 {
        let word = self.at(self.page + CHILD_STACK_SIZE).cast::<AtomicU64>();
        // SAFETY: the page is mapped readable and writable as long as `self`,
        // aligned, and used for nothing else. The child in another process
        // reaches the same word by atomic stores alone.
        unsafe { &*word }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let len = self.page + CHILD_STACK_SIZE + self.page;
        // SAFETY: the whole mapping is ours; the borrow of a spawn has ended,
        // and with it the child's use of the memory.
        unsafe { libc::munmap(self.base.as_ptr(), len) };
    }
}

/// From libc: rustix looks for it in the kernel's auxiliary vector, and on the
/// way reads the vDSO, which valgrind does not map.
fn page_size() -> usize {
    // SAFETY: no pointers.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    // POSIX lets no system be without one.
    usize::try_from(size).unwrap_or(4096)
}

/// # Safety
///
/// As for `mmap`: with `MAP_FIXED`, the range is the caller's to replace.
unsafe fn map(
    at: *mut c_void,
    len: usize,
    protection: i32,
    flags: i32,
) -> Result<NonNull<c_void>, Errno> {
    // SAFETY: the caller's contract.
    let address = unsafe { libc::mmap(at, len, protection, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        return Err(last_errno());
    }
    NonNull::new(address).ok_or(Errno::NOMEM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::Ordering;

    #[test]
    fn a_new_report_is_zero_and_keeps_what_is_stored() {
        let region = Region::map().unwrap();
        assert_eq!(region.report().load(Ordering::Relaxed), 0);
        region.report().store(7, Ordering::Relaxed);
        assert_eq!(region.report().load(Ordering::Relaxed), 7);
    }

    #[cfg(raw_syscalls)]
    #[test]
    fn the_stack_can_be_written_from_end_to_end() {
        let region = Region::map().unwrap();
        let (low, top) = (region.stack().cast::<u8>(), region.stack_top().cast::<u8>());
        assert_eq!(top.addr() - low.addr(), CHILD_STACK_SIZE);
        // SAFETY: both bytes lie in the stack, which nobody uses.
        unsafe {
            low.write_volatile(1);
            top.sub(1).write_volatile(2);
            assert_eq!((low.read_volatile(), top.sub(1).read_volatile()), (1, 2));
        }
    }
}
