//! The decoders against a slow model, and at their edges. No processes here.

#[path = "support/frames_model.rs"]
mod frames_model;

use forkplan::{Frame, FrameError, Framing, LengthPrefixed, Lines, Prefix};
use frames_model::{
    Outcome, PREFIXES, check_lines, check_prefixed, decode, length_prefixed, lines,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes that make many lines, and `\r`s in all places.
fn text() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![3 => Just(b'a'), 1 => Just(b'\r'), 2 => Just(b'\n'), 1 => any::<u8>()], 0..60)
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    vec(0usize..6, 0..40)
}

/// Frames one after another, a cut at the end, and sometimes a byte that is
/// wrong.
fn prefixed() -> impl Strategy<Value = (Prefix, Vec<u8>)> {
    let frames = vec(vec(any::<u8>(), 0..12), 0..8);
    let wrong = proptest::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    let whole = (prop::sample::select(PREFIXES.to_vec()), frames, 0usize..12, wrong);
    whole.prop_map(|(prefix, frames, cut, wrong)| {
        let mut bytes = Vec::new();
        for frame in frames {
            prefix.append(&frame, &mut bytes).unwrap();
        }
        bytes.truncate(bytes.len().saturating_sub(cut));
        if let (Some((at, byte)), false) = (wrong, bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        (prefix, bytes)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lines_are_the_model_s_however_they_are_cut(
        bytes in text(), pieces in pieces(), limit in 0usize..12, crlf: bool,
    ) {
        check_lines(&bytes, &pieces, limit, crlf);
    }

    #[test]
    fn prefixed_frames_are_the_model_s_however_they_are_cut(
        (prefix, bytes) in prefixed(), pieces in pieces(), limit in 0usize..14,
    ) {
        check_prefixed(&bytes, &pieces, prefix, limit);
    }

    #[test]
    fn what_was_appended_comes_out_again(
        frames in vec(vec(any::<u8>(), 0..300), 0..8),
        prefix in prop::sample::select(PREFIXES.to_vec()),
        pieces in pieces(),
    ) {
        let mut bytes = Vec::new();
        let mut fit = Vec::new();
        for frame in frames {
            let before = bytes.len();
            match prefix.append(&frame, &mut bytes) {
                Ok(()) => fit.push((frame, true)),
                Err(_) => prop_assert!(prefix == Prefix::U8 && frame.len() > 255 && bytes.len() == before),
            }
        }
        let outcome = decode(&mut LengthPrefixed::new(prefix, 300), &bytes, &pieces);
        prop_assert_eq!(outcome, Outcome { frames: fit, error: None });
    }
}

/// Every way to cut a few bytes, by enumeration.
#[test]
fn every_split_of_a_short_input_gives_the_same_frames() {
    let text = b"ab\r\n\n\rc\nlong\nd";
    let mut frames = Vec::new();
    for frame in [&b"ab"[..], b"", b"cde"] {
        Prefix::U16Be.append(frame, &mut frames).unwrap();
    }
    frames.extend_from_slice(b"\0\x05cut");
    for cuts in 0u32..1 << (text.len() - 1) {
        let pieces = lengths(cuts, text.len());
        for limit in [3, 4] {
            check_lines(text, &pieces, limit, true);
            check_prefixed(&frames, &pieces, Prefix::U16Be, limit);
        }
    }
}

/// Pieces that end after each byte whose bit is set.
fn lengths(cuts: u32, of: usize) -> Vec<usize> {
    let mut lengths = vec![0];
    for byte in 0..of {
        *lengths.last_mut().unwrap() += 1;
        if cuts >> byte & 1 == 1 {
            lengths.push(0);
        }
    }
    lengths
}

#[test]
fn a_line_of_exactly_the_limit_is_a_line_and_one_more_is_an_error() {
    let at = Outcome { frames: vec![(b"1234".to_vec(), true)], error: None };
    let above = Outcome { frames: vec![], error: Some(FrameError::TooLong { limit: 4 }) };
    for pieces in [vec![], vec![1; 10], vec![4], vec![5]] {
        assert_eq!(decode(&mut Lines::new(4), b"1234\n", &pieces), at);
        assert_eq!(decode(&mut Lines::new(4), b"12345\n", &pieces), above);
        // The `\r` counts.
        assert_eq!(decode(&mut Lines::new(5).crlf(), b"1234\r\n", &pieces), at);
        assert_eq!(decode(&mut Lines::new(4).crlf(), b"1234\r\n", &pieces), above);
        // Before its end is there, and without one.
        assert_eq!(decode(&mut Lines::new(4), b"12345", &pieces), above);
    }
}

#[test]
fn a_limit_of_zero_lets_empty_frames_through_and_nothing_else() {
    let empty = |count| vec![(Vec::new(), true); count];
    let error = Some(FrameError::TooLong { limit: 0 });
    let outcome = decode(&mut Lines::new(0), b"\n\nx", &[]);
    assert_eq!(outcome, Outcome { frames: empty(2), error });
    let outcome = decode(&mut LengthPrefixed::new(Prefix::U8, 0), b"\0\0\0\x01", &[1; 4]);
    assert_eq!(outcome, Outcome { frames: empty(3), error });
}

#[test]
fn a_prefix_above_the_limit_is_an_error_before_its_frame_comes() {
    for prefix in PREFIXES {
        let mut bytes = Vec::new();
        prefix.append(b"fits", &mut bytes).unwrap();
        bytes.extend(vec![0xff; prefix.width()]);
        for limit in [4, 254] {
            let mut frames = LengthPrefixed::new(prefix, limit);
            let mut input = &bytes[..];
            assert_eq!(frames.next(&mut input), Ok(Some(Frame { bytes: b"fits", complete: true })));
            assert_eq!(frames.next(&mut input), Err(FrameError::TooLong { limit }), "{prefix:?}");
        }
    }
}

#[test]
fn every_prefix_reads_what_its_width_can_say() {
    for prefix in PREFIXES {
        // The highest bit alone, in the place where it is high.
        let width = prefix.width();
        let mut bytes = vec![0; width];
        let little = matches!(prefix, Prefix::U16Le | Prefix::U32Le | Prefix::U64Le);
        bytes[if little { width - 1 } else { 0 }] = 0x80;
        let length = 1u64 << (8 * width - 1);
        let mut above = LengthPrefixed::new(prefix, usize::try_from(length - 1).unwrap());
        assert!(above.next(&mut &bytes[..]).is_err(), "{prefix:?}");
        let mut at = LengthPrefixed::new(prefix, usize::try_from(length).unwrap());
        assert_eq!(at.next(&mut &bytes[..]), Ok(None), "{prefix:?}");
        assert_eq!(at.finish(), Some(Frame { bytes: b"", complete: false }));
    }
}

#[test]
fn nothing_at_all_is_no_frame() {
    for prefix in PREFIXES {
        assert_eq!(LengthPrefixed::new(prefix, 10).finish(), None);
    }
    assert_eq!(Lines::new(10).finish(), None);
    assert_eq!(Lines::new(10).next(&mut &[][..]), Ok(None));
}

#[test]
fn a_frame_that_was_cut_is_marked_with_what_came_of_it() {
    let cut = |bytes: &[u8], complete| (bytes.to_vec(), complete);
    let outcome = decode(&mut Lines::new(10).crlf(), b"one\r\ntwo\r", &[6]);
    assert_eq!(outcome.frames, [cut(b"one", true), cut(b"two\r", false)]);
    let outcome = decode(&mut LengthPrefixed::new(Prefix::U16Le, 10), b"\x01\0x\x03\0ab", &[]);
    assert_eq!(outcome.frames, [cut(b"x", true), cut(b"ab", false)]);
    let outcome = decode(&mut LengthPrefixed::new(Prefix::U16Le, 10), b"\x01\0x\x03", &[]);
    assert_eq!(outcome.frames, [cut(b"x", true), cut(b"", false)]);
}

/// The model would notice a decoder that is off by one, that keeps `\r`s, or that
/// reads the other end first.
#[test]
fn control_the_model_tells_wrong_decoders() {
    let text = b"1234\r\n";
    assert_ne!(decode(&mut Lines::new(4), text, &[]), lines(text, 5, false));
    assert_ne!(decode(&mut Lines::new(5), text, &[]), lines(text, 5, true));
    let bytes = b"\0\x01x";
    let outcome = decode(&mut LengthPrefixed::new(Prefix::U16Le, 300), bytes, &[]);
    assert_ne!(outcome, length_prefixed(bytes, Prefix::U16Be, 300));
}
