//! A log whose stored values were tampered with: what strict opening finds, what salvage leaves.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use bytes::Bytes;
use resurge_store::{Entry, Key, Store};
use resurge_wal::inspect::Inspector;
use resurge_wal::{Damage, Lsn, Wal, WalError};

use super::{LOG, all, options, read, salvage};

/// Opens strictly and reads everything; returns what was read and the damage reported.
pub(crate) async fn strict(store: &Store) -> (Vec<(u64, String)>, Option<Damage>) {
    match Wal::<String>::open(store, LOG, options()).await {
        Err(WalError::Corrupt(damage)) => {
            // Open refuses for the head or the last page; a reader still gets what is before.
            let mut found = Vec::new();
            let inspector = Inspector::new(store, LOG).unwrap();
            if let Ok(mut dump) = inspector.dump(Lsn::START).await {
                while let Ok(Some(record)) = dump.next().await {
                    let codec = options().codec;
                    found.push((record.lsn.0, codec.decode(&record.payload).unwrap()));
                }
            }
            (found, Some(damage))
        }
        Err(e) => panic!("{e}"),
        Ok((wal, _)) => match read(&wal).await {
            (found, Ok(())) => (found, None),
            (found, Err(WalError::Corrupt(damage))) => (found, Some(damage)),
            (_, Err(e)) => panic!("{e}"),
        },
    }
}

/// Opens with salvage, checks that exactly `prefix` is left, and what the next record is numbered.
pub(crate) async fn cut(
    store: &Store,
    prefix: &[(u64, String)],
    next: u64,
    context: &str,
) -> (Wal<String>, Damage) {
    let (wal, report) = Wal::<String>::open(store, LOG, salvage()).await.unwrap();
    let cut = report.salvaged.unwrap_or_else(|| panic!("{context}: nothing salvaged"));
    assert_eq!(all(&wal).await, prefix, "{context}");
    assert_eq!(report.next_lsn, Lsn(next), "{context}");
    (wal, cut.damage)
}

/// Opens with salvage, checks that exactly `prefix` is left and that the log goes on behind `next`.
pub(crate) async fn salvaged(
    store: &Store,
    prefix: &[(u64, String)],
    next: u64,
    context: &str,
) -> Damage {
    let (wal, damage) = cut(store, prefix, next, context).await;
    assert_eq!(wal.append(&"after".to_owned()).await.unwrap(), Lsn(next), "{context}");
    let (wal, again) = Wal::<String>::open(store, LOG, salvage()).await.unwrap();
    assert_eq!(again.salvaged, None, "{context}");
    let mut expected = prefix.to_vec();
    expected.push((next, "after".to_owned()));
    assert_eq!(all(&wal).await, expected, "{context}");
    assert!(wal.verify().await.unwrap().is_intact(), "{context}");
    damage
}

pub(crate) fn before(records: &[(u64, String)], lsn: u64) -> Vec<(u64, String)> {
    records.iter().filter(|(n, _)| *n < lsn).cloned().collect()
}

pub(crate) fn with(entries: &[Entry], key: &Key, value: Option<Bytes>) -> Vec<Entry> {
    let mut changed: Vec<_> = entries.iter().filter(|e| e.key != *key).cloned().collect();
    if let Some(value) = value {
        changed.push(Entry { key: key.clone(), value });
    }
    changed
}
