//! The program that is spawned: static, and ended as soon as it starts, so that
//! what is measured is the spawn and not the dynamic linker.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SOURCE: &str = r#"
void _start(void) {
#if defined(__x86_64__)
    __asm__ volatile("syscall" : : "a"(231), "D"(0));
#elif defined(__aarch64__)
    register long number __asm__("x8") = 94;
    register long code __asm__("x0") = 0;
    __asm__ volatile("svc 0" : : "r"(number), "r"(code));
#else
#error "no exit_group for this architecture"
#endif
    __builtin_unreachable();
}
"#;

const FALLBACK: &str = "/bin/true";

/// A program on disk, removed when dropped if it was built here.
pub struct Program {
    path: PathBuf,
    dir: Option<PathBuf>,
}

impl Program {
    /// Builds the tiny program. Without a compiler it is `/bin/true`, and says
    /// so: every ratio is then nearer to 1.
    pub fn build() -> Self {
        let dir = std::env::temp_dir().join(format!("forkplan-bench-{}", std::process::id()));
        match compile(&dir) {
            Ok(path) => Self { path, dir: Some(dir) },
            Err(why) => {
                let _ = fs::remove_dir_all(&dir);
                eprintln!("!!! no tiny static program: {why}");
                eprintln!("!!! {FALLBACK} in its place: the dynamic linker hides the differences");
                Self { path: FALLBACK.into(), dir: None }
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

fn compile(dir: &Path) -> Result<PathBuf, String> {
    let say = |what: &str, why: std::io::Error| format!("{what}: {why}");
    fs::create_dir_all(dir).map_err(|e| say("temporary directory", e))?;
    let (source, path) = (dir.join("tiny.c"), dir.join("tiny"));
    fs::write(&source, SOURCE).map_err(|e| say("its source", e))?;
    let made = Command::new("cc")
        .args(["-static", "-nostdlib", "-O2", "-o"])
        .args([&path, &source])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| say("cc", e))?;
    match made.status.success() {
        true => Ok(path),
        false => Err(String::from_utf8_lossy(&made.stderr).into_owned()),
    }
}
