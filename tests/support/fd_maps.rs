//! Fd maps by the thousand: all of a size, or at random from a seed.

// Every user of this file takes a part of it.
#![allow(dead_code, reason = "each test uses a part of it")]

/// How many maps [`every_map`] hands out.
pub(crate) const fn count_of_maps(targets: u32, sources: u32) -> u32 {
    (sources + 1).pow(targets)
}

/// All partial functions from targets `0..targets` to sources `0..sources`,
/// each as pairs of target and source.
pub(crate) fn every_map(targets: u32, sources: u32) -> impl Iterator<Item = Vec<(i32, i32)>> {
    (0..count_of_maps(targets, sources)).map(move |code| decode(code, targets, sources))
}

/// A map as a number: its digit for each target is 0 for none, else 1 + source.
fn decode(code: u32, targets: u32, sources: u32) -> Vec<(i32, i32)> {
    let mut rest = code;
    let mut map = Vec::with_capacity(targets as usize);
    for target in 0..targets {
        let digit = rest % (sources + 1);
        rest /= sources + 1;
        if digit > 0 {
            map.push((target as i32, digit as i32 - 1));
        }
    }
    map
}

/// The number of a map among those of [`every_map`].
pub(crate) fn encode(map: &[(i32, i32)], sources: u32) -> usize {
    let digit = |&(target, source): &(i32, i32)| {
        (sources as usize + 1).pow(target as u32) * (source as usize + 1)
    };
    map.iter().map(digit).sum()
}

/// Steele, Lea and Flood's SplitMix64: the same numbers from the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % u64::from(bound)) as u32
    }
}
