//! How a log is opened.

use resurge_store::{Codec, MAX_VALUE_BYTES};

use crate::{Result, WalError};

/// Options of [`Wal::open`](crate::Wal::open).
///
/// ```
/// use resurge_wal::{Policy, WalOptions};
/// let options = WalOptions { policy: Policy::Salvage, ..WalOptions::default() };
/// assert_eq!(options.page_bytes, 64 << 10);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// How records become bytes; CBOR by default. A log must be read with the codec it was written with.
    pub codec: Codec,
    /// What to do about damage; [`Policy::Strict`] by default.
    pub policy: Policy,
    /// When the log is taken over from an earlier writer; [`Claim::AtOpen`] by default.
    pub claim: Claim,
    /// A page is closed at this many bytes (64 KiB by default, 256 bytes to 8 MiB); a larger record
    /// gets a larger page of its own. It bounds what a reader holds in memory.
    pub page_bytes: usize,
    /// Pages on their way to the store at once, 1 or more; 2 by default.
    pub max_in_flight: usize,
    /// Appends are refused with [`Backlog`](WalError::Backlog) while this many bytes wait to become
    /// durable; 64 MiB by default. One append is always taken when nothing waits.
    pub max_queued_bytes: usize,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            codec: Codec::Cbor,
            policy: Policy::Strict,
            claim: Claim::AtOpen,
            page_bytes: 64 << 10,
            max_in_flight: 2,
            max_queued_bytes: 64 << 20,
        }
    }
}

impl WalOptions {
    pub(crate) fn check(&self) -> Result<()> {
        if !(256..=MAX_VALUE_BYTES / 2).contains(&self.page_bytes) {
            let got = self.page_bytes;
            return Err(WalError::Invalid(format!(
                "page_bytes is {got}; 256 to {} are allowed",
                MAX_VALUE_BYTES / 2
            )));
        }
        if self.max_in_flight == 0 {
            return Err(WalError::Invalid("max_in_flight is 0; at least 1 is needed".to_owned()));
        }
        Ok(())
    }
}

/// What to do about damage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Report it and touch nothing. Open reads the head and the last page; damage before that is
    /// reported by whoever reads it.
    #[default]
    Strict,
    /// Open reads the whole log, keeps exactly the pages before the first damage, removes the rest,
    /// durably, and says so in the report. Take a copy first where what is behind the damage may
    /// matter: [`inspect::Inspector::dump`](crate::inspect::Inspector::dump).
    Salvage,
}

/// When the log is taken over from an earlier writer, who is fenced by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Claim {
    /// In a durable commit of its own, before open returns: from then on every earlier writer is fenced.
    #[default]
    AtOpen,
    /// With the first page: opening writes nothing. Of several who opened the same state, the first
    /// one to write wins, the others are fenced. For many small logs whose owner is decided elsewhere.
    AtFirstWrite,
}
