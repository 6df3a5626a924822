//! Every `libc::` and raw syscall, every `cfg` of a platform.
//!
//! The other rooms see one set of names. Where a platform lacks something, the
//! name is there and says so with an error, or [`Features`] lacks its bit.
//!
//! * [`child`]: what the child may call, nothing else. Raw syscalls on Linux
//!   (x86-64, aarch64), libc's thinnest wrappers elsewhere.
//! * [`clone`]: one way to make a child that shares the parent's memory, one to
//!   make a child that has a copy.
//! * [`sanitizer`]: what that is told of a child.
//! * [`features`], [`probe`]: what the kernel has.
//! * [`fd`], [`fifo`], [`memfd`], [`slot`], [`memory`], [`shelf`], [`once`], [`poll`],
//!   [`epoll`], [`wake`], [`process`], [`orphans`], [`signals`], [`socket`], [`terminal`]: the
//!   parent's calls.
//! * [`inherited`], [`fd_kind`], [`shared`]: fds that this program was started
//!   with, which others have too.

#[cfg(not(unix))]
compile_error!("forkplan is for Unix");
#[cfg(not(target_has_atomic = "64"))]
compile_error!("forkplan needs atomics of 64 bits: a child reports in one");

#[cfg(raw_syscalls)]
mod arch;
pub(crate) mod cgroup;
#[cfg(raw_syscalls)]
#[path = "child_raw/mod.rs"]
pub(crate) mod child;
#[cfg(not(raw_syscalls))]
#[path = "child_libc/mod.rs"]
pub(crate) mod child;
#[cfg(raw_syscalls)]
#[path = "clone_raw.rs"]
pub(crate) mod clone;
#[cfg(not(raw_syscalls))]
#[path = "clone_libc.rs"]
pub(crate) mod clone;
mod decimal;
pub(crate) mod epoll;
mod errno;
pub(crate) mod fd;
pub(crate) mod fd_kind;
pub(crate) mod features;
pub(crate) mod fifo;
pub(crate) mod hook;
pub(crate) mod inherited;
pub(crate) mod memfd;
pub(crate) mod memory;
pub(crate) mod numbers;
pub(crate) mod once;
pub(crate) mod orphans;
pub(crate) mod poll;
pub(crate) mod probe;
pub(crate) mod process;
#[cfg(raw_syscalls)]
mod sanitizer;
pub(crate) mod shared;
pub(crate) mod shelf;
pub(crate) mod signals;
pub(crate) mod slot;
pub(crate) mod socket;
pub(crate) mod stops;
pub(crate) mod terminal;
pub(crate) mod users;
pub(crate) mod wake;

pub(crate) use self::errno::{Errno, Message};
use self::errno::{check, last_errno};
pub use self::fd_kind::FdKind;
pub(crate) use self::features::CHILD_IS_INSTRUMENTED;
pub use self::features::Features;
pub use self::hook::HookFunction;
