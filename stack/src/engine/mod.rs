//! The packet engine: pure, driven in batches.
pub mod io;
