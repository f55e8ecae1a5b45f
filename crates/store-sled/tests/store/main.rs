//! Tests of whole stores on the real file system.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod access;
mod background;
mod backup;
mod faults;
mod fixture;
mod full_disk;
mod images;
mod index_damage;
mod reopen;
mod salvage;
mod super_damage;
mod values;
mod verify;
