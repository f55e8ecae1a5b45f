//! The scheduler's state: a pure machine. What happened goes in as events, nothing comes out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use resurge::Timestamp;
use resurge::journal::StateMachine;
use serde::{Deserialize, Serialize};

/// What a job is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Waits for a worker.
    Pending,
    /// A worker runs it, or did when the process died.
    InFlight,
    /// Done and acknowledged; never run again.
    Completed,
    /// Out of runs; kept for people to look at.
    Dead,
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Chosen by the submitter, unique for ever.
    pub id: String,
    /// What to do.
    pub payload: BTreeMap<String, String>,
    /// Where it stands.
    pub status: JobStatus,
    /// Runs started so far.
    pub runs: u32,
    /// Runs it may have in all.
    pub max_retry: u32,
    /// How long one run may take.
    pub timeout: Duration,
    /// When the current run is given up.
    pub deadline: Option<Timestamp>,
    /// Who runs it.
    pub worker: Option<u32>,
    /// Why the last run failed.
    pub last_error: Option<String>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When its status last changed.
    pub updated_at: Timestamp,
}

/// What happened. The journal holds these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A job was submitted.
    Enqueued(Box<Job>),
    /// A run was started.
    Dispatched {
        /// Which job.
        id: String,
        /// By whom.
        worker: u32,
        /// When.
        at: Timestamp,
    },
    /// A run succeeded.
    Completed {
        /// Which job.
        id: String,
        /// When.
        at: Timestamp,
    },
    /// A run failed, timed out or died with the process; the job waits for another.
    Requeued {
        /// Which job.
        id: String,
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// A run failed and it was the last one allowed.
    Died {
        /// Which job.
        id: String,
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
}

/// Why a request was refused. Nothing was logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The id was used before, whatever became of that job.
    #[error("job {0} already exists")]
    AlreadyExists(String),
    /// No such job.
    #[error("job {0} not found")]
    NotFound(String),
    /// That run is over: it timed out, or the job was given to another worker since.
    #[error("run {run} of job {id} is not in flight")]
    NotInFlight {
        /// Which job.
        id: String,
        /// Which run.
        run: u32,
    },
}

/// How many jobs are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Waiting.
    pub pending: usize,
    /// Running.
    pub in_flight: usize,
    /// Done.
    pub completed: usize,
    /// Given up.
    pub dead: usize,
}

impl Counts {
    /// All of them.
    pub fn total(self) -> usize {
        self.pending + self.in_flight + self.completed + self.dead
    }
}

/// Every job ever submitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jobs {
    by_id: BTreeMap<String, Job>,
    /// Pending ones in the order they are to run.
    queue: VecDeque<String>,
    /// How many there were in the snapshot this began with.
    in_snapshot: usize,
}

/// Jobs as a snapshot holds them.
#[derive(Debug, Serialize, Deserialize)]
pub struct FrozenJobs {
    by_id: BTreeMap<String, Job>,
    queue: VecDeque<String>,
}

impl StateMachine for Jobs {
    type Event = Event;
    type Frozen = FrozenJobs;

    fn apply(&mut self, event: &Event) {
        self.happened(event);
    }

    fn freeze(&self) -> FrozenJobs {
        FrozenJobs { by_id: self.by_id.clone(), queue: self.queue.clone() }
    }

    fn thaw(frozen: FrozenJobs) -> Self {
        let in_snapshot = frozen.by_id.len();
        Self { by_id: frozen.by_id, queue: frozen.queue, in_snapshot }
    }
}

impl Jobs {
    /// The job with this id.
    pub fn get(&self, id: &str) -> Option<&Job> {
        self.by_id.get(id)
    }

    /// Every job, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Job> {
        self.by_id.values()
    }

    /// How many there were in the snapshot that was loaded; 0 without one.
    pub fn in_snapshot(&self) -> usize {
        self.in_snapshot
    }

    /// The job that `event` is about, as it would be after it.
    pub fn as_if(&self, event: &Event) -> Option<Job> {
        let id = match event {
            Event::Enqueued(job) => &job.id,
            Event::Dispatched { id, .. }
            | Event::Completed { id, .. }
            | Event::Requeued { id, .. }
            | Event::Died { id, .. } => id,
        };
        let job = self.by_id.get(id)?.clone();
        let mut alone = Self::default();
        alone.by_id.insert(id.clone(), job);
        alone.happened(event);
        alone.by_id.remove(id)
    }

    /// How many are where.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for job in self.by_id.values() {
            match job.status {
                JobStatus::Pending => counts.pending += 1,
                JobStatus::InFlight => counts.in_flight += 1,
                JobStatus::Completed => counts.completed += 1,
                JobStatus::Dead => counts.dead += 1,
            }
        }
        counts
    }

    /// Decides to take a job in.
    pub fn enqueue(&self, job: Job) -> Result<Event, JobError> {
        if self.by_id.contains_key(&job.id) {
            return Err(JobError::AlreadyExists(job.id));
        }
        Ok(Event::Enqueued(Box::new(job)))
    }

    /// Decides to start the next pending job; `None` when there is none.
    pub fn dispatch(&self, worker: u32, at: Timestamp) -> Option<Event> {
        let id = self.queue.front()?.clone();
        Some(Event::Dispatched { id, worker, at })
    }

    /// Decides that a run succeeded.
    pub fn complete(&self, id: &str, run: u32, at: Timestamp) -> Result<Event, JobError> {
        self.in_flight(id, run)?;
        Ok(Event::Completed { id: id.to_owned(), at })
    }

    /// Decides what a failed run means: another one, or the dead letters.
    pub fn fail(&self, id: &str, run: u32, why: &str, at: Timestamp) -> Result<Event, JobError> {
        let job = self.in_flight(id, run)?;
        Ok(next_after_failure(job, why, at))
    }

    /// Decides what becomes of the runs that died with the last process.
    pub fn requeue_in_flight(&self, at: Timestamp) -> Vec<Event> {
        let in_flight = self.by_id.values().filter(|job| job.status == JobStatus::InFlight);
        in_flight.map(|job| next_after_failure(job, "the process died", at)).collect()
    }

    fn in_flight(&self, id: &str, run: u32) -> Result<&Job, JobError> {
        let job = self.by_id.get(id).ok_or_else(|| JobError::NotFound(id.to_owned()))?;
        if job.status == JobStatus::InFlight && job.runs == run {
            Ok(job)
        } else {
            Err(JobError::NotInFlight { id: id.to_owned(), run })
        }
    }

    fn change(&mut self, id: &str, status: JobStatus, at: Timestamp) -> Option<&mut Job> {
        let job = self.by_id.get_mut(id)?;
        job.status = status;
        job.updated_at = at;
        if status != JobStatus::InFlight {
            job.worker = None;
            job.deadline = None;
        }
        Some(job)
    }

    /// Applies what happened. Total: an event about an unknown job changes nothing.
    fn happened(&mut self, event: &Event) {
        match event {
            Event::Enqueued(job) => {
                self.queue.push_back(job.id.clone());
                self.by_id.insert(job.id.clone(), Job::clone(job));
            }
            Event::Dispatched { id, worker, at } => {
                // Always the front one, unless the journal was written by other code.
                if self.queue.front() == Some(id) {
                    self.queue.pop_front();
                } else {
                    self.queue.retain(|pending| pending != id);
                }
                if let Some(job) = self.change(id, JobStatus::InFlight, *at) {
                    job.runs += 1;
                    job.worker = Some(*worker);
                    job.deadline = Some(at.saturating_add(job.timeout));
                }
            }
            Event::Completed { id, at } => {
                self.change(id, JobStatus::Completed, *at);
            }
            Event::Requeued { id, reason, at } => {
                if let Some(job) = self.change(id, JobStatus::Pending, *at) {
                    job.last_error = Some(reason.clone());
                    self.queue.push_back(id.clone());
                }
            }
            Event::Died { id, reason, at } => {
                if let Some(job) = self.change(id, JobStatus::Dead, *at) {
                    job.last_error = Some(reason.clone());
                }
            }
        }
    }
}

fn next_after_failure(job: &Job, why: &str, at: Timestamp) -> Event {
    let (id, reason) = (job.id.clone(), why.to_owned());
    if job.runs < job.max_retry {
        Event::Requeued { id, reason, at }
    } else {
        Event::Died { id, reason, at }
    }
}
