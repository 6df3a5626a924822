//! Bytes that wait to be written to one channel: a bounded queue.

extern crate std;

use std::collections::VecDeque;

use crate::limits::HIGH_WATER;

/// A queue that takes no more once it holds `high_water` bytes.
#[derive(Debug)]
pub(super) struct Outbox {
    bytes: VecDeque<u8>,
    high_water: usize,
    /// Somebody was refused bytes and is owed a notice.
    refused: bool,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { bytes: VecDeque::new(), high_water: HIGH_WATER, refused: false }
    }

    pub(super) fn set_high_water(&mut self, bytes: usize) {
        self.high_water = bytes;
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether room for a write is waited for: to write what is queued, or to
    /// tell who was refused bytes though nothing is queued, as with a high-water
    /// mark of 0.
    pub(super) fn wants_room(&self) -> bool {
        self.refused || !self.is_empty()
    }

    /// Queues a beginning of `bytes`; how many were taken.
    pub(super) fn offer(&mut self, bytes: &[u8]) -> usize {
        let room = self.high_water.saturating_sub(self.bytes.len());
        let taken = room.min(bytes.len());
        self.bytes.extend(&bytes[..taken]);
        self.refused |= taken < bytes.len();
        taken
    }

    /// The next bytes to write, as many as lie together.
    pub(super) fn front(&self) -> &[u8] {
        self.bytes.as_slices().0
    }

    /// The first `written` bytes are done with.
    pub(super) fn advance(&mut self, written: usize) {
        self.bytes.drain(..written);
    }

    /// Whether it is empty and somebody has to be told. Asked once.
    pub(super) fn take_drained(&mut self) -> bool {
        self.is_empty() && core::mem::take(&mut self.refused)
    }

    /// Forgets all; how many bytes that were.
    pub(super) fn clear(&mut self) -> usize {
        let lost = self.bytes.len();
        // The memory goes too: nothing is queued here again.
        self.bytes = VecDeque::new();
        self.refused = false;
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn it_takes_no_more_than_the_high_water_mark_and_then_owes_a_notice() {
        let mut outbox = Outbox::new();
        outbox.set_high_water(4);
        assert_eq!(outbox.offer(b"abc"), 3);
        assert!(!outbox.take_drained());
        assert_eq!(outbox.offer(b"def"), 1);
        assert_eq!(outbox.offer(b"ef"), 0);
        outbox.advance(3);
        assert!(!outbox.take_drained(), "not empty yet");
        outbox.advance(1);
        assert!(outbox.take_drained());
        assert!(!outbox.take_drained(), "told once");
    }

    #[test]
    fn a_notice_is_owed_only_to_who_was_refused() {
        let mut outbox = Outbox::new();
        assert_eq!(outbox.offer(b"abc"), 3);
        outbox.advance(3);
        assert!(!outbox.take_drained());
    }

    #[test]
    fn a_queue_that_takes_nothing_still_owes_a_notice_when_there_is_room() {
        let mut outbox = Outbox::new();
        outbox.set_high_water(0);
        assert!(!outbox.wants_room());
        assert_eq!(outbox.offer(b"abc"), 0);
        assert!(outbox.wants_room());
        assert!(outbox.take_drained());
        assert!(!outbox.wants_room());
    }

    proptest! {
        #[test]
        fn bytes_come_out_as_they_went_in(
            parts in proptest::collection::vec((any::<Vec<u8>>(), 0usize..200), 0..50),
            high_water in 1usize..300,
        ) {
            let mut outbox = Outbox::new();
            outbox.set_high_water(high_water);
            let (mut put, mut got) = (Vec::new(), Vec::new());
            for (bytes, write) in parts {
                let taken = outbox.offer(&bytes);
                put.extend_from_slice(&bytes[..taken]);
                prop_assert!(outbox.len() <= high_water);
                let written = write.min(outbox.front().len());
                got.extend_from_slice(&outbox.front()[..written]);
                outbox.advance(written);
            }
            while !outbox.is_empty() {
                let front = outbox.front().len();
                got.extend_from_slice(outbox.front());
                outbox.advance(front);
            }
            prop_assert_eq!(put, got);
        }
    }
}
