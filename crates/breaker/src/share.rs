//! References to a circuit, counted where threads do not meet.

use std::ops::Deref;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, OnceLock};

use crate::shared::Shared;
use crate::sync::{STRIPES, stripe};

/// What all clones of a handle have in common: the circuit, and for each stripe of threads a count of its
/// own, made when it is first needed. One count for all would be what they wait for. Not on the cache lines of
/// the count of handles, which moves with each clone of one.
#[repr(align(128))]
pub(crate) struct Root {
    pub(crate) shared: Arc<Shared>,
    shares: [OnceLock<Share>; STRIPES],
}

/// A reference to a circuit that may outlive the handle.
#[derive(Clone)]
pub(crate) struct Share(Arc<Counted>);

/// Alone on its cache lines.
#[repr(align(128))]
struct Counted(Arc<Shared>);

impl Root {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, shares: [const { OnceLock::new() }; STRIPES] }
    }

    #[inline]
    pub(crate) fn share(&self) -> Share {
        let make = || Share(Arc::new(Counted(Arc::clone(&self.shared))));
        self.shares.get(stripe()).map_or_else(make, |mine| mine.get_or_init(make).clone())
    }

    /// Whether nobody refers to the circuit but this one handle. What others did before they let go of it
    /// is seen then.
    pub(crate) fn is_alone(this: &Arc<Self>) -> bool {
        if Arc::strong_count(this) != 1 {
            return false;
        }
        // ORDER: the handles first. Who let go of one made its shares before that, and nobody makes new ones.
        fence(Ordering::Acquire);
        let shares: Vec<_> = this.shares.iter().filter_map(OnceLock::get).collect();
        let alone = shares.iter().all(|share| Arc::strong_count(&share.0) == 1)
            && Arc::strong_count(&this.shared) == 1 + shares.len();
        // ORDER: after the shares, so that what calls did before they let go of theirs is seen.
        fence(Ordering::Acquire);
        alone
    }
}

impl Share {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }
}

impl Deref for Share {
    type Target = Shared;

    #[inline]
    fn deref(&self) -> &Shared {
        &self.0.0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::Breaker;

    #[test]
    fn what_calls_read_is_not_on_the_cache_lines_of_the_count_of_handles() {
        let circuits: Vec<_> = (0..8).map(|_| Breaker::new("db")).collect();
        for circuit in circuits {
            assert_eq!(Arc::as_ptr(&circuit.root).addr() % 128, 0);
        }
    }
}
