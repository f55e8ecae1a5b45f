//! Positive controls: on a store that gets one thing wrong, the case that is about it must fail.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use bytes::Bytes;
use resurge_session_token::conformance::{CASES, check};
use resurge_store::{
    Batch, BoxFuture, CommitSeq, Durability, Key, KeyRange, MemoryStore, Namespace, Op, Page,
    Result, ScanOptions, StateStore, StoreInfo, Watch,
};
use resurge_testkit::evidence;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    GuardsIgnored,
    DeletesDropped,
    WritesDropped,
    IndexesDropped,
    CounterDropped,
    CutoffDropped,
    ScansEmpty,
    BytesFlipped,
}

#[derive(Debug)]
struct Buggy {
    inner: MemoryStore,
    bug: Bug,
}

impl Buggy {
    fn changed(&self, batch: &Batch) -> Batch {
        let mut out = Batch::new();
        if self.bug != Bug::GuardsIgnored {
            for (key, guard) in batch.guards() {
                out.guard(key.clone(), guard.clone());
            }
        }
        for op in batch.ops() {
            let kind = op.key().bytes().first().copied().unwrap_or_default();
            let dropped = match (self.bug, op) {
                (Bug::DeletesDropped, Op::Delete { .. }) | (Bug::WritesDropped, _) => true,
                (Bug::IndexesDropped, _) => matches!(kind, b'x' | b's' | b'o'),
                (Bug::CounterDropped, _) => kind == b'n',
                (Bug::CutoffDropped, _) => kind == b'b',
                _ => false,
            };
            match op {
                _ if dropped => {}
                Op::Delete { key } => {
                    out.delete(key.clone());
                }
                Op::Put { key, value } => {
                    out.put(key.clone(), value.clone());
                }
            }
        }
        out
    }
}

impl StateStore for Buggy {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            let mut found = self.inner.get(key).await?;
            if self.bug == Bug::GuardsIgnored {
                // All of those that race read before one of them writes.
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
            }
            if let (Bug::BytesFlipped, Some(value)) = (self.bug, &mut found) {
                let mut bytes = value.to_vec();
                if let Some(last) = bytes.iter_mut().nth_back(6) {
                    *last ^= 1;
                }
                *value = bytes.into();
            }
            Ok(found)
        })
    }

    fn scan(&self, range: KeyRange, options: ScanOptions) -> BoxFuture<'_, Result<Page>> {
        if self.bug == Bug::ScansEmpty {
            return Box::pin(async { Ok(Page::default()) });
        }
        self.inner.scan(range, options)
    }

    fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<CommitSeq>> {
        self.inner.commit(self.changed(&batch), durability)
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

const CAUGHT: &[(Bug, &[&str])] = &[
    (
        Bug::GuardsIgnored,
        &["s15_of_sixteen_one_wins_also_after_a_restart", "s17_no_update_is_lost"],
    ),
    (Bug::DeletesDropped, &["s19_what_ended_does_not_come_back", "s22_a_limit_evicts_or_rejects"]),
    (Bug::WritesDropped, &["s01_what_was_saved_comes_back"]),
    (Bug::IndexesDropped, &["s25_cleanup_survives_a_bad_record", "s35_subjects_are_revoked"]),
    (Bug::CounterDropped, &["s22_a_limit_evicts_or_rejects"]),
    (Bug::CutoffDropped, &["s35_everything_before_a_time_is_revoked"]),
    (Bug::ScansEmpty, &["s23_one_subject_cannot_evict_the_others"]),
    (Bug::BytesFlipped, &["s01_what_was_saved_comes_back"]),
];

async fn fails(bug: Bug, case: &'static str) -> Option<String> {
    let make = move || Arc::new(Buggy { inner: MemoryStore::in_memory(), bug });
    match tokio::spawn(check(case, make)).await {
        Ok(result) => result.err().map(|failure| failure.to_string()),
        Err(panicked) => Some(panicked.to_string()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_planted_bug_is_caught() {
    for (bug, cases) in CAUGHT {
        for case in *cases {
            let mut noticed = false;
            // A race is not lost every time.
            for _ in 0..20 {
                noticed = fails(*bug, case).await.is_some();
                if noticed {
                    break;
                }
            }
            assert!(noticed, "{bug:?} is not noticed by {case}");
        }
    }
    let all = CAUGHT.len();
    evidence("session-planted-bugs", &format!("{all} of {all} planted bugs caught"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_bug_every_case_passes() {
    for case in CASES {
        assert_eq!(fails(Bug::None, case.name).await, None, "{}", case.name);
    }
}
