//! What `VERIFICATION.md` and `SECURITY.md` point to is there: each test by its
//! file and name, each file, each script.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const TABLES: [(&str, &str); 2] = [
    ("VERIFICATION.md", include_str!("../VERIFICATION.md")),
    ("SECURITY.md", include_str!("../SECURITY.md")),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What stands between backticks on one line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// `file::test` of something quoted, if it is that.
fn test_named(quoted: &str) -> Option<(&str, &str)> {
    let word = |text: &str| {
        text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && !text.is_empty()
    };
    quoted.split_once("::").filter(|(file, test)| word(file) && word(test))
}

fn tests_of(file: &str) -> String {
    fs::read_to_string(root().join("tests").join(file).with_extension("rs")).unwrap_or_default()
}

/// What is pointed to and is not there.
fn dangling(text: &str) -> Vec<String> {
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    let mut dangling = Vec::new();
    for quoted in quoted(text) {
        if let Some((file, test)) = test_named(quoted) {
            let source = files.entry(file).or_insert_with(|| tests_of(file));
            if !source.contains(&format!("fn {test}(")) {
                dangling.push(quoted.to_string());
            }
        }
        let path = quoted.split(' ').next().unwrap_or_default();
        let is_path = [".ci/", "tests/", "src/", "fuzz/"].iter().any(|dir| path.starts_with(dir));
        // Not in the package that is published: the scripts and fuzz targets.
        let is_here = root().join(".ci").exists() || path.starts_with("tests/");
        if is_path && !path.contains('*') && is_here && !root().join(path).exists() {
            dangling.push(quoted.to_string());
        }
    }
    dangling
}

#[test]
fn every_test_and_file_that_is_pointed_to_is_there() {
    for (name, text) in TABLES {
        assert_eq!(dangling(text), [""; 0], "{name}");
        let count = quoted(text).filter_map(test_named).count();
        assert!(name != "VERIFICATION.md" || count > 50, "{name} names {count} tests");
    }
}

#[test]
fn control_what_is_not_there_is_found() {
    let text = "`tidy::no_such_test` `no_such_file::test` `tests/none.rs` \
                `tidy::the_sources_keep_the_rules_of_the_house` `tests/tidy.rs`";
    let expected = ["tidy::no_such_test", "no_such_file::test", "tests/none.rs"];
    assert_eq!(dangling(text), expected);
}
