//! A job scheduler as a journaled state machine that survives kill -9.
//!
//! [`Jobs`] is the state, pure: requests are decided against it, what happened is applied to it.
//! [`Scheduler`] puts it in a journal and workers around it.

mod jobs;
mod scheduler;

pub use jobs::{Counts, Event, FrozenJobs, Job, JobError, JobStatus, Jobs};
pub use scheduler::{Config, Handler, NewJob, Recovered, Running, Scheduler, SchedulerError};
