//! All strings of a child in one block, and the pointers that exec wants.

extern crate std;

use core::cell::UnsafeCell;
use core::ffi::c_char;
use core::fmt;
use core::ptr;
use std::vec::Vec;

use crate::plan::{Bytes, Program, Text};

/// NUL-terminated strings under construction, one after the other.
#[derive(Default)]
pub(super) struct Strings {
    bytes: Vec<u8>,
}

/// More than a `Text` can point at.
pub(super) struct TooLong;

impl Strings {
    /// Adds one string, given in parts without a NUL in them.
    pub(super) fn push(&mut self, parts: &[&[u8]]) -> Result<Text, TooLong> {
        let text = Text(u32::try_from(self.bytes.len()).map_err(|_| TooLong)?);
        for part in parts {
            debug_assert!(!part.contains(&0));
            self.bytes.extend_from_slice(part);
        }
        self.bytes.push(0);
        Ok(text)
    }

    /// Adds bytes that are no string.
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) -> Result<Bytes, TooLong> {
        let Text(at) = self.next()?;
        let len = u32::try_from(bytes.len()).map_err(|_| TooLong)?;
        self.bytes.extend_from_slice(bytes);
        self.bytes.push(0);
        Ok(Bytes { at, len })
    }

    /// Where the next string will be.
    pub(super) fn next(&self) -> Result<Text, TooLong> {
        u32::try_from(self.bytes.len()).map(Text).map_err(|_| TooLong)
    }

    /// No string can be added any more; those of `program` get their pointers.
    pub(super) fn freeze(self, program: Program, extra: Extra) -> Frozen {
        Frozen::new(self.bytes, program, extra)
    }
}

/// What exec may be given besides the strings that follow one another.
#[derive(Clone, Default)]
pub(super) struct Extra {
    /// Environment variables that get the child's pid.
    pub(super) pid_keys: Vec<Vec<u8>>,
    pub(super) shell: Option<Scripts>,
}

/// A shell, and the scripts that it is tried with.
#[derive(Clone)]
pub(super) struct Scripts {
    pub(super) shell: Text,
    pub(super) paths: Vec<Text>,
}

/// The strings, and `argv` and `envp` that point into them.
pub(super) struct Frozen {
    /// Not boxed, and nor is what else a child reads: to move a box claims that
    /// nobody else reads what is in it, and a child may while this is moved.
    text: Vec<u8>,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    /// `KEY=` and room for the pid, which a child writes.
    pid_strings: Vec<Vec<UnsafeCell<u8>>>,
    /// Where in them.
    pid_places: Vec<*mut u8>,
    /// One `argv` for each script. The pointers are to these.
    shell_argvs: Vec<Vec<*const c_char>>,
    shell_argv: Vec<*const *const c_char>,
    program: Program,
    extra: Extra,
}

// SAFETY: the pointers point into `text`, which is on the heap, does not move
// with the value, is never written again, and is of no particular thread.
unsafe impl Send for Frozen {}
// SAFETY: as above. What changes is the room for pids, and nobody reads that but
// the kernel for a child: where memory is shared its `Prepared` is borrowed
// mutably by a parent that is stopped, or owned by a `Starting`, else the child
// writes its copy.
unsafe impl Sync for Frozen {}

/// Digits of a number of 32 bits, and a NUL.
const PID_ROOM: usize = 11;

impl Frozen {
    fn new(text: Vec<u8>, program: Program, extra: Extra) -> Self {
        let argv = pointers(&text, program.args, program.arg_count);
        let mut envp = pointers(&text, program.env, program.env_count);
        let (mut pid_strings, mut pid_places) = (Vec::new(), Vec::new());
        for key in &extra.pid_keys {
            let bytes = key.iter().copied().chain([b'=']).chain([0; PID_ROOM]);
            let string: Vec<UnsafeCell<u8>> = bytes.map(UnsafeCell::new).collect();
            let start = UnsafeCell::raw_get(string.as_ptr());
            pid_places.push(start.wrapping_add(key.len() + 1));
            // Before the NULL.
            envp.insert(envp.len() - 1, start.cast_const().cast());
            pid_strings.push(string);
        }
        let mut shell_argvs = Vec::new();
        if let Some(Scripts { shell, paths }) = &extra.shell {
            for script in paths {
                let mut list = Vec::with_capacity(argv.len() + 1);
                list.push(pointer(&text, *shell));
                list.push(pointer(&text, *script));
                list.extend_from_slice(&argv[1..]);
                shell_argvs.push(list);
            }
        }
        let shell_argv = shell_argvs.iter().map(|list| list.as_ptr()).collect();
        Self { text, argv, envp, pid_strings, pid_places, shell_argvs, shell_argv, program, extra }
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(super) fn argv(&self) -> &[*const c_char] {
        &self.argv
    }

    pub(super) fn envp(&self) -> &[*const c_char] {
        &self.envp
    }

    pub(super) fn pid_places(&self) -> &[*mut u8] {
        debug_assert_eq!(self.pid_strings.len(), self.pid_places.len());
        &self.pid_places
    }

    /// The variable whose value is the pid at the place `slot`.
    pub(super) fn pid_key(&self, slot: usize) -> Option<&[u8]> {
        self.extra.pid_keys.get(slot).map(Vec::as_slice)
    }

    pub(super) fn shell_argv(&self) -> &[*const *const c_char] {
        debug_assert_eq!(self.shell_argvs.len(), self.shell_argv.len());
        &self.shell_argv
    }

    pub(super) fn program(&self) -> Program {
        self.program
    }
}

/// The clone's pointers point into the clone's text.
impl Clone for Frozen {
    fn clone(&self) -> Self {
        Self::new(self.text.clone(), self.program, self.extra.clone())
    }
}

/// The environment is nobody's business in a log.
impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frozen").field("program", &self.program).finish_non_exhaustive()
    }
}

/// A pointer to the string at `at`.
fn pointer(text: &[u8], at: Text) -> *const c_char {
    text[at.0 as usize..].as_ptr().cast()
}

/// Pointers to `count` strings from `first` on, then NULL.
fn pointers(text: &[u8], first: Text, count: u32) -> Vec<*const c_char> {
    let mut pointers = Vec::with_capacity(count as usize + 1);
    let mut rest = &text[first.0 as usize..];
    for _ in 0..count {
        pointers.push(rest.as_ptr().cast());
        let end = rest.iter().position(|&byte| byte == 0).map_or(rest.len(), |nul| nul + 1);
        rest = &rest[end..];
    }
    pointers.push(ptr::null());
    pointers
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ffi::CStr;

    fn strings(pointers: &[*const c_char]) -> Vec<&[u8]> {
        let (last, pointers) = pointers.split_last().unwrap();
        assert!(last.is_null());
        // SAFETY: each points to a NUL-terminated string of a live `Frozen`.
        pointers.iter().map(|&p| unsafe { CStr::from_ptr(p) }.to_bytes()).collect()
    }

    #[test]
    fn argv_and_envp_point_at_their_strings_in_the_clone_too() {
        let mut all = Strings::default();
        let args = all.next().ok().unwrap();
        all.push(&[b"a"]).ok();
        all.push(&[b"", b""]).ok();
        all.push(&[b"b", b"\xff"]).ok();
        let env = all.next().ok().unwrap();
        all.push(&[b"K", b"=", b"v"]).ok();
        all.push(&[b"/bin/a"]).ok();
        let frozen = all.freeze(
            Program { args, arg_count: 3, env, env_count: 1, pid_count: 0 },
            Extra::default(),
        );
        let cloned = frozen.clone();
        let texts = [frozen.text().as_ptr(), cloned.text().as_ptr()];
        assert_ne!(texts[0], texts[1]);
        for frozen in [cloned, frozen] {
            assert_eq!(strings(frozen.argv()), [b"a".as_slice(), b"", b"b\xff"]);
            assert_eq!(strings(frozen.envp()), [b"K=v"]);
        }
    }

    #[test]
    fn an_empty_environment_is_a_null() {
        let mut all = Strings::default();
        let args = all.next().ok().unwrap();
        all.push(&[b"a"]).ok();
        let env = all.next().ok().unwrap();
        let frozen = all.freeze(
            Program { args, arg_count: 1, env, env_count: 0, pid_count: 0 },
            Extra::default(),
        );
        assert!(strings(frozen.envp()).is_empty());
    }
}
