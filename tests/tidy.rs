//! The rules of the house, held by a reading of the sources.
//!
//! Each rule says what to write in place of what it forbids. Comments, strings
//! and test code are not looked at. The rules are put to the test below: a
//! made-up text that breaks all of them has to be reported rule by rule.
//!
//! The map of rooms and the reasons are in `ARCHITECTURE.md`.

mod tidy {
    pub(crate) mod rules;
    pub(crate) mod source;
}

use std::collections::BTreeSet;
use std::path::Path;

use tidy::rules::{EXCEPTIONS, MAY_IMPORT, Problem, check};
use tidy::source::Source;

fn sources() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut todo = vec![src.clone()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&src).unwrap().to_str().unwrap();
                sources.push(Source::new(name, &std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn report(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n{problem}")).collect()
}

#[test]
fn the_sources_keep_the_rules_of_the_house() {
    let sources = sources();
    assert!(sources.iter().any(|source| source.path == "postfork/mod.rs"), "sources not found");
    let problems: Vec<Problem> = sources.iter().flat_map(check).collect();
    assert!(problems.is_empty(), "{}", report(&problems));
}

#[test]
fn every_exception_is_still_needed() {
    let sources = sources();
    for exception in EXCEPTIONS {
        let used = sources.iter().any(|source| {
            source.path == exception.path
                && source
                    .lines
                    .iter()
                    .any(|line| !line.is_test && line.code.contains(exception.code))
        });
        assert!(used, "strike the exception for {}: {}", exception.path, exception.code);
    }
}

#[test]
fn no_two_rooms_import_each_other() {
    // Rooms are taken away one by one, each after all that it may import.
    let mut left: Vec<_> = MAY_IMPORT.to_vec();
    let mut done = BTreeSet::new();
    while !left.is_empty() {
        let before = left.len();
        left.retain(|(room, imports)| {
            let ready = imports.iter().all(|import| done.contains(import));
            if ready {
                done.insert(*room);
            }
            !ready
        });
        assert!(left.len() < before, "these rooms import one another: {left:?}");
    }
}

/// Breaks `text`'s rule at `path`, and nothing else.
fn breaks(path: &str, text: &str, rule: &str) {
    let problems = check(&Source::new(path, text));
    let rules: Vec<&str> = problems.iter().map(|problem| problem.rule).collect();
    assert_eq!(rules, [rule], "{path}: {text}{}", report(&problems));
}

fn keeps(path: &str, text: &str) {
    let problems = check(&Source::new(path, text));
    assert!(problems.is_empty(), "{path}: {text}{}", report(&problems));
}

#[test]
fn control_calls_in_the_wrong_room_are_reported() {
    breaks("spawn/mod.rs", "fn f() { libc::getpid(); }", "libc");
    breaks("channel.rs", "use libc as c;", "libc");
    breaks("child/mod.rs", "fn f() { unsafe { g() } }", "unsafe");
    breaks("plan/mod.rs", "extern crate std;", "std");
    breaks("sys/fd.rs", "use std::fs;", "std");
    breaks("sys/process.rs", "use std::env;", "std");
    breaks("postfork/mod.rs", "fn f() { ::std::process::abort() }", "std");
    breaks("limits.rs", "extern crate alloc;", "alloc");
    breaks("spawn/mod.rs", "#[cfg(linux)]\nfn f() {}", "cfg");
    breaks("pump/mod.rs", "fn f() { if cfg!(target_os = \"macos\") {} }", "cfg");
    breaks("child/mod.rs", "#[cfg_attr(raw_syscalls, inline)]\nfn f() {}", "cfg");
    keeps("sys/fd.rs", "#[cfg(linux)]\nfn f() { unsafe { libc::getpid() } }");
    keeps("spawn/mod.rs", "extern crate std;\nuse std::vec::Vec;");
}

#[test]
fn control_imports_against_the_direction_are_reported() {
    breaks("plan/mod.rs", "use crate::sys::Errno;", "imports");
    breaks("sys/fd.rs", "use crate::child::Child;", "imports");
    breaks("channel.rs", "fn f(_: crate::command::Command) {}", "imports");
    breaks("child/mod.rs", "use crate::Command;", "imports");
    breaks("child/mod.rs", "use crate::{sys, signal};", "imports");
    breaks("child/mod.rs", "use super::spawn::Prepared;", "imports");
    breaks("child/exit.rs", "use super::super::spawn::Prepared;", "imports");
    breaks("cellar/mod.rs", "fn f() {}", "imports");
    keeps("child/mod.rs", "use crate::sys::Errno;\nuse crate::child::Ends;");
    keeps("child/exit.rs", "use super::Ends;\nmod a { use super::super::Ends; }");
    keeps("lib.rs", "pub use crate::child::Child;");
}

#[test]
fn control_what_may_panic_in_the_child_is_reported() {
    for line in ["panic!()", "x.unwrap()", "x.expect()", "assert!(x)", "unreachable!()", "a[i]"] {
        breaks("postfork/mod.rs", &format!("fn f() {{ {line}; }}"), "panics");
        breaks("sys/child_raw.rs", &format!("fn f() {{ {line}; }}"), "panics");
        keeps("spawn/mod.rs", &format!("fn f() {{ {line}; }}"));
    }
    breaks("sys/child_raw.rs", "fn f() { a + b }", "panics");
    breaks("postfork/mod.rs", "fn f() { a += 1 }", "panics");
    keeps("postfork/mod.rs", "#[inline]\nfn f(a: &[u8], b: [u8; 4]) -> X { X([0; 4]) }");
}

#[test]
fn control_more_than_one_owner_is_reported() {
    breaks("sys/process.rs", "fn f() { unsafe { libc::waitpid(-1, x, 0) } }", "owner");
    breaks("sys/process.rs", "fn f() { unsafe { libc::wait4( -1, x, 0, y) } }", "owner");
    breaks("sys/process.rs", "fn f() { let id = libc::P_ALL; }", "owner");
    breaks("sys/signals.rs", "fn f() { unsafe { libc::signal(a, b) } }", "owner");
    breaks("sys/signals.rs", "fn f() { unsafe { libc::sigaction(a, &b, c) } }", "owner");
    breaks("spawn/mod.rs", "fn f() { GLOBAL.lock() }", "owner");
    breaks("pump/mod.rs", "fn f() { thread::spawn(g) }", "owner");
    keeps("sys/signals.rs", "fn f() { unsafe { libc::sigaction(a, core::ptr::null(), c) } }");
}

#[test]
fn control_unfinished_and_overlong_code_is_reported() {
    breaks("plan/mod.rs", "fn f() { todo!() }", "unfinished");
    breaks("plan/mod.rs", "fn f() { dbg!(x) }", "unfinished");
    // In a comment too.
    breaks("plan/mod.rs", &["fn f() {} // FI", "XME: later"].concat(), "unfinished");
    breaks("plan/mod.rs", &"// a line\n".repeat(451), "length");
    keeps("plan/mod.rs", &"// a line\n".repeat(450));
    let function =
        |lines| format!("impl A {{\n    fn f() {{\n{}    }}\n}}\n", "g();\n".repeat(lines));
    breaks("plan/mod.rs", &function(69), "length");
    keeps("plan/mod.rs", &function(68));
}

#[test]
fn control_comments_strings_and_tests_are_left_alone() {
    keeps("plan/mod.rs", "// libc::getpid\n/* unsafe /* std:: */ crate::sys */\nfn f() {}");
    keeps(
        "plan/mod.rs",
        "const A: &str = \"unsafe \\\" std::\";\nconst B: &str = r#\"a\" std::\"#;",
    );
    keeps("plan/mod.rs", "fn f<'a>(x: &'a str) -> char { '\"' }\nconst A: char = '\\'';");
    keeps("plan/mod.rs", "#[cfg(test)]\nmod tests {\n    extern crate std;\n    use std::vec;\n}");
    keeps("plan/tests.rs", "extern crate std;");
    // What follows a test module is looked at again.
    breaks("plan/mod.rs", "#[cfg(test)]\nmod tests { fn g() {} }\nuse std::vec;", "std");
    // And a quote or a lifetime hides nothing.
    breaks("plan/mod.rs", "const A: char = '\"'; use std::vec; // \"", "std");
    breaks("plan/mod.rs", "fn f<'a>(x: &'a std::vec::Vec<u8>) {}", "std");
}
