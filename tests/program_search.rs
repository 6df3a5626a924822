//! Where a program is looked for, through real spawns by both paths.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::path::Path;

use forkplan::{Command, SpawnError};
use support::{PATHS, write_program};

/// Directories `a`, `b` and `c` under a temporary one.
fn directories() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::create_dir(root.path().join(name)).unwrap();
    }
    root
}

/// A script that exits with `code`.
fn program(path: impl AsRef<Path>, code: i32, mode: u32) {
    write_program(path, &format!("#!/bin/sh\nexit {code}\n"), mode);
}

/// The child's `PATH` from elements below `root`.
fn path(root: &Path, elements: &[&str]) -> String {
    let elements: Vec<String> =
        elements.iter().map(|e| root.join(e).to_str().unwrap().to_owned()).collect();
    elements.join(":")
}

/// The exit code by both paths, which is the same.
fn run(command: &Command<'_>) -> Result<Option<i32>, SpawnError> {
    let [fast, forked] =
        PATHS.map(|without| Ok(command.clone().without(without).spawn()?.wait().unwrap().code()));
    assert_eq!(fast.as_ref().ok(), forked.as_ref().ok());
    assert_eq!(
        fast.as_ref().err().map(SpawnError::to_string),
        forked.as_ref().err().map(SpawnError::to_string)
    );
    forked
}

#[test]
fn the_first_directory_that_has_it_wins() {
    let root = directories();
    program(root.path().join("b/prog"), 2, 0o755);
    program(root.path().join("c/prog"), 3, 0o755);
    let mut command = Command::new("prog");
    command.env("PATH", path(root.path(), &["a", "b", "c"]));
    assert_eq!(run(&command).unwrap(), Some(2));
    command.env("PATH", path(root.path(), &["a", "c", "b"]));
    assert_eq!(run(&command).unwrap(), Some(3));
}

#[test]
fn one_that_may_not_be_run_makes_way_for_the_next() {
    let root = directories();
    program(root.path().join("a/prog"), 1, 0o644);
    program(root.path().join("c/prog"), 3, 0o755);
    let mut command = Command::new("prog");
    command.env("PATH", path(root.path(), &["a", "b", "c"]));
    assert_eq!(run(&command).unwrap(), Some(3));
}

#[test]
fn if_none_runs_the_one_that_may_not_is_what_is_reported() {
    let root = directories();
    program(root.path().join("b/prog"), 2, 0o644);
    let mut command = Command::new("prog");
    command.env("PATH", path(root.path(), &["a", "b", "c"]));
    let error = run(&command).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    assert_eq!(error.description(), Some(&*format!("execve {:?}", root.path().join("b/prog"))));
}

#[test]
fn one_that_is_nowhere_names_the_program_and_how_many_places() {
    let root = directories();
    let mut command = Command::new("prog");
    // The last is a file, not a directory.
    command.env("PATH", path(root.path(), &["a", "b", "none"]) + ":/etc/passwd");
    let error = run(&command).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    assert_eq!(error.description(), Some("execve \"prog\" in 4 directories of PATH"));
}

#[test]
fn a_file_that_is_no_program_ends_the_search() {
    let root = directories();
    write_program(root.path().join("a/prog"), "exit 1\n", 0o755);
    program(root.path().join("b/prog"), 2, 0o755);
    let mut command = Command::new("prog");
    command.env("PATH", path(root.path(), &["a", "b"]));
    assert_eq!(run(&command).unwrap_err().raw_os_error(), Some(libc::ENOEXEC));
}

#[test]
fn the_childs_path_is_searched_and_not_the_parents() {
    let root = directories();
    let mut command = Command::new("sh");
    assert_eq!(run(command.arg("-c").arg("exit 5")).unwrap(), Some(5));
    command.env("PATH", path(root.path(), &["a"]));
    assert_eq!(run(&command).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    // Without a PATH, where systems have their programs.
    command.env_clear();
    assert_eq!(run(&command).unwrap(), Some(5));
    command.env_clear().env_remove("PATH");
    assert_eq!(run(&command).unwrap(), Some(5));
}

#[test]
fn a_relative_program_is_the_child_directorys() {
    let root = directories();
    program(root.path().join("a/prog"), 1, 0o755);
    let mut command = Command::new("./prog");
    command.current_dir(root.path().join("a"));
    assert_eq!(run(&command).unwrap(), Some(1));
    command.current_dir(root.path().join("b"));
    assert_eq!(run(&command).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    // An element of PATH that is relative, likewise.
    let mut command = Command::new("prog");
    command.env("PATH", "none:a").current_dir(root.path());
    assert_eq!(run(&command).unwrap(), Some(1));
}

#[test]
fn an_empty_element_is_not_the_current_directory() {
    let root = directories();
    program(root.path().join("a/prog"), 1, 0o755);
    let mut command = Command::new("prog");
    command.current_dir(root.path().join("a")).env("PATH", ":/nowhere::");
    assert_eq!(run(&command).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    // The control: it would have been found.
    command.env("PATH", ".:/nowhere");
    assert_eq!(run(&command).unwrap(), Some(1));
}

#[test]
fn an_element_that_is_longer_than_any_path_does_not_end_the_search() {
    let root = directories();
    program(root.path().join("a/prog"), 1, 0o755);
    let mut command = Command::new("prog");
    let long = "/x".repeat(libc::PATH_MAX as usize);
    command.current_dir(root.path()).env("PATH", format!("{long}:b:{long}:a"));
    assert_eq!(run(&command).unwrap(), Some(1));
    command.env("PATH", format!("b:{long}"));
    assert_eq!(run(&command).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    // A name that no file can have is told as that.
    let error = run(Command::new("x".repeat(256)).env("PATH", "/bin")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
}
