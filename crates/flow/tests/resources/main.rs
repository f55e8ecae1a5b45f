//! What is called of a resource, when, and with what.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lifecycle;
mod sealed;
#[path = "../flows/support.rs"]
#[allow(dead_code, reason = "each test binary uses its part of it")]
mod support;
