//! The transforms of the packet path, through their public interface: ESP against vectors of others and hostile input,
//! segmentation and coalescing as each other's inverse.
#![allow(clippy::unwrap_used, reason = "tests")]

mod ah;
mod common;
mod hostile;
mod numbers;
mod segments;
mod transport;
mod vectors;
