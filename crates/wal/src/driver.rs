//! The task that waits for commits, tells the waiting and submits what gathered meanwhile. It exists
//! while something is in flight or queued.

use std::sync::Arc;

use crate::chain::Commit;
use crate::log::Log;

/// How often the driver lets others run before it submits what has gathered.
const MAX_GATHER_ROUNDS: usize = 16;

enum Step {
    Await(Commit),
    Idle,
}

pub(crate) async fn run(mut abandoned: Abandoned) {
    let log = &abandoned.log;
    while let Step::Await(commit) = log.step() {
        let outcome = commit.await;
        let settled = log.settle(outcome).await;
        log.gather(settled).await;
    }
    abandoned.armed = false;
}

impl Log {
    fn step(&self) -> Step {
        let mut chain = self.chain.lock();
        loop {
            self.submit_ready_locked(&mut chain, true);
            if let Some(commit) = chain.in_flight.front_mut().and_then(|f| f.commit.take()) {
                return Step::Await(commit);
            }
            let mut intake = self.intake.lock();
            // ORDER: `running` ends under the intake's lock with nothing queued, or while a stage is
            // in between, whose end starts a driver again. No append is left without one.
            if intake.drafts.is_empty() || !chain.may_chain() {
                intake.running = false;
                break;
            }
        }
        drop(chain);
        self.changed.notify_waiters();
        Step::Idle
    }

    /// The records just settled wake their callers, who tend to append again. Submitting before they
    /// ran would make a page of one and leave the others to wait for it.
    async fn gather(&self, settled: u32) {
        let mut before = None;
        for _ in 0..MAX_GATHER_ROUNDS {
            if !self.chain.lock().in_flight.is_empty() {
                return;
            }
            let (gathered, full) = self.intake.lock().gathered();
            if full || gathered >= settled || before == Some(gathered) {
                return;
            }
            before = Some(gathered);
            tokio::task::yield_now().await;
        }
    }
}

/// The runtime dropped the driver, or it panicked: everybody who waits is told.
#[derive(Debug)]
pub(crate) struct Abandoned {
    log: Arc<Log>,
    armed: bool,
}

impl Abandoned {
    pub(crate) fn new(log: Arc<Log>) -> Self {
        Self { log, armed: true }
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        if self.armed {
            self.log.abandon();
        }
    }
}
