//! How long the fd solver takes, for maps of several shapes and sizes.
//!
//! The map is built outside of the measurement: what a spawn repeats is the
//! solving. `item/s` in the output counts entries of the map.

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use forkplan::plan::FdMap;
use forkplan_benches::shapes::Shape::{self, *};

/// Shows that nothing is allocated.
#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
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
