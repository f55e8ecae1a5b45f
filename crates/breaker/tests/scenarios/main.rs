//! What other breakers' tests and users pin down, as one table on the virtual clock. Each scenario's
//! id is in the name of its test.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod board;
mod calls;
mod defects;
mod ends;
mod half_open;
mod manual;
mod open;
mod slow;
mod stacks;
mod time;
