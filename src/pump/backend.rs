//! Waiting for many fds: poll(2) over an array that is kept.

extern crate std;

use core::time::Duration;
use std::vec::Vec;

use super::Token;
use crate::sys::Errno;
use crate::sys::poll::{Interest, PollFd, Readiness, poll};

/// The sources that are waited for, each with its place in one array.
#[derive(Debug, Default)]
pub(super) struct Backend {
    fds: Vec<PollFd>,
    /// Who is at the same place in `fds`.
    tokens: Vec<Token>,
}

impl Backend {
    /// Adds a source; its place until another one is removed.
    pub(super) fn add(&mut self, token: Token, fd: i32, interest: Interest) -> usize {
        self.fds.push(PollFd::new(fd, interest));
        self.tokens.push(token);
        self.fds.len() - 1
    }

    /// Changes what the source at `place` waits for.
    pub(super) fn set(&mut self, place: usize, fd: i32, interest: Interest) {
        self.fds[place].set(fd, interest);
    }

    /// Removes a source, before its fd is closed. The one that is at its place
    /// from now on, if it was not the last.
    pub(super) fn remove(&mut self, place: usize) -> Option<Token> {
        self.fds.swap_remove(place);
        self.tokens.swap_remove(place);
        self.tokens.get(place).copied()
    }

    /// One poll(2); calls `ready` for each source that is. Blocks as long as
    /// `timeout` says, `None` for ever. Looks at every source.
    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut ready: impl FnMut(Token, Readiness),
    ) -> Result<(), Errno> {
        let mut left = poll(&mut self.fds, timeout)?;
        for (polled, &token) in self.fds.iter().zip(&self.tokens) {
            if left == 0 {
                break;
            }
            let readiness = polled.readiness();
            if !readiness.is_empty() {
                ready(token, readiness);
                left -= 1;
            }
        }
        Ok(())
    }
}
