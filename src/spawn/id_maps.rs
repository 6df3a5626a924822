//! The id maps of a child's new user namespace, written while it waits.

extern crate std;

use std::format;
use std::os::fd::OwnedFd;

use super::{CloneExtras, SpawnError, Subject};
use crate::sys::{fd, proc};

/// Writes both maps and lets the child go on. On an error it is not let go, and
/// waits. Allocates for an error alone.
pub(super) fn write(pid: i32, extras: &CloneExtras<'_>, go_on: &OwnedFd) -> Result<(), SpawnError> {
    let put = |name: &str, text: &str| {
        proc::write_to_proc(pid, name, text).map_err(|errno| {
            let file = format!("/proc/{pid}/{name}");
            let words = format!("write {file:?}");
            SpawnError::in_parent(words, Subject::Path(file.into()), errno)
        })
    };
    if !extras.uid_map.is_empty() {
        put("uid_map", &extras.uid_map)?;
    }
    if !extras.gid_map.is_empty() {
        // Without privileges the kernel wants that the child can't drop groups
        // that were given to forbid it something.
        if proc::write_to_proc(pid, "gid_map", &extras.gid_map).is_err() {
            put("setgroups", "deny")?;
            put("gid_map", &extras.gid_map)?;
        }
    }
    fd::write_byte(go_on).map_err(|errno| {
        SpawnError::in_parent("write to the waiting child", Subject::Nothing, errno)
    })
}
