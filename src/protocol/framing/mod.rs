//! From bytes, cut anywhere, to the frames that the other side meant.

use core::fmt;

use super::handler::ChannelHandler;
use super::transport::Transport;
use crate::pump::CloseReason;
use crate::sys::Errno;

mod length;
mod lines;

pub use self::length::{LengthPrefixed, Prefix, PrefixTooSmall};
pub use self::lines::Lines;

/// One message of the other side: a line, a packet.
///
/// ```
/// use forkplan::{Frame, Framing, Lines};
///
/// let mut lines = Lines::new(80);
/// let mut input = &b"all\nhalf"[..];
/// assert_eq!(lines.next(&mut input), Ok(Some(Frame { bytes: b"all", complete: true })));
/// assert_eq!(lines.next(&mut input), Ok(None));
/// assert_eq!(lines.finish(), Some(Frame { bytes: b"half", complete: false }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame<'a> {
    /// What is in it: without line ends or prefixes.
    pub bytes: &'a [u8],
    /// Whether all of it came. Only the last one may be cut short, by the end of
    /// the channel.
    pub complete: bool,
}

/// Why bytes are no frames.
///
/// ```
/// use forkplan::{FrameError, Framing, Lines};
///
/// let error = Lines::new(3).next(&mut &b"four\n"[..]).unwrap_err();
/// assert_eq!(error, FrameError::TooLong { limit: 3 });
/// assert_eq!(error.to_string(), "a frame is longer than 3 bytes");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame is longer than allowed. `EMSGSIZE`.
    TooLong {
        /// What is allowed.
        limit: usize,
    },
    /// The bytes break the rules of the format: for framings that have any.
    /// `EBADMSG`.
    Malformed,
}

impl FrameError {
    /// The errno with which a [`Framed`] gives up a channel.
    pub fn errno(self) -> i32 {
        let errno = match self {
            Self::TooLong { .. } => Errno::MSGSIZE,
            Self::Malformed => Errno::BADMSG,
        };
        errno.raw_os_error()
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { limit } => write!(f, "a frame is longer than {limit} bytes"),
            Self::Malformed => f.write_str("malformed frame"),
        }
    }
}

impl core::error::Error for FrameError {}

/// A decoder of frames: bytes in, frames out, no matter how the bytes were cut.
/// Pure: it reads and writes nothing.
///
/// [`Lines`] and [`LengthPrefixed`] are two; a third needs these two methods, and
/// is a handler by [`Framed`] as they are.
///
/// ```
/// use forkplan::{Frame, FrameError, Framing};
///
/// /// Frames of one byte, of which none may be 0.
/// struct Bytes;
///
/// impl Framing for Bytes {
///     fn next<'d, 'i: 'd>(
///         &'d mut self,
///         input: &mut &'i [u8],
///     ) -> Result<Option<Frame<'d>>, FrameError> {
///         let Some((bytes, rest)) = input.split_at_checked(1) else { return Ok(None) };
///         *input = rest;
///         if bytes == [0] { Err(FrameError::Malformed) } else { Ok(Some(Frame { bytes, complete: true })) }
///     }
///     fn finish(&mut self) -> Option<Frame<'_>> {
///         None
///     }
/// }
///
/// let mut input = &b"ab\0"[..];
/// assert_eq!(Bytes.next(&mut input).unwrap().unwrap().bytes, b"a");
/// assert_eq!(Bytes.next(&mut input).unwrap().unwrap().bytes, b"b");
/// assert_eq!(Bytes.next(&mut input), Err(FrameError::Malformed));
/// ```
pub trait Framing {
    /// The next frame. Takes what it has used from the front of `input`; `None`
    /// when that is all and more is needed.
    ///
    /// A frame that lies whole in `input` is lent from there; else from the
    /// decoder, which has kept its beginning.
    ///
    /// # Errors
    ///
    /// What comes next is no frame. All frames before it were given. There is no
    /// way on from there: each further call is this error again.
    fn next<'d, 'i: 'd>(
        &'d mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Frame<'d>>, FrameError>;

    /// There will be no more bytes: the frame that was begun, if one was, as far
    /// as it came. `None` after an error. The decoder is as new then.
    fn finish(&mut self) -> Option<Frame<'_>>;
}

/// A handler of a channel that gives its frames to a closure.
///
/// What is no frame is the end of the channel: it is [given
/// up](Transport::fail) with the error's [errno](FrameError::errno), which the
/// process's handler is told, after all frames that came before. A frame cut
/// short by the other side's end is told and marked.
///
/// A closure that closes the channel gets no more frames once it is closed. One
/// that pauses it still gets those of the bytes that were read already.
///
/// ```
/// use forkplan::{CloseReason, Command, Event, Framed, Lines, OnEvent, Protocols};
///
/// let (mut lines, mut reason) = (Vec::new(), None);
/// let mut protocols = Protocols::new();
/// let script = "echo short; echo much too long; echo never seen";
/// let sh = protocols.add(
///     Command::new("sh").args(["-c", script]).spawn()?,
///     OnEvent(|_, event| match event {
///         Event::Closed { channel, reason: why, .. } if channel == 1.into() => reason = Some(why),
///         _ => {}
///     }),
/// );
/// protocols.on(sh, 1, Framed::new(Lines::new(8), |_, line| lines.push(line.bytes.to_vec())))?;
/// protocols.run()?;
/// drop(protocols);
/// assert_eq!(lines, [b"short"]);
/// assert_eq!(reason, Some(CloseReason::Error(libc::EMSGSIZE)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Framed<D, F> {
    framing: D,
    tell: F,
}

impl<D, F> Framed<D, F>
where
    D: Framing,
    F: FnMut(&mut Transport<'_>, Frame<'_>),
{
    /// `tell` is called with each frame that comes.
    pub fn new(framing: D, tell: F) -> Self {
        Self { framing, tell }
    }

    /// No more will be read.
    fn finish(&mut self, channel: &mut Transport<'_>) {
        if let Some(frame) = self.framing.finish() {
            (self.tell)(channel, frame);
        }
    }
}

impl<D, F> ChannelHandler for Framed<D, F>
where
    D: Framing,
    F: FnMut(&mut Transport<'_>, Frame<'_>),
{
    fn data(&mut self, channel: &mut Transport<'_>, bytes: &[u8]) {
        let mut input = bytes;
        loop {
            match self.framing.next(&mut input) {
                Ok(Some(frame)) => (self.tell)(channel, frame),
                Ok(None) => break,
                Err(error) => return channel.fail(error.errno()),
            }
            if !channel.is_open() {
                break;
            }
        }
    }

    fn half_closed(&mut self, channel: &mut Transport<'_>) {
        self.finish(channel);
    }

    fn closed(&mut self, channel: &mut Transport<'_>, reason: CloseReason, _: usize) {
        // What we have closed ourselves was not cut short by the other side.
        if reason != CloseReason::Us {
            self.finish(channel);
        }
    }
}
