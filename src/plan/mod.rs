//! The plan: what the child does between fork and exec, as plain data.
//!
//! Pure: nothing in this room makes a syscall, allocates or knows a platform.
//! A [`Plan`] is a view of steps that somebody else stores; the child walks the
//! same steps that [`Display`](core::fmt::Display) shows to people.
//!
//! [`FdMap`] is of use alone: it works out the cheapest `dup2`s for any map of
//! fds, whoever carries them out.

mod display;
mod fd_map;
mod names;
mod order;
mod search;
mod solver;
mod step;

pub use self::display::StepDisplay;
pub use self::fd_map::{FdMap, FdMapError, FdPlan};
pub(crate) use self::names::Names;
pub(crate) use self::order::{Finish, Parts, finish, lay_out};
pub(crate) use self::search::candidates;
pub(crate) use self::solver::{Cell, Problem, Unsolvable};
pub use self::solver::{Closing, Mapping};
pub use self::step::{Bytes, Step, Text};

/// What a child does, step by step, with the strings that the steps name.
///
/// Printed with `{}` it shows one numbered step a line, in the order in which
/// the child takes them:
///
/// ```
/// use forkplan::{Channel, Command};
///
/// let mut prepared = Command::new("/bin/true").stdout(Channel::Null).prepare()?;
/// let opened = prepared.open()?;
/// let text = opened.plan().to_string();
/// assert!(text.contains("execve \"/bin/true\""), "{text}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    pub(crate) steps: &'a [Step],
    pub(crate) strings: Strings<'a>,
    /// What each child fd is to the user, sorted by fd.
    pub(crate) labels: &'a [Label],
    pub(crate) program: Program,
    /// What the child is cloned into: `CLONE_NEW*`.
    pub(crate) namespaces: u32,
    /// Copies that a launcher has made of fds with high numbers, sorted by those.
    pub(crate) lent: &'a [Mapping],
}

/// What steps name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strings<'a> {
    /// NUL-terminated strings, one after the other.
    pub(crate) text: &'a [u8],
    pub(crate) names: Names,
}

/// What a child fd is to the user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label {
    pub(crate) fd: i32,
    pub(crate) words: Text,
}

/// What exec is given besides the path: strings that follow one another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    pub(crate) args: Text,
    pub(crate) arg_count: u32,
    pub(crate) env: Text,
    pub(crate) env_count: u32,
    /// Environment strings that hold the pid; they lie elsewhere.
    pub(crate) pid_count: u32,
}

impl<'a> Plan<'a> {
    /// The steps in their order.
    pub fn steps(&self) -> &'a [Step] {
        self.steps
    }

    /// The bytes of a string that a step names, without the NUL. Empty for a
    /// `Text` of another plan.
    pub fn text(&self, text: Text) -> &'a [u8] {
        self.strings.get(text)
    }

    /// Shows one of this plan's steps: `chdir "/srv"`, `dup2 7 -> 3`.
    pub fn show(&self, step: Step) -> StepDisplay<'a> {
        self.strings.show(step)
    }

    /// Where what the parent has as `fd` ends up in the program: the lowest of
    /// the child's fds that is a copy of it. `None` if exec closes it.
    pub fn place(&self, fd: i32) -> Option<i32> {
        let source = number_of(self.lent, fd);
        let mut place = None;
        for label in self.labels {
            if place.is_none() && self.origin(label.fd) == Some(source) {
                place = Some(label.fd);
            }
        }
        place
    }

    /// The parent's fd of which the child's `fd` is a copy: the copies of the
    /// plan, followed back. `None`: the child opens it.
    fn origin(&self, fd: i32) -> Option<i32> {
        let mut at = fd;
        for step in self.steps.iter().rev() {
            match *step {
                Step::Dup2 { from, to } | Step::DupCloexec { from, to } if to == at => at = from,
                Step::OpenFile { to, .. } if to == at => return None,
                _ => {}
            }
        }
        Some(at)
    }
}

/// The number under which a child finds the parent's `fd`: another where a
/// launcher has lent one. `lent` is sorted by source.
pub(crate) fn number_of(lent: &[Mapping], fd: i32) -> i32 {
    lent.binary_search_by_key(&fd, |m| m.source).map_or(fd, |at| lent[at].target)
}

impl<'a> Strings<'a> {
    /// A step in words.
    pub(crate) fn show(self, step: Step) -> StepDisplay<'a> {
        StepDisplay { step, strings: Some(self) }
    }

    /// The string at `text`, without its NUL.
    pub(crate) fn get(self, text: Text) -> &'a [u8] {
        self.from(text).next().unwrap_or_default()
    }

    /// Bytes that are no string.
    pub(crate) fn bytes(self, bytes: Bytes) -> &'a [u8] {
        let from = bytes.at as usize;
        self.text.get(from..from + bytes.len as usize).unwrap_or_default()
    }

    /// The string at `text` and those after it.
    pub(crate) fn from(self, text: Text) -> impl Iterator<Item = &'a [u8]> {
        self.text.get(text.0 as usize..).unwrap_or_default().split(|&byte| byte == 0)
    }
}
