//! Records, indexes and counts of sessions agree, and limits hold.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use resurge_store::{Namespace, ScanOptions, Store};
use resurge_testkit::Failure;

use super::kinds::{FEW, Kind, Managers};
use super::tally::Tally;

/// The bytes of a record id, at the end of every key of a session.
const ID: usize = 16;

/// The sessions that have an entry of each sort, by the first byte of their keys (`docs/format.md`).
pub(super) async fn entries(
    store: &Store,
    kind: Kind,
) -> Result<BTreeMap<u8, BTreeSet<Vec<u8>>>, Failure> {
    let mut found: BTreeMap<u8, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut rest = Some(Namespace::new(&format!("session/{}", kind.name()))?.all());
    while let Some(range) = rest {
        let page = store.scan(range, ScanOptions::new().keys_only()).await?;
        rest = page.next;
        for entry in page.entries {
            let key = entry.key.bytes();
            let Some((sort, _)) = key.split_first() else { continue };
            let Some(id) = key.last_chunk::<ID>() else { continue };
            if !found.entry(*sort).or_default().insert(id.to_vec()) {
                return Err(format!("{}: two entries of one session", kind.name()).into());
            }
        }
    }
    Ok(found)
}

pub(super) async fn whole(
    store: &Store,
    managers: &Managers,
    tally: &Mutex<Tally>,
) -> Result<(), Failure> {
    for (kind, sessions) in managers.all() {
        let entries = entries(store, kind).await?;
        let none = BTreeSet::new();
        let of = |sort: u8| entries.get(&sort).unwrap_or(&none);
        let (records, live) = (of(b'r'), sessions.live().await?);
        let name = kind.name();
        let mut tally = tally.lock();
        if of(b'x') != records {
            tally.wrong(&format!("{name}: records and the index of expiry differ"));
        }
        if of(b'o') != of(b's') || !of(b's').is_subset(records) {
            tally.wrong(&format!("{name}: records and the indexes of live sessions differ"));
        }
        if of(b'o').len() as u64 != live {
            tally.wrong(&format!("{name}: {live} counted, {} there", of(b'o').len()));
        }
        if kind == Kind::Few && live > FEW {
            tally.wrong(&format!("{name}: {live} sessions, and there may be {FEW}"));
        }
    }
    Ok(())
}
