//! Processes that a child of ours has left behind, and that were given to us.

extern crate std;

use core::fmt;
use std::io;
use std::time::Instant;
use std::vec::Vec;

use self::sessions::{Found, Session};
pub(super) use self::sessions::{Leaves, Orphans};
use super::event::ChildKey;
use super::slots::Slot;
use super::turns::Note;
use super::{Part, Pump};
use crate::child::{Child, Ends};
use crate::limits::ORPHAN_TICK;
use crate::sys::{Errno, Message, orphans};

mod sessions;

/// Why orphans are not adopted.
///
/// ```
/// use forkplan::{AdoptError, Command, Pump};
///
/// let mut pump = Pump::new();
/// let cat = pump.add(Command::new("cat").spawn()?);
/// // In the session of this program, as are all children that it makes.
/// let refused = pump.adopt_orphans(cat);
/// assert!(matches!(refused, Err(AdoptError::NoSubreaper | AdoptError::NoSession)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AdoptError {
    /// The key names no child: it has ended.
    NoChild,
    /// The key is that of attached channels, which have no process.
    NoProcess,
    /// The child was reaped. Its session can't be told from another any more.
    AlreadyExited,
    /// The child leads no session: its command has neither
    /// [`setsid`](crate::Command::setsid) nor a controlling terminal.
    NoSession,
    /// This program is no child subreaper, so orphans are not given to it.
    NoSubreaper,
    /// Children can't be listed here: not Linux, no `/proc` or that of another pid
    /// namespace, or a kernel without `CONFIG_PROC_CHILDREN`.
    Unsupported,
    /// They could not be listed now, with this errno: `EMFILE`.
    Errno(i32),
}

impl Pump {
    /// Has processes that a child leaves behind become children of this pump.
    ///
    /// A process whose parent has ended is given to the nearest *child subreaper*
    /// above it, which has to reap it. Where that is this program, each such process
    /// of the session that `child` leads is told by
    /// [`Event::Adopted`](super::Event::Adopted) and is a child like any other from
    /// then on, with a key of its own and without channels: `Exited` and `Ended` come
    /// of it, [`signal`](Self::signal), [`stop`](Self::stop) and
    /// [`set_deadline`](Self::set_deadline) reach it, the pump is not
    /// [empty](Self::is_empty) before it has ended, and [`remove`](Self::remove) gives
    /// its handle to who wants to let it go. Of a dropped handle holds what the
    /// leader's [`on_drop`](crate::Command::on_drop) says.
    ///
    /// # What the program has to do itself
    ///
    /// To become a subreaper: `prctl(PR_SET_CHILD_SUBREAPER)`, or
    /// `rustix::process::set_child_subreaper`. That holds for the whole process, so no
    /// call here does it: whatever any part of the program has started leaves its
    /// orphans to the program from then on, and those which nobody reaps stay zombies
    /// until it ends.
    ///
    /// # Whose orphans
    ///
    /// Those alone that are in the session of `child`, which it must lead
    /// ([`setsid`](crate::Command::setsid)). No process that this program has made can
    /// be in it but `child`, for a process is born in its parent's session and leaves it
    /// only for one that it leads. So what was spawned by other means, by std or for
    /// another pump, is never adopted, reaped or told, nor what that leaves behind. A
    /// process group would not do: any child may be put into one.
    ///
    /// A process that has made a session of its own, as daemons do, has left that of
    /// `child`, and so have those that it starts. Where nothing may get away, have the
    /// child begin a pid namespace ([`unshare`](crate::Command::unshare)) or a
    /// cgroup ([`kill_cgroup`](crate::kill_cgroup)).
    ///
    /// # When they are found
    ///
    /// Those that the child itself leaves, before its `Exited` is told; those that an
    /// adopted one leaves, before its; and all others, whose parent never was in the
    /// pump, within a second, for no fd becomes ready when a process is orphaned. Each
    /// of these looks lists the program's children in `/proc` and asks each for its
    /// session; one before an exit serves all exits that are ready with it. Where no fd
    /// is free for a look, what a process leaves may go unnoticed.
    ///
    /// In a program that ignores `SIGCHLD`, or where somebody else reaps the child or
    /// an orphan, those are told that were found until then.
    ///
    /// It ends when no process of the session is left in the pump, or the child is
    /// [removed](Self::remove). One pump at a time adopts from a session; another would
    /// adopt the same. Looks for orphans at once; a second call changes nothing.
    /// Allocates, as each look does; never blocks.
    ///
    /// ```
    /// use forkplan::{Command, Event, Pump};
    /// use rustix::process::{getpid, set_child_subreaper};
    ///
    /// set_child_subreaper(Some(getpid()))?; // whatever this program starts
    ///
    /// let mut pump = Pump::new();
    /// let script = "(sleep 0.1; exit 7) & exit 0";
    /// let sh = pump.add(Command::new("sh").args(["-c", script]).setsid().spawn()?);
    /// pump.adopt_orphans(sh)?;
    /// let mut orphan = None;
    /// while !pump.is_empty() {
    ///     pump.poll(None)?;
    ///     while let Some(event) = pump.next_event() {
    ///         match event {
    ///             Event::Adopted { child, leader, .. } if leader == sh => orphan = Some(child),
    ///             Event::Ended { child, exit } if Some(child) == orphan => {
    ///                 assert_eq!(exit.code(), Some(7));
    ///             }
    ///             _ => {}
    ///         }
    ///     }
    /// }
    /// assert!(orphan.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`AdoptError`] says; all is as before then.
    pub fn adopt_orphans(&mut self, child: ChildKey) -> Result<(), AdoptError> {
        let slot = self.slots.get(child).ok_or(AdoptError::NoChild)?;
        let leader = slot.child.as_ref().ok_or(AdoptError::NoProcess)?;
        if self.orphans.session(child).is_some() {
            return Ok(());
        }
        let id = leader.id().ok_or(AdoptError::AlreadyExited)? as i32;
        let refused = |errno: Errno| AdoptError::Errno(errno.raw_os_error());
        if !orphans::lists_children().map_err(refused)? {
            return Err(AdoptError::Unsupported);
        }
        if !orphans::takes_orphans() {
            return Err(AdoptError::NoSubreaper);
        }
        let session = orphans::session_of(id);
        // The number was its own until here, then.
        leader.has_ended().ok_or(AdoptError::AlreadyExited)?;
        if session != Ok(id) {
            return Err(AdoptError::NoSession);
        }
        let on_drop = leader.on_drop();
        self.orphans.sessions.push(Session { leader: child, id, on_drop, adopted: Vec::new() });
        self.set_leaves(child, Leaves::Unseen);
        let due = self.now() + ORPHAN_TICK;
        self.orphans.due.get_or_insert(due);
        self.look_for_orphans().map_err(|errno| {
            self.orphans.keep(|session| session.leader != child);
            refused(errno)
        })
    }

    /// A child has left the pump with its handle.
    pub(super) fn orphan_let_go(&mut self, child: ChildKey, slot: &Slot) {
        if slot.leaves != Leaves::Unasked {
            let pid = slot.child.as_ref().and_then(Child::id).map(|pid| pid as i32);
            self.orphans.let_go(child, pid, &self.slots);
        }
    }

    /// A child is about to be reaped: finds what it leaves while its number still
    /// is its own.
    pub(super) fn look_before_reaping(&mut self, child: ChildKey) {
        if !self.leaves_unseen(child) {
            return;
        }
        // One look serves all that have ended by now.
        let turns = self.turns.iter().filter(|token| token.part == Part::Process);
        let ended = turns.map(|token| token.child).filter(|&child| self.leaves_unseen(child));
        let ended: Vec<ChildKey> = ended.chain([child]).collect();
        // Where children can't be listed, nobody waits for an exit because of that.
        let _ = self.look_for_orphans();
        for child in ended {
            self.set_leaves(child, Leaves::Seen);
        }
    }

    /// A child was reaped.
    pub(super) fn orphans_reaped(&mut self, child: ChildKey) {
        if self.slots.get(child).is_some_and(|slot| slot.leaves != Leaves::Unasked) {
            self.orphans.reaped(child, &self.slots);
        }
    }

    /// Whether it has ended and what it leaves was not looked for.
    fn leaves_unseen(&self, child: ChildKey) -> bool {
        self.slots.get(child).is_some_and(|slot| {
            let runs = || slot.child.as_ref().and_then(Child::has_ended) == Some(false);
            slot.leaves == Leaves::Unseen && !slot.life.has_exited() && !runs()
        })
    }

    fn set_leaves(&mut self, child: ChildKey, leaves: Leaves) {
        if let Some(slot) = self.slots.get_mut(child) {
            slot.leaves = leaves;
        }
    }

    /// The look that nothing has announced.
    pub(super) fn orphans_are_due(&mut self, now: Instant) {
        if self.orphans.due.is_some_and(|due| due <= now) {
            self.orphans.due = Some(now + ORPHAN_TICK);
            // The next one may have more luck.
            let _ = self.look_for_orphans();
        }
    }

    /// Adopts all orphans that there are.
    fn look_for_orphans(&mut self) -> Result<(), Errno> {
        for Found { leader, pid, pidfd } in self.orphans.find(&self.slots)? {
            let Some(session) = self.orphans.session(leader) else { continue };
            let orphan = Child::new(pid, pidfd, Ends::default(), session.on_drop);
            session.adopted.push((self.slots.next_key(), pid));
            let (child, _) = self.insert(orphan);
            self.set_leaves(child, Leaves::Unseen);
            self.notes.push_back(Note::Adopted { child, leader, pid: pid.unsigned_abs() });
        }
        Ok(())
    }
}

impl fmt::Display for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoChild => "no such child in this pump",
            Self::NoProcess => "attached channels have no process",
            Self::AlreadyExited => "the child has already exited",
            Self::NoSession => "the child leads no session, by which its orphans would be known",
            Self::NoSubreaper => "this program is no child subreaper, so it gets no orphans",
            Self::Unsupported => "the children of a process can't be listed here",
            Self::Errno(errno) => return write!(f, "children not listed: {}", Message(*errno)),
        })
    }
}

impl core::error::Error for AdoptError {}

impl From<AdoptError> for io::Error {
    fn from(error: AdoptError) -> Self {
        let kind = match error {
            AdoptError::NoChild | AdoptError::AlreadyExited => io::ErrorKind::NotFound,
            AdoptError::Unsupported => io::ErrorKind::Unsupported,
            AdoptError::Errno(errno) => Self::from_raw_os_error(errno).kind(),
            _ => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}
