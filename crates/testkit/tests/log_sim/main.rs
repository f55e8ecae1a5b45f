//! The commit log under simulated crashes, failing disks and damage: nothing that was acknowledged
//! is lost, nothing is made up, nothing keeps the log from opening.
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
mod damage;
mod faults;
mod life;
mod model;
mod planted;
mod random;
mod salvage;

use crash::{CrashTest, effort};
use faults::FaultTest;
use life::LIFE;
use planted::Catcher;
use resurge_testkit::evidence;

fn passed<T>(result: Result<T, String>) -> T {
    result.unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn log_crash_points() {
    let test = CrashTest { name: "life", steps: LIFE, plant: None, effort: effort(), again: true };
    let counts = passed(test.run());
    let line = format!(
        "{} simulated crash states ({} by a second crash during the recovery), 0 acknowledged \
         entries lost",
        counts.states, counts.second
    );
    evidence("commit-log-crash-points", &line);
}

#[test]
fn log_random_lives() {
    let crashes = passed(random::run(effort() * 500));
    let line = format!("{crashes} crashes of random lives, 0 acknowledged entries lost");
    evidence("commit-log-random-lives", &line);
}

#[test]
fn log_io_errors() {
    let counts = passed(FaultTest { name: "errors", steps: LIFE, plant: None }.run());
    let all = std::env::var_os(crash::CASE).is_none();
    assert!(counts.full > 0 || !all, "no append was ever refused");
    let line = format!(
        "{} failing I/O operations, {} restarts, 0 acknowledged entries lost",
        counts.faults, counts.restarts
    );
    evidence("commit-log-io-errors", &line);
}

#[test]
fn log_io_error_then_crash() {
    let states = passed(FaultTest { name: "after", steps: LIFE, plant: None }.run_then_crash());
    let line =
        format!("{states} crash states after a survived I/O error, 0 acknowledged entries lost");
    evidence("commit-log-io-error-then-crash", &line);
}

#[test]
fn log_full_disk() {
    let refusals = passed(FaultTest { name: "full", steps: LIFE, plant: None }.run_full());
    assert!(refusals > 50, "the disk was hardly ever full: {refusals}");
}

#[test]
fn log_truncations_and_sectors() {
    let subject = damage::Subject::new();
    let mut counts = damage::Counts::default();
    passed(subject.sectors(&mut counts));
    passed(subject.truncations(&mut counts));
    let line = format!(
        "{} truncations and {} sectors zeroed, stale or misplaced: {} refused with the place, {} cut \
         as tail and reported, {} without a trace unless the high-water is known, 0 wrong",
        counts.truncations, counts.sectors, counts.refused, counts.tail_cut, counts.traceless
    );
    evidence("commit-log-damage-sectors", &line);
}

#[test]
fn log_salvage_crash_points() {
    let states = passed(salvage::run(&damage::Subject::new()));
    let line = format!("{states} crash states of a salvage, the valid prefix kept in all");
    evidence("commit-log-salvage-crash-points", &line);
}

#[test]
fn log_flipped_bits() {
    let subject = damage::Subject::new();
    let mut counts = damage::Counts::default();
    passed(subject.flips(effort() >= 8, &mut counts));
    assert_eq!(counts.traceless, 0);
    let line = format!(
        "{} flipped bits: {} refused with the place, {} cut as tail and reported, 0 wrong",
        counts.flips, counts.refused, counts.tail_cut
    );
    evidence("commit-log-damage-bits", &line);
}

#[test]
fn every_planted_log_bug_is_caught() {
    let mut missed = Vec::new();
    for (bug, catcher) in planted::ALL {
        let (name, plant) = ("planted", Some(*bug));
        let caught = match catcher {
            Catcher::Crashes => {
                CrashTest { name, steps: LIFE, plant, effort: 2, again: false }.run().err()
            }
            Catcher::Errors => FaultTest { name, steps: LIFE, plant }.run().err(),
        };
        match caught {
            Some(report) => {
                println!("{bug:?}, by {catcher:?}: {}", report.lines().next().unwrap_or_default());
            }
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
    let line = format!("{} of {0} planted I/O bugs caught", planted::ALL.len());
    evidence("commit-log-planted-bugs", &line);
}
