//! Steps whose results outlive their run.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod crash;
mod rules;
mod sharing;
mod support;
