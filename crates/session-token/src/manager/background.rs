//! The task that removes expired sessions, as long as somebody has the manager.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Core, SessionManager};
use crate::error::{Result, SessionError};
use crate::indexed::CleanupReport;

/// What one run in the background looks at at most; the next one goes on.
const PER_RUN: u64 = 10_000;
/// And comes so soon when there was more, so that no more expire than are removed.
const GOES_ON_AFTER: Duration = Duration::from_secs(1);

pub(super) fn run(core: &Arc<Core>, interval: Duration) -> impl Future<Output = ()> + use<> {
    let (clock, stop) = (Arc::clone(core.backend.clock()), Arc::clone(&core.stop));
    // Not a handle: a manager that nobody has any more ends, and its task with it.
    let core: Weak<Core> = Arc::downgrade(core);
    async move {
        let mut more = false;
        loop {
            let longest = if more { interval.min(GOES_ON_AFTER) } else { interval };
            let Some(pause) = core.upgrade().map(|core| core.jittered(longest)) else { return };
            more = false;
            tokio::select! {
                biased;
                () = stop.notified() => return,
                () = clock.sleep(pause) => {}
            }
            let Some(core) = core.upgrade() else { return };
            match core.cleanup(PER_RUN).await {
                Ok(report) => {
                    more = report.more;
                    if report.failed > 0 {
                        let failed = report.failed;
                        tracing::warn!(failed, "sessions that cannot be read were left");
                    }
                }
                Err(SessionError::Closed) => return,
                // The next run tries again.
                Err(error) => tracing::warn!(class = error.class(), "cleanup of sessions failed"),
            }
        }
    }
}

impl Core {
    /// Give or take a tenth, so that many servers do not clean at once.
    fn jittered(&self, interval: Duration) -> Duration {
        let random = self.backend.entropy().next_u64().unwrap_or(u64::MAX / 2);
        let tenth = interval / 10;
        let thousandth = u32::try_from(random % 2_001).unwrap_or(1_000);
        interval.saturating_sub(tenth).saturating_add(tenth / 1_000 * thousandth)
    }

    async fn cleanup(&self, limit: u64) -> Result<CleanupReport> {
        let begun = self.backend.clock().monotonic();
        let _open = self.open()?;
        let indexed = self.backend.indexed("find what expired")?;
        let report = indexed.cleanup(limit).await?;
        let took = self.backend.clock().monotonic().saturating_since(begun);
        self.metrics.cleanup_seconds.record(took.as_secs_f64());
        self.metrics.cleanup_removed.add(report.removed);
        self.metrics.cleanup_failed.add(report.failed);
        self.metrics.set_entries(indexed.live().await?);
        Ok(report)
    }
}

impl SessionManager {
    /// Removes expired sessions, in commits of at most 200, until it has looked at `limit` of them. The background
    /// does it by itself. What cannot be read is counted and left, and what is renewed meanwhile stays; with
    /// [`more`](CleanupReport::more) the next call goes on behind them. Recoveries and saves go on
    /// meanwhile. Dropping the future leaves what it did so far.
    ///
    /// # Errors
    /// `Unsupported` with storage of your own; `Closed`; the store's, after what was removed so far.
    pub async fn cleanup_expired(&self, limit: u64) -> Result<CleanupReport> {
        self.core.cleanup(limit).await
    }
}
