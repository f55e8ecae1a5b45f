//! Opening logs, snapshots, journals and checkpoints on the app's store.

#[cfg(any(feature = "wal", feature = "snapshot"))]
use serde::{Serialize, de::DeserializeOwned};

use crate::app::{Claim, Part, Resurge};
use crate::error::{Error, Result};
use crate::status::PartStatus;

impl Resurge {
    /// Opens the write-ahead log called `name`, or creates it.
    ///
    /// # Errors
    /// `AlreadyOpen` when this app has it open; otherwise as
    /// [`Wal::open`](resurge_wal::Wal::open).
    #[cfg(feature = "wal")]
    #[cfg_attr(docsrs, doc(cfg(feature = "wal")))]
    pub async fn wal<T>(&self, name: &str) -> Result<(resurge_wal::Wal<T>, resurge_wal::WalReport)>
    where
        T: Serialize + DeserializeOwned + 'static,
    {
        self.wal_with(name, resurge_wal::WalOptions::default()).await
    }

    /// The same with options of your own.
    ///
    /// # Errors
    /// As [`wal`](Self::wal).
    #[cfg(feature = "wal")]
    #[cfg_attr(docsrs, doc(cfg(feature = "wal")))]
    pub async fn wal_with<T>(
        &self,
        name: &str,
        options: resurge_wal::WalOptions,
    ) -> Result<(resurge_wal::Wal<T>, resurge_wal::WalReport)>
    where
        T: Serialize + DeserializeOwned + 'static,
    {
        let claim = self.claim("wal", name)?;
        let (wal, report) = resurge_wal::Wal::open(self.store(), name, options).await?;
        let (closing, status) = (wal.clone(), wal.clone());
        let part = Part {
            kind: "wal",
            name: name.to_owned(),
            order: 2,
            close: Box::new(move || Box::pin(async move { Ok(closing.close().await?) })),
            status: Box::new(move || PartStatus::Wal {
                name: status.name().to_owned(),
                first_lsn: status.first_lsn().0,
                durable_lsn: status.durable_lsn().0,
            }),
        };
        self.kept(claim, part).await?;
        Ok((wal, report))
    }

    /// Opens the snapshots called `name` with the default options.
    ///
    /// # Errors
    /// `AlreadyOpen` when this app has them open; otherwise as
    /// [`Snapshots::open`](resurge_snapshot::Snapshots::open).
    #[cfg(feature = "snapshot")]
    #[cfg_attr(docsrs, doc(cfg(feature = "snapshot")))]
    pub async fn snapshots<S>(&self, name: &str) -> Result<resurge_snapshot::Snapshots<S>>
    where
        S: Serialize + DeserializeOwned + Send + 'static,
    {
        self.snapshots_with(name, resurge_snapshot::SnapshotOptions::new()).await
    }

    /// The same with options of your own.
    ///
    /// # Errors
    /// As [`snapshots`](Self::snapshots).
    #[cfg(feature = "snapshot")]
    #[cfg_attr(docsrs, doc(cfg(feature = "snapshot")))]
    pub async fn snapshots_with<S>(
        &self,
        name: &str,
        options: resurge_snapshot::SnapshotOptions<S>,
    ) -> Result<resurge_snapshot::Snapshots<S>>
    where
        S: Serialize + DeserializeOwned + Send + 'static,
    {
        let claim = self.claim("snapshots", name)?;
        let snapshots = resurge_snapshot::Snapshots::open(self.store(), name, options).await?;
        let name = name.to_owned();
        let part = Part {
            kind: "snapshots",
            name: name.clone(),
            order: 2,
            close: Box::new(|| Box::pin(std::future::ready(Ok(())))),
            status: Box::new(move || PartStatus::Snapshots { name: name.clone() }),
        };
        self.kept(claim, part).await?;
        Ok(snapshots)
    }

    /// Opens the journal called `name`, or creates it, and recovers its state.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use resurge::{PlainMachine, Resurge};
    ///
    /// #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// struct Visits(u64);
    ///
    /// impl PlainMachine for Visits {
    ///     type Event = ();
    ///     fn apply(&mut self, _: &()) {
    ///         self.0 += 1;
    ///     }
    /// }
    ///
    /// let app = Resurge::in_memory();
    /// let (visits, report) = app.journal::<Visits>("visits").await?;
    /// assert!(report.created);
    /// visits.record(()).await?;
    /// assert_eq!(visits.read(|v| v.0).await?, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `AlreadyOpen` when this app has it open; otherwise as
    /// [`Journaled::open`](resurge_journal::Journaled::open).
    #[cfg(feature = "journal")]
    #[cfg_attr(docsrs, doc(cfg(feature = "journal")))]
    pub async fn journal<M>(
        &self,
        name: &str,
    ) -> Result<(resurge_journal::Journaled<M>, resurge_journal::RecoveryReport)>
    where
        M: resurge_journal::StateMachine + Default,
    {
        self.journal_with(name, resurge_journal::JournalOptions::default()).await
    }

    /// The same with options of your own.
    ///
    /// # Errors
    /// As [`journal`](Self::journal).
    #[cfg(feature = "journal")]
    #[cfg_attr(docsrs, doc(cfg(feature = "journal")))]
    pub async fn journal_with<M>(
        &self,
        name: &str,
        options: resurge_journal::JournalOptions,
    ) -> Result<(resurge_journal::Journaled<M>, resurge_journal::RecoveryReport)>
    where
        M: resurge_journal::StateMachine + Default,
    {
        let claim = self.claim("journal", name)?;
        let opened = resurge_journal::Journaled::<M>::open(self.store(), name, options).await?;
        let (journal, report) = opened;
        let (closing, shown) = (journal.clone(), journal.clone());
        let (replayed, took) = (report.replayed, report.duration);
        let part = Part {
            kind: "journal",
            name: name.to_owned(),
            order: 1,
            close: Box::new(move || Box::pin(async move { Ok(closing.close().await?) })),
            status: Box::new(move || {
                let (stats, failure) = match shown.stats() {
                    Ok(stats) => (Some(stats), None),
                    Err(closed) => (None, Some(closed.to_string())),
                };
                let snapshot = stats.as_ref().and_then(|s| s.last_snapshot.as_ref());
                PartStatus::Journal {
                    name: shown.name().to_owned(),
                    durable_lsn: stats.as_ref().map_or(0, |s| s.durable_lsn.0),
                    snapshot_lsn: snapshot.map_or(0, |s| s.position),
                    snapshot_failures: stats.as_ref().map_or(0, |s| s.snapshot_failures),
                    replayed,
                    recovery_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                    failure,
                }
            }),
        };
        self.kept(claim, part).await?;
        Ok((journal, report))
    }

    /// The checkpoints of the store, which are opened with the default options by the first call.
    /// Memoised steps of flows are among them.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use resurge::{CheckpointKey, Resurge};
    /// let app = Resurge::in_memory();
    /// let checkpoints = app.checkpoints().await?;
    /// let key = CheckpointKey::workflow("order-42", "reserve").build()?;
    /// let reserve = || async { Ok::<_, std::io::Error>("shelf 7".to_owned()) };
    /// let place = checkpoints.run(&key, Duration::ZERO, reserve).await?;
    /// assert_eq!(place, "shelf 7");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Checkpoints::open`](resurge_checkpoint::Checkpoints::open).
    #[cfg(feature = "checkpoint")]
    #[cfg_attr(docsrs, doc(cfg(feature = "checkpoint")))]
    pub async fn checkpoints(&self) -> Result<resurge_checkpoint::Checkpoints> {
        let options = resurge_checkpoint::CheckpointOptions::new();
        let opened = &self.inner.checkpoints;
        Ok(opened.get_or_try_init(|| self.open_checkpoints(options)).await?.clone())
    }

    /// Opens the checkpoints with options of your own, before anything else uses them.
    ///
    /// # Errors
    /// `AlreadyOpen` when this app, or its flows, have them open; otherwise as
    /// [`checkpoints`](Self::checkpoints).
    #[cfg(feature = "checkpoint")]
    #[cfg_attr(docsrs, doc(cfg(feature = "checkpoint")))]
    pub async fn checkpoints_with(
        &self,
        options: resurge_checkpoint::CheckpointOptions,
    ) -> Result<resurge_checkpoint::Checkpoints> {
        let mut first = false;
        let opened = self.inner.checkpoints.get_or_try_init(|| {
            first = true;
            self.open_checkpoints(options)
        });
        let opened = opened.await?.clone();
        if first {
            return Ok(opened);
        }
        Err(Error::AlreadyOpen { kind: "checkpoints", name: "checkpoints".to_owned() })
    }

    #[cfg(feature = "checkpoint")]
    async fn open_checkpoints(
        &self,
        options: resurge_checkpoint::CheckpointOptions,
    ) -> Result<resurge_checkpoint::Checkpoints> {
        let claim = self.claim("checkpoints", "checkpoints")?;
        let opened = resurge_checkpoint::Checkpoints::open(self.store(), options).await?;
        let shown = opened.clone();
        let part = Part {
            kind: "checkpoints",
            name: "checkpoints".to_owned(),
            order: 2,
            close: Box::new(|| Box::pin(std::future::ready(Ok(())))),
            status: Box::new(move || {
                let stats = shown.stats();
                PartStatus::Checkpoints {
                    hits: stats.hits,
                    started: stats.started,
                    stored: stats.stored,
                    refused: stats.refused,
                }
            }),
        };
        self.kept(claim, part).await?;
        Ok(opened)
    }

    /// Registers what was opened, or ends it when the app was shut down meanwhile.
    async fn kept(&self, claim: Claim, part: Part) -> Result<()> {
        match claim.keep(part) {
            Ok(()) => Ok(()),
            Err(part) => {
                (part.close)().await?;
                Err(Error::ShutDown)
            }
        }
    }
}
