//! A slow and obvious model of framing: it has all bytes at once and goes
//! through them one by one. The decoders are compared with it by proptest and by
//! the fuzzer.

// Every user of this file takes a part of it.
#![allow(dead_code)]

use forkplan::{Frame, FrameError, Framing, LengthPrefixed, Lines, Prefix};

pub(crate) const PREFIXES: [Prefix; 7] = [
    Prefix::U8,
    Prefix::U16Be,
    Prefix::U16Le,
    Prefix::U32Be,
    Prefix::U32Le,
    Prefix::U64Be,
    Prefix::U64Le,
];

/// A frame, owned, and whether it is complete.
pub(crate) type Owned = (Vec<u8>, bool);

/// All that comes of some bytes: frames, and the error that ended them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) frames: Vec<Owned>,
    pub(crate) error: Option<FrameError>,
}

pub(crate) fn lines(bytes: &[u8], limit: usize, crlf: bool) -> Outcome {
    let mut frames = Vec::new();
    let mut line = Vec::new();
    for &byte in bytes {
        if byte == b'\n' {
            if crlf && line.last() == Some(&b'\r') {
                line.pop();
            }
            frames.push((std::mem::take(&mut line), true));
            continue;
        }
        line.push(byte);
        if line.len() > limit {
            return Outcome { frames, error: Some(FrameError::TooLong { limit }) };
        }
    }
    if !line.is_empty() {
        frames.push((line, false));
    }
    Outcome { frames, error: None }
}

/// Big and little endian by the names of the variants, not by their methods.
pub(crate) fn length_prefixed(bytes: &[u8], prefix: Prefix, limit: usize) -> Outcome {
    let name = format!("{prefix:?}");
    let width = name.trim_matches(|c: char| !c.is_ascii_digit()).parse::<usize>().unwrap() / 8;
    let mut left = bytes.iter().copied();
    let mut frames = Vec::new();
    loop {
        let mut head: Vec<u8> = left.by_ref().take(width).collect();
        if head.len() < width {
            if !head.is_empty() {
                frames.push((Vec::new(), false));
            }
            return Outcome { frames, error: None };
        }
        if name.ends_with("Le") {
            head.reverse();
        }
        let length = head.iter().fold(0u128, |length, &byte| length * 256 + u128::from(byte));
        if length > limit as u128 {
            return Outcome { frames, error: Some(FrameError::TooLong { limit }) };
        }
        let body: Vec<u8> = left.by_ref().take(length as usize).collect();
        let complete = body.len() as u128 == length;
        frames.push((body, complete));
        if !complete {
            return Outcome { frames, error: None };
        }
    }
}

/// What a decoder makes of the bytes, given to it in pieces of these lengths, and
/// the rest at once. Checks what every framing promises.
pub(crate) fn decode(decoder: &mut impl Framing, bytes: &[u8], pieces: &[usize]) -> Outcome {
    let mut frames = Vec::new();
    let mut rest = bytes;
    let mut pieces = pieces.iter();
    while !rest.is_empty() {
        let len = pieces.next().map_or(rest.len(), |&len| len.min(rest.len()));
        let (mut piece, next) = rest.split_at(len);
        rest = next;
        loop {
            let before = piece.len();
            match decoder.next(&mut piece) {
                Ok(Some(Frame { bytes, complete })) => {
                    assert!(complete, "only the last one may be cut short");
                    frames.push((bytes.to_vec(), complete));
                    assert!(piece.len() < before, "a frame is made of something");
                }
                Ok(None) => {
                    assert!(piece.is_empty(), "all was used");
                    break;
                }
                Err(error) => {
                    // And no way on from there.
                    assert_eq!(decoder.next(&mut &b"\n"[..]), Err(error));
                    assert_eq!(decoder.next(&mut &[][..]), Err(error));
                    assert_eq!(decoder.finish(), None);
                    return Outcome { frames, error: Some(error) };
                }
            }
        }
    }
    if let Some(Frame { bytes, complete }) = decoder.finish() {
        frames.push((bytes.to_vec(), complete));
    }
    Outcome { frames, error: None }
}

/// Compares one decoder with the model, twice: after its end it is as new.
pub(crate) fn check_lines(bytes: &[u8], pieces: &[usize], limit: usize, crlf: bool) {
    let mut decoder = Lines::new(limit);
    if crlf {
        decoder = decoder.crlf();
    }
    for _ in 0..2 {
        assert_eq!(decode(&mut decoder, bytes, pieces), lines(bytes, limit, crlf));
    }
}

pub(crate) fn check_prefixed(bytes: &[u8], pieces: &[usize], prefix: Prefix, limit: usize) {
    let mut decoder = LengthPrefixed::new(prefix, limit);
    for _ in 0..2 {
        let expected = length_prefixed(bytes, prefix, limit);
        assert_eq!(decode(&mut decoder, bytes, pieces), expected);
    }
}
