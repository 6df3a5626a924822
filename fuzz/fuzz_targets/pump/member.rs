//! One that is in the pump: what it is, and what it should tell.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use arbitrary::Arbitrary;
use forkplan::{ChildKey, End, Prepared, Pump};

/// What is in the pump: a write pipe and two read pipes each.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Child,
    ChildThatDiesAtOnce,
    /// Pipes without a process.
    Attached,
}

/// One channel as it should be.
#[derive(Default)]
pub(crate) struct Stream {
    /// Bytes that went in at one end and came out at the other.
    pub(crate) sent: usize,
    pub(crate) received: usize,
    /// Closed by us, so that what is on its way may be lost.
    pub(crate) cut: bool,
    pub(crate) closed: bool,
    pub(crate) unsent: usize,
    pub(crate) paused: bool,
    /// Writes that were not taken whole, less those of which was told that there
    /// is room again.
    pub(crate) refused: usize,
}

/// One that is in the pump.
pub(crate) struct Member {
    pub(crate) key: ChildKey,
    pub(crate) pid: Option<u32>,
    pub(crate) kind: Kind,
    pub(crate) far: [Option<File>; 3],
    pub(crate) streams: [Stream; 3],
    pub(crate) events: usize,
    pub(crate) exited: bool,
    pub(crate) ended: bool,
    pub(crate) removed: bool,
}

impl Member {
    pub(crate) fn new(kind: Kind, pump: &mut Pump, command: &mut Prepared<'_>) -> Self {
        let (key, pid, far) = match kind {
            Kind::Attached => attach(pump),
            Kind::Child | Kind::ChildThatDiesAtOnce => {
                let child = command.spawn().expect("spawn");
                let pid = child.id().expect("it runs");
                let far = [0, 1, 2].map(|fd| open_anew(&format!("/proc/{pid}/fd/{fd}"), fd != 0));
                if kind == Kind::ChildThatDiesAtOnce {
                    child.kill().expect("it runs");
                }
                (pump.add(child), Some(pid), far)
            }
        };
        let far = far.map(Some);
        let streams = Default::default();
        Self {
            key,
            pid,
            kind,
            far,
            streams,
            events: 0,
            exited: false,
            ended: false,
            removed: false,
        }
    }
}

/// The far end of a pipe, with an open file of our own, and so `O_NONBLOCK` for
/// us alone.
fn open_anew(path: &str, write: bool) -> File {
    let mut options = OpenOptions::new();
    options.read(!write).write(write).custom_flags(libc::O_NONBLOCK);
    options.open(path).expect("the far end")
}

fn attach(pump: &mut Pump) -> (ChildKey, Option<u32>, [File; 3]) {
    let mut ends = Vec::new();
    let far = [0, 1, 2].map(|fd| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
        let (ours, theirs) = if fd == 0 { (writer, reader) } else { (reader, writer) };
        ends.push(End::new(fd, ours).expect("a pipe"));
        open_anew(&format!("/proc/self/fd/{}", theirs.as_raw_fd()), fd != 0)
    });
    (pump.attach(ends), None, far)
}
