//! The programs of `tests/support/program.rs` go where a test's files would.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let dir = std::env::var("OUT_DIR").expect("cargo says it");
    println!("cargo::rustc-env=CARGO_TARGET_TMPDIR={dir}");
}
