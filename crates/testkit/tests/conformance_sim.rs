//! The simulated store keeps the contract while nothing crashes; so does a fault store without faults.

use std::sync::Arc;

use resurge_store::{BoxFuture, Result, StateStore};
use resurge_testkit::conformance::Harness;
use resurge_testkit::{FaultStore, SimStore};

struct Kept(parking_lot::Mutex<SimStore>);

fn kept(seed: u64) -> Kept {
    Kept(parking_lot::Mutex::new(SimStore::new(seed)))
}

impl Harness for Kept {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn StateStore>>> {
        let store = self.0.lock().clone();
        Box::pin(async { Ok(Arc::new(store) as Arc<dyn StateStore>) })
    }

    fn reopen(&self) -> Option<BoxFuture<'_, Result<Arc<dyn StateStore>>>> {
        let mut kept = self.0.lock();
        *kept = kept.reopen();
        let store = kept.clone();
        Some(Box::pin(async { Ok(Arc::new(store) as Arc<dyn StateStore>) }))
    }
}

mod seed_1 {
    resurge_testkit::conformance!(super::kept(1));
}

mod seed_2 {
    resurge_testkit::conformance!(super::kept(2));
}

mod behind_a_fault_store {
    use super::{FaultStore, SimStore};
    resurge_testkit::conformance!(|| FaultStore::new(SimStore::new(3)));
}
