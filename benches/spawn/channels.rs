//! What the child gets.

use std::os::fd::BorrowedFd;
use std::str::FromStr;

/// The lowest of eight files that are there before the load, one after the other;
/// the number above them is free to be taken in a child.
pub const FILES: i32 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// The parent's own 0, 1 and 2.
    None,
    /// Three new pipes, on 0, 1 and 2.
    Pipes,
    /// Eight new pipes, on 0 to 7.
    Eight,
    /// Eight files, each on the number of another: one cycle.
    Permuted,
}

impl Channels {
    /// The child's fds that get a new pipe. It reads from its 0.
    pub fn pipes(self) -> &'static [i32] {
        match self {
            Self::None | Self::Permuted => &[],
            Self::Pipes => &[0, 1, 2],
            Self::Eight => &[0, 1, 2, 3, 4, 5, 6, 7],
        }
    }

    /// The child's fds that get one of the parent's, and which.
    pub fn given(self) -> impl Iterator<Item = (i32, BorrowedFd<'static>)> {
        let map: &[(i32, i32)] = match self {
            Self::None => &[(0, 0), (1, 1), (2, 2)],
            Self::Pipes | Self::Eight => &[],
            Self::Permuted => &[
                (FILES, FILES + 1),
                (FILES + 1, FILES + 2),
                (FILES + 2, FILES + 3),
                (FILES + 3, FILES + 4),
                (FILES + 4, FILES + 5),
                (FILES + 5, FILES + 6),
                (FILES + 6, FILES + 7),
                (FILES + 7, FILES),
            ],
        };
        // SAFETY: open as long as the bench runs; nobody closes them.
        map.iter().map(|&(target, source)| (target, unsafe { BorrowedFd::borrow_raw(source) }))
    }

    /// The copies that make that of it, in an order in which nothing is lost.
    pub fn copies(self) -> Vec<(i32, i32)> {
        match self {
            Self::Permuted => {
                let aside = FILES + 8;
                let moves = (FILES..FILES + 7).map(|fd| (fd + 1, fd));
                [(FILES, aside)].into_iter().chain(moves).chain([(aside, FILES + 7)]).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl FromStr for Channels {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "none" => Ok(Self::None),
            "pipes" => Ok(Self::Pipes),
            "eight" => Ok(Self::Eight),
            "permuted" => Ok(Self::Permuted),
            _ => Err(()),
        }
    }
}
