//! The overlay and the drainer, against a naive model and an index that does what a test tells it.
#![expect(clippy::expect_used, clippy::panic, reason = "a test")]

mod concurrent;
mod draining;
mod model;
mod pages;
mod room;
mod scripted;
