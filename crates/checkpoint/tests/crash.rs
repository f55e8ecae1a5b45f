//! A crash after every commit, with everything it may take, and again while recovering.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use resurge_testkit::evidence;
use support::crashes::simulate;
use support::planted::Bug;

#[test]
fn an_effect_happens_once_or_once_more_if_it_was_in_flight() {
    let (mut points, mut second, mut checked) = (0, 0, 0);
    for seed in 1..=8 {
        let report = simulate(Bug::None, seed, 2).unwrap();
        assert_eq!(report.lost_acks, 0);
        points += report.crash_points;
        second += report.second_crashes;
        checked += report.checked_acks;
    }
    assert!(points > 3_000 && second > 1_000 && checked > 10_000, "{points} {second} {checked}");
    let line =
        format!("{points} crash points, 0 lost acknowledgements, {second} of them a second crash");
    evidence("checkpoint-crash-points", &line);
}
