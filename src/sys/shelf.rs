//! Addresses of what nobody uses just now.

use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

/// Keeps up to `N` addresses for whoever comes next, for any number of threads,
/// without a lock. Who takes one has it alone.
#[derive(Debug)]
pub(crate) struct Shelf<const N: usize> {
    places: [AtomicPtr<c_void>; N],
}

impl<const N: usize> Shelf<N> {
    pub(crate) const fn new() -> Self {
        Self { places: [const { AtomicPtr::new(ptr::null_mut()) }; N] }
    }

    /// One that was kept, if there is one.
    pub(crate) fn take(&self) -> Option<NonNull<c_void>> {
        self.places
            .iter()
            // A load first: it leaves an empty place to all threads' caches.
            .filter(|place| !place.load(Ordering::Relaxed).is_null())
            .find_map(|place| NonNull::new(place.swap(ptr::null_mut(), Ordering::Acquire)))
    }

    /// Keeps it, unless there is no room: then it is still the caller's.
    pub(crate) fn keep(&self, address: NonNull<c_void>) -> Result<(), NonNull<c_void>> {
        let (release, relaxed) = (Ordering::Release, Ordering::Relaxed);
        let into = |place: &AtomicPtr<c_void>| {
            place.compare_exchange(ptr::null_mut(), address.as_ptr(), release, relaxed).is_ok()
        };
        if self.places.iter().any(into) { Ok(()) } else { Err(address) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU32;

    fn address(value: &AtomicU32) -> NonNull<c_void> {
        NonNull::from(value).cast()
    }

    #[test]
    fn what_is_kept_comes_back_once_and_what_has_no_room_is_the_callers() {
        let shelf = Shelf::<2>::new();
        let values = [const { AtomicU32::new(0) }; 3];
        let [first, second, third] = values.each_ref().map(address);
        assert_eq!(shelf.take(), None);
        assert_eq!(shelf.keep(first), Ok(()));
        assert_eq!(shelf.keep(second), Ok(()));
        assert_eq!(shelf.keep(third), Err(third));
        assert_eq!([shelf.take(), shelf.take(), shelf.take()], [Some(first), Some(second), None]);
        assert_eq!(shelf.keep(third), Ok(()));
        assert_eq!(shelf.take(), Some(third));
    }

    #[test]
    fn threads_never_hold_the_same_address() {
        extern crate std;
        let values = [const { AtomicU32::new(0) }; 4];
        let shelf = Shelf::<3>::new();
        // Three find room, of the fourth nobody hears any more.
        let kept = values.each_ref().map(|value| shelf.keep(address(value)).is_ok());
        assert_eq!(kept, [true, true, true, false]);
        std::thread::scope(|scope| {
            for thread in 1..=8 {
                let (shelf, values) = (&shelf, &values);
                scope.spawn(move || {
                    for _ in 0..500 {
                        let Some(taken) = shelf.take() else { continue };
                        let value = values.iter().find(|value| address(value) == taken).unwrap();
                        assert_eq!(value.swap(thread, Ordering::Relaxed), 0);
                        std::thread::yield_now();
                        assert_eq!(value.swap(0, Ordering::Relaxed), thread);
                        assert_eq!(shelf.keep(taken), Ok(()));
                    }
                });
            }
        });
    }
}
