//! How a journal is opened.

use std::time::Duration;

use resurge_store::Codec;
use resurge_wal::Policy;

use crate::{JournalError, Result};

/// Options of [`Journaled::open`](crate::Journaled::open).
///
/// ```
/// use std::time::Duration;
/// use resurge_journal::JournalOptions;
/// let options = JournalOptions { snapshot_interval: None, ..JournalOptions::default() };
/// assert_eq!(JournalOptions::default().snapshot_interval, Some(Duration::from_secs(30)));
/// # let _ = options;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// How events and states are serialised; CBOR by default. A log must be read with the codec it was
    /// written with.
    pub codec: Codec,
    /// What to do about a damaged log; [`Policy::Strict`] by default: do not open. With
    /// [`Policy::Salvage`] the state goes on from the last event before the damage, what was behind it
    /// is lost, and the report says so.
    pub policy: Policy,
    /// A snapshot is taken so long after the last one, if anything happened; 30 s by default. `None`:
    /// not by time.
    pub snapshot_interval: Option<Duration>,
    /// A snapshot is taken after so many events, so that no replay is much longer; 100,000 by
    /// default. `None`: not by number.
    pub snapshot_events: Option<u64>,
    /// So many snapshots are kept, 1 or more; 5 by default. The log is kept back to the oldest one.
    pub retain: usize,
    /// Snapshots are stored in pieces of this size; 256 KiB by default, 1 byte to 8 MiB.
    pub chunk_bytes: usize,
    /// Callers wait while about this many bytes of events wait to become durable; 64 MiB by default.
    pub max_queued_bytes: usize,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            codec: Codec::Cbor,
            policy: Policy::Strict,
            snapshot_interval: Some(Duration::from_secs(30)),
            snapshot_events: Some(100_000),
            retain: 5,
            chunk_bytes: 256 << 10,
            max_queued_bytes: 64 << 20,
        }
    }
}

impl JournalOptions {
    pub(crate) fn check(&self) -> Result<()> {
        if self.snapshot_events == Some(0) || self.snapshot_interval == Some(Duration::ZERO) {
            let message = "snapshots after 0 events or 0 s; `None` switches them off";
            return Err(JournalError::Invalid(message.to_owned()));
        }
        Ok(())
    }
}
