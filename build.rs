//! Names for the platforms, so that the sources say `cfg(linux)` and not a
//! list of targets. Nothing else happens here: no probing of the build machine.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(linux, raw_syscalls, sanitized, asan, tsan)");

    let os = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let width = env::var("CARGO_CFG_TARGET_POINTER_WIDTH").unwrap_or_default();

    // `-Zsanitizer` of a nightly compiler, which may name more than one.
    if let Ok(sanitizers) = env::var("CARGO_CFG_SANITIZE") {
        println!("cargo:rustc-cfg=sanitized");
        for (name, short) in [("address", "asan"), ("thread", "tsan")] {
            if sanitizers.split(',').any(|sanitizer| sanitizer == name) {
                println!("cargo:rustc-cfg={short}");
            }
        }
    }
    // clone, pidfd, close_range. Not Android, whose filter for apps ends a
    // process at the sight of a call that it does not know.
    if os == "linux" {
        println!("cargo:rustc-cfg=linux");
        // Architectures for which `sys::arch` has the syscall instruction. The
        // width leaves out x32, whose syscall numbers differ.
        if (arch == "x86_64" || arch == "aarch64") && width == "64" {
            println!("cargo:rustc-cfg=raw_syscalls");
        }
    }
}
