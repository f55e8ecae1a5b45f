//! Which strategies come into question: the document's table.

use resurge_breaker::FailureKind;
use resurge_breaker::FailureKind::{
    Error, HealthCheck, Initialization, Panic, ResourceLimit, Timeout,
};
use resurge_supervisor::{Builtin, Failure, Severity};

fn able(kind: FailureKind, severity: Severity, recoverable: bool) -> Vec<&'static str> {
    let failure = Failure::new(kind, "it").severity(severity);
    let failure = if recoverable { failure } else { failure.unrecoverable() };
    Builtin::ALL.into_iter().filter(|b| b.can_recover(&failure)).map(Builtin::name).collect()
}

#[test]
fn ra3_r11_priorities_are_those_of_the_document() {
    let priorities = Builtin::ALL.map(|b| (b.name(), b.priority()));
    let document = [
        ("restart", 100),
        ("reload", 80),
        ("reset", 60),
        ("graceful_degradation", 40),
        ("backoff", 20),
    ];
    assert_eq!(priorities, document);
}

#[test]
fn ra3_the_matrix_of_what_can_recover_what() {
    const ALL: &[&str] = &["restart", "reload", "reset", "graceful_degradation", "backoff"];
    let warning = || Severity::WARNING;
    let critical = || Severity::CRITICAL;
    let info = || Severity::INFO;
    let custom = || Severity::new("custom");
    let table: &[(FailureKind, Severity, &[&str])] = &[
        (Timeout, warning(), ALL),
        (Timeout, info(), &["restart", "reload", "graceful_degradation", "backoff"]),
        (Timeout, custom(), &["restart", "reload", "graceful_degradation", "backoff"]),
        (Timeout, critical(), &["restart"]),
        (Error, warning(), &["restart", "reload", "backoff"]),
        (Error, custom(), &["restart", "reload", "backoff"]),
        (Error, critical(), &["restart"]),
        (Panic, warning(), &["restart"]),
        (Panic, critical(), &["restart"]),
        (HealthCheck, warning(), &["restart", "reload", "reset", "backoff"]),
        (HealthCheck, critical(), &["restart", "reload", "reset"]),
        (ResourceLimit, warning(), &["graceful_degradation"]),
        (ResourceLimit, critical(), &["graceful_degradation"]),
        (Initialization, warning(), &["restart", "reload"]),
        (Initialization, info(), &["restart"]),
        (Initialization, critical(), &[]),
    ];
    for (kind, severity, expected) in table {
        assert_eq!(able(*kind, severity.clone(), true), *expected, "{kind} {severity}");
    }
    for kind in [Timeout, Error, Panic, HealthCheck, ResourceLimit, Initialization] {
        for severity in [warning(), critical(), info(), custom()] {
            let degrades = able(kind, severity.clone(), true).contains(&"graceful_degradation");
            let expected: &[&str] = if degrades { &["graceful_degradation"] } else { &[] };
            assert_eq!(
                able(kind, severity.clone(), false),
                expected,
                "unrecoverable {kind} {severity}"
            );
        }
    }
}
