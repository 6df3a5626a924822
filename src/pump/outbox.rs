//! What waits to be written to one channel: a bounded queue of bytes, with the
//! places where a write has to begin anew.

extern crate std;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::vec::Vec;

use super::flow::Account;
use crate::limits::HIGH_WATER;

/// A queue that takes no more once it holds `high_water` bytes.
#[derive(Debug)]
pub(super) struct Outbox {
    bytes: VecDeque<u8>,
    /// How the bytes are parted; their lengths make up all of them.
    parcels: VecDeque<Parcel>,
    high_water: usize,
    /// Who was refused is told when so much is left.
    low_water: usize,
    /// What others hold too, with what this does.
    child: Option<Arc<Account>>,
    total: Option<Arc<Account>>,
    /// Somebody was refused bytes, or has asked, and is owed a notice.
    owes_notice: bool,
}

/// Bytes that one write may have in common: a message, or what of a stream goes
/// with some fds and all that follows up to the next.
#[derive(Debug)]
struct Parcel {
    /// At least one.
    len: usize,
    /// They go with the first byte.
    fds: Vec<OwnedFd>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            bytes: VecDeque::new(),
            parcels: VecDeque::new(),
            high_water: HIGH_WATER,
            low_water: 0,
            child: None,
            total: None,
            owes_notice: false,
        }
    }

    pub(super) fn set_high_water(&mut self, bytes: usize) {
        self.high_water = bytes;
    }

    pub(super) fn set_low_water(&mut self, bytes: usize) {
        self.low_water = bytes;
    }

    /// Counts what is here in `account` too, from now on.
    pub(super) fn set_child_account(&mut self, account: &Arc<Account>) {
        join(&mut self.child, account, self.bytes.len());
    }

    pub(super) fn set_total_account(&mut self, account: &Arc<Account>) {
        join(&mut self.total, account, self.bytes.len());
    }

    fn accounts(&self) -> impl Iterator<Item = &Account> {
        [&self.child, &self.total].into_iter().flatten().map(|account| &**account)
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether room for a write is waited for: to write what is queued, or to
    /// tell who is owed a notice though nothing is queued, as with a high-water
    /// mark of 0.
    pub(super) fn wants_room(&self) -> bool {
        self.owes_notice || !self.is_empty()
    }

    /// Queues a beginning of `bytes`; how many were taken.
    pub(super) fn offer(&mut self, bytes: &[u8]) -> usize {
        let taken = self.room().min(bytes.len());
        self.bytes.extend(&bytes[..taken]);
        self.accounts().for_each(|account| account.add(taken));
        self.owes_notice |= taken < bytes.len();
        match self.parcels.back_mut() {
            Some(last) => last.len += taken,
            None if taken > 0 => self.parcels.push_back(Parcel { len: taken, fds: Vec::new() }),
            None => {}
        }
        taken
    }

    /// Queues a beginning of `bytes` apart from what was there, with all of
    /// `fds`; how many bytes were taken. The fds are left if none were.
    pub(super) fn offer_with(&mut self, bytes: &[u8], fds: &mut Vec<OwnedFd>) -> usize {
        let taken = self.room().min(bytes.len());
        self.owes_notice |= taken < bytes.len();
        if taken > 0 {
            self.bytes.extend(&bytes[..taken]);
            self.accounts().for_each(|account| account.add(taken));
            self.parcels.push_back(Parcel { len: taken, fds: core::mem::take(fds) });
        }
        taken
    }

    /// Queues a message, which is not empty, with its fds, or nothing of it.
    /// Whether it was queued.
    pub(super) fn offer_message(&mut self, bytes: &[u8], fds: &mut Vec<OwnedFd>) -> bool {
        let fits = bytes.len() <= self.room();
        match fits {
            true => drop(self.offer_with(bytes, fds)),
            false => self.owes_notice = true,
        }
        fits
    }

    fn room(&self) -> usize {
        let own = self.high_water.saturating_sub(self.bytes.len());
        self.accounts().map(Account::room).fold(own, usize::min)
    }

    /// The next bytes to write, as many of a stream as lie together, and the fds
    /// that go with the first of them.
    pub(super) fn front(&self) -> (&[u8], &[OwnedFd]) {
        let Some(parcel) = self.parcels.front() else { return (&[], &[]) };
        let together = self.bytes.as_slices().0;
        (&together[..parcel.len.min(together.len())], &parcel.fds)
    }

    /// Has the whole of the first parcel lie together: a message goes at once.
    pub(super) fn gather(&mut self) {
        if self.parcels.front().is_some_and(|p| p.len > self.bytes.as_slices().0.len()) {
            self.bytes.make_contiguous();
        }
    }

    /// The first `written` bytes are done with; they are of one parcel. Its fds
    /// are closed.
    pub(super) fn advance(&mut self, written: usize) {
        self.bytes.drain(..written);
        self.accounts().for_each(|account| account.take(written));
        let Some(parcel) = self.parcels.front_mut() else { return };
        parcel.len -= written;
        if parcel.len == 0 {
            self.parcels.pop_front();
        } else if written > 0 {
            parcel.fds.clear();
        }
    }

    /// Whether it is at its low-water mark.
    pub(super) fn is_low(&self) -> bool {
        self.bytes.len() <= self.low_water
    }

    /// As if somebody had been refused bytes.
    pub(super) fn owe_notice(&mut self) {
        self.owes_notice = true;
    }

    /// Whether it is at its low-water mark and somebody has to be told. Asked once.
    pub(super) fn take_drained(&mut self) -> bool {
        self.is_low() && core::mem::take(&mut self.owes_notice)
    }

    /// Forgets all, and closes fds that were to be sent; how many bytes that
    /// were.
    pub(super) fn clear(&mut self) -> usize {
        let lost = self.bytes.len();
        self.accounts().for_each(|account| account.take(lost));
        // The memory goes too: nothing is queued here again.
        self.bytes = VecDeque::new();
        self.parcels = VecDeque::new();
        self.owes_notice = false;
        lost
    }
}

fn join(place: &mut Option<Arc<Account>>, account: &Arc<Account>, queued: usize) {
    if place.is_none() {
        account.add(queued);
        *place = Some(account.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    fn the_notice_comes_at_the_low_water_mark() {
        let mut outbox = Outbox::new();
        outbox.set_high_water(4);
        outbox.set_low_water(2);
        assert_eq!(outbox.offer(b"abcde"), 4);
        outbox.advance(1);
        assert!(!outbox.take_drained());
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

    fn an_fd() -> Vec<OwnedFd> {
        [crate::sys::fd::pipe().unwrap().0].into()
    }

    #[test]
    fn fds_go_with_the_first_byte_of_what_they_were_given_with() {
        let mut outbox = Outbox::new();
        let (mut first, mut second) = (an_fd(), an_fd());
        assert_eq!(outbox.offer(b"ab"), 2);
        assert_eq!(outbox.offer_with(b"cd", &mut first), 2);
        assert_eq!(outbox.offer(b"ef"), 2);
        assert_eq!(outbox.offer_with(b"gh", &mut second), 2);
        assert!(first.is_empty() && second.is_empty());
        let mut parts = Vec::new();
        while !outbox.is_empty() {
            let (bytes, fds) = outbox.front();
            parts.push((bytes[..1].to_vec(), fds.len()));
            outbox.advance(1);
        }
        let expected = [("a", 0), ("b", 0), ("c", 1), ("d", 0), ("e", 0), ("f", 0)];
        let expected = expected.into_iter().chain([("g", 1), ("h", 0)]);
        let expected: Vec<_> = expected.map(|(b, count)| (b.as_bytes().to_vec(), count)).collect();
        assert_eq!(parts, expected);
    }

    #[test]
    fn a_notice_is_owed_for_refused_bytes_that_come_with_fds_too() {
        let mut outbox = Outbox::new();
        outbox.set_high_water(4);
        assert_eq!(outbox.offer_with(b"abcd", &mut an_fd()), 4);
        outbox.advance(4);
        assert!(!outbox.take_drained(), "all were taken");
        assert_eq!(outbox.offer_with(b"abcde", &mut an_fd()), 4);
        outbox.advance(4);
        assert!(outbox.take_drained());
    }

    #[test]
    fn a_message_around_the_end_of_the_queues_memory_is_gathered() {
        let mut outbox = Outbox::new();
        let mut was_apart = false;
        // The queue's memory is used in a circle, and no message divides it.
        for number in 0..200u8 {
            assert!(outbox.offer_message(&[number; 7], &mut Vec::new()));
            if number == 0 {
                continue;
            }
            was_apart |= outbox.front().0.len() < 7;
            outbox.gather();
            assert_eq!(outbox.front().0, [number - 1; 7]);
            outbox.advance(7);
        }
        assert!(was_apart, "there was something to gather");
    }

    #[test]
    fn fds_stay_with_their_bytes_if_nothing_was_written() {
        let mut outbox = Outbox::new();
        assert_eq!(outbox.offer_with(b"ab", &mut an_fd()), 2);
        outbox.advance(0);
        assert_eq!(outbox.front().1.len(), 1);
        outbox.advance(1);
        assert_eq!(outbox.front().1.len(), 0, "they went with the first byte");
    }

    #[test]
    fn a_notice_may_be_owed_to_who_was_not_refused() {
        let mut outbox = Outbox::new();
        assert!(!outbox.take_drained());
        outbox.owe_notice();
        assert!(outbox.wants_room() && outbox.take_drained());
    }

    #[test]
    fn what_was_refused_whole_stands_before_nothing() {
        let mut outbox = Outbox::new();
        outbox.set_high_water(0);
        assert_eq!(outbox.offer(b"refused"), 0);
        outbox.set_high_water(4);
        assert_eq!(outbox.offer_with(b"abcd", &mut an_fd()), 4);
        let (bytes, fds) = outbox.front();
        assert_eq!((bytes, fds.len()), (&b"abcd"[..], 1));
    }

    #[test]
    fn fds_that_are_not_taken_stay_with_who_gave_them() {
        let mut outbox = Outbox::new();
        outbox.set_high_water(1);
        let mut fds = an_fd();
        assert_eq!(outbox.offer(b"a"), 1);
        assert_eq!(outbox.offer_with(b"b", &mut fds), 0);
        assert!(!outbox.offer_message(b"b", &mut fds));
        assert_eq!(fds.len(), 1);
    }

    proptest! {
        #[test]
        fn messages_come_out_one_by_one_and_whole(
            messages in proptest::collection::vec(
                (proptest::collection::vec(any::<u8>(), 1..40), 0usize..3), 0..60),
            high_water in 1usize..100,
        ) {
            let mut outbox = Outbox::new();
            outbox.set_high_water(high_water);
            let (mut put, mut got) = (Vec::new(), Vec::new());
            for (message, sends) in messages {
                let fits = outbox.len() + message.len() <= high_water;
                prop_assert_eq!(outbox.offer_message(&message, &mut Vec::new()), fits);
                if fits {
                    put.push(message);
                }
                prop_assert!(outbox.len() <= high_water);
                for _ in 0..sends {
                    if !outbox.is_empty() {
                        outbox.gather();
                        got.push(outbox.front().0.to_vec());
                        let len = got.last().map_or(0, Vec::len);
                        outbox.advance(len);
                    }
                }
            }
            while !outbox.is_empty() {
                outbox.gather();
                got.push(outbox.front().0.to_vec());
                let len = got.last().map_or(0, Vec::len);
                outbox.advance(len);
            }
            prop_assert_eq!(put, got);
        }

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
                let written = write.min(outbox.front().0.len());
                got.extend_from_slice(&outbox.front().0[..written]);
                outbox.advance(written);
            }
            while !outbox.is_empty() {
                let front = outbox.front().0.len();
                got.extend_from_slice(outbox.front().0);
                outbox.advance(front);
            }
            prop_assert_eq!(put, got);
        }
    }
}
