//! Every byte flipped, every page dropped, duplicated and swapped: detected, located, and salvaged to
//! exactly what was before.
#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use resurge_store::{Batch, Durability, Entry, Namespace, Store};
use resurge_testkit::evidence;
use resurge_wal::inspect::Inspector;
use resurge_wal::{DamageKind, Lsn, Wal};
use support::damaged::{before, salvaged, strict, with};
use support::{all, entries, open, page_first, salvage, store_of};

/// A log with records of all sizes, shared pages, a large page, a hole and a truncated beginning.
async fn mixed() -> (Vec<Entry>, Vec<(u64, String)>) {
    let store = Store::memory();
    let wal = open(&store).await;
    for i in 0..12 {
        wal.append(&"x".repeat(i * 7)).await.unwrap();
    }
    let several: Vec<_> = (0..5).map(|i| format!("several {i}")).collect();
    wal.append_all(&several).await.unwrap();
    wal.append(&"large ".repeat(60)).await.unwrap();
    let mut stage = wal.stage().await.unwrap();
    stage.push(&"never".to_owned()).unwrap();
    let staged = stage.write(&mut Batch::new()).unwrap();
    let behind = wal.append(&"behind a hole".to_owned());
    drop(staged);
    behind.await.unwrap();
    wal.append_all(&several).await.unwrap();
    wal.truncate_before(Lsn(3)).await.unwrap();
    wal.append(&"the removal is over".to_owned()).await.unwrap();
    let records = all(&wal).await;
    assert_eq!(records.len(), 10 + 5 + 1 + 1 + 5 + 1);
    (entries(&store).await, records)
}

#[tokio::test]
async fn every_flipped_byte_is_detected_located_and_cut() {
    let (entries, records) = mixed().await;
    let next = records.last().unwrap().0 + 1;
    let (mut flips, mut in_records) = (0, 0);
    for entry in &entries {
        for at in 0..entry.value.len() {
            let mut bytes = entry.value.to_vec();
            bytes[at] ^= 1 << (at % 8);
            let changed = with(&entries, &entry.key, Some(bytes.into()));
            let context = format!("byte {at} of {}", entry.key);
            let store = store_of(&changed).await;
            let (found, damage) = strict(&store).await;
            let damage = damage.unwrap_or_else(|| panic!("{context}: not detected"));
            assert_eq!(damage.key, entry.key, "{context}");
            flips += 1;
            let Some(first) = page_first(&entry.key) else {
                assert_eq!(damage.kind, DamageKind::HeadUnreadable, "{context}");
                // The bound went with the head: the page it was in is shown whole.
                let store = store_of(&changed).await;
                let (wal, report) =
                    Wal::<String>::open(&store, support::LOG, salvage()).await.unwrap();
                assert!(report.salvaged.unwrap().lost.is_empty(), "{context}");
                assert_eq!(report.next_lsn, Lsn(next), "{context}");
                assert!(all(&wal).await.ends_with(&records), "{context}");
                continue;
            };
            let prefix = before(&records, first);
            assert_eq!(found, prefix, "{context}");
            // Behind envelope and framing come the records; before the end, the checksum.
            if (4 + 38..entry.value.len() - 4).contains(&at) {
                assert_eq!(damage.kind, DamageKind::RecordUnreadable, "{context}");
                in_records += 1;
            }
            assert!(damage.lsn >= Lsn(first), "{context}: {damage}");
            let store = store_of(&changed).await;
            assert_eq!(salvaged(&store, &prefix, next, &context).await, damage, "{context}");
        }
    }
    assert!(flips > 1_500 && in_records > 600, "{flips} {in_records}");
    evidence("wal-flips", &format!("{flips} bytes flipped, all detected, located and cut"));
}

#[tokio::test]
async fn the_record_that_was_hit_is_named() {
    let store = Store::memory();
    let wal = open(&store).await;
    let several: Vec<_> = (0..5).map(|i| format!("several {i}")).collect();
    wal.append_all(&several).await.unwrap();
    let entries = entries(&store).await;
    let page = entries.iter().find(|e| page_first(&e.key).is_some()).unwrap();
    for (i, text) in several.iter().enumerate() {
        let mut bytes = page.value.to_vec();
        let at = bytes.windows(text.len()).position(|w| w == text.as_bytes()).unwrap();
        bytes[at] ^= 1;
        let store = store_of(&with(&entries, &page.key, Some(bytes.into()))).await;
        let damage = strict(&store).await.1.unwrap();
        let lsn = Lsn(i as u64 + 1);
        assert_eq!((damage.lsn, damage.kind), (lsn, DamageKind::RecordUnreadable));
    }
}

#[tokio::test]
async fn every_truncated_value_is_detected() {
    let (entries, records) = mixed().await;
    for entry in &entries {
        for len in 0..entry.value.len() {
            let changed = with(&entries, &entry.key, Some(entry.value.slice(..len)));
            let (found, damage) = strict(&store_of(&changed).await).await;
            assert_eq!(damage.map(|d| d.key), Some(entry.key.clone()), "{len} bytes");
            let first = page_first(&entry.key).unwrap_or(0);
            assert_eq!(found, before(&records, first), "{len} bytes of {}", entry.key);
        }
    }
}

#[tokio::test]
async fn every_dropped_page_is_detected_located_and_cut() {
    let (entries, records) = mixed().await;
    let next = records.last().unwrap().0 + 1;
    let mut pages = 0;
    for entry in &entries {
        let changed = with(&entries, &entry.key, None);
        let (found, damage) = strict(&store_of(&changed).await).await;
        let damage = damage.unwrap();
        let Some(first) = page_first(&entry.key) else {
            assert_eq!((damage.kind, &damage.key), (DamageKind::HeadMissing, &entry.key));
            continue;
        };
        pages += 1;
        let prefix = before(&records, first);
        assert_eq!(found, prefix);
        assert_eq!(damage.kind, DamageKind::PageMissing);
        // A hole before it, which nothing but the page itself tells of, belongs to it.
        assert!(damage.lsn.0 <= first && before(&records, damage.lsn.0) == prefix, "{damage}");
        salvaged(&store_of(&changed).await, &prefix, next, &format!("dropped {first}")).await;
    }
    assert!(pages > 8, "{pages}");
}

#[tokio::test]
async fn every_pair_of_swapped_pages_is_detected_and_located() {
    let (entries, records) = mixed().await;
    let next = records.last().unwrap().0 + 1;
    let pages: Vec<_> = entries.iter().filter(|e| page_first(&e.key).is_some()).collect();
    for (i, a) in pages.iter().enumerate() {
        for b in pages.iter().skip(i + 1) {
            let changed = with(&entries, &a.key, Some(b.value.clone()));
            let changed = with(&changed, &b.key, Some(a.value.clone()));
            let prefix = before(&records, page_first(&a.key).unwrap());
            let context = format!("{} and {} swapped", a.key, b.key);
            let (found, damage) = strict(&store_of(&changed).await).await;
            let damage = damage.unwrap();
            assert!(damage.key == a.key || damage.key == b.key, "{context}: {damage}");
            assert_eq!(found, prefix, "{context}");
            let cut = salvaged(&store_of(&changed).await, &prefix, next, &context).await;
            assert_eq!(cut.key, a.key, "{context}");
        }
    }
}

#[tokio::test]
async fn every_page_duplicated_under_another_key_is_detected_and_located() {
    let (entries, records) = mixed().await;
    let end = records.last().unwrap().0 + 1;
    let namespace = Namespace::new("resurge/wal").unwrap();
    let pages_begin = entries.iter().find_map(|e| page_first(&e.key)).unwrap();
    let mut tried = 0;
    for page in entries.iter().filter(|e| page_first(&e.key).is_some()) {
        for first in 0..end + 3 {
            let mut key = b"log\0p".to_vec();
            key.extend_from_slice(&first.to_be_bytes());
            let key = namespace.key(key).unwrap();
            if key == page.key {
                continue;
            }
            tried += 1;
            let changed = with(&entries, &key, Some(page.value.clone()));
            let context = format!("{} also under {key}", page.key);
            let store = store_of(&changed).await;
            let damage = match strict(&store).await.1 {
                Some(damage) => damage,
                // Before the log's beginning nobody reads; a whole verification finds it.
                None => open(&store).await.verify().await.unwrap().damage.unwrap(),
            };
            assert_eq!(damage.key, key, "{context}");
            let store = store_of(&changed).await;
            let (wal, report) = Wal::<String>::open(&store, support::LOG, salvage()).await.unwrap();
            let cut = report.salvaged.unwrap_or_else(|| panic!("{context}: not cut"));
            assert_eq!(cut.damage.key, key, "{context}");
            let kept = all(&wal).await;
            assert_eq!(kept, before(&records, cut.lost.start.0), "{context}");
            // Whole pages, and all of those before it.
            let hit = entries.iter().filter_map(|e| page_first(&e.key)).filter(|p| *p <= first);
            let outside = first < pages_begin || first >= end;
            let at_least = if outside { end } else { hit.max().unwrap_or(0) };
            assert!(kept.len() >= before(&records, at_least).len(), "{context}");
            assert!(wal.verify().await.unwrap().is_intact(), "{context}");
        }
    }
    assert!(tried > 200, "{tried}");
}

#[tokio::test]
async fn a_page_of_an_older_life_is_detected() {
    // The same log written twice with other records: same keys, same lengths, valid checksums.
    let mut lives = Vec::new();
    for letter in ["a", "b"] {
        let store = Store::memory();
        let wal = open(&store).await;
        for _ in 0..4 {
            wal.append(&letter.repeat(10)).await.unwrap();
        }
        lives.push(entries(&store).await);
    }
    for old in lives[0].iter().filter(|e| page_first(&e.key).is_some()) {
        let first = page_first(&old.key).unwrap();
        let changed = with(&lives[1], &old.key, Some(old.value.clone()));
        let (found, damage) = strict(&store_of(&changed).await).await;
        let damage = damage.unwrap();
        assert_eq!(damage.kind, DamageKind::ChainBroken);
        let inspector = Inspector::new(&store_of(&changed).await, support::LOG).unwrap();
        assert_eq!(inspector.verify().await.unwrap().damage, Some(damage.clone()));
        // The first page has nothing before it: its successor notices.
        assert!(damage.lsn == Lsn(first) || damage.lsn == Lsn(first + 1), "{damage}");
        assert!(found.len() as u64 <= first, "{found:?}");
    }
}

#[tokio::test]
async fn the_last_page_is_the_one_the_head_knows() {
    // Two lives that differ in their last record only: everything before the last page agrees.
    let mut lives = Vec::new();
    for last in ["paid", "void"] {
        let store = Store::memory();
        let wal = open(&store).await;
        for record in ["a", "b", last] {
            wal.append(&record.to_owned()).await.unwrap();
        }
        lives.push(entries(&store).await);
    }
    let old = lives[0].last().unwrap();
    let store = store_of(&with(&lives[1], &old.key, Some(old.value.clone()))).await;
    let (found, damage) = strict(&store).await;
    let damage = damage.unwrap();
    assert_eq!((damage.kind, damage.lsn), (DamageKind::ChainBroken, Lsn(3)));
    assert_eq!(found.len(), 2, "a record that was never in this log was shown");
    let inspector = Inspector::new(&store, support::LOG).unwrap();
    assert_eq!(inspector.verify().await.unwrap().damage, Some(damage));
}

#[tokio::test]
async fn an_interrupted_salvage_is_finished_at_the_next_open() {
    let (entries, records) = mixed().await;
    let page = entries.iter().rev().nth(3).unwrap();
    let first = page_first(&page.key).unwrap();
    let store = store_of(&with(&entries, &page.key, None)).await;
    drop(Wal::<String>::open(&store, support::LOG, salvage()).await.unwrap());
    // Bring back what it removed, as a crash before the removal would have left it.
    let mut batch = Batch::new();
    for entry in entries.iter().filter(|e| page_first(&e.key) > Some(first)) {
        batch.put(entry.key.clone(), entry.value.clone());
    }
    store.commit(batch, Durability::Durable).await.unwrap();
    let (wal, report) =
        Wal::<String>::open(&store, support::LOG, support::options()).await.unwrap();
    assert!(report.finished_removal > 0);
    assert_eq!(all(&wal).await, before(&records, first));
    wal.append(&"on".to_owned()).await.unwrap();
    assert!(wal.verify().await.unwrap().is_intact());
}
