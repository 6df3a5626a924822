//! The order of the child's steps, and the reasons for it, in one place.

use super::{Bytes, Cell, Problem, Step, Unsolvable};

/// The steps of a child that are known before its spawns, in three parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    /// While fds have the parent's numbers: id maps, `/proc`, namespaces, mounts,
    /// session and terminal, directories.
    pub(crate) before: &'a [Step],
    /// After the fd map: limits, capabilities and ids, restrictions.
    pub(crate) after: &'a [Step],
    /// See [`finish`].
    pub(crate) finish: &'a [Step],
}

/// Writes out all steps of a child in the order in which it takes them.
///
/// 1. *A table of its own.* Until then the child shares the parent's fds and
///    must not touch any.
/// 2. *Marking the unnamed.* Before anything moves, since `dup2` clears the
///    mark of what it makes; and before anything that could hide `/proc`.
/// 3. *`before`*, while fds still have their old numbers.
/// 4. *The fd map.*
/// 5. *`after`*, and then *`finish`*: signals, their mask and exec.
///
/// Files that the child opens for itself are in `after`: below the map, which
/// holds their numbers with placeholders, after roots and directories, so that
/// paths mean what they mean to the program, and after the ids. Before the ids
/// they would be opened with the rights of the parent, by a path that may be
/// somebody else's: the child would be a confused deputy. Landlock and the filter
/// come later; they are for the program, and might forbid to open.
pub(crate) fn lay_out(
    fds: &Problem<'_>,
    cells: &mut [Cell],
    parts: Parts<'_>,
    mut emit: impl FnMut(Step),
) -> Result<(), Unsolvable> {
    let (unshare, mark) = fds.closing();
    unshare.into_iter().chain(mark).for_each(&mut emit);
    parts.before.iter().copied().for_each(&mut emit);
    fds.moves(cells, &mut emit)?;
    parts.after.iter().copied().for_each(&mut emit);
    parts.finish.iter().copied().for_each(&mut emit);
    Ok(())
}

/// What the last steps are made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Finish {
    pub(crate) clear_handlers: bool,
    /// A bit for each signal, bit *n* − 1 for signal *n*.
    pub(crate) default_signals: u64,
    pub(crate) ignored_signals: u64,
    pub(crate) mask: u64,
    pub(crate) pids: u32,
    pub(crate) hook: bool,
    pub(crate) filter: Option<Bytes>,
}

/// The child's last steps but for exec.
///
/// Handlers go before the mask opens: a handler of the parent's must never run
/// in the child. Ignored signals get their default before that too, so that a
/// pending one acts as it will in the program. The hook comes after all that is
/// ours but the filter, which is for the program and would be in its way. The
/// mask is the last act before exec: until then no signal but `SIGKILL` and
/// `SIGSTOP` touches the child.
pub(crate) fn finish(finish: &Finish) -> impl Iterator<Item = Step> + use<> {
    let Finish { clear_handlers, default_signals, ignored_signals, mask, pids, hook, filter } =
        finish.clone();
    let of = |set: u64| (1..=64).filter(move |signal| set >> (signal - 1) & 1 == 1);
    clear_handlers
        .then_some(Step::ClearHandlers)
        .into_iter()
        .chain(of(default_signals).map(|signal| Step::DefaultSignal { signal }))
        .chain(of(ignored_signals).map(|signal| Step::IgnoreSignal { signal }))
        .chain((0..pids).map(|slot| Step::WritePid { slot }))
        .chain(hook.then_some(Step::Hook))
        .chain(filter.map(|filter| Step::Seccomp { filter }))
        .chain([Step::SignalMask { mask }])
}
