//! References to a circuit, counted where threads do not meet.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use crate::shared::Shared;
use crate::sync::{STRIPES, stripe};

/// What all clones of a handle have in common: the circuit, and for each stripe of threads a count of its
/// own, made when it is first needed. One count for all would be what they wait for.
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

    /// Whether nobody refers to the circuit but this one handle.
    pub(crate) fn is_alone(this: &Arc<Self>) -> bool {
        let shares: Vec<_> = this.shares.iter().filter_map(OnceLock::get).collect();
        Arc::strong_count(this) == 1
            && shares.iter().all(|share| Arc::strong_count(&share.0) == 1)
            && Arc::strong_count(&this.shared) == 1 + shares.len()
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
