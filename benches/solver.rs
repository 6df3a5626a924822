//! How long the fd solver takes, for maps of several shapes and sizes.
//!
//! The map is built outside of the measurement: what a spawn repeats is the
//! solving. `item/s` in the output counts entries of the map.

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use forkplan::plan::FdMap;

/// Shows that nothing is allocated.
#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Which source each of the targets 0, 1, 2, ... has.
#[derive(Clone, Copy, Debug)]
enum Shape {
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

use Shape::*;

impl Shape {
    fn sources(self, entries: i32) -> Vec<i32> {
        let mut rng = fastrand::Rng::with_seed(0x0066_6f72_6b70_6c61);
        let mut shuffled = |mut numbers: Vec<i32>| {
            rng.shuffle(&mut numbers);
            numbers
        };
        match self {
            Identity => (0..entries).collect(),
            Shift => (1..=entries).collect(),
            Permutation => shuffled((0..entries).collect()),
            Swaps => (0..entries).map(|fd| if fd ^ 1 < entries { fd ^ 1 } else { fd }).collect(),
            Disjoint => shuffled((entries..2 * entries).collect()),
            OneSource => vec![entries; entries as usize],
        }
    }
}

#[divan::bench(
    args = [Identity, Shift, Permutation, Swaps, Disjoint, OneSource],
    consts = [1, 3, 16, 64, 256, 1024],
)]
fn solve<const N: usize>(bencher: Bencher<'_, '_>, shape: Shape) {
    let mut map = Box::new(FdMap::<N>::new());
    for (target, source) in (0..).zip(shape.sources(N as i32)) {
        map.map(target, source).unwrap();
    }
    bencher.counter(ItemsCount::new(N)).bench_local(move || {
        let plan = map.solve().unwrap();
        divan::black_box(plan.moves().len())
    });
}
