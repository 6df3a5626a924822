//! Which CPUs there can be, and sets of them as the kernel takes them.

extern crate std;

use std::fs;
use std::vec;
use std::vec::Vec;

use crate::command::PlanError;
use crate::sys::process;

/// A bit for each CPU, in whole words as the kernel wants it.
///
/// The kernel passes over CPUs that it does not have; that would be a program
/// which runs elsewhere than it was told to.
pub(super) fn mask(cpus: &[usize]) -> Result<Vec<u8>, PlanError> {
    let Some(&highest) = cpus.iter().max() else {
        return Err(PlanError::OutOfRange { what: "the number of CPUs", value: 0 });
    };
    let possible = possible();
    if let Some(&cpu) = cpus.iter().find(|&&cpu| !possible.contains(cpu)) {
        return Err(PlanError::UnknownCpu { cpu });
    }
    let mut words = vec![0usize; highest / usize::BITS as usize + 1];
    for cpu in cpus {
        words[cpu / usize::BITS as usize] |= 1 << (cpu % usize::BITS as usize);
    }
    Ok(words.iter().flat_map(|word| word.to_ne_bytes()).collect())
}

/// First and last of each range, inclusive.
struct Ranges(Vec<(usize, usize)>);

impl Ranges {
    fn contains(&self, cpu: usize) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&cpu))
    }

    /// `0-3,8`, as the kernel writes it.
    fn parse(text: &str) -> Option<Self> {
        let range = |range: &str| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        text.trim().split(',').map(range).collect::<Option<_>>().map(Self)
    }
}

/// The CPUs that this machine has or may yet get. Without `/sys` as many as the
/// kernel's sets have room for.
fn possible() -> Ranges {
    let listed = fs::read_to_string("/sys/devices/system/cpu/possible").ok();
    listed.and_then(|text| Ranges::parse(&text)).unwrap_or_else(|| {
        let room = process::cpu_set_size().saturating_mul(8);
        Ranges(vec![(0, room.saturating_sub(1))])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_is_read_range_by_range() {
        let ranges = Ranges::parse("0-1,4,6-7\n").unwrap();
        let found: Vec<usize> = (0..9).filter(|&cpu| ranges.contains(cpu)).collect();
        assert_eq!(found, [0, 1, 4, 6, 7]);
        for text in ["", "\n", "0-", "-1", "a", "1,,2"] {
            assert!(Ranges::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn the_kernels_sets_have_room_for_what_it_lists() {
        let Ranges(possible) = possible();
        let highest = possible.into_iter().map(|(_, last)| last).max().unwrap();
        assert!(highest < process::cpu_set_size() * 8);
    }
}
