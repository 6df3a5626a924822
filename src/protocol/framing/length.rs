//! Frames that begin with their length.

extern crate std;

use core::fmt;
use std::vec::Vec;

use super::{Frame, FrameError, Framing};

/// How a length is written before a frame.
///
/// ```
/// use forkplan::Prefix;
///
/// let mut out = Vec::new();
/// Prefix::U16Be.append(b"hello", &mut out)?;
/// Prefix::U8.append(b"", &mut out)?;
/// assert_eq!(out, b"\0\x05hello\0");
/// assert!(Prefix::U8.append(&[0; 256], &mut out).is_err());
/// # Ok::<(), forkplan::PrefixTooSmall>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// One byte.
    U8,
    /// Two bytes, the high one first.
    U16Be,
    /// Two bytes, the low one first.
    U16Le,
    /// Four bytes, the highest first.
    U32Be,
    /// Four bytes, the lowest first.
    U32Le,
    /// Eight bytes, the highest first.
    U64Be,
    /// Eight bytes, the lowest first.
    U64Le,
}

/// Bytes of the longest prefix.
const WIDTH_MAX: usize = 8;

impl Prefix {
    /// How many bytes it has.
    pub fn width(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16Be | Self::U16Le => 2,
            Self::U32Be | Self::U32Le => 4,
            Self::U64Be | Self::U64Le => WIDTH_MAX,
        }
    }

    /// Appends a frame, with its length before it: for the writing side.
    ///
    /// # Errors
    ///
    /// The prefix can't say that length. Nothing was appended.
    pub fn append(self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), PrefixTooSmall> {
        let length = frame.len() as u64;
        let width = self.width();
        if width < WIDTH_MAX && length >> (8 * width) != 0 {
            return Err(PrefixTooSmall { length: frame.len() });
        }
        match self.is_big_endian() {
            true => out.extend_from_slice(&length.to_be_bytes()[WIDTH_MAX - width..]),
            false => out.extend_from_slice(&length.to_le_bytes()[..width]),
        }
        out.extend_from_slice(frame);
        Ok(())
    }

    fn is_big_endian(self) -> bool {
        matches!(self, Self::U8 | Self::U16Be | Self::U32Be | Self::U64Be)
    }

    /// What the bytes of a whole prefix say.
    fn length(self, prefix: &[u8]) -> u64 {
        let add = |length: u64, byte: &u8| length << 8 | u64::from(*byte);
        match self.is_big_endian() {
            true => prefix.iter().fold(0, add),
            false => prefix.iter().rev().fold(0, add),
        }
    }
}

/// A frame is longer than its prefix can say.
///
/// ```
/// let error = forkplan::Prefix::U8.append(&[0; 300], &mut Vec::new()).unwrap_err();
/// assert_eq!(error.to_string(), "a length of 300 does not fit its prefix");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PrefixTooSmall {
    length: usize,
}

impl fmt::Display for PrefixTooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a length of {} does not fit its prefix", self.length)
    }
}

impl core::error::Error for PrefixTooSmall {}

/// Frames that begin with their length, which does not count itself.
///
/// ```
/// use forkplan::{FrameError, Framing, LengthPrefixed, Prefix};
///
/// let mut frames = LengthPrefixed::new(Prefix::U32Le, 1000);
/// let mut input = &b"\x03\0\0\0one\x03\0\0"[..];
/// assert_eq!(frames.next(&mut input)?.unwrap().bytes, b"one");
/// assert_eq!(frames.next(&mut input)?, None);
/// let mut input = &b"\0two\xff\xff\xff\xff"[..];
/// assert_eq!(frames.next(&mut input)?.unwrap().bytes, b"two");
/// assert_eq!(frames.next(&mut input), Err(FrameError::TooLong { limit: 1000 }));
/// # Ok::<(), FrameError>(())
/// ```
///
/// A last frame that was cut short comes as one that is not
/// [complete](Frame::complete), with what came of it; if that was not even its
/// whole prefix, without bytes.
///
/// Allocates only for a frame that was cut, for what has come of it and not for
/// what its prefix promises. A prefix above the limit is an error as soon as it
/// is there.
#[derive(Clone, Debug)]
pub struct LengthPrefixed {
    prefix: Prefix,
    limit: usize,
    state: State,
    /// The beginning of a prefix that was cut.
    head: [u8; WIDTH_MAX],
    head_len: usize,
    /// The beginning of a frame that was cut.
    kept: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Prefix,
    /// A frame of this length, of which some is kept.
    Body(usize),
    /// What is kept was given.
    Given,
    Failed,
}

impl LengthPrefixed {
    /// Frames of at most `limit` bytes, the prefix not counted. With 0 there are
    /// only empty ones.
    pub fn new(prefix: Prefix, limit: usize) -> Self {
        let head = [0; WIDTH_MAX];
        Self { prefix, limit, state: State::Prefix, head, head_len: 0, kept: Vec::new() }
    }

    /// The length that the prefix says, once all of it is there.
    fn take_prefix(&mut self, input: &mut &[u8]) -> Result<Option<usize>, FrameError> {
        let width = self.prefix.width();
        let (part, rest) = input.split_at(input.len().min(width - self.head_len));
        self.head[self.head_len..][..part.len()].copy_from_slice(part);
        self.head_len += part.len();
        *input = rest;
        if self.head_len < width {
            return Ok(None);
        }
        self.head_len = 0;
        match usize::try_from(self.prefix.length(&self.head[..width])) {
            Ok(length) if length <= self.limit => Ok(Some(length)),
            _ => {
                self.state = State::Failed;
                Err(FrameError::TooLong { limit: self.limit })
            }
        }
    }

    fn forget_given(&mut self) {
        if self.state == State::Given {
            self.kept.clear();
            self.state = State::Prefix;
        }
    }
}

impl Framing for LengthPrefixed {
    fn next<'d, 'i: 'd>(
        &'d mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Frame<'d>>, FrameError> {
        self.forget_given();
        let length = match self.state {
            State::Failed => return Err(FrameError::TooLong { limit: self.limit }),
            State::Body(length) => length,
            State::Prefix | State::Given => match self.take_prefix(input)? {
                Some(length) => length,
                None => return Ok(None),
            },
        };
        let (part, rest) = input.split_at(input.len().min(length - self.kept.len()));
        *input = rest;
        if part.len() == length {
            self.state = State::Prefix;
            return Ok(Some(Frame { bytes: part, complete: true }));
        }
        self.kept.extend_from_slice(part);
        let complete = self.kept.len() == length;
        self.state = if complete { State::Given } else { State::Body(length) };
        Ok(complete.then_some(Frame { bytes: &self.kept, complete }))
    }

    fn finish(&mut self) -> Option<Frame<'_>> {
        self.forget_given();
        let begun = matches!(self.state, State::Body(_)) || self.head_len > 0;
        self.head_len = 0;
        // Given now, and forgotten by the next call.
        self.state = State::Given;
        begun.then_some(Frame { bytes: &self.kept, complete: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_lies_whole_in_the_input_is_lent_from_there() {
        let input = &b"\x05whole\x04pa"[..];
        let mut frames = LengthPrefixed::new(Prefix::U8, 100);
        let mut rest = input;
        let frame = frames.next(&mut rest).unwrap().unwrap();
        assert_eq!(frame.bytes.as_ptr(), input[1..].as_ptr());
        assert_eq!(frames.kept.capacity(), 0, "nothing was kept");
        assert_eq!(frames.next(&mut rest), Ok(None));
        assert_eq!(frames.kept, b"pa");
    }

    #[test]
    fn what_a_prefix_promises_is_not_allocated() {
        let mut frames = LengthPrefixed::new(Prefix::U64Be, usize::MAX);
        let mut input = &b"\0\xff\xff\xff\xff\xff\xff\xffx"[..];
        assert_eq!(frames.next(&mut input), Ok(None));
        assert!(frames.kept.capacity() < 100);
    }

    #[test]
    fn a_length_above_usize_is_too_long_whatever_the_limit() {
        let mut frames = LengthPrefixed::new(Prefix::U64Le, usize::MAX - 1);
        assert!(frames.next(&mut &[0xff; 8][..]).is_err());
    }
}
