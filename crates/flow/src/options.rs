//! How flows are run.

use std::time::Duration;

use resurge_checkpoint::Checkpoints;
use resurge_seal::Sealer;
use resurge_store::Codec;

use crate::callback::{Callback, Callbacks};
use crate::{FlowError, Result};

/// Options of [`Flows::open`](crate::Flows::open).
///
/// ```
/// use std::time::Duration;
/// use resurge_flow::FlowsOptions;
/// let options = FlowsOptions { max_running: 64, ..FlowsOptions::default() };
/// assert_eq!(options.keep_finished, Duration::from_secs(30 * 24 * 3600));
/// ```
#[derive(Clone, Debug)]
pub struct FlowsOptions {
    /// How inputs, results and other values become bytes; CBOR by default.
    pub codec: Codec,
    /// The largest single value (input, result, signal, context value), in bytes; 4 MiB by default,
    /// at most 8 MiB.
    pub max_value_bytes: usize,
    /// Runs that execute at once, at least 1; 1,024 by default. Others wait their turn. Runs that
    /// sleep, wait or are parked do not count.
    pub max_running: usize,
    /// A run that only waits is dropped from memory after this long, and replayed when it goes on; 5
    /// seconds by default. Zero: at once.
    pub evict_after: Duration,
    /// Succeeded and cancelled runs are swept this long after they ended; 30 days by default. Failed
    /// runs are kept until they are resumed or deleted.
    pub keep_finished: Duration,
    /// Keep the id of a swept run taken for ever, so that starting it again answers
    /// [`AlreadyExists`](FlowError::AlreadyExists); off by default: the id is new again.
    pub tombstones: bool,
    /// How often finished runs are looked through; once an hour by default.
    pub sweep_every: Duration,
    /// How long a shutdown waits for bodies that are at work; 30 seconds by default. Then they are
    /// dropped, and run again after the next start.
    pub shutdown_grace: Duration,
    /// `start` recovers nothing until told: see [`Flows::release_all`](crate::Flows::release_all).
    pub start_paused: bool,
    /// Says what is sensitive and seals it: inputs, results, signals, context values, texts of errors.
    /// By default everything is stored in clear.
    pub sealer: Sealer,
    /// Where results of [memoised](crate::Step::memoize) steps are; by default, opened on the same store
    /// with default options when a step first needs it.
    pub checkpoints: Option<Checkpoints>,
}

impl Default for FlowsOptions {
    fn default() -> Self {
        Self {
            codec: Codec::Cbor,
            max_value_bytes: 4 << 20,
            max_running: 1024,
            evict_after: Duration::from_secs(5),
            keep_finished: Duration::from_secs(30 * 24 * 3600),
            tombstones: false,
            sweep_every: Duration::from_secs(3600),
            shutdown_grace: Duration::from_secs(30),
            start_paused: false,
            sealer: Sealer::plain(),
            checkpoints: None,
        }
    }
}

impl FlowsOptions {
    pub(crate) fn check(&self) -> Result<()> {
        if !(1..=8 << 20).contains(&self.max_value_bytes) {
            let got = self.max_value_bytes;
            return Err(FlowError::Invalid(format!(
                "max_value_bytes is {got}; 1 to {} are allowed",
                8 << 20
            )));
        }
        if self.max_running == 0 {
            return Err(FlowError::Invalid("max_running is 0; at least 1 is needed".to_owned()));
        }
        if self.sweep_every.is_zero() {
            return Err(FlowError::Invalid("sweep_every is 0; it must be longer".to_owned()));
        }
        Ok(())
    }
}

/// Options of one flow.
///
/// ```
/// use std::time::Duration;
/// use resurge_flow::FlowOptions;
/// let options = FlowOptions::default().resumable(false).deadline(Duration::from_secs(3600));
/// assert!(!options.is_resumable());
/// ```
#[derive(Clone, Debug)]
pub struct FlowOptions {
    pub(crate) resumable: bool,
    pub(crate) deadline: Option<Duration>,
    pub(crate) callbacks: Callbacks,
}

impl Default for FlowOptions {
    fn default() -> Self {
        Self { resumable: true, deadline: None, callbacks: Callbacks::default() }
    }
}

impl FlowOptions {
    /// Whether failed runs can be resumed; they can by default.
    #[must_use]
    pub fn resumable(mut self, resumable: bool) -> Self {
        self.resumable = resumable;
        self
    }

    /// Whether failed runs can be resumed.
    pub fn is_resumable(&self) -> bool {
        self.resumable
    }

    /// A run that has not ended this long after its start is cancelled and fails; never by default.
    #[must_use]
    pub fn deadline(mut self, after: Duration) -> Self {
        self.deadline = Some(after);
        self
    }

    /// Adds a callback before the flow; they are called in the order they were added.
    #[must_use]
    pub fn before_flow(mut self, callback: Callback) -> Self {
        self.callbacks.flow.before.push(callback);
        self
    }

    /// Adds a callback after the flow; they are called in the order they were added.
    #[must_use]
    pub fn after_flow(mut self, callback: Callback) -> Self {
        self.callbacks.flow.after.push(callback);
        self
    }

    /// Adds a callback before each [process](crate::Ctx::process); they are called in the order they were added.
    #[must_use]
    pub fn before_process(mut self, callback: Callback) -> Self {
        self.callbacks.process.before.push(callback);
        self
    }

    /// Adds a callback after each [process](crate::Ctx::process); they are called in the order they were added.
    #[must_use]
    pub fn after_process(mut self, callback: Callback) -> Self {
        self.callbacks.process.after.push(callback);
        self
    }

    /// Adds a callback before each step; they are called in the order they were added.
    #[must_use]
    pub fn before_step(mut self, callback: Callback) -> Self {
        self.callbacks.step.before.push(callback);
        self
    }

    /// Adds a callback after each step; they are called in the order they were added.
    #[must_use]
    pub fn after_step(mut self, callback: Callback) -> Self {
        self.callbacks.step.after.push(callback);
        self
    }
}
