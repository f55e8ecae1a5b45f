//! What is measured; `docs/metrics.md` lists the names.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::error::SessionError;
use crate::policy::Eviction;

/// A counter that can also be asked.
#[derive(Debug)]
pub(crate) struct Count {
    value: AtomicU64,
    handles: Vec<Counter>,
}

impl Count {
    fn new(handle: Counter) -> Self {
        Self { value: AtomicU64::new(0), handles: vec![handle] }
    }

    fn or_alias(mut self, alias: Option<&str>, name: &str) -> Self {
        self.handles.extend(alias.map(|prefix| counter!(format!("{prefix}_recovery_{name}"))));
        self
    }

    pub(crate) fn add(&self, n: u64) {
        self.value.fetch_add(n, Ordering::Relaxed);
        self.handles.iter().for_each(|handle| handle.increment(n));
    }

    fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// Handles, registered once.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) created: Count,
    pub(crate) recovered: Count,
    pub(crate) rotated: Count,
    pub(crate) expired: Count,
    failed: Count,
    failed_alias: Option<String>,
    pub(crate) evicted: Count,
    pub(crate) replayed: Count,
    pub(crate) conflicts: Count,
    pub(crate) save_skipped: Count,
    pub(crate) key_active: Count,
    pub(crate) key_verify_only: Count,
    pub(crate) cleanup_removed: Count,
    pub(crate) cleanup_failed: Count,
    pub(crate) cleanup_seconds: Histogram,
    pub(crate) entries: Gauge,
    state_size: Vec<Histogram>,
}

/// What a manager has done since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct SessionStats {
    /// Tokens created.
    pub created: u64,
    /// Sessions recovered.
    pub recovered: u64,
    /// Recoveries refused because the time was over.
    pub expired: u64,
    /// Recoveries refused for another reason.
    pub failed: u64,
    /// Those of them that were replays.
    pub replayed: u64,
    /// Sessions evicted.
    pub evicted: u64,
    /// Saves refused because somebody else owned or saved the session.
    pub conflicts: u64,
    /// Saves that had nothing to write.
    pub save_skipped: u64,
    /// Tokens taken that a key made which is no longer the active one.
    pub old_key_used: u64,
    /// Sessions removed by cleanup.
    pub cleaned: u64,
    /// Sessions that cleanup could not read.
    pub cleanup_failed: u64,
}

impl Metrics {
    pub(crate) fn new(purpose: &str, eviction: Eviction, alias: Option<&str>) -> Self {
        let purpose = purpose.to_owned();
        let recovered = |rotated: &'static str| {
            Count::new(counter!(
                "resurge_session_tokens_recovered_total",
                "purpose" => purpose.clone(), "rotated" => rotated
            ))
            .or_alias(alias, "tokens_recovered_total")
        };
        let key = |state: &'static str| {
            Count::new(counter!("resurge_session_key_usage_total", "key_state" => state))
        };
        let created =
            counter!("resurge_session_tokens_created_total", "purpose" => purpose.clone());
        let mut state_size = vec![histogram!("resurge_session_state_size_bytes")];
        state_size
            .extend(alias.map(|prefix| histogram!(format!("{prefix}_recovery_state_size_bytes"))));
        Self {
            created: Count::new(created).or_alias(alias, "tokens_created_total"),
            recovered: recovered("false"),
            rotated: recovered("true"),
            expired: Count::new(counter!("resurge_session_tokens_expired_total"))
                .or_alias(alias, "tokens_expired_total"),
            failed: Count { value: AtomicU64::new(0), handles: Vec::new() },
            failed_alias: alias.map(|prefix| format!("{prefix}_recovery_tokens_failed_total")),
            evicted: Count::new(
                counter!("resurge_session_evicted_total", "policy" => eviction.label()),
            ),
            replayed: Count::new(counter!("resurge_session_replayed_total")),
            conflicts: Count::new(counter!("resurge_session_conflicts_total")),
            save_skipped: Count::new(counter!("resurge_session_save_skipped_total")),
            key_active: key("active"),
            key_verify_only: key("verify_only"),
            cleanup_removed: Count::new(counter!("resurge_session_cleanup_removed_total")),
            cleanup_failed: Count::new(counter!("resurge_session_cleanup_failed_total")),
            cleanup_seconds: histogram!("resurge_session_cleanup_seconds"),
            entries: gauge!("resurge_session_entries"),
            state_size,
        }
    }

    /// A recovery that failed.
    pub(crate) fn failure(&self, error: &SessionError) {
        if matches!(error, SessionError::Expired { .. }) {
            self.expired.add(1);
            return;
        }
        if matches!(error, SessionError::Replayed) {
            self.replayed.add(1);
        }
        self.failed.add(1);
        counter!("resurge_session_tokens_failed_total", "reason" => error.class()).increment(1);
        if let Some(name) = &self.failed_alias {
            counter!(name.clone()).increment(1);
        }
    }

    pub(crate) fn state_size(&self, bytes: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a size in a histogram")]
        self.state_size.iter().for_each(|handle| handle.record(bytes as f64));
    }

    pub(crate) fn set_entries(&self, live: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        self.entries.set(live as f64);
    }

    pub(crate) fn stats(&self) -> SessionStats {
        SessionStats {
            created: self.created.get(),
            recovered: self.recovered.get() + self.rotated.get(),
            expired: self.expired.get(),
            failed: self.failed.get(),
            replayed: self.replayed.get(),
            evicted: self.evicted.get(),
            conflicts: self.conflicts.get(),
            save_skipped: self.save_skipped.get(),
            old_key_used: self.key_verify_only.get(),
            cleaned: self.cleanup_removed.get(),
            cleanup_failed: self.cleanup_failed.get(),
        }
    }
}
