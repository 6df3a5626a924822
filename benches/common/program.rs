//! The program that is spawned: static, and ended as soon as it starts, so that
//! what is measured is the spawn and not the dynamic linker.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SOURCE: &str = r#"
#if defined(__x86_64__)
enum { WRITE = 1, EXIT = 231 };
static long call(long number, long a, const void *b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
enum { WRITE = 64, EXIT = 94 };
static long call(long number, long a, const void *b, long c) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register const void *x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}
#else
#error "neither write nor exit_group for this architecture"
#endif
void _start(void) {
#ifdef TALKS
    call(WRITE, 1, "hello\n", 6);
#endif
    call(EXIT, 0, 0, 0);
    __builtin_unreachable();
}
"#;

/// What the program does before it ends.
#[derive(Clone, Copy, Debug)]
pub enum Does {
    Nothing,
    /// Writes "hello" and a newline to its 1.
    Talks,
}

/// A program on disk, removed when dropped if it was built here.
pub struct Program {
    path: PathBuf,
    dir: Option<PathBuf>,
}

impl Program {
    /// Builds the tiny program. Without a compiler it is one of the system's,
    /// and says so: every ratio is then nearer to 1.
    pub fn build(does: Does) -> Self {
        let fallback = match does {
            Does::Nothing => "/bin/true",
            Does::Talks => "/bin/pwd",
        };
        let dir = std::env::temp_dir().join(format!("forkplan-bench-{}", std::process::id()));
        match compile(&dir, does) {
            Ok(path) => Self { path, dir: Some(dir) },
            Err(why) => {
                let _ = fs::remove_dir_all(&dir);
                eprintln!("!!! no tiny static program: {why}");
                eprintln!("!!! {fallback} in its place: the dynamic linker hides the differences");
                Self { path: fallback.into(), dir: None }
            }
        }
    }

    /// A program that is there.
    pub fn at(path: &Path) -> Self {
        Self { path: path.into(), dir: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn c_path(&self) -> CString {
        CString::new(self.path.as_os_str().as_bytes()).expect("no NUL in a path that exists")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(dir) = &self.dir {
            let _ = fs::remove_dir_all(dir);
        }
    }
}

fn compile(dir: &Path, does: Does) -> Result<PathBuf, String> {
    let say = |what: &str, why: std::io::Error| format!("{what}: {why}");
    fs::create_dir_all(dir).map_err(|e| say("temporary directory", e))?;
    let (source, path) = (dir.join("tiny.c"), dir.join("tiny"));
    fs::write(&source, SOURCE).map_err(|e| say("its source", e))?;
    let define = match does {
        Does::Nothing => "-DSILENT",
        Does::Talks => "-DTALKS",
    };
    let made = Command::new("cc")
        .args(["-static", "-nostdlib", "-O2", define, "-o"])
        .args([&path, &source])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| say("cc", e))?;
    match made.status.success() {
        true => Ok(path),
        false => Err(String::from_utf8_lossy(&made.stderr).into_owned()),
    }
}
