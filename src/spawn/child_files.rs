//! Files that the child opens for itself, as steps.

extern crate std;

use std::vec::Vec;

use super::environment::checked;
use super::strings::Strings;
use crate::channel::Channel;
use crate::command::{Mapped, PlanError};
use crate::plan::Step;

/// For each file: it is opened on its first child fd, and copied to the others.
/// The fd map has put placeholders there.
pub(super) fn open_steps(
    channels: &[Mapped<'_>],
    strings: &mut Strings,
) -> Result<Vec<Step>, PlanError> {
    let mut steps = Vec::new();
    for Mapped { channel, fds, .. } in channels {
        let (Channel::FileInChild(file), Some((&first, others))) = (channel, fds.split_first())
        else {
            continue;
        };
        let path = checked(file.path().as_os_str(), || "path of a file".into())?;
        let path = strings.push(&[path])?;
        steps.push(Step::OpenFile { path, flags: file.flags(), to: first });
        steps.extend(others.iter().map(|&to| Step::Dup2 { from: first, to }));
    }
    Ok(steps)
}

/// Whether the child opens a file, which may block.
pub(super) fn are_asked_for(channels: &[Mapped<'_>]) -> bool {
    channels.iter().any(|mapped| matches!(mapped.channel, Channel::FileInChild(_)))
}
