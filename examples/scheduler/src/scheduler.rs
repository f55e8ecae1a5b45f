//! The scheduler: a journaled [`Jobs`] machine and a pool of workers around it.
//!
//! Everything is logged before it counts: a job is durable before `submit` returns, a run before it
//! starts, its outcome before it is reported. So a crash can interrupt a run, never lose a job and
//! never repeat a run whose success was reported.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use resurge::journal::{JournalError, JournalOptions, Journaled};
use resurge::{Clock, Resurge};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::jobs::{Counts, Job, JobError, JobStatus, Jobs};

/// Slower than this deserves a look.
const SLOW_RECOVERY: Duration = Duration::from_secs(3);

/// A run under way.
pub type Running = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// What runs a job. An `Err`, a panic and a run over its timeout are failed runs.
pub trait Handler: Send + Sync + 'static {
    /// One run. It may be cut short by its timeout, and by the end of the process.
    fn run(&self, job: Job) -> Running;

    /// The outcome of a run is durable.
    fn settled(&self, id: &str, status: JobStatus);
}

/// How a scheduler works.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many jobs run at once.
    pub workers: u32,
    /// How often a snapshot is taken.
    pub snapshot_interval: Duration,
    /// How many snapshots are kept.
    pub snapshots_kept: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { workers: 8, snapshot_interval: Duration::from_secs(30), snapshots_kept: 5 }
    }
}

/// A job as it is submitted.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Unique for ever.
    pub id: String,
    /// What to do.
    pub payload: BTreeMap<String, String>,
    /// Runs it may have in all, 1 or more.
    pub max_retry: u32,
    /// How long one run may take.
    pub timeout: Duration,
}

impl NewJob {
    /// Three runs of three seconds each.
    pub fn new(id: impl Into<String>) -> Self {
        let timeout = Duration::from_secs(3);
        Self { id: id.into(), payload: BTreeMap::new(), max_retry: 3, timeout }
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// The request was refused; nothing was logged.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The journal failed; the scheduler has stopped.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The app could not open the journal.
    #[error(transparent)]
    App(#[from] resurge::Error),
}

/// How the scheduler came back.
#[derive(Clone, Copy, Debug)]
pub struct Recovered {
    /// Jobs in the snapshot that was loaded; 0 without one.
    pub snapshot_jobs: usize,
    /// Events replayed after it.
    pub replayed: u64,
    /// Jobs whose run died with the last process, and which wait for another.
    pub requeued: usize,
    /// All jobs there are.
    pub total: usize,
}

/// A running scheduler. Dropped without [`stop`](Self::stop), its runs are cut short, as in a crash.
pub struct Scheduler {
    shared: Arc<Shared>,
    workers: JoinSet<()>,
    stop: watch::Sender<bool>,
}

struct Shared {
    journal: Journaled<Jobs>,
    clock: Arc<dyn Clock>,
    handler: Arc<dyn Handler>,
    /// A job may be pending.
    work: Notify,
    /// Anything was logged.
    changed: Notify,
}

impl Scheduler {
    /// Recovers what an earlier process left, requeues the jobs it was running, and starts.
    ///
    /// # Errors
    /// When the journal cannot be recovered. Nothing runs then.
    pub async fn start(
        app: &Resurge,
        config: Config,
        handler: Arc<dyn Handler>,
    ) -> Result<(Self, Recovered), SchedulerError> {
        let options = JournalOptions {
            snapshot_interval: Some(config.snapshot_interval),
            retain: config.snapshots_kept,
            ..JournalOptions::default()
        };
        let (journal, report) = app.journal_with::<Jobs>("jobs", options).await?;
        let clock = Arc::clone(app.store().clock());
        let snapshot_jobs = journal.read(Jobs::in_snapshot).await?;
        if report.snapshot.is_some() {
            tracing::info!(lsn = %report.snapshot_lsn, jobs = snapshot_jobs, "Snapshot loaded");
        }
        for skipped in &report.fell_back {
            tracing::warn!(snapshot = %skipped.id, why = skipped.what, "Snapshot skipped");
        }
        let now = clock.now();
        // ORDER: requeued before any worker looks; nobody else runs those jobs any more.
        let requeued = journal
            .decide(|jobs| {
                let events = jobs.requeue_in_flight(now);
                let requeued = events.len();
                Ok::<_, JournalError>((events, requeued))
            })
            .await?;
        let total = journal.read(|jobs| jobs.counts().total()).await?;
        if !report.created {
            tracing::info!(
                replayed = report.replayed,
                requeued_jobs = requeued,
                duration = ?report.duration,
                "Recovery completed"
            );
        }
        if report.duration > SLOW_RECOVERY {
            tracing::warn!(duration = ?report.duration, "recovery was slow");
        }
        let shared = Arc::new(Shared {
            journal,
            clock,
            handler,
            work: Notify::new(),
            changed: Notify::new(),
        });
        let stop = watch::Sender::new(false);
        let mut workers = JoinSet::new();
        for worker in 0..config.workers {
            workers.spawn(Arc::clone(&shared).work_until(worker, stop.subscribe()));
        }
        let recovered = Recovered { snapshot_jobs, replayed: report.replayed, requeued, total };
        Ok((Self { shared, workers, stop }, recovered))
    }

    /// Takes a job in. On disk when it returns.
    ///
    /// # Errors
    /// `AlreadyExists`; nothing is logged then. Otherwise that of the journal.
    pub async fn submit(&self, new: NewJob) -> Result<(), SchedulerError> {
        let now = self.shared.clock.now();
        let job = Job {
            id: new.id,
            payload: new.payload,
            status: JobStatus::Pending,
            runs: 0,
            max_retry: new.max_retry,
            timeout: new.timeout,
            deadline: None,
            worker: None,
            last_error: None,
            created_at: now,
            updated_at: now,
        };
        let enqueue = |jobs: &Jobs| Ok::<_, SchedulerError>(([jobs.enqueue(job)?], ()));
        self.shared.journal.decide(enqueue).await?;
        self.shared.logged();
        Ok(())
    }

    /// How many jobs are where.
    ///
    /// # Errors
    /// That of the journal.
    pub async fn counts(&self) -> Result<Counts, SchedulerError> {
        Ok(self.shared.journal.read(Jobs::counts).await?)
    }

    /// Every job, by id.
    ///
    /// # Errors
    /// That of the journal.
    pub async fn jobs(&self) -> Result<Vec<Job>, SchedulerError> {
        Ok(self.shared.journal.read(|jobs| jobs.iter().cloned().collect()).await?)
    }

    /// Waits until the counts are as wanted.
    ///
    /// # Errors
    /// That of the journal.
    pub async fn wait_until(
        &self,
        wanted: impl Fn(Counts) -> bool,
    ) -> Result<Counts, SchedulerError> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let counts = self.counts().await?;
            if wanted(counts) {
                return Ok(counts);
            }
            changed.await;
        }
    }

    /// Takes a snapshot now and returns how many jobs there are.
    ///
    /// # Errors
    /// That of the journal.
    pub async fn snapshot(&self) -> Result<usize, SchedulerError> {
        let clock = &self.shared.clock;
        let start = clock.monotonic();
        self.shared.journal.snapshot_now().await?;
        let jobs = self.counts().await?.total();
        let duration = clock.monotonic().saturating_since(start);
        tracing::info!(?duration, jobs, "Snapshot taken");
        Ok(jobs)
    }

    /// Lets every run that has begun come to its end, and starts no other. The journal is closed, with
    /// a last snapshot, by the app.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.workers.join_next().await.is_some() {}
    }
}

impl Shared {
    async fn work_until(self: Arc<Self>, worker: u32, mut stop: watch::Receiver<bool>) {
        loop {
            let job = tokio::select! {
                biased;
                _ = stop.wait_for(|stopped| *stopped) => return,
                job = self.next_job(worker) => job,
            };
            let ran = match job {
                Ok(job) => self.run(job).await,
                Err(error) => Err(error),
            };
            if let Err(error) = ran {
                tracing::error!(worker, %error, "worker stopped");
                return;
            }
        }
    }

    /// The next pending job, marked in flight, durably.
    async fn next_job(&self, worker: u32) -> Result<Job, SchedulerError> {
        loop {
            let work = self.work.notified();
            tokio::pin!(work);
            work.as_mut().enable();
            let now = self.clock.now();
            let dispatch = |jobs: &Jobs| {
                let dispatched = jobs.dispatch(worker, now);
                let job = dispatched.as_ref().and_then(|event| jobs.as_if(event));
                Ok::<_, JournalError>((dispatched, job))
            };
            if let Some(job) = self.journal.decide(dispatch).await? {
                self.logged();
                return Ok(job);
            }
            work.await;
        }
    }

    async fn run(&self, job: Job) -> Result<(), SchedulerError> {
        let (id, run, timeout) = (job.id.clone(), job.runs, job.timeout);
        // On a task of its own, so that a panic is a failed run and not a lost worker.
        let mut running = JoinSet::new();
        let handler = Arc::clone(&self.handler);
        running.spawn(async move { handler.run(job).await });
        let outcome = tokio::select! {
            ended = running.join_next() => match ended {
                Some(Ok(outcome)) => outcome,
                Some(Err(panic)) => Err(format!("panicked: {panic}")),
                None => Err("did not run".to_owned()),
            },
            () = self.clock.sleep(timeout) => Err(format!("timed out after {timeout:?}")),
        };
        let now = self.clock.now();
        let settle = |jobs: &Jobs| {
            let event = match &outcome {
                Ok(()) => jobs.complete(&id, run, now)?,
                Err(why) => jobs.fail(&id, run, why, now)?,
            };
            let status = jobs.as_if(&event).map_or(JobStatus::Pending, |job| job.status);
            Ok::<_, SchedulerError>(([event], status))
        };
        match self.journal.decide(settle).await {
            Ok(status) => self.handler.settled(&id, status),
            // The run is not ours any more; its outcome does not count.
            Err(SchedulerError::Job(stale)) => tracing::debug!(%stale, "late result ignored"),
            Err(error) => return Err(error),
        }
        self.logged();
        Ok(())
    }

    fn logged(&self) {
        self.work.notify_one();
        self.changed.notify_waiters();
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}
