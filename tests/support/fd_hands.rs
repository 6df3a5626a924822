//! The kernel's hands: fd steps carried out in a thread with an fd table of its
//! own, from any state of the low numbers, and the table looked at afterwards.
//!
//! Millions of plans are carried out one after the other, so syscalls are what
//! there is to save. One `poll` tells which file is at each number; and a table is
//! made from what the last look found, by what differs alone. That nothing else
//! has changed is confirmed by a look before the steps, now and then.

use std::{fs, io, thread};

use forkplan::plan::Step;
use libc::{c_int, c_short, c_uint};

/// The numbers that are looked at. Those above them are the harness's own.
pub(crate) const WINDOW: i32 = 9;
/// Of what the parent has at a number there is a copy this much above it.
const COPIES: i32 = 40;

const CLOSE_RANGE_UNSHARE: c_uint = 1 << 1;
const CLOSE_RANGE_CLOEXEC: c_uint = 1 << 2;

const ASKED: c_short = libc::POLLIN | libc::POLLOUT | libc::POLLRDNORM | libc::POLLWRNORM;
/// All that `poll` says when that is asked is below this.
const ANSWERS: usize = 512;
const NOBODY: i8 = -1;

/// What the parent has, a bit for each number of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) open: u32,
    pub(crate) cloexec: u32,
}

impl State {
    /// What is at a number, and whether exec closes it.
    pub(crate) fn at(self, number: i32) -> Option<(i32, bool)> {
        (self.open >> number & 1 == 1).then_some((number, self.cloexec >> number & 1 == 1))
    }

    pub(crate) fn table(self) -> Found {
        core::array::from_fn(|number| self.at(number as i32))
    }
}

/// A table as it is: what is at each number, and whether exec closes it.
pub(crate) type Found = [Option<(i32, bool)>; WINDOW as usize];

/// Runs `work` in so many threads, where it can do to fds what it likes. Nothing
/// there may go to an fd, so what is wrong is returned.
#[track_caller]
pub(crate) fn in_tables_of_their_own<T: Send>(
    threads: usize,
    work: impl Fn(&mut Hands) -> Result<T, String> + Sync,
) -> Vec<T> {
    let work = || {
        // SAFETY: takes integers alone; the thread's fds are its own after it.
        done(unsafe { libc::unshare(libc::CLONE_FILES) }).map_err(|e| e.to_string())?;
        work(&mut Hands::new().map_err(|error| format!("files: {error}"))?)
    };
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    results.into_iter().map(|result| result.unwrap_or_else(|error| panic!("{error}"))).collect()
}

/// The same in one thread.
#[track_caller]
pub(crate) fn in_a_table_of_its_own<T: Send>(
    work: impl Fn(&mut Hands) -> Result<T, String> + Sync,
) -> T {
    in_tables_of_their_own(1, work).remove(0)
}

/// One thread's table.
pub(crate) struct Hands {
    /// As it was when it was last looked at; nothing has changed it since.
    now: Found,
    asked: [libc::pollfd; WINDOW as usize],
    /// The file of which `poll` says that.
    files: [i8; ANSWERS],
    plans: u64,
    /// Of so many plans one has its table looked at before it is carried out too.
    confirm: u64,
}

impl Hands {
    fn new() -> io::Result<Self> {
        make_copies()?;
        let mut hands = Self {
            now: [None; WINDOW as usize],
            asked: core::array::from_fn(|i| pollfd(COPIES + i as i32)),
            files: [NOBODY; ANSWERS],
            plans: 0,
            confirm: 1,
        };
        poll(&mut hands.asked)?;
        for (file, copy) in (0..).zip(&mut hands.asked) {
            let told = &mut hands.files[copy.revents as usize];
            if *told != NOBODY {
                return Err(io::Error::other(format!("{file} looks like {told}")));
            }
            *told = file;
            *copy = pollfd(file.into());
        }
        Ok(hands)
    }

    /// From here on, of so many plans one has its table looked at before it is
    /// carried out too. All have at first.
    pub(crate) fn confirm_one_of(&mut self, plans: u64) {
        self.confirm = plans;
    }

    /// How many were carried out.
    pub(crate) fn plans(&self) -> u64 {
        self.plans
    }

    /// Has the kernel take the steps from this state on. The inner error is that of
    /// a step, the outer one the harness's own.
    pub(crate) fn carry_out(
        &mut self,
        state: State,
        steps: &[Step],
    ) -> Result<Result<Found, String>, String> {
        self.set_up(state).map_err(|error| format!("set up: {error}"))?;
        if self.plans % self.confirm == 0 {
            self.now = self.look().map_err(|error| format!("look: {error}"))?;
            if self.now != state.table() {
                return Err(format!("set up: {state:?} became {:?}", self.now));
            }
        }
        self.plans += 1;
        let taken = steps.iter().find_map(|step| Some((step, take(*step).err()?)));
        self.now = self.look().map_err(|error| format!("look: {error}"))?;
        match taken {
            None => Ok(Ok(self.now)),
            Some((step, error)) => Ok(Err(format!("{step}: {error}"))),
        }
    }

    /// Has the table taken for that of the state, which it may not be.
    pub(crate) fn pretend(&mut self, state: State) {
        self.now = state.table();
    }

    /// Makes the table that of the state, by what differs from it as it is.
    fn set_up(&mut self, state: State) -> io::Result<()> {
        for (number, &now) in (0..).zip(&self.now) {
            let wanted = state.at(number);
            match (now, wanted) {
                _ if now == wanted => {}
                (_, None) => {
                    // SAFETY: the number is this thread's, and nobody owns it.
                    done(unsafe { libc::close(number) })?;
                }
                (Some((what, _)), Some((file, cloexec))) if what == file => {
                    set_cloexec(number, cloexec)?;
                }
                (_, Some((file, cloexec))) => {
                    let flags = if cloexec { libc::O_CLOEXEC } else { 0 };
                    // SAFETY: numbers of this thread's own table, none of them owned.
                    done(unsafe { libc::dup3(COPIES + file, number, flags) })?;
                }
            }
        }
        Ok(())
    }

    fn look(&mut self) -> io::Result<Found> {
        poll(&mut self.asked)?;
        let mut found = [None; WINDOW as usize];
        for ((number, found), asked) in (0..).zip(&mut found).zip(&self.asked) {
            if asked.revents & libc::POLLNVAL != 0 {
                continue;
            }
            let flags = fcntl(number, libc::F_GETFD, 0)?;
            let file = self.files[asked.revents as usize % ANSWERS];
            *found = Some((file.into(), flags & libc::FD_CLOEXEC != 0));
        }
        Ok(found)
    }
}

/// An open file for each number of the window, none of which looks to `poll` like
/// another: what can be read of it, written to it, and whether a pipe's other end
/// is open. Nobody reads or writes them any more.
fn make_copies() -> io::Result<()> {
    // So that what is made has low numbers.
    close_low();
    // SAFETY: the name is a C string.
    let file = done(unsafe { libc::memfd_create(c"forkplan".as_ptr(), libc::MFD_CLOEXEC) })?;
    let [quiet, writable] = pipe(b"")?;
    let [readable, kept] = pipe(b"x")?;
    let [last, writer] = pipe(b"x")?;
    let [ended, other_writer] = pipe(b"")?;
    let [zero, one, full] = [counter(0)?, counter(1)?, counter(u64::MAX - 1)?];
    for end in [writer, other_writer] {
        // SAFETY: made above, and nobody owns it.
        done(unsafe { libc::close(end) })?;
    }
    // The last one is no file of the window, but keeps one as it is.
    let files: [c_int; WINDOW as usize + 1] =
        [file, quiet, writable, readable, last, ended, zero, one, full, kept];
    for (file, copy) in files.into_iter().zip(COPIES..) {
        // SAFETY: takes integers alone. What is overwritten is this thread's.
        done(unsafe { libc::dup3(file, copy, libc::O_CLOEXEC) })?;
    }
    close_low();
    Ok(())
}

/// Closes what is below the copies.
fn close_low() {
    for number in 0..COPIES {
        // SAFETY: a number of this thread's own table that nobody owns. It may be
        // closed already.
        unsafe { libc::close(number) };
    }
}

/// Its read end and its write end, with that to be read.
fn pipe(text: &[u8]) -> io::Result<[c_int; 2]> {
    let mut ends = [-1; 2];
    // SAFETY: there is room for two, and the text is as long as it is said to be.
    unsafe {
        done(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC))?;
        done(libc::write(ends[1], text.as_ptr().cast(), text.len()) as c_int)?;
    }
    Ok(ends)
}

fn counter(count: u64) -> io::Result<c_int> {
    // SAFETY: takes integers alone, then eight bytes that live.
    unsafe {
        let made = done(libc::eventfd(0, libc::EFD_CLOEXEC))?;
        done(libc::write(made, (&raw const count).cast(), 8) as c_int)?;
        Ok(made)
    }
}

const fn pollfd(fd: c_int) -> libc::pollfd {
    libc::pollfd { fd, events: ASKED, revents: 0 }
}

fn poll(asked: &mut [libc::pollfd]) -> io::Result<()> {
    // SAFETY: as many as it is told, and they live.
    done(unsafe { libc::poll(asked.as_mut_ptr(), asked.len() as libc::nfds_t, 0) }).map(drop)
}

/// The step, but for what it would do to the harness's own numbers.
fn take(step: Step) -> io::Result<()> {
    match step {
        Step::Unshare { first } => close_range(first, Some(COPIES - 1), CLOSE_RANGE_UNSHARE),
        Step::MarkRange { first, last } => close_range(first, last, CLOSE_RANGE_CLOEXEC),
        Step::MarkListed { first } => {
            // The thread's own table; `/proc/self/fd` is the first thread's.
            for name in fs::read_dir("/proc/thread-self/fd")? {
                let number = name?.file_name().to_string_lossy().parse();
                if let Some(number) = number.ok().filter(|number| (first..WINDOW).contains(number))
                {
                    set_cloexec(number, true)?;
                }
            }
            Ok(())
        }
        Step::MarkEach { first, below } => (first..below).try_for_each(|number| {
            set_cloexec(number, true).or_else(|error| {
                (error.raw_os_error() == Some(libc::EBADF)).then_some(()).ok_or(error)
            })
        }),
        Step::Dup2 { to, .. } | Step::DupCloexec { to, .. } if to >= WINDOW => {
            Err(io::Error::other("a copy where nobody looks"))
        }
        Step::Dup2 { from, to } => {
            // SAFETY: numbers of this thread's own table, none of them owned.
            done(unsafe { libc::dup2(from, to) }).map(drop)
        }
        Step::DupCloexec { from, to } => {
            // SAFETY: as above.
            done(unsafe { libc::dup3(from, to, libc::O_CLOEXEC) }).map(drop)
        }
        Step::ClearCloexec { fd } => set_cloexec(fd, false),
        Step::SetCloexec { fd } => set_cloexec(fd, true),
        _ => Err(io::Error::other("no step of an fd plan")),
    }
}

/// Not before Linux 5.11, and not under every emulator.
pub(crate) fn kernel_has_close_range() -> bool {
    close_range(c_int::MAX, None, CLOSE_RANGE_CLOEXEC).is_ok()
}

fn close_range(first: c_int, last: Option<c_int>, flags: c_uint) -> io::Result<()> {
    let last = last.map_or(c_uint::MAX, |last| last as c_uint);
    // SAFETY: numbers of this thread's own table, none of them owned.
    done(unsafe { libc::syscall(libc::SYS_close_range, first as c_uint, last, flags) } as c_int)
        .map(drop)
}

fn set_cloexec(fd: c_int, cloexec: bool) -> io::Result<()> {
    let flag = if cloexec { libc::FD_CLOEXEC } else { 0 };
    fcntl(fd, libc::F_SETFD, flag).map(drop)
}

/// Not the C library's, which costs a good part of what the kernel takes.
fn fcntl(fd: c_int, command: c_int, flag: c_int) -> io::Result<c_int> {
    // SAFETY: takes integers alone.
    done(unsafe { libc::syscall(libc::SYS_fcntl, fd, command, flag) } as c_int)
}

fn done(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
