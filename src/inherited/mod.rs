//! The far side: the fds that a program was started with, each handed out once
//! as what it is.
//!
//! The numbers that nobody owns are [`Unowned`], of which there is one for each;
//! that they are nobody's is what the user promises, once, to [`Inherited::new`].

extern crate std;

use core::sync::atomic::{AtomicBool, Ordering};
use std::os::fd::OwnedFd;
use std::vec::Vec;

use crate::channel::{End, EndError, check_duplex, end_of};
use crate::sys::fd_kind::kind_of;
use crate::sys::inherited::{Unowned, is_open};
use crate::sys::{Errno, FdKind};

mod error;
mod listen;

pub use self::error::InheritedError;

/// Whether this program has a record already: a second one would hand out the
/// same fds again.
static RECORDED: AtomicBool = AtomicBool::new(false);

/// The fds that this program was started with, to be taken, each once.
///
/// For a program that somebody has started with more than 0, 1 and 2, or that
/// wants to own those: the far side of a [`Command`](crate::Command), a server
/// under systemd, a filter, a plug-in. What is handed out is an [`OwnedFd`],
/// checked to be of the kind that is expected and close-on-exec from then on, or
/// an [`End`] for a [`Pump`](crate::Pump). What is not taken stays as it is: open,
/// inherited by what std starts, and nobody's.
///
/// # 0, 1 and 2
///
/// Other code says of these numbers that they are open for ever: std's `stdin`,
/// `stdout` and `stderr`, every `println!` and panic. So one that is taken is
/// moved to a higher number, and `/dev/null` comes in its place. From then on
/// std's handles read nothing and write to nobody, and never reach a stranger.
/// What std's `stdin` has read ahead before is lost, so take 0 before you use
/// that. Where there is no `/dev/null` (an empty root), taking fails.
///
/// std's runtime opens `/dev/null` at each of the three that is closed when the
/// program starts. Nobody can tell that from an inherited one; it is found as
/// [`FdKind::NULL`].
///
/// ```
/// use forkplan::{Channel::*, Command, FdKind, Inherited};
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
///
/// if std::env::var_os("FAR_SIDE").is_some() {
///     // SAFETY: the first thing that this program does; nothing before main has
///     // opened what it keeps.
///     let mut inherited = unsafe { Inherited::new() }?;
///     let mut control = UnixStream::from(inherited.take(3, FdKind::STREAM)?);
///     let mut line = String::new();
///     control.read_to_string(&mut line)?;
///     control.write_all(line.to_uppercase().as_bytes())?;
///     assert!(inherited.take(3, FdKind::STREAM).is_err()); // each once
///     return Ok(());
/// }
/// let mut far = Command::new(std::env::current_exe()?);
/// let mut child = far.env("FAR_SIDE", "1").fd(3, SocketPair).spawn()?;
/// let mut control = UnixStream::from(child.take(3).unwrap());
/// control.write_all(b"far away")?;
/// control.shutdown(std::net::Shutdown::Write)?;
/// assert_eq!(std::io::read_to_string(control)?, "FAR AWAY");
/// assert!(child.wait()?.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Inherited {
    /// By number.
    fds: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    number: i32,
    /// `None` once it was taken.
    unowned: Option<Unowned>,
}

impl Inherited {
    /// Records which fds the program was started with: those that are open now
    /// and would survive an exec. (What is marked close-on-exec was opened since:
    /// exec would have closed it.) Lists `/proc/self/fd`; without it, asks for
    /// each number up to the hard limit. Allocates. A second call is an error.
    ///
    /// # Safety
    ///
    /// Of every fd that is taken from this value, nobody in this program is or
    /// will be the owner: nobody closes it by its number, and nobody has an
    /// [`OwnedFd`], a [`File`](std::fs::File) or anything else that closes it. Who
    /// uses it as the number that it is (of 0, 1 and 2 all may) bears with what
    /// taking it does.
    ///
    /// That holds where this is called first in `main`, before a thread is
    /// started, a file opened, or an fd taken in another way
    /// (`FromRawFd::from_raw_fd`, the `listenfd` crate, a second version of this
    /// crate). What runs before `main` is no harm as long as it marks what it
    /// opens close-on-exec: std's runtime opens nothing but the `/dev/null` above,
    /// and that is nobody's. What a library's constructor, a preloaded library or
    /// a sanitizer opens without the mark and keeps, such as a log, is the owner's
    /// and not to be taken, nor is an fd that a program got to hand to such a
    /// library.
    pub unsafe fn new() -> Result<Self, InheritedError> {
        if RECORDED.swap(true, Ordering::Relaxed) {
            return Err(InheritedError::Recorded);
        }
        let mut fds = Vec::new();
        let note = |unowned: Unowned| {
            fds.push(Slot { number: unowned.number(), unowned: Some(unowned) });
        };
        // SAFETY: what our caller promises; and no second call comes here, but
        // after a failure that has dropped all that was found.
        if let Err(errno) = unsafe { Unowned::each(note) } {
            drop(fds);
            RECORDED.store(false, Ordering::Relaxed);
            return Err(failed(None)(errno));
        }
        fds.sort_unstable_by_key(|slot| slot.number);
        Ok(Self { fds })
    }

    /// The numbers that were not taken yet, in order.
    pub fn numbers(&self) -> impl Iterator<Item = i32> {
        self.fds.iter().filter(|slot| slot.unowned.is_some()).map(|slot| slot.number)
    }

    /// What an fd is, without taking it.
    pub fn kind(&self, fd: i32) -> Result<FdKind, InheritedError> {
        kind_of(self.find(fd)?.1.look()).map_err(failed(Some(fd)))
    }

    /// Takes an fd of a kind that is expected: [`FdKind::ANY`] does not look. It
    /// is close-on-exec from now on. Its number is the same, unless it is one of
    /// [0, 1 and 2](Self#0-1-and-2). Neither its flags nor its offset are touched,
    /// which are also those of whoever else has it.
    pub fn take(&mut self, fd: i32, expected: FdKind) -> Result<OwnedFd, InheritedError> {
        self.expect(fd, expected)?;
        self.own(fd)
    }

    /// Takes an fd as the end of a channel, known by its number, for
    /// [`Pump::attach`](crate::Pump::attach).
    pub fn end(&mut self, fd: i32, expected: FdKind) -> Result<End, InheritedError> {
        self.expect(fd, expected)?;
        let no_end = |error| InheritedError::NoEnd { fd, error };
        end_of(self.find(fd)?.1.look()).map_err(no_end)?;
        End::new(fd, self.own(fd)?).map_err(no_end)
    }

    /// Takes 0 and 1 as one channel, known by either number: 0 is read from, 1 is
    /// written to. If both are the same socket, it is one end that does both.
    ///
    /// ```
    /// use forkplan::{Channel::*, Command, Event, Inherited, Pump};
    ///
    /// if std::env::var_os("FAR_SIDE").is_some() {
    ///     // SAFETY: the first thing that this program does.
    ///     let mut inherited = unsafe { Inherited::new() }?;
    ///     let mut pump = Pump::new();
    ///     let parent = pump.attach([inherited.duplex()?]);
    ///     while !pump.is_empty() {
    ///         pump.poll(None)?;
    ///         let mut said = Vec::new();
    ///         let mut over = false;
    ///         while let Some(event) = pump.next_event() {
    ///             match event {
    ///                 Event::Data { bytes, .. } => said.extend_from_slice(bytes),
    ///                 Event::HalfClosed { .. } => over = true,
    ///                 _ => {}
    ///             }
    ///         }
    ///         if !said.is_empty() {
    ///             // What is more than it takes would have to wait for `Drained`.
    ///             assert_eq!(pump.write(parent, 1, &said)?, said.len());
    ///         }
    ///         if over {
    ///             pump.close(parent, 1)?;
    ///         }
    ///     }
    ///     return Ok(());
    /// }
    /// let mut far = Command::new(std::env::current_exe()?);
    /// let mut pump = Pump::new();
    /// let echo = pump.add(far.env("FAR_SIDE", "1").fd(0, WritePipe).fd(1, ReadPipe).spawn()?);
    /// pump.write(echo, 0, b"hello")?;
    /// pump.close(echo, 0)?;
    /// let mut said = Vec::new();
    /// while !pump.is_empty() {
    ///     pump.poll(None)?;
    ///     while let Some(event) = pump.next_event() {
    ///         match event {
    ///             Event::Data { bytes, .. } => said.extend_from_slice(bytes),
    ///             Event::Ended { exit, .. } => assert!(exit.success()),
    ///             _ => {}
    ///         }
    ///     }
    /// }
    /// assert_eq!(said, b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn duplex(&mut self) -> Result<End, InheritedError> {
        let (_, stdin) = self.find(0)?;
        let (_, stdout) = self.find(1)?;
        for (fd, unowned) in [(0, stdin), (1, stdout)] {
            end_of(unowned.look()).map_err(|error| InheritedError::NoEnd { fd, error })?;
        }
        let no_end = |error| {
            let fd = i32::from(error == EndError::NotWritable);
            InheritedError::NoEnd { fd, error }
        };
        check_duplex(stdin.look(), stdout.look()).map_err(no_end)?;
        let (stdin, stdout) = (self.own(0)?, self.own(1)?);
        End::of_stdio(stdin, stdout).map_err(no_end)
    }

    fn find(&self, fd: i32) -> Result<(usize, &Unowned), InheritedError> {
        match self.fds.binary_search_by_key(&fd, |slot| slot.number) {
            Ok(at) => match &self.fds[at].unowned {
                Some(unowned) => Ok((at, unowned)),
                None => Err(InheritedError::TakenAlready { fd }),
            },
            Err(_) if is_open(fd) => Err(InheritedError::NotInherited { fd }),
            Err(_) => Err(InheritedError::NotOpen { fd }),
        }
    }

    fn expect(&self, fd: i32, expected: FdKind) -> Result<(), InheritedError> {
        if expected == FdKind::ANY {
            return self.find(fd).map(drop);
        }
        let found = self.kind(fd)?;
        match expected.intersects(found) {
            true => Ok(()),
            false => Err(InheritedError::WrongKind { fd, expected, found }),
        }
    }

    fn own(&mut self, fd: i32) -> Result<OwnedFd, InheritedError> {
        let (at, _) = self.find(fd)?;
        let taken = InheritedError::TakenAlready { fd };
        let owned = self.fds[at].unowned.take().ok_or(taken)?.own();
        owned.map_err(|(unowned, errno)| {
            self.fds[at].unowned = Some(unowned);
            failed(Some(fd))(errno)
        })
    }
}

fn failed(fd: Option<i32>) -> impl Fn(Errno) -> InheritedError {
    move |errno| InheritedError::Errno { fd, errno: errno.raw_os_error() }
}

static_assertions::assert_impl_all!(Inherited: Send, Sync);
