//! An engine that does what a test tells it, and remembers what it was told to do.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use resurge_store::{
    Batch, BoxFuture, CommitSeq, Durability, DurableMeans, Engine, ErrorKind, Group, GroupCommit,
    GroupOptions, Key, KeyRange, MemoryMap, Namespace, Page, Result, ScanOptions, StateStore,
    StoreError, StoreInfo,
};

/// How long a test waits for something that must happen before it fails.
const GUARD: Duration = Duration::from_secs(30);

/// What the committer did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// First sequence number and how many batches.
    Log(u64, usize),
    Sync,
    Publish(u64),
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Step {
    Log,
    Sync,
    Publish,
    Close,
    Get,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    Fail(ErrorKind),
    Panic,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<Event>,
    /// Steps that stop at their beginning until opened again.
    shut: BTreeSet<Step>,
    /// Steps someone stands before.
    waiting: HashMap<Step, usize>,
    trouble: HashMap<Step, VecDeque<Option<Trouble>>>,
}

/// The test's end of the engine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    state: Arc<(Mutex<State>, Condvar)>,
    map: Arc<MemoryMap>,
    last_seq: u64,
}

impl Script {
    pub(crate) fn starting_after(last_seq: u64) -> Self {
        Self { last_seq, ..Self::default() }
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.state.0.lock().events.clone()
    }

    /// Makes every such step stop at its beginning.
    pub(crate) fn shut(&self, step: Step) {
        self.state.0.lock().shut.insert(step);
    }

    pub(crate) fn open(&self, step: Step) {
        self.state.0.lock().shut.remove(&step);
        self.state.1.notify_all();
    }

    /// The next such step meets `trouble`.
    pub(crate) fn next(&self, step: Step, trouble: Trouble) {
        self.state.0.lock().trouble.entry(step).or_default().push_back(Some(trouble));
    }

    /// Lets one such step pass before the next `trouble` planned.
    pub(crate) fn pass(&self, step: Step) {
        self.state.0.lock().trouble.entry(step).or_default().push_back(None);
    }

    /// Waits until somebody stands before a shut step.
    pub(crate) fn wait_at(&self, step: Step) {
        self.wait(|state| state.waiting.get(&step).is_some_and(|n| *n > 0), &format!("{step:?}"));
    }

    pub(crate) fn wait_for(&self, event: &Event) {
        self.wait(|state| state.events.contains(event), &format!("{event:?}"));
    }

    fn wait(&self, mut reached: impl FnMut(&State) -> bool, what: &str) {
        let mut state = self.state.0.lock();
        while !reached(&state) {
            let timed_out = self.state.1.wait_for(&mut state, GUARD).timed_out();
            assert!(!timed_out, "{what} never came; so far {:?}", state.events);
        }
    }

    /// Waits while shut, then meets the planned trouble or records the event.
    fn step(&self, step: Step, event: Option<Event>) -> Result<()> {
        let (state, changed) = &*self.state;
        let mut state = state.lock();
        *state.waiting.entry(step).or_default() += 1;
        changed.notify_all();
        while state.shut.contains(&step) {
            let timed_out = changed.wait_for(&mut state, GUARD).timed_out();
            assert!(!timed_out, "{step:?} was never opened");
        }
        *state.waiting.entry(step).or_default() -= 1;
        let trouble = state.trouble.get_mut(&step).and_then(VecDeque::pop_front).flatten();
        // A failed step has happened all the same: what counts is that it is not repeated.
        state.events.extend(event);
        changed.notify_all();
        drop(state);
        match trouble {
            None => Ok(()),
            Some(Trouble::Fail(kind)) => Err(StoreError::new(kind, format!("scripted {step:?}"))),
            Some(Trouble::Panic) => panic!("scripted panic in {step:?}"),
        }
    }

    pub(crate) fn store(&self) -> GroupCommit<Scripted> {
        self.store_with(GroupOptions::default())
    }

    pub(crate) fn store_with(&self, options: GroupOptions) -> GroupCommit<Scripted> {
        GroupCommit::new(Scripted(self.clone()), options).unwrap()
    }
}

#[derive(Debug)]
pub(crate) struct Scripted(Script);

impl Engine for Scripted {
    fn last_seq(&self) -> CommitSeq {
        CommitSeq(self.0.last_seq)
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.0.step(Step::Get, None)?;
        Ok(self.0.map.get(key))
    }

    fn scan(&self, range: &KeyRange, options: &ScanOptions) -> Result<Page> {
        self.0.map.scan(range, options)
    }

    fn log(&self, group: &Group) -> Result<()> {
        self.0.step(Step::Log, Some(Event::Log(group.first.0, group.batches.len())))
    }

    fn sync(&self) -> Result<()> {
        self.0.step(Step::Sync, Some(Event::Sync))
    }

    fn publish(&self, group: &Arc<Group>) -> Result<()> {
        self.0.step(Step::Publish, Some(Event::Publish(group.first.0)))?;
        self.0.map.apply(&group.batches);
        Ok(())
    }

    fn info(&self) -> StoreInfo {
        StoreInfo::new("scripted", DurableMeans::ProcessLifetime)
    }

    fn close(&self) -> Result<()> {
        self.0.step(Step::Close, Some(Event::Close))
    }
}

pub(crate) type Outcome = BoxFuture<'static, Result<CommitSeq>>;

pub(crate) fn key(name: &str) -> Key {
    Namespace::new("group").unwrap().key(name).unwrap()
}

pub(crate) fn put(name: &str, value: &'static str) -> Batch {
    let mut batch = Batch::new();
    batch.put(key(name), value);
    batch
}

pub(crate) fn durable<S: StateStore>(store: &S, batch: Batch) -> Outcome {
    store.commit(batch, Durability::Durable)
}

pub(crate) fn buffered<S: StateStore>(store: &S, batch: Batch) -> Outcome {
    store.commit(batch, Durability::Buffered)
}

/// The outcome if there is one yet.
pub(crate) fn now<T>(future: &mut BoxFuture<'_, T>) -> Option<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// The outcome, waiting for it.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let outcome = runtime.block_on(async { tokio::time::timeout(GUARD, future).await });
    outcome.unwrap_or_else(|_| panic!("no outcome after {GUARD:?}"))
}

pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// What a reader sees.
pub(crate) fn read<S: StateStore>(store: &S, name: &str) -> Option<Bytes> {
    wait(store.get(&key(name))).unwrap()
}

/// An engine without a plan.
pub(crate) fn engine() -> Scripted {
    Scripted(Script::default())
}
