//! What the parent is burdened with while it spawns, and what is there before.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use forkplan::Launcher;
use forkplan_benches::cpu;

use crate::channels::FILES;
use crate::options::Options;

const PAGE: usize = 4096;

/// Opened before all else, so that its numbers are low whatever comes later: a
/// launcher, and files on all numbers up to the highest that a child is given. So
/// no new pipe has the number of one of the child's fds.
pub struct Early {
    pub launcher: Launcher,
    _files: Vec<File>,
}

impl Early {
    pub fn open() -> io::Result<Self> {
        let launcher = Launcher::new(8)?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let mut files = vec![null];
        while files.last().is_some_and(|file| file.as_raw_fd() < FILES + 8) {
            let next = files[0].try_clone()?;
            files.push(next);
        }
        Ok(Self { launcher, _files: files })
    }
}

/// The burden, for as long as it lives.
pub struct Load {
    _resident: Vec<u8>,
    _fds: Vec<File>,
    _threads: Vec<Sender<()>>,
}

impl Load {
    pub fn new(options: &Options) -> io::Result<Self> {
        if let Some(cpu) = options.pin {
            cpu::pin(cpu)?;
        }
        Ok(Self {
            _resident: resident(options.resident_mib << 20),
            _fds: open(options.fds, options.inheritable)?,
            _threads: (1..options.threads).map(|_| parked_thread()).collect(),
        })
    }
}

/// An environment of so many strings, and nothing else.
pub fn set_environment(strings: usize) {
    let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in names {
        // SAFETY: there is no other thread yet.
        unsafe { std::env::remove_var(name) };
    }
    for number in 0..strings {
        // SAFETY: as above.
        unsafe { std::env::set_var(format!("VARIABLE_{number}"), "a value of some length") };
    }
}

/// Memory that is there and not only promised.
fn resident(bytes: usize) -> Vec<u8> {
    let mut memory = vec![0; bytes];
    memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    memory
}

fn open(count: usize, inheritable: bool) -> io::Result<Vec<File>> {
    raise_limit()?;
    let null = File::open("/dev/null")?;
    let copies: Vec<File> = (0..count).map(|_| null.try_clone()).collect::<io::Result<_>>()?;
    if inheritable {
        for copy in &copies {
            // SAFETY: no pointers.
            if unsafe { libc::fcntl(copy.as_raw_fd(), libc::F_SETFD, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(copies)
}

/// The limit on open fds, raised as far as it may be.
pub fn raise_limit() -> io::Result<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes the limit, then reads it.
    let failed = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 || {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit) != 0
        }
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(limit.rlim_cur as usize) }
}

/// A thread that sleeps until the sender is dropped.
fn parked_thread() -> Sender<()> {
    let (sender, receiver): (Sender<()>, Receiver<()>) = channel();
    thread::spawn(move || receiver.recv());
    sender
}
