//! How much a proof does: a short form in the suite, the whole behind a variable.

// Every user of this file takes a part of it.
#![allow(dead_code, reason = "each test uses a part of it")]

/// The number in the variable `name`, or the short form's. Said on standard
/// error where it is not the short form's, since nothing else tells the two apart.
pub(crate) fn amount(name: &str, short: usize) -> usize {
    let Ok(text) = std::env::var(name) else { return short };
    let amount = text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}"));
    eprintln!("{name}={amount}");
    amount
}

/// The larger number where the compiler optimizes, for what is mere computing.
pub(crate) const fn optimized(release: usize, debug: usize) -> usize {
    if cfg!(debug_assertions) { debug } else { release }
}
