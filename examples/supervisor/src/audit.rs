//! The audit trail, one line for each record.

use resurge::supervisor::{AttemptOutcome, AuditEvent};

/// One record as people read it, without what differs from run to run.
pub(crate) fn line(event: &AuditEvent) -> String {
    match event {
        AuditEvent::Recorded { failure } => {
            format!("failure recorded: {}: {}", failure.kind, failure.message)
        }
        AuditEvent::CircuitBreakerStateChange { from, to, reason } => {
            format!("circuit {from} -> {to}: {reason}")
        }
        AuditEvent::Began { attempt, strategy, .. } => {
            format!("attempt {attempt} begins: {strategy}")
        }
        AuditEvent::Ended { attempt, strategy, outcome, .. } => {
            format!("attempt {attempt} ended: {strategy} {}", how(outcome))
        }
        AuditEvent::Exhausted { attempts } => format!("no more attempts after {attempts}"),
        AuditEvent::Recovered { attempts } => format!("well again after attempts: {attempts}"),
        AuditEvent::Alert(alert) => format!("alert: {}", alert.as_str()),
        other => format!("{other:?}"),
    }
}

fn how(outcome: &AttemptOutcome) -> String {
    match outcome {
        AttemptOutcome::Failed { why } => format!("failed: {why}"),
        AttemptOutcome::Waiting { suspended } => format!("suspends calls for {suspended:?}"),
        other => other.as_str().to_owned(),
    }
}
