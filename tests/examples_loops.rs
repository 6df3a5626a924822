//! The examples of loops that need no other crate. Each checks every byte and exit
//! itself, and says by its exit code whether they were right.

#[path = "support/example.rs"]
mod example;

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
