//! Reading pages in order, each checked by itself and against the one before.

use std::cmp::Ordering;
use std::collections::VecDeque;

use resurge_store::{Entry, KeyRange, ScanOptions, Store};

use crate::head::Head;
use crate::keys::Keys;
use crate::page::{Digest, Page};
use crate::{Damage, DamageKind, Result, WalError};

/// Pages read at once: with the default page size at most 1 MiB.
const PAGES_AT_ONCE: usize = 16;

/// Where a log must end, as its head says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) end: u64,
    pub(crate) last_page: u64,
    pub(crate) digest: Digest,
}

impl Expected {
    pub(crate) fn of(head: &Head) -> Self {
        Self { end: head.end, last_page: head.last_page, digest: head.digest }
    }
}

/// What comes before the next page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// One after the last record read; where the first page begins before that.
    pub(crate) end: u64,
    /// The last page read: where it begins, and its digest.
    pub(crate) last: Option<(u64, Digest)>,
}

impl Place {
    pub(crate) fn before_page(first: u64) -> Self {
        Self { end: first, last: None }
    }
}

/// Goes through pages from a place, holding a bounded number of them.
#[derive(Debug)]
pub(crate) struct Walk {
    store: Store,
    keys: Keys,
    pub(crate) place: Place,
    until: Option<Expected>,
    read: VecDeque<Entry>,
    rest: Option<KeyRange>,
}

impl Walk {
    /// Until the place the head names; without one, until there are no more.
    pub(crate) fn new(store: &Store, keys: &Keys, place: Place, until: Option<Expected>) -> Self {
        let rest = Some(match until {
            Some(until) => keys.pages(place.end, until.end),
            None => keys.pages_from(place.end),
        });
        let (store, keys) = (store.clone(), keys.clone());
        Self { store, keys, place, until, read: VecDeque::new(), rest }
    }

    /// Goes on to a later end.
    pub(crate) fn extend(&mut self, until: Expected) {
        self.rest = Some(self.keys.pages(self.place.end, until.end));
        self.until = Some(until);
        self.read.clear();
    }

    /// The next page, found intact and in its place. Not cancel safe in the middle: nothing is lost,
    /// a page is only taken when it is returned.
    pub(crate) async fn next(&mut self) -> Result<Option<Page>> {
        while self.read.is_empty() {
            let Some(range) = self.rest.clone() else {
                return self.finished().map(|()| None).map_err(WalError::Corrupt);
            };
            let options = ScanOptions::new().max_entries(PAGES_AT_ONCE);
            let found = self.store.scan(range, options).await?;
            self.read = found.entries.into();
            self.rest = found.next;
        }
        let Some(entry) = self.read.front() else { return Ok(None) };
        let page = self.check(entry).map_err(WalError::Corrupt)?;
        self.read.pop_front();
        self.place =
            Place { end: page.framing.end(), last: Some((page.framing.first, page.digest)) };
        Ok(Some(page))
    }

    fn check(&self, entry: &Entry) -> Result<Page, Damage> {
        let at = self.place.end;
        let page = Page::decode(&self.keys, &entry.key, &entry.value)?;
        let framing = &page.framing;
        let follows = match self.place.last {
            None => framing.first == at || framing.prev_end == at,
            Some(_) => framing.prev_end == at,
        };
        if !follows {
            return Err(self.missing(at));
        }
        let chained = self.place.last.is_none_or(|(_, digest)| digest == framing.prev);
        // The head knows the last page: nothing may stand in for it, or reach beyond it.
        let ends = self.until.is_none_or(|until| match framing.end().cmp(&until.end) {
            Ordering::Less => true,
            Ordering::Equal => (framing.first, page.digest) == (until.last_page, until.digest),
            Ordering::Greater => false,
        });
        if chained && ends {
            Ok(page)
        } else {
            Err(self.keys.damage(DamageKind::ChainBroken, framing.first, entry.key.clone()))
        }
    }

    /// Does it end where the head says?
    fn finished(&self) -> Result<(), Damage> {
        match self.until {
            Some(until) if self.place.end != until.end => Err(self.missing(self.place.end)),
            _ => Ok(()),
        }
    }

    fn missing(&self, at: u64) -> Damage {
        self.keys.damage(DamageKind::PageMissing, at, self.key(at))
    }

    fn key(&self, first: u64) -> resurge_store::Key {
        // INVARIANT: the name was checked when the keys were made, so the page key fits.
        self.keys.page(first).unwrap_or_else(|_| self.keys.head.clone())
    }
}
