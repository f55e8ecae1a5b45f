//! Faults on demand: fail the n-th call, hold calls back, count them, on top of any backend.

use std::collections::VecDeque;
use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use resurge_store::{
    Batch, BoxFuture, Clock, CommitSeq, Durability, ErrorKind, Key, KeyRange, Namespace, Page,
    Result, ScanOptions, StateStore, StoreError, StoreInfo, Watch,
};
use tokio::sync::{oneshot, watch};

/// A method of [`StateStore`] that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// [`StateStore::get`]
    Get,
    /// [`StateStore::scan`]
    Scan,
    /// [`StateStore::commit`]
    Commit,
    /// [`StateStore::sync`]
    Sync,
}

const CALLS: usize = 4;

/// How a call fails.
///
/// ```
/// use resurge_store::ErrorKind;
/// use resurge_testkit::Fault;
/// let lost = Fault::before(ErrorKind::Indeterminate); // reported as unknown, not applied
/// let kept = Fault::after(ErrorKind::Indeterminate); // reported as unknown, applied
/// let dead = Fault::before(ErrorKind::Indeterminate).poisoning(); // and everything after is Closed
/// # drop((lost, kept, dead));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    kind: ErrorKind,
    applied: bool,
    poisons: bool,
}

impl Fault {
    /// The call fails and the backend never hears of it.
    pub fn before(kind: ErrorKind) -> Self {
        Self { kind, applied: false, poisons: false }
    }

    /// The backend does what was asked, and the call fails all the same.
    pub fn after(kind: ErrorKind) -> Self {
        Self { kind, applied: true, poisons: false }
    }

    /// Every later call is `Closed`, as after a failed log or sync.
    #[must_use]
    pub fn poisoning(mut self) -> Self {
        self.poisons = true;
        self
    }

    fn error(self, call: Call) -> StoreError {
        StoreError::new(self.kind, format!("injected into {call:?}"))
    }
}

/// A [`StateStore`] that fails, waits and counts as told, on top of any other.
///
/// Clones share the script, so keep one to drive it. Without a script it changes nothing.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> resurge_store::Result<()> {
/// use resurge_store::{Batch, Durability, ErrorKind, MemoryStore, Store};
/// use resurge_testkit::{Call, Fault, FaultStore};
///
/// let faults = FaultStore::new(MemoryStore::in_memory());
/// let store = Store::new(faults.clone());
///
/// faults.fail(Call::Commit, 2, Fault::before(ErrorKind::Unavailable));
/// store.commit(Batch::new(), Durability::Durable).await?;
/// let second = store.commit(Batch::new(), Durability::Durable).await;
/// assert_eq!(second.unwrap_err().kind(), ErrorKind::Unavailable);
///
/// faults.hold();
/// let held = store.commit(Batch::new(), Durability::Durable);
/// assert_eq!(faults.held(), 1);
/// faults.release();
/// held.await?;
/// assert_eq!(faults.calls(Call::Commit), 3);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct FaultStore {
    inner: Arc<dyn StateStore>,
    script: Arc<Mutex<Script>>,
    /// Calls seen; tells those who wait for one.
    seen: Arc<watch::Sender<[u64; CALLS]>>,
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Script {
    faults: Vec<Planned>,
    always: Vec<(Call, Fault)>,
    holding: bool,
    held: VecDeque<Held>,
    delay: Option<(Arc<dyn Clock>, Duration)>,
    poisoned: bool,
}

struct Planned {
    call: Call,
    /// Counted as in `seen`.
    at: u64,
    fault: Fault,
}

type Submitted<T> = BoxFuture<'static, Result<T>>;

/// A call the backend has not been told of yet.
enum Held {
    Commit(Batch, Durability, Option<Fault>, oneshot::Sender<Submitted<CommitSeq>>),
    Sync(Option<Fault>, oneshot::Sender<Submitted<()>>),
}

impl FaultStore {
    /// On top of `inner`, changing nothing yet.
    pub fn new(inner: impl StateStore) -> Self {
        Self::from_arc(Arc::new(inner))
    }

    /// On top of a shared backend.
    pub fn from_arc(inner: Arc<dyn StateStore>) -> Self {
        Self { inner, script: Arc::default(), seen: Arc::new(watch::channel([0; CALLS]).0) }
    }

    /// Fails the `nth` such call from now; 1 is the next one.
    pub fn fail(&self, call: Call, nth: u64, fault: Fault) {
        let at = self.calls(call) + nth;
        self.script.lock().faults.push(Planned { call, at, fault });
    }

    /// Fails every such call until [`heal`](Self::heal).
    pub fn fail_always(&self, call: Call, fault: Fault) {
        self.script.lock().always.push((call, fault));
    }

    /// Forgets all faults and delays, and a poisoning. What is held stays held.
    pub fn heal(&self) {
        let mut script = self.script.lock();
        script.faults.clear();
        script.always.clear();
        script.delay = None;
        script.poisoned = false;
    }

    /// Refuses every call from now on with `Closed`, without closing what is below.
    pub fn poison(&self) {
        self.script.lock().poisoned = true;
    }

    /// Holds back commits and syncs: called in order, they reach the backend in that order when
    /// released. Nobody sees their effect before.
    pub fn hold(&self) {
        self.script.lock().holding = true;
    }

    /// How many calls are held back.
    pub fn held(&self) -> usize {
        self.script.lock().held.len()
    }

    /// Hands everything held to the backend and stops holding.
    pub fn release(&self) {
        let mut script = self.script.lock();
        script.holding = false;
        // ORDER: under the lock, so that a call made meanwhile comes after those that were held.
        while let Some(held) = script.held.pop_front() {
            self.submit(held);
        }
    }

    /// Hands the oldest `n` held calls to the backend and goes on holding. How many there were.
    pub fn release_next(&self, n: usize) -> usize {
        let mut script = self.script.lock();
        let n = n.min(script.held.len());
        for _ in 0..n {
            if let Some(held) = script.held.pop_front() {
                self.submit(held);
            }
        }
        n
    }

    /// Drops everything held, as a crash would: those calls are `Indeterminate`, nothing is written.
    pub fn drop_held(&self) {
        self.script.lock().held.clear();
    }

    /// Every commit is acknowledged so much later, by `clock`.
    pub fn delay_acks(&self, clock: impl Clock, by: Duration) {
        self.script.lock().delay = Some((Arc::new(clock), by));
    }

    /// How many such calls there were, failed and held ones included.
    pub fn calls(&self, call: Call) -> u64 {
        self.seen.borrow().get(call as usize).copied().unwrap_or_default()
    }

    /// Resolves when there were `n` such calls. For tests that must not sleep.
    pub async fn wait_for_calls(&self, call: Call, n: u64) {
        let reached = |seen: &[u64; CALLS]| seen.get(call as usize).is_some_and(|s| *s >= n);
        // The sender lives in `self`, so the channel stays open.
        drop(self.seen.subscribe().wait_for(reached).await);
    }

    /// Counts the call and finds out what becomes of it.
    fn enter(&self, script: &mut Script, call: Call) -> Result<Option<Fault>> {
        let mut now = 0;
        self.seen.send_modify(|seen| {
            if let Some(count) = seen.get_mut(call as usize) {
                *count += 1;
                now = *count;
            }
        });
        if script.poisoned {
            return Err(StoreError::closed("the store was poisoned by an injected fault"));
        }
        let planned = script.faults.iter().position(|p| p.call == call && p.at == now);
        let planned = planned.map(|i| script.faults.swap_remove(i).fault);
        let always = || script.always.iter().find(|(c, _)| *c == call).map(|(_, fault)| *fault);
        let fault = planned.or_else(always);
        script.poisoned |= fault.is_some_and(|fault| fault.poisons);
        Ok(fault)
    }

    fn submit(&self, held: Held) {
        // Whoever called may have dropped its future: submitted all the same.
        match held {
            Held::Commit(batch, durability, fault, caller) => {
                drop(caller.send(self.commit_now(batch, durability, fault)));
            }
            Held::Sync(fault, caller) => drop(caller.send(self.sync_now(fault))),
        }
    }

    fn commit_now(
        &self,
        batch: Batch,
        durability: Durability,
        fault: Option<Fault>,
    ) -> Submitted<CommitSeq> {
        match fault {
            Some(fault) if !fault.applied => Box::pin(ready(Err(fault.error(Call::Commit)))),
            _ => then_fail(self.inner.commit(batch, durability), Call::Commit, fault),
        }
    }

    fn sync_now(&self, fault: Option<Fault>) -> Submitted<()> {
        match fault {
            Some(fault) if !fault.applied => Box::pin(ready(Err(fault.error(Call::Sync)))),
            _ => then_fail(self.inner.sync(), Call::Sync, fault),
        }
    }
}

/// Waits for the call, then fails it all the same if that was planned.
fn then_fail<'a, T: Send + 'a>(
    call: BoxFuture<'a, Result<T>>,
    name: Call,
    fault: Option<Fault>,
) -> BoxFuture<'a, Result<T>> {
    match fault {
        None => call,
        Some(fault) => Box::pin(async move {
            let done = call.await;
            drop(done);
            Err(fault.error(name))
        }),
    }
}

/// Waits until a held call is released, then for its outcome.
async fn released<T>(submitted: oneshot::Receiver<Submitted<T>>) -> Result<T> {
    if let Ok(outcome) = submitted.await {
        return outcome.await;
    }
    let message = "held back and dropped by an injected fault";
    Err(StoreError::new(ErrorKind::Indeterminate, message))
}

impl StateStore for FaultStore {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>>> {
        match self.enter(&mut self.script.lock(), Call::Get) {
            Err(e) => Box::pin(ready(Err(e))),
            Ok(Some(fault)) if !fault.applied => Box::pin(ready(Err(fault.error(Call::Get)))),
            Ok(fault) => then_fail(self.inner.get(key), Call::Get, fault),
        }
    }

    fn scan(&self, range: KeyRange, options: ScanOptions) -> BoxFuture<'_, Result<Page>> {
        match self.enter(&mut self.script.lock(), Call::Scan) {
            Err(e) => Box::pin(ready(Err(e))),
            Ok(Some(fault)) if !fault.applied => Box::pin(ready(Err(fault.error(Call::Scan)))),
            Ok(fault) => then_fail(self.inner.scan(range, options), Call::Scan, fault),
        }
    }

    fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<CommitSeq>> {
        // ORDER: the backend is called under the lock, so that calls keep their order.
        let mut script = self.script.lock();
        let fault = match self.enter(&mut script, Call::Commit) {
            Ok(fault) => fault,
            Err(e) => return Box::pin(ready(Err(e))),
        };
        let outcome: Submitted<CommitSeq> = if script.holding {
            let (caller, submitted) = oneshot::channel();
            script.held.push_back(Held::Commit(batch, durability, fault, caller));
            Box::pin(released(submitted))
        } else {
            self.commit_now(batch, durability, fault)
        };
        match script.delay.clone() {
            None => outcome,
            Some((clock, by)) => Box::pin(async move {
                let outcome = outcome.await;
                clock.sleep(by).await;
                outcome
            }),
        }
    }

    fn sync(&self) -> BoxFuture<'static, Result<()>> {
        let mut script = self.script.lock();
        let fault = match self.enter(&mut script, Call::Sync) {
            Ok(fault) => fault,
            Err(e) => return Box::pin(ready(Err(e))),
        };
        if script.holding {
            let (caller, submitted) = oneshot::channel();
            script.held.push_back(Held::Sync(fault, caller));
            return Box::pin(released(submitted));
        }
        self.sync_now(fault)
    }

    fn watch(&self, namespace: &Namespace) -> Watch {
        self.inner.watch(namespace)
    }

    fn info(&self) -> StoreInfo {
        self.inner.info()
    }

    /// What is held goes to the backend first.
    fn close(&self) -> BoxFuture<'static, Result<()>> {
        self.release();
        self.inner.close()
    }
}
