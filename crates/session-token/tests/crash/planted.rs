//! Positive controls: on a store that gets one thing wrong, some crash must be noticed.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use resurge_store::{
    Batch, BoxFuture, CommitSeq, Durability, Key, KeyRange, Namespace, Op, Page, Result,
    ScanOptions, SeededEntropy, StateStore, Store, StoreInfo, VirtualClock, Watch,
};
use resurge_testkit::evidence;
use resurge_testkit::sim::Simulation;

use crate::{ending, rotating};

#[derive(Clone, Copy, Debug)]
enum Bug {
    /// `Durable` is done as `Buffered`.
    DurableIsBuffered,
    /// Acknowledged when called.
    EarlyAck,
    /// Every seventh commit is acknowledged and not done.
    CommitLost,
    /// The first operation of a batch is a commit of its own.
    BatchInPieces,
    /// Guards are not looked at.
    GuardsDropped,
    /// Nothing is ever deleted.
    DeletesDropped,
}

const BUGS: [Bug; 6] = [
    Bug::DurableIsBuffered,
    Bug::EarlyAck,
    Bug::CommitLost,
    Bug::BatchInPieces,
    Bug::GuardsDropped,
    Bug::DeletesDropped,
];

#[derive(Debug)]
struct Planted {
    inner: Store,
    bug: Bug,
    commits: AtomicU64,
}

impl Planted {
    fn on(store: &Store, clock: &VirtualClock, bug: Bug) -> Store {
        let planted = Self { inner: store.clone(), bug, commits: AtomicU64::new(0) };
        Store::new(planted).with_clock(clock.clone()).with_entropy(SeededEntropy::new(9))
    }

    fn changed(&self, batch: &Batch) -> Batch {
        let mut out = Batch::new();
        if !matches!(self.bug, Bug::GuardsDropped) {
            for (key, guard) in batch.guards() {
                out.guard(key.clone(), guard.clone());
            }
        }
        for op in batch.ops() {
            match op {
                Op::Put { key, value } => {
                    out.put(key.clone(), value.clone());
                }
                Op::Delete { .. } if matches!(self.bug, Bug::DeletesDropped) => {}
                Op::Delete { key } => {
                    out.delete(key.clone());
                }
            }
        }
        out
    }

    fn in_pieces(
        &self,
        batch: &Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<CommitSeq>> {
        let (mut first, mut rest) = (Batch::new(), Batch::new());
        for (key, guard) in batch.guards() {
            first.guard(key.clone(), guard.clone());
        }
        for (nth, op) in batch.ops().iter().enumerate() {
            let half = if nth == 0 { &mut first } else { &mut rest };
            match op {
                Op::Put { key, value } => half.put(key.clone(), value.clone()),
                Op::Delete { key } => half.delete(key.clone()),
            };
        }
        let inner = self.inner.clone();
        Box::pin(async move {
            let seq = inner.commit(first, durability).await?;
            if rest.ops().is_empty() { Ok(seq) } else { inner.commit(rest, durability).await }
        })
    }
}

impl StateStore for Planted {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.inner.get(key)
    }

    fn scan(&self, range: KeyRange, options: ScanOptions) -> BoxFuture<'_, Result<Page>> {
        self.inner.scan(range, options)
    }

    fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<CommitSeq>> {
        match self.bug {
            Bug::DurableIsBuffered => self.inner.commit(batch, Durability::Buffered),
            Bug::EarlyAck => {
                tokio::spawn(self.inner.commit(batch, durability));
                Box::pin(async { Ok(CommitSeq(1)) })
            }
            Bug::CommitLost if self.commits.fetch_add(1, Ordering::Relaxed) % 7 == 6 => {
                Box::pin(async { Ok(CommitSeq(1)) })
            }
            Bug::BatchInPieces => self.in_pieces(&batch, durability),
            Bug::CommitLost | Bug::GuardsDropped | Bug::DeletesDropped => {
                self.inner.commit(self.changed(&batch), durability)
            }
        }
    }

    fn sync(&self) -> BoxFuture<'static, Result<()>> {
        self.inner.sync()
    }

    fn watch(&self, namespace: &Namespace) -> Watch {
        self.inner.watch(namespace)
    }

    fn info(&self) -> StoreInfo {
        self.inner.info()
    }

    fn close(&self) -> BoxFuture<'static, Result<()>> {
        self.inner.close()
    }
}

#[test]
fn every_planted_bug_of_the_store_is_noticed() {
    for bug in BUGS {
        let wrap = |store: &Store, clock: &VirtualClock| Planted::on(store, clock, bug);
        let simulation = Simulation::new().max_cuts(4);
        let found = crate::run(&simulation, wrap)
            .and_then(|_| rotating::run(&simulation, wrap))
            .and_then(|_| ending::run(&simulation, wrap));
        assert!(found.is_err(), "{bug:?} is not noticed");
    }
    let all = BUGS.len();
    evidence("session-crash-planted", &format!("{all} of {all} planted bugs noticed"));
}
