//! The commit log under simulated crashes, failing disks and damage: nothing that was acknowledged
//! is lost, nothing is made up, nothing keeps the log from opening.
#![expect(clippy::indexing_slicing, reason = "a helper that fails is a failed test")]

mod crash;
mod faults;
mod life;
mod model;

use crash::{CrashTest, effort};
use faults::FaultTest;
use life::{LIFE, honest};
use resurge_testkit::evidence;

#[test]
fn log_crash_points() {
    let test = CrashTest { name: "life", steps: LIFE, plant: honest, effort: effort() };
    let counts = test.run().unwrap_or_else(|report| panic!("{report}"));
    let line = format!(
        "{} simulated crash states ({} by a second crash during recovery, {} operations), 0 acknowledged entries lost",
        counts.states, counts.second, counts.operations
    );
    evidence("commit-log-crash-points", &line);
}

#[test]
fn log_io_errors() {
    let test = FaultTest { name: "life", steps: LIFE, plant: honest };
    let counts = test.run().unwrap_or_else(|report| panic!("{report}"));
    assert!(counts.full > 0, "no append was ever refused");
    let line = format!(
        "{} failing I/O operations, {} restarts checked, 0 acknowledged entries lost",
        counts.faults, counts.restarts
    );
    evidence("commit-log-io-errors", &line);
}

#[test]
fn log_io_error_then_crash() {
    let test = FaultTest { name: "life", steps: LIFE, plant: honest };
    let states = test.run_then_crash().unwrap_or_else(|report| panic!("{report}"));
    let line =
        format!("{states} crash states after a survived I/O error, 0 acknowledged entries lost");
    evidence("commit-log-io-error-then-crash", &line);
}
