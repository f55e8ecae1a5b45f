//! Graphs and bounded fan-out, on the in-memory store and in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod failures;
mod fan_out;
mod shape;
#[path = "../flows/support.rs"]
#[allow(dead_code, reason = "each test binary uses its part of it")]
mod support;
