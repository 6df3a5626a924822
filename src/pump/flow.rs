//! How much is queued: marks of each channel, and limits on many of them together.

extern crate std;

use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use super::Pump;
use super::event::{ChannelError, ChildKey};
use crate::channel::Name;

/// What several queues hold together. One thread at a time uses them, that which
/// has the pump, so no order is asked for.
#[derive(Debug)]
pub(super) struct Account {
    queued: AtomicUsize,
    limit: AtomicUsize,
}

impl Account {
    fn new() -> Arc<Self> {
        Arc::new(Self { queued: AtomicUsize::new(0), limit: AtomicUsize::new(usize::MAX) })
    }

    fn set_limit(&self, bytes: Option<usize>) {
        self.limit.store(bytes.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// How many bytes more there may be.
    pub(super) fn room(&self) -> usize {
        let queued = self.queued.load(Ordering::Relaxed);
        self.limit.load(Ordering::Relaxed).saturating_sub(queued)
    }

    pub(super) fn add(&self, bytes: usize) {
        self.queued.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn take(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// # Flow control
///
/// What is queued counts for the channel's high-water mark, for its child's limit
/// and for the pump's, and a write takes what fits into all three. Who had fewer
/// bytes taken is told by [`Event::Drained`](super::Event::Drained) when his own
/// channel has room, whichever of them it was: a channel whose queue is empty writes
/// past all of them, as much as the kernel takes. So a limit that others have used
/// up slows a channel down and never stops it.
impl Pump {
    /// Sets how many queued bytes may be left of a channel when
    /// [`Event::Drained`](super::Event::Drained) comes, for who would rather write
    /// on before the queue is empty. 0 without this call.
    pub fn set_low_water<'n>(
        &mut self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
        bytes: usize,
    ) -> Result<(), ChannelError> {
        let (_, source) = self.slots.find_writing(child, channel.into())?;
        source.outbox.set_low_water(bytes);
        Ok(())
    }

    /// Asks for [`Event::Drained`](super::Event::Drained) of a channel, though nobody
    /// was refused bytes: it comes once, when the channel takes more and its queue is
    /// empty or at its low-water mark, which may be at the next poll. So whoever writes
    /// one piece for each has no more queued than that, and reads no further ahead
    /// than the child does. Who asks again and writes nothing has his polls return at
    /// once.
    ///
    /// The error: there is no such channel, or it takes no writes.
    ///
    /// ```
    /// use forkplan::{Command, Event, Pump};
    /// use std::io::Read;
    ///
    /// let mut file = std::fs::File::open("/etc/passwd")?;
    /// let mut pump = Pump::new();
    /// let cat = pump.add(Command::new("cat").spawn()?);
    /// pump.notify_drained(cat, 0)?;
    /// let (mut piece, mut back) = (vec![0; 4096], Vec::new());
    /// while !pump.is_empty() {
    ///     pump.poll(None)?;
    ///     while let Some(event) = pump.next_event() {
    ///         match event {
    ///             Event::Drained { .. } => match file.read(&mut piece)? {
    ///                 0 => pump.close(cat, 0)?,
    ///                 len => {
    ///                     // Less than a queue takes that is empty.
    ///                     assert_eq!(pump.write(cat, 0, &piece[..len])?, len);
    ///                     pump.notify_drained(cat, 0)?;
    ///                 }
    ///             },
    ///             Event::Data { bytes, .. } => back.extend_from_slice(bytes),
    ///             _ => {}
    ///         }
    ///     }
    /// }
    /// assert_eq!(back, std::fs::read("/etc/passwd")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn notify_drained<'n>(
        &mut self,
        child: ChildKey,
        channel: impl Into<Name<'n>>,
    ) -> Result<(), ChannelError> {
        let (token, source) = self.slots.writable(child, channel.into())?;
        source.outbox.owe_notice();
        self.update(token);
        Ok(())
    }

    /// Sets how many bytes all channels of a child queue together at most. `None`,
    /// as without this call: as their marks say. What is queued above that stays.
    ///
    /// ```
    /// use forkplan::{Channel::*, Command, OnDrop, Pump};
    ///
    /// let mut pump = Pump::new();
    /// let mut sleep = Command::new("sleep");
    /// sleep.arg("1000").fd(0, WritePipe).fd(3, WritePipe).on_drop(OnDrop::Kill);
    /// let sleep = pump.add(sleep.spawn()?);
    /// pump.set_queue_limit(sleep, Some(1000))?;
    /// for channel in [0, 3] {
    ///     while pump.write(sleep, channel, &[b'x'; 10_000])? > 0 {}
    /// }
    /// assert_eq!(pump.queued(sleep, 0)? + pump.queued(sleep, 3)?, 1000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_queue_limit(
        &mut self,
        child: ChildKey,
        bytes: Option<usize>,
    ) -> Result<(), ChannelError> {
        let slot = self.slots.get_mut(child).ok_or(ChannelError::NoChild)?;
        let account = slot.account.get_or_insert_with(Account::new);
        account.set_limit(bytes);
        for source in &mut slot.sources {
            source.outbox.set_child_account(account);
        }
        Ok(())
    }

    /// As above, for all channels in the pump, and those that come.
    pub fn set_total_queue_limit(&mut self, bytes: Option<usize>) {
        self.account.get_or_insert_with(Account::new).set_limit(bytes);
        for key in self.slots.keys().collect::<std::vec::Vec<_>>() {
            self.count_in(key);
        }
    }

    /// Counts what is queued for a child with the rest, if that is limited.
    pub(super) fn count_in(&mut self, child: ChildKey) {
        let (Some(account), Some(slot)) = (&self.account, self.slots.get_mut(child)) else {
            return;
        };
        for source in &mut slot.sources {
            source.outbox.set_total_account(account);
        }
    }
}
