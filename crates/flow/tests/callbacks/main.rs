//! Callbacks around flows, processes and steps, first run and resumed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod chain;
mod rules;
#[path = "../flows/support.rs"]
#[allow(dead_code, reason = "each test binary uses its part of it")]
mod support;
