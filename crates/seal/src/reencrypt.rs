//! Moving everything that is sealed to the active key: in batches, resumable, without stopping anybody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use resurge_store::{Batch, Durability, Entry, ErrorKind, Guard, KeyRange, ScanOptions, Store};

mod cursor;
mod records;
mod report;
mod visit;

pub use records::SealedRecords;
pub use report::{FailureClass, ReencryptFailure, ReencryptReport};
pub use visit::{Resealable, Unread, Visitor};

use crate::references::{References, Tally};
use crate::{Envelope, KeyId, KeyRing, Result, SealError};
use cursor::{Cursor, Position};

/// How often a record that others keep changing is read again before it is left to the next run.
const ATTEMPTS: usize = 16;

/// Seals everything anew that is not sealed with the active key; finds it by looking at what is stored, not
/// by asking a policy.
///
/// Each record is replaced only if it is still what was read, so writers lose nothing, and readers never
/// wait. Where it got to is stored with each batch: after a crash the next run goes on there.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::sync::Arc;
/// use resurge_seal::{Context, Decision, KeyRing, Reencrypt, SealedRecords, Sealer, SensitivePolicy};
/// use resurge_store::{Batch, Durability, Namespace, Record, Store};
/// let store = Store::memory();
/// let old = [1, 2, 3, 4].repeat(8);
/// let ring = KeyRing::builder().key(1, &old)?.open(&store, "main").await?;
/// let sealer = Sealer::new(ring.clone(), SensitivePolicy::new());
/// let key = Namespace::new("app")?.key("pin")?;
/// let stored = sealer.protect(&Context::new("app", "pins", "pin"), Decision::Seal, b"1234")?;
/// let mut batch = Batch::new();
/// batch.put(key.clone(), Record::new(stored).encode(&key));
/// store.commit(batch, Durability::Durable).await?;
///
/// ring.add(2, &[5, 6, 7, 8].repeat(8)).await?;
/// ring.promote(2).await?;
/// let pins = SealedRecords::new("pins", Namespace::new("app")?.all(), |key| {
///     Some(("app".into(), "pins".into(), String::from_utf8_lossy(key.bytes()).into()))
/// });
/// let job = Reencrypt::new(&store, &ring).over(pins);
/// assert!(ring.destroy(1, "rotated", &job.count().await?).await.is_err()); // still needed
/// assert_eq!(job.run().await?.resealed, 1);
/// ring.destroy(1, "rotated", &job.count().await?).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Reencrypt {
    store: Store,
    ring: KeyRing,
    over: Vec<Arc<dyn Resealable>>,
    batch: usize,
    pause: Duration,
}

impl Reencrypt {
    /// Over nothing yet.
    pub fn new(store: &Store, ring: &KeyRing) -> Self {
        let (store, ring) = (store.clone(), ring.clone());
        Self { store, ring, over: Vec::new(), batch: 100, pause: Duration::ZERO }
    }

    /// Adds a place where sealed values are. All of them must be added: what is not is neither sealed anew
    /// nor counted, and a key it needs may be destroyed.
    pub fn over(mut self, place: impl Resealable) -> Self {
        self.over.push(Arc::new(place));
        self
    }

    /// So many records are read, and at most so many written, at once; 100 by default.
    pub fn batch(mut self, records: usize) -> Self {
        self.batch = records.max(1);
        self
    }

    /// How long to rest between two batches; not at all by default.
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Counts what is sealed with which key, everywhere.
    ///
    /// # Errors
    /// The store's.
    pub async fn count(&self) -> Result<References> {
        let mut found = References {
            ring: self.ring.name().into(),
            // ORDER: before anything is read; what is sealed later with a retired key is seen by the revision.
            revision: self.ring.revision(),
            by_key: BTreeMap::new(),
            unreadable: 0,
        };
        for place in &self.over {
            let mut rest = Some(place.range());
            while let Some(range) = rest {
                let page = self.page(range).await?;
                rest = page.next;
                for entry in &page.entries {
                    let counted = count_entry(place.as_ref(), entry, &mut found.by_key);
                    found.unreadable += u64::from(counted.is_err());
                }
            }
        }
        Ok(found)
    }

    /// What [`run`](Self::run) would find, without writing anything: every sealed value is opened.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn dry_run(&self) -> Result<ReencryptReport> {
        self.go(true).await
    }

    /// Seals everything anew that is not sealed with the active key. Values that do not open are reported
    /// and left as they are.
    ///
    /// Durable batch by batch; a dropped future, like a crash, is taken up by the next run. Several at once
    /// do the same work twice, and no harm.
    ///
    /// # Errors
    /// `Invalid` without an active key, or with two places of one name; `KeyUnavailable`; the store's.
    pub async fn run(&self) -> Result<ReencryptReport> {
        self.go(false).await
    }

    async fn go(&self, dry: bool) -> Result<ReencryptReport> {
        self.ring.ready().await?;
        let target = self.ring.active_id();
        let target = target.ok_or_else(|| SealError::invalid("the ring has no active key"))?;
        let mut names: Vec<_> = self.over.iter().map(|place| place.name()).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() < self.over.len() {
            return Err(SealError::invalid("two places of one name would share their position"));
        }
        let mut report = ReencryptReport::new(target);
        let mut cursors = Vec::new();
        for place in &self.over {
            let cursor = Cursor::new(self.ring.name(), place.name())?;
            let from = if dry || place.is_fixed() {
                Position::Start
            } else {
                cursor.load(&self.store, target).await?
            };
            report.resumed |= from != Position::Start;
            if let Some(range) = from.rest_of(&place.range()) {
                self.go_over(place.as_ref(), range, &cursor, dry, &mut report).await?;
            }
            if !dry && !place.is_fixed() {
                cursor.save(&self.store, target, &Position::Done).await?;
                cursors.push(cursor);
            }
        }
        for cursor in cursors {
            cursor.delete(&self.store).await?;
        }
        Ok(report)
    }

    async fn go_over(
        &self,
        place: &dyn Resealable,
        range: KeyRange,
        cursor: &Cursor,
        dry: bool,
        report: &mut ReencryptReport,
    ) -> Result<()> {
        let mut rest = Some(range);
        while let Some(range) = rest {
            self.ring.ready().await?;
            let page = self.page(range).await?;
            rest = page.next;
            let Some(last) = page.entries.last().map(|entry| entry.key.clone()) else { break };
            let mut changed = Vec::new();
            for entry in page.entries {
                if let Some(new) = self.reseal(place, &entry, report)
                    && !dry
                {
                    changed.push((entry, new));
                }
            }
            if !dry && !place.is_fixed() {
                self.write(place, changed, cursor, &Position::After(last), report).await?;
            }
            if rest.is_some() && !self.pause.is_zero() {
                self.store.clock().sleep(self.pause).await;
            }
        }
        Ok(())
    }

    /// What the record should be, if it should be something else.
    fn reseal(
        &self,
        place: &dyn Resealable,
        entry: &Entry,
        report: &mut ReencryptReport,
    ) -> Option<Bytes> {
        let mut found = report::Found::default();
        let fixed = place.is_fixed();
        let rewritten = place.rewrite(
            &entry.key,
            &entry.value,
            &mut Visitor::new(&mut |context, bytes| {
                let envelope = match Envelope::parse(bytes) {
                    Ok(envelope) => envelope,
                    Err(what) => {
                        found.fail(SealError::Malformed { at: context.place(), what });
                        return None;
                    }
                };
                found.saw(envelope.key(), fixed);
                if fixed || envelope.key() == report.target {
                    return None;
                }
                match self.ring.reseal_same(context, bytes) {
                    Ok(new) => {
                        found.resealed += 1;
                        Some(new)
                    }
                    Err(e) => {
                        found.fail(e);
                        None
                    }
                }
            }),
        );
        report.add(place.name(), &entry.key, found, rewritten.as_ref().err());
        rewritten.ok().flatten().filter(|new| *new != entry.value)
    }

    /// Replaces what is still what was read, and moves the cursor.
    async fn write(
        &self,
        place: &dyn Resealable,
        changed: Vec<(Entry, Bytes)>,
        cursor: &Cursor,
        position: &Position,
        report: &mut ReencryptReport,
    ) -> Result<()> {
        let mut batch = Batch::new();
        for (entry, new) in &changed {
            batch.guard(entry.key.clone(), Guard::Exact(entry.value.clone()));
            batch.put(entry.key.clone(), new.clone());
        }
        cursor.put(&mut batch, report.target, position);
        // Nothing changed: losing the position costs another look, no more.
        let durability =
            if changed.is_empty() { Durability::Buffered } else { Durability::Durable };
        match self.store.commit(batch, durability).await {
            Ok(_) => {
                self.wrote(changed.len(), report);
                return Ok(());
            }
            Err(e) if e.kind() == ErrorKind::Conflict => {}
            Err(e) => return Err(e.into()),
        }
        // Somebody changed one of them: one by one.
        for (entry, new) in changed {
            self.write_one(place, entry, new, report).await?;
        }
        cursor.save(&self.store, report.target, position).await
    }

    async fn write_one(
        &self,
        place: &dyn Resealable,
        mut entry: Entry,
        mut new: Bytes,
        report: &mut ReencryptReport,
    ) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let mut batch = Batch::new();
            batch.guard(entry.key.clone(), Guard::Exact(entry.value.clone()));
            batch.put(entry.key.clone(), new);
            match self.store.commit(batch, Durability::Durable).await {
                Ok(_) => {
                    self.wrote(1, report);
                    return Ok(());
                }
                Err(e) if e.kind() == ErrorKind::Conflict => report.conflicts += 1,
                Err(e) => return Err(e.into()),
            }
            let Some(value) = self.store.get(&entry.key).await? else { return Ok(()) };
            entry.value = value;
            // Counted when it was first read.
            let mut again = ReencryptReport::new(report.target);
            let Some(next) = self.reseal(place, &entry, &mut again) else { return Ok(()) };
            new = next;
        }
        report.left += 1;
        Ok(())
    }

    fn wrote(&self, records: usize, report: &mut ReencryptReport) {
        report.rewritten += records as u64;
        self.ring.metrics().resealed.increment(records as u64);
    }

    async fn page(&self, range: KeyRange) -> Result<resurge_store::Page> {
        Ok(self.store.scan(range, ScanOptions::new().max_entries(self.batch)).await?)
    }
}

fn count_entry(
    place: &dyn Resealable,
    entry: &Entry,
    by_key: &mut BTreeMap<KeyId, Tally>,
) -> Result<(), ()> {
    let mut damaged = false;
    let visited = place.rewrite(
        &entry.key,
        &entry.value,
        &mut Visitor::new(&mut |_, bytes| {
            match Envelope::parse(bytes) {
                Ok(envelope) => by_key.entry(envelope.key()).or_default().add(place.is_fixed()),
                Err(_) => damaged = true,
            }
            None
        }),
    );
    match visited {
        Ok(_) | Err(Unread::NotOurs) if !damaged => Ok(()),
        _ => Err(()),
    }
}

impl Tally {
    pub(crate) fn add(&mut self, fixed: bool) {
        let count = if fixed { &mut self.fixed } else { &mut self.rewritable };
        *count = count.saturating_add(1);
    }
}
