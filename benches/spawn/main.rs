//! How long a spawn takes, as a ratio to the least that can be done. See README.md
//! for how to run it and how to read it.
//!
//! All contenders take part in each round, in an order drawn anew for it: a
//! machine that is slow for a while is slow for all of them.

mod channels;
mod contenders;
mod load;
mod options;
mod peers;
mod sample;
mod scenarios;
mod syscalls;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fastrand::Rng;
use forkplan_benches::count::Counting;
use forkplan_benches::program::{Does, Program};
use forkplan_benches::record::{Place, Record, directory};
use forkplan_benches::stats::Series;

use crate::contenders::Contender;
use crate::load::{Early, Load};
use crate::options::Options;
use crate::sample::{MARKS, Sample};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let result = Options::parse(std::env::args().skip(1)).and_then(|options| {
        let run = match (options.scenarios, options.syscalls) {
            (true, _) => scenarios::run,
            (false, true) => syscalls::run,
            (false, false) => one,
        };
        run(&options).map_err(|error| format!("{error}"))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// One scenario.
fn one(options: &Options) -> std::io::Result<()> {
    // First, while low numbers are free.
    let early = Arc::new(Early::open()?);
    let program = match &options.program {
        Some(path) => Program::at(path),
        None => Program::build(Does::Nothing),
    };
    if let Some(strings) = options.env {
        load::set_environment(strings);
    }
    let _load = Load::new(options)?;
    let mut contenders = contenders::all(&program, options.channels, &early);
    choose(&mut contenders, &options.only)?;
    MARKS.store(options.marks, Ordering::Relaxed);
    let mut rng = Rng::with_seed(options.seed);
    if options.only.is_empty() {
        // First page faults, lazily bound symbols, what is looked up once.
        measure(&mut contenders, (options.rounds / 50).max(1), &mut rng);
    }
    let samples = measure(&mut contenders, options.rounds, &mut rng);
    println!(
        "\nseed {}, {} rounds, {}; {:?}; {} MiB resident, {} fds{}, {} threads, {}; {}",
        options.seed,
        options.rounds,
        options.pin.map_or("not pinned".into(), |cpu| format!("CPU {cpu}")),
        options.channels,
        options.resident_mib,
        options.fds,
        if options.inheritable { " (not CLOEXEC)" } else { "" },
        options.threads,
        options.env.map_or("its own environment".into(), |n| format!("{n} variables")),
        program.path().display(),
    );
    if !options.marks {
        report(options, &contenders, &samples, &mut rng)?;
    }
    Ok(())
}

fn choose(contenders: &mut Vec<Contender>, only: &[String]) -> std::io::Result<()> {
    if only.is_empty() {
        return Ok(());
    }
    let whole = |part: &&String| contenders.iter().any(|c| c.name == *part);
    let (names, parts): (Vec<&String>, Vec<&String>) = only.iter().partition(whole);
    let by_name = |c: &Contender| names.iter().any(|name| c.name == *name);
    let by_part = |c: &Contender| parts.iter().any(|part| c.name.contains(*part));
    contenders.retain(|c| by_name(c) || by_part(c));
    match contenders.is_empty() {
        true => Err(std::io::Error::other("nobody of that name")),
        false => Ok(()),
    }
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

fn report(
    options: &Options,
    contenders: &[Contender],
    samples: &[Vec<Sample>],
    rng: &mut Rng,
) -> std::io::Result<()> {
    let directory = directory(options.out.clone(), options.quick);
    let mut record = Record::open(directory.as_deref(), "spawn", options.goes_on)?;
    let series = |of: fn(&Sample) -> std::time::Duration| -> Vec<Series> {
        samples.iter().map(|all| Series::new(all.iter().map(of))).collect()
    };
    let (spawn, full) = (series(|s| s.spawn), series(|s| s.full));
    println!(
        "\n{:40} {:>22} {:>22}  {:>18} {:>18} {:>6}",
        "ratio to the first line",
        "spawn r [95 %]",
        "full r [95 %]",
        "spawn us, 25-75 %",
        "full us, 25-75 %",
        "allocs",
    );
    for (i, contender) in contenders.iter().enumerate() {
        let place = |figure, unit| Place {
            part: "spawn",
            axis: &options.axis,
            x: options.x,
            contender: contender.name,
            figure,
            unit,
        };
        let allocations = Series::of(samples[i].iter().map(|s| s.allocations).collect());
        // The median, so that a buffer that grew once is not counted.
        let allocations = allocations.quantile(0.5);
        record.count(place("allocations", "count"), allocations);
        println!(
            "{:40} {:>22} {:>22}  {:>18} {:>18} {:>6}",
            contender.name,
            record.series(place("spawn", "ns"), &spawn[i], &spawn[0], rng),
            record.series(place("full", "ns"), &full[i], &full[0], rng),
            quartiles(&spawn[i]),
            quartiles(&full[i]),
            allocations,
        );
    }
    Ok(())
}

fn quartiles(series: &Series) -> String {
    let us = |part| series.quantile(part) as f64 / 1000.0;
    format!("{:.0} ({:.0}-{:.0})", us(0.5), us(0.25), us(0.75))
}
