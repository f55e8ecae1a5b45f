//! Positive controls: a backend with a planted bug must fail the case that is about it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use resurge_store::{
    Batch, BoxFuture, CommitSeq, Durability, Entry, ErrorKind, Guard, Key, KeyRange, MemoryStore,
    Namespace, Op, Page, Record, Result, ScanOptions, StateStore, StoreError, StoreInfo, Watch,
    WatchRegistry,
};
use resurge_testkit::conformance::{CASES, Harness, Verdict};
use resurge_testkit::{SimStore, evidence};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    None,
    GuardsSeePublishedOnly,
    GuardsSeeOwnOperations,
    GuardsIgnored,
    SubmittedWhenPolled,
    SubmittedOneCallLate,
    AppliedInPieces,
    OperationsBackwards,
    ConflictWithoutKey,
    ConflictIsUnavailable,
    EmptyValuesAreAbsent,
    EmptyBatchesSkipped,
    SequenceRepeats,
    PagesTorn,
    ReverseIgnored,
    PageLimitIgnored,
    ByteLimitIgnored,
    ValuesWithKeysOnly,
    RestOfPageForgotten,
    NextRepeatsLastKey,
    LargeValuesCut,
    LimitsNotNamed,
    WatchFiresBeforePublish,
    WatchOnWrongNamespace,
    WatchFiresOnRefusal,
    CloseForgotten,
    SecondCloseFails,
    UnavailableButWritten,
    SyncForgetsCommits,
    ForgetsLastCommitOnReopen,
    RevivesDeletesOnReopen,
    StartsSequenceAgainOnReopen,
    DeletingNothingRefused,
    LongBatchesCut,
    RefusedBatchesLeaveTraces,
    AcknowledgedUnseen,
    OtherNamespacesSkipped,
    ValuesEndAtZero,
    ConflictSpoilsTheNext,
    OrderedByLength,
    RangesHaveNoEnd,
    OneNamespaceAtATime,
    DeletedKeysScanned,
    NextNeedsItsKey,
    KeysCutAt1000,
    KeysEndAtZero,
    ReadsAlternate,
    IdleSyncFails,
    InfoIsWishful,
    ExpiresByItself,
    DamageIsAbsence,
}

const ALL: &[(Bug, &str)] = &[
    (Bug::GuardsSeePublishedOnly, "guards_see_commits_not_yet_acknowledged"),
    (Bug::GuardsSeePublishedOnly, "a_pipeline_of_compare_and_swaps_succeeds"),
    (Bug::GuardsSeePublishedOnly, "guards_see_deletes_not_yet_acknowledged"),
    (Bug::GuardsSeePublishedOnly, "one_creator_wins"),
    (Bug::GuardsSeeOwnOperations, "guards_are_checked_before_own_operations"),
    (Bug::GuardsIgnored, "each_guard_holds_and_refuses"),
    (Bug::GuardsIgnored, "a_refused_batch_changes_nothing"),
    (Bug::GuardsIgnored, "guarded_increments_lose_nothing"),
    (Bug::GuardsIgnored, "a_batch_of_guards_alone_decides"),
    (Bug::SubmittedWhenPolled, "a_commit_is_submitted_when_called"),
    (Bug::SubmittedWhenPolled, "a_dropped_future_still_commits"),
    (Bug::SubmittedWhenPolled, "calls_commit_in_call_order"),
    (Bug::SubmittedOneCallLate, "a_dropped_future_still_commits"),
    (Bug::AppliedInPieces, "a_page_never_tears_a_batch"),
    (Bug::AppliedInPieces, "a_refused_batch_changes_nothing"),
    (Bug::OperationsBackwards, "operations_apply_in_order"),
    (Bug::ConflictWithoutKey, "a_conflict_names_its_key"),
    (Bug::ConflictIsUnavailable, "each_guard_holds_and_refuses"),
    (Bug::EmptyValuesAreAbsent, "an_empty_value_is_present"),
    (Bug::EmptyBatchesSkipped, "an_empty_batch_commits"),
    (Bug::SequenceRepeats, "sequence_numbers_strictly_increase"),
    (Bug::SequenceRepeats, "calls_commit_in_call_order"),
    (Bug::SequenceRepeats, "both_durabilities_keep_one_order"),
    (Bug::PagesTorn, "a_page_never_tears_a_batch"),
    (Bug::ReverseIgnored, "reverse_is_the_exact_reverse"),
    (Bug::PageLimitIgnored, "pages_hold_at_most_what_was_asked"),
    (Bug::ByteLimitIgnored, "pages_hold_at_most_what_was_asked"),
    (Bug::ValuesWithKeysOnly, "keys_only_leaves_values_out"),
    (Bug::RestOfPageForgotten, "pages_cover_everything_once"),
    (Bug::RestOfPageForgotten, "a_page_holds_one_entry_at_least"),
    (Bug::NextRepeatsLastKey, "pages_cover_everything_once"),
    (Bug::LargeValuesCut, "a_value_of_16_mib_works"),
    (Bug::LargeValuesCut, "several_large_values_in_one_batch_work"),
    (Bug::LimitsNotNamed, "a_value_over_the_limit_is_invalid"),
    (Bug::LimitsNotNamed, "a_batch_over_the_limit_is_invalid"),
    (Bug::WatchFiresBeforePublish, "what_fired_is_readable"),
    (Bug::WatchOnWrongNamespace, "a_watch_is_armed_when_made"),
    (Bug::WatchOnWrongNamespace, "a_watch_wakes_who_waits"),
    (Bug::WatchOnWrongNamespace, "many_changes_wake_once"),
    (Bug::WatchOnWrongNamespace, "a_watch_sees_its_namespace_only"),
    (Bug::WatchOnWrongNamespace, "a_delete_fires"),
    (Bug::WatchOnWrongNamespace, "each_watch_sees_each_change"),
    (Bug::WatchFiresOnRefusal, "a_refused_batch_does_not_fire"),
    (Bug::CloseForgotten, "close_refuses_what_follows"),
    (Bug::CloseForgotten, "closing_ends_watches"),
    (Bug::SecondCloseFails, "close_is_idempotent"),
    (Bug::UnavailableButWritten, "unavailable_means_nothing_was_written"),
    (Bug::SyncForgetsCommits, "sync_covers_what_was_submitted"),
    (Bug::ForgetsLastCommitOnReopen, "everything_is_there_after_a_reopen"),
    (Bug::ForgetsLastCommitOnReopen, "what_was_dropped_unclosed_is_there_after_a_reopen"),
    (Bug::ForgetsLastCommitOnReopen, "large_values_are_there_after_a_reopen"),
    (Bug::ForgetsLastCommitOnReopen, "guards_hold_after_a_reopen"),
    (Bug::ForgetsLastCommitOnReopen, "close_keeps_what_was_submitted"),
    (Bug::RevivesDeletesOnReopen, "deletes_are_there_after_a_reopen"),
    (Bug::StartsSequenceAgainOnReopen, "sequence_numbers_go_on_after_a_reopen"),
    (Bug::DeletingNothingRefused, "deleting_nothing_is_fine"),
    (Bug::LongBatchesCut, "a_batch_of_ten_thousand_operations_applies"),
    (Bug::RefusedBatchesLeaveTraces, "a_refused_batch_is_no_basis_for_guards"),
    (Bug::AcknowledgedUnseen, "what_is_acknowledged_is_readable"),
    (Bug::OtherNamespacesSkipped, "a_batch_applies_to_all_its_namespaces"),
    (Bug::AcknowledgedUnseen, "writers_do_not_disturb_each_other"),
    (Bug::ConflictSpoilsTheNext, "a_conflict_does_not_disturb_its_neighbours"),
    (Bug::OrderedByLength, "entries_come_in_byte_order"),
    (Bug::RangesHaveNoEnd, "namespaces_do_not_leak_into_each_other"),
    (Bug::RangesHaveNoEnd, "ranges_respect_their_bounds"),
    (Bug::RangesHaveNoEnd, "an_empty_range_is_an_empty_page"),
    (Bug::OneNamespaceAtATime, "everything_spans_namespaces"),
    (Bug::DeletedKeysScanned, "a_scan_sees_overwritten_and_deleted_keys_as_they_are"),
    (Bug::DeletedKeysScanned, "get_and_scan_agree"),
    (Bug::NextNeedsItsKey, "paging_goes_on_while_keys_come_and_go"),
    (Bug::KeysCutAt1000, "the_smallest_and_largest_keys_work"),
    (Bug::ValuesEndAtZero, "every_byte_value_survives"),
    (Bug::KeysEndAtZero, "entries_come_in_byte_order"),
    (Bug::ReadsAlternate, "readers_never_see_time_go_back"),
    (Bug::IdleSyncFails, "sync_works_on_an_idle_store"),
    (Bug::InfoIsWishful, "info_names_the_backend_and_honest_limits"),
    (Bug::ExpiresByItself, "an_expired_record_is_hidden"),
    (Bug::ExpiresByItself, "an_expired_record_can_be_replaced"),
    (Bug::ExpiresByItself, "records_expire_by_the_injected_clock"),
    (Bug::DamageIsAbsence, "a_record_under_another_key_is_corrupt"),
    (Bug::DamageIsAbsence, "a_flipped_bit_is_corrupt"),
    (Bug::DamageIsAbsence, "sweep_leaves_what_is_no_record"),
    (Bug::RestOfPageForgotten, "remove_range_removes_the_range_and_nothing_else"),
    (Bug::RestOfPageForgotten, "sweep_deletes_expired_records_only"),
];

/// A store with one bug.
#[derive(Debug)]
struct Broken {
    bug: Bug,
    inner: Arc<dyn StateStore>,
    closed: AtomicBool,
    waiting: Mutex<Option<(Batch, Durability)>>,
    early: WatchRegistry,
    /// Keys of refused batches, of deletes, or what was read last; as the bug needs.
    traces: Mutex<Vec<Key>>,
    /// Reads, or commits; as the bug needs.
    calls: Arc<AtomicU64>,
}

fn now<T>(mut future: BoxFuture<'_, T>) -> Option<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// The key a store with bad keys uses.
fn mangled(bug: Bug, key: &Key) -> Key {
    let bytes = key.bytes();
    let cut = match bug {
        Bug::KeysCutAt1000 => bytes.len().min(1_000),
        Bug::KeysEndAtZero => bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len()),
        _ => bytes.len(),
    };
    key.namespace().key(&bytes[..cut]).unwrap()
}

fn rebuilt(ops: &[Op], guards: &[(Key, Guard)]) -> Batch {
    let mut batch = Batch::new();
    for (key, guard) in guards {
        batch.guard(key.clone(), guard.clone());
    }
    for op in ops {
        match op {
            Op::Put { key, value } => batch.put(key.clone(), value.clone()),
            Op::Delete { key } => batch.delete(key.clone()),
        };
    }
    batch
}

impl Broken {
    fn checked_here(&self, batch: &Batch) -> Result<()> {
        for (key, guard) in batch.guards() {
            let own = batch.ops().iter().rev().find(|op| op.key() == key);
            let stored = match own.filter(|_| self.bug == Bug::GuardsSeeOwnOperations) {
                Some(op) => op.value().cloned(),
                None => now(self.inner.get(key)).unwrap_or(Ok(None))?,
            };
            if !guard.holds(stored.as_ref()) {
                return Err(StoreError::conflict(key.clone(), "checked in the wrong place"));
            }
        }
        Ok(())
    }
}

impl StateStore for Broken {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>>> {
        let bug = self.bug;
        let odd = self.calls.fetch_add(1, Ordering::Relaxed) % 2 == 1;
        Box::pin(async move {
            let value = self.inner.get(&mangled(bug, key)).await?;
            let record = value.as_ref().map(|value| Record::decode(key, value));
            Ok(match bug {
                Bug::ValuesEndAtZero => value.map(|v| {
                    let end = v.iter().position(|b| *b == 0).unwrap_or(v.len());
                    v.slice(..end)
                }),
                Bug::ReadsAlternate if odd => None,
                Bug::ExpiresByItself => {
                    value.filter(|_| record.is_none_or(|r| r.is_ok_and(|r| r.expiry().is_none())))
                }
                Bug::DamageIsAbsence => value.filter(|_| record.is_none_or(|r| r.is_ok())),
                Bug::EmptyValuesAreAbsent => value.filter(|v| !v.is_empty()),
                Bug::LargeValuesCut => value.map(|v| v.slice(..v.len().min(4_000_000))),
                _ => value,
            })
        })
    }

    fn scan(&self, range: KeyRange, mut options: ScanOptions) -> BoxFuture<'_, Result<Page>> {
        match self.bug {
            Bug::ReverseIgnored => options.order = resurge_store::Order::Forward,
            Bug::PageLimitIgnored => options.max_entries = 1_000,
            Bug::ByteLimitIgnored => options.max_bytes = usize::MAX,
            Bug::ValuesWithKeysOnly => options.keys_only = false,
            _ => {}
        }
        Box::pin(async move {
            if self.bug == Bug::PagesTorn && options.max_entries > 1 {
                let half = ScanOptions { max_entries: 11, ..options.clone() };
                let mut page = self.inner.scan(range, half.clone()).await?;
                for _ in 0..20 {
                    let Some(rest) = page.next.take() else { break };
                    tokio::task::yield_now().await;
                    let more = self.inner.scan(rest, half.clone()).await?;
                    page.entries.extend(more.entries);
                    page.next = more.next;
                }
                return Ok(page);
            }
            if self.bug == Bug::NextNeedsItsKey
                && let Some((0, before)) = range.start().split_last()
                && let Ok(key) = Key::from_raw(Bytes::copy_from_slice(before))
                && self.inner.get(&key).await?.is_none()
            {
                return Ok(Page::default());
            }
            if self.bug == Bug::RangesHaveNoEnd {
                let all = ScanOptions { max_entries: 10_000, ..options.clone() };
                let mut page = self.inner.scan(KeyRange::everything(), all).await?;
                page.entries.retain(|entry| entry.key.raw() >= range.start());
                return Ok(page);
            }
            let mut page = self.inner.scan(range.clone(), options.clone()).await?;
            match self.bug {
                Bug::OrderedByLength => page.entries.sort_by_key(|e| e.key.bytes().len()),
                Bug::OneNamespaceAtATime => {
                    let first = page.entries.first().map(|e| e.key.namespace());
                    page.entries.retain(|e| Some(e.key.namespace()) == first);
                }
                Bug::DeletedKeysScanned => {
                    let deleted = self.traces.lock().clone();
                    let ghosts = deleted.into_iter().filter(|key| range.contains(key));
                    let value = Bytes::from("deleted");
                    page.entries.extend(ghosts.map(|key| Entry { key, value: value.clone() }));
                }
                Bug::DamageIsAbsence => {
                    page.entries.retain(|e| Record::decode(&e.key, &e.value).is_ok());
                }
                Bug::RestOfPageForgotten => page.next = None,
                Bug::NextRepeatsLastKey if page.entries.len() > 1 => {
                    let before_last = page.entries[page.entries.len() - 2].key.clone();
                    page.next = page.next.map(|_| match options.order {
                        resurge_store::Order::Forward => range.after(&before_last),
                        resurge_store::Order::Reverse => range.before(&before_last),
                    });
                }
                _ => {}
            }
            Ok(page)
        })
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each bug")]
    fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<CommitSeq>> {
        let inner = Arc::clone(&self.inner);
        let bare = || rebuilt(batch.ops(), &[]);
        match self.bug {
            Bug::GuardsSeePublishedOnly | Bug::GuardsSeeOwnOperations => {
                match self.checked_here(&batch) {
                    Ok(()) => inner.commit(bare(), durability),
                    Err(e) => Box::pin(std::future::ready(Err(e))),
                }
            }
            Bug::GuardsIgnored => inner.commit(bare(), durability),
            Bug::SubmittedWhenPolled => {
                Box::pin(async move { inner.commit(batch, durability).await })
            }
            Bug::SubmittedOneCallLate => {
                let late = self.waiting.lock().replace((batch, durability));
                if let Some((batch, durability)) = late {
                    drop(inner.commit(batch, durability));
                }
                Box::pin(std::future::ready(Ok(CommitSeq(0))))
            }
            Bug::AppliedInPieces => {
                let (first, rest) = batch.ops().split_at(batch.ops().len() / 2);
                drop(inner.commit(rebuilt(first, &[]), durability));
                let rest = rebuilt(rest, batch.guards());
                Box::pin(async move {
                    tokio::task::yield_now().await;
                    inner.commit(rest, durability).await
                })
            }
            Bug::OperationsBackwards => {
                let ops: Vec<Op> = batch.ops().iter().rev().cloned().collect();
                inner.commit(rebuilt(&ops, batch.guards()), durability)
            }
            Bug::ConflictWithoutKey | Bug::ConflictIsUnavailable | Bug::LimitsNotNamed => {
                let wrong = match self.bug {
                    Bug::ConflictWithoutKey => (ErrorKind::Conflict, ErrorKind::Conflict),
                    Bug::ConflictIsUnavailable => (ErrorKind::Conflict, ErrorKind::Unavailable),
                    _ => (ErrorKind::Invalid, ErrorKind::Invalid),
                };
                let outcome = inner.commit(batch, durability);
                Box::pin(async move {
                    outcome.await.map_err(|e| match wrong {
                        (from, to) if e.kind() == from => StoreError::new(to, "something is wrong"),
                        _ => e,
                    })
                })
            }
            Bug::DeletingNothingRefused => {
                let missing = |op: &&Op| {
                    op.value().is_none()
                        && now(self.inner.get(op.key())).is_none_or(|v| v.unwrap().is_none())
                };
                if batch.ops().iter().any(|op| missing(&op)) {
                    let e = StoreError::invalid("there is nothing to delete");
                    return Box::pin(std::future::ready(Err(e)));
                }
                inner.commit(batch, durability)
            }
            Bug::OtherNamespacesSkipped => {
                let first = batch.ops()[0].key().namespace();
                let own = batch.ops().iter().filter(|op| op.key().namespace() == first);
                let own: Vec<Op> = own.cloned().collect();
                inner.commit(rebuilt(&own, batch.guards()), durability)
            }
            Bug::LongBatchesCut => {
                let most = batch.ops().len().min(9_000);
                inner.commit(rebuilt(&batch.ops()[..most], batch.guards()), durability)
            }
            Bug::RefusedBatchesLeaveTraces => {
                let mut traces = self.traces.lock();
                for (key, guard) in batch.guards() {
                    if *guard == Guard::Absent && traces.contains(key) {
                        let e = StoreError::conflict(key.clone(), "a refused batch wrote it");
                        return Box::pin(std::future::ready(Err(e)));
                    }
                }
                if batch.guards().iter().any(|(_, guard)| *guard == Guard::Present) {
                    traces.extend(batch.ops().iter().map(|op| op.key().clone()));
                }
                inner.commit(batch, durability)
            }
            Bug::AcknowledgedUnseen => {
                drop(inner.commit(batch, durability));
                let seq = self.calls.fetch_add(1, Ordering::Relaxed) / 2;
                Box::pin(std::future::ready(Ok(CommitSeq(seq))))
            }
            Bug::ConflictSpoilsTheNext => {
                let refused = batch.guards().iter().any(|(_, guard)| *guard == Guard::Present);
                if self.closed.swap(refused, Ordering::Relaxed) {
                    let e = StoreError::new(ErrorKind::Unavailable, "still upset");
                    return Box::pin(std::future::ready(Err(e)));
                }
                inner.commit(batch, durability)
            }
            Bug::DeletedKeysScanned => {
                let deleted = batch.ops().iter().filter(|op| op.value().is_none());
                self.traces.lock().extend(deleted.map(|op| op.key().clone()));
                inner.commit(batch, durability)
            }
            Bug::KeysCutAt1000 | Bug::KeysEndAtZero => {
                let mut cut = Batch::new();
                for op in batch.ops() {
                    let key = mangled(self.bug, op.key());
                    match op.value() {
                        Some(value) => cut.put(key, value.clone()),
                        None => cut.delete(key),
                    };
                }
                inner.commit(cut, durability)
            }
            Bug::EmptyBatchesSkipped if batch.is_empty() => {
                Box::pin(std::future::ready(Ok(CommitSeq(0))))
            }
            Bug::SequenceRepeats => {
                let outcome = inner.commit(batch, durability);
                Box::pin(async move { outcome.await.map(|seq| CommitSeq(seq.0 / 2)) })
            }
            Bug::WatchFiresBeforePublish => {
                self.early.published([&batch]);
                let reads = Arc::clone(&self.calls);
                let before = reads.load(Ordering::Relaxed);
                Box::pin(async move {
                    // Long enough for whoever was woken to look.
                    for _ in 0..1_000_000 {
                        if reads.load(Ordering::Relaxed) > before {
                            break;
                        }
                        tokio::task::yield_now().await;
                    }
                    inner.commit(batch, durability).await
                })
            }
            Bug::WatchFiresOnRefusal => {
                self.early.published([&batch]);
                inner.commit(batch, durability)
            }
            Bug::UnavailableButWritten if batch.size() > 1 << 20 => {
                let untouched = batch.ops()[0].key().bytes() != b"5";
                let outcome = inner.commit(batch, durability);
                Box::pin(async move {
                    let seq = outcome.await?;
                    let lie = StoreError::new(ErrorKind::Unavailable, "or was it?");
                    if untouched { Ok(seq) } else { Err(lie) }
                })
            }
            Bug::SyncForgetsCommits if durability == Durability::Buffered => {
                Box::pin(async move { inner.commit(batch, durability).await })
            }
            _ => inner.commit(batch, durability),
        }
    }

    fn sync(&self) -> BoxFuture<'static, Result<()>> {
        if self.bug == Bug::IdleSyncFails && self.calls.load(Ordering::Relaxed) == 0 {
            let e = StoreError::new(ErrorKind::Unavailable, "there is nothing to sync");
            return Box::pin(std::future::ready(Err(e)));
        }
        self.inner.sync()
    }

    fn watch(&self, namespace: &Namespace) -> Watch {
        match self.bug {
            Bug::WatchFiresBeforePublish | Bug::WatchFiresOnRefusal => self.early.watch(namespace),
            Bug::WatchOnWrongNamespace => self.inner.watch(&Namespace::new("another-one").unwrap()),
            _ => self.inner.watch(namespace),
        }
    }

    fn info(&self) -> StoreInfo {
        let mut info = self.inner.info();
        if self.bug == Bug::InfoIsWishful {
            info.max_value_bytes *= 2;
        }
        info
    }

    fn close(&self) -> BoxFuture<'static, Result<()>> {
        match self.bug {
            Bug::CloseForgotten => Box::pin(std::future::ready(Ok(()))),
            Bug::SecondCloseFails if self.closed.load(Ordering::Relaxed) => {
                Box::pin(std::future::ready(Err(StoreError::closed("already"))))
            }
            _ => {
                self.closed.store(true, Ordering::Relaxed);
                self.inner.close()
            }
        }
    }
}

/// A backend that keeps its state, badly.
struct Kept {
    bug: Bug,
    disk: Mutex<SimStore>,
}

impl Kept {
    fn broken(&self, inner: Arc<dyn StateStore>) -> Arc<dyn StateStore> {
        let (closed, waiting) = (AtomicBool::new(false), Mutex::new(None));
        let (early, traces) = (WatchRegistry::new(), Mutex::new(Vec::new()));
        let calls = Arc::default();
        Arc::new(Broken { bug: self.bug, inner, closed, waiting, early, traces, calls })
    }
}

impl Harness for Kept {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn StateStore>>> {
        // Two bugs show only beside threads that commit on their own.
        let threads = [Bug::PagesTorn, Bug::AppliedInPieces].contains(&self.bug);
        let store: Arc<dyn StateStore> = if threads {
            Arc::new(MemoryStore::in_memory())
        } else {
            Arc::new(self.disk.lock().clone())
        };
        let store = self.broken(store);
        Box::pin(async { Ok(store) })
    }

    fn reopen(&self) -> Option<BoxFuture<'_, Result<Arc<dyn StateStore>>>> {
        let mut disk = self.disk.lock();
        let bug = self.bug;
        *disk = match bug {
            Bug::ForgetsLastCommitOnReopen => disk.reopen_with(disk.commits().saturating_sub(1)),
            _ => disk.reopen(),
        };
        let fresh = SimStore::new(9);
        let store = disk.clone();
        let broken: Arc<dyn StateStore> = if bug == Bug::StartsSequenceAgainOnReopen {
            self.broken(Arc::new(fresh))
        } else {
            self.broken(Arc::new(store.clone()))
        };
        Some(Box::pin(async move {
            if bug == Bug::RevivesDeletesOnReopen {
                let mut batch = Batch::new();
                batch.put(Namespace::new("conformance")?.key("3")?, "v");
                store.commit(batch, Durability::Durable).await?;
            }
            Ok(broken)
        }))
    }
}

fn outcome(bug: Bug, name: &str) -> Result<Verdict, String> {
    let case = CASES.iter().find(|case| case.name == name).unwrap();
    let harness = Kept { bug, disk: Mutex::new(SimStore::new(5)) };
    // Two bugs show by waiting for ever.
    let patience = if hangs(bug) { 500 } else { 60_000 };
    case.check(harness, Duration::from_millis(patience)).map_err(|e| e.to_string())
}

fn hangs(bug: Bug) -> bool {
    matches!(bug, Bug::WatchFiresBeforePublish | Bug::WatchOnWrongNamespace | Bug::CloseForgotten)
}

#[test]
fn every_planted_bug_is_caught() {
    let mut missed = Vec::new();
    for (bug, case) in ALL {
        match outcome(*bug, case) {
            Err(e) if !hangs(*bug) && e.contains("hangs") => {
                missed.push(format!("{bug:?} hangs in {case}"));
            }
            Err(_) => {}
            Ok(verdict) => missed.push(format!("{bug:?} passes {case}: {verdict:?}")),
        }
    }
    assert_eq!(missed, Vec::<String>::new());
    let bugs = ALL.iter().map(|(bug, _)| format!("{bug:?}"));
    let bugs: std::collections::BTreeSet<String> = bugs.collect();
    let line = format!("{} planted backend bugs in {} cases, all caught", bugs.len(), ALL.len());
    evidence("testkit-conformance-controls", &line);
}

#[test]
fn without_a_bug_the_same_cases_pass() {
    for case in CASES {
        assert_eq!(outcome(Bug::None, case.name), Ok(Verdict::Passed), "{}", case.name);
    }
}

#[test]
fn every_case_has_a_control() {
    let controlled = |name: &&str| ALL.iter().any(|(_, case)| case == name);
    let names = CASES.iter().map(|case| case.name);
    assert_eq!(names.filter(|name| !controlled(name)).collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn cases_are_named_once() {
    let mut names: Vec<_> = CASES.iter().map(|case| case.name).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}
