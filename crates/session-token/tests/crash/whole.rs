//! Records, indexes and count agree.

use std::collections::{BTreeMap, BTreeSet};

use resurge_session_token::SessionManager;
use resurge_store::{Namespace, ScanOptions, Store};
use resurge_testkit::sim::Failure;

/// The sessions that have an entry of each sort, by the first byte of their keys.
pub(crate) async fn entries(
    store: &Store,
    name: &str,
) -> Result<BTreeMap<u8, BTreeSet<Vec<u8>>>, Failure> {
    let mut found: BTreeMap<u8, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut rest = Some(Namespace::new(&format!("session/{name}"))?.all());
    while let Some(range) = rest {
        let page = store.scan(range, ScanOptions::new()).await?;
        rest = page.next;
        for entry in page.entries {
            let key = entry.key.bytes();
            let Some(id) = key.last_chunk::<16>() else { continue };
            if !found.entry(key[0]).or_default().insert(id.to_vec()) {
                return Err(format!("two entries of one session: {}", entry.key).into());
            }
        }
    }
    Ok(found)
}

/// How many sessions are live.
pub(crate) async fn whole(
    sessions: &SessionManager,
    store: &Store,
    name: &str,
) -> Result<u64, Failure> {
    let entries = entries(store, name).await?;
    let none = BTreeSet::new();
    let of = |sort: u8| entries.get(&sort).unwrap_or(&none);
    let live = sessions.live().await?;
    let agree = of(b'r') == of(b'x')
        && of(b'o') == of(b's')
        && of(b's').is_subset(of(b'r'))
        && of(b's').len() as u64 == live;
    if agree { Ok(live) } else { Err(format!("{name}: {live} live, {entries:?}").into()) }
}
