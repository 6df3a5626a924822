//! What the benches share.

pub mod count;
pub mod cpu;
pub mod floor;
pub mod program;
pub mod record;
pub mod shapes;
pub mod stats;
