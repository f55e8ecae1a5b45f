//! What the supervisor promises, from outside, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod matrix;
mod recovery;
mod restart;
mod world;
