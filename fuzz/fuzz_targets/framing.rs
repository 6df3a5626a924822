//! Any bytes, cut anywhere: the decoders must find the frames that the model
//! finds in all of them at once.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/frames_model.rs"]
mod frames_model;

use frames_model::{PREFIXES, check_lines, check_prefixed};

#[derive(Arbitrary, Debug)]
enum Format {
    Lines { crlf: bool },
    Prefixed { prefix: u8 },
}

/// Mostly near the frames' lengths, or nothing would ever be at the limit.
#[derive(Arbitrary, Debug)]
enum Limit {
    Low(u8),
    Any(usize),
}

#[derive(Arbitrary, Debug)]
struct Input {
    format: Format,
    limit: Limit,
    pieces: Vec<u8>,
    bytes: Vec<u8>,
}

fuzz_target!(|input: Input| {
    let pieces: Vec<usize> = input.pieces.iter().map(|&len| usize::from(len)).collect();
    let limit = match input.limit {
        Limit::Low(limit) => usize::from(limit % 32),
        Limit::Any(limit) => limit,
    };
    match input.format {
        Format::Lines { crlf } => check_lines(&input.bytes, &pieces, limit, crlf),
        Format::Prefixed { prefix } => {
            let prefix = PREFIXES[usize::from(prefix) % PREFIXES.len()];
            check_prefixed(&input.bytes, &pieces, prefix, limit);
        }
    }
});
