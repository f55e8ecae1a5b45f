//! A store that can die after any commit and come back with any state a crash may leave.

use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use resurge_store::{
    Batch, BoxFuture, CommitSeq, Durability, DurableMeans, Entropy, ErrorKind, Key, KeyRange,
    MemoryMap, Namespace, Page, Result, ScanOptions, SeededEntropy, StateStore, StoreError,
    StoreInfo, Watch, WatchRegistry,
};
use tokio::sync::Notify;

use super::Ending;

/// How many calls later, at most, a commit nobody waits for is done.
const SLOWEST: u64 = 8;
/// How often, at most, a waiter is put off before its commit is done.
const PUT_OFF: u64 = 3;

/// A [`StateStore`] for simulations: deterministic, without threads, with a memory of what a crash
/// could still take.
///
/// A commit is checked and ordered when called, and becomes visible (and, if asked, durable) some
/// polls or calls later, as the seed decides; so commits overlap as they do on a disk. Clones share
/// the store. [`enumerate`](super::enumerate) drives it through every crash; by hand:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> resurge_store::Result<()> {
/// use resurge_store::{Batch, Durability, Namespace, StateStore};
/// use resurge_testkit::SimStore;
/// use resurge_testkit::sim::Ending;
///
/// let key = Namespace::new("app")?.key("k")?;
/// let mut batch = Batch::new();
/// batch.put(key.clone(), "v");
///
/// let store = SimStore::new(7);
/// store.commit(batch, Durability::Buffered).await?;
/// store.crash(Ending::Kill);
/// assert_eq!(store.cuts(), 0..=1); // nothing or one commit is left: nobody synced
/// assert_eq!(store.reopen_with(0).get(&key).await?, None);
/// assert_eq!(store.reopen_with(1).get(&key).await?, Some("v".into()));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct SimStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    published: MemoryMap,
    watches: WatchRegistry,
    crashed: Notify,
    chance: SeededEntropy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Closed,
    Crashed(Ending),
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// What was there at open.
    base: Vec<(Key, Bytes)>,
    base_seq: u64,
    /// Accepted since, oldest first; the first one is number `base_seq + 1`.
    log: Vec<Accepted>,
    /// How many of them readers see.
    published: usize,
    /// How many of them no crash takes.
    durable: usize,
    crash_after: Option<(usize, Ending)>,
    crash_reached: bool,
    calls: u64,
}

#[derive(Clone, Debug)]
struct Accepted {
    batch: Batch,
    durability: Durability,
    /// Done at this call, whoever makes it.
    due: u64,
}

impl SimStore {
    /// An empty store. The seed decides how long commits take.
    pub fn new(seed: u64) -> Self {
        Self::opened(Vec::new(), 0, seed)
    }

    fn opened(base: Vec<(Key, Bytes)>, base_seq: u64, seed: u64) -> Self {
        let published = MemoryMap::new();
        for (key, value) in &base {
            published.insert(key.clone(), value.clone());
        }
        let state = State {
            phase: Phase::Open,
            base,
            base_seq,
            log: Vec::new(),
            published: 0,
            durable: 0,
            crash_after: None,
            crash_reached: false,
            calls: 0,
        };
        let shared = Shared {
            state: Mutex::new(state),
            published,
            watches: WatchRegistry::new(),
            crashed: Notify::new(),
            chance: SeededEntropy::new(seed),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Dies as soon as `commits` commits have been accepted since open; the last one is then in flight.
    pub fn crash_after(&self, commits: usize, ending: Ending) {
        self.shared.state.lock().crash_after = Some((commits, ending));
    }

    /// Dies now, with whatever is in flight. A closed or crashed store stays what it is.
    pub fn crash(&self, ending: Ending) {
        self.die(&mut self.shared.state.lock(), ending);
    }

    /// Whether it died.
    pub fn has_crashed(&self) -> bool {
        matches!(self.shared.state.lock().phase, Phase::Crashed(_))
    }

    /// Whether it died where [`crash_after`](Self::crash_after) said.
    pub(super) fn reached_its_crash(&self) -> bool {
        self.shared.state.lock().crash_reached
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.shared.state.lock().phase == Phase::Crashed(Ending::Poison)
    }

    /// Resolves when it dies. One waiter.
    pub(super) async fn crashed(&self) {
        self.shared.crashed.notified().await;
    }

    /// How many commits were accepted since open.
    pub fn commits(&self) -> usize {
        self.shared.state.lock().log.len()
    }

    /// How many of them a crash now may leave, the oldest ones: from those known to be durable, to
    /// all, also those in flight.
    pub fn cuts(&self) -> RangeInclusive<usize> {
        let state = self.shared.state.lock();
        state.durable..=state.log.len()
    }

    /// How many of them a crash of the process alone leaves at least: what readers could see.
    pub fn visible(&self) -> usize {
        self.shared.state.lock().published
    }

    /// What opening finds after an orderly end: all of it.
    #[must_use]
    pub fn reopen(&self) -> Self {
        self.reopen_with(usize::MAX)
    }

    /// What opening finds when the oldest `keep` commits are left. One within [`cuts`](Self::cuts)
    /// is a state a real crash can leave. This store is not changed.
    #[must_use]
    pub fn reopen_with(&self, keep: usize) -> Self {
        let state = self.shared.state.lock();
        let survivors = MemoryMap::new();
        for (key, value) in &state.base {
            survivors.insert(key.clone(), value.clone());
        }
        let kept = state.log.get(..keep).unwrap_or(&state.log);
        survivors.apply(kept.iter().map(|accepted| &accepted.batch));
        let everything = ScanOptions::new().max_entries(usize::MAX).max_bytes(usize::MAX);
        let page = survivors.scan(&KeyRange::everything(), &everything).unwrap_or_default();
        let base = page.entries.into_iter().map(|e| (e.key, e.value)).collect();
        Self::opened(base, state.base_seq + kept.len() as u64, self.chance(u64::MAX))
    }

    /// Finishes what is in flight although nobody waits for it; whether there was anything.
    pub(super) fn finish_in_flight(&self) -> bool {
        let mut state = self.shared.state.lock();
        if state.phase != Phase::Open || state.published == state.log.len() {
            return false;
        }
        let all = state.log.len();
        self.settle(&mut state, all, false);
        true
    }

    /// A number below `n`.
    fn chance(&self, n: u64) -> u64 {
        self.shared.chance.next_u64().unwrap_or_default() % n.max(1)
    }

    /// Makes the first `upto` visible, and what is asked for durable.
    fn settle(&self, state: &mut State, upto: usize, all_durable: bool) {
        let fresh = state.log.get(state.published..upto).unwrap_or_default();
        self.shared.published.apply(fresh.iter().map(|accepted| &accepted.batch));
        self.shared.watches.published(fresh.iter().map(|accepted| &accepted.batch));
        let asked = fresh.iter().rposition(|accepted| accepted.durability == Durability::Durable);
        let durable = asked.map_or(0, |i| state.published + i + 1);
        state.durable = state.durable.max(durable).max(if all_durable { upto } else { 0 });
        state.published = state.published.max(upto);
    }

    fn die(&self, state: &mut State, ending: Ending) {
        if state.phase != Phase::Open {
            return;
        }
        state.phase = Phase::Crashed(ending);
        if ending == Ending::Poison {
            self.shared.watches.close();
        }
        self.shared.crashed.notify_one();
    }

    /// Counts a call, finishing commits that were overtaken by others. Ready to go on, refused, or
    /// (killed) never to return.
    fn enter(&self, state: &mut State) -> Gate {
        match state.phase {
            Phase::Open => {}
            Phase::Closed => return Gate::Refused(StoreError::closed("the store is closed")),
            Phase::Crashed(Ending::Kill) => return Gate::Dead,
            Phase::Crashed(Ending::Poison) => {
                let message = "the store was poisoned and must be reopened: simulated failure";
                return Gate::Refused(StoreError::closed(message));
            }
        }
        state.calls += 1;
        let due = state.log.iter().skip(state.published).take_while(|a| a.due <= state.calls);
        let upto = state.published + due.count();
        self.settle(state, upto, false);
        Gate::Open
    }

    fn check_guards(&self, state: &State, batch: &Batch) -> Result<()> {
        for (key, guard) in batch.guards() {
            let in_flight = state.log.get(state.published..).unwrap_or_default();
            let newest_first = in_flight.iter().rev().flat_map(|a| a.batch.ops().iter().rev());
            let mut ops = newest_first;
            let stored = match ops.find(|op| op.key() == key) {
                Some(op) => op.value().cloned(),
                None => self.shared.published.get(key),
            };
            if !guard.holds(stored.as_ref()) {
                return Err(StoreError::conflict(key.clone(), format!("{guard:?} does not hold")));
            }
        }
        Ok(())
    }

    /// Reads once the seeded delay is over.
    fn read<'a, T: Send + 'a>(
        &'a self,
        read: impl FnOnce() -> Result<T> + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        let put_off = self.chance(2);
        Box::pin(async move {
            for _ in 0..put_off {
                tokio::task::yield_now().await;
            }
            let gate = self.enter(&mut self.shared.state.lock());
            match gate {
                Gate::Open => read(),
                Gate::Refused(e) => Err(e),
                Gate::Dead => std::future::pending().await,
            }
        })
    }
}

enum Gate {
    Open,
    Refused(StoreError),
    Dead,
}

impl StateStore for SimStore {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.read(|| Ok(self.shared.published.get(key)))
    }

    fn scan(&self, range: KeyRange, options: ScanOptions) -> BoxFuture<'_, Result<Page>> {
        self.read(move || self.shared.published.scan(&range, &options))
    }

    fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<CommitSeq>> {
        if let Err(e) = batch.validate() {
            return Box::pin(std::future::ready(Err(e)));
        }
        let put_off = self.chance(PUT_OFF + 1);
        let due = self.chance(SLOWEST) + 1;
        let mut state = self.shared.state.lock();
        match self.enter(&mut state) {
            Gate::Open => {}
            Gate::Refused(e) => return Box::pin(std::future::ready(Err(e))),
            Gate::Dead => return Box::pin(std::future::pending()),
        }
        let outcome = self.check_guards(&state, &batch);
        let outcome = outcome.map(|()| {
            let due = state.calls + due;
            state.log.push(Accepted { batch, durability, due });
            CommitSeq(state.base_seq + state.log.len() as u64)
        });
        let upto = state.log.len();
        if let Some((commits, ending)) = state.crash_after
            && outcome.is_ok()
            && upto == commits
        {
            state.crash_reached = true;
            self.die(&mut state, ending);
        }
        // A conflict, too, is told only when what it conflicts with is durable.
        let durable = outcome.is_err();
        Box::pin(InFlight { store: self.clone(), upto, durable, outcome: Some(outcome), put_off })
    }

    fn sync(&self) -> BoxFuture<'static, Result<()>> {
        let mut state = self.shared.state.lock();
        match self.enter(&mut state) {
            Gate::Open => {}
            Gate::Refused(e) => return Box::pin(std::future::ready(Err(e))),
            Gate::Dead => return Box::pin(std::future::pending()),
        }
        let upto = state.log.len();
        drop(state);
        let put_off = self.chance(PUT_OFF + 1);
        let outcome = Some(Ok(CommitSeq(0)));
        let synced = InFlight { store: self.clone(), upto, durable: true, outcome, put_off };
        Box::pin(async { synced.await.map(|_| ()) })
    }

    fn watch(&self, namespace: &Namespace) -> Watch {
        self.shared.watches.watch(namespace)
    }

    fn info(&self) -> StoreInfo {
        StoreInfo::new("sim", DurableMeans::PowerLoss)
    }

    fn close(&self) -> BoxFuture<'static, Result<()>> {
        let mut state = self.shared.state.lock();
        let gate = self.enter(&mut state);
        if let Gate::Open = gate {
            let all = state.log.len();
            self.settle(&mut state, all, true);
            state.phase = Phase::Closed;
            self.shared.watches.close();
        }
        match (state.phase, gate) {
            (Phase::Crashed(_), Gate::Dead) => Box::pin(std::future::pending()),
            (Phase::Crashed(_), Gate::Refused(e)) => Box::pin(std::future::ready(Err(e))),
            _ => Box::pin(std::future::ready(Ok(()))),
        }
    }
}

/// A submitted call that waits for the simulated disk.
struct InFlight {
    store: SimStore,
    /// It is done when this many commits are.
    upto: usize,
    /// Not done before they are durable, whatever they asked for.
    durable: bool,
    outcome: Option<Result<CommitSeq>>,
    put_off: u64,
}

impl Future for InFlight {
    type Output = Result<CommitSeq>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let store = this.store.clone();
        let mut state = store.shared.state.lock();
        let done = state.published >= this.upto && (!this.durable || state.durable >= this.upto);
        if !done {
            match state.phase {
                Phase::Crashed(Ending::Kill) => return Poll::Pending,
                Phase::Crashed(Ending::Poison) => {
                    let message = "simulated failure: the outcome is unknown until reopened";
                    return Poll::Ready(Err(StoreError::new(ErrorKind::Indeterminate, message)));
                }
                Phase::Open | Phase::Closed if this.put_off > 0 => {
                    this.put_off -= 1;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Phase::Open | Phase::Closed => store.settle(&mut state, this.upto, this.durable),
            }
        }
        let polled_again = || Err(StoreError::closed("polled after it was ready"));
        Poll::Ready(this.outcome.take().unwrap_or_else(polled_again))
    }
}
