//! Damaged snapshots and logs: the same state by a longer way, or a refusal that says what is missing.

use resurge_journal::{JournalError, JournalOptions, Lsn, Policy};
use resurge_store::{Batch, Durability, ErrorKind, Store};

use super::{chunks, damage, entries, ledger, open, open_as, options, pages, put, record, state};

/// Snapshots after 4, 8 and 12 of 15 events.
async fn three() -> Store {
    let store = Store::memory();
    let (journal, _) = open(&store).await;
    for end in [4, 8, 12] {
        record(&journal, end - 3..=end).await;
        journal.snapshot_now().await.unwrap();
    }
    record(&journal, 13..=15).await;
    store
}

#[tokio::test]
async fn any_chunk_of_the_newest_snapshot() {
    let store = three().await;
    let mut damaged = 0;
    for chunk in &chunks(&store).await[&3] {
        damage(&store, chunk).await;
        let (journal, report) = open(&store).await;
        assert_eq!(state(&journal).await, ledger(1..=15));
        assert_eq!((report.snapshot_lsn, report.replayed), (Lsn(8), 7));
        assert_eq!(report.fell_back.len(), 1);
        assert_eq!(report.fell_back[0].id.0, 3);
        assert!(report.fell_back[0].what.contains("checksum"), "{}", report.fell_back[0].what);
        put(&store, chunk, chunk.value.to_vec()).await;
        damaged += 1;
    }
    assert!(damaged > 1);
    let (_, report) = open(&store).await;
    assert_eq!((report.snapshot_lsn, report.fell_back.len()), (Lsn(12), 0));
}

#[tokio::test]
async fn two_of_three_snapshots_and_then_all() {
    let store = three().await;
    let chunks = chunks(&store).await;
    damage(&store, &chunks[&3][0]).await;
    damage(&store, chunks[&2].last().unwrap()).await;
    let (journal, report) = open(&store).await;
    assert_eq!(state(&journal).await, ledger(1..=15));
    assert_eq!((report.snapshot_lsn, report.replayed), (Lsn(4), 11));
    let ids: Vec<_> = report.fell_back.iter().map(|damaged| damaged.id.0).collect();
    assert_eq!(ids, [3, 2]);
    drop(journal);

    damage(&store, &chunks[&1][0]).await;
    let error = open_as(&store, options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let text = error.to_string();
    assert!(text.contains("event 1 is needed, the log begins with 5"), "{text}");
    assert!(text.contains("snapshot 3 is damaged") && text.contains("snapshot 1"), "{text}");
}

/// One snapshot alone truncates nothing, so its damage costs nothing but time.
#[tokio::test]
async fn the_only_snapshot() {
    let store = Store::memory();
    let (journal, _) = open(&store).await;
    record(&journal, 1..=6).await;
    journal.snapshot_now().await.unwrap();
    assert_eq!(journal.stats().unwrap().first_lsn, Lsn(1));
    drop(journal);
    damage(&store, &chunks(&store).await[&1][0]).await;
    let (journal, report) = open(&store).await;
    assert_eq!((report.snapshot, report.replayed, report.fell_back.len()), (None, 6, 1));
    assert_eq!(state(&journal).await, ledger(1..=6));
}

/// Whatever the order of events, snapshots and damage: the log reaches back to the oldest snapshot
/// that is kept and whole, and no further than it must.
#[tokio::test]
async fn the_log_is_kept_for_the_oldest_whole_snapshot() {
    for retain in [1, 2, 4] {
        let store = Store::memory();
        let (journal, _) = open_as(&store, JournalOptions { retain, ..options() }).await.unwrap();
        for n in 1..=6_u64 {
            record(&journal, n * 3 - 2..=n * 3).await;
            journal.snapshot_now().await.unwrap();
            let first = journal.stats().unwrap().first_lsn.0;
            let oldest = (n + 1).saturating_sub(retain as u64).max(1) * 3;
            let expected = if n == 1 && retain > 1 { 1 } else { oldest + 1 };
            assert_eq!(first, expected, "retain {retain}, snapshot {n}");
        }
    }
    // A damaged one is not counted, so an older one, and its log, stay.
    let store = three().await;
    damage(&store, &chunks(&store).await[&3][0]).await;
    let (journal, _) = open(&store).await;
    journal.snapshot_now().await.unwrap();
    assert_eq!(journal.stats().unwrap().first_lsn, Lsn(5), "snapshots 4, 2 and 1 are whole");
    assert_eq!(chunks(&store).await.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
}

/// A snapshot that does not read back truncates nothing.
#[tokio::test]
async fn a_log_that_ends_before_its_snapshot_is_refused() {
    let store = three().await;
    let mut batch = Batch::new();
    for page in pages(&store).await {
        batch.delete(page.key);
    }
    store.commit(batch, Durability::Durable).await.unwrap();
    let error = open_as(&store, options()).await.unwrap_err();
    assert!(matches!(error, JournalError::Unrecoverable { .. }), "{error}");
    assert!(error.to_string().contains("holds event 12, its log ends before 1"), "{error}");
}

#[tokio::test]
async fn a_damaged_log_is_refused_or_salvaged_with_a_snapshot_behind_the_gap() {
    let store = Store::memory();
    let (journal, _) = open(&store).await;
    record(&journal, 1..=3).await;
    journal.snapshot_now().await.unwrap();
    record(&journal, 4..=9).await;
    drop(journal);
    // One page for each record, and the log's head before them.
    let pages = pages(&store).await;
    let page =
        pages.iter().filter(|page| page.key.bytes().starts_with(b"journal/test")).nth(7).unwrap();
    damage(&store, page).await;

    let error = open_as(&store, options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let salvage = JournalOptions { policy: Policy::Salvage, ..options() };
    let (journal, report) = open_as(&store, salvage.clone()).await.unwrap();
    let kept = state(&journal).await;
    assert_eq!(kept, ledger(1..=kept.events.len() as u64), "exactly the events before the damage");
    assert!(kept.events.len() < 9 && kept.events.len() > 3, "{kept:?}");
    assert!(report.salvaged.is_some());
    assert_eq!(report.last_lsn, Lsn(9), "the numbers of what was cut are not given again");
    assert_eq!(journal.record(100).await.unwrap(), Lsn(10));
    drop(journal);

    let (journal, report) = open(&store).await;
    let mut expected = kept.events.clone();
    expected.push(100);
    assert_eq!(state(&journal).await, ledger(expected));
    assert_eq!((report.snapshot_lsn, report.replayed), (Lsn(9), 1));
    drop(journal);

    // Older snapshots lie behind the gap: using one would make up a state that never was.
    damage(&store, &chunks(&store).await[&2][0]).await;
    for options in [options(), salvage] {
        let error = open_as(&store, options).await.unwrap_err();
        assert!(matches!(error, JournalError::Unrecoverable { .. }), "{error}");
    }
}

#[tokio::test]
async fn the_chunk_size_is_the_options() {
    let mut counts = Vec::new();
    for chunk_bytes in [8, 64] {
        let store = Store::memory();
        let options = JournalOptions { chunk_bytes, ..options() };
        let (journal, _) = open_as(&store, options).await.unwrap();
        record(&journal, 1000..1050).await;
        journal.snapshot_now().await.unwrap();
        counts.push(chunks(&store).await[&1].len());
    }
    assert!(counts[0] > 4 * counts[1], "{counts:?}");
    assert!(entries(&Store::memory()).await.is_empty());
}
