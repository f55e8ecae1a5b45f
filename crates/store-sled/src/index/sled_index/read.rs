//! Reads: one key, one page, and large values put together.

use bytes::Bytes;
use parking_lot::RwLock;
use resurge_store::{Entry, Key, KeyRange, Order, Page, ScanOptions, StoreError};
use sled::{Db, IVec};

use super::super::{Digest, IndexError, IndexErrorKind, IndexMeta, IndexResult};
use super::fault;
use super::format::{self, Head, Stored};

/// What the tree says about itself; `None` when it is empty.
pub(super) fn meta(db: &Db) -> IndexResult<Option<IndexMeta>> {
    if let Some(bytes) = stored(db, format::META_KEY)? {
        return format::decode_meta(&bytes).map(Some);
    }
    if db.first().map_err(|e| fault::of("read meta", e))?.is_none() {
        return Ok(None);
    }
    let message = "it holds entries but says nothing about itself";
    Err(IndexError::new(IndexErrorKind::Corrupt, message))
}

pub(super) fn get(db: &Db, chunks: &RwLock<()>, key: &Key) -> IndexResult<Option<Bytes>> {
    match stored(db, key.raw())? {
        None => Ok(None),
        Some(found) => value(db, chunks, key.raw(), &found),
    }
}

pub(super) fn page(
    db: &Db,
    chunks: &RwLock<()>,
    range: &KeyRange,
    options: &ScanOptions,
) -> IndexResult<Page> {
    let start = range.start().as_ref().max(format::FIRST_KEY);
    let end = range.end().map_or(format::KEYS_END, |end| end.as_ref().min(format::KEYS_END));
    if start >= end {
        return Ok(Page::default());
    }
    let found = db.range(start..end);
    let found: Box<dyn Iterator<Item = sled::Result<(IVec, IVec)>>> = match options.order {
        Order::Forward => Box::new(found),
        Order::Reverse => Box::new(found.rev()),
    };
    let mut failure = None;
    let entries = found.filter_map(|found| {
        let entry = found.map_err(|e| fault::of("scan", e)).and_then(|(key, stored)| {
            let value = if options.keys_only {
                Some(Bytes::new())
            } else {
                value(db, chunks, &key, &stored)?
            };
            let Some(value) = value else { return Ok(None) };
            let raw = Bytes::copy_from_slice(&key);
            let key = Key::from_raw(raw).map_err(|e| {
                let message = format!("{} is no key", key.escape_ascii());
                IndexError::with_source(IndexErrorKind::Corrupt, message, e)
            })?;
            Ok(Some(Entry { key, value }))
        });
        entry
            .map_err(|error| {
                failure = Some(error);
                StoreError::closed("scan")
            })
            .transpose()
    });
    let page = Page::collect(range, options, entries);
    match (page, failure) {
        (Ok(page), _) => Ok(page),
        (Err(_), Some(error)) => Err(error),
        (Err(error), None) => Err(IndexError::with_source(IndexErrorKind::Corrupt, "scan", error)),
    }
}

/// The value that `found` under `key` stands for; `None` when the key was removed meanwhile.
fn value(db: &Db, chunks: &RwLock<()>, key: &[u8], found: &[u8]) -> IndexResult<Option<Bytes>> {
    let head = match format::decode(key, found)? {
        Stored::Inline(value) => return Ok(Some(Bytes::copy_from_slice(value))),
        Stored::Chunked(head) => head,
    };
    if let Some(value) = assemble(db, key, head)? {
        return Ok(Some(value));
    }
    // Chunks of another value: the key is being changed, or damaged. Now nothing changes.
    let _still = chunks.read();
    let Some(found) = stored(db, key)? else { return Ok(None) };
    match format::decode(key, &found)? {
        Stored::Inline(value) => Ok(Some(Bytes::copy_from_slice(value))),
        Stored::Chunked(head) => match assemble(db, key, head)? {
            Some(value) => Ok(Some(value)),
            None => Err(IndexError::new(
                IndexErrorKind::Corrupt,
                format!("the chunks of {} do not fit its head", key.escape_ascii()),
            )),
        },
    }
}

/// Puts the chunks of a value together; `None` when they are not those its head was made for.
fn assemble(db: &Db, key: &[u8], head: Head) -> IndexResult<Option<Bytes>> {
    let mut value = Vec::new();
    let mut sum = Digest::default();
    for number in 0..head.chunks(key) {
        let chunk_key = format::chunk_key(key, number);
        let Some(chunk) = stored(db, &chunk_key)? else { return Ok(None) };
        format::count_chunk(&mut sum, &chunk_key, &chunk);
        value.extend_from_slice(&chunk);
    }
    let whole = value.len() == head.len && sum.sum == head.sum;
    Ok(whole.then(|| Bytes::from(value)))
}

fn stored(db: &Db, key: &[u8]) -> IndexResult<Option<IVec>> {
    db.get(key).map_err(|e| fault::of("get", e))
}
