//! Input that is there before the child is.

extern crate std;

use std::fmt;
use std::sync::Arc;
use std::vec::Vec;

use super::Channel;

/// Bytes that a child reads as a file: made by [`Channel::bytes`].
///
/// ```
/// use forkplan::{Channel::{self, *}, Command};
///
/// let mut wc = Command::new("wc");
/// wc.arg("-c").fd(0, Channel::bytes("eleven byte")).fd(1, ReadPipe);
/// let mut prepared = wc.prepare()?;
/// for _ in 0..2 {
///     let mut child = prepared.spawn()?;
///     let count = std::fs::File::from(child.take(1).unwrap());
///     assert_eq!(std::io::read_to_string(count)?, "11\n");
///     assert!(child.wait()?.success());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
// Shared, so that a clone of a command needs no new memory.
#[derive(Clone)]
pub struct InputBytes(Arc<Vec<u8>>);

impl InputBytes {
    pub(crate) fn bytes(&self) -> &Arc<Vec<u8>> {
        &self.0
    }
}

impl fmt::Debug for InputBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InputBytes({} bytes)", self.0.len())
    }
}

impl Channel<'_> {
    /// Bytes for the child to read, all there from the start: a file in memory
    /// that is made and written at each spawn, so that every child begins at
    /// their first byte. It is sealed; nobody can change it. Linux.
    ///
    /// For input that is known beforehand. The spawn takes the time to copy it
    /// once, the parent keeps no end, and the child can seek in it. More than the
    /// parent's `RLIMIT_FSIZE` is `EFBIG`. Input that is
    /// large, comes bit by bit, or is for a program that wants a pipe is better
    /// fed to a [`WritePipe`](Channel::WritePipe) by a [`Pump`](crate::Pump).
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Channel<'static> {
        Channel::Bytes(InputBytes(Arc::new(bytes.into())))
    }
}
