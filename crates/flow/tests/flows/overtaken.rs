//! Who resumes a run that somebody else resumed, and brought to its end, in the meantime.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use resurge_flow::{Ctx, FlowError, Flows, FlowsOptions, RunState, StepError};
use resurge_store::{
    Batch, BoxFuture, CommitSeq, Durability, Key, KeyRange, MemoryStore, Namespace, Page, Result,
    ScanOptions, StateStore, Store, StoreInfo, Watch,
};
use tokio::sync::Notify;

/// A store that makes one reader of a journal's head wait.
#[derive(Debug)]
struct Slow {
    inner: MemoryStore,
    armed: AtomicBool,
    waits: Notify,
    goes_on: Notify,
}

#[derive(Clone, Debug)]
struct Shared(Arc<Slow>);

impl StateStore for Shared {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            if key.namespace().name() == "resurge/wal" && self.0.armed.swap(false, Ordering::SeqCst)
            {
                self.0.waits.notify_one();
                self.0.goes_on.notified().await;
            }
            self.0.inner.get(key).await
        })
    }

    fn scan(&self, range: KeyRange, options: ScanOptions) -> BoxFuture<'_, Result<Page>> {
        self.0.inner.scan(range, options)
    }

    fn commit(&self, batch: Batch, how: Durability) -> BoxFuture<'static, Result<CommitSeq>> {
        self.0.inner.commit(batch, how)
    }

    fn sync(&self) -> BoxFuture<'static, Result<()>> {
        self.0.inner.sync()
    }

    fn watch(&self, namespace: &Namespace) -> Watch {
        self.0.inner.watch(namespace)
    }

    fn info(&self) -> StoreInfo {
        self.0.inner.info()
    }

    fn close(&self) -> BoxFuture<'static, Result<()>> {
        self.0.inner.close()
    }
}

#[tokio::test]
async fn a_run_that_ended_well_meanwhile_is_not_resumed_again() {
    let slow = Shared(Arc::new(Slow {
        inner: MemoryStore::in_memory(),
        armed: AtomicBool::new(false),
        waits: Notify::new(),
        goes_on: Notify::new(),
    }));
    let flows = Flows::open(&Store::new(slow.clone()), FlowsOptions::default()).unwrap();
    let ran = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&ran);
    let flow = flows
        .register("once", move |ctx: Ctx, (): ()| {
            let counted = Arc::clone(&counted);
            async move {
                ctx.step("fails once", || async {
                    match counted.fetch_add(1, Ordering::SeqCst) {
                        0 => Err(StepError::permanent("not yet")),
                        n => Ok(n),
                    }
                })
                .await
            }
        })
        .unwrap();
    flows.start().await.unwrap();
    let run = flow.start("r", ()).await.unwrap();
    run.result().await.unwrap_err();

    // The first has read that the run failed, and is held up before it opens the journal.
    slow.0.armed.store(true, Ordering::SeqCst);
    let first = tokio::spawn({
        let run = run.clone();
        async move { run.resume().await }
    });
    slow.0.waits.notified().await;
    assert_eq!(run.resume().await.unwrap().result().await.unwrap(), 1);
    slow.0.goes_on.notify_one();
    let late = first.await.unwrap().unwrap_err();
    assert!(matches!(late, FlowError::NotFailed { state: RunState::Succeeded, .. }), "{late}");
    assert_eq!(run.state().await.unwrap(), RunState::Succeeded);
    assert_eq!(ran.load(Ordering::SeqCst), 2);
    flows.shutdown().await;
}
