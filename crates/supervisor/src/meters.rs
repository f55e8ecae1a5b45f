//! Metrics: registered when they are first needed, which is never on a call's path.

use crate::alert::AlertKind;
use crate::audit::AttemptOutcome;

pub(crate) fn attempt(strategy: &str, outcome: &AttemptOutcome, seconds: f64) {
    let (strategy, outcome) = (strategy.to_owned(), outcome.as_str());
    metrics::histogram!("resurge_supervisor_attempt_seconds", "strategy" => strategy.clone())
        .record(seconds);
    metrics::counter!("resurge_supervisor_attempts_total", "strategy" => strategy, "outcome" => outcome)
        .increment(1);
}

pub(crate) fn health(healthy: bool) {
    let result = if healthy { "healthy" } else { "unhealthy" };
    metrics::counter!("resurge_supervisor_health_checks_total", "result" => result).increment(1);
}

pub(crate) fn alert(kind: &AlertKind) {
    metrics::counter!("resurge_supervisor_alerts_total", "alert" => kind.as_str()).increment(1);
}

pub(crate) fn journal_error() {
    metrics::counter!("resurge_supervisor_journal_errors_total").increment(1);
}
