//! Named pipes: made, found, refused, removed, and never waited for.

#![cfg(target_os = "linux")]

mod support;

use std::fs::{self, File, Metadata};
use std::io::{Write, read_to_string};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use forkplan::Channel::{ReadPipe, WritePipe};
use forkplan::{Command, NamedPipe, OnDrop, PlanError};
use rustix::fs::{CWD, Mode, OFlags, fcntl_getfl, mkfifoat};
use support::seccomp::{Rule, under};
use support::{EXCLUSIONS, PATHS, fds_of, fds_of_self, in_subprocess, no_child_is_left, pause};

fn make(path: &Path) {
    mkfifoat(CWD, path, Mode::from_raw_mode(0o600)).unwrap();
}

fn look(path: &Path) -> Option<Metadata> {
    fs::symlink_metadata(path).ok()
}

#[test]
fn bytes_go_both_ways_through_fifos_that_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let [there, back] = ["there", "back"].map(|name| dir.path().join(name));
    make(&there);
    make(&back);
    let inodes = [&there, &back].map(|path| look(path).unwrap().ino());
    for without in EXCLUSIONS {
        let mut command = Command::new("cat");
        command.without(without).fd(0, NamedPipe::write(&there)).fd(1, NamedPipe::read(&back));
        let mut prepared = command.prepare().unwrap();
        for text in ["first", "second"] {
            let mut child = prepared.spawn().unwrap();
            File::from(child.take(0).unwrap()).write_all(text.as_bytes()).unwrap();
            let end = File::from(child.take(1).unwrap());
            assert_eq!(read_to_string(end).unwrap(), text);
            assert!(child.wait().unwrap().success());
        }
    }
    // They are as they were.
    assert_eq!([&there, &back].map(|path| look(path).unwrap().ino()), inodes);
}

#[test]
fn neither_end_is_nonblocking() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(pause());
    let fifo = |name: &str| dir.path().join(name);
    command.fd(0, NamedPipe::write(fifo("a")).create(0o600)).on_drop(OnDrop::Kill);
    command.fd(1, NamedPipe::read(fifo("b")).create(0o600));
    let mut child = command.spawn().unwrap();
    for (fd, open) in fds_of(child.id().unwrap()) {
        assert_eq!(open.flags & libc::O_NONBLOCK, 0, "{fd}");
    }
    for fd in [0, 1] {
        let end = child.take(fd).unwrap();
        assert!(!fcntl_getfl(&end).unwrap().contains(OFlags::NONBLOCK));
    }
}

#[test]
fn a_fifo_is_made_with_its_mode_less_the_umask_and_stays() {
    in_subprocess("a_fifo_is_made_with_its_mode_less_the_umask_and_stays", || {
        rustix::process::umask(Mode::from_raw_mode(0o027));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let mut command = Command::new("echo");
        command.arg("hi").fd(1, NamedPipe::read(&path).create(0o666));
        let mut prepared = command.prepare().unwrap();
        for _ in 0..2 {
            let mut child = prepared.spawn().unwrap();
            let end = File::from(child.take(1).unwrap());
            assert_eq!(read_to_string(end).unwrap(), "hi\n");
            child.wait().unwrap();
            let found = look(&path).unwrap();
            assert!(found.file_type().is_fifo());
            assert_eq!(found.permissions().mode() & 0o777, 0o640);
        }
    });
}

#[test]
fn an_unlinked_fifo_is_gone_when_the_child_runs_whoever_made_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    for without in PATHS {
        for create in [false, true] {
            let mut fifo = NamedPipe::write(&path).unlink();
            if create {
                fifo = fifo.create(0o600);
            } else {
                make(&path);
            }
            let mut command = Command::new("cat");
            let mut child = command.without(without).fd(0, fifo).fd(1, ReadPipe).spawn().unwrap();
            assert!(look(&path).is_none());
            File::from(child.take(0).unwrap()).write_all(b"through").unwrap();
            assert_eq!(read_to_string(File::from(child.take(1).unwrap())).unwrap(), "through");
            child.wait().unwrap();
        }
    }
}

#[test]
fn what_has_taken_the_fifos_place_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let [path, other] = ["fifo", "other"].map(|name| dir.path().join(name));
    for succeeds in [true, false] {
        fs::write(&other, "not ours").unwrap();
        let mut command = Command::new(if succeeds { "/bin/true" } else { "/nowhere" });
        command.fd(0, NamedPipe::write(&path).create(0o600).unlink());
        let mut prepared = command.prepare().unwrap();
        let opened = prepared.open().unwrap();
        assert!(look(&path).unwrap().file_type().is_fifo());
        fs::rename(&other, &path).unwrap();
        assert_eq!(opened.spawn().is_ok(), succeeds);
        assert_eq!(fs::read_to_string(&path).unwrap(), "not ours");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn what_is_no_fifo_is_an_error_that_says_so_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let [file, socket] = ["file", "socket"].map(|name| dir.path().join(name));
    fs::write(&file, "kept").unwrap();
    let _listener = UnixListener::bind(&socket).unwrap();
    for path in [&file, dir.path(), Path::new("/dev/null")] {
        for fifo in [NamedPipe::read(path), NamedPipe::write(path).create(0o600).unlink()] {
            let error = Command::new("true").fd(1, fifo).spawn().unwrap_err();
            let words = format!("open {path:?}, which is no FIFO: Invalid argument");
            assert_eq!((error.to_string(), error.step()), (words, None));
        }
    }
    let error = Command::new("true").fd(1, NamedPipe::read(&socket)).spawn().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    assert!(look(&socket).is_some());
}

#[test]
fn a_missing_fifo_is_made_only_if_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing");
    let error = Command::new("true").fd(1, NamedPipe::read(&path)).spawn().unwrap_err();
    assert_eq!(error.to_string(), format!("open {path:?}: No such file or directory"));
    assert!(look(&path).is_none());
    let far = path.join("further");
    let error = Command::new("true").fd(1, NamedPipe::read(&far).create(0o600)).spawn();
    let words = format!("mkfifo {far:?}: No such file or directory");
    assert_eq!(error.unwrap_err().to_string(), words);
}

#[test]
fn a_request_that_can_not_be_is_refused_when_it_is_prepared() {
    let prepare = |fifo| Command::new("true").fd(1, fifo).prepare().unwrap_err();
    let what = "path of a named pipe".into();
    assert_eq!(prepare(NamedPipe::read("a\0b")), PlanError::NulByte { what });
    let what = "mode of a named pipe";
    let error = PlanError::OutOfRange { what, value: 0o1000 };
    assert_eq!(prepare(NamedPipe::read("a").create(0o1000)), error);
}

#[test]
fn without_permission_nothing_is_opened_and_what_was_made_is_removed() {
    in_subprocess("without_permission_nothing_is_opened_and_what_was_made_is_removed", || {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        // SAFETY: no pointers; this process is the test's own.
        if unsafe { libc::geteuid() } == 0 {
            // SAFETY: as above. The directory is removed by another id: by its
            // owner's process, which this one is no more, so it is given back.
            assert_eq!(unsafe { libc::seteuid(12_345) }, 0);
        }
        let path = dir.path().join("fifo");
        let before = fds_of_self();
        // One that we make and may not open, and one that was there.
        let error = Command::new("true").fd(1, NamedPipe::read(&path).create(0)).spawn();
        assert_eq!(error.unwrap_err().to_string(), format!("open {path:?}: Permission denied"));
        assert!(look(&path).is_none());
        // To write is not enough, nor to read.
        for mode in [0o200, 0o400] {
            mkfifoat(CWD, &path, Mode::from_raw_mode(mode)).unwrap();
            for fifo in [NamedPipe::read(&path), NamedPipe::write(&path)] {
                let error = Command::new("true").fd(1, fifo).spawn().unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EACCES));
            }
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(fds_of_self(), before);
        assert!(no_child_is_left());
        // SAFETY: as above.
        let _ = unsafe { libc::seteuid(0) };
    });
}

/// Hits a parent's `open` with one of these flags.
fn open(flags: i32) -> Rule {
    #[cfg(target_arch = "x86_64")]
    let (number, argument) = (libc::SYS_open, 1);
    #[cfg(not(target_arch = "x86_64"))]
    let (number, argument) = (libc::SYS_openat, 2);
    Rule::errno(number, libc::EXFULL).having(argument, flags)
}

#[test]
fn a_failed_spawn_removes_what_it_made_and_nothing_else() {
    in_subprocess("a_failed_spawn_removes_what_it_made_and_nothing_else", || {
        // Each call of the parent's, and none at all but for the program.
        const NONBLOCK: i32 = libc::O_NONBLOCK;
        let faults = [
            (Rule::errno(libc::SYS_mknodat, libc::EXFULL), "mkfifo"),
            (Rule::errno(libc::SYS_newfstatat, libc::EXFULL).having(3, 0x100), "mkfifo"),
            (open(NONBLOCK), "open"),
            (open(libc::O_WRONLY), "open"),
            (Rule::errno(libc::SYS_fstat, libc::EXFULL), "fstat"),
            (Rule::errno(libc::SYS_ioctl, libc::EXFULL), "ioctl FIONBIO"),
            (Rule::errno(libc::SYS_execve, libc::EXFULL), "execve"),
        ];
        for without in PATHS {
            for (rule, call) in &faults {
                for there in [false, true] {
                    let dir = tempfile::tempdir().unwrap();
                    let path = dir.path().join("fifo");
                    if there {
                        make(&path);
                    }
                    let mut command = Command::new("/bin/true");
                    command.without(without).fd(1, NamedPipe::read(&path).create(0o600));
                    let mut prepared = command.prepare().unwrap();
                    let before = fds_of_self();
                    let error = under(core::slice::from_ref(rule), || prepared.spawn().err());
                    match error {
                        Some(error) => {
                            assert!(error.to_string().starts_with(call), "{error} for {call}");
                            assert_eq!(error.raw_os_error(), Some(libc::EXFULL));
                            assert_eq!(look(&path).is_some(), there, "{call}");
                        }
                        // That call is only about one which was made.
                        None => assert!(there && *call == "mkfifo", "{call} {there}"),
                    }
                    assert_eq!(fds_of_self(), before);
                    // The control: it was the fault alone.
                    prepared.spawn().unwrap().wait().unwrap();
                }
            }
        }
    });
}

#[test]
fn a_fifo_is_shared_with_whoever_opens_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    let fifo = NamedPipe::read(&path).create(0o600);
    let mut command = Command::new("sh");
    command.args(["-c", "read -r line; echo child"]).fd(0, WritePipe).fd(1, fifo);
    let mut child = command.spawn().unwrap();
    let mut other = File::options().write(true).open(&path).unwrap();
    other.write_all(b"other\n").unwrap();
    drop(child.take(0));
    child.wait().unwrap();
    let end = child.take(1).unwrap();
    assert_eq!(rustix::io::ioctl_fionread(end.as_fd()).unwrap(), 12);
    drop(other);
    assert_eq!(read_to_string(File::from(end)).unwrap(), "other\nchild\n");
}

/// The control: who opens one end alone and blocking waits; so one who does not
/// wait finds nobody.
#[test]
fn control_a_fifo_without_a_reader_can_not_be_opened_for_writing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    make(&path);
    let flags = OFlags::WRONLY | OFlags::NONBLOCK;
    let opened = rustix::fs::open(&path, flags, Mode::empty());
    assert_eq!(opened.unwrap_err(), rustix::io::Errno::NXIO);
}
