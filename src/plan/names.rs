//! Names for the numbers that steps have, lent by who knows the platform.

use core::fmt;

/// What numbers are called, a table for each kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    /// Without `SIG`.
    pub(crate) signals: &'static [(&'static str, i32)],
    /// `RLIMIT_*`.
    pub(crate) limits: &'static [(&'static str, i32)],
    /// `CLONE_NEW*`.
    pub(crate) namespaces: &'static [(&'static str, u32)],
}

impl Names {
    /// For a step without its plan: everything is a number.
    pub(super) const NONE: Self = Self { signals: &[], limits: &[], namespaces: &[] };

    pub(super) fn signal(self, number: i32) -> impl fmt::Display {
        Name { before: "SIG", name: find(self.signals, number), number }
    }

    pub(super) fn limit(self, number: i32) -> impl fmt::Display {
        Name { before: "", name: find(self.limits, number), number }
    }

    /// The signals of a mask, of which bit *n* − 1 stands for signal *n*.
    pub(super) fn signals(self, mask: u64) -> impl fmt::Display {
        Signals { names: self, mask }
    }

    /// All of `bits`, joined by `|`.
    pub(crate) fn namespaces(self, bits: u32) -> impl fmt::Display {
        Namespaces { names: self, bits }
    }
}

fn find(table: &[(&'static str, i32)], number: i32) -> Option<&'static str> {
    table.iter().find(|(_, known)| *known == number).map(|(name, _)| *name)
}

/// A name if there is one, else the number.
struct Name {
    before: &'static str,
    name: Option<&'static str>,
    number: i32,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => write!(f, "{}{name}", self.before),
            None => self.number.fmt(f),
        }
    }
}

struct Signals {
    names: Names,
    mask: u64,
}

impl fmt::Display for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        f.write_str("[")?;
        for signal in (1..=64).filter(|signal| self.mask >> (signal - 1) & 1 == 1) {
            write!(f, "{comma}{}", self.names.signal(signal))?;
            comma = ", ";
        }
        f.write_str("]")
    }
}

struct Namespaces {
    names: Names,
    bits: u32,
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.bits;
        let mut bar = "";
        for &(name, bit) in self.names.namespaces {
            if left & bit == bit {
                write!(f, "{bar}{name}")?;
                bar = "|";
                left &= !bit;
            }
        }
        match left {
            0 if self.bits != 0 => Ok(()),
            0 => f.write_str("0"),
            _ => write!(f, "{bar}{left:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::Names;
    use std::string::ToString;

    const NAMES: Names = Names {
        signals: &[("PIPE", 13), ("USR1", 10)],
        limits: &[("RLIMIT_NOFILE", 7)],
        namespaces: &[("CLONE_NEWNS", 0x2_0000), ("CLONE_NEWNET", 0x4000_0000)],
    };

    #[test]
    fn what_has_a_name_is_shown_by_it_and_all_else_as_a_number() {
        let shown = [NAMES.signal(13).to_string(), NAMES.signal(40).to_string()];
        assert_eq!(shown, ["SIGPIPE", "40"]);
        let shown = [NAMES.limit(7).to_string(), NAMES.limit(-1).to_string()];
        assert_eq!(shown, ["RLIMIT_NOFILE", "-1"]);
        let mask = 1 << 12 | 1 << 9 | 1 << 63;
        assert_eq!(NAMES.signals(mask).to_string(), "[SIGUSR1, SIGPIPE, 64]");
        assert_eq!(Names::NONE.signals(mask).to_string(), "[10, 13, 64]");
        assert_eq!(NAMES.signals(0).to_string(), "[]");
        for (bits, shown) in [
            (0, "0"),
            (0x4000_0000, "CLONE_NEWNET"),
            (0x4002_0000, "CLONE_NEWNS|CLONE_NEWNET"),
            (0x4000_0080, "CLONE_NEWNET|0x80"),
            (0x80, "0x80"),
        ] {
            assert_eq!(NAMES.namespaces(bits).to_string(), shown);
        }
    }
}
