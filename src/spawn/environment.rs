//! The child's environment.

extern crate std;

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::format;
use std::os::unix::ffi::OsStrExt;
use std::string::String;
use std::vec::Vec;

use crate::command::{Environment, PlanError, Value};

/// The variables, each key once.
#[derive(Debug)]
pub(super) struct Variables {
    /// Sorted by key.
    pub(super) texts: BTreeMap<OsString, OsString>,
    /// Those whose value is the child's pid.
    pub(super) pid_keys: Vec<OsString>,
}

impl Variables {
    /// The parent's now, with the changes asked for.
    pub(super) fn new(asked: &Environment) -> Result<Self, PlanError> {
        let (mut texts, mut pid_keys) = (BTreeMap::new(), Vec::new());
        if !asked.clear {
            // Of a key that is there twice the first counts: it is what `getenv`
            // finds, and who has checked a value has checked that one.
            for (key, value) in env::vars_os() {
                texts.entry(key).or_insert(value);
            }
        }
        for (key, value) in &asked.changes {
            checked_key(key)?;
            texts.remove(key);
            match value {
                Value::Text(value) => {
                    checked(value, || format!("value of environment variable {key:?}"))?;
                    texts.insert(key.clone(), value.clone());
                }
                Value::Pid => pid_keys.push(key.clone()),
                Value::Removed => {}
            }
        }
        Ok(Self { texts, pid_keys })
    }

    /// Where programs are looked for.
    pub(super) fn path(&self) -> Option<&[u8]> {
        self.texts.get(OsStr::new("PATH")).map(|path| path.as_bytes())
    }
}

fn checked_key(key: &OsStr) -> Result<(), PlanError> {
    let bytes = checked(key, || format!("name of environment variable {key:?}"))?;
    match bytes.is_empty() || bytes.contains(&b'=') {
        true => Err(PlanError::BadEnvKey { key: key.into() }),
        false => Ok(()),
    }
}

/// The string's bytes, if there is no NUL in them.
pub(super) fn checked(string: &OsStr, what: impl FnOnce() -> String) -> Result<&[u8], PlanError> {
    let bytes = string.as_bytes();
    if bytes.contains(&0) {
        return Err(PlanError::NulByte { what: what() });
    }
    Ok(bytes)
}
