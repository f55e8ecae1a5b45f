//! Pages and heads that nobody wrote: damaged, random, and damaged inside an envelope whose checksum
//! fits. Nothing panics or runs on for ever, and no record is shown that was not appended.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use bytes::Bytes;
use resurge_store::{Entry, Record, Store};
use resurge_testkit::{evidence, mangle};
use resurge_wal::{Lsn, Wal, WalError};
use support::{all, entries, open, page_first, read, salvage, store_of};

const CASES: u64 = 4_000;

async fn written() -> (Vec<Entry>, Vec<(u64, String)>) {
    let store = Store::memory();
    let wal = open(&store).await;
    for i in 0..14 {
        wal.append(&"x".repeat(i * 9)).await.unwrap();
    }
    let several: Vec<_> = (0..9).map(|i| format!("several {i}")).collect();
    wal.append_all(&several).await.unwrap();
    wal.truncate_before(Lsn(3)).await.unwrap();
    wal.append(&"the removal is over".to_owned()).await.unwrap();
    let records = all(&wal).await;
    (entries(&store).await, records)
}

#[tokio::test]
async fn pages_and_heads() {
    let times = std::env::var("RESURGE_MANGLED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let (written, records) = written().await;
    let (mut refused, mut whole, mut forged) = (0, 0, 0);
    for seed in 0..CASES * times {
        // Every other time the head, which decides the most.
        let heads = seed % 2 == 0;
        let candidates: Vec<_> = (0..written.len())
            .filter(|i| page_first(&written[*i].key).is_none() == heads)
            .collect();
        let chosen = candidates[usize::try_from(seed / 6).unwrap() % candidates.len()];
        let entry = &written[chosen];
        let resealed = seed % 3 != 0;
        let harmed: Bytes = if resealed {
            let payload = Record::decode(&entry.key, &entry.value).unwrap().into_payload();
            Record::new(mangle(&payload, seed)).encode(&entry.key)
        } else {
            mangle(&entry.value, seed).into()
        };
        let changed = harmed != entry.value;
        let mut stored = written.clone();
        stored[chosen].value = harmed;
        let context = format!("seed {seed}, {}", entry.key);
        // A forged head may say that there is less, or that the end is elsewhere.
        let believed = heads && resealed;
        forged += u64::from(believed);

        let store = store_of(&stored).await;
        let strict = match Wal::<String>::open(&store, support::LOG, support::options()).await {
            Ok((wal, _)) => read(&wal).await,
            Err(e) => (Vec::new(), Err(e)),
        };
        let (found, end) = strict;
        for record in &found {
            assert!(records.contains(record) || believed, "{context}: {record:?} is made up");
        }
        match end {
            Ok(()) => {
                whole += 1;
                assert!(found == records || believed, "{context}: records are missing");
                assert!(!changed || believed, "{context}: not noticed");
            }
            Err(WalError::Corrupt(_)) => refused += 1,
            // A forged end may be where no number is left.
            Err(e) => assert!(believed, "{context}: {e}"),
        }

        let store = store_of(&stored).await;
        match Wal::<String>::open(&store, support::LOG, salvage()).await {
            Ok((wal, _)) => {
                let (found, end) = read(&wal).await;
                for record in &found {
                    // A forged head may hide the truncation of the first two.
                    let known = records.contains(record) || record.0 < 3;
                    assert!(known || believed, "{context}: {record:?} is made up");
                }
                assert!(end.is_ok() || believed, "{context}: salvaged, and still {end:?}");
            }
            Err(e) => assert!(believed, "{context}: {e}"),
        }
    }
    assert!(refused > CASES / 4 && forged > CASES / 8, "{refused} {whole} {forged}");
    let total = CASES * times;
    evidence(
        "mangled-wal",
        &format!(
            "{total} mangled pages and heads ({forged} forged heads): {refused} refused, 0 records \
             made up, 0 panics"
        ),
    );
}
