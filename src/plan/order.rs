//! The order of the child's steps, and the reasons for it, in one place.

use super::{Cell, Problem, Step, Text, Unsolvable};

/// Writes out all steps of a child in the order in which it takes them.
///
/// 1. *A table of its own.* Until then the child shares the parent's fds and
///    must not touch any.
/// 2. *Marking the unnamed.* Before anything moves, since `dup2` clears the
///    mark of what it makes; and before anything that could hide `/proc`.
/// 3. *`setup`*: directories and whatever else the user asked for, in his
///    order, while fds still have their old numbers.
/// 4. *The fd map.*
/// 5. *`finish`*: signals, their mask and exec; see [`finish`].
pub(crate) fn lay_out(
    fds: &Problem<'_>,
    cells: &mut [Cell],
    setup: &[Step],
    finish: &[Step],
    mut emit: impl FnMut(Step),
) -> Result<(), Unsolvable> {
    let (unshare, mark) = fds.closing();
    unshare.into_iter().chain(mark).for_each(&mut emit);
    setup.iter().copied().for_each(&mut emit);
    fds.moves(cells, &mut emit)?;
    finish.iter().copied().for_each(&mut emit);
    Ok(())
}

/// The child's last steps.
///
/// Handlers go before the mask opens: a handler of the parent's must never run
/// in the child. Ignored signals get their default before that too, so that a
/// pending one acts as it will in the program. The mask is the last act before
/// exec: until then no signal but `SIGKILL` and `SIGSTOP` touches the child.
pub(crate) fn finish(
    clear_handlers: bool,
    default_signals: impl Iterator<Item = i32>,
    mask: u64,
    candidates: impl Iterator<Item = Text>,
) -> impl Iterator<Item = Step> {
    clear_handlers
        .then_some(Step::ClearHandlers)
        .into_iter()
        .chain(default_signals.map(|signal| Step::DefaultSignal { signal }))
        .chain([Step::SignalMask { mask }])
        .chain(candidates.map(|path| Step::Exec { path }))
}
