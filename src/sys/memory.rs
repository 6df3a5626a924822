//! The memory that a spawn needs: the child's stack, and the word in which it
//! reports.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use core::sync::atomic::AtomicU64;

use super::shelf::Shelf;
use super::{Errno, check, last_errno};
use crate::limits::{CHILD_STACK_SIZE, KEPT_STACKS_MAX};

/// Bytes at the top for the report's word, and below it for what the child is to
/// do: whole cache lines, so that the stack's top stays aligned.
const WORD_ROOM: usize = 64;
pub(crate) const JOB_ROOM: usize = 192;

/// Regions that nobody uses just now, for any thread: mapping one and touching its
/// pages is a sixth of a spawn that prepares too. They stay mapped.
static KEPT: Shelf<KEPT_STACKS_MAX> = Shelf::new();

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
    /// One that nobody uses any more, or a new one. What is in it is not zero. An
    /// error names the call that failed.
    pub(crate) fn get() -> Result<Self, (&'static str, Errno)> {
        let kept = KEPT.take().map(|base| Self { base, page: page_size() });
        kept.map_or_else(Self::map, Ok)
    }

    /// Maps a new one. Two syscalls; the pages come when they are touched.
    fn map() -> Result<Self, (&'static str, Errno)> {
        let page = page_size();
        let base = map(page + CHILD_STACK_SIZE, libc::MAP_PRIVATE).map_err(|e| ("mmap", e))?;
        // SAFETY: the lowest page of the mapping just made.
        if let Err(errno) = check(unsafe { libc::mprotect(base.as_ptr(), page, libc::PROT_NONE) }) {
            // One without a guard is not to be kept.
            // SAFETY: just made, and nobody has its address.
            unsafe { unmap(base, page + CHILD_STACK_SIZE) };
            return Err(("mprotect", errno));
        }
        Ok(Self { base, page })
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
        // The borrow of a spawn has ended, and with it the child's use of the memory.
        if let Err(base) = KEPT.keep(self.base) {
            // SAFETY: the whole mapping is ours, and nobody else has its address.
            unsafe { unmap(base, self.page + CHILD_STACK_SIZE) };
        }
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
        unsafe { unmap(self.base, self.page) };
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

/// Asks for huge pages for the whole pages of this memory. Advice: no byte changes, and
/// what the kernel can't do it leaves.
pub(crate) fn prefer_huge_pages(memory: &mut [MaybeUninit<u8>]) {
    #[cfg(linux)]
    {
        let page = page_size();
        let ahead = memory.as_ptr().align_offset(page);
        if let Some(from_first) = memory.get_mut(ahead..) {
            let len = from_first.len() / page * page;
            // SAFETY: pages that the caller has, mutably, which stay mapped and keep
            // their contents: this advice says of what size they are to be.
            unsafe { libc::madvise(from_first.as_mut_ptr().cast(), len, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(linux))]
    let _ = memory;
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

/// # Safety
///
/// All of it is the caller's, from [`map`], and used by nobody.
unsafe fn unmap(base: NonNull<c_void>, len: usize) {
    // It fails for addresses alone that `map` does not give.
    // SAFETY: by this function's own contract.
    unsafe { libc::munmap(base.as_ptr(), len) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::array::from_fn;
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

    #[cfg(linux)]
    #[test]
    fn the_whole_pages_of_some_memory_are_to_be_huge_and_nothing_around_them() {
        extern crate std;
        let page = page_size();
        let base = map(8 * page, libc::MAP_PRIVATE).unwrap();
        // SAFETY: the mapping just made, of which nothing else is used.
        let memory: &mut [MaybeUninit<u8>] =
            unsafe { core::slice::from_raw_parts_mut(base.as_ptr().cast(), 8 * page) };
        // From within the second page to within the seventh.
        prefer_huge_pages(&mut memory[page + 1..7 * page - 1]);
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        // A mapping that is as its neighbour is one with it.
        let contains = |line: &str, address: usize| {
            let (begin, rest) = line.split_once('-')?;
            let (end, _) = rest.split_once(' ')?;
            let number = |hex| usize::from_str_radix(hex, 16).ok();
            Some((number(begin)?..number(end)?).contains(&address))
        };
        let is_huge = |at: usize| {
            let address = base.as_ptr().addr() + at * page;
            let mut lines = maps.lines();
            lines.find(|line| contains(line, address) == Some(true)).unwrap();
            let flags = lines.find_map(|line| line.strip_prefix("VmFlags:")).unwrap();
            flags.split(' ').any(|flag| flag == "hg")
        };
        // A kernel without them refuses the advice.
        let is_known = std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists();
        let pages: [bool; 8] = from_fn(is_huge);
        assert_eq!(pages, from_fn(|at| is_known && (2..6).contains(&at)));
        // SAFETY: as above.
        unsafe { unmap(base, 8 * page) };
    }

    #[test]
    fn regions_in_use_are_apart_and_no_more_are_kept_than_there_is_room_for() {
        for _ in 0..2 {
            let regions: [Region; KEPT_STACKS_MAX + 2] = from_fn(|_| Region::get().unwrap());
            for (at, region) in regions.iter().enumerate() {
                region.word().store(at as u64, Ordering::Relaxed);
            }
            for (at, region) in regions.iter().enumerate() {
                assert_eq!(region.word().load(Ordering::Relaxed), at as u64);
            }
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
