//! One page out of two generations and the index: the newer layer wins, tombstones hide.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;
use resurge_store::{Entry, Key, KeyRange, Order, Page, Result, ScanOptions};

use super::Generation;

/// How many entries the index is asked for when its first page was not enough; doubles each time.
const REFILL_ENTRIES: usize = 4;

/// What a page sees of the generations, whatever is published meanwhile.
#[derive(Debug)]
pub(super) struct Pinned {
    /// In the order of the scan; see [`Generation::copy_page`].
    pub(super) active: Vec<(Key, Option<Bytes>)>,
    pub(super) draining: Option<Arc<Generation>>,
}

type Layer<'a> = Box<dyn Iterator<Item = Result<(Key, Option<Bytes>)>> + 'a>;

/// Merges one page; `ask` scans the index.
pub(super) fn page(
    pinned: Pinned,
    range: &KeyRange,
    options: &ScanOptions,
    ask: impl Fn(&KeyRange, &ScanOptions) -> Result<Page>,
) -> Result<Page> {
    let Pinned { active, draining } = pinned;
    let order = options.order;
    let active: Layer<'_> = Box::new(active.into_iter().map(Ok));
    let draining = draining.as_ref().map(|generation| {
        let owned = |(key, value): (&Key, &Option<Bytes>)| Ok((key.clone(), value.clone()));
        generation.range(range, order).map(owned)
    });
    let draining: Layer<'_> = Box::new(draining.into_iter().flatten());
    let index: Layer<'_> = Box::new(IndexEntries {
        ask,
        rest: Some(range.clone()),
        options: options.clone(),
        refill: REFILL_ENTRIES,
        ready: VecDeque::new(),
    });

    let overlay: Layer<'_> = Box::new(Merged::new(active, draining, order));
    let merged = Merged::new(overlay, index, order).filter_map(|found| match found {
        Ok((key, Some(value))) => Some(Ok(Entry { key, value })),
        Ok((_, None)) => None,
        Err(e) => Some(Err(e)),
    });
    Page::collect(range, options, merged)
}

/// Two ordered layers as one; where both have a key, `over` wins.
struct Merged<'a> {
    over: Peekable<Layer<'a>>,
    under: Peekable<Layer<'a>>,
    order: Order,
}

impl<'a> Merged<'a> {
    fn new(over: Layer<'a>, under: Layer<'a>, order: Order) -> Self {
        Self { over: over.peekable(), under: under.peekable(), order }
    }
}

impl Iterator for Merged<'_> {
    type Item = Result<(Key, Option<Bytes>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let (Some(over), Some(under)) = (self.over.peek(), self.under.peek()) else {
            return self.over.next().or_else(|| self.under.next());
        };
        let (Ok((over, _)), Ok((under, _))) = (over, under) else {
            // Errors first, whichever layer they come from.
            return if over.is_err() { self.over.next() } else { self.under.next() };
        };
        let ordering = match self.order {
            Order::Forward => over.cmp(under),
            Order::Reverse => under.cmp(over),
        };
        match ordering {
            Ordering::Less => self.over.next(),
            Ordering::Greater => self.under.next(),
            Ordering::Equal => {
                self.under.next();
                self.over.next()
            }
        }
    }
}

/// The index as an iterator: first a page as large as the one asked for, then small ones, since
/// most often one more entry is all that is needed to see whether there is more.
struct IndexEntries<F> {
    ask: F,
    rest: Option<KeyRange>,
    options: ScanOptions,
    refill: usize,
    ready: VecDeque<Entry>,
}

impl<F: Fn(&KeyRange, &ScanOptions) -> Result<Page>> Iterator for IndexEntries<F> {
    type Item = Result<(Key, Option<Bytes>)>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            let range = self.rest.take()?;
            match (self.ask)(&range, &self.options) {
                Err(e) => return Some(Err(e)),
                Ok(page) => {
                    self.ready = page.entries.into();
                    self.rest = page.next;
                }
            }
            self.options.max_entries = self.refill;
            self.refill = self.refill.saturating_mul(2);
        }
        self.ready.pop_front().map(|entry| Ok((entry.key, Some(entry.value))))
    }
}
