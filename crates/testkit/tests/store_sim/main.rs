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

use crash::{Counts, CrashTest, effort};
use life::{Kind, LIFE};
use resurge_testkit::evidence;

fn passed<T>(result: Result<T, String>) -> T {
    result.unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn store_crash_points() {
    let mut counts = Counts::default();
    for kind in [Kind::Memory, Kind::Indexed] {
        let test =
            CrashTest { name: "life", kind, steps: LIFE, plant: None, effort: effort(), again: 2 };
        counts += passed(test.run());
    }
    let line = format!(
        "{} simulated crash states ({} by a second crash during the recovery), 0 acknowledged \
         commits lost, 0 wrong values, 0 panics, 0 unopenable",
        counts.states, counts.second
    );
    evidence("store-simulation", &line);
}
