//! Runs one process's life: one thread, virtual time, until it returns, dies or cannot go on.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use resurge_store::VirtualClock;
use tokio::sync::Notify;
use tokio::task::JoinError;

use super::{Ending, Failure, SimStore};

/// A poisoned process may sleep this often before it counts as over.
const SLEEPS_AFTER_FAILURE: usize = 1_000;
/// What a blocking task gets to finish when its process is killed.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How a life ended.
#[derive(Debug)]
pub(super) enum Life {
    /// The task returned, whether or not the store still works.
    Returned(Result<(), Failure>),
    /// The store died and took the process with it.
    Died,
}

/// Runs the task that `start` makes, on the runtime it may spawn others on. When it returns or dies,
/// everything it spawned is dropped, with the store dead.
pub(super) fn live<F>(
    store: &SimStore,
    clock: &VirtualClock,
    patience: Duration,
    start: impl FnOnce() -> F,
) -> Result<Life, Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let stuck = Arc::new(Notify::new());
    let runtime = {
        let (store, clock, stuck) = (store.clone(), clock.clone(), Arc::clone(&stuck));
        let sleeps = AtomicUsize::new(0);
        // Called when no task can run.
        let idle = move || {
            if store.finish_in_flight() {
                return;
            }
            let slept = clock.advance_to_next();
            if store.has_crashed() {
                let sleeps = sleeps.fetch_add(1, Ordering::Relaxed);
                if !slept || sleeps > SLEEPS_AFTER_FAILURE {
                    stuck.notify_one();
                }
            }
        };
        tokio::runtime::Builder::new_current_thread().enable_time().on_thread_park(idle).build()?
    };
    let life = runtime.block_on(async {
        // A task of its own: the runtime parks only when it cannot run.
        let returned = tokio::spawn(start());
        let died = async {
            store.crashed().await;
            if store.is_poisoned() {
                // The process lives on, until it returns or waits for ever.
                stuck.notified().await;
            }
        };
        tokio::select! {
            biased;
            returned = returned => match returned {
                Ok(result) => Ok(Life::Returned(result)),
                Err(e) => Err(panic_message(e).into()),
            },
            () = died => Ok(Life::Died),
            () = hangs(patience) => Err(format!("hangs: nothing happened for {patience:?}").into()),
        }
    });
    // ORDER: dead before its tasks are dropped; a destructor must not commit any more.
    store.crash(Ending::Kill);
    runtime.shutdown_timeout(LAST_WORDS);
    life
}

async fn hangs(patience: Duration) {
    let never = tokio::time::timeout(patience, std::future::pending::<()>()).await;
    drop(never);
}

fn panic_message(ended: JoinError) -> String {
    match ended.try_into_panic() {
        Ok(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("panicked: {}", text.unwrap_or("without a message"))
        }
        Err(e) => format!("ended: {e}"),
    }
}
