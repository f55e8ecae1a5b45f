//! The whole store under simulated crashes, failing disks, damage and lying indexes: nothing that was
//! acknowledged is lost, nothing is made up, nothing keeps the store from opening.
//!
//! Environment: `RESURGE_SIM_CASE` runs the one case a failure printed, `RESURGE_SIM_EFFORT=8` and
//! more tries harder.
#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails is a failed test"
)]

mod crash;
mod life;
mod model;
mod planted;

use crash::{CrashTest, effort};
use life::{Kind, LIFE};
use resurge_testkit::evidence;

fn passed<T>(result: Result<T, String>) -> T {
    result.unwrap_or_else(|report| panic!("{report}"))
}

fn crash_points(kind: Kind, slug: &str) {
    let effort = effort();
    let test = CrashTest { name: "life", kind, steps: LIFE, plant: None, effort, again: 2 };
    let counts = passed(test.run());
    let line = format!(
        "{} simulated crash states ({} by a second crash during the recovery), 0 acknowledged \
         commits lost, 0 wrong values, 0 panics, 0 unopenable",
        counts.states, counts.second
    );
    evidence(slug, &line);
}

#[test]
fn store_crash_points_with_the_index_in_memory() {
    crash_points(Kind::Memory, "store-simulation-memory");
}

#[test]
fn store_crash_points_with_a_lying_index() {
    crash_points(Kind::Indexed, "store-simulation");
}
