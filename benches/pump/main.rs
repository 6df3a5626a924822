//! What moving bytes and waiting for children costs, as a ratio to the least
//! that can be done. See README.md for how to run it and how to read it.
//!
//! All contenders of a part take part in each round, in an order drawn anew for
//! it: a machine that is slow for a while is slow for all of them.

mod actor;
mod both;
mod collect;
mod drain;
mod events;
mod memory;
mod options;
mod raw;
mod sample;
mod short;
mod start;

use std::process::ExitCode;

use fastrand::Rng;
use forkplan_benches::cpu;
use forkplan_benches::record::{Record, directory};

use crate::options::Options;
use crate::sample::Bench;

type Part = fn(&mut Bench);

fn main() -> ExitCode {
    if let Some(code) = actor::act() {
        return code;
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(Err(error)) = options.pin.map(cpu::pin) {
        eprintln!("pinning: {error}");
        return ExitCode::FAILURE;
    }
    println!(
        "seed {}, {}{}",
        options.seed,
        options.pin.map_or("not pinned".into(), |cpu| format!("CPU {cpu}")),
        if options.quick { ", quick" } else { "" },
    );
    let directory = directory(options.out.clone(), options.quick);
    let record = match Record::open(directory.as_deref(), "pump", !options.parts.is_empty()) {
        Ok(record) => record,
        Err(error) => {
            eprintln!("the results: {error}");
            return ExitCode::FAILURE;
        }
    };
    let parts: [(&str, Part); 7] = [
        // First, before this process has grown for other reasons.
        ("memory", memory::run),
        ("drain", drain::run),
        ("pipes", drain::run_with_pipe_sizes),
        ("collect", collect::run),
        ("both", both::run),
        ("events", events::run),
        ("short", short::run),
    ];
    let mut bench = Bench { rng: Rng::with_seed(options.seed), options, record };
    for (name, run) in parts {
        let asked = &bench.options.parts;
        if asked.is_empty() || asked.iter().any(|part| part == name) {
            run(&mut bench);
        }
    }
    ExitCode::SUCCESS
}
