//! One word that both sides see, by which the child says where it is.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::sys::Errno;

/// The word: the number of the step that was begun above, its errno below.
///
/// Single stores of one word, so that whoever reads it while the child dies
/// reads a whole one. Shared even where a fork copies the rest of the memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report<'a>(&'a AtomicU64);

/// What a report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The step was begun and has not failed.
    At(u32),
    /// The step failed.
    Failed(u32, Errno),
}

impl<'a> Report<'a> {
    /// A report at step 0, begun: where a child that says nothing is.
    pub(crate) fn begin(word: &'a AtomicU64) -> Self {
        word.store(0, Ordering::Release);
        Self(word)
    }

    /// One that was begun, to be read.
    pub(crate) fn of(word: &'a AtomicU64) -> Self {
        Self(word)
    }

    /// By the child: the step is about to be taken.
    pub(crate) fn publish(self, step: u32) {
        self.0.store(u64::from(step) << 32, Ordering::Release);
    }

    /// By the child: the step failed, and the child is about to exit.
    pub(crate) fn fail(self, step: u32, errno: Errno) {
        // No errno is 0; one that were would read as no failure.
        let errno = match errno.raw_os_error() {
            0 => Errno::IO.raw_os_error(),
            errno => errno,
        };
        // Without its sign, which would reach the step: a hook may return −1.
        self.0.store(u64::from(step) << 32 | u64::from(errno as u32), Ordering::Release);
    }

    /// By the parent.
    pub(crate) fn read(self) -> Progress {
        let word = self.0.load(Ordering::Acquire);
        match (word >> 32, word as u32) {
            (step, 0) => Progress::At(step as u32),
            (step, errno) => Progress::Failed(step as u32, Errno::from_raw_os_error(errno as i32)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_what_was_written_last() {
        let word = AtomicU64::new(u64::MAX);
        let report = Report::begin(&word);
        assert_eq!(report.read(), Progress::At(0));
        report.publish(3);
        assert_eq!(report.read(), Progress::At(3));
        report.fail(3, Errno::BADF);
        assert_eq!(report.read(), Progress::Failed(3, Errno::BADF));
        report.fail(u32::MAX, Errno::NOENT);
        assert_eq!(report.read(), Progress::Failed(u32::MAX, Errno::NOENT));
        report.fail(3, Errno::from_raw_os_error(-1));
        assert_eq!(report.read(), Progress::Failed(3, Errno::from_raw_os_error(-1)));
    }
}
