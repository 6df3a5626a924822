//! Signals by name and number.

use core::fmt;
use core::str::FromStr;

use crate::sys::numbers::equal;
use crate::sys::signals::NAMES;

/// A signal: by constant, by name with or without `SIG`, or by any number.
///
/// ```
/// use forkplan::Signal;
///
/// assert_eq!("TERM".parse(), Ok(Signal::TERM));
/// assert_eq!("SIGTERM".parse(), Ok(Signal::TERM));
/// assert_eq!(Signal::from(15).to_string(), "SIGTERM");
/// assert!("SIGNAL".parse::<Signal>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signal(i32);

/// No signal has this name on this platform.
///
/// ```
/// use forkplan::{Signal, UnknownSignal};
///
/// assert_eq!("SIGNOSUCH".parse::<Signal>(), Err(UnknownSignal));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownSignal;

macro_rules! constants {
    ($($name:ident)*) => {
        impl Signal {$(
            #[doc = concat!("`SIG", stringify!($name), "`")]
            pub const $name: Self = Self(number(stringify!($name)));
        )*}
    };
}

constants! {
    HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM CHLD
    CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO SYS
}

/// The number of a name that is known to be in the table.
const fn number(name: &str) -> i32 {
    let mut i = 0;
    loop {
        let (known, number) = NAMES[i];
        if equal(known.as_bytes(), name.as_bytes()) {
            return number;
        }
        i += 1;
    }
}

impl Signal {
    /// The number.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// The name without `SIG`. `None` for a number without one, such as a
    /// real-time signal's.
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(_, number)| *number == self.0).map(|(name, _)| *name)
    }
}

/// Any number; the kernel refuses those that are no signals where it is sent.
impl From<i32> for Signal {
    fn from(number: i32) -> Self {
        Self(number)
    }
}

impl FromStr for Signal {
    type Err = UnknownSignal;

    fn from_str(name: &str) -> Result<Self, UnknownSignal> {
        let name = name.strip_prefix("SIG").unwrap_or(name);
        let known = NAMES.iter().find(|(known, _)| *known == name);
        known.map(|(_, number)| Self(*number)).ok_or(UnknownSignal)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Display for UnknownSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no signal has this name")
    }
}

impl core::error::Error for UnknownSignal {}
