//! What the parent is burdened with while it spawns.

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use forkplan_benches::cpu;

use crate::options::Options;

const PAGE: usize = 4096;

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
            _fds: open(options.fds)?,
            _threads: (1..options.threads).map(|_| parked_thread()).collect(),
        })
    }
}

/// Memory that is there and not only promised.
fn resident(bytes: usize) -> Vec<u8> {
    let mut memory = vec![0; bytes];
    memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    memory
}

/// CLOEXEC, as what a Rust program opens is.
fn open(count: usize) -> io::Result<Vec<File>> {
    raise_limit()?;
    let null = File::open("/dev/null")?;
    (0..count).map(|_| null.try_clone()).collect()
}

fn raise_limit() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes the limit, then reads it.
    let failed = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 || {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit) != 0
        }
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A thread that sleeps until the sender is dropped.
fn parked_thread() -> Sender<()> {
    let (sender, receiver): (Sender<()>, Receiver<()>) = channel();
    thread::spawn(move || receiver.recv());
    sender
}
