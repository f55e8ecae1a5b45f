//! Removing finished runs whose time is over, in bounded steps.

use std::sync::{Arc, Weak};

use resurge_store::{Batch, Guard, ScanOptions, Timestamp};

use crate::engine::Engine;
use crate::keys::{Keys, journal_name};
use crate::runs::{self, Done, End};
use crate::{FlowError, Flows, Result};

/// Finished runs looked at in one step.
const STEP: usize = 100;

pub(crate) async fn run(engine: Weak<Engine>) {
    loop {
        let Some(strong) = engine.upgrade() else { return };
        let (clock, every) = (Arc::clone(strong.store.clock()), strong.options.sweep_every);
        let closed = Arc::clone(&strong.closed);
        let closed = closed.notified();
        tokio::pin!(closed);
        closed.as_mut().enable();
        if strong.is_closing() {
            return;
        }
        // Who drops the flows without a shutdown need not wait for the next sweep.
        drop(strong);
        tokio::select! {
            () = clock.sleep(every) => {}
            () = closed => return,
        }
        let Some(strong) = engine.upgrade() else { return };
        if let Err(error) = strong.sweep().await {
            tracing::warn!(%error, "finished runs could not be swept; tried again later");
        }
    }
}

impl Flows {
    /// Removes what of finished runs is older than `keep_finished`, and returns how many runs that
    /// were. Done in the background, too, every `sweep_every`.
    ///
    /// # Errors
    /// [`Store`](FlowError::Store), [`Journal`](FlowError::Journal); what is left is swept next time.
    pub async fn sweep(&self) -> Result<u64> {
        self.engine().sweep().await
    }

    /// Removes a finished run at once, a failed one, too. Unfinished runs are refused.
    ///
    /// # Errors
    /// [`AlreadyRunning`](FlowError::AlreadyRunning) for an unfinished run,
    /// [`NotFound`](FlowError::NotFound), [`Store`](FlowError::Store).
    pub async fn delete(&self, run: &str) -> Result<()> {
        let done = self.engine().load_done(run).await?;
        let Some((done, guard)) = done.filter(|(done, _)| !matches!(done.end, End::Swept)) else {
            let run = run.to_owned();
            return Err(match self.engine().load_live(&run).await? {
                Some(_) => FlowError::AlreadyRunning { run },
                None => FlowError::NotFound { run },
            });
        };
        self.engine().remove(run, done, guard).await
    }
}

impl Engine {
    pub(crate) async fn sweep(&self) -> Result<u64> {
        let _alone = self.sweeping.lock().await;
        let keep = u64::try_from(self.options.keep_finished.as_millis()).unwrap_or(u64::MAX);
        let before = self.store.now().as_millis().saturating_sub(keep);
        let mut swept = 0;
        loop {
            let end = before.to_be_bytes();
            let range = self.keys.ended.range(..end.as_slice());
            let options = ScanOptions::new().max_entries(STEP).keys_only();
            let page = self.store.scan(range, options).await.map_err(FlowError::store(""))?;
            if page.entries.is_empty() {
                break;
            }
            for entry in page.entries {
                let Some((at, run)) = Keys::ended_of(&entry.key) else {
                    let mut batch = Batch::new();
                    batch.delete(entry.key);
                    self.commit(batch).await.map_err(FlowError::store(""))?;
                    continue;
                };
                let done = self.load_done(run).await?;
                if let Some((done, guard)) = done.filter(|(done, _)| done.ended == at) {
                    self.remove(run, done, guard).await?;
                    swept += 1;
                } else {
                    let mut batch = Batch::new();
                    batch.delete(entry.key.clone());
                    self.commit(batch).await.map_err(FlowError::store(run))?;
                }
            }
        }
        self.metrics.swept.increment(swept);
        Ok(swept)
    }

    /// Journal, inbox and ids of signals go first, the record last: an interrupted removal is found again.
    async fn remove(&self, run: &str, mut done: Done, mut guard: Guard) -> Result<()> {
        let key = self.keys.done(run)?;
        if matches!(done.end, End::Failed { .. }) {
            // ORDER: a failed run must not be resumed once its journal begins to go. The next sweep
            // finds it if this is interrupted.
            let mut batch = Batch::new();
            batch.guard(key.clone(), guard).delete(self.keys.ended(done.ended, run)?);
            done.end = End::Swept;
            done.ended = Timestamp::from_millis(0);
            let value = runs::store(&key, &done).map_err(FlowError::store(run))?;
            batch.put(self.keys.ended(done.ended, run)?, "").put(key.clone(), value.clone());
            self.commit(batch).await.map_err(FlowError::store(run))?;
            guard = Guard::Exact(value);
        }
        let inbox = self.keys.messages(run);
        self.store.remove_range(inbox).await.map_err(FlowError::store(run))?;
        let sent = self.keys.all_sent(run);
        self.store.remove_range(sent).await.map_err(FlowError::store(run))?;
        let removed = resurge_wal::remove(&self.store, &journal_name(run)).await;
        removed.map_err(FlowError::journal(run))?;
        let mut batch = Batch::new();
        batch.guard(key.clone(), guard);
        batch.delete(self.keys.ended(done.ended, run)?);
        if self.options.tombstones {
            let swept = Done { end: End::Swept, ..done };
            let value = runs::store(&key, &swept).map_err(FlowError::store(run))?;
            batch.put(key, value);
        } else {
            batch.delete(key);
        }
        self.commit(batch).await.map_err(FlowError::store(run))
    }
}
