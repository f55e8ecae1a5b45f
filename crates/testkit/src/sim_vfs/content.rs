//! The bytes of a file: pages shared between copies, pages of zeros not stored at all.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

/// What a disk writes whole or not at all.
pub(super) const SECTOR: u64 = 512;
const PAGE: usize = 4096;
const PAGE_LEN: u64 = PAGE as u64;

#[derive(Clone, Debug)]
struct Page([u8; PAGE]);

/// Copying shares everything until one side is written to.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pages: Arc<BTreeMap<u64, Arc<Page>>>,
    len: u64,
}

/// One piece of a range: page number, range inside the page, range inside the whole.
type Piece = (u64, Range<usize>, Range<usize>);

fn pieces(at: u64, len: u64) -> impl Iterator<Item = Piece> {
    let end = at.saturating_add(len);
    let mut from = at;
    std::iter::from_fn(move || {
        if from >= end {
            return None;
        }
        let number = from / PAGE_LEN;
        let page_at = number * PAGE_LEN;
        let to = end.min(page_at.saturating_add(PAGE_LEN));
        let inside = small(from - page_at)..small(to - page_at);
        let whole = small(from - at)..small(to - at);
        from = to;
        Some((number, inside, whole))
    })
}

fn small(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read(&self, buf: &mut [u8], at: u64) -> usize {
        let n = self.len.saturating_sub(at).min(buf.len() as u64);
        for (number, inside, whole) in pieces(at, n) {
            let Some(to) = buf.get_mut(whole) else { continue };
            match self.pages.get(&number).and_then(|p| p.0.get(inside)) {
                Some(from) => to.copy_from_slice(from),
                None => to.fill(0),
            }
        }
        small(n)
    }

    pub(super) fn write(&mut self, at: u64, data: &[u8]) {
        let pages = Arc::make_mut(&mut self.pages);
        for (number, inside, whole) in pieces(at, data.len() as u64) {
            let page = pages.entry(number).or_insert_with(|| Arc::new(Page([0; PAGE])));
            let page = Arc::make_mut(page);
            if let (Some(to), Some(from)) = (page.0.get_mut(inside), data.get(whole)) {
                to.copy_from_slice(from);
            }
        }
        self.len = self.len.max(at.saturating_add(data.len() as u64));
    }

    pub(super) fn zero(&mut self, at: u64, len: u64) {
        self.clear(at, len);
        self.len = self.len.max(at.saturating_add(len));
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.clear(len, self.len - len);
        }
        self.len = len;
    }

    fn clear(&mut self, at: u64, len: u64) {
        let end = at.saturating_add(len);
        let touched = at / PAGE_LEN..end.div_ceil(PAGE_LEN);
        if self.pages.range(touched.clone()).next().is_none() {
            return;
        }
        let pages = Arc::make_mut(&mut self.pages);
        let numbers = pages.range(touched).map(|(number, _)| *number).collect::<Vec<_>>();
        for number in numbers {
            let page_at = number * PAGE_LEN;
            let inside =
                small(at.saturating_sub(page_at))..small(end.saturating_sub(page_at).min(PAGE_LEN));
            if inside == (0..PAGE) {
                pages.remove(&number);
            } else if let Some(page) = pages.get_mut(&number)
                && let Some(range) = Arc::make_mut(page).0.get_mut(inside)
            {
                range.fill(0);
            }
        }
    }

    /// Takes the bytes of `range` from another file; nothing past either end.
    pub(super) fn take_from(&mut self, other: &Self, range: Range<u64>) {
        let end = range.end.min(other.len).min(self.len);
        if range.start < end {
            let mut bytes = vec![0; small(end - range.start)];
            other.read(&mut bytes, range.start);
            self.write(range.start, &bytes);
        }
    }
}

/// Something done to the content of a file.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { at: u64, data: Bytes },
    Zero { at: u64, len: u64 },
    SetLen { len: u64 },
}

impl Change {
    pub(super) fn apply(&self, content: &mut Content) {
        match self {
            Self::Write { at, data } => content.write(*at, data),
            Self::Zero { at, len } => content.zero(*at, *len),
            Self::SetLen { len } => content.set_len(*len),
        }
    }

    /// Length of the file afterwards, and the bytes that change.
    pub(super) fn effect(&self, len_before: u64) -> (u64, Range<u64>) {
        let touched = match self {
            Self::Write { at, data } => *at..at.saturating_add(data.len() as u64),
            Self::Zero { at, len } => *at..at.saturating_add(*len),
            Self::SetLen { len } => return (*len, (*len).min(len_before)..len_before.max(*len)),
        };
        (len_before.max(touched.end), touched)
    }

    /// What this does inside `range`.
    pub(super) fn within(&self, range: &Range<u64>) -> Option<Self> {
        let (_, touched) = self.effect(u64::MAX);
        let from = touched.start.max(range.start);
        let to = touched.end.min(range.end);
        if from >= to {
            return None;
        }
        Some(match self {
            Self::Write { at, data } => {
                Self::Write { at: from, data: data.slice(small(from - at)..small(to - at)) }
            }
            Self::Zero { .. } | Self::SetLen { .. } => Self::Zero { at: from, len: to - from },
        })
    }

    /// Sectors this touches: the places where it can tear.
    pub(super) fn sectors(touched: &Range<u64>) -> Range<u64> {
        if touched.is_empty() { 0..0 } else { touched.start / SECTOR..touched.end.div_ceil(SECTOR) }
    }

    /// The first `sectors` sectors of a write; nothing of a change of length.
    pub(super) fn torn(&self, sectors: u64) -> Option<Self> {
        if matches!(self, Self::SetLen { .. }) {
            return None;
        }
        let (_, touched) = self.effect(0);
        let first = Self::sectors(&touched).start;
        self.within(&(0..first.saturating_add(sectors).saturating_mul(SECTOR)))
    }
}
