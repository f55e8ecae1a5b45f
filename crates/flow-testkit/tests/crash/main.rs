//! Crash points of flows: whatever the process dies after, and whatever that takes, the flows end as
//! if nothing had happened, and no effect is there twice that need not be.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod outside;
mod parallel;
mod planted;
mod resumed;
mod steps;
mod whole;

use std::time::Duration;

use resurge_flow::StepError;
use resurge_flow_testkit::{CrashPoints, CrashReport, Failure, Life};
use resurge_testkit::evidence;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

type Step<T> = Result<T, StepError>;

/// Enumerates a script with several seeds; each point is a crash, some crash again.
fn enumerate<F>(name: &str, seeds: u64, script: impl Fn(Life) -> F) -> usize
where
    F: Future<Output = Result<String, Failure>> + Send + 'static,
{
    let mut sum = CrashReport::default();
    for seed in 1..=seeds {
        let points = CrashPoints::new().seed(seed).max_cuts(4).second_crashes(1);
        let report = points.run(&script).unwrap();
        assert_eq!(report.diverged, 0, "{name} is not deterministic: {report:?}");
        sum.crash_points += report.crash_points;
        sum.second_crashes += report.second_crashes;
        sum.checked_effects += report.checked_effects;
        sum.repeated += report.repeated;
    }
    assert!(sum.second_crashes > 0 && sum.checked_effects > sum.repeated, "{name}: {sum:?}");
    evidence(
        &format!("flow-crash-points-{name}"),
        &format!(
            "{} crash points ({} crashed again while recovering), the same result at each; {} effects, {} of them once more",
            sum.crash_points, sum.second_crashes, sum.checked_effects, sum.repeated
        ),
    );
    sum.crash_points
}
