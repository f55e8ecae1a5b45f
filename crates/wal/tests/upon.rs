//! A writer that decides upon its own earlier records: nothing is taken after one of them failed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use resurge_store::{ErrorKind, MemoryStore, Store};
use resurge_testkit::{Call, Fault, FaultStore};
use resurge_wal::{Lsn, Wal, WalError, WalOptions};

async fn open() -> (FaultStore, Wal<u64>) {
    let faults = FaultStore::new(MemoryStore::in_memory());
    let store = Store::new(faults.clone());
    let (wal, _) = Wal::open(&store, "log", WalOptions::default()).await.unwrap();
    (faults, wal)
}

#[tokio::test]
async fn an_expected_number_is_given_or_nothing_is_taken() {
    let (_, wal) = open().await;
    assert_eq!(wal.append_all_at(Lsn(1), &[7, 8]).await.unwrap(), Lsn(1)..Lsn(3));
    for wrong in [Lsn(2), Lsn(4)] {
        let error = wal.append_all_at(wrong, &[9]).await.unwrap_err();
        assert!(matches!(error, WalError::NotNext { next: Lsn(3), .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    assert_eq!(wal.append_all_at(Lsn(3), &[9]).await.unwrap(), Lsn(3)..Lsn(4));
}

#[tokio::test]
async fn what_follows_a_failed_record_is_not_taken_though_nobody_awaited_it() {
    let (faults, wal) = open().await;
    faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Full));
    drop(wal.append_all_at(Lsn(1), &[7]));
    let error = wal.wait_durable(Lsn(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let error = wal.append_all_at(Lsn(2), &[8]).await.unwrap_err();
    assert!(matches!(error, WalError::NotNext { next: Lsn(1), .. }), "{error}");
}

#[tokio::test]
async fn waiting_ends_with_the_record_durable() {
    let (faults, wal) = open().await;
    drop(wal.append_all(&[1, 2, 3]));
    wal.wait_durable(Lsn(3)).await.unwrap();
    assert_eq!(wal.durable_lsn(), Lsn(3));

    let mut stage = wal.stage().await.unwrap();
    stage.push(&4).unwrap();
    let batch = resurge_store::Batch::new();
    stage.commit(batch, resurge_store::Durability::Buffered).unwrap().await.unwrap();
    assert_eq!(wal.durable_lsn(), Lsn(3));
    wal.wait_durable(Lsn(4)).await.unwrap();
    assert_eq!(wal.durable_lsn(), Lsn(4), "buffered ones are synced");

    faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Indeterminate).poisoning());
    let append = wal.append_all(&[5]);
    assert_eq!(wal.wait_durable(Lsn(5)).await.unwrap_err().kind(), ErrorKind::Closed);
    append.await.unwrap_err();
}
