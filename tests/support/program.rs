//! Programs that do one thing and nothing else: no loader, no runtime, no libc.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use core::time::Duration;

/// An executable that only waits for a signal.
///
/// It has no dynamic loader and no runtime, so from the moment that exec was
/// reached it opens, closes and changes nothing: what `/proc` says of it is what
/// the spawn has made.
pub(crate) fn pause() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| install("forkplan-pause", PAUSE))
}

/// An executable that ends well at once, also where there is nothing else: in an
/// empty root.
pub(crate) fn end() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| install("forkplan-end", END))
}

/// An executable that tells, without an fd of its own, which of its fds 0 to 15
/// is what: to the offset of what is on `fd` it adds `1 << fd`, and ends with 0.
/// Whoever shares the open file sees a bit for each fd on which it was.
pub(crate) fn marker() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| install("forkplan-marker", MARKER))
}

/// Writes the executable if it is not there.
fn install(name: &str, code: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let image = image(code);
    if fs::read(&path).ok().as_ref() != Some(&image) {
        // Under its name it is complete from the start, whoever else is
        // writing one.
        let unfinished = path.with_extension(std::process::id().to_string());
        fs::write(&unfinished, image).unwrap();
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&unfinished, &path).unwrap();
    }
    wait_until_it_runs(&path);
    path
}

/// Makes an executable, or with another mode something that is none.
///
/// A shell writes it: had this process the file open for writing, then so would
/// a child that another test forks just then, and nobody could run the file
/// until that child's exec.
pub(crate) fn write_program(path: impl AsRef<Path>, contents: &str, mode: u32) {
    let script = "printf %s \"$1\" > \"$3\" && chmod \"$2\" \"$3\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh", contents, &format!("{mode:o}")]).arg(path.as_ref());
    assert!(shell.status().unwrap().success());
}

/// A child that some other test forked meanwhile may hold the file open for
/// writing until its exec. Once the program has run, nobody does any more.
fn wait_until_it_runs(path: &Path) {
    loop {
        let mut command = Command::new(path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            Ok(mut child) => {
                child.kill().unwrap();
                child.wait().unwrap();
                return;
            }
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }
}

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

/// `loop { pause() }`
#[cfg(target_arch = "x86_64")]
const PAUSE: &[u8] = &[0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];

/// `loop { ppoll(NULL, 0, NULL, NULL) }`
#[cfg(target_arch = "aarch64")]
const PAUSE: &[u8] = &[
    0x00, 0x00, 0x80, 0xd2, // mov x0, 0
    0x01, 0x00, 0x80, 0xd2, // mov x1, 0
    0x02, 0x00, 0x80, 0xd2, // mov x2, 0
    0x03, 0x00, 0x80, 0xd2, // mov x3, 0
    0x28, 0x09, 0x80, 0xd2, // mov x8, 73
    0x01, 0x00, 0x00, 0xd4, // svc 0
    0xfa, 0xff, 0xff, 0x17, // b -24
];

/// `exit_group(0)`
#[cfg(target_arch = "x86_64")]
const END: &[u8] = &[0x31, 0xff, 0xb8, 231, 0, 0, 0, 0x0f, 0x05];

/// The same.
#[cfg(target_arch = "aarch64")]
const END: &[u8] = &[
    0x00, 0x00, 0x80, 0xd2, // mov x0, 0
    0xc8, 0x0b, 0x80, 0xd2, // mov x8, 94
    0x01, 0x00, 0x00, 0xd4, // svc 0
];

/// `for fd in 0..16 { lseek(fd, 1 << fd, SEEK_CUR) } exit(0)`
#[cfg(target_arch = "x86_64")]
const MARKER: &[u8] = &[
    0x31, 0xdb, // xor ebx, ebx
    0x89, 0xdf, // mov edi, ebx
    0x89, 0xd9, // mov ecx, ebx
    0xbe, 1, 0, 0, 0, // mov esi, 1
    0xd3, 0xe6, // shl esi, cl
    0xba, 1, 0, 0, 0, // mov edx, SEEK_CUR
    0xb8, 8, 0, 0, 0, // mov eax, SYS_lseek
    0x0f, 0x05, // syscall
    0xff, 0xc3, // inc ebx
    0x83, 0xfb, 16, // cmp ebx, 16
    0x75, 0xe2, // jne -30
    0x31, 0xff, // xor edi, edi
    0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
    0x0f, 0x05, // syscall
];

/// The same.
#[cfg(target_arch = "aarch64")]
const MARKER: &[u8] = &[
    0x13, 0x00, 0x80, 0xd2, // mov x19, 0
    0x34, 0x00, 0x80, 0xd2, // mov x20, 1
    0xe0, 0x03, 0x13, 0xaa, // mov x0, x19
    0x81, 0x22, 0xd3, 0x9a, // lsl x1, x20, x19
    0x22, 0x00, 0x80, 0xd2, // mov x2, SEEK_CUR
    0xc8, 0x07, 0x80, 0xd2, // mov x8, SYS_lseek
    0x01, 0x00, 0x00, 0xd4, // svc 0
    0x73, 0x06, 0x00, 0x91, // add x19, x19, 1
    0x7f, 0x42, 0x00, 0xf1, // cmp x19, 16
    0x21, 0xff, 0xff, 0x54, // b.ne -28
    0x00, 0x00, 0x80, 0xd2, // mov x0, 0
    0xa8, 0x0b, 0x80, 0xd2, // mov x8, SYS_exit
    0x01, 0x00, 0x00, 0xd4, // svc 0
];

/// A static ELF executable: header, one program header, the code.
fn image(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + code.len() as u64;
    let mut image = Vec::new();
    let u16s = |image: &mut Vec<u8>, values: &[u16]| {
        values.iter().for_each(|value| image.extend(value.to_le_bytes()));
    };
    let u64s = |image: &mut Vec<u8>, values: &[u64]| {
        values.iter().for_each(|value| image.extend(value.to_le_bytes()));
    };
    // 64 bits, little endian, version 1.
    image.extend(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // An executable for this machine, version 1.
    u16s(&mut image, &[2, MACHINE, 1, 0]);
    // Entry, program headers, no section headers.
    u64s(&mut image, &[BASE + HEADERS, 64, 0]);
    // Flags; sizes of this header and of a program header; one of those.
    u16s(&mut image, &[0, 0, 64, 56, 1, 0, 0, 0]);
    // To be loaded, readable and executable.
    u16s(&mut image, &[1, 0, 5, 0]);
    // Offset, addresses, sizes, alignment.
    u64s(&mut image, &[0, BASE, BASE, size, size, 0x1_0000]);
    image.extend(code);
    image
}
