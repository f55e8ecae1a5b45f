//! What a user of flows could do, on the in-memory store and in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod basics;
mod cancel_blocked;
mod children;
mod damaged;
mod engine;
mod gates;
mod listing;
mod outside;
mod overtaken;
mod ownership;
mod replay;
mod resume;
mod retention;
mod signals;
mod steps;
mod storage;
mod support;
mod time_limit;
mod turns;
mod world;
