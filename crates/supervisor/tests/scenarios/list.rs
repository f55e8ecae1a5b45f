//! Every knob has a test that shows what it changes: the list, compared with the configuration.

use std::collections::BTreeSet;

use resurge_supervisor::{HealthConfig, ResourceConfig, StrategySettings, SupervisorConfig};
use serde_json::Value;

const SOURCES: [&str; 5] = [
    include_str!("knobs.rs"),
    include_str!("health.rs"),
    include_str!("recovery.rs"),
    include_str!("restart.rs"),
    include_str!("../../src/machine/tests.rs"),
];

/// Knob, and the test in which it makes the difference.
const TESTED: [(&str, &str); 40] = [
    ("alerting", "knob_alerting_and_the_threshold_of_failures_in_a_row"),
    ("alerts.consecutive_failures", "knob_alerting_and_the_threshold_of_failures_in_a_row"),
    ("alerts.failure_rate", "knob_the_threshold_of_the_failure_rate_raised_once_until_it_is_over"),
    ("alerts.recovery_time", "knob_the_threshold_of_the_recovery_time"),
    ("attempt_timeout", "knob_attempt_timeout"),
    ("audit_keep", "a_summary_stands_for_the_records_it_replaces"),
    ("auto_recovery", "knob_auto_recovery"),
    ("breaker", "knob_resources_their_options_and_their_breakers"),
    ("concurrency", "knob_concurrency_of_repairs"),
    ("default_strategy", "knob_default_strategy"),
    ("health.check_type", "knob_health_interval_initial_delay_jitter_and_check_type"),
    ("health.initial_delay", "knob_health_interval_initial_delay_jitter_and_check_type"),
    ("health.interval", "knob_health_interval_initial_delay_jitter_and_check_type"),
    ("health.jitter", "knob_health_interval_initial_delay_jitter_and_check_type"),
    ("health.max_failures", "knob_health_max_failures_and_health_checking_also_for_one_resource"),
    ("health.on_healthy", "knob_health_on_healthy"),
    ("health.successes", "knob_health_successes"),
    ("health.timeout", "c77_a_check_that_hangs_panics_or_errs_has_failed"),
    ("health_checking", "knob_health_max_failures_and_health_checking_also_for_one_resource"),
    ("health_concurrency", "ra5_no_more_checks_at_once_than_allowed_and_never_two_of_one"),
    ("intensity.period", "c76_one_exactly_a_period_old_still_counts"),
    (
        "intensity.repairs",
        "c76_more_attempts_than_the_intensity_allows_in_its_period_and_no_more_are_made",
    ),
    ("max_attempts", "knob_max_attempts"),
    ("relapse_window", "knob_relapse_window"),
    ("repair_on", "knob_repair_on"),
    ("resources.x.breaker", "knob_resources_their_options_and_their_breakers"),
    ("resources.x.health", "knob_health_max_failures_and_health_checking_also_for_one_resource"),
    ("resources.x.strategies", "knob_resources_their_options_and_their_breakers"),
    ("resources.x.strategy", "knob_resources_their_options_and_their_breakers"),
    ("retry.factor", "knob_retry"),
    ("retry.initial", "knob_retry"),
    ("retry.max", "knob_retry"),
    ("strategies.x.also", "knob_strategy_priority_enabled_and_also"),
    ("strategies.x.enabled", "knob_strategy_priority_enabled_and_also"),
    ("strategies.x.options.y", "knob_resources_their_options_and_their_breakers"),
    ("strategies.x.pause", "knob_strategy_pause"),
    ("strategies.x.priority", "knob_strategy_priority_enabled_and_also"),
    ("strategies.x.suspend.factor", SUSPENDED),
    ("strategies.x.suspend.initial", SUSPENDED),
    ("strategies.x.suspend.max", SUSPENDED),
];

const SUSPENDED: &str =
    "ra9_suspended_longer_each_time_up_to_a_cap_and_from_the_start_after_it_was_well";

/// Whose own knobs are listed elsewhere.
const WHOLE: [&str; 4] =
    ["breaker", "resources.x.breaker", "resources.x.health", "resources.x.strategies"];

fn leaves(path: &str, value: &Value, into: &mut BTreeSet<String>) {
    let join =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) if !WHOLE.contains(&path) => {
            fields.iter().for_each(|(name, v)| leaves(&join(name), v, into));
        }
        _ => drop(into.insert(path.to_owned())),
    }
}

#[test]
fn every_knob_has_a_test() {
    let mut config = SupervisorConfig::default();
    let settings = StrategySettings {
        options: [("y".to_owned(), String::new())].into(),
        ..StrategySettings::default()
    };
    config.strategies.insert("x".to_owned(), settings.clone());
    let resource = ResourceConfig {
        strategies: [("x".to_owned(), settings)].into(),
        breaker: Some(config.breaker.clone()),
        health: Some(HealthConfig::default()),
        ..ResourceConfig::default()
    };
    config.resources.insert("x".to_owned(), resource);
    let mut knobs = BTreeSet::new();
    leaves("", &serde_json::to_value(&config).unwrap(), &mut knobs);
    let tested: BTreeSet<_> = TESTED.iter().map(|(knob, _)| (*knob).to_owned()).collect();
    assert_eq!(knobs, tested);
    for (knob, test) in TESTED {
        let there = SOURCES.iter().any(|source| source.contains(&format!("fn {test}()")));
        assert!(there, "{knob}: there is no test `{test}`");
    }
}
