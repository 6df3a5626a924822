//! What the benches share.

pub mod cpu;
pub mod floor;
pub mod program;
pub mod stats;
