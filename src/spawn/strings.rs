//! All strings of a child in one block, and the pointers that exec wants.

extern crate std;

use core::ffi::c_char;
use core::fmt;
use core::ptr;
use std::boxed::Box;
use std::vec::Vec;

use crate::plan::{Program, Text};

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

    /// Where the next string will be.
    pub(super) fn next(&self) -> Result<Text, TooLong> {
        u32::try_from(self.bytes.len()).map(Text).map_err(|_| TooLong)
    }

    /// No string can be added any more; those of `program` get their pointers.
    pub(super) fn freeze(self, program: Program) -> Frozen {
        Frozen::new(self.bytes, program)
    }
}

/// The strings, and `argv` and `envp` that point into them.
pub(super) struct Frozen {
    /// Not boxed: to move a box claims that nothing points into it.
    text: Vec<u8>,
    argv: Box<[*const c_char]>,
    envp: Box<[*const c_char]>,
    program: Program,
}

// SAFETY: the pointers point into `text`, which is on the heap, does not move
// with the value, is never written again, and is of no particular thread.
unsafe impl Send for Frozen {}
// SAFETY: as above; nothing in it changes.
unsafe impl Sync for Frozen {}

impl Frozen {
    fn new(text: Vec<u8>, program: Program) -> Self {
        let argv = pointers(&text, program.args, program.arg_count);
        let envp = pointers(&text, program.env, program.env_count);
        Self { text, argv, envp, program }
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

    pub(super) fn program(&self) -> Program {
        self.program
    }
}

/// The clone's pointers point into the clone's text.
impl Clone for Frozen {
    fn clone(&self) -> Self {
        Self::new(self.text.clone(), self.program)
    }
}

/// The environment is nobody's business in a log.
impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frozen").field("program", &self.program).finish_non_exhaustive()
    }
}

/// Pointers to `count` strings from `first` on, then NULL.
fn pointers(text: &[u8], first: Text, count: u32) -> Box<[*const c_char]> {
    let mut pointers = Vec::with_capacity(count as usize + 1);
    let mut rest = &text[first.0 as usize..];
    for _ in 0..count {
        pointers.push(rest.as_ptr().cast());
        let end = rest.iter().position(|&byte| byte == 0).map_or(rest.len(), |nul| nul + 1);
        rest = &rest[end..];
    }
    pointers.push(ptr::null());
    pointers.into()
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
        let frozen = all.freeze(Program { args, arg_count: 3, env, env_count: 1 });
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
        let frozen = all.freeze(Program { args, arg_count: 1, env, env_count: 0 });
        assert!(strings(frozen.envp()).is_empty());
    }
}
