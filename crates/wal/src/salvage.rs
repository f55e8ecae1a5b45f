//! Keeping exactly what is intact before the first damage.

use std::ops::Range;

use resurge_store::{Key, ScanOptions, Store};

use crate::head::Head;
use crate::keys::Keys;
use crate::open::{lsns, stray};
use crate::page::{Digest, PER_RECORD};
use crate::walk::{Expected, Place, Walk};
use crate::{Damage, Lsn, Result};

/// What a salvage cut.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Salvaged {
    /// The first damage found.
    pub damage: Damage,
    /// The numbers of the records that are gone; empty when only the head had to be made again.
    /// They are not given again.
    pub lost: Range<Lsn>,
    /// Pages removed, damaged ones and the intact ones behind them.
    pub pages: u64,
}

impl Salvaged {
    /// How many records are gone; at most, where numbers among them had been given up before.
    pub fn records(&self) -> u64 {
        self.lost.end.0.saturating_sub(self.lost.start.0)
    }
}

/// Reads the whole log. Without damage the head comes back as it is; otherwise it describes the
/// intact pages before the first damage, and what is behind them has yet to be removed.
///
/// A page is one commit, so it is kept whole or not at all.
pub(crate) async fn survey(
    store: &Store,
    keys: &Keys,
    head: Result<Head, Damage>,
) -> Result<(Head, Option<Salvaged>)> {
    match head {
        Ok(head) => behind_head(store, keys, head).await,
        Err(damage) => without_head(store, keys, damage).await,
    }
}

async fn behind_head(store: &Store, keys: &Keys, head: Head) -> Result<(Head, Option<Salvaged>)> {
    let start = Place::before_page(head.first_page);
    let mut walk = Walk::new(store, keys, start, Some(Expected::of(&head)));
    let damage = match read_on(&mut walk).await? {
        Some(damage) => damage,
        None => match stray(store, keys, &head).await? {
            Some(damage) => damage,
            None => return Ok((head, None)),
        },
    };
    let (last_page, digest) = walk.place.last.unwrap_or((0, head.digest));
    let end = walk.place.end;
    let lost = lsns(end.max(head.first_lsn)..head.end.max(head.first_lsn));
    let cut = Head { cleaning: true, last_page, end, digest, ..head };
    Ok((cut, Some(Salvaged { damage, lost, pages: 0 })))
}

async fn without_head(
    store: &Store,
    keys: &Keys,
    damage: Damage,
) -> Result<(Head, Option<Salvaged>)> {
    let genesis = Head { cleaning: true, ..Head::genesis(keys) };
    let Some((oldest, _)) = edge(store, keys, ScanOptions::new()).await? else {
        let lost = lsns(genesis.end..genesis.end);
        return Ok((genesis, Some(Salvaged { damage, lost, pages: 0 })));
    };
    let first = keys.first_of(&oldest).unwrap_or(1).max(1);
    let mut walk = Walk::new(store, keys, Place::before_page(first), None);
    let broken = read_on(&mut walk).await?;
    let (last_page, digest) = walk.place.last.unwrap_or((0, Digest::of(keys.name.as_bytes())));
    let end = walk.place.end;
    let mut next = end;
    if broken.is_some()
        && let Some((newest, len)) = edge(store, keys, ScanOptions::new().reverse()).await?
    {
        // Whatever that page holds, it cannot hold more records than this.
        let at_most = len / PER_RECORD as u64;
        next = next.max(keys.first_of(&newest).unwrap_or(0).saturating_add(at_most));
    }
    let head =
        Head { first_lsn: first, first_page: first, last_page, end, next, digest, ..genesis };
    Ok((head, Some(Salvaged { damage, lost: lsns(end..next), pages: 0 })))
}

/// Reads to the end or to the first damage.
async fn read_on(walk: &mut Walk) -> Result<Option<Damage>> {
    loop {
        match walk.next().await {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(e) => return e.damage().cloned().map_or(Err(e), |damage| Ok(Some(damage))),
        }
    }
}

/// The first page in the order asked for, and its length in bytes.
async fn edge(store: &Store, keys: &Keys, options: ScanOptions) -> Result<Option<(Key, u64)>> {
    let page = store.scan(keys.pages_from(0), options.max_entries(1)).await?;
    Ok(page.entries.into_iter().next().map(|entry| (entry.key, entry.value.len() as u64)))
}
