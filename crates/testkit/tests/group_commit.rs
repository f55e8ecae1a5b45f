//! Group commit over a scripted engine: order of effects, poisoning, back-pressure, shutdown.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

#[path = "group_commit/engine.rs"]
mod engine;
#[path = "group_commit/grouping.rs"]
mod grouping;
#[path = "group_commit/ordering.rs"]
mod ordering;
#[path = "group_commit/poisoning.rs"]
mod poisoning;
#[path = "group_commit/pressure.rs"]
mod pressure;
#[path = "group_commit/shutdown.rs"]
mod shutdown;
