//! Appending, reading back, opening again.
#![expect(clippy::unwrap_used, reason = "a test")]
use resurge_store::Store;
use resurge_wal::{Lsn, Wal, WalError, WalOptions};

async fn open(store: &Store) -> Wal<String> {
    Wal::open(store, "log", WalOptions::default()).await.unwrap().0
}

async fn all(wal: &Wal<String>) -> Vec<(u64, String)> {
    let mut replay = wal.replay(Lsn::START).await.unwrap();
    let mut found = Vec::new();
    while let Some((lsn, record)) = replay.next().await.unwrap() {
        found.push((lsn.0, record));
    }
    found
}

#[tokio::test]
async fn what_was_appended_is_read_back_in_order_and_after_a_reopen() {
    let store = Store::memory();
    let wal = open(&store).await;
    assert_eq!(wal.append(&"a".to_owned()).await.unwrap(), Lsn(1));
    let batch = ["b".to_owned(), "c".to_owned()];
    assert_eq!(wal.append_all(&batch).await.unwrap(), Lsn(2)..Lsn(4));
    let expected = [(1, "a".to_owned()), (2, "b".to_owned()), (3, "c".to_owned())];
    assert_eq!(all(&wal).await, expected);
    let wal = open(&store).await;
    assert_eq!((wal.first_lsn(), wal.next_lsn(), wal.durable_lsn()), (Lsn(1), Lsn(4), Lsn(3)));
    assert_eq!(all(&wal).await, expected);
    assert_eq!(wal.append(&"d".to_owned()).await.unwrap(), Lsn(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_appends_get_every_number_once() {
    let store = Store::memory();
    let wal = open(&store).await;
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let wal = wal.clone();
            tokio::spawn(async move {
                let mut lsns = Vec::new();
                for i in 0..50 {
                    lsns.push((
                        wal.append(&format!("{task}-{i}")).await.unwrap().0,
                        format!("{task}-{i}"),
                    ));
                }
                lsns
            })
        })
        .collect();
    let mut told = Vec::new();
    for task in tasks {
        told.extend(task.await.unwrap());
    }
    told.sort();
    assert_eq!(told.len(), 64 * 50);
    assert_eq!(all(&wal).await, told);
    let report = wal.verify().await.unwrap();
    assert!(report.is_intact());
    assert!(report.pages < 64 * 50 / 2, "{} pages: appends did not share any", report.pages);
}

#[tokio::test]
async fn a_dropped_append_is_written_all_the_same() {
    let store = Store::memory();
    let wal = open(&store).await;
    for i in 0..10 {
        drop(wal.append(&i.to_string()));
    }
    wal.close().await.unwrap();
    assert_eq!(all(&wal).await.len(), 10);
    let refused = wal.append(&"late".to_owned());
    assert!(refused.lsn().is_none());
    assert!(matches!(refused.await, Err(WalError::Closed { cause: None, .. })));
}
