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
mod options;
mod raw;
mod sample;
mod short;

use std::process::ExitCode;

use fastrand::Rng;
use forkplan_benches::cpu;

use crate::options::Options;

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
    let mut rng = Rng::with_seed(options.seed);
    println!(
        "seed {}, {}{}",
        options.seed,
        options.pin.map_or("not pinned".into(), |cpu| format!("CPU {cpu}")),
        if options.quick { ", quick" } else { "" },
    );
    type Part = fn(&Options, &mut Rng);
    let parts: [(&str, Part); 5] = [
        ("drain", drain::run),
        ("collect", collect::run),
        ("both", both::run),
        ("events", events::run),
        ("short", short::run),
    ];
    for (name, run) in parts {
        if options.parts.is_empty() || options.parts.iter().any(|part| part == name) {
            run(&options, &mut rng);
        }
    }
    ExitCode::SUCCESS
}
