//! Sequences of calls on a pump, with real children and real pipes of which this
//! process has the other ends too: whatever the order, the promises of `Event`
//! hold, and no byte is lost, made up or out of place.
#![no_main]

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use arbitrary::Arbitrary;
use forkplan::Channel::{ReadPipe, WritePipe};
use forkplan::{Backend, ChannelError, Command, Event, OnDrop, Prepared, Pump};
use libfuzzer_sys::fuzz_target;
use member::{Kind, Member, Stream};

#[path = "pump/member.rs"]
mod member;
#[path = "../../tests/support/program.rs"]
#[allow(dead_code, reason = "one of its programs is used here")]
mod program;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Call {
    /// What the other side does.
    FarWrite(Reader, u16),
    FarRead(u32),
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
    AbortAll,
    Remove,
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

/// Whom a call is for; counted from the first again where there are fewer.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Who {
    First,
    Second,
    Third,
}

#[derive(Arbitrary, Debug)]
struct Life {
    epoll: bool,
    first: Kind,
    others: [Option<Kind>; 2],
    calls: Vec<(Who, Call)>,
}

fuzz_target!(|life: Life| {
    FIXTURE.with_borrow_mut(|fixture| {
        let open = open_fds();
        Run::new(&life, fixture).live(&life);
        assert_eq!(open_fds(), open, "something was left open");
    });
});

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("it is always there").count()
}

/// What all runs share, for it costs more than a run.
struct Fixture {
    command: Prepared<'static>,
    /// What goes over each of the channels, from any phase on.
    streams: [Vec<u8>; 3],
    buffer: Vec<u8>,
}

/// The bytes on their way are numbers in order, which begin again after so many.
const PERIOD: usize = 251;
/// The most that one call writes or reads: more than a queue and a pipe hold.
const WRITE_MAX: usize = 200_000;

thread_local! {
    static FIXTURE: RefCell<Fixture> = RefCell::new(Fixture::new());
}

impl Fixture {
    fn new() -> Self {
        let mut command = Command::new(program::pause());
        command.on_drop(OnDrop::Kill);
        command.fd(0, WritePipe).fd(1, ReadPipe).fd(2, ReadPipe);
        let streams = [0u8, 1, 2]
            .map(|fd| (0..PERIOD + WRITE_MAX).map(|at| (at % PERIOD) as u8 ^ fd << 6).collect());
        let command = command.prepare().expect("nothing is wrong with it");
        Self { command, streams, buffer: vec![0; WRITE_MAX] }
    }

    /// Those bytes of a stream. They are compared as a whole: the fuzzer looks at
    /// each comparison, which is dear where each byte is one.
    fn bytes(&self, fd: usize, at: usize, len: usize) -> &[u8] {
        &self.streams[fd][at % PERIOD..][..len]
    }
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

struct Run<'f> {
    pump: Pump,
    members: Vec<Member>,
    fixture: &'f mut Fixture,
}

impl<'f> Run<'f> {
    fn new(life: &Life, fixture: &'f mut Fixture) -> Self {
        let backend = if life.epoll { Backend::Epoll } else { Backend::Poll };
        let mut pump = Pump::with_backend(backend).expect("a pump");
        let kinds = core::iter::once(life.first).chain(life.others.into_iter().flatten());
        let members =
            kinds.map(|kind| Member::new(kind, &mut pump, &mut fixture.command)).collect();
        Self { pump, members, fixture }
    }

    fn live(mut self, life: &Life) {
        for &(who, call) in &life.calls {
            let at = who as usize % self.members.len();
            self.call(at, call);
            for member in &self.members {
                let queued = self.pump.queued(member.key, 0).unwrap_or(0);
                assert!(queued <= 65_536, "{queued} bytes queued");
            }
        }
        self.finish();
        for pid in self.members.iter().filter_map(|member| member.pid) {
            // SAFETY: no pointers but to nothing.
            let left = unsafe { libc::waitpid(pid as i32, core::ptr::null_mut(), libc::WNOHANG) };
            assert_eq!(left, -1, "{pid} was not reaped");
        }
        for member in self.members.iter().filter(|member| !member.removed) {
            for (fd, stream) in member.streams.iter().enumerate() {
                assert!(stream.closed, "{fd} is not closed");
                let Stream { sent, received, unsent, cut, .. } = *stream;
                let whole = received + unsent == sent;
                let less = received + unsent < sent;
                assert!(whole || cut && less, "{fd}: {received}+{unsent} of {sent}");
            }
        }
    }

    fn call(&mut self, at: usize, call: Call) {
        let Self { pump, members, .. } = self;
        let member = &mut members[at];
        let (key, streams) = (member.key, &mut member.streams);
        let result = match call {
            Call::FarWrite(reader, count) => return self.far_write(at, reader as usize + 1, count),
            Call::FarRead(count) => {
                self.far_read(at, count as usize % WRITE_MAX);
                return;
            }
            Call::FarClose(far) => {
                // What is in the pipe still is lost with its last reader.
                streams[0].cut |= far.fd() == 0;
                member.far[far.fd() as usize] = None;
                return;
            }
            Call::Kill => {
                let _ = pump.signal(key, forkplan::Signal::KILL);
                return;
            }
            Call::Poll => {
                pump.poll(Some(Duration::ZERO)).expect("poll");
                return;
            }
            Call::Events(count) => {
                (0..count).all(|_| self.event());
                return;
            }
            Call::Remove => return self.remove(at),
            Call::Write(count) => self.write(at, count as usize % WRITE_MAX),
            Call::Pause(far) => {
                streams[far.fd() as usize].paused = true;
                pump.pause(key, far.fd())
            }
            Call::Resume(far) => {
                streams[far.fd() as usize].paused = false;
                pump.resume(key, far.fd())
            }
            Call::PauseAll | Call::ResumeAll => {
                let paused = matches!(call, Call::PauseAll);
                streams.iter_mut().for_each(|stream| stream.paused = paused);
                if paused { pump.pause_all(key) } else { pump.resume_all(key) }
            }
            Call::CloseWrite => pump.close_write(key, 0),
            Call::Close(far) => {
                streams[far.fd() as usize].cut |= far.fd() != 0;
                pump.close(key, far.fd())
            }
            Call::Abort(far) => {
                streams[far.fd() as usize].cut |= far.fd() != 0;
                pump.abort(key, far.fd())
            }
            Call::CloseAll | Call::AbortAll => {
                streams[1].cut = true;
                streams[2].cut = true;
                let all = matches!(call, Call::CloseAll);
                if all { pump.close_all(key) } else { pump.abort_all(key) }
            }
        };
        match result {
            Ok(()) | Err(ChannelError::Closed) => {}
            Err(ChannelError::NoChild) => assert!(self.members[at].ended),
            Err(ChannelError::NotReadable) => {
                assert!(matches!(call, Call::Pause(Far::Zero) | Call::Resume(Far::Zero)));
            }
            Err(error) => panic!("{call:?}: {error}"),
        }
    }

    /// Takes one out. Its handle kills it; what its channels held goes with them.
    fn remove(&mut self, at: usize) {
        let member = &mut self.members[at];
        match self.pump.remove(member.key) {
            Ok(_) => {
                assert!(!member.ended && member.kind != Kind::Attached);
                (member.ended, member.removed) = (true, true);
            }
            Err(error) => assert!(member.ended || member.kind == Kind::Attached, "{error}"),
        }
    }

    fn write(&mut self, at: usize, count: usize) -> Result<(), ChannelError> {
        let member = &mut self.members[at];
        let bytes = self.fixture.bytes(0, member.streams[0].sent, count);
        let taken = self.pump.write(member.key, 0, bytes)?;
        assert!(taken <= count);
        member.streams[0].sent += taken;
        member.streams[0].refused += usize::from(taken < count);
        Ok(())
    }

    fn far_write(&mut self, at: usize, fd: usize, count: u16) {
        let member = &mut self.members[at];
        let Some(file) = &mut member.far[fd] else { return };
        let stream = &mut member.streams[fd];
        let bytes = self.fixture.bytes(fd, stream.sent, count.into());
        match without_sigpipe(|| file.write(bytes)) {
            Ok(written) => stream.sent += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // Nobody reads any more.
            Err(error) => {
                assert!(stream.cut || member.removed, "{error}");
                assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            }
        }
    }

    /// Whether there may be more.
    fn far_read(&mut self, at: usize, count: usize) -> bool {
        let member = &mut self.members[at];
        let Some(file) = &mut member.far[0] else { return false };
        match file.read(&mut self.fixture.buffer[..count]) {
            Ok(len) => {
                let received = &mut member.streams[0].received;
                let found = &self.fixture.buffer[..len];
                assert!(found == self.fixture.bytes(0, *received, len), "to {at} at {received}");
                *received += len;
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
        let member = self.members.iter_mut().find(|member| member.key == event.child());
        let member = member.expect("a child of this pump");
        assert!(!member.ended, "{event:?}");
        assert_eq!(matches!(event, Event::Made { .. }), member.events == 0, "{event:?}");
        member.events += 1;
        let number = |name: &forkplan::Name<'_>| name.to_string().parse::<usize>().expect("a fd");
        match event {
            Event::Data { channel, bytes, .. } => {
                let fd = number(&channel);
                let stream = &mut member.streams[fd];
                assert!(fd > 0 && !stream.closed && !stream.paused && !bytes.is_empty());
                let expected = self.fixture.bytes(fd, stream.received, bytes.len());
                assert!(bytes == expected, "from {fd} at {}", stream.received);
                stream.received += bytes.len();
                assert!(stream.received <= stream.sent);
            }
            Event::Drained { channel, .. } => {
                let stream = &mut member.streams[number(&channel)];
                assert!(!stream.closed && stream.refused > 0);
                stream.refused -= 1;
            }
            Event::Closed { channel, unsent, .. } => {
                let stream = &mut member.streams[number(&channel)];
                assert!(!stream.closed);
                stream.closed = true;
                stream.unsent = unsent;
            }
            Event::Exited { .. } => {
                assert!(member.kind != Kind::Attached);
                assert!(!core::mem::replace(&mut member.exited, true));
            }
            Event::Ended { .. } => {
                assert!(member.exited || member.kind == Kind::Attached);
                assert!(member.streams.iter().all(|stream| stream.closed));
                member.ended = true;
            }
            Event::Made { pid, .. } => assert_eq!(pid, member.pid),
            other => panic!("no socket is here: {other:?}"),
        }
        true
    }

    /// Lets all that is on its way arrive.
    fn finish(&mut self) {
        for member in &mut self.members {
            let _ = self.pump.resume_all(member.key);
            member.streams.iter_mut().for_each(|stream| stream.paused = false);
            let _ = self.pump.close(member.key, 0);
            let _ = self.pump.signal(member.key, forkplan::Signal::KILL);
            member.far[1] = None;
            member.far[2] = None;
        }
        for _ in 0..10_000 {
            while self.event() {}
            // Before it is looked at for the last time, all that was written is in
            // the pipe.
            let empty = self.pump.is_empty();
            for at in 0..self.members.len() {
                while self.far_read(at, WRITE_MAX) {}
            }
            if empty {
                assert!(self.members.iter().all(|member| member.ended));
                return;
            }
            self.pump.poll(Some(Duration::from_millis(100))).expect("poll");
        }
        panic!("it does not end");
    }
}
