//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

const USAGE: &str = "\
cargo bench --bench pump -- [options]

--quick      an eighth of the bytes, fewer rounds; writes nothing without --out
--out DIR    where pump.csv goes (record/ and the date of today)
--rounds N   runs of each contender, in place of each part's own number
--part NAME  drain, pipes, collect, both, events, short or memory alone. May be
             repeated
--pin N      run on CPU N alone, parent and children
--seed N     seed of the order; without it a new one, which is printed";

pub struct Options {
    pub quick: bool,
    pub out: Option<PathBuf>,
    pub rounds: Option<usize>,
    pub parts: Vec<String>,
    pub pin: Option<usize>,
    pub seed: u64,
}

impl Options {
    /// What was asked, or a message for whoever asked wrongly.
    pub fn parse(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            quick: false,
            out: None,
            rounds: None,
            parts: Vec::new(),
            pin: None,
            seed: fastrand::u64(..),
        };
        let mut args = args;
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n\n{USAGE}"));
            match arg.as_str() {
                "--quick" => options.quick = true,
                "--out" => options.out = Some(value()?.into()),
                "--rounds" => options.rounds = Some(number(&value()?)?),
                "--part" => options.parts.push(value()?),
                "--pin" => options.pin = Some(number(&value()?)?),
                "--seed" => options.seed = number(&value()?)?,
                // Cargo's own.
                "--bench" => {}
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }

    /// How many rounds, where a part has its own opinion of that.
    pub fn rounds(&self, usual: usize, quick: usize) -> usize {
        self.rounds.unwrap_or(if self.quick { quick } else { usual }).max(1)
    }

    /// That many bytes, or an eighth.
    pub fn mib(&self, usual: u64) -> u64 {
        (usual << 20) / if self.quick { 8 } else { 1 }
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number\n\n{USAGE}"))
}
