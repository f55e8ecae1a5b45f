//! What the supervisor promises, from outside, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod attacks;
mod durable;
mod health;
mod knobs;
mod list;
mod matrix;
mod recovery;
mod restart;
mod watching;
mod world;
