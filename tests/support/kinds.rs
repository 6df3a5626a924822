//! Every kind of channel, as a table: what tests of all kinds go by. A new kind
//! is a new row.

// Each test file uses a part of this.
#![allow(dead_code)]

use std::fs::File;
use std::path::Path;

use forkplan::Channel::{self, DatagramPair, Null, ReadPipe, SeqpacketPair, SocketPair, WritePipe};
use forkplan::{NamedPipe, Open, Pty};

/// A kind of channel of which the parent has an end.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// A new one. Files that it needs are made in the directory, which is empty.
    pub(crate) make: fn(&Path) -> Channel<'static>,
    /// The parent reads from it.
    pub(crate) reads: bool,
    /// The parent writes to it.
    pub(crate) writes: bool,
    /// Each write is a message.
    pub(crate) messages: bool,
    /// A close of one side is an end of file for the other.
    pub(crate) has_end: bool,
    /// It can be closed in half.
    pub(crate) half_closes: bool,
}

const STREAM: Kind = Kind {
    name: "",
    make: |_| Null,
    reads: true,
    writes: true,
    messages: false,
    has_end: true,
    half_closes: false,
};

pub(crate) const KINDS: &[Kind] = &[
    Kind { name: "read pipe", make: |_| ReadPipe, writes: false, ..STREAM },
    Kind { name: "write pipe", make: |_| WritePipe, reads: false, ..STREAM },
    Kind { name: "socket pair", make: |_| SocketPair, half_closes: true, ..STREAM },
    Kind {
        name: "seqpacket pair",
        make: |_| SeqpacketPair,
        messages: true,
        half_closes: true,
        ..STREAM
    },
    Kind {
        name: "datagram pair",
        make: |_| DatagramPair,
        messages: true,
        has_end: false,
        half_closes: true,
        ..STREAM
    },
    Kind { name: "terminal", make: |_| Pty::new().raw().controlling(false).into(), ..STREAM },
    Kind {
        name: "named pipe to read",
        make: |dir| NamedPipe::read(dir.join("read")).create(0o600).into(),
        writes: false,
        ..STREAM
    },
    Kind {
        name: "named pipe to write",
        make: |dir| NamedPipe::write(dir.join("write")).create(0o600).unlink().into(),
        reads: false,
        ..STREAM
    },
];

/// A kind of channel of which the child alone has something.
pub(crate) struct Endless {
    pub(crate) name: &'static str,
    /// As of a [`Kind`].
    pub(crate) make: fn(&Path) -> Channel<'static>,
    /// What the child reads from it.
    pub(crate) holds: &'static str,
    /// The child may write to it.
    pub(crate) takes: bool,
}

pub(crate) const ENDLESS: &[Endless] = &[
    Endless { name: "null device", make: |_| Null, holds: "", takes: true },
    Endless {
        name: "file",
        make: |dir| Channel::file(written(dir, "file"), Open::ReadWrite),
        holds: "in it",
        takes: true,
    },
    Endless {
        name: "child's file",
        make: |dir| Channel::file_in_child(written(dir, "child"), Open::Read),
        holds: "in it",
        takes: false,
    },
    Endless { name: "bytes", make: |_| Channel::bytes("in it"), holds: "in it", takes: false },
    Endless {
        name: "passed fd",
        make: |dir| File::open(written(dir, "passed")).unwrap().into(),
        holds: "in it",
        takes: false,
    },
    Endless {
        name: "given fd",
        make: |dir| Channel::give(File::open(written(dir, "given")).unwrap()),
        holds: "in it",
        takes: false,
    },
];

fn written(dir: &Path, name: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, "in it").unwrap();
    path
}
