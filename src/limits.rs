//! Every limit of the crate in one place, each beside the proof that it fits.
//!
//! None of these is a cap on what a user may ask for. A map of fds, a list of
//! arguments or a set of children is as large as memory allows; the numbers
//! here size what is prepared before the fork.

use core::time::Duration;

use static_assertions::{const_assert, const_assert_eq};

/// The largest number that a file descriptor can have: Linux keeps
/// `fs.nr_open` below it, POSIX makes it an `int`.
pub(crate) const FD_MAX: i32 = i32::MAX;

/// Parent's ends that a `Child` holds without allocating. A child with more of
/// them is fine and costs one allocation in its spawn.
pub(crate) const ENDS_INLINE_MAX: usize = 16;

/// Bytes of stack for the child before its exec, the guard not counted. The
/// walk over the plan uses about 1 KiB in a release build and 4 KiB in a debug
/// build; more is only address space.
pub(crate) const CHILD_STACK_SIZE: usize = 64 * 1024;

/// The lowest fd number with which a child no longer shares the parent's table.
///
/// Sharing it makes a spawn's cost independent of how many fds are open above the
/// child's sources, but the kernel rounds the copied table up to a power of two and
/// walks its empty part. Measured, microseconds for spawn / until reaped: with as
/// many open fds as the sources' numbers say, 52 / 158 against 47 / 154 for a copy
/// of all at 600, 50 / 191 against 49 / 190 at 1,000, 61 / 212 against 50 / 204 at
/// 1,100; with 19,000 open and the sources at 1,000, 58 / 201 against 148 / 1,908.
/// How many there are nobody tells for less than a syscall.
pub(crate) const SHARED_FD_MAX: i32 = 1024;

/// The lowest fd number for which a launcher lends a lower one: below it the copied
/// table is small.
pub(crate) const SLOT_FD_MAX: i32 = 256;

/// Stacks that are kept for the commands that will be prepared next. More of them at
/// once map one each.
pub(crate) const KEPT_STACKS_MAX: usize = 16;

/// The least capacity for which captured output asks for huge pages: two of the usual
/// size, so that one of them is whole wherever the memory begins.
pub(crate) const HUGE_CAPTURE_MIN: usize = 4 << 20;

/// Bytes of directory entries that the child reads at once when it has to walk
/// `/proc/self/fd`. They lie on its stack.
pub(crate) const DIRENT_BUFFER_SIZE: usize = 2048;

/// Bytes that one read of the pump takes at most. Measured with pipes of
/// `PIPE_SIZE`: 128 KiB drains 9 % faster than 64, and 256 hardly more.
pub(crate) const READ_SIZE: usize = 128 * 1024;

/// Bytes of the pump's buffer, and so of the longest message that it takes: more
/// than a socket sends with Linux's default buffer of 212,992. What lies above
/// `READ_SIZE` is for messages alone, and no memory until one needs it.
pub(crate) const MESSAGE_SIZE_MAX: usize = 256 * 1024;

/// Fds that Linux takes with one message (`SCM_MAX_FD`).
pub(crate) const FDS_PER_MESSAGE_MAX: usize = 253;

/// Received fds of one channel that wait for somebody to take them, before the
/// channel is read no more. The last message may bring some above that.
pub(crate) const FDS_WAITING_MAX: usize = FDS_PER_MESSAGE_MAX;

/// Bytes that a Linux pipe holds when it is made. A read or write of so many
/// found it full, or empty.
pub(crate) const PIPE_SIZE_MIN: usize = 64 * 1024;

/// Bytes that a pipe is made to hold when it was once found full: with two CPUs
/// a third of the time to drain it. 1 MiB is no better, and the kernel counts
/// what a user's pipes hold.
pub(crate) const PIPE_SIZE_MAX: usize = 256 * 1024;

/// Reads of one channel for one notice of readiness, so that a channel that is
/// never empty can't starve the others.
pub(crate) const READS_PER_TURN_MAX: u32 = 8;

/// Reads of a channel that is given up, in which what lies there is told first: more than
/// any pipe or socket holds by default, and an end for who is written to without one.
pub(crate) const LAST_READS_MAX: u32 = 1024;

/// Sources that a pump waits for by poll(2) alone. With more, an epoll set costs
/// less than to ask for each again.
pub(crate) const POLLED_MAX: usize = 16;

/// Sources that one wait for an epoll set finds ready.
pub(crate) const FOUND_MAX: usize = 256;

/// Writes of one channel for one notice of readiness.
pub(crate) const WRITES_PER_TURN_MAX: u32 = 8;

/// Bytes that a channel queues before `Pump::write` takes no more: Twisted's
/// figure.
pub(crate) const HIGH_WATER: usize = 64 * 1024;

/// Highest fd number that the slowest way of closing looks at, where there is
/// neither `close_range` nor `/proc`. Linux's default for `fs.nr_open`.
pub(crate) const CLOSE_EACH_MAX: i32 = 1 << 20;

/// The first sleep before a program that is open for writing is tried again;
/// each is twice as long as the one before.
pub(crate) const BUSY_SLEEP_MIN: Duration = Duration::from_millis(1);

/// And the last.
pub(crate) const BUSY_SLEEP_MAX: Duration = Duration::from_millis(64);

/// How long a child's channels are read after its exit when its time is over and
/// nobody has said how long.
pub(crate) const LINGER: Duration = Duration::from_millis(100);

/// Events that a helper handles before it looks at the clock again.
pub(crate) const EVENTS_PER_POLL_MAX: usize = 1024;

/// Commands of a list that are started before those that run are looked at: many that
/// can't be started must not hide a deadline either.
pub(crate) const STARTS_PER_POLL_MAX: usize = 16;

/// Between two looks at a child whose notice of exec has not come.
pub(crate) const NOTICE_TICK: Duration = Duration::from_millis(50);

/// Between two looks at a child that has not said how it went.
pub(crate) const REPORT_TICK: Duration = Duration::from_millis(1);

/// Looks before the first such sleep. The kernel lets a parent go on a moment
/// before it marks the child as one that has called exec.
pub(crate) const LOOKS_AT_ONCE_MAX: u32 = 16;

/// Polls for a start that is dropped which may fail, one after the other, before its
/// memory is left as it is: want of memory passes, a filter does not.
pub(crate) const POLLS_REFUSED_MAX: u32 = 16;

/// Time between two `waitpid` of a child for which the kernel has no pidfd.
pub(crate) const WAIT_TICK_MILLIS: u64 = 10;

/// The longest wait of one poll: what poll(2) takes, 24 days.
pub(crate) const WAIT_MAX: Duration = Duration::from_millis(i32::MAX as u64);

/// Entries of timers among which nobody looks for those that have lost their owner.
pub(crate) const SWEPT_TIMERS_MIN: usize = 64;

/// Time between two looks for orphans that nothing has announced.
pub(crate) const ORPHAN_TICK: Duration = Duration::from_secs(1);

/// Lists of children that one look reads, until two of them are the same.
pub(crate) const CHILD_LISTS_MAX: usize = 8;

// What is lent can be shared.
const_assert!(SLOT_FD_MAX <= SHARED_FD_MAX);
// A stream's read fits into the buffer, and so does a default socket's message.
const_assert!(READ_SIZE <= MESSAGE_SIZE_MAX && MESSAGE_SIZE_MAX > 212_992);
// The buffer for directory entries holds the largest one, with a name of 255.
const_assert!(DIRENT_BUFFER_SIZE >= 280);
// ...and is a small part of the stack that it lies on.
const_assert!(DIRENT_BUFFER_SIZE * 8 <= CHILD_STACK_SIZE);
// The stack is whole pages on every page size up to 64 KiB.
const_assert_eq!(CHILD_STACK_SIZE % (64 * 1024), 0);
// `Command::pre_exec` tells the number.
const_assert_eq!(CHILD_STACK_SIZE, 64 * 1024);
// The highest number that is looked at is an fd number.
const_assert!(CLOSE_EACH_MAX < FD_MAX);
