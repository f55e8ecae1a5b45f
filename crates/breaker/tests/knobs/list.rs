//! Every knob has a test that shows what it changes: the list, compared with the configuration.

use std::collections::BTreeSet;

use resurge_breaker::{BreakerConfig, DropPolicy, Rate, Trip, Verdict, Window};
use serde_json::Value;

const SOURCES: [&str; 8] = [
    include_str!("main.rs"),
    include_str!("../scenarios/calls.rs"),
    include_str!("../scenarios/ends.rs"),
    include_str!("../scenarios/half_open.rs"),
    include_str!("../scenarios/open.rs"),
    include_str!("../scenarios/slow.rs"),
    include_str!("../scenarios/stacks.rs"),
    include_str!("../scenarios/time.rs"),
];

/// Knob, and the test in which it makes the difference.
const TESTED: [(&str, &str); 31] = [
    ("call_timeout", "a_call_that_takes_too_long_is_given_up"),
    ("fast_fail", "with_fast_fail_off_a_call_waits"),
    ("half_open.automatic", "automatic_needs_no_call"),
    ("half_open.concurrent", "concurrent_bounds_probes_under_way"),
    ("half_open.max_wait", "c51_probes_that_hang_are_given_up"),
    ("half_open.on_max_wait", "c51_probes_that_hang_are_given_up"),
    ("half_open.probes", "c40_a_released_permit_makes_room"),
    ("half_open.verdict.rate.failure", "c42_too_many_failed_probes_open"),
    ("half_open.verdict.rate.slow", "slow_probes_open_although_they_succeed"),
    ("on_drop.failure_after", "a_dropped_call_is_a_failure_after_the_limit"),
    ("open.decay", "decay_remembers_openings_for_a_while"),
    ("open.factor", "c35_the_second_time_is_longer"),
    ("open.initial", "c33_half_open_after_the_open_time_with_fresh_counts"),
    ("open.jitter", "jitter_takes_off_up_to_its_part"),
    ("open.max", "c37_the_growth_saturates"),
    ("repair_at_most", "a_repair_that_takes_too_long_is_given_up"),
    ("slow_after", "exactly_the_limit_is_slow"),
    ("timing", "timing_makes_the_last_success_exact_and_fills_the_histogram"),
    ("trip.consecutive_failures.failures", "c10_three_in_a_row"),
    ("trip.failure_count.failures", "c08_two_of_three"),
    ("trip.failure_count.min_calls", "the_defaults_are_the_documented_ones"),
    ("trip.failure_count.window.calls", "c08_two_of_three"),
    ("trip.failure_rate.min_calls", "c18_min_calls_above_the_window_is_the_window"),
    ("trip.failure_rate.rate", "c03_a_late_success_trips"),
    ("trip.failure_rate.window.time.length", "c25_a_call_is_gone_at_exactly_the_length"),
    ("trip.failure_rate.window.time.slices", "c28_a_fixed_interval_forgets_at_once"),
    ("trip.slow_rate.min_calls", "c31_too_many_slow_calls_open"),
    ("trip.slow_rate.rate", "c31_too_many_slow_calls_open"),
    ("trip.slow_rate.window.calls", "c31_too_many_slow_calls_open"),
    ("wait_at_most", "with_fast_fail_off_a_service_waits_no_longer_than_said"),
    // The other verdict, which the same configuration cannot have.
    ("half_open.verdict.all_of.successes", "c06_one_failed_probe_of_three_opens"),
];

fn leaves(path: &str, value: &Value, into: &mut BTreeSet<String>) {
    let join =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, v)| leaves(&join(name), v, into)),
        Value::Array(items) => items.iter().for_each(|v| leaves(path, v, into)),
        _ => drop(into.insert(path.to_owned())),
    }
}

#[test]
fn every_knob_has_a_test() {
    let second = std::time::Duration::from_secs(1);
    let (rate, min_calls) = (Rate::HALF, 1);
    let mut config = BreakerConfig {
        trip: vec![
            Trip::ConsecutiveFailures { failures: 1 },
            Trip::FailureCount { failures: 1, window: Window::Calls(1), min_calls },
            Trip::FailureRate { rate, window: Window::time(second), min_calls },
            Trip::SlowRate { rate, window: Window::Calls(1), min_calls },
        ],
        slow_after: Some(second),
        call_timeout: Some(second),
        on_drop: DropPolicy::FailureAfter(second),
        ..BreakerConfig::default()
    };
    config.open.decay = Some(second);
    config.half_open.concurrent = Some(1);
    let mut knobs = BTreeSet::new();
    let both = [Verdict::Rate { failure: rate, slow: Some(rate) }, Verdict::AllOf { successes: 1 }];
    for verdict in both {
        config.half_open.verdict = verdict;
        leaves("", &serde_json::to_value(&config).unwrap(), &mut knobs);
    }
    let tested: BTreeSet<_> = TESTED.iter().map(|(knob, _)| (*knob).to_owned()).collect();
    assert_eq!(knobs, tested);
    for (knob, test) in TESTED {
        let there = SOURCES.iter().any(|source| source.contains(&format!("fn {test}()")));
        assert!(there, "{knob}: there is no test `{test}`");
    }
}
