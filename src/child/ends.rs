//! The parent's ends of one child's channels.

extern crate std;

use core::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::vec::Vec;

use crate::channel::{ChannelInfo, Name};
use crate::limits::ENDS_INLINE_MAX;

/// One end for each channel, until it is taken. The first
/// [`ENDS_INLINE_MAX`] need no allocation.
pub(crate) struct Ends {
    infos: Arc<[ChannelInfo]>,
    inline: [Option<OwnedFd>; ENDS_INLINE_MAX],
    more: Vec<Option<OwnedFd>>,
    len: usize,
}

impl Ends {
    pub(crate) fn new(infos: Arc<[ChannelInfo]>) -> Self {
        let more = Vec::with_capacity(infos.len().saturating_sub(ENDS_INLINE_MAX));
        Self { infos, inline: [const { None }; ENDS_INLINE_MAX], more, len: 0 }
    }

    /// The end of the next channel.
    pub(crate) fn push(&mut self, end: OwnedFd) {
        match self.inline.get_mut(self.len) {
            Some(slot) => *slot = Some(end),
            None => self.more.push(Some(end)),
        }
        self.len += 1;
    }

    pub(crate) fn infos(&self) -> &Arc<[ChannelInfo]> {
        &self.infos
    }

    pub(crate) fn find(&self, name: Name<'_>) -> Option<usize> {
        self.infos.iter().position(|info| info.is(name))
    }

    pub(crate) fn get(&self, index: usize) -> Option<&OwnedFd> {
        let more = || self.more.get(index.checked_sub(ENDS_INLINE_MAX)?);
        self.inline.get(index).or_else(more)?.as_ref()
    }

    pub(crate) fn take(&mut self, index: usize) -> Option<OwnedFd> {
        match self.inline.get_mut(index) {
            Some(slot) => slot.take(),
            None => self.more.get_mut(index.checked_sub(ENDS_INLINE_MAX)?)?.take(),
        }
    }

    /// Puts an end back that was taken.
    pub(crate) fn put(&mut self, index: usize, end: OwnedFd) {
        let more = index.checked_sub(ENDS_INLINE_MAX).and_then(|at| self.more.get_mut(at));
        if let Some(slot) = self.inline.get_mut(index).or(more) {
            *slot = Some(end);
        }
    }
}

impl Default for Ends {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = self.infos.iter().enumerate().map(|(i, info)| (info.name(), self.get(i)));
        f.debug_map().entries(ends).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{Direction, EndInfo, Kind};
    use std::os::fd::AsRawFd;

    #[test]
    fn ends_past_the_inline_ones_are_found_and_taken_too() {
        let count = ENDS_INLINE_MAX + 3;
        let end = EndInfo { kind: Kind::Pipe, direction: Direction::Read };
        let info =
            |i| ChannelInfo { name: None, fds: [i as i32].into(), end, default_writer: false };
        let mut ends = Ends::new((0..count).map(info).collect());
        let mut numbers = Vec::new();
        for _ in 0..count {
            let (end, _) = crate::sys::fd::pipe().unwrap();
            numbers.push(end.as_raw_fd());
            ends.push(end);
        }
        for (i, number) in numbers.into_iter().enumerate() {
            assert_eq!(ends.find(Name::Fd(i as i32)), Some(i));
            assert_eq!(ends.get(i).map(AsRawFd::as_raw_fd), Some(number));
            assert_eq!(ends.take(i).map(|end| end.as_raw_fd()), Some(number));
            assert!(ends.take(i).is_none());
        }
        for i in [0, ENDS_INLINE_MAX, count - 1] {
            let (end, _) = crate::sys::fd::pipe().unwrap();
            let number = end.as_raw_fd();
            ends.put(i, end);
            assert_eq!(ends.take(i).map(|end| end.as_raw_fd()), Some(number));
        }
        assert!(ends.take(count).is_none());
    }
}
