//! All scenarios, each in a process of its own: a parent that had 8 GiB or 20,000
//! fds is not again what it was.

use std::io;
use std::process::Command;

use forkplan_benches::program::{Does, Program};
use forkplan_benches::record::{Record, directory};

use crate::load::raise_limit;
use crate::options::Options;

struct Scenario {
    axis: &'static str,
    x: u64,
    args: Vec<String>,
    rounds: usize,
}

fn scenario(axis: &'static str, x: u64, rounds: usize, args: &[&str]) -> Scenario {
    Scenario { axis, x, rounds, args: args.iter().map(|arg| arg.to_string()).collect() }
}

/// What README.md says of them. `limit` is how many fds may be open.
fn all(limit: usize) -> Vec<Scenario> {
    let mut all = vec![
        scenario("channels", 3, 1000, &["--channels", "pipes"]),
        scenario("channels", 0, 500, &["--channels", "none"]),
        scenario("channels", 8, 500, &["--channels", "eight"]),
        // Eight, permuted.
        scenario("permuted files", 8, 500, &["--channels", "permuted"]),
        scenario("bin-true", 3, 200, &["--program", "/bin/true"]),
    ];
    for strings in [0, 30, 100] {
        all.push(scenario("environment", strings, 500, &["--env", &strings.to_string()]));
    }
    // A fork of the largest takes a quarter of a second, and there are eight.
    for (mib, rounds) in [(10, 300), (100, 100), (1024, 30), (4096, 6), (8192, 5)] {
        all.push(scenario("resident MiB", mib, rounds, &["--resident", &mib.to_string()]));
    }
    for threads in [1, 16] {
        all.push(scenario("threads", threads, 300, &["--threads", &threads.to_string()]));
    }
    let most = limit.saturating_sub(100);
    let steps = [(10, 300), (100, 300), (1000, 300), (10_000, 150), (most, 100)];
    for (axis, more) in [("open fds", None), ("inheritable fds", Some("--inheritable"))] {
        for &(fds, rounds) in steps.iter().filter(|(fds, _)| *fds <= most) {
            let number = fds.to_string();
            let args: Vec<&str> = ["--fds", &number].into_iter().chain(more).collect();
            all.push(scenario(axis, fds as u64, rounds, &args));
        }
    }
    all
}

pub fn run(options: &Options) -> io::Result<()> {
    let program = match &options.program {
        Some(path) => Program::at(path),
        None => Program::build(Does::Nothing),
    };
    let out = directory(options.out.clone(), options.quick);
    // Begun anew; each scenario goes on with it.
    Record::open(out.as_deref(), "spawn", false)?;
    for scenario in all(raise_limit()?) {
        let Scenario { axis, x, args, rounds } = scenario;
        if axis == "resident MiB" && !fits(x, options.quick) {
            println!("\nSKIPPED: {x} MiB resident: there is not twice that memory, or --quick");
            continue;
        }
        let rounds = if options.quick { 2 } else { rounds };
        let mut command = Command::new(std::env::current_exe()?);
        // The last one said counts.
        command.arg("--program").arg(program.path()).args(&args).arg("--goes-on");
        command.args(["--axis", axis, "--x", &x.to_string(), "--rounds", &rounds.to_string()]);
        command.args(["--seed", &options.seed.to_string()]);
        if options.quick {
            command.arg("--quick");
        }
        if let Some(out) = &out {
            command.arg("--out").arg(out);
        }
        if let Some(cpu) = options.pin {
            command.args(["--pin", &cpu.to_string()]);
        }
        println!("\n=== {axis}: {x}");
        let status = command.status()?;
        if !status.success() {
            return Err(io::Error::other(format!("{axis} {x}: {status}")));
        }
    }
    Ok(())
}

/// A child of a fork has no memory of its own, but the kernel counts what it may
/// come to.
fn fits(mib: u64, quick: bool) -> bool {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = available.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
    kib.unwrap_or(0u64) / 1024 > 2 * mib && !(quick && mib > 100)
}
