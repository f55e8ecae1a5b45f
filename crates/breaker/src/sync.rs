//! The primitives of the hot path, in one place: the model checker puts its own here.

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub(crate) use parking_lot::Mutex;
