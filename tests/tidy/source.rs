//! One source file, without its comments, strings and tests.

/// A file of the library.
pub(crate) struct Source {
    /// Below `src`, with `/`.
    pub(crate) path: String,
    pub(crate) lines: Vec<Line>,
}

/// One line of it.
pub(crate) struct Line {
    /// As it stands in the file.
    pub(crate) text: String,
    /// With blanks in place of comments and of what is in quotes.
    pub(crate) code: String,
    /// It belongs to an item that is compiled for tests alone.
    pub(crate) is_test: bool,
    /// How many inline modules it is in.
    pub(crate) modules: usize,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let tests = tests(&code);
        let modules = inline_modules(&code);
        let all_tests = path.ends_with("/tests.rs") || path.contains("/tests/");
        let mut lines = Vec::new();
        let mut at = 0;
        for (text, code) in text.lines().zip(code.lines()) {
            let end = at + code.len() + 1;
            let touches = |range: &&(usize, usize)| range.0 < end && at < range.1;
            lines.push(Line {
                text: text.into(),
                code: code.into(),
                is_test: all_tests || tests.iter().any(|range| touches(&range)),
                modules: modules.iter().filter(touches).count(),
            });
            at = end;
        }
        Self { path: path.into(), lines }
    }

    /// The room: the first part of the path.
    pub(crate) fn room(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// How many times `super` may be said in it without leaving the room.
    pub(crate) fn depth(&self) -> usize {
        let slashes = self.path.matches('/').count();
        if self.path.ends_with("/mod.rs") { slashes - 1 } else { slashes }
    }
}

/// Whether `code` has `word`, and not as a part of a longer one.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back().is_some_and(is_name);
        let after = code[at + word.len()..].chars().next().is_some_and(is_name);
        !(before && word.starts_with(is_name) || after && word.ends_with(is_name))
    })
}

/// The byte after the one that closes the brace at `open`.
pub(crate) fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Where the items under `#[cfg(test)]` begin and end.
fn tests(code: &str) -> Vec<(usize, usize)> {
    let attributes = code.match_indices("#[cfg(test)]").map(|(at, _)| at);
    attributes.map(|at| (at, end_of_item(code, at))).collect()
}

/// Where the bodies of modules written out in the file begin and end.
fn inline_modules(code: &str) -> Vec<(usize, usize)> {
    let found = code.match_indices("mod ").filter(|(at, _)| has_word(&code[..at + 4], "mod "));
    found
        .filter_map(|(at, _)| {
            let open = at + code[at..].find(['{', ';'])?;
            (code.as_bytes()[open] == b'{').then(|| (open, closing_brace(code, open)))
        })
        .collect()
}

fn end_of_item(code: &str, at: usize) -> usize {
    match code[at..].find(['{', ';']).map(|found| at + found) {
        Some(end) if code.as_bytes()[end] == b'{' => closing_brace(code, end),
        Some(end) => end + 1,
        None => code.len(),
    }
}

/// The text with blanks for comments and for what stands in quotes: as many
/// bytes, and the same lines. Quotes stay.
pub(crate) fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    while let Some(rest) = bytes.get(code.len()..).filter(|rest| !rest.is_empty()) {
        let previous = code.last().copied().unwrap_or(b' ');
        let hidden = hidden(rest, previous);
        if hidden == 0 {
            code.push(rest[0]);
        }
        for &byte in &rest[..hidden] {
            code.push(if byte == b'\n' { b'\n' } else { b' ' });
        }
    }
    String::from_utf8(code).unwrap()
}

/// How many bytes at the start are a comment, a string or a character.
fn hidden(rest: &[u8], previous: u8) -> usize {
    let in_name = previous.is_ascii_alphanumeric() || previous == b'_';
    match rest {
        [b'/', b'/', ..] => rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment(rest),
        [b'r', b'"' | b'#', ..] if !in_name || matches!(previous, b'b' | b'c') => raw_string(rest),
        [b'"', ..] => quoted(rest),
        [b'\'', b'\\', ..] => 2 + quoted(&rest[2..]).max(1),
        // A character, not a lifetime: something and then a quote.
        [b'\'', c, ..] => match utf8_length(*c) {
            length if rest.get(1 + length) == Some(&b'\'') => length + 2,
            _ => 0,
        },
        // Bytes of characters that are not ASCII occur in text alone.
        [byte, ..] if !byte.is_ascii() => 1,
        _ => 0,
    }
}

fn utf8_length(first: u8) -> usize {
    (first.leading_ones() as usize).max(1)
}

/// Up to the quote that is like the first byte; for an escaped character, up
/// to the next quote.
fn quoted(rest: &[u8]) -> usize {
    let quote = if rest[0] == b'"' { b'"' } else { b'\'' };
    let mut at = 1;
    while let Some(&byte) = rest.get(at) {
        at += if byte == b'\\' { 2 } else { 1 };
        if byte == quote {
            return at;
        }
    }
    rest.len()
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// `r"…"`, `r#"…"#`; 0 for a raw name such as `r#type`.
fn raw_string(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let body = 2 + hashes;
    let found = rest[body..].windows(end.len()).position(|window| window == end);
    found.map_or(rest.len(), |at| body + at + end.len())
}
