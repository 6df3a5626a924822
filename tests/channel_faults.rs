//! Each of the parent's calls that open a channel fails, for every kind: what was
//! made is closed and removed, what was given is still there.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

#[path = "support/kinds.rs"]
mod kinds;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;

use forkplan::{Channel, Command, NamedPipe};
use kinds::{ENDLESS, KINDS};
use support::seccomp::{Rule, under};
use support::state::State;
use support::{PATHS, fds_of_self, in_subprocess, no_child_is_left};

/// No call fails with this by itself, and nothing is tried again for it.
const STRANGE: i32 = libc::EXFULL;

/// Each call that a parent makes for a channel or a child, and the child's last.
fn faults() -> Vec<(&'static str, Rule)> {
    let fault = |number| Rule::errno(number, STRANGE);
    #[cfg(target_arch = "x86_64")]
    let (open, flags) = (libc::SYS_open, 1);
    #[cfg(not(target_arch = "x86_64"))]
    let (open, flags) = (libc::SYS_openat, 2);
    vec![
        ("pipe2", fault(libc::SYS_pipe2)),
        ("socketpair, of streams", fault(libc::SYS_socketpair).having(1, libc::SOCK_STREAM)),
        ("socketpair, of messages", fault(libc::SYS_socketpair).having(1, libc::SOCK_DGRAM)),
        ("socketpair, of packets", fault(libc::SYS_socketpair).having(1, 4)),
        ("mknodat", fault(libc::SYS_mknodat)),
        ("newfstatat", fault(libc::SYS_newfstatat).having(3, libc::AT_SYMLINK_NOFOLLOW)),
        ("open", fault(open).having(flags, libc::O_CLOEXEC)),
        ("open to read", fault(open).having(flags, libc::O_NONBLOCK)),
        ("open to write", fault(open).having(flags, libc::O_WRONLY)),
        ("open for both", fault(open).having(flags, libc::O_RDWR)),
        ("fstat", fault(libc::SYS_fstat)),
        ("ioctl", fault(libc::SYS_ioctl)),
        ("memfd_create", fault(libc::SYS_memfd_create)),
        ("pwrite", fault(libc::SYS_pwrite64)),
        ("fcntl F_ADD_SEALS", fault(libc::SYS_fcntl).with(1, libc::F_ADD_SEALS)),
        ("clone3", fault(libc::SYS_clone3)),
        ("openat", fault(libc::SYS_openat)),
        ("execve", fault(libc::SYS_execve)),
    ]
}

fn files(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// All kinds, by name.
fn kinds() -> impl Iterator<Item = (&'static str, fn(&Path) -> Channel<'static>)> {
    let with_end = KINDS.iter().map(|kind| (kind.name, kind.make));
    with_end.chain(ENDLESS.iter().map(|kind| (kind.name, kind.make)))
}

// T.MockProcessTests: test_mockForkErrorCloseFDs, test_mockForkErrorGivenFDs,
// test_mockErrorInPipe.
#[test]
fn a_fault_at_any_call_closes_what_was_made_and_nothing_that_was_given() {
    in_subprocess("a_fault_at_any_call_closes_what_was_made_and_nothing_that_was_given", || {
        let mut met = BTreeSet::new();
        for without in PATHS {
            for (name, make) in kinds() {
                for (call, rule) in faults() {
                    let dir = tempfile::tempdir().unwrap();
                    let (mut witness, given) = UnixStream::pair().unwrap();
                    witness.set_nonblocking(true).unwrap();
                    let mut command = Command::new("/bin/true");
                    command.without(without);
                    // Something is given and made before it, and after.
                    command.fd(3, Channel::give(given));
                    command.fd(4, NamedPipe::read(dir.path().join("before")).create(0o600));
                    command.fds([5, 6], make(dir.path()));
                    command.fd(7, NamedPipe::write(dir.path().join("after")).create(0o600));
                    let mut prepared = command.prepare().unwrap();
                    let (state, there) = (State::now(), files(dir.path()));
                    let spawn = || prepared.spawn().map(|mut child| child.wait().unwrap());
                    if let Err(error) = under(&[rule], spawn) {
                        met.insert(call);
                        assert_eq!(error.raw_os_error(), Some(STRANGE), "{name}, {call}: {error}");
                        State::now().assert_is(&state, format!("{name}, {call}"));
                        assert_eq!(files(dir.path()), there, "{name}, {call}");
                        let still_open = witness.read(&mut [0]).unwrap_err();
                        assert_eq!(still_open.kind(), std::io::ErrorKind::WouldBlock);
                        // The control: the fault alone was in the way, and what
                        // was given is as good as before.
                        prepared.spawn().unwrap().wait().unwrap();
                    }
                    assert_eq!(witness.read(&mut [0]).unwrap(), 0, "{name}, {call}");
                    assert!(no_child_is_left(), "{name}, {call}");
                }
            }
        }
        let all: BTreeSet<_> = faults().into_iter().map(|(call, _)| call).collect();
        assert_eq!(met, all);
    });
}

#[test]
fn a_full_table_at_any_point_closes_what_was_made_and_nothing_that_was_given() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let test = "a_full_table_at_any_point_closes_what_was_made_and_nothing_that_was_given";
    in_subprocess(test, || {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let limit = |current| setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
        for (name, make) in kinds() {
            let dir = tempfile::tempdir().unwrap();
            let (mut witness, given) = UnixStream::pair().unwrap();
            witness.set_nonblocking(true).unwrap();
            let mut command = Command::new("/bin/true");
            command.fd(3, Channel::give(given)).fds([5, 6], make(dir.path()));
            command.fd(7, NamedPipe::read(dir.path().join("fifo")).create(0o600).unlink());
            let mut prepared = command.prepare().unwrap();
            let (fds, there) = (fds_of_self(), files(dir.path()));
            let mut failures = 0;
            // Above the child's numbers; one more each time, until there are enough.
            for numbers in 8.. {
                limit(Some(numbers));
                let spawned = prepared.spawn();
                limit(maximum);
                match spawned {
                    Ok(mut child) => {
                        child.wait().unwrap();
                        break;
                    }
                    Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}"),
                }
                failures += 1;
                assert_eq!(fds_of_self(), fds, "{name}");
                assert_eq!(files(dir.path()), there, "{name}");
                assert!(witness.read(&mut [0]).is_err(), "{name}");
            }
            assert!(failures > 0, "{name}");
            assert!(no_child_is_left());
        }
    });
}
