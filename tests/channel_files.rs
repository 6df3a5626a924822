//! Files that the child opens for itself, and input from memory.

#![cfg(target_os = "linux")]

mod support;

use std::fs::{self, File, Permissions};
use std::io::{Read, Write, read_to_string};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use forkplan::Channel::{self, Null, ReadPipe};
use forkplan::plan::Step;
use forkplan::{Command, Features, OnDrop, Open, PlanError, Resource, SpawnError};
use rustix::fs::{Mode, OFlags, SealFlags, fcntl_get_seals};
use support::{
    EXCLUSIONS, PATHS, fds_of, fds_of_self, file_of, in_subprocess, no_child_is_left, pause,
};

fn is_root(test: &str) -> bool {
    // SAFETY: no pointers.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("SKIPPED: {test}: wants root");
    }
    root
}

/// What the child writes to its 1, run with these channels.
fn output(command: &mut Command<'_>) -> String {
    let mut child = command.fd(1, ReadPipe).spawn().unwrap();
    let text = read_to_string(File::from(child.take(1).unwrap())).unwrap();
    assert!(child.wait().unwrap().success());
    text
}

#[test]
fn a_relative_path_is_taken_from_the_childs_directory() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("input"), "from there").unwrap();
    for without in EXCLUSIONS {
        let mut cat = Command::new("cat");
        cat.without(without).current_dir(dir.path());
        cat.fd(0, Channel::file_in_child("input", Open::Read));
        assert_eq!(output(&mut cat), "from there");
        // The control: the parent has no such file.
        let mut cat = Command::new("cat");
        cat.current_dir(dir.path()).fd(0, Channel::file("input", Open::Read));
        assert_eq!(cat.spawn().unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
}

#[test]
fn an_absolute_path_is_taken_from_the_childs_root() {
    if !is_root("an_absolute_path_is_taken_from_the_childs_root") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::copy(pause(), dir.path().join("pause")).unwrap();
    fs::write(dir.path().join("passwd"), "not the real one").unwrap();
    for without in PATHS {
        let mut command = Command::new("/pause");
        command.without(without).chroot(dir.path()).on_drop(OnDrop::Kill);
        command.fd(3, Channel::file_in_child("/passwd", Open::Read));
        let child = command.spawn().unwrap();
        let fds = fds_of(child.id().unwrap());
        assert_eq!(fds[&3].file, file_of(File::open(dir.path().join("passwd")).unwrap()));
        assert_eq!(fds.len(), 1);
    }
}

#[test]
fn a_file_is_opened_with_the_rights_of_the_program_and_not_the_parents() {
    if !is_root("a_file_is_opened_with_the_rights_of_the_program_and_not_the_parents") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "roots").unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    let mut cat = Command::new("cat");
    cat.uid(12_345).gid(12_345).groups([]);
    let mut deputy = cat.clone();
    deputy.fd(0, Channel::file_in_child(&secret, Open::Read));
    let error = deputy.spawn().unwrap_err();
    let words = format!("openat {secret:?} {:#o} -> 0: Permission denied", libc::O_RDONLY);
    assert_eq!(error.to_string(), words);
    assert!(matches!(error.step(), Some(Step::OpenFile { to: 0, .. })));
    // The control: the parent may.
    assert_eq!(output(cat.fd(0, Channel::file(&secret, Open::Read))), "roots");
}

#[test]
fn the_childs_umask_and_each_way_to_open_hold() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let echo = |name: &str, open| -> Result<(), SpawnError> {
        let mut echo = Command::new("echo");
        echo.arg("more").umask(0o027).current_dir(dir.path());
        echo.fd(1, Channel::file_in_child(name, open)).spawn()?.wait().unwrap();
        Ok(())
    };
    for (open, expected) in
        [(Open::Write, "more\n"), (Open::Append, "there\nmore\n"), (Open::ReadWrite, "more\n\n")]
    {
        let name = format!("{open:?}");
        fs::write(path(&name), "there\n").unwrap();
        echo(&name, open).unwrap();
        assert_eq!(fs::read_to_string(path(&name)).unwrap(), expected);
    }
    echo("new", Open::CreateNew).unwrap();
    assert_eq!(fs::metadata(path("new")).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(echo("new", Open::CreateNew).unwrap_err().raw_os_error(), Some(libc::EEXIST));
    assert_eq!(echo("none", Open::Read).unwrap_err().raw_os_error(), Some(libc::ENOENT));
}

#[test]
fn one_file_on_several_fds_is_one_open_file_and_nothing_else_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "x").unwrap();
    for without in EXCLUSIONS {
        for inherit in [false, true] {
            let mut command = Command::new(pause());
            command.without(without).on_drop(OnDrop::Kill).inherit_unnamed_fds(inherit);
            command.fds([700, 1, 40], Channel::file_in_child(&path, Open::ReadWrite));
            command.fd(0, Null).fd(5, Channel::file_in_child(&path, Open::Read));
            let child = command.spawn().unwrap();
            let fds = fds_of(child.id().unwrap());
            if !inherit {
                assert_eq!(fds.keys().copied().collect::<Vec<_>>(), [0, 1, 5, 40, 700]);
            }
            let id = file_of(File::open(&path).unwrap());
            for fd in [1, 5, 40, 700] {
                assert_eq!((fds[&fd].file, fds[&fd].flags & libc::O_CLOEXEC), (id, 0), "{fd}");
            }
            assert!(fds[&5].is_for_reading());
        }
    }
    let mut sh = Command::new("sh");
    sh.args(["-c", "printf a >&5; printf b >&6"]);
    sh.fds([5, 6], Channel::file_in_child(&path, Open::Write)).spawn().unwrap().wait().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "ab");
}

#[test]
fn the_plan_shows_the_file_and_says_that_its_number_is_nobodys_copy() {
    let mut command = Command::new("/bin/true");
    command.fd(3, Channel::file_in_child("/etc/passwd", Open::Read));
    let mut prepared = command.prepare().unwrap();
    let opened = prepared.open().unwrap();
    let plan = opened.plan();
    let line = plan.to_string().lines().find(|line| line.contains("openat")).unwrap().to_owned();
    assert!(line.contains("openat \"/etc/passwd\" 0o0 -> 3  (child's file "), "{line}");
    let sources = plan.steps().iter().filter_map(|step| match *step {
        Step::Dup2 { from, to: 3 } => Some(from),
        _ => None,
    });
    for placeholder in sources {
        assert_eq!(plan.place(placeholder), None);
    }
    let path = Command::new("true").fd(3, Channel::file_in_child("a\0b", Open::Read)).prepare();
    assert_eq!(path.unwrap_err(), PlanError::NulByte { what: "path of a file".into() });
}

#[test]
fn files_are_opened_after_root_map_and_ids_and_before_restrictions() {
    let ruleset = File::open("/dev/null").unwrap();
    let mut command = Command::new("/bin/true");
    command.uid(12_345).gid(12_345).groups([]).chroot("/").current_dir("/").umask(0);
    command.landlock(ruleset.as_fd()).no_new_privs().rlimit(Resource::CORE, 0, 0);
    command.fds([3, 4], Channel::file_in_child("/etc/passwd", Open::Read));
    let mut prepared = command.prepare().unwrap();
    let opened = prepared.open().unwrap();
    let steps = opened.plan().steps();
    let at = |is: fn(&Step) -> bool| steps.iter().position(is).unwrap();
    let open = at(|step| matches!(step, Step::OpenFile { .. }));
    assert_eq!(steps[open + 1], Step::Dup2 { from: 3, to: 4 });
    assert!(at(|step| matches!(step, Step::Chroot { .. })) < open);
    assert!(at(|step| matches!(step, Step::Chdir { .. })) < open);
    assert!(at(|step| matches!(step, Step::Umask { .. })) < open);
    assert!(at(|step| matches!(step, Step::Dup2 { to: 3, .. })) < open);
    assert!(at(|step| matches!(step, Step::SetUid { .. })) < open);
    assert!(open < at(|step| matches!(step, Step::Landlock { .. })));
    assert!(open < at(|step| matches!(step, Step::NoNewPrivs)));
}

#[test]
fn a_file_that_the_child_opens_means_a_fork() {
    let mut command = Command::new("/bin/true");
    command.fd(3, Channel::file_in_child("/etc/passwd", Open::Read));
    command.require(Features::SHARED_MEMORY);
    let error = command.prepare().unwrap_err();
    assert_eq!(error, PlanError::MissingFeature { features: Features::SHARED_MEMORY });
}

#[test]
fn a_program_by_fd_at_a_files_number_is_moved_out_of_the_way() {
    in_subprocess("a_program_by_fd_at_a_files_number_is_moved_out_of_the_way", || {
        support::place_at(File::open(pause()).unwrap(), 20);
        for without in EXCLUSIONS {
            let mut command = Command::new("pause");
            command.without(without).on_drop(OnDrop::Kill);
            command.program_fd(support::with_fd(20));
            command.fds([20, 21], Channel::file_in_child("/etc/passwd", Open::Read));
            let child = command.spawn().unwrap();
            let fds = fds_of(child.id().unwrap());
            let id = file_of(File::open("/etc/passwd").unwrap());
            assert_eq!(fds.values().map(|open| open.file).collect::<Vec<_>>(), [id, id]);
        }
    });
}

#[test]
fn a_limit_of_fds_has_to_leave_a_number() {
    let spawn = |limit| {
        let mut command = Command::new("/bin/true");
        command.rlimit(Resource::NOFILE, limit, limit);
        command.fds([0, 1], Channel::file_in_child("/etc/passwd", Open::Read)).spawn()
    };
    spawn(64).unwrap().wait().unwrap();
    assert_eq!(spawn(2).unwrap_err().raw_os_error(), Some(libc::EMFILE));
}

#[test]
fn bytes_are_read_from_their_beginning_by_each_child() {
    in_subprocess("bytes_are_read_from_their_beginning_by_each_child", || {
        let before = fds_of_self();
        let long: Vec<u8> = (0..3_000_000).map(|i| (i % 251) as u8).collect();
        for without in EXCLUSIONS {
            for bytes in [&b""[..], b"short", &long] {
                let mut command = Command::new("cat");
                command.without(without).fds([0, 7], Channel::bytes(bytes)).fd(1, ReadPipe);
                let mut prepared = command.prepare().unwrap();
                for _ in 0..2 {
                    let mut child = prepared.spawn().unwrap();
                    let mut read = Vec::new();
                    File::from(child.take(1).unwrap()).read_to_end(&mut read).unwrap();
                    assert!(read == bytes);
                    assert!(child.wait().unwrap().success());
                }
            }
        }
        assert_eq!(fds_of_self(), before);
        assert!(no_child_is_left());
    });
}

#[test]
fn bytes_can_not_be_changed_by_anybody() {
    let mut command = Command::new(pause());
    command.on_drop(OnDrop::Kill).fd(0, Channel::bytes("sealed"));
    let child = command.spawn().unwrap();
    let path = format!("/proc/{}/fd/0", child.id().unwrap());
    let file = File::open(Path::new(&path)).unwrap();
    let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    assert_eq!(fcntl_get_seals(file.as_fd()), Ok(all));
    let written = File::options()
        .write(true)
        .open(&path)
        .and_then(|f| rustix::io::write(f, b"x").map_err(Into::into));
    assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::EPERM));
}

#[test]
fn bytes_are_shown_by_their_number_and_not_themselves() {
    let input = Channel::bytes(vec![0x61; 100_000]);
    assert_eq!(
        (input.to_string(), format!("{input:?}")),
        ("100000 bytes".into(), "Bytes(InputBytes(100000 bytes))".into())
    );
}

#[test]
fn a_fifo_in_the_child_blocks_the_spawn_until_somebody_opens_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::from_raw_mode(0o600)).unwrap();
    let mut command = Command::new("cat");
    command.fd(0, Channel::file_in_child(&path, Open::Read)).fd(1, ReadPipe);
    std::thread::scope(|scope| {
        let spawn = scope.spawn(|| command.spawn().unwrap());
        // There is no reader before the child comes to its step.
        let flags = OFlags::WRONLY | OFlags::NONBLOCK;
        let writer = loop {
            match rustix::fs::open(&path, flags, Mode::empty()) {
                Ok(writer) => break writer,
                Err(rustix::io::Errno::NXIO) if !spawn.is_finished() => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        File::from(writer).write_all(b"met").unwrap();
        let mut child = spawn.join().unwrap();
        let end = File::from(child.take(1).unwrap());
        assert_eq!(read_to_string(end).unwrap(), "met");
        child.wait().unwrap();
    });
}

#[test]
fn bytes_beyond_the_parents_limit_on_files_are_an_error_and_no_signal() {
    in_subprocess("bytes_beyond_the_parents_limit_on_files_are_an_error_and_no_signal", || {
        let limit = libc::rlimit { rlim_cur: 4, rlim_max: 4 };
        // SAFETY: reads the limit. The process is the test's own.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
        let before = fds_of_self();
        let with = |bytes: &str| {
            let mut command = Command::new("true");
            command.fd(0, Channel::bytes(bytes)).spawn()
        };
        // Written, they would be a SIGXFSZ, which ends who does not expect it.
        let error = with("12345").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFBIG), "{error}");
        assert!(with("1234").unwrap().wait().unwrap().success());
        assert_eq!(fds_of_self(), before);
        // Control: a file in memory counts as one.
        let file = rustix::fs::memfd_create("control", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        // SAFETY: no handler of anybody's; the process is the test's own.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        assert_eq!(rustix::io::pwrite(file, b"5", 4), Err(rustix::io::Errno::FBIG));
    });
}
