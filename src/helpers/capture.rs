//! Bytes that are kept up to a limit, and counted beyond it.

extern crate std;

use std::vec::Vec;

use crate::limits::HUGE_CAPTURE_MIN;
use crate::sys::memory::prefer_huge_pages;

/// The beginning of what a channel says, up to a limit, and how much came after it.
///
/// For a loop over [`Event::Data`](crate::Event::Data), or a handler, that keeps output
/// of which it does not know how long it is. A channel that is no longer read stops the
/// child, whose exit then never comes; so all is read, and what is beyond the limit
/// counted and dropped. The calls that collect output themselves do the same:
/// [`Communicate::limit`](crate::Communicate::limit).
///
/// ```
/// use std::collections::HashMap;
/// use forkplan::{CaptureBuffer, Command, Event, Pump};
///
/// let mut pump = Pump::new();
/// let script = "head -c 1000000 /dev/zero; echo short >&2";
/// pump.add(Command::new("sh").args(["-c", script]).spawn()?);
/// let mut kept: HashMap<String, CaptureBuffer> = HashMap::new();
/// while !pump.is_empty() {
///     pump.poll(None)?;
///     while let Some(event) = pump.next_event() {
///         if let Event::Data { channel, bytes, .. } = event {
///             let buffer = kept.entry(channel.to_string());
///             buffer.or_insert_with(|| CaptureBuffer::new(64)).push(bytes);
///         }
///     }
/// }
/// assert_eq!((kept["1"].bytes().len(), kept["1"].dropped()), (64, 999_936));
/// assert_eq!((kept["2"].bytes(), kept["2"].dropped()), (&b"short\n"[..], 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureBuffer {
    bytes: Vec<u8>,
    limit: usize,
    dropped: u64,
    huge_pages: bool,
}

impl CaptureBuffer {
    /// An empty one, which keeps `limit` bytes: `usize::MAX` for all. Does not allocate.
    pub const fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, dropped: 0, huge_pages: false }
    }

    /// Asks the kernel for huge pages (`MADV_HUGEPAGE`) whenever its memory has grown
    /// to 4 MiB or more. Then a gigabyte is some hundred page faults in place of a
    /// quarter of a million, of which each is longer. Whether that is faster depends
    /// on the machine: on a virtual one whose host takes free memory back it was seen
    /// to take twice as long. Measure it; `benches/` has the rows. Where there are no
    /// huge pages it changes nothing. Linux 2.6.38, and nothing elsewhere.
    ///
    /// ```
    /// use forkplan::CaptureBuffer;
    ///
    /// let mut buffer = CaptureBuffer::new(usize::MAX).huge_pages(true);
    /// buffer.push(&[7; 10 << 20]);
    /// assert_eq!(buffer.bytes().len(), 10 << 20);
    /// ```
    pub const fn huge_pages(mut self, prefer: bool) -> Self {
        self.huge_pages = prefer;
        self
    }

    /// Keeps as many of the bytes as there is room for, and counts the rest. Memory
    /// grows with what is kept, and not above the limit.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = self.limit - self.bytes.len();
        let (kept, dropped) = bytes.split_at(room.min(bytes.len()));
        let len = self.bytes.len() + kept.len();
        if len > self.bytes.capacity() {
            // Doubled, as a `Vec` does by itself, but not beyond the limit.
            let capacity = len.max(self.bytes.capacity().saturating_mul(2)).min(self.limit);
            self.bytes.reserve_exact(capacity - self.bytes.len());
            if self.huge_pages && self.bytes.capacity() >= HUGE_CAPTURE_MIN {
                // What is already there was advised before, or is small.
                prefer_huge_pages(self.bytes.spare_capacity_mut());
            }
        }
        self.bytes.extend_from_slice(kept);
        self.dropped += dropped.len() as u64;
    }

    /// What is kept.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What is kept, taken out.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How many bytes came beyond the limit. 0: nothing is missing.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How many bytes are kept at most.
    pub fn limit(&self) -> usize {
        self.limit
    }
}

static_assertions::assert_impl_all!(CaptureBuffer: Send, Sync);

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_beginning_is_kept_and_the_rest_counted(
            parts in vec(vec(any::<u8>(), 0..50), 0..20),
            limit in prop_oneof![0usize..300, Just(usize::MAX)],
        ) {
            let mut buffer = CaptureBuffer::new(limit);
            for part in &parts {
                buffer.push(part);
                prop_assert!(buffer.bytes.capacity() <= limit);
            }
            let all = parts.concat();
            let kept = all.len().min(limit);
            prop_assert_eq!(buffer.bytes(), &all[..kept]);
            prop_assert_eq!(buffer.dropped(), (all.len() - kept) as u64);
            prop_assert_eq!(buffer.limit(), limit);
            prop_assert_eq!(buffer.into_bytes(), &all[..kept]);
        }
    }
}
