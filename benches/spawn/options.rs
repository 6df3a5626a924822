//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

const USAGE: &str = "\
cargo bench --bench spawn -- [options]

--rounds N      children of each contender (1000)
--quick         100 rounds
--resident MIB  memory that the parent has touched (0)
--fds N         fds that the parent has open besides (0)
--threads N     threads that the parent has (1)
--pin N         run on CPU N alone, parent and children: least noise
--seed N        seed of the order; without it a new one, which is printed
--program PATH  what is spawned, in place of a tiny static program built now
--only NAME     the contender of that name, or all whose names have NAME in
                them, and no warming up: for tracing one. May be repeated";

pub struct Options {
    pub rounds: usize,
    pub resident_mib: usize,
    pub fds: usize,
    pub threads: usize,
    pub pin: Option<usize>,
    pub seed: u64,
    pub program: Option<PathBuf>,
    pub only: Vec<String>,
}

impl Options {
    /// What was asked, or a message for whoever asked wrongly.
    pub fn parse(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            rounds: 1000,
            resident_mib: 0,
            fds: 0,
            threads: 1,
            pin: None,
            seed: fastrand::u64(..),
            program: None,
            only: Vec::new(),
        };
        let mut args = args;
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n\n{USAGE}"));
            match arg.as_str() {
                "--rounds" => options.rounds = number(&value()?)?,
                "--quick" => options.rounds = 100,
                "--resident" => options.resident_mib = number(&value()?)?,
                "--fds" => options.fds = number(&value()?)?,
                "--threads" => options.threads = number(&value()?)?,
                "--pin" => options.pin = Some(number(&value()?)?),
                "--seed" => options.seed = number(&value()?)?,
                "--program" => options.program = Some(value()?.into()),
                "--only" => options.only.push(value()?),
                // Cargo's own.
                "--bench" => {}
                _ => return Err(USAGE.into()),
            }
        }
        options.rounds = options.rounds.max(1);
        Ok(options)
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number\n\n{USAGE}"))
}
