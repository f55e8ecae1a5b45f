//! Opening: the newest whole snapshot, then what the log holds after it.

use std::sync::Arc;
use std::time::Duration;

use resurge_snapshot::{Latest, Loaded, SnapshotOptions, Snapshots};
use resurge_store::Store;
use resurge_wal::{Lsn, Policy, Wal, WalError, WalOptions, WalReport};

use crate::core::{Core, Live};
use crate::metrics::Metrics;
use crate::{JournalError, JournalOptions, RecoveryReport, Result, StateMachine};

/// Recovery that takes longer than this is worth a warning.
const SLOW: Duration = Duration::from_secs(3);
/// Other tasks of the thread run after so many events.
const YIELD_EVERY: u32 = 1024;

/// Before a journal's name, in those of its log and its snapshots: a log or snapshots that a user
/// opens under the same name are something else.
const PARTS: &str = "journal/";

pub(crate) async fn open<M: StateMachine>(
    store: &Store,
    name: &str,
    initial: impl FnOnce() -> M + Send,
    options: JournalOptions,
) -> Result<(Arc<Core<M>>, RecoveryReport)> {
    options.check()?;
    let clock = Arc::clone(store.clock());
    let started = clock.monotonic();
    let metrics = Metrics::new();
    let name: Arc<str> = name.into();

    // ORDER: the log first. It fences an earlier writer, so its snapshots are all there.
    let wal_options = WalOptions {
        codec: options.codec,
        policy: options.policy,
        max_queued_bytes: options.max_queued_bytes,
        ..WalOptions::default()
    };
    let parts = format!("{PARTS}{name}");
    let (wal, log) = Wal::<M::Event>::open(store, &parts, wal_options).await?;
    let snapshots = Snapshots::open(store, &parts, snapshot_options::<M>(&options)).await?;
    let Latest { loaded, skipped } = snapshots.load_latest().await?;
    for damaged in &skipped {
        tracing::warn!(journal = %name, id = %damaged.id, what = %damaged.what, "fell back");
    }
    metrics.fell_back.increment(skipped.len() as u64);

    let (machine, last_snapshot) = match loaded {
        Some(Loaded { info, state }) => (M::thaw(state), Some(info)),
        None => (initial(), None),
    };
    let snapshot_lsn = Lsn(last_snapshot.as_ref().map_or(0, |info| info.position));
    let mut live = Live::new(machine, snapshot_lsn.next(), 0);
    let lost = |what: String| JournalError::Unrecoverable {
        journal: Arc::clone(&name),
        what,
        damaged: skipped.clone(),
    };
    replay(&wal, &log, &mut live).await?.map_err(&lost)?;
    let replayed = live.since_snapshot;
    let cut = live.next < log.next_lsn;
    if cut && options.policy == Policy::Strict {
        let (next, end) = (live.next, log.next_lsn);
        return Err(lost(format!("event {next} is missing, the log goes on with {end}")));
    }
    // The numbers of what was cut are not given again.
    live.next = log.next_lsn;

    let duration = clock.monotonic().saturating_since(started);
    metrics.replayed.increment(replayed);
    metrics.recovery_seconds.record(duration);
    let report = RecoveryReport {
        snapshot: last_snapshot.as_ref().map(|info| info.id),
        snapshot_lsn,
        snapshot_bytes: last_snapshot.as_ref().map_or(0, |info| info.bytes),
        replayed,
        last_lsn: live.last(),
        fell_back: skipped,
        salvaged: log.salvaged,
        created: log.created && last_snapshot.is_none(),
        duration,
    };
    let fell_back = report.fell_back.len();
    tracing::info!(
        journal = %name, snapshot_lsn = snapshot_lsn.0, replayed, fell_back, ?duration,
        "recovery completed"
    );
    if duration > SLOW {
        tracing::warn!(journal = %name, ?duration, replayed, "recovery was slow; take snapshots more often");
    }
    let core = Core::new(name, wal, snapshots, clock, options, metrics, live, last_snapshot);
    if cut {
        // ORDER: before anything is logged behind the gap. From here on no recovery reads across it.
        core.snapshot().await?;
    }
    Ok((Arc::new(core), report))
}

fn snapshot_options<M: StateMachine>(options: &JournalOptions) -> SnapshotOptions<M::Frozen> {
    SnapshotOptions::new()
        .retain(options.retain)
        .chunk_bytes(options.chunk_bytes)
        .codec(options.codec)
        .schema_version(M::SCHEMA_VERSION)
        .migrate(M::migrate)
}

/// Applies what comes after the snapshot, one page in memory at a time. Says what is missing where
/// the log does not go on from there.
async fn replay<M: StateMachine>(
    wal: &Wal<M::Event>,
    log: &WalReport,
    live: &mut Live<M>,
) -> Result<Result<(), String>> {
    let from = live.next;
    if log.next_lsn < from {
        let last = live.last();
        return Ok(Err(format!(
            "its snapshot holds event {last}, its log ends before {}",
            log.next_lsn
        )));
    }
    let mut events = match wal.replay(from).await {
        Ok(events) => events,
        Err(WalError::Truncated { asked, first, .. }) => {
            return Ok(Err(format!("event {asked} is needed, the log begins with {first}")));
        }
        Err(e) => return Err(e.into()),
    };
    let mut applied: u32 = 0;
    while let Some((lsn, event)) = events.next().await? {
        if lsn != live.next {
            return Ok(Err(format!("event {} is missing, {lsn} follows", live.next)));
        }
        live.apply(std::slice::from_ref(&event));
        applied = applied.wrapping_add(1);
        if applied.is_multiple_of(YIELD_EVERY) {
            tokio::task::yield_now().await;
        }
    }
    Ok(Ok(()))
}
