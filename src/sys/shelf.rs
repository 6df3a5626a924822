//! Stacks that nobody uses just now.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::memory::Region;

/// Keeps up to `N` regions for whoever comes next, for any number of threads,
/// without a lock.
#[derive(Debug)]
pub(crate) struct Shelf<const N: usize> {
    /// Each a region's base, or null.
    places: [AtomicPtr<c_void>; N],
}

impl<const N: usize> Shelf<N> {
    pub(crate) const fn new() -> Self {
        Self { places: [const { AtomicPtr::new(ptr::null_mut()) }; N] }
    }

    /// One that was kept, if there is one.
    pub(crate) fn take(&self) -> Option<Region> {
        self.places.iter().find_map(|place| {
            let base = ptr::NonNull::new(place.swap(ptr::null_mut(), Ordering::Acquire))?;
            // SAFETY: `keep` has put it there, and the swap has given it to
            // nobody else.
            Some(unsafe { Region::from_base(base) })
        })
    }

    /// Keeps it, or unmaps it where there is no room.
    pub(crate) fn keep(&self, region: Region) {
        let base = region.into_base().as_ptr();
        let (release, relaxed) = (Ordering::Release, Ordering::Relaxed);
        let empty = |place: &AtomicPtr<c_void>| {
            place.compare_exchange(ptr::null_mut(), base, release, relaxed).is_ok()
        };
        if let (false, Some(base)) = (self.places.iter().any(empty), ptr::NonNull::new(base)) {
            // SAFETY: taken apart above, and put nowhere.
            drop(unsafe { Region::from_base(base) });
        }
    }
}

impl<const N: usize> Drop for Shelf<N> {
    fn drop(&mut self) {
        while self.take().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_once_and_what_has_no_room_is_unmapped() {
        let shelf = Shelf::<2>::new();
        assert!(shelf.take().is_none());
        let regions = [(); 3].map(|()| Region::map().unwrap());
        let tops = regions.each_ref().map(Region::stack_top);
        regions.into_iter().for_each(|region| shelf.keep(region));
        let back = [shelf.take().unwrap(), shelf.take().unwrap()];
        assert_eq!(back.each_ref().map(Region::stack_top), tops[..2]);
        assert!(shelf.take().is_none());
        // Usable, and the third is gone: only these are unmapped now.
        back.iter().for_each(|region| region.word().store(1, Ordering::Relaxed));
    }

    #[test]
    fn threads_never_hold_the_same_region() {
        extern crate std;
        let shelf = Shelf::<3>::new();
        std::thread::scope(|scope| {
            for thread in 1..=8 {
                let shelf = &shelf;
                scope.spawn(move || {
                    for _ in 0..500 {
                        let region = shelf.take().unwrap_or_else(|| Region::map().unwrap());
                        region.word().store(thread, Ordering::Relaxed);
                        std::thread::yield_now();
                        assert_eq!(region.word().load(Ordering::Relaxed), thread);
                        shelf.keep(region);
                    }
                });
            }
        });
    }
}
