//! The end that somebody asks for: what waits is over, what is at work ends by itself.

use resurge_store::Timestamp;

use super::{Entry, Fact, Machine, Wait, What};
use crate::record::{CancelReason, CancelRequested, Outcome, Record};
use crate::step_error::{Class, ErrorRecord, StepErrorKind};

impl Machine {
    /// Journals that the run is to end, and completes what waits with an error. What is busy goes on.
    pub(crate) fn cancel(&mut self, reason: CancelReason, at: Timestamp) {
        if std::mem::replace(&mut self.cancel_asked, true) {
            return;
        }
        let ordinal = self.journal(Record::CancelRequested(CancelRequested { reason, at }));
        self.queue.push_back(Entry { ordinal, what: What::Cancel(reason) });
        self.cancel_waiting(reason);
    }

    /// Completes what waits, unless the journal may still know how it completed: then `go_live` does.
    pub(super) fn cancel_waiting(&mut self, reason: CancelReason) {
        if !self.live {
            return;
        }
        for id in self.slots.waiting() {
            let child = self.slots.get(id).and_then(|slot| match &slot.wait {
                Some(Wait::Child(run)) => Some(run.clone()),
                _ => self.facts.get(&slot.position).and_then(Fact::child),
            });
            self.orphans.extend(child);
            self.complete(id, Outcome::Err(cancelled_error(reason)), 0, Vec::new());
        }
    }

    pub(crate) fn take_orphans(&mut self) -> Vec<String> {
        std::mem::take(&mut self.orphans)
    }

    pub(crate) fn cancelled(&self) -> Option<CancelReason> {
        self.cancelled
    }
}

pub(crate) fn cancelled_error(reason: CancelReason) -> ErrorRecord {
    let (kind, message) = match reason {
        CancelReason::Asked => (StepErrorKind::Cancelled, "the run was cancelled"),
        CancelReason::Parent => (StepErrorKind::Cancelled, "the parent run was cancelled"),
        CancelReason::Deadline => (StepErrorKind::DeadlineExceeded, "the run's deadline passed"),
    };
    let message = message.to_owned();
    ErrorRecord {
        message,
        causes: Vec::new(),
        class: Class::Permanent,
        kind,
        code: None,
        sealed: None,
    }
}
