//! Directories and roots, in the caller's order and number, and what is then
//! found from there.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command as StdCommand;

use forkplan::Channel::Null;
use forkplan::{Child, Command, PassedFd};
use support::{PATHS, fds_of, fds_of_self, in_subprocess, no_child_is_left, pause, with_fd};
use tempfile::TempDir;

/// Ends a test that wants root, where this is not root, and says so.
macro_rules! root_only {
    ($test:expr) => {
        // SAFETY: no pointers.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("SKIPPED: {}: wants root", $test);
            return;
        }
    };
}

/// A directory with a program in `bin` of each of three roots, one in the other.
struct Roots(TempDir);

impl Roots {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for inner in ["", "in", "in/in"] {
            let bin = dir.path().join(inner).join("bin");
            fs::create_dir_all(&bin).unwrap();
            let names = [pause(), &bin.join("stand")];
            assert!(StdCommand::new("cp").args(names).status().unwrap().success());
        }
        Self(dir)
    }

    fn path(&self, inner: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(inner)
    }

    fn open(&self, inner: &str) -> fs::File {
        fs::File::open(self.path(inner)).unwrap()
    }
}

/// Of a program, without channels but one.
fn of<'fd>(program: impl AsRef<Path>) -> Command<'fd> {
    let mut command = Command::new(program.as_ref());
    command.fd(0, Null);
    command
}

/// Spawns on both paths, looks at the standing program, ends it.
fn look(command: &Command<'_>, at: impl Fn(&Child)) {
    for without in PATHS {
        let mut child = command.clone().without(without).spawn().unwrap_or_else(|e| panic!("{e}"));
        at(&child);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// Its root, its directory and its program, as they are called here.
fn stands(child: &Child) -> [PathBuf; 3] {
    let pid = child.id().unwrap();
    ["root", "cwd", "exe"].map(|link| fs::read_link(format!("/proc/{pid}/{link}")).unwrap())
}

fn words_of_plan(command: &Command<'_>) -> Vec<String> {
    let mut prepared = command.prepare().unwrap();
    let opened = prepared.open().unwrap();
    let plan = opened.plan();
    plan.steps().iter().map(|&step| plan.show(step).to_string()).collect()
}

#[test]
fn directories_are_changed_in_the_order_of_the_calls() {
    let roots = Roots::new();
    let dir = roots.open("in");
    let mut command = of(pause());
    // Each is taken from where the one before has led.
    command.chdir(roots.path("")).chdir("in").chdir("in");
    look(&command, |child| assert_eq!(stands(child)[1], roots.path("in/in")));
    command.fchdir(PassedFd::borrowed(&dir)).chdir("bin");
    look(&command, |child| assert_eq!(stands(child)[1], roots.path("in/bin")));
    // The last, whenever it was said.
    let mut command = of(pause());
    command.current_dir("in").chdir(roots.path(""));
    look(&command, |child| assert_eq!(stands(child)[1], roots.path("in")));
    // The control, and the parent itself.
    let here = std::env::current_dir().unwrap();
    look(&of(pause()), |child| assert_eq!(stands(child)[..2], [PathBuf::from("/"), here.clone()]));
}

#[test]
fn the_plan_shows_directories_as_they_were_said() {
    let mut command = of(pause());
    let dir = fs::File::open("/").unwrap();
    command.umask(0o27).current_dir("last").chroot("/a").chdir("b").chroot("c");
    command.fchdir(PassedFd::borrowed(&dir)).chdir("b");
    let words = words_of_plan(&command);
    let fchdir = format!("fchdir {}", dir.as_raw_fd());
    let expected = [
        "chroot \"/a\"",
        "chdir \"b\"",
        "chroot \"c\"",
        &fchdir,
        "chdir \"b\"",
        "chdir \"last\"",
        "umask 0o027",
    ];
    let start = words.iter().position(|word| word == expected[0]).unwrap();
    assert_eq!(words[start..start + expected.len()], expected);
}

#[test]
fn chroot_chdir_and_chroot_again() {
    root_only!("chroot_chdir_and_chroot_again");
    let roots = Roots::new();
    // Without a chdir the directory stays outside.
    let mut command = of("/bin/stand");
    command.chroot(roots.path(""));
    let here = std::env::current_dir().unwrap();
    look(&command, |child| {
        assert_eq!(stands(child), [roots.path(""), here.clone(), roots.path("bin/stand")]);
    });
    command.chdir("/in").chroot(".").chdir("/");
    look(&command, |child| {
        let bin = roots.path("in/bin/stand");
        assert_eq!(stands(child), [roots.path("in"), roots.path("in"), bin]);
    });
    command.chroot("in").current_dir("/bin");
    look(&command, |child| {
        let bin = roots.path("in/in/bin");
        assert_eq!(stands(child), [roots.path("in/in"), bin.clone(), bin.join("stand")]);
    });
    // By an fd that was opened outside.
    let dir = roots.open("in");
    let mut command = of("/bin/stand");
    command.fchdir(PassedFd::borrowed(&dir)).chroot(".").chdir("/");
    look(&command, |child| assert_eq!(stands(child)[..2], [roots.path("in"), roots.path("in")]));
}

#[test]
fn a_program_is_found_from_where_the_child_stands() {
    root_only!("a_program_is_found_from_where_the_child_stands");
    let roots = Roots::new();
    let exe = |inner| move |child: &Child| stands(child)[2].ends_with(inner);
    look(of("bin/stand").chdir(roots.path("in")), |child| assert!(exe("in/bin/stand")(child)));
    look(of("../bin/stand").chdir(roots.path("in")), |child| {
        assert_eq!(stands(child)[2], roots.path("bin/stand"));
    });
    // A relative element of PATH.
    look(of("stand").env("PATH", "nowhere:bin").chdir(roots.path("in/in")), |child| {
        assert_eq!(stands(child)[2], roots.path("in/in/bin/stand"));
    });
    // Inside of a root, there and only there.
    let mut command = of("stand");
    command.env("PATH", "/nowhere:/bin").chroot(roots.path("in")).chdir("/");
    look(&command, |child| assert_eq!(stands(child)[2], roots.path("in/bin/stand")));
    let error = of("stand").env("PATH", "/nowhere:/bin").spawn().unwrap_err();
    assert_eq!(error.description(), Some("execve \"stand\" in 2 directories of PATH"));
    let mut command = of(pause());
    command.chroot(roots.path("in")).chdir("/");
    assert_eq!(command.spawn().unwrap_err().raw_os_error(), Some(libc::ENOENT));
}

#[test]
fn a_planted_directory_is_no_way_out_of_a_root() {
    let name = "a_planted_directory_is_no_way_out_of_a_root";
    root_only!(name);
    in_subprocess(name, || {
        let roots = Roots::new();
        // One that a careless program has left open, under some numbers.
        let outside = fs::File::open("/").unwrap();
        for number in [5, 77] {
            // SAFETY: no pointers; the numbers are this test's.
            assert_eq!(unsafe { libc::dup2(outside.as_raw_fd(), number) }, number);
        }
        let inside = roots.open("in");
        let mut command = of("/bin/stand");
        command.fchdir(PassedFd::borrowed(&inside)).chroot(".").chdir("/");
        look(&command, |child| {
            let fds = fds_of(child.id().unwrap());
            assert_eq!(Vec::from_iter(fds.into_keys()), [0]);
            assert_eq!(stands(child)[..2], [roots.path("in"), roots.path("in")]);
        });
        // Under a number that the map needs for itself.
        let mut command = command.clone();
        command.fd(inside.as_raw_fd(), Null).fd(5, Null);
        look(&command, |child| {
            let pid = child.id().unwrap();
            for number in [inside.as_raw_fd(), 5] {
                let target = fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap();
                assert_eq!(target, Path::new("/dev/null"));
            }
            assert_eq!(fds_of(pid).len(), 3);
        });
        // The control: who inherits what nobody named, inherits a way out.
        look(of("/bin/stand").chroot(roots.path("")).inherit_unnamed_fds(true), |child| {
            assert!(fds_of(child.id().unwrap()).contains_key(&77));
        });
    });
}

#[test]
fn umask_is_the_programs() {
    let umask = |process: &str| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        u32::from_str_radix(line.unwrap().trim(), 8).unwrap()
    };
    let mine = umask("self");
    for mode in [0, 0o27, 0o777] {
        look(of(pause()).umask(mode), |child| {
            assert_eq!(umask(&child.id().unwrap().to_string()), mode);
        });
    }
    look(&of(pause()), |child| assert_eq!(umask(&child.id().unwrap().to_string()), mine));
    assert_eq!(umask("self"), mine);
}

#[test]
fn what_fails_is_named_by_its_path_and_leaves_nothing() {
    let name = "what_fails_is_named_by_its_path_and_leaves_nothing";
    root_only!(name);
    in_subprocess(name, || {
        let roots = Roots::new();
        let file = tempfile::NamedTempFile::new().unwrap();
        let shown = |path: &Path| format!("{path:?}");
        let before = fds_of_self();
        let says = |command: &Command<'_>, words: &str, errno: i32| {
            for without in PATHS {
                let error = command.clone().without(without).spawn().unwrap_err();
                assert_eq!(error.description(), Some(words));
                assert_eq!(error.raw_os_error(), Some(errno), "{error}");
                assert!(no_child_is_left());
                assert_eq!(fds_of_self(), before);
            }
        };
        says(of(pause()).chdir("/").chdir("nowhere"), "chdir \"nowhere\"", libc::ENOENT);
        says(of(pause()).chroot("/nowhere"), "chroot \"/nowhere\"", libc::ENOENT);
        let words = format!("chroot {}", shown(file.path()));
        says(of(pause()).chroot(file.path()), &words, libc::ENOTDIR);
        let words = format!("fchdir {}", file.as_file().as_raw_fd());
        says(of(pause()).fchdir(PassedFd::borrowed(&file)), &words, libc::ENOTDIR);
        // The second of three.
        let mut command = of("/bin/stand");
        command.chroot(roots.path("")).chroot("/nowhere").chdir("/");
        says(&command, "chroot \"/nowhere\"", libc::ENOENT);
        // An fd that is not open is found out before there is a child.
        let closed = with_fd(555);
        says(of(pause()).fchdir(PassedFd::borrowed(&closed)), "fd 555", libc::EBADF);
        let nul = of(pause()).chroot("a\0b").prepare().unwrap_err();
        assert_eq!(nul.to_string(), "root directory has a NUL byte in it");

        let private = roots.path("in");
        fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
        become_user(1000);
        says(of(pause()).chroot("/"), "chroot \"/\"", libc::EPERM);
        says(of(pause()).chdir(&private), &format!("chdir {}", shown(&private)), libc::EACCES);
        // For root's directories to be removed.
        become_user(0);
    });
}

/// Changes the effective user, and with it the capabilities that count.
fn become_user(uid: u32) {
    // SAFETY: no pointers; the process is the test's own. One that is not
    // dumpable has a /proc that is root's.
    unsafe {
        assert_eq!(libc::seteuid(uid), 0);
        assert_eq!(libc::prctl(libc::PR_SET_DUMPABLE, 1), 0);
    }
}
