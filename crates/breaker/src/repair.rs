//! A repair under way.

use std::time::Duration;

use crate::breaker::Breaker;
use crate::machine::RepairEnd;

/// A repair under way; made by [`Breaker::begin_repair`]. Say how it ended: dropping it means that it
/// failed.
///
/// ```
/// use resurge_breaker::{Breaker, State};
/// let breaker = Breaker::new("plugin");
/// breaker.trip("crashed");
/// let repair = breaker.begin_repair().unwrap();
/// assert_eq!(breaker.state(), State::Repairing);
/// repair.succeeded(); // it says so; probes find out
/// assert_eq!(breaker.state(), State::HalfOpen);
/// ```
#[derive(Debug)]
#[must_use = "dropping it means that the repair failed"]
pub struct Repair {
    breaker: Breaker,
    generation: u32,
    over: bool,
}

impl Repair {
    pub(crate) fn new(breaker: Breaker, generation: u32) -> Self {
        Self { breaker, generation, over: false }
    }

    /// It says that it worked: half-open, probes decide. False when it was over before: it took longer
    /// than `repair_at_most`, or somebody reset or tripped the circuit.
    pub fn succeeded(self) -> bool {
        self.end(RepairEnd::Probe)
    }

    /// It is known to have worked: closed, without probes. False as in [`succeeded`](Self::succeeded).
    pub fn closed(self) -> bool {
        self.end(RepairEnd::Close)
    }

    /// It did not work: open again. False as in [`succeeded`](Self::succeeded).
    pub fn failed(self) -> bool {
        self.end(RepairEnd::Failed(None))
    }

    /// Nothing helps but time: open for this long. False as in [`succeeded`](Self::succeeded).
    pub fn failed_for(self, open_for: Duration) -> bool {
        self.end(RepairEnd::Failed(Some(open_for)))
    }

    /// Whether it still is what the circuit waits for.
    pub fn is_current(&self) -> bool {
        let generation = self.generation;
        self.breaker.command(|machine, _| {
            machine.generation() == generation && machine.state() == crate::State::Repairing
        })
    }

    fn end(mut self, end: RepairEnd) -> bool {
        self.over = true;
        self.report(end)
    }

    fn report(&self, end: RepairEnd) -> bool {
        self.breaker.command(|machine, now| machine.end_repair(self.generation, end, now))
    }
}

impl Drop for Repair {
    fn drop(&mut self) {
        if !self.over {
            self.report(RepairEnd::Failed(None));
        }
    }
}
