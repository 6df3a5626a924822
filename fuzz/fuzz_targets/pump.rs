//! Sequences of calls on a pump, with a real child and real pipes of which this
//! process has the other ends too: whatever the order, the promises of `Event`
//! hold, and no byte is lost, made up or out of place.
#![no_main]

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use arbitrary::Arbitrary;
use forkplan::Channel::{ReadPipe, WritePipe};
use forkplan::{Backend, ChannelError, ChildKey, Command, Event, OnDrop, Pump};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Call {
    /// What the other side does.
    FarWrite(Reader, u16),
    FarRead(u16),
    FarClose(Far),
    Kill,
    /// What we do.
    Write(u32),
    Pause(Far),
    Resume(Far),
    PauseAll,
    ResumeAll,
    Close(Far),
    CloseWrite,
    Abort(Far),
    CloseAll,
    Poll,
    Events(u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Reader {
    One,
    Two,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Far {
    Zero,
    One,
    Two,
}

impl Far {
    fn fd(self) -> i32 {
        self as i32
    }
}

#[derive(Arbitrary, Debug)]
struct Life {
    epoll: bool,
    dies_at_once: bool,
    calls: Vec<Call>,
}

fuzz_target!(|life: Life| {
    let free = lowest_free_number();
    Run::new(&life).live(&life);
    assert_eq!(lowest_free_number(), free, "something was left open");
});

fn lowest_free_number() -> i32 {
    File::open("/dev/null").expect("it is always there").as_raw_fd()
}

/// For what the other side does. libFuzzer leaves the signal at its default, so
/// that one that the pump caused would end us.
fn without_sigpipe<T>(write: impl FnOnce() -> T) -> T {
    // SAFETY: no handlers; nothing else runs in this process meanwhile.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let result = write();
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    result
}

/// The bytes on their way are numbers in order, each stream from its own.
fn byte(fd: i32, at: usize) -> u8 {
    (at % 251) as u8 ^ (fd as u8) << 6
}

/// One channel as it should be.
#[derive(Default)]
struct Stream {
    /// Bytes that went in at one end and came out at the other.
    sent: usize,
    received: usize,
    /// Closed by us, so that what is on its way may be lost.
    cut: bool,
    closed: bool,
    unsent: usize,
}

struct Run {
    pump: Pump,
    key: ChildKey,
    far: [Option<File>; 3],
    streams: [Stream; 3],
    events: usize,
    exited: bool,
    ended: bool,
}

impl Run {
    fn new(life: &Life) -> Self {
        let backend = if life.epoll { Backend::Epoll } else { Backend::Poll };
        let mut pump = Pump::with_backend(backend).expect("a pump");
        let mut command = Command::new("/bin/sleep");
        command.arg("1000").on_drop(OnDrop::Kill);
        command.fd(0, WritePipe).fd(1, ReadPipe).fd(2, ReadPipe);
        let child = command.spawn().expect("spawn");
        let pid = child.id().expect("it runs");
        let open = |fd: i32| {
            let mut options = OpenOptions::new();
            // An open file of our own, and so O_NONBLOCK for us alone.
            options.read(fd == 0).write(fd != 0).custom_flags(libc::O_NONBLOCK);
            Some(options.open(format!("/proc/{pid}/fd/{fd}")).expect("the far end"))
        };
        let far = [0, 1, 2].map(open);
        if life.dies_at_once {
            child.kill().expect("it runs");
        }
        let key = pump.add(child);
        let streams = Default::default();
        Self { pump, key, far, streams, events: 0, exited: false, ended: false }
    }

    fn live(mut self, life: &Life) {
        for &call in &life.calls {
            self.call(call);
            let queued = self.pump.queued(self.key, 0).unwrap_or(0);
            assert!(queued <= 65_536, "{queued} bytes queued");
        }
        self.finish();
        for fd in 0..3 {
            let stream = &self.streams[fd];
            assert!(stream.closed, "{fd} is not closed");
            let Stream { sent, received, unsent, cut, .. } = *stream;
            let whole = received + unsent == sent;
            assert!(
                whole || cut && received + unsent < sent,
                "{fd}: {received}+{unsent} of {sent}"
            );
        }
    }

    fn call(&mut self, call: Call) {
        let key = self.key;
        let result = match call {
            Call::FarWrite(reader, count) => return self.far_write(reader as usize + 1, count),
            Call::FarRead(count) => {
                self.far_read(count.into());
                return;
            }
            Call::FarClose(far) => {
                // What is in the pipe still is lost with its last reader.
                self.streams[0].cut |= far.fd() == 0;
                self.far[far.fd() as usize] = None;
                return;
            }
            Call::Kill => {
                let _ = self.pump.signal(key, forkplan::Signal::KILL);
                return;
            }
            Call::Poll => {
                self.pump.poll(Some(Duration::ZERO)).expect("poll");
                return;
            }
            Call::Events(count) => {
                (0..count).all(|_| self.event());
                return;
            }
            Call::Write(count) => self.write(count as usize % 200_000),
            Call::Pause(far) => self.pump.pause(key, far.fd()),
            Call::Resume(far) => self.pump.resume(key, far.fd()),
            Call::PauseAll => self.pump.pause_all(key),
            Call::ResumeAll => self.pump.resume_all(key),
            Call::CloseWrite => self.pump.close_write(key, 0),
            Call::Close(far) => {
                self.streams[far.fd() as usize].cut |= far.fd() != 0;
                self.pump.close(key, far.fd())
            }
            Call::Abort(far) => {
                self.streams[far.fd() as usize].cut |= far.fd() != 0;
                self.pump.abort(key, far.fd())
            }
            Call::CloseAll => {
                self.streams[1].cut = true;
                self.streams[2].cut = true;
                self.pump.close_all(key)
            }
        };
        match result {
            Ok(()) | Err(ChannelError::Closed) => {}
            Err(ChannelError::NoChild) => assert!(self.ended),
            Err(ChannelError::NotReadable) => {
                assert!(matches!(call, Call::Pause(Far::Zero) | Call::Resume(Far::Zero)));
            }
            Err(error) => panic!("{call:?}: {error}"),
        }
    }

    fn write(&mut self, count: usize) -> Result<(), ChannelError> {
        let at = self.streams[0].sent;
        let bytes: Vec<u8> = (at..at + count).map(|at| byte(0, at)).collect();
        let taken = self.pump.write(self.key, 0, &bytes)?;
        assert!(taken <= count);
        self.streams[0].sent += taken;
        Ok(())
    }

    fn far_write(&mut self, fd: usize, count: u16) {
        let Some(file) = &mut self.far[fd] else { return };
        let stream = &mut self.streams[fd];
        let at = stream.sent;
        let bytes: Vec<u8> = (at..at + usize::from(count)).map(|at| byte(fd as i32, at)).collect();
        match without_sigpipe(|| file.write(&bytes)) {
            Ok(written) => stream.sent += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // Nobody reads any more.
            Err(error) => assert!(stream.cut && error.kind() == ErrorKind::BrokenPipe, "{error}"),
        }
    }

    /// Whether there may be more.
    fn far_read(&mut self, count: usize) -> bool {
        let Some(file) = &mut self.far[0] else { return false };
        let mut bytes = vec![0; count];
        match file.read(&mut bytes) {
            Ok(len) => {
                for &found in &bytes[..len] {
                    assert_eq!(found, byte(0, self.streams[0].received));
                    self.streams[0].received += 1;
                }
                len > 0
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        }
    }

    /// Takes one event, and holds it to what is promised.
    fn event(&mut self) -> bool {
        let Some(event) = self.pump.next_event() else { return false };
        assert!(event.child() == self.key && !self.ended, "{event:?}");
        assert_eq!(matches!(event, Event::Made { .. }), self.events == 0, "{event:?}");
        self.events += 1;
        let number = |name: &forkplan::Name<'_>| name.to_string().parse::<usize>().expect("a fd");
        match event {
            Event::Data { channel, bytes, .. } => {
                let fd = number(&channel);
                let stream = &mut self.streams[fd];
                assert!(fd > 0 && !stream.closed && !bytes.is_empty());
                for &found in bytes {
                    assert_eq!(found, byte(fd as i32, stream.received), "from {fd}");
                    stream.received += 1;
                }
                assert!(stream.received <= stream.sent);
            }
            Event::Drained { channel, .. } => assert!(!self.streams[number(&channel)].closed),
            Event::Closed { channel, unsent, .. } => {
                let stream = &mut self.streams[number(&channel)];
                assert!(!stream.closed);
                stream.closed = true;
                stream.unsent = unsent;
            }
            Event::Exited { .. } => assert!(!core::mem::replace(&mut self.exited, true)),
            Event::Ended { .. } => {
                assert!(self.exited && self.streams.iter().all(|stream| stream.closed));
                self.ended = true;
            }
            Event::Made { .. } => {}
            other => panic!("no socket is here: {other:?}"),
        }
        true
    }

    /// Lets all that is on its way arrive.
    fn finish(&mut self) {
        let key = self.key;
        let _ = self.pump.resume_all(key);
        let _ = self.pump.close(key, 0);
        let _ = self.pump.signal(key, forkplan::Signal::KILL);
        self.far[1] = None;
        self.far[2] = None;
        for _ in 0..10_000 {
            while self.event() {}
            if self.pump.is_empty() {
                // All that was written is in the pipe by now.
                while self.far_read(65_536) {}
                assert!(self.ended);
                return;
            }
            while self.far_read(65_536) {}
            self.pump.poll(Some(Duration::from_millis(100))).expect("poll");
        }
        panic!("it does not end");
    }
}
