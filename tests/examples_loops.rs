//! The examples of loops that need no other crate. Each checks every byte and exit
//! itself, and says by its exit code whether they were right.

#[path = "support/example.rs"]
mod example;

use std::fs;
use std::path::Path;
use std::process::Command;

use example::example;

fn run(name: &str, args: &[&str]) -> String {
    let output = Command::new(example(name)).args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn epoll_serves_fifty_children_however_it_watches_them() {
    for how in ["level", "edge", "oneshot"] {
        assert_eq!(run("epoll", &[how]), "50 children have ended\n");
    }
}

#[test]
fn poll_serves_fifty_children_without_an_allocation() {
    let said = run("poll", &[]);
    assert!(said.contains("there and back: 0 allocations\n"), "{said}");
    assert!(said.contains("49 exits, 1 killed at its deadline"), "{said}");
}

/// An example that finds something wrong says so.
#[test]
fn control_an_example_that_fails_is_not_taken_for_one_that_does_not() {
    let output = Command::new(example("epoll")).arg("no such way").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

/// The loops of other crates are a package of their own, which no test builds:
/// `.ci/run` does, and runs each by its name.
#[test]
fn every_loop_of_another_crate_is_run_by_ci_and_stands_in_the_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Ok(loops) = fs::read_dir(root.join("examples/loops/src/bin")) else {
        return eprintln!("SKIPPED: the package has no examples/loops");
    };
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let (ci, readme) = (read(".ci/run"), read("README.md"));
    let run = ci.split("for name in ").find(|list| list.starts_with("mio")).unwrap();
    let run: Vec<&str> = run.split(';').next().unwrap().split_whitespace().collect();
    let mut found = 0;
    for file in loops.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        let name = file.strip_suffix(".rs").expect("a file of Rust");
        assert!(run.contains(&name), "{name} is not run by .ci/run");
        assert!(readme.contains(&format!("examples/loops/src/bin/{file})")), "{name}: README");
        found += 1;
    }
    assert_eq!(found, run.len(), "{run:?}");
}
