//! What is sensitive is in no file in clear, and a missing key costs nothing but time.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod canary;
mod keys;
mod rotation;
mod support;
