//! Draws the plots of a record from its CSV files, and nothing else:
//!
//! ```sh
//! cargo run --release --bin plot -- record/DATE
//! ```

mod draw;
mod rows;

use std::path::Path;
use std::process::ExitCode;

use crate::draw::{Chart, Line};
use crate::rows::{Row, read};

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1) else {
        eprintln!("cargo run --release --bin plot -- DIRECTORY, in which the CSV files are");
        return ExitCode::FAILURE;
    };
    match plots(Path::new(&dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Whose lines are drawn of the spawns: all would hide each other.
const SPAWNERS: [&str; 9] = [
    "floor",
    "forkplan, prepared",
    "forkplan, prepared, launcher",
    "forkplan, one-shot",
    "std",
    "tokio",
    "std + pre_exec",
    "command-fds",
    "subprocess",
];

fn plots(dir: &Path) -> Result<(), String> {
    let spawn = read(&dir.join("spawn.csv"))?;
    let pump = read(&dir.join("pump.csv"))?;
    let micros = |row: &Row| row.median / 1000.0;
    Chart {
        title: "A spawn with three pipes, against the parent's resident memory",
        x: "MiB resident",
        y: "microseconds until the spawn has returned",
        log_y: true,
        lines: lines(&spawn, "resident MiB", "spawn", &SPAWNERS, micros),
    }
    .draw(&dir.join("resident.svg"))?;
    Chart {
        title: "A spawn with three pipes, against the parent's open fds",
        x: "open fds (CLOEXEC)",
        y: "microseconds until the spawn has returned",
        log_y: true,
        lines: lines(&spawn, "open fds", "spawn", &SPAWNERS, micros),
    }
    .draw(&dir.join("fds.svg"))?;
    let waiters = [
        "epoll over pipes and pidfds",
        "forkplan, Pump (Epoll)",
        "forkplan, Pump (Poll)",
        "poll over pipes and pidfds",
        "poll over pipes",
    ];
    Chart {
        title: "CPU time of an event, against the children waited for (1,000 events a second)",
        x: "children",
        y: "microseconds of CPU per event",
        log_y: true,
        lines: lines(&pump, "children", "CPU per event", &waiters, micros),
    }
    .draw(&dir.join("events.svg"))?;
    Chart {
        title: "Short children from pipe to wait, against how many are on their way at once",
        x: "children in flight",
        y: "children per second",
        log_y: false,
        lines: throughput(&pump),
    }
    .draw(&dir.join("throughput.svg"))
}

/// A line for each of those that have points.
fn lines(
    rows: &[Row],
    axis: &str,
    figure: &str,
    contenders: &[&str],
    y: impl Fn(&Row) -> f64,
) -> Vec<Line> {
    let of = |name: &&str| {
        let rows = rows.iter().filter(|r| r.axis == axis && r.figure == figure);
        let mut points: Vec<(f64, f64)> =
            rows.filter(|r| r.contender == *name).map(|r| (r.x, y(r))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Line { name: name.to_string(), points }
    };
    contenders.iter().map(of).filter(|line| !line.points.is_empty()).collect()
}

/// The pump's lines, and a level line for each of those that have no such number.
fn throughput(rows: &[Row]) -> Vec<Line> {
    let short = || rows.iter().filter(|row| row.part == "short" && row.figure == "time");
    let per_second = |row: &Row| row.x / (row.median / 1e9);
    let curve = |name: &str| {
        let in_flight = |row: &Row| -> Option<f64> {
            let rest = row.contender.strip_prefix(name)?.strip_prefix(", ")?;
            rest.strip_suffix(" in flight")?.parse().ok()
        };
        let mut points: Vec<(f64, f64)> =
            short().filter_map(|row| Some((in_flight(row)?, per_second(row)))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Line { name: name.into(), points }
    };
    let pump = curve("forkplan, Pump");
    let (Some(&(first, _)), Some(&(last, _))) = (pump.points.first(), pump.points.last()) else {
        return Vec::new();
    };
    let level = |name: &&str| {
        let y = per_second(short().find(|row| row.contender == *name)?);
        Some(Line { name: name.to_string(), points: vec![(first, y), (last, y)] })
    };
    let others = [
        "std, 2 threads",
        "std, one after the other",
        "floor, one after the other",
        "floor, clone without VFORK, 8 in flight",
        "tokio, one after the other",
        "async-process, one after the other",
        "subprocess, one after the other",
    ];
    let curves = [curve("forkplan, Pump::start"), pump];
    curves.into_iter().chain(others.iter().filter_map(level)).collect()
}
