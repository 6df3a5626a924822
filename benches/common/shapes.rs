//! Maps of fds of several shapes.

/// Which source each of the targets 0, 1, 2, ... has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Its own: nothing moves.
    Identity,
    /// The next number: one chain, no cycle.
    Shift,
    /// The targets in random order: cycles, which need a copy put aside.
    Permutation,
    /// Pairs that change places: as many cycles as there can be.
    Swaps,
    /// A number above all targets, each its own, in random order: what pipes
    /// made for the spawn look like.
    Disjoint,
    /// One number above all targets.
    OneSource,
}

impl Shape {
    pub const ALL: [Self; 6] = [
        Self::Identity,
        Self::Shift,
        Self::Permutation,
        Self::Swaps,
        Self::Disjoint,
        Self::OneSource,
    ];

    /// The sources of so many targets.
    pub fn sources(self, entries: i32) -> Vec<i32> {
        let mut rng = fastrand::Rng::with_seed(0x0066_6f72_6b70_6c61);
        let mut shuffled = |mut numbers: Vec<i32>| {
            rng.shuffle(&mut numbers);
            numbers
        };
        match self {
            Self::Identity => (0..entries).collect(),
            Self::Shift => (1..=entries).collect(),
            Self::Permutation => shuffled((0..entries).collect()),
            Self::Swaps => {
                (0..entries).map(|fd| if fd ^ 1 < entries { fd ^ 1 } else { fd }).collect()
            }
            Self::Disjoint => shuffled((entries..2 * entries).collect()),
            Self::OneSource => vec![entries; entries as usize],
        }
    }
}
