//! One document about everything that runs.

use serde::Serialize;

use crate::app::Resurge;

/// What an app looks like now. Serialises to the status page.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// Whether [`shutdown`](Resurge::shutdown) was called.
    pub shut_down: bool,
    /// The store.
    pub store: StoreStatus,
    /// What was opened on it, in the order it was.
    pub parts: Vec<PartStatus>,
}

/// The store's part of a [`Status`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StoreStatus {
    /// The backend's name.
    pub backend: &'static str,
    /// How the embedded store was found at open, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened: Option<String>,
    /// The embedded store in detail.
    #[cfg(feature = "sled")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedded: Option<resurge_store_sled::SledStatus>,
}

/// One log or journal.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum PartStatus {
    /// A write-ahead log.
    Wal {
        /// Its name.
        name: String,
        /// The oldest record kept.
        first_lsn: u64,
        /// The newest durable record; 0 for none.
        durable_lsn: u64,
    },
    /// Snapshots.
    Snapshots {
        /// Their name.
        name: String,
    },
    /// Checkpoints, since they were opened.
    Checkpoints {
        /// Calls that got a result without running a step.
        hits: u64,
        /// Steps begun.
        started: u64,
        /// Results stored.
        stored: u64,
        /// Calls refused because a step is in doubt.
        refused: u64,
    },
    /// Sessions, since they were set up.
    #[cfg(feature = "session-token")]
    Sessions {
        /// Their name.
        name: String,
        /// What was done.
        stats: resurge_session_token::SessionStats,
    },
    /// Flows.
    #[cfg(feature = "flow")]
    Flows(resurge_flow::FlowsStatus),
    /// Breakers.
    #[cfg(feature = "breaker")]
    Breakers {
        /// Everything about each of them, by name.
        breakers: Vec<resurge_breaker::BreakerMetrics>,
    },
    /// The supervisor.
    #[cfg(feature = "supervisor")]
    Supervisor(resurge_supervisor::RecoveryStatus),
    /// A journal.
    Journal {
        /// Its name.
        name: String,
        /// The newest durable event; 0 for none.
        durable_lsn: u64,
        /// What its newest snapshot covers; 0 for none.
        snapshot_lsn: u64,
        /// How many events the last recovery replayed.
        replayed: u64,
        /// How long the last recovery took, in milliseconds.
        recovery_ms: u64,
        /// Snapshots that failed since it was opened.
        snapshot_failures: u64,
        /// Why it takes no more calls, if it does not.
        #[serde(skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
    },
}

impl Resurge {
    /// What runs, and how it is. Reads memory, and the sizes of a few files.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let app = resurge::Resurge::in_memory();
    /// let _audit = app.wal::<String>("audit").await?;
    /// let status = serde_json::to_value(app.status())?;
    /// assert_eq!(status["parts"][0]["name"], "audit");
    /// # Ok(()) }
    /// ```
    pub fn status(&self) -> Status {
        Status {
            shut_down: self.is_shut_down(),
            store: StoreStatus {
                backend: self.store().info().backend,
                #[cfg(feature = "sled")]
                opened: self.open_report().map(ToString::to_string),
                #[cfg(not(feature = "sled"))]
                opened: None,
                #[cfg(feature = "sled")]
                embedded: self.embedded().map(|embedded| embedded.store.status()),
            },
            parts: self.part_statuses(),
        }
    }
}
