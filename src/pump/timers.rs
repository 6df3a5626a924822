//! What is due when: a pure queue, which is told the time.

extern crate std;

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::BinaryHeap;
use std::time::Instant;
use std::vec::Vec;

use super::event::ChildKey;
use crate::limits::SWEPT_TIMERS_MIN;

/// Whose a timer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerKey {
    pub(super) child: ChildKey,
    pub(super) what: What,
}

/// What is done when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// The next signal of a ladder.
    Stop,
    /// The end of waiting for channels after the exit.
    Drain,
    /// This channel's silence is told.
    Idle(u32),
    /// A child on its way to its program is looked at.
    Start,
}

/// One timer, kept by its owner.
///
/// It may be moved to a later time at no cost: its entry in the queue comes at
/// the old time and is put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Timer {
    at: Option<Instant>,
    /// It begins to run at the next reading of the clock, for so long.
    runs: Option<Duration>,
    /// The entry in the queue that is looked at. Others of it are stale.
    queued: Option<Instant>,
}

impl Timer {
    pub(super) fn clear(&mut self) {
        self.at = None;
        self.runs = None;
    }

    /// Whether the entry of this time is the one that is looked at.
    pub(super) fn comes(&self, at: Instant) -> bool {
        self.queued == Some(at)
    }
}

/// The entries of all timers.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BinaryHeap<Reverse<(Instant, TimerKey)>>,
    /// Whose timers begin to run at the next reading of the clock, unless they
    /// were cleared since.
    fresh: Vec<TimerKey>,
    /// With so many entries, those that are looked at by nobody are taken out.
    crowd: usize,
}

impl Timers {
    /// Takes out the entries of owners that are gone, if there may be many: their times
    /// may be far away, and children come and go. Costs no more than to put as many in.
    pub(super) fn sweep_if_crowded(&mut self, mut comes: impl FnMut(Instant, TimerKey) -> bool) {
        if self.queue.len() > self.crowd.max(SWEPT_TIMERS_MIN) {
            self.queue.retain(|Reverse((at, key))| comes(*at, *key));
            self.crowd = 2 * self.queue.len();
        }
    }

    /// Sets a timer, whatever it was set to before.
    pub(super) fn set(&mut self, timer: &mut Timer, key: TimerKey, at: Instant) {
        timer.runs = None;
        timer.at = Some(at);
        if timer.queued.is_none_or(|queued| at < queued) {
            timer.queued = Some(at);
            self.queue.push(Reverse((at, key)));
        }
    }

    /// Has a timer run for so long, from the next reading of the clock on.
    pub(super) fn begin(&mut self, timer: &mut Timer, key: TimerKey, runs: Duration) {
        timer.at = None;
        if timer.runs.replace(runs).is_none() {
            self.fresh.push(key);
        }
    }

    /// One whose timer may begin to run, for [`run`](Self::run).
    pub(super) fn next_fresh(&mut self) -> Option<TimerKey> {
        self.fresh.pop()
    }

    /// The clock says `now`: the timer begins to run, if it waited for that.
    pub(super) fn run(&mut self, timer: &mut Timer, key: TimerKey, now: Instant) {
        let Some(runs) = timer.runs.take() else { return };
        // A span whose end no `Instant` can say has none.
        if let Some(at) = now.checked_add(runs) {
            self.set(timer, key, at);
        }
    }

    /// Whether a timer waits for the next reading of the clock.
    pub(super) fn wait_for_clock(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Whether there is a reason to read the clock.
    pub(super) fn are_running(&self) -> bool {
        !self.queue.is_empty() || !self.fresh.is_empty()
    }

    /// The next entry that will come.
    pub(super) fn head(&self) -> Option<(Instant, TimerKey)> {
        self.queue.peek().map(|Reverse(entry)| *entry)
    }

    /// Whether the head stands for what its timer is set to. If not it goes, or
    /// to where it belongs, and there is another head.
    pub(super) fn head_is_right(&mut self, timer: Option<&mut Timer>) -> bool {
        let Some((at, key)) = self.head() else { return true };
        let timer = timer.filter(|timer| timer.queued == Some(at));
        if timer.as_ref().is_some_and(|timer| timer.at == Some(at)) {
            return true;
        }
        self.queue.pop();
        if let Some(timer) = timer {
            timer.queued = None;
            if let Some(at) = timer.at {
                self.set(timer, key, at);
            }
        }
        false
    }

    /// The next entry that is not later than `now`, for
    /// [`came`](Self::came).
    pub(super) fn next_entry(&mut self, now: Instant) -> Option<(Instant, TimerKey)> {
        self.head().filter(|(at, _)| *at <= now)?;
        self.queue.pop().map(|Reverse(entry)| entry)
    }

    /// Whether the timer of an entry that came is due. Is it so, it is cleared;
    /// was it moved, it waits on.
    pub(super) fn came(
        &mut self,
        timer: &mut Timer,
        entry: (Instant, TimerKey),
        now: Instant,
    ) -> bool {
        let (at, key) = entry;
        if timer.queued != Some(at) {
            return false;
        }
        timer.queued = None;
        match timer.at {
            Some(at) if at > now => {
                self.set(timer, key, at);
                false
            }
            due => {
                timer.at = None;
                due.is_some()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::End;
    use crate::pump::{Ladder, Pump};
    use proptest::prelude::*;
    use std::os::unix::net::UnixStream;
    use std::vec;

    fn key(index: u32) -> TimerKey {
        TimerKey { child: ChildKey { index, generation: 0 }, what: What::Stop }
    }

    fn fire(timers: &mut Timers, owners: &mut [Timer], now: Instant) -> Vec<u32> {
        while let Some(key) = timers.next_fresh() {
            timers.run(&mut owners[key.child.index as usize], key, now);
        }
        let mut fired = vec![];
        while let Some(entry) = timers.next_entry(now) {
            let index = entry.1.child.index;
            if timers.came(&mut owners[index as usize], entry, now) {
                fired.push(index);
            }
        }
        fired.sort_unstable();
        fired
    }

    fn next(timers: &mut Timers, owners: &mut [Timer]) -> Option<Instant> {
        loop {
            let (at, key) = timers.head()?;
            if timers.head_is_right(Some(&mut owners[key.child.index as usize])) {
                return Some(at);
            }
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Set(usize, u64),
        Begin(usize, u64),
        Clear(usize),
        Pass(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0usize..4, 0u64..50).prop_map(|(i, at)| Op::Set(i, at)),
            (0usize..4, 0u64..50).prop_map(|(i, runs)| Op::Begin(i, runs)),
            (0usize..4).prop_map(Op::Clear),
            (0u64..20).prop_map(Op::Pass),
        ]
    }

    proptest! {
        /// Against times in a plain array, looked at one by one.
        #[test]
        fn each_fires_once_when_it_was_last_set_to(ops in proptest::collection::vec(op(), 0..200)) {
            let start = Instant::now();
            let (mut timers, mut owners) = (Timers::default(), [Timer::default(); 4]);
            let (mut model, mut now) = ([None; 4], 0);
            for op in ops {
                match op {
                    Op::Set(i, later) => {
                        let at = now + later;
                        model[i] = Some(at);
                        timers.set(&mut owners[i], key(i as u32), start + Duration::from_secs(at));
                    }
                    // The clock is read at the end of each step here.
                    Op::Begin(i, runs) => {
                        model[i] = Some(now + runs);
                        let runs = Duration::from_secs(runs);
                        timers.begin(&mut owners[i], key(i as u32), runs);
                    }
                    Op::Clear(i) => {
                        model[i] = None;
                        owners[i].clear();
                    }
                    Op::Pass(time) => now += time,
                }
                let due = |at: &Option<u64>| at.is_some_and(|at| at <= now);
                let expected: Vec<u32> =
                    (0..4).filter(|&i| due(&model[i as usize])).collect();
                let at = start + Duration::from_secs(now);
                prop_assert_eq!(fire(&mut timers, &mut owners, at), expected.clone());
                expected.iter().for_each(|&i| model[i as usize] = None);
                let first = model.iter().flatten().min().map(|at| start + Duration::from_secs(*at));
                prop_assert_eq!(next(&mut timers, &mut owners), first);
                prop_assert_eq!(model.map(|at| at.is_some()), owners.map(|timer| timer.at.is_some()));
            }
        }
    }

    #[test]
    fn entries_of_who_is_gone_do_not_gather_before_their_time() {
        let hour = Duration::from_secs(3600);
        let mut pump = Pump::new();
        let attached = |pump: &mut Pump, after| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let key = pump.attach([End::new("talk", ours).unwrap()]);
            pump.set_deadline(key, Some(Instant::now() + after), Ladder::new()).unwrap();
            (key, theirs)
        };
        // It is the next that comes, so the others are not looked at.
        let (first, _theirs) = attached(&mut pump, hour / 2);
        for _ in 0..1000 {
            let (key, _theirs) = attached(&mut pump, hour);
            pump.abort(key, "talk").unwrap();
            pump.poll(Some(Duration::ZERO)).unwrap();
            while pump.next_event().is_some() {}
        }
        assert!(pump.timers.queue.len() <= SWEPT_TIMERS_MIN + 1);
        let due = pump.timers.head().unwrap().1;
        assert_eq!(due, TimerKey { child: first, what: What::Stop });
    }

    #[test]
    fn a_timer_that_is_moved_to_later_times_has_one_entry() {
        let (mut timers, mut timer) = (Timers::default(), Timer::default());
        let start = Instant::now();
        for i in 0..1000 {
            timers.set(&mut timer, key(0), start + Duration::from_secs(i));
        }
        assert_eq!(timers.queue.len(), 1);
    }
}
