//! Batches over two namespaces: applied whole or not at all, never less than was acknowledged.

use resurge_store::{
    Batch, Durability, Guard, Key, Namespace, Result, ScanOptions, Store, StoreError,
};
use resurge_testkit::Failure;
use tokio::task::JoinSet;

use crate::child::{Ending, Planted, say};
use crate::parent::Tally;

const WRITERS: u8 = 16;
/// Records a writer leaves behind itself.
const WINDOW: u64 = 200;

struct Keys {
    left: Namespace,
    right: Namespace,
    records: Namespace,
}

impl Keys {
    fn new() -> Result<Self> {
        Ok(Self {
            left: Namespace::new("crash/left")?,
            right: Namespace::new("crash/right")?,
            records: Namespace::new("crash/records")?,
        })
    }

    fn record(&self, writer: u8, n: u64) -> Result<Key> {
        let mut bytes = vec![writer];
        bytes.extend(n.to_be_bytes());
        self.records.key(bytes)
    }
}

/// What record `n` of a writer holds: mostly small, sometimes larger than a page of the index.
fn payload(writer: u8, n: u64) -> Vec<u8> {
    let len = if n.is_multiple_of(50) { 20_000 } else { 8 + n % 300 };
    let bytes = n.to_be_bytes().into_iter().chain(std::iter::repeat(writer));
    bytes.take(usize::try_from(len).unwrap_or(8)).collect()
}

async fn counter(store: &Store, key: &Key) -> Result<u64> {
    let Some(value) = store.get(key).await? else { return Ok(0) };
    let bytes = value.as_ref().try_into();
    bytes.map(u64::from_be_bytes).map_err(|_| StoreError::corrupt(key.clone(), "no counter"))
}

/// Starts the writers.
pub(crate) fn start(
    store: &Store,
    planted: Planted,
    ending: Ending,
    tasks: &mut JoinSet<Result<(), Failure>>,
) {
    for writer in 0..WRITERS {
        tasks.spawn(write(store.clone(), planted, ending, writer));
    }
}

async fn write(store: Store, planted: Planted, ending: Ending, writer: u8) -> Result<(), Failure> {
    let keys = Keys::new()?;
    let (left, right) = (keys.left.key([writer])?, keys.right.key([writer])?);
    let mut n = counter(&store, &left).await?;
    loop {
        let mut batch = Batch::new();
        batch.guard(left.clone(), Guard::of(store.get(&left).await?));
        n += 1;
        batch.put(left.clone(), n.to_be_bytes().to_vec());
        batch.put(keys.record(writer, n)?, payload(writer, n));
        if n > WINDOW {
            batch.delete(keys.record(writer, n - WINDOW)?);
        }
        if planted == Planted::Half {
            store.commit(std::mem::take(&mut batch), Durability::Durable).await?;
        }
        batch.put(right.clone(), n.to_be_bytes().to_vec());
        // A kill must not take Buffered commits either.
        let durability =
            if n.is_multiple_of(10) { Durability::Buffered } else { Durability::Durable };
        let commit = store.commit(batch, durability);
        if planted == Planted::EarlyBatch {
            say(&format!("batch {writer} {n}"))?;
        }
        let seq = commit.await?;
        let kept = durability == Durability::Durable || ending == Ending::Kill;
        if kept && planted != Planted::EarlyBatch {
            say(&format!("batch {writer} {n} {seq}"))?;
        }
    }
}

/// What the children said so far.
#[derive(Debug, Default)]
pub(crate) struct Told {
    newest: [u64; WRITERS as usize],
    /// The highest commit number of all earlier cycles, and of this one.
    seq_before: u64,
    seq: u64,
}

impl Told {
    /// Takes in `batch WRITER N SEQ`; the number of the commit may be missing.
    pub(crate) fn hear(&mut self, words: &[&str], tally: &mut Tally) -> Result<(), Failure> {
        let [writer, n, seq @ ..] = words else { return Err("a batch line has numbers".into()) };
        let n: u64 = n.parse()?;
        let seq: Option<u64> = seq.first().map(|seq| seq.parse()).transpose()?;
        let newest =
            self.newest.get_mut(writer.parse::<usize>()?).ok_or("there is no such writer")?;
        if n <= *newest {
            tally.disorder(&format!("writer {writer} got {n} again after {newest}"));
        }
        if let Some(seq) = seq.filter(|seq| *seq <= self.seq_before) {
            tally.disorder(&format!("commit {seq} after {} of an earlier life", self.seq_before));
        }
        *newest = n;
        self.seq = self.seq.max(seq.unwrap_or(0));
        Ok(())
    }

    /// Looks for all of it.
    pub(crate) async fn verify(&mut self, store: &Store, tally: &mut Tally) -> Result<(), Failure> {
        self.seq_before = self.seq;
        let keys = Keys::new()?;
        for (writer, told) in (0..).zip(self.newest) {
            let left = counter(store, &keys.left.key([writer])?).await?;
            let right = counter(store, &keys.right.key([writer])?).await?;
            if left != right {
                tally.half(&format!("writer {writer}: {left} on the left, {right} on the right"));
            }
            if left < told {
                tally.lost(told - left, &format!("writer {writer}: {told} told, {left} there"));
            }
            let mut there = 0;
            let mut rest = Some(keys.records.prefix([writer]));
            let first = left.saturating_sub(WINDOW) + 1;
            while let Some(range) = rest {
                let page = store.scan(range, ScanOptions::new()).await?;
                for entry in page.entries {
                    let n = first + there;
                    if entry.key != keys.record(writer, n)? || entry.value != payload(writer, n) {
                        tally.half(&format!("writer {writer}: {} is not record {n}", entry.key));
                    }
                    there += 1;
                }
                rest = page.next;
            }
            if there != left.min(WINDOW) {
                tally.half(&format!("writer {writer}: {there} records beside counter {left}"));
            }
        }
        Ok(())
    }
}
