//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use crate::channels::Channels;

const USAGE: &str = "\
cargo bench --bench spawn -- [options]

--scenarios      all that README.md lists, one after the other, in place of one
--syscalls       counts what each makes, under strace, in place of measuring
--quick          few rounds, to see that it runs; writes nothing without --out
--out DIR        where spawn.csv goes (record/ and the date of today)
--pin N          run on CPU N alone, parent and children: least noise
--rounds N       children of each contender (1000)
--seed N         seed of the order; without it a new one, which is printed
--only NAME      the contender of that name, or all whose names have NAME in
                 them, and no warming up: for tracing one. May be repeated

One scenario:
--channels WHAT  none, pipes (3), eight (pipes) or permuted (8 files) (pipes)
--resident MIB   memory that the parent has touched (0)
--fds N          fds that the parent has open besides (0)
--inheritable    those without CLOEXEC
--threads N      threads that the parent has (1)
--env N          strings of the environment, in place of those that are there
--program PATH   what is spawned, in place of a tiny static program built now";

pub struct Options {
    pub scenarios: bool,
    pub syscalls: bool,
    pub quick: bool,
    pub out: Option<PathBuf>,
    /// The file has rows of other scenarios.
    pub goes_on: bool,
    /// What this scenario is in the file.
    pub axis: String,
    pub x: u64,
    pub rounds: usize,
    pub channels: Channels,
    pub resident_mib: usize,
    pub fds: usize,
    pub inheritable: bool,
    pub threads: usize,
    pub env: Option<usize>,
    pub pin: Option<usize>,
    pub seed: u64,
    pub program: Option<PathBuf>,
    pub only: Vec<String>,
    pub marks: bool,
}

impl Options {
    /// What was asked, or a message for whoever asked wrongly.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            scenarios: false,
            syscalls: false,
            quick: false,
            out: None,
            goes_on: false,
            axis: "one".into(),
            x: 0,
            rounds: 0,
            channels: Channels::Pipes,
            resident_mib: 0,
            fds: 0,
            inheritable: false,
            threads: 1,
            env: None,
            pin: None,
            seed: fastrand::u64(..),
            program: None,
            only: Vec::new(),
            marks: false,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n\n{USAGE}"));
            match arg.as_str() {
                "--scenarios" => options.scenarios = true,
                "--syscalls" => options.syscalls = true,
                "--quick" => options.quick = true,
                "--out" => options.out = Some(value()?.into()),
                "--rounds" => options.rounds = number(&value()?)?,
                "--channels" => options.channels = number(&value()?)?,
                "--resident" => options.resident_mib = number(&value()?)?,
                "--fds" => options.fds = number(&value()?)?,
                "--inheritable" => options.inheritable = true,
                "--threads" => options.threads = number(&value()?)?,
                "--env" => options.env = Some(number(&value()?)?),
                "--pin" => options.pin = Some(number(&value()?)?),
                "--seed" => options.seed = number(&value()?)?,
                "--program" => options.program = Some(value()?.into()),
                "--only" => options.only.push(value()?),
                // The driver's own.
                "--goes-on" => options.goes_on = true,
                "--axis" => options.axis = value()?,
                "--x" => options.x = number(&value()?)?,
                "--marks" => options.marks = true,
                // Cargo's own.
                "--bench" => {}
                _ => return Err(USAGE.into()),
            }
        }
        if options.rounds == 0 {
            options.rounds = if options.quick { 20 } else { 1000 };
        }
        Ok(options)
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not what is wanted there\n\n{USAGE}"))
}
