//! One owner of a store's runs: who started last. Everybody before is fenced.

use std::sync::OnceLock;

use bytes::Bytes;
use resurge_store::{Batch, ErrorKind, Guard, StoreError};
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::runs;
use crate::{FlowError, Result};

/// Who owns the runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    /// One more with every start.
    #[serde(rename = "e")]
    epoch: u64,
    /// Tells two starts of one epoch apart.
    #[serde(rename = "r")]
    random: u64,
}

/// What this engine wrote when it took the runs over.
#[derive(Debug, Default)]
pub(crate) struct Ownership(OnceLock<Bytes>);

impl Engine {
    /// Takes the store's runs over. Durable when it returns: no earlier owner commits anything more.
    pub(crate) async fn take_over(&self) -> Result<()> {
        if self.owner.0.get().is_some() {
            // A start that failed further on is tried again.
            return Ok(());
        }
        let key = &self.keys.owner;
        loop {
            let stored = self.store.get(key).await.map_err(FlowError::store(""))?;
            let before = stored.as_ref().map(|stored| runs::load::<Owner>(key, stored));
            let before = before.transpose().map_err(FlowError::store(""))?;
            let epoch = before.map_or(0, |owner| owner.epoch).saturating_add(1);
            let random = self.store.entropy().next_u64().map_err(FlowError::store(""))?;
            let ours = runs::store(key, &Owner { epoch, random }).map_err(FlowError::store(""))?;
            let mut batch = Batch::new();
            batch.guard(key.clone(), Guard::of(stored)).put(key.clone(), ours.clone());
            match self.commit(batch).await {
                Ok(()) => {
                    // Started once: see `Flows::start`.
                    drop(self.owner.0.set(ours));
                    return Ok(());
                }
                Err(e) if e.kind() == ErrorKind::Conflict => {}
                Err(e) => return Err(FlowError::store("")(e)),
            }
        }
    }

    /// Makes a batch conditional on this engine's still being the owner.
    pub(crate) fn guard_owner(&self, batch: &mut Batch) {
        if let Some(ours) = self.owner.0.get() {
            batch.guard(self.keys.owner.clone(), Guard::Exact(ours.clone()));
        }
    }

    /// Whether nobody else took over, as far as the store knows now.
    pub(crate) async fn check_owner(&self, run: &str) -> Result<()> {
        let Some(ours) = self.owner.0.get() else { return Ok(()) };
        let stored = self.store.get(&self.keys.owner).await.map_err(FlowError::store(run))?;
        if stored.as_ref() == Some(ours) {
            Ok(())
        } else {
            Err(FlowError::Superseded { run: run.to_owned() })
        }
    }

    /// A store's error about a run, told apart from having been superseded.
    pub(crate) fn store_failed(&self, run: &str, error: StoreError) -> FlowError {
        if error.kind() == ErrorKind::Conflict && error.key() == Some(&self.keys.owner) {
            return FlowError::Superseded { run: run.to_owned() };
        }
        FlowError::store(run)(error)
    }
}
