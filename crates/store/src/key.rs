//! Namespaces, keys and ranges: one ordered space of bytes, divided by namespace.

use std::fmt;
use std::ops::{Bound, RangeBounds};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{Result, StoreError};

/// The longest namespace name, in bytes.
pub const MAX_NAMESPACE_LEN: usize = 64;
/// The longest key inside a namespace, in bytes.
pub const MAX_KEY_LEN: usize = 1024;

/// A named part of the key space. Every crate and every user gets their own, so keys never collide.
///
/// Names are 1 to 64 bytes of `a-z 0-9 . _ - /`.
///
/// ```
/// use resurge_store::Namespace;
/// let jobs = Namespace::new("app/jobs")?;
/// let key = jobs.key("job-42")?;
/// assert_eq!(key.bytes(), b"job-42");
/// assert!(Namespace::new("Has Spaces").is_err());
/// # Ok::<(), resurge_store::StoreError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace {
    /// `[len][name]`: the prefix of every key in it.
    prefix: Bytes,
}

impl Namespace {
    /// Checks the name.
    ///
    /// # Errors
    /// `Invalid` for an empty name, one over 64 bytes or one with other characters.
    pub fn new(name: &str) -> Result<Self> {
        let len = check_name(name)?;
        let mut prefix = BytesMut::with_capacity(1 + name.len());
        prefix.put_u8(len);
        prefix.put_slice(name.as_bytes());
        Ok(Self { prefix: prefix.freeze() })
    }

    /// The name it was made from.
    pub fn name(&self) -> &str {
        self.prefix.get(1..).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default()
    }

    /// A key in this namespace.
    ///
    /// # Errors
    /// `Invalid` above [`MAX_KEY_LEN`] bytes.
    pub fn key(&self, bytes: impl AsRef<[u8]>) -> Result<Key> {
        let bytes = bytes.as_ref();
        if bytes.len() > MAX_KEY_LEN {
            return Err(StoreError::invalid(format!(
                "a key in namespace `{}` has {} bytes; the limit is {MAX_KEY_LEN}",
                self.name(),
                bytes.len()
            )));
        }
        Ok(Key { raw: joined(&self.prefix, bytes) })
    }

    /// Every key of the namespace.
    pub fn all(&self) -> KeyRange {
        KeyRange::prefixed(self.prefix.clone())
    }

    /// Every key of the namespace that starts with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> KeyRange {
        let mut raw = BytesMut::from(self.prefix.as_ref());
        raw.put_slice(prefix.as_ref());
        KeyRange::prefixed(raw.freeze())
    }

    /// The keys of the namespace within `range` (bytes inside the namespace).
    ///
    /// ```
    /// use resurge_store::Namespace;
    /// let ns = Namespace::new("n")?;
    /// let range = ns.range(&b"b"[..]..&b"d"[..]);
    /// assert!(range.contains(&ns.key("c")?) && !range.contains(&ns.key("d")?));
    /// # Ok::<(), resurge_store::StoreError>(())
    /// ```
    pub fn range<'a>(&self, range: impl RangeBounds<&'a [u8]>) -> KeyRange {
        let whole = self.all();
        let join = |bytes: &[u8], after: bool| {
            let mut raw = BytesMut::from(self.prefix.as_ref());
            raw.put_slice(bytes);
            if after {
                // The smallest key greater than `bytes`.
                raw.put_u8(0);
            }
            raw.freeze()
        };
        let start = match range.start_bound() {
            Bound::Included(b) => join(b, false),
            Bound::Excluded(b) => join(b, true),
            Bound::Unbounded => whole.start,
        };
        let end = match range.end_bound() {
            Bound::Included(b) => Some(join(b, true)),
            Bound::Excluded(b) => Some(join(b, false)),
            Bound::Unbounded => whole.end,
        };
        KeyRange { start, end }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({})", self.name())
    }
}

/// The length of a namespace's name.
fn check_name(name: &str) -> Result<u8> {
    let fits = u8::try_from(name.len()).ok().filter(|n| usize::from(*n) <= MAX_NAMESPACE_LEN);
    let Some(len) = fits.filter(|n| *n > 0) else {
        return Err(StoreError::invalid(format!(
            "namespace `{name}` has {} bytes; 1 to {MAX_NAMESPACE_LEN} are allowed",
            name.len()
        )));
    };
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/".contains(&b);
    if !name.bytes().all(allowed) {
        return Err(StoreError::invalid(format!(
            "namespace `{name}` may only hold a-z, 0-9 and . _ - /"
        )));
    }
    Ok(len)
}

/// The bytes of a short key, in the one allocation that also counts its clones.
struct Short<const ROOM: usize> {
    len: u8,
    bytes: [u8; ROOM],
}

impl<const ROOM: usize> Short<ROOM> {
    /// `None` when they do not fit.
    fn joined(front: &[u8], back: &[u8]) -> Option<Bytes> {
        let mut bytes = [0; ROOM];
        let len = front.len() + back.len();
        let (head, tail) = bytes.get_mut(..len)?.split_at_mut(front.len());
        head.copy_from_slice(front);
        tail.copy_from_slice(back);
        Some(Bytes::from_owner(Self { len: u8::try_from(len).ok()?, bytes }))
    }
}

impl<const ROOM: usize> AsRef<[u8]> for Short<ROOM> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// `front` followed by `back`. Every key that is stored is cloned at least once, and the first clone of
/// ordinary `Bytes` allocates a second time; this one does not.
fn joined(front: &[u8], back: &[u8]) -> Bytes {
    let short = match front.len() + back.len() {
        0..=15 => Short::<15>::joined(front, back),
        16..=31 => Short::<31>::joined(front, back),
        32..=63 => Short::<63>::joined(front, back),
        _ => None,
    };
    short.unwrap_or_else(|| {
        let mut long = BytesMut::with_capacity(front.len() + back.len());
        long.put_slice(front);
        long.put_slice(back);
        long.freeze()
    })
}

/// A key: its namespace and at most [`MAX_KEY_LEN`] bytes, ordered bytewise. Clones share the bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// `[namespace len][namespace][bytes]`
    raw: Bytes,
}

impl Key {
    /// The key as engines store it: `[namespace length u8][namespace][bytes]`.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Takes back what [`raw`](Self::raw) gave, checking it.
    ///
    /// # Errors
    /// `Invalid` when the bytes are no key.
    pub fn from_raw(raw: Bytes) -> Result<Self> {
        Self::check_raw(&raw)?;
        Ok(Self { raw })
    }

    /// Checks what [`from_raw`](Self::from_raw) checks, of bytes that are only looked at.
    ///
    /// # Errors
    /// `Invalid` when the bytes are no key.
    pub fn check_raw(raw: &[u8]) -> Result<()> {
        let bad = || StoreError::invalid("bytes are not a key: bad namespace prefix or length");
        let len = usize::from(*raw.first().ok_or_else(bad)?);
        let name = raw.get(1..=len).ok_or_else(bad)?;
        check_name(std::str::from_utf8(name).map_err(|_| bad())?)?;
        if raw.len() - 1 - len > MAX_KEY_LEN {
            return Err(bad());
        }
        Ok(())
    }

    /// The namespace it belongs to.
    pub fn namespace(&self) -> Namespace {
        Namespace { prefix: self.raw.slice(..self.split()) }
    }

    /// The prefix it shares with every key of its namespace; cheaper than [`namespace`](Self::namespace).
    pub fn namespace_prefix(&self) -> &[u8] {
        self.raw.get(..self.split()).unwrap_or_default()
    }

    /// The bytes inside the namespace.
    pub fn bytes(&self) -> &[u8] {
        self.raw.get(self.split()..).unwrap_or_default()
    }

    fn split(&self) -> usize {
        // INVARIANT: both constructors put a valid length byte first.
        let len = self.raw.first().map_or(0, |n| usize::from(*n));
        (1 + len).min(self.raw.len())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.namespace();
        write!(f, "{name}:{}", self.bytes().escape_ascii())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

impl std::borrow::Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.raw
    }
}

/// A half-open range of keys, `start <= key < end`. Made by [`Namespace::all`], [`Namespace::prefix`],
/// [`Namespace::range`] and, to go on after a page, by a scan itself.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRange {
    start: Bytes,
    end: Option<Bytes>,
}

impl KeyRange {
    /// Every key of every namespace; for tools that copy or verify a whole store.
    pub fn everything() -> Self {
        Self { start: Bytes::new(), end: None }
    }

    fn prefixed(prefix: Bytes) -> Self {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                return Self { start: prefix, end: Some(Bytes::from(end)) };
            }
        }
        Self { start: prefix, end: None }
    }

    /// The first raw key that may be in it.
    pub fn start(&self) -> &Bytes {
        &self.start
    }

    /// The first raw key after it; `None` for no end.
    pub fn end(&self) -> Option<&Bytes> {
        self.end.as_ref()
    }

    /// As bounds for an ordered map keyed by raw bytes. Never panics there: an empty range has
    /// equal bounds.
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let end = match &self.end {
            Some(end) if *end < self.start => Bound::Excluded(self.start.as_ref()),
            Some(end) => Bound::Excluded(end.as_ref()),
            None => Bound::Unbounded,
        };
        (Bound::Included(self.start.as_ref()), end)
    }

    /// True when no key can be in it.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// True when `key` is in it.
    pub fn contains(&self, key: &Key) -> bool {
        self.contains_raw(&key.raw)
    }

    /// True when the raw key is in it.
    pub fn contains_raw(&self, raw: &[u8]) -> bool {
        raw >= self.start.as_ref() && self.end.as_ref().is_none_or(|end| raw < end.as_ref())
    }

    /// What is left of it after `key`, going forward.
    #[must_use]
    pub fn after(&self, key: &Key) -> Self {
        let mut start = BytesMut::from(key.raw.as_ref());
        start.put_u8(0);
        Self { start: start.freeze().max(self.start.clone()), end: self.end.clone() }
    }

    /// What is left of it before `key`, going backward.
    #[must_use]
    pub fn before(&self, key: &Key) -> Self {
        let end = self.end.clone().map_or_else(|| key.raw.clone(), |end| end.min(key.raw.clone()));
        Self { start: self.start.clone(), end: Some(end) }
    }
}

impl fmt::Debug for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRange({}..", self.start.escape_ascii())?;
        match &self.end {
            Some(end) => write!(f, "{})", end.escape_ascii()),
            None => f.write_str(")"),
        }
    }
}
