//! How the program is reached, and what it is told: by fd, by a shell, under
//! another name, with its own pid in the environment.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod support;

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use forkplan::Channel::{self, ReadPipe};
use forkplan::{Command, Features, PlanError, Prepared};
use support::{
    PATHS, fds_of, fds_of_self, file_of, in_subprocess, no_child_is_left, pause, place_at, with_fd,
    write_program,
};

/// What a program says on its fd 1, and that it ends well.
fn said(prepared: &mut Prepared<'_>) -> (u32, String) {
    let mut child = prepared.spawn().unwrap();
    let pid = child.id().unwrap();
    let mut text = String::new();
    File::from(child.take(1).unwrap()).read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    (pid, text)
}

fn output(command: &mut Command<'_>) -> String {
    said(&mut command.prepare().unwrap()).1
}

fn exe_of(pid: u32) -> support::File {
    file_of(File::open(format!("/proc/{pid}/exe")).unwrap())
}

/// The environment of a program that has one. The kernel lets the parent go on a
/// moment before it has put that in its place.
fn environ_of(pid: u32) -> Vec<u8> {
    loop {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap();
        if !environ.is_empty() {
            return environ;
        }
        std::thread::yield_now();
    }
}

/// A memfd with the image of a program.
fn memfd(program: &Path, sealed: bool) -> OwnedFd {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is NUL-terminated; the result is an fd of ours.
    let mut memfd = unsafe {
        let fd = libc::memfd_create(c"program".as_ptr(), flags);
        assert!(fd >= 0);
        File::from_raw_fd(fd)
    };
    memfd.write_all(&fs::read(program).unwrap()).unwrap();
    memfd.rewind().unwrap();
    if sealed {
        let seals =
            libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::fcntl(memfd.as_raw_fd(), libc::F_ADD_SEALS, seals) }, 0);
    }
    memfd.into()
}

#[test]
fn a_program_is_run_by_its_fd_whatever_its_name() {
    for without in PATHS {
        let program = File::open("/bin/true").unwrap();
        let mut command = Command::new("/nowhere/false");
        command.program_fd(program).without(without);
        assert!(command.spawn().unwrap().wait().unwrap().success());
        // Control: it is the fd that decides.
        command.program_fd(File::open("/bin/false").unwrap());
        assert_eq!(command.spawn().unwrap().wait().unwrap().code(), Some(1));
    }
}

#[test]
fn a_program_by_fd_gets_its_arguments_and_is_not_left_open() {
    for without in PATHS {
        let shell = File::open("/bin/sh").unwrap();
        let shell_file = file_of(&shell);
        let mut command = Command::new("the name");
        command.args(["-c", "echo $0 $1 $2; ls -l /proc/$$/fd", "a", "b", "c"]);
        command.fd(1, ReadPipe).program_fd(shell).without(without);
        let text = output(&mut command);
        assert!(text.starts_with("a b c\n"), "{text}");

        let mut command = Command::new("name");
        command.fd(1, ReadPipe).program_fd(File::open(pause()).unwrap()).without(without);
        let mut child = command.spawn().unwrap();
        let pid = child.id().unwrap();
        let fds = fds_of(pid);
        assert_eq!(fds.keys().copied().collect::<Vec<_>>(), [1]);
        assert_eq!(exe_of(pid), file_of(File::open(pause()).unwrap()));
        assert_ne!(exe_of(pid), shell_file);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_sealed_memfd_is_a_program() {
    for without in PATHS {
        let program = memfd(Path::new("/bin/true"), true);
        let mut command = Command::new("memfd");
        command.program_fd(program.as_fd()).without(without);
        let mut prepared = command.prepare().unwrap();
        for _ in 0..3 {
            assert!(prepared.spawn().unwrap().wait().unwrap().success());
        }
    }
}

#[test]
fn a_memfd_that_may_be_written_is_busy_and_that_is_the_error() {
    for without in PATHS {
        let program = memfd(Path::new("/bin/true"), false);
        let mut command = Command::new("memfd");
        let mut prepared = command.program_fd(program.as_fd()).without(without).prepare().unwrap();
        match prepared.spawn() {
            // Some kernels do not count the writers of a memfd.
            Ok(mut child) => assert!(child.wait().unwrap().success()),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ETXTBSY), "{error}");
                assert!(error.to_string().starts_with("execveat "), "{error}");
            }
        }
    }
}

/// The program's number is a child fd, or is part of a swap, or stays.
#[test]
fn the_map_does_not_run_over_the_programs_fd() {
    in_subprocess("the_map_does_not_run_over_the_programs_fd", || {
        const PROGRAM: i32 = 20;
        const OTHER: i32 = 21;
        place_at(File::open(pause()).unwrap(), PROGRAM);
        let (program, file) = (with_fd(PROGRAM), file_of(with_fd(PROGRAM)));
        place_at(tempfile::tempfile().unwrap(), OTHER);
        // SAFETY: no pointers. With `inherit_unnamed_fds` a program that is not
        // closed by exec is the user's wish.
        let mark = |fd| unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        assert_eq!([PROGRAM, OTHER].map(mark), [0, 0]);
        let before = fds_of_self();
        let maps: [(&[(i32, i32)], &str); 4] = [
            (&[(PROGRAM, OTHER)], "its number is given away"),
            (&[(PROGRAM, OTHER), (OTHER, PROGRAM)], "it changes places"),
            (&[(PROGRAM, PROGRAM)], "it stays"),
            (&[(5, PROGRAM), (PROGRAM, OTHER)], "it is handed on too"),
        ];
        for without in PATHS {
            for inherit in [false, true] {
                for (map, what) in maps {
                    let mut command = Command::new("pause");
                    command.program_fd(program).without(without).inherit_unnamed_fds(inherit);
                    for &(target, source) in map {
                        command.fd(target, with_fd(source));
                    }
                    let mut child = command.spawn().unwrap_or_else(|e| panic!("{what}: {e}"));
                    let fds = fds_of(child.id().unwrap());
                    assert_eq!(exe_of(child.id().unwrap()), file, "{what}");
                    for &(target, source) in map {
                        assert_eq!(fds[&target].file, file_of(with_fd(source)), "{what}");
                    }
                    if !inherit {
                        assert_eq!(fds.len(), map.len(), "{what}: {fds:?}");
                    }
                    let copies = fds.values().filter(|open| open.file == file).count();
                    let asked = map.iter().filter(|(_, source)| *source == PROGRAM).count();
                    assert_eq!(copies, asked, "{what}, inherit {inherit}: {fds:?}");
                    child.kill().unwrap();
                    child.wait().unwrap();
                }
            }
        }
        assert_eq!(fds_of_self(), before);
    });
}

#[test]
fn a_script_by_fd_is_an_error_before_anything_happens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script");
    write_program(&path, "#!/bin/sh\nexit 0\n", 0o755);
    let mut command = Command::new("script");
    command.program_fd(File::open(&path).unwrap());
    assert_eq!(command.prepare().unwrap_err(), PlanError::ScriptByFd);
    // Control: by name it runs.
    assert!(Command::new(&path).spawn().unwrap().wait().unwrap().success());
    // Without `#!` it is the kernel that says so.
    write_program(&path, "exit 0\n", 0o755);
    for without in PATHS {
        let mut command = Command::new("script");
        command.program_fd(File::open(&path).unwrap()).without(without);
        let error = command.spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOEXEC), "{error}");
        assert!(error.to_string().starts_with("execveat "), "{error}");
    }
}

#[test]
fn a_script_without_a_shebang_is_given_to_the_shell_if_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script");
    write_program(&path, "echo \"$0|$1|$2|$#\"\n", 0o755);
    let name = path.to_str().unwrap();
    for without in PATHS {
        let mut command = Command::new(&path);
        command.args(["first one", ""]).fd(1, ReadPipe).without(without);
        // Control: without the word it is an error.
        let error = command.spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOEXEC));
        assert_eq!(error.description(), Some(format!("execve {path:?}").as_str()));

        command.shell_fallback("/bin/sh");
        assert_eq!(output(&mut command), format!("{name}|first one||2\n"));
        // The clone's pointers are its own.
        let prepared = command.prepare().unwrap();
        let mut clone = prepared.try_clone().unwrap();
        drop(prepared);
        assert_eq!(said(&mut clone).1, format!("{name}|first one||2\n"));

        // A program that is one is not the shell's.
        let mut command = Command::new("echo");
        command.arg("x").fd(1, ReadPipe).shell_fallback("/bin/false").without(without);
        assert_eq!(output(&mut command), "x\n");
    }
}

#[test]
fn the_shell_is_tried_for_the_candidate_that_was_found() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| dir.path().join(name));
    fs::create_dir(&first).unwrap();
    fs::create_dir(&second).unwrap();
    // What may not be run is passed by; what is found ends the search.
    write_program(first.join("tool"), "echo wrong\n", 0o644);
    write_program(second.join("tool"), "echo $0 $*\n", 0o755);
    write_program(first.join("both"), "echo one\n", 0o755);
    write_program(second.join("both"), "#!/bin/sh\necho two\n", 0o755);
    let path = format!("/nowhere:{}:{}:/bin", first.display(), second.display());
    for without in PATHS {
        let mut command = Command::new("tool");
        command.args(["a", "b"]).env("PATH", &path).fd(1, ReadPipe).without(without);
        command.shell_fallback("/bin/sh");
        assert_eq!(output(&mut command), format!("{} a b\n", second.join("tool").display()));
        let mut command = Command::new("both");
        command.env("PATH", &path).fd(1, ReadPipe).without(without).shell_fallback("/bin/sh");
        assert_eq!(output(&mut command), "one\n");
        let mut command = Command::new("neither");
        command.env("PATH", &path).without(without).shell_fallback("/bin/sh");
        let error = command.spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        assert_eq!(error.description(), Some("execve \"neither\" in 4 directories of PATH"));
    }
    assert_eq!(
        Command::new("x")
            .shell_fallback("/bin/sh")
            .program_fd(File::open("/bin/true").unwrap())
            .prepare()
            .unwrap_err(),
        PlanError::Contradiction { first: "shell_fallback", second: "program_fd" }
    );
}

#[test]
fn a_shell_that_is_missing_is_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script");
    write_program(&path, "exit 0\n", 0o755);
    for without in PATHS {
        let mut command = Command::new(&path);
        command.shell_fallback("/nowhere/sh").without(without);
        let error = command.spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        let subject = "execve \"/nowhere/sh\" if that is a script without #!";
        assert_eq!(error.description(), Some(subject));
    }
}

#[test]
fn the_name_told_may_be_another() {
    for without in PATHS {
        let mut command = Command::new("/bin/sh");
        command.arg0("-another name").args(["-c", "tr '\\0' '|' < /proc/$$/cmdline"]);
        command.fd(1, ReadPipe).env("PATH", "/bin:/usr/bin").without(without);
        assert!(output(&mut command).starts_with("-another name|-c|"));
        command.program_fd(File::open("/bin/sh").unwrap());
        assert!(output(&mut command).starts_with("-another name|-c|"));
    }
}

#[test]
fn a_variable_holds_the_childs_pid_in_every_spawn() {
    for without in PATHS.into_iter().chain([Features::all()]) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $$ $OWN $ALSO"]).fd(1, ReadPipe).without(without);
        command.env_clear().env("OWN", "not this").env_pid("OWN").env_pid("ALSO");
        let mut prepared = command.prepare().unwrap();
        let mut clone = prepared.try_clone().unwrap();
        for _ in 0..5 {
            for prepared in [&mut prepared, &mut clone] {
                let (pid, text) = said(prepared);
                assert_eq!(text, format!("{pid} {pid} {pid}\n"));
            }
        }
    }
    for key in ["", "A=B"] {
        let error = Command::new("true").env_pid(key).prepare().unwrap_err();
        assert_eq!(error, PlanError::BadEnvKey { key: key.into() });
    }
}

#[test]
fn sockets_are_handed_on_from_3_with_their_names() {
    in_subprocess("sockets_are_handed_on_from_3_with_their_names", || {
        // SAFETY: this process has one thread.
        unsafe { std::env::set_var("LISTEN_PID", "1") };
        let sockets = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let files = sockets.each_ref().map(file_of);
        let names = ["web", "admin", "x"];
        for without in PATHS {
            let mut command = Command::new("/bin/sh");
            let script = "env | grep ^LISTEN_ | sort; echo $$; ls -Li /proc/$$/fd | sort -n";
            command.args(["-c", script]).fd(1, ReadPipe).fd(0, Channel::Null).without(without);
            command.listen_fds(names.into_iter().zip(sockets.iter().map(Channel::borrowed)));
            let (pid, text) = said(&mut command.prepare().unwrap());
            let told =
                format!("LISTEN_FDNAMES=web:admin:x\nLISTEN_FDS=3\nLISTEN_PID={pid}\n{pid}\n");
            assert!(text.starts_with(&told), "{text}");

            let mut command = Command::new(pause());
            command.without(without);
            command.listen_fds(names.into_iter().zip(sockets.iter().map(Channel::borrowed)));
            let mut child = command.spawn().unwrap();
            let fds = fds_of(child.id().unwrap());
            let environ = environ_of(child.id().unwrap());
            let told = environ.split(|&byte| byte == 0).filter(|s| s.starts_with(b"LISTEN_PID="));
            let told: Vec<_> = told.map(String::from_utf8_lossy).collect();
            assert_eq!(told, [format!("LISTEN_PID={}", child.id().unwrap())]);
            child.kill().unwrap();
            child.wait().unwrap();
            let handed = [3, 4, 5].map(|fd| fds[&fd].file);
            assert_eq!(handed, files);
        }
        assert!(no_child_is_left());
    });
}

/// What `env` says, run with these changes to an empty environment.
fn environment_with(changes: impl FnOnce(&mut Command<'_>)) -> Vec<String> {
    let mut command = Command::new("/usr/bin/env");
    command.fd(0, Channel::Null).fd(1, ReadPipe).env_clear();
    changes(&mut command);
    let [fast, forked] = PATHS.map(|without| {
        let (pid, text) = said(&mut command.clone().without(without).prepare().unwrap());
        let own = format!("={pid}");
        let mut lines: Vec<String> = text.lines().map(|line| line.replace(&own, "=PID")).collect();
        lines.sort_unstable();
        lines
    });
    assert_eq!(fast, forked);
    fast
}

#[test]
fn of_several_calls_for_one_variable_the_last_counts() {
    let none: [&str; 0] = [];
    let found = environment_with(|c| _ = c.env_pid("A").env_pid("A"));
    assert_eq!(found, ["A=PID"]);
    let found = environment_with(|c| _ = c.env("A", "1").env_pid("A"));
    assert_eq!(found, ["A=PID"]);
    let found = environment_with(|c| _ = c.env_pid("A").env("A", "1"));
    assert_eq!(found, ["A=1"]);
    let found = environment_with(|c| _ = c.env_pid("A").env_remove("A"));
    assert_eq!(found, none);
    let found = environment_with(|c| _ = c.env_pid("A").env_clear().env("B", "2"));
    assert_eq!(found, ["B=2"]);
    let sockets = || [("x", Channel::Null)];
    let found = environment_with(|c| _ = c.env_pid("LISTEN_PID").listen_fds(sockets()));
    assert_eq!(found, ["LISTEN_FDNAMES=x", "LISTEN_FDS=1", "LISTEN_PID=PID"]);
    let found = environment_with(|c| _ = c.listen_fds(sockets()).env("LISTEN_PID", "x"));
    assert_eq!(found, ["LISTEN_FDNAMES=x", "LISTEN_FDS=1", "LISTEN_PID=x"]);
}

#[test]
fn what_is_logged_of_a_command_has_no_values_of_variables() {
    const SECRET: &str = "hunter2";
    let mut command = Command::new("/bin/true");
    command.arg("argument").env("TOKEN", SECRET).env_pid("OWN").env_remove("GONE");
    let mut prepared = command.prepare().unwrap();
    let mut texts = vec![format!("{command:?}"), format!("{command:#?}"), format!("{prepared:?}")];
    let opened = prepared.open().unwrap();
    texts.extend([format!("{opened:?}"), opened.plan().to_string()]);
    for text in &texts {
        assert!(!text.contains(SECRET), "{text}");
    }
    for word in ["TOKEN", "OWN", "GONE", "argument"] {
        assert!(texts[0].contains(word), "{word}: {}", texts[0]);
    }
}
