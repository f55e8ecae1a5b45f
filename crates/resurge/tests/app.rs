//! One app: names opened once, one status, one orderly end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use resurge::store::ErrorKind;
use resurge::store_sled::{How, IndexKind, SledOptions};
use resurge::{
    CheckpointKey, Ctx, Durability, Error, FlowResult, FlowsOptions, JournalOptions, KeyRing,
    Namespace, PlainMachine, Resurge, Sealer, SensitivePolicy, StepError, Timestamp, VirtualClock,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Sum(u64);

impl PlainMachine for Sum {
    type Event = u64;
    fn apply(&mut self, n: &u64) {
        self.0 += n;
    }
}

/// Snapshots only when told, so that tests see which ones were.
fn quiet() -> JournalOptions {
    JournalOptions { snapshot_interval: None, snapshot_events: None, ..JournalOptions::default() }
}

#[tokio::test]
async fn everything_comes_back_after_a_drop_without_shutdown() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let app = Resurge::open(dir.path().join("state")).await.unwrap();
        let (sum, report) = app.journal_with::<Sum>("sum", quiet()).await.unwrap();
        assert_eq!(sum.read(|s| s.0).await.unwrap(), round);
        assert_eq!(report.replayed, round, "no snapshot: all of it is replayed");
        sum.record(1).await.unwrap();
        let (wal, _) = app.wal::<u64>("log").await.unwrap();
        assert_eq!(wal.next_lsn().0, round + 1);
        wal.append(&round).await.unwrap();
        let snapshots = app.snapshots::<String>("notes").await.unwrap();
        let latest = snapshots.load_latest().await.unwrap().loaded;
        assert_eq!(latest.map(|l| l.state), (round > 0).then(|| format!("round {}", round - 1)));
        snapshots.take(format!("round {round}"), round).await.unwrap();
    }
}

#[tokio::test]
async fn shutdown_leaves_a_snapshot_and_a_trusted_store() {
    let dir = tempfile::tempdir().unwrap();
    let app = Resurge::open(dir.path().join("state")).await.unwrap();
    assert_eq!(app.open_report().unwrap().how, How::Fresh);
    let (sum, _) = app.journal_with::<Sum>("sum", quiet()).await.unwrap();
    sum.record_all([1, 2, 3]).await.unwrap();
    app.shutdown().await.unwrap();
    app.shutdown().await.unwrap();
    assert!(sum.record(4).await.is_err(), "the journal is closed");
    let late = app.journal::<Sum>("other").await;
    assert!(matches!(late, Err(Error::ShutDown)), "{late:?}");
    let key = Namespace::new("mine").unwrap().key("k").unwrap();
    assert_eq!(app.store().get(&key).await.unwrap_err().kind(), ErrorKind::Closed);
    drop((app, sum));

    let app = Resurge::open(dir.path().join("state")).await.unwrap();
    let (sum, report) = app.journal_with::<Sum>("sum", quiet()).await.unwrap();
    assert_eq!((report.replayed, report.snapshot_lsn.0), (0, 3));
    assert_eq!(sum.read(|s| s.0).await.unwrap(), 6);
}

#[tokio::test]
async fn a_name_is_open_once_and_free_again_when_opening_failed() {
    let app = Resurge::in_memory();
    let (_sum, _) = app.journal::<Sum>("a").await.unwrap();
    let again = app.journal::<Sum>("a").await;
    assert!(
        matches!(&again, Err(Error::AlreadyOpen { kind: "journal", name }) if name == "a"),
        "{again:?}"
    );
    // Another kind under the same name is another thing.
    app.wal::<u64>("a").await.unwrap();
    let bad = JournalOptions { snapshot_events: Some(0), ..JournalOptions::default() };
    for _ in 0..2 {
        let refused = app.journal_with::<Sum>("b", bad.clone()).await;
        assert!(matches!(refused, Err(Error::Journal(_))), "{refused:?}");
    }
    app.journal::<Sum>("b").await.unwrap();
}

#[tokio::test]
async fn a_log_and_a_journal_of_one_name_do_not_meet() {
    let app = Resurge::in_memory();
    let (wal, _) = app.wal::<u64>("same").await.unwrap();
    let (sum, _) = app.journal_with::<Sum>("same", quiet()).await.unwrap();
    wal.append(&7).await.unwrap();
    sum.record(1).await.unwrap();
    wal.append(&8).await.unwrap();
    assert_eq!(sum.read(|s| s.0).await.unwrap(), 1);
    assert_eq!(wal.durable_lsn().0, 2);
}

#[tokio::test]
async fn the_status_is_one_document() {
    let dir = tempfile::tempdir().unwrap();
    let options = SledOptions::new().index(IndexKind::Memory);
    let app = Resurge::builder().sled(options).open(dir.path().join("state")).await.unwrap();
    let (sum, _) = app.journal_with::<Sum>("sum", quiet()).await.unwrap();
    let _log = app.wal::<u64>("log").await.unwrap();
    sum.record_all([1, 2]).await.unwrap();
    sum.snapshot_now().await.unwrap();
    sum.record(3).await.unwrap();
    let status = serde_json::to_value(app.status()).unwrap();
    assert_eq!(status["shut_down"], false);
    assert_eq!(status["store"]["embedded"]["index"], "Memory");
    let parts = status["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 2);
    assert_eq!(parts[0]["kind"], "journal");
    assert_eq!((&parts[0]["durable_lsn"], &parts[0]["snapshot_lsn"]), (&3.into(), &2.into()));
    assert_eq!(parts[1]["name"], "log");
    app.shutdown().await.unwrap();
    assert_eq!(serde_json::to_value(app.status()).unwrap()["shut_down"], true);
}

#[tokio::test]
async fn the_builder_s_clock_and_store_are_used() {
    let clock = VirtualClock::starting_at(Timestamp::from_millis(42_000));
    let app = Resurge::builder().clock(clock.clone()).in_memory();
    assert_eq!(app.store().now(), Timestamp::from_millis(42_000));
    clock.advance(Duration::from_secs(1));
    assert_eq!(app.store().clock().now(), Timestamp::from_millis(43_000));

    let mine = resurge::store::MemoryStore::in_memory();
    let app = Resurge::builder().on(resurge::Store::new(mine));
    assert_eq!(app.status().store.backend, "memory");
    assert!(app.open_report().is_none());
    let batch = resurge::store::Batch::new();
    app.store().backend().commit(batch, Durability::Durable).await.unwrap();
}

#[tokio::test]
async fn only_the_embedded_store_is_backed_up() {
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("backup");
    assert!(Resurge::in_memory().backup(&dest).await.is_err());
    assert!(!dest.exists());
}

#[tokio::test]
async fn a_step_that_finished_is_not_run_again_in_the_next_life() {
    let dir = tempfile::tempdir().unwrap();
    let key = CheckpointKey::workflow("order-42", "reserve").build().unwrap();
    for life in 0..2 {
        let app = Resurge::open(dir.path().join("state")).await.unwrap();
        let checkpoints = app.checkpoints().await.unwrap();
        let options = resurge::CheckpointOptions::new();
        let again = app.checkpoints_with(options).await;
        assert!(matches!(&again, Err(Error::AlreadyOpen { kind: "checkpoints", .. })), "{again:?}");
        let reserve = || async { Ok::<_, std::io::Error>(format!("in life {life}")) };
        let place = checkpoints.run(&key, Duration::ZERO, reserve).await.unwrap();
        assert_eq!(place, "in life 0");
        let status = serde_json::to_value(app.status()).unwrap();
        assert_eq!(status["parts"][0]["kind"], "checkpoints");
        assert_eq!(status["parts"][0]["hits"], life);
        app.shutdown().await.unwrap();
        let late = checkpoints.run(&key, Duration::ZERO, reserve).await.unwrap_err();
        assert_eq!(late.checkpoint().unwrap().kind(), ErrorKind::Closed);
    }
}

#[test]
fn an_app_and_its_futures_can_move_between_threads() {
    fn assert_send<T: Send>(_: &T) {}
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Resurge>();
    assert_send_sync::<Error>();
    assert_send(&Resurge::open("never-opened"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let app = runtime.block_on(async { Resurge::in_memory() });
    assert_send(&app.journal::<Sum>("a"));
    assert_send(&app.wal::<u64>("a"));
    assert_send(&app.snapshots::<String>("a"));
    assert_send(&app.checkpoints());
    assert_send(&app.shutdown());
}

/// Whether any file of a directory holds the text in clear.
fn found(dir: &std::path::Path, text: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return found(&path, text);
        }
        std::fs::read(path).unwrap().windows(text.len()).any(|at| at == text.as_bytes())
    })
}

async fn log_in(ctx: Ctx, (): ()) -> FlowResult<usize> {
    ctx.set("password", "a canary that sings")?;
    ctx.step("log in", || async { Ok::<_, StepError>(()) }).await?;
    Ok(ctx.get::<String>("password")?.unwrap_or_default().len())
}

#[tokio::test]
async fn flows_are_sealed_with_the_apps_sealer_or_with_their_own() {
    let sealer = || {
        let ring = KeyRing::from_bytes(1, &[7, 1, 8, 2].repeat(8)).unwrap();
        Sealer::new(ring, SensitivePolicy::new().names(["password"]).unwrap())
    };
    let own = FlowsOptions { sealer: sealer(), ..FlowsOptions::default() };
    for (builder, sealed) in [
        (Resurge::builder(), false),
        (Resurge::builder().sealer(sealer()), true),
        (Resurge::builder().flows(own), true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let app = builder.open(dir.path().join("state")).await.unwrap();
        assert_eq!(app.sealer().policy().is_none(), !sealed);
        let flow = app.register("log-in", log_in).unwrap();
        app.start().await.unwrap();
        assert_eq!(flow.start("one", ()).await.unwrap().result().await.unwrap(), 19);
        app.shutdown().await.unwrap();
        assert_eq!(found(dir.path(), "a canary that sings"), !sealed);
    }
}

async fn priced(ctx: Ctx, item: String) -> FlowResult<u32> {
    let scope = resurge::flow::Scope::Global;
    ctx.step("price", || async { Ok::<_, StepError>(7) })
        .memoize(scope, Duration::ZERO)
        .keyed_by(&item)
        .await
}

#[tokio::test]
async fn memoised_steps_of_flows_are_among_the_checkpoints_of_the_app() {
    let app = Resurge::in_memory();
    let flow = app.register("priced", priced).unwrap();
    app.start().await.unwrap();
    for run in ["a", "b"] {
        assert_eq!(flow.start(run, "book".to_owned()).await.unwrap().result().await.unwrap(), 7);
    }
    let stats = app.checkpoints().await.unwrap().stats();
    assert_eq!((stats.stored, stats.hits), (1, 1));
    app.shutdown().await.unwrap();
}

#[cfg(feature = "session-token")]
#[tokio::test]
async fn sessions_are_in_the_status_and_closed_with_the_app() {
    use resurge::{KeyRing, Sealer, SensitivePolicy, SessionError};
    let ring = KeyRing::from_bytes(1, &[7, 1, 8, 2].repeat(8)).unwrap();
    let app = Resurge::builder().sealer(Sealer::new(ring, SensitivePolicy::new())).in_memory();
    let sessions = app.sessions("carts", |builder| builder).await.unwrap();
    let token = sessions.create("socket-7").await.unwrap();
    assert!(matches!(
        app.sessions("carts", |builder| builder).await,
        Err(Error::AlreadyOpen { kind: "sessions", .. })
    ));
    let status = serde_json::to_value(app.status()).unwrap();
    assert_eq!(status["parts"][0]["kind"], "sessions");
    assert_eq!(status["parts"][0]["stats"]["created"], 1);
    app.shutdown().await.unwrap();
    assert!(matches!(sessions.save(&token, &1).await, Err(SessionError::Closed)));

    // Without a key there are none.
    let keyless = Resurge::in_memory();
    let refused = keyless.sessions("carts", |builder| builder).await;
    assert!(matches!(refused, Err(Error::Session(SessionError::Config(_)))));
}
