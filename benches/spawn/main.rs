//! How long a spawn with three pipes takes, as a ratio to the least that can be
//! done. See README.md for how to run it and how to read it.
//!
//! All contenders take part in each round, in an order drawn anew for it: a
//! machine that is slow for a while is slow for all of them.

mod contenders;
mod load;
mod options;
mod sample;

use std::process::ExitCode;

use fastrand::Rng;
use forkplan_benches::program::{Does, Program};
use forkplan_benches::stats::{Ratio, Series};

use crate::contenders::{Contender, LowFiles};
use crate::load::Load;
use crate::options::Options;
use crate::sample::{Counting, Sample};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Rounds that are not counted: first page faults, lazily bound symbols, what
/// is looked up once per process.
const WARM_UP: usize = 20;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    };
    let program = match &options.program {
        Some(path) => Program::at(path),
        None => Program::build(Does::Nothing),
    };
    // The load lies between, so that what the contenders open has high numbers.
    let files_and_load = LowFiles::open().and_then(|files| Ok((files, Load::new(&options)?)));
    let (low_files, _load) = match files_and_load {
        Ok(both) => both,
        Err(error) => {
            eprintln!("the load: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut contenders = contenders::all(&program, low_files);
    if !options.only.is_empty() {
        let whole = |part: &String| contenders.iter().any(|c| c.name == part);
        let (names, parts): (Vec<_>, Vec<_>) = options.only.iter().partition(|part| whole(part));
        let by_name = |c: &Contender| names.iter().any(|name| c.name == *name);
        let by_part = |c: &Contender| parts.iter().any(|part| c.name.contains(*part));
        contenders.retain(|c| by_name(c) || by_part(c));
    }
    if contenders.is_empty() {
        eprintln!("nobody of that name");
        return ExitCode::FAILURE;
    }
    let mut rng = Rng::with_seed(options.seed);
    if options.only.is_empty() {
        measure(&mut contenders, WARM_UP, &mut rng);
    }
    let samples = measure(&mut contenders, options.rounds, &mut rng);
    println!(
        "seed {}, {} rounds, {}; {} MiB resident, {} fds, {} threads; {}",
        options.seed,
        options.rounds,
        options.pin.map_or("not pinned".into(), |cpu| format!("CPU {cpu}")),
        options.resident_mib,
        options.fds,
        options.threads,
        program.path().display(),
    );
    print(&contenders, &samples, &mut rng);
    ExitCode::SUCCESS
}

/// Each contender's samples.
///
/// Each runs twice and the second time counts. A contender that forks leaves
/// the parent's memory write-protected, and whoever comes next pays for the
/// pages that it writes to: with one run each that was 5 % of a spawn.
fn measure(contenders: &mut [Contender], rounds: usize, rng: &mut Rng) -> Vec<Vec<Sample>> {
    let mut samples = vec![Vec::with_capacity(rounds); contenders.len()];
    let mut order: Vec<usize> = (0..contenders.len()).collect();
    for _ in 0..rounds {
        rng.shuffle(&mut order);
        for &i in &order {
            contenders[i].run();
            samples[i].push(contenders[i].run());
        }
    }
    samples
}

fn print(contenders: &[Contender], samples: &[Vec<Sample>], rng: &mut Rng) {
    let spawn: Vec<Series> =
        samples.iter().map(|all| Series::new(all.iter().map(|s| s.spawn))).collect();
    let full: Vec<Series> =
        samples.iter().map(|all| Series::new(all.iter().map(|s| s.full))).collect();
    println!(
        "\n{:30} {:>22} {:>22}  {:>18} {:>18} {:>6}",
        "ratio to the first line",
        "spawn r [95 %]",
        "full r [95 %]",
        "spawn us, 25-75 %",
        "full us, 25-75 %",
        "allocs",
    );
    for (i, contender) in contenders.iter().enumerate() {
        println!(
            "{:30} {:>22} {:>22}  {:>18} {:>18} {:>6}",
            contender.name,
            ratio(spawn[i].ratio_to(&spawn[0], rng)),
            ratio(full[i].ratio_to(&full[0], rng)),
            quartiles(&spawn[i]),
            quartiles(&full[i]),
            allocations(&samples[i]),
        );
    }
}

fn ratio(ratio: Ratio) -> String {
    format!("{:.3} [{:.2}-{:.2}]", ratio.ratio, ratio.low, ratio.high)
}

fn quartiles(series: &Series) -> String {
    let us = |part| series.quantile(part) as f64 / 1000.0;
    format!("{:.0} ({:.0}-{:.0})", us(0.5), us(0.25), us(0.75))
}

/// The median, so that a buffer that grew once is not counted.
fn allocations(samples: &[Sample]) -> u64 {
    let mut counts: Vec<u64> = samples.iter().map(|sample| sample.allocations).collect();
    counts.sort_unstable();
    counts[counts.len() / 2]
}
