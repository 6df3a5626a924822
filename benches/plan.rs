//! What the fd solver costs: time, allocations, and where valgrind is present
//! instructions, which are the same on every run. See README.md.
//!
//! The map is built outside of what is measured: what a spawn repeats is the
//! solving.

use std::hint::black_box;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use fastrand::Rng;
use forkplan::plan::FdMap;
use forkplan_benches::count::{Counting, allocations};
use forkplan_benches::cpu;
use forkplan_benches::record::{Place, Record, directory};
use forkplan_benches::shapes::Shape;
use forkplan_benches::stats::Series;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const USAGE: &str = "\
cargo bench --bench plan -- [options]

--quick    few rounds; writes nothing without --out
--out DIR  where plan.csv goes (record/ and the date of today)
--pin N    run on CPU N alone
--seed N   seed of the order; without it a new one, which is printed";

const SIZES: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
/// Solutions of one measurement: long enough for the clock.
const REPEATS: u32 = 64;
/// Solutions that callgrind sees.
const TRACED: u64 = 16;

#[derive(Default)]
struct Options {
    quick: bool,
    out: Option<PathBuf>,
    pin: Option<usize>,
    seed: Option<u64>,
    /// Under callgrind: this one, and no measurement.
    traced: Option<(usize, usize)>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Self::default();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => options.quick = true,
                "--out" => options.out = Some(args.next()?.into()),
                "--pin" => options.pin = Some(args.next()?.parse().ok()?),
                "--seed" => options.seed = Some(args.next()?.parse().ok()?),
                "--traced" => {
                    options.traced = Some((args.next()?.parse().ok()?, args.next()?.parse().ok()?));
                }
                // Cargo's own.
                "--bench" => {}
                _ => return None,
            }
        }
        Some(options)
    }
}

fn main() -> ExitCode {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    if let Some((shape, size)) = options.traced {
        let mut solve = solver(Shape::ALL[shape], size);
        (0..TRACED).for_each(|_| _ = black_box(solve()));
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A map of that shape and size, ready to be solved again and again.
fn solver(shape: Shape, size: usize) -> Box<dyn FnMut() -> usize> {
    fn of<const N: usize>(shape: Shape) -> Box<dyn FnMut() -> usize> {
        let mut map = Box::new(FdMap::<N>::new());
        for (target, source) in (0..).zip(shape.sources(N as i32)) {
            map.map(target, source).expect("a number for each");
        }
        Box::new(move || solved(&mut map))
    }
    match size {
        1 => of::<1>(shape),
        2 => of::<2>(shape),
        4 => of::<4>(shape),
        8 => of::<8>(shape),
        16 => of::<16>(shape),
        32 => of::<32>(shape),
        64 => of::<64>(shape),
        128 => of::<128>(shape),
        _ => of::<256>(shape),
    }
}

/// What callgrind looks for by its name.
#[inline(never)]
fn solved<const N: usize>(map: &mut FdMap<N>) -> usize {
    black_box(map.solve().expect("a map that can be had").moves().len())
}

fn run(options: &Options) -> std::io::Result<()> {
    if let Some(cpu) = options.pin {
        cpu::pin(cpu)?;
    }
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut rng = Rng::with_seed(seed);
    let out = directory(options.out.clone(), options.quick);
    let mut record = Record::open(out.as_deref(), "plan", false)?;
    let rounds = if options.quick { 10 } else { 500 };
    println!("seed {seed}, {rounds} rounds; ratios are to 16 entries of the same shape, an entry");
    for (index, shape) in Shape::ALL.into_iter().enumerate() {
        println!(
            "\n{:22} {:>24} {:>20} {:>8} {:>14}",
            format!("{shape:?}"),
            "ns an entry, r [95 %]",
            "ns a map, 25-75 %",
            "allocs",
            "instructions"
        );
        let times = times(shape, rounds, &mut rng);
        // What the others are compared with. Of an entry, in hundredths.
        let sixteen = Series::of(times[4].0.clone());
        let base = per_entry(&times[4].0, SIZES[4]);
        for ((times, allocations), size) in times.iter().zip(SIZES) {
            let name = format!("{shape:?}");
            let place = |figure, unit| Place {
                part: "plan",
                axis: "entries",
                x: size as u64,
                contender: &name,
                figure,
                unit,
            };
            let ratio = per_entry(times, size);
            let ratio = record.series(place("an entry", "ns/100"), &ratio, &base, &mut rng);
            let map = Series::of(times.clone());
            record.series(place("a map", "ns"), &map, &sixteen, &mut rng);
            record.count(place("allocations", "count"), *allocations);
            let instructions = match options.quick && size != 16 {
                true => None,
                false => instructions(index, size),
            };
            if let Some(count) = instructions {
                record.count(place("instructions", "count"), count);
            }
            println!(
                "{size:>14} entries {:>24} {:>20} {allocations:>8} {:>14}",
                ratio,
                format!("{} ({}-{})", map.quantile(0.5), map.quantile(0.25), map.quantile(0.75)),
                instructions.map_or("-".into(), |count| count.to_string()),
            );
        }
    }
    Ok(())
}

/// For each size: nanoseconds of one solution in each round, and how often it
/// allocated. Sizes take turns, in an order drawn anew.
fn times(shape: Shape, rounds: usize, rng: &mut Rng) -> Vec<(Vec<u64>, u64)> {
    let mut solvers: Vec<_> = SIZES.iter().map(|&size| solver(shape, size)).collect();
    let mut times = vec![(Vec::with_capacity(rounds), 0); SIZES.len()];
    let mut order: Vec<usize> = (0..SIZES.len()).collect();
    for _ in 0..rounds {
        rng.shuffle(&mut order);
        for &i in &order {
            let solve = &mut solvers[i];
            // Into the caches.
            black_box(solve());
            let (allocated, start) = (allocations(), Instant::now());
            (0..REPEATS).for_each(|_| _ = black_box(solve()));
            let time = start.elapsed() / REPEATS;
            times[i].1 += allocations() - allocated;
            times[i].0.push(time.as_nanos() as u64);
        }
    }
    times
}

fn per_entry(times: &[u64], size: usize) -> Series {
    Series::of(times.iter().map(|time| time * 100 / size as u64).collect())
}

/// Of one solution; `None` without valgrind.
fn instructions(shape: usize, size: usize) -> Option<u64> {
    let file = std::env::temp_dir().join(format!("forkplan-callgrind-{}", std::process::id()));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*solved*"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe().ok()?)
        .args(["--traced", &shape.to_string(), &size.to_string()])
        .stdin(Stdio::null())
        .output();
    let _ = std::fs::remove_file(file);
    let said = String::from_utf8(output.ok()?.stderr).ok()?;
    let (_, rest) = said.split_once("Collected : ")?;
    let collected: u64 = rest.split_whitespace().next()?.parse().ok()?;
    Some(collected / TRACED)
}
