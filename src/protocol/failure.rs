//! What the dispatcher reports.

extern crate std;

use core::any::Any;
use core::fmt;
use std::boxed::Box;
use std::io;
use std::string::String;

use crate::pump::ChildKey;

/// A panic of a handler, caught.
///
/// ```
/// use forkplan::{Command, OnData, Protocols, RunError};
///
/// let mut protocols = Protocols::new();
/// let echo = protocols.add(Command::new("echo").spawn()?, ());
/// protocols.on(echo, 1, OnData(|_, _| panic!("I can't read")))?;
/// assert!(matches!(protocols.run(), Err(RunError::HandlerPanicked { child, .. }) if child == echo));
/// let panic = protocols.take_panic().unwrap();
/// assert_eq!(panic.child(), echo);
/// assert_eq!(panic.message(), Some("I can't read"));
/// // As if nobody had caught it: std::panic::resume_unwind(panic.into_payload())
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct HandlerPanic {
    child: ChildKey,
    payload: Box<dyn Any + Send>,
}

impl HandlerPanic {
    pub(super) fn new(child: ChildKey, payload: Box<dyn Any + Send>) -> Self {
        Self { child, payload }
    }

    /// The child whose handler it was.
    pub fn child(&self) -> ChildKey {
        self.child
    }

    /// What `panic!` was given, if it was a text.
    pub fn message(&self) -> Option<&str> {
        let text = self.payload.downcast_ref::<&str>().copied();
        text.or_else(|| self.payload.downcast_ref::<String>().map(String::as_str))
    }

    /// What [`std::panic::catch_unwind`] has caught.
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.payload
    }
}

impl fmt::Debug for HandlerPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerPanic")
            .field("child", &self.child)
            .field("message", &self.message())
            .finish()
    }
}

/// Why [`Protocols::run`](crate::Protocols::run) did not end well.
///
/// ```
/// use forkplan::{Command, OnEvent, Protocols};
///
/// let mut protocols = Protocols::new();
/// protocols.add(Command::new("true").spawn()?, OnEvent(|_, _| panic!("no")));
/// assert_eq!(protocols.run().unwrap_err().to_string(), "a handler panicked: no");
/// # Ok::<(), forkplan::SpawnError>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// The poll failed.
    Poll(io::Error),
    /// A handler panicked; the first one that did. All children have ended.
    HandlerPanicked {
        /// The child whose handler it was.
        child: ChildKey,
        /// What `panic!` was given, if it was a text.
        message: Option<Box<str>>,
    },
}

impl RunError {
    pub(super) fn panicked(panic: &HandlerPanic) -> Self {
        Self::HandlerPanicked { child: panic.child, message: panic.message().map(Into::into) }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poll(error) => write!(f, "poll: {error}"),
            Self::HandlerPanicked { message: Some(message), .. } => {
                write!(f, "a handler panicked: {message}")
            }
            Self::HandlerPanicked { message: None, .. } => f.write_str("a handler panicked"),
        }
    }
}

impl core::error::Error for RunError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Poll(error) => Some(error),
            Self::HandlerPanicked { .. } => None,
        }
    }
}

static_assertions::assert_impl_all!(RunError: Send, Sync);
