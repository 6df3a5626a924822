//! The memory that a spawn needs: the child's stack, and the word in which it
//! reports.

use core::ffi::c_void;
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};
use core::sync::atomic::AtomicU64;

use super::{Errno, check, last_errno};
use crate::limits::CHILD_STACK_SIZE;

/// Bytes at the top for the report's word, and below it for what the child is to
/// do: whole cache lines, so that the stack's top stays aligned.
const WORD_ROOM: usize = 64;
pub(crate) const JOB_ROOM: usize = 192;

/// One mapping: a guard page that may not be touched, the stack above it, and at
/// its top what the child is to do and the word in which one that shares memory
/// reports.
///
/// Private, so that a fork of the program's own gives each side its own. A spawn
/// borrows or owns its owner from start to end, so no two children use one
/// stack. It is no Rust value that anybody moves, so what lies in it stays where
/// it is while its owner does not.
#[derive(Debug)]
pub(crate) struct Region {
    base: NonNull<c_void>,
    page: usize,
}

// SAFETY: the mapping belongs to the region alone, and nothing in it refers to
// a thread. Through `&Region` only the word's atomic is reached.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Maps a new one. Two syscalls; the pages come when they are touched.
    pub(crate) fn map() -> Result<Self, Errno> {
        let page = page_size();
        let base = map(page + CHILD_STACK_SIZE, libc::MAP_PRIVATE)?;
        // From here on `drop` unmaps.
        let region = Self { base, page };
        // SAFETY: the lowest page of the mapping just made.
        check(unsafe { libc::mprotect(region.at(0), page, libc::PROT_NONE) })?;
        Ok(region)
    }

    /// Gives the mapping up: from now on it belongs to whoever has the address.
    pub(crate) fn into_base(self) -> NonNull<c_void> {
        ManuallyDrop::new(self).base
    }

    /// Takes over what [`into_base`](Self::into_base) has given up.
    ///
    /// # Safety
    ///
    /// The address is of that function, and nobody else takes it over.
    pub(crate) unsafe fn from_base(base: NonNull<c_void>) -> Self {
        Self { base, page: page_size() }
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

    /// The address above the stack, aligned to 64 bytes.
    pub(crate) fn stack_top(&self) -> *mut c_void {
        self.at(self.page + CHILD_STACK_SIZE - WORD_ROOM - JOB_ROOM)
    }

    /// [`JOB_ROOM`] bytes above the stack, aligned as it is, for what the child is
    /// to do.
    pub(crate) fn job(&self) -> *mut c_void {
        self.stack_top()
    }

    /// The word above that: seen by both sides where memory is shared.
    pub(crate) fn word(&self) -> &AtomicU64 {
        // SAFETY: mapped readable and writable as long as `self`, aligned, and
        // used for nothing else. A child reaches it by atomic stores alone.
        unsafe { &*self.at(self.page + CHILD_STACK_SIZE - WORD_ROOM).cast() }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let len = self.page + CHILD_STACK_SIZE;
        // SAFETY: the whole mapping is ours; the borrow of a spawn has ended,
        // and with it the child's use of the memory.
        unsafe { libc::munmap(self.base.as_ptr(), len) };
    }
}

/// A word that stays shared with a child that has a copy of all else.
///
/// Made for one spawn: one that lived longer would be shared with every process
/// that the program forks for itself, and two spawns would report in it.
#[derive(Debug)]
pub(crate) struct SharedWord {
    base: NonNull<c_void>,
    page: usize,
}

// SAFETY: the mapping belongs to the word alone, and only its atomic is reached.
unsafe impl Send for SharedWord {}
// SAFETY: as above.
unsafe impl Sync for SharedWord {}

impl SharedWord {
    pub(crate) fn map() -> Result<Self, Errno> {
        let page = page_size();
        let base = map(page, libc::MAP_SHARED)?;
        Ok(Self { base, page })
    }

    pub(crate) fn word(&self) -> &AtomicU64 {
        // SAFETY: as for `Region::word`; the child in another process reaches
        // the same word by atomic stores alone.
        unsafe { &*self.base.as_ptr().cast() }
    }
}

impl Drop for SharedWord {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and the borrow of the spawn has ended.
        unsafe { libc::munmap(self.base.as_ptr(), self.page) };
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

/// A new mapping, all zero.
fn map(len: usize, sharing: i32) -> Result<NonNull<c_void>, Errno> {
    let usable = libc::PROT_READ | libc::PROT_WRITE;
    let flags = sharing | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let address = unsafe { libc::mmap(ptr::null_mut(), len, usable, flags, -1, 0) };
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
    fn a_new_word_is_zero_and_keeps_what_is_stored() {
        let (region, shared) = (Region::map().unwrap(), SharedWord::map().unwrap());
        for word in [region.word(), shared.word()] {
            assert_eq!(word.load(Ordering::Relaxed), 0);
            word.store(7, Ordering::Relaxed);
            assert_eq!(word.load(Ordering::Relaxed), 7);
        }
    }

    #[cfg(raw_syscalls)]
    #[test]
    fn the_stack_can_be_written_from_end_to_end() {
        let region = Region::map().unwrap();
        let (low, top) = (region.stack().cast::<u8>(), region.stack_top().cast::<u8>());
        assert_eq!(top.addr() - low.addr(), CHILD_STACK_SIZE - WORD_ROOM - JOB_ROOM);
        assert_eq!(top.addr() % 64, 0);
        region.word().store(u64::MAX, Ordering::Relaxed);
        // SAFETY: the room for the job, and both bytes in the stack, nobody uses.
        unsafe {
            region.job().cast::<[u8; JOB_ROOM]>().write_volatile([3; JOB_ROOM]);
            low.write_volatile(1);
            top.sub(1).write_volatile(2);
            assert_eq!((low.read_volatile(), top.sub(1).read_volatile()), (1, 2));
        }
        assert_eq!(region.word().load(Ordering::Relaxed), u64::MAX, "the word is above it");
    }
}
