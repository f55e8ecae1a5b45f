//! One task that wakes every run that is not resident, from one ordered map.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use resurge_store::Timestamp;
use tokio::sync::Notify;

use crate::engine::Engine;
use crate::signal::WOKEN;

/// Wall time may be set; it is looked at again at least this often.
const MAX_SLEEP: Duration = Duration::from_secs(3600);

#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: Mutex<BTreeSet<(Timestamp, Arc<str>)>>,
    changed: Arc<Notify>,
}

impl Timers {
    pub(crate) fn arm(&self, at: Timestamp, run: Arc<str>) {
        let first = {
            let mut due = self.due.lock();
            let first = due.first().is_none_or(|(first, _)| at < *first);
            due.insert((at, run));
            first
        };
        if first {
            self.changed.notify_one();
        }
    }

    pub(crate) fn disarm(&self, at: Timestamp, run: &Arc<str>) {
        self.due.lock().remove(&(at, Arc::clone(run)));
    }

    fn take_due(&self, now: Timestamp) -> (Vec<Arc<str>>, Option<Timestamp>) {
        let mut due = self.due.lock();
        let mut fired = Vec::new();
        while let Some((at, run)) = due.pop_first() {
            if at > now {
                due.insert((at, run));
                return (fired, Some(at));
            }
            fired.push(run);
        }
        (fired, None)
    }
}

/// Runs until the engine is gone or closes.
pub(crate) async fn run(engine: Weak<Engine>) {
    loop {
        let Some(strong) = engine.upgrade() else { return };
        if strong.is_closing() {
            return;
        }
        let now = strong.store.now();
        let (fired, next) = strong.timers.take_due(now);
        for run in fired {
            strong.wake(&run, WOKEN);
        }
        let clock = Arc::clone(strong.store.clock());
        let changed = Arc::clone(&strong.timers.changed);
        // Who waits keeps nothing alive.
        drop(strong);
        let Some(next) = next else {
            // Without a timer no time matters: whoever arms the first one says so.
            changed.notified().await;
            continue;
        };
        tokio::select! {
            () = clock.sleep(next.saturating_since(now).min(MAX_SLEEP)) => {}
            () = changed.notified() => {}
        }
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        self.poke();
    }
}

impl Timers {
    /// Lets the task look at the engine again.
    pub(crate) fn poke(&self) {
        self.changed.notify_one();
    }
}
