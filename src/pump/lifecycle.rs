//! Which facts make which events: a pure state machine.

/// One child's way to its end.
///
/// Two things have to come together in any order: the process is reaped, and
/// every channel is closed. Whichever comes last makes the child's end, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifecycle {
    open_channels: usize,
    exited: bool,
}

impl Lifecycle {
    /// A process that runs, with this many channels.
    pub(super) fn new(open_channels: usize) -> Self {
        Self { open_channels, exited: false }
    }

    /// Channels alone: with nothing to be reaped, the last of them is the end.
    pub(super) fn without_process(open_channels: usize) -> Self {
        Self { open_channels, exited: true }
    }

    /// A channel was closed. Whether that ends the child.
    #[must_use]
    pub(super) fn channel_closed(&mut self) -> bool {
        debug_assert!(self.open_channels > 0, "a channel is closed once");
        self.open_channels = self.open_channels.saturating_sub(1);
        self.exited && self.open_channels == 0
    }

    /// The process was reaped. Whether that ends the child.
    #[must_use]
    pub(super) fn exited(&mut self) -> bool {
        debug_assert!(!self.exited, "a process is reaped once");
        self.exited = true;
        self.open_channels == 0
    }

    pub(super) fn has_exited(self) -> bool {
        self.exited
    }

    /// Whether its end was made, though it may have yet to be told: nothing comes
    /// after that.
    pub(super) fn has_ended(self) -> bool {
        self.exited && self.open_channels == 0
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::Lifecycle;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn exit_comes_last() {
        let mut life = Lifecycle::new(2);
        assert!(!life.channel_closed());
        assert!(!life.channel_closed());
        assert!(life.exited());
    }

    #[test]
    fn a_channel_outlives_the_process() {
        let mut life = Lifecycle::new(2);
        assert!(!life.channel_closed());
        assert!(!life.exited());
        assert!(life.channel_closed());
    }

    #[test]
    fn a_child_without_channels_ends_with_its_process() {
        assert!(Lifecycle::new(0).exited());
    }

    #[test]
    fn channels_without_a_process_end_with_the_last() {
        let mut life = Lifecycle::without_process(2);
        assert!(!life.channel_closed());
        assert!(life.channel_closed());
        assert!(life.has_exited());
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fact {
        Closed,
        Exited,
    }

    /// What a life has come to, from nothing but the list of its facts.
    fn has_ended(channels: usize, facts: &[Fact]) -> bool {
        let closed = facts.iter().filter(|&&fact| fact == Fact::Closed).count();
        closed == channels && facts.contains(&Fact::Exited)
    }

    fn take(life: &mut Lifecycle, fact: Fact) -> bool {
        match fact {
            Fact::Closed => life.channel_closed(),
            Fact::Exited => life.exited(),
        }
    }

    /// Whether every fact of every life of up to 12 channels is told as the list
    /// says, the first end and no other.
    fn agrees_with_the_list(take: fn(&mut Lifecycle, Fact) -> bool) -> bool {
        let orders = |channels| (0..=channels).map(move |exit| (channels, exit));
        (0..=12).flat_map(orders).all(|(channels, exit)| {
            let mut facts = vec![Fact::Closed; channels];
            facts.insert(exit, Fact::Exited);
            let mut life = Lifecycle::new(channels);
            (1..=facts.len()).all(|seen| {
                let ended = has_ended(channels, &facts[..seen]);
                let before = has_ended(channels, &facts[..seen - 1]);
                take(&mut life, facts[seen - 1]) == (ended && !before)
                    && life.has_exited() == (seen > exit)
                    && life.has_ended() == ended
            })
        })
    }

    #[test]
    fn every_life_is_told_as_its_list_of_facts_says() {
        assert!(agrees_with_the_list(take));
    }

    #[test]
    fn control_another_rule_is_not_what_the_list_says() {
        assert!(!agrees_with_the_list(|life, fact| take(life, fact) || life.has_exited()));
        assert!(!agrees_with_the_list(|life, fact| take(life, fact) || life.open_channels == 0));
        assert!(!agrees_with_the_list(|life, fact| take(life, fact) && fact == Fact::Exited));
    }

    proptest! {
        #[test]
        fn in_any_order_the_last_fact_and_no_other_ends(channels in 0usize..40, at in 0usize..40) {
            let at = at.min(channels);
            let mut life = Lifecycle::new(channels);
            let mut ends = Vec::new();
            for fact in 0..=channels {
                ends.push(if fact == at { life.exited() } else { life.channel_closed() });
                prop_assert_eq!(life.has_exited(), fact >= at);
            }
            prop_assert_eq!(ends.iter().position(|&end| end), Some(channels));
            prop_assert_eq!(ends.iter().filter(|&&end| end).count(), 1);
        }
    }
}
