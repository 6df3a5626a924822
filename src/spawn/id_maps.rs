//! The id maps of a child's new user namespace, written while it waits.

extern crate std;

use std::format;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use super::{CloneExtras, SpawnError, Subject};
use crate::sys::{Errno, fd};

/// Writes both maps and lets the child go on. On an error it is not let go, and
/// waits.
pub(super) fn write(pid: i32, extras: &CloneExtras<'_>, go_on: &OwnedFd) -> Result<(), SpawnError> {
    let file = |name: &str| format!("/proc/{pid}/{name}");
    let put = |name: &str, text: &str| -> Result<(), SpawnError> {
        fs::write(file(name), text).map_err(|error| refused(&file(name), &error))
    };
    if !extras.uid_map.is_empty() {
        put("uid_map", &extras.uid_map)?;
    }
    if !extras.gid_map.is_empty() {
        // Without privileges the kernel wants that the child can't drop groups
        // that were given to forbid it something.
        if fs::write(file("gid_map"), &extras.gid_map).is_err() {
            put("setgroups", "deny")?;
            put("gid_map", &extras.gid_map)?;
        }
    }
    fd::write_byte(go_on).map_err(|errno| {
        SpawnError::in_parent("write to the waiting child", Subject::Nothing, errno)
    })
}

fn refused(file: &str, error: &io::Error) -> SpawnError {
    let errno = error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
    SpawnError::in_parent(format!("write {file:?}"), Subject::Path(file.into()), errno)
}
