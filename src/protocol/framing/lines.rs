//! Lines.

extern crate std;

use std::io::BufRead;
use std::vec::Vec;

use super::{Frame, FrameError, Framing};

/// Lines that end in `\n`, of a limited length.
///
/// ```
/// use forkplan::{Frame, FrameError, Framing, Lines};
///
/// let mut lines = Lines::new(10).crlf();
/// let mut input = &b"one\r\ntwo\nth"[..];
/// assert_eq!(lines.next(&mut input)?.unwrap().bytes, b"one");
/// assert_eq!(lines.next(&mut input)?.unwrap().bytes, b"two");
/// assert_eq!(lines.next(&mut input)?, None);
/// let mut input = &b"ree\nand a line of 22 bytes"[..];
/// assert_eq!(lines.next(&mut input)?.unwrap().bytes, b"three");
/// assert_eq!(lines.next(&mut input), Err(FrameError::TooLong { limit: 10 }));
/// # Ok::<(), FrameError>(())
/// ```
///
/// An empty line is a frame without bytes. A last line without its end comes as a
/// frame that is not [complete](Frame::complete), with all its bytes.
///
/// Allocates only for a line that was cut, and at most what such a line takes: a
/// line is found too long before more of it than the limit is kept.
#[derive(Clone, Debug)]
pub struct Lines {
    limit: usize,
    crlf: bool,
    /// The beginning of a line whose end has not come.
    kept: Vec<u8>,
    /// What is kept is a whole line, and was given.
    given: bool,
    failed: bool,
}

impl Lines {
    /// Lines of at most `limit` bytes, the `\n` not counted. With 0 there are only
    /// empty ones.
    pub fn new(limit: usize) -> Self {
        Self { limit, crlf: false, kept: Vec::new(), given: false, failed: false }
    }

    /// One `\r` before the `\n` belongs to the line's end, if it is there. It
    /// counts for the limit all the same.
    pub fn crlf(mut self) -> Self {
        self.crlf = true;
        self
    }

    fn complete<'a>(&self, line: &'a [u8]) -> Frame<'a> {
        let bytes = match line.strip_suffix(b"\r") {
            Some(bytes) if self.crlf => bytes,
            _ => line,
        };
        Frame { bytes, complete: true }
    }

    fn forget_given(&mut self) {
        if self.given {
            self.kept.clear();
            self.given = false;
        }
    }
}

impl Framing for Lines {
    fn next<'d, 'i: 'd>(
        &'d mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Frame<'d>>, FrameError> {
        self.forget_given();
        let too_long = FrameError::TooLong { limit: self.limit };
        if self.failed {
            return Err(too_long);
        }
        let (part, ends) = part(input);
        if part.len() > self.limit - self.kept.len() {
            self.failed = true;
            self.kept = Vec::new();
            return Err(too_long);
        }
        *input = &input[part.len() + usize::from(ends)..];
        if ends && self.kept.is_empty() {
            return Ok(Some(self.complete(part)));
        }
        self.kept.extend_from_slice(part);
        self.given = ends;
        Ok(ends.then(|| self.complete(&self.kept)))
    }

    fn finish(&mut self) -> Option<Frame<'_>> {
        self.forget_given();
        self.failed = false;
        // Given now, and forgotten by the next call.
        self.given = true;
        (!self.kept.is_empty()).then_some(Frame { bytes: &self.kept, complete: false })
    }
}

/// What the input has of the line that it begins with, and whether its end is
/// there.
fn part(input: &[u8]) -> (&[u8], bool) {
    let mut rest = input;
    // Slices never fail; this is std's way to a fast search.
    let taken = rest.skip_until(b'\n').unwrap_or(input.len());
    match input[..taken].split_last() {
        Some((b'\n', line)) => (line, true),
        _ => (input, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_lies_whole_in_the_input_is_lent_from_there() {
        let input = &b"whole\npart"[..];
        let mut lines = Lines::new(100);
        let mut rest = input;
        let line = lines.next(&mut rest).unwrap().unwrap();
        assert_eq!(line.bytes.as_ptr(), input.as_ptr());
        assert_eq!(lines.kept.capacity(), 0, "nothing was kept");
        assert_eq!(lines.next(&mut rest), Ok(None));
        assert_eq!(lines.kept, b"part");
    }

    #[test]
    fn a_line_above_the_limit_is_never_kept() {
        let mut lines = Lines::new(1000);
        assert_eq!(lines.next(&mut &[b'x'; 1000][..]), Ok(None));
        assert_eq!(lines.next(&mut &[b'x'; 100_000][..]), Err(FrameError::TooLong { limit: 1000 }));
        assert_eq!(lines.kept.capacity(), 0);
        let mut lines = Lines::new(1000);
        assert!(lines.next(&mut &[b'x'; 1001][..]).is_err());
        assert_eq!(lines.kept.capacity(), 0);
    }
}
