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
mod damage;
mod failing_index;
mod faults;
mod grouped;
mod life;
mod model;
mod planted;

use crash::{Counts, CrashTest, effort};
use damage::Subject;
use faults::FaultTest;
use life::{Kind, LIFE};
use planted::Catcher;
use resurge_testkit::{IndexFate, evidence};

fn passed<T>(result: Result<T, String>) -> T {
    result.unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn store_crash_points() {
    let run = |kind| {
        let (name, effort) = ("life", effort());
        passed(CrashTest { name, kind, steps: LIFE, plant: None, effort, again: 5 }.run())
    };
    let mut total = Counts::default();
    std::thread::scope(|scope| {
        let kinds = Kind::ALL.map(|kind| scope.spawn(move || run(kind)));
        for counts in kinds.map(|thread| thread.join().expect("a report was printed")) {
            total += counts;
        }
    });
    let line = format!(
        "{} simulated crash states ({} by a second crash during the recovery), 0 acknowledged \
         commits lost, 0 wrong values, 0 panics, 0 unopenable",
        total.states, total.second
    );
    evidence("store-simulation", &line);
}

#[test]
fn store_io_errors() {
    let mut total = faults::Counts::default();
    for kind in Kind::ALL {
        let counts = passed(FaultTest { name: "errors", kind, steps: LIFE, plant: None }.run());
        assert!(counts.refused > 0, "{kind:?}: no commit was ever refused");
        total.faults += counts.faults;
        total.restarts += counts.restarts;
        total.unnoticed += counts.unnoticed;
    }
    assert!(total.unnoticed * 2 < total.faults, "hardly anything depends on the disk: {total:?}");
    let line = format!(
        "{} failing I/O operations, {} restarts, 0 acknowledged commits lost, 0 unopenable",
        total.faults, total.restarts
    );
    evidence("store-io-errors", &line);
}

#[test]
fn every_planted_store_bug_is_caught() {
    let mut missed = Vec::new();
    for (bug, catcher) in planted::ALL {
        let (name, steps, plant) = ("planted", LIFE, Some(*bug));
        let crashes =
            |kind| CrashTest { name, kind, steps, plant, effort: 2, again: 1 }.run().err();
        let caught = match catcher {
            Catcher::Crashes => crashes(Kind::Memory),
            Catcher::Indexes => crashes(Kind::Indexed),
            Catcher::Damage => Subject::new(Kind::Memory, plant).last_group_after_a_kill().err(),
            Catcher::Errors => FaultTest { name, kind: Kind::Memory, steps, plant }.run().err(),
        };
        match caught {
            Some(report) => {
                println!("{bug:?}, by {catcher:?}: {}", report.lines().next().unwrap_or_default());
            }
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
    let table = include_str!("../../../../docs/guarantees.md");
    for (bug, _) in planted::ALL {
        assert!(
            table.contains(&format!("| `{bug:?}` |")),
            "docs/guarantees.md does not list {bug:?}"
        );
    }
    let line = format!("{} of {0} planted bugs caught", planted::ALL.len());
    evidence("store-planted-bugs", &line);
}

fn told(counts: &damage::Counts) -> String {
    let damage::Counts { reported, unharmed, refused, .. } = counts;
    format!(
        "{reported} reported, {unharmed} without effect, {refused} refused with the place, 0 wrong"
    )
}

#[test]
fn super_file_and_image_truncations_and_sectors() {
    let subject = Subject::new(Kind::Memory, None);
    let mut counts = damage::Counts::default();
    passed(subject.truncations(&mut counts));
    passed(subject.sectors(&mut counts));
    let damage::Counts { truncations, sectors, .. } = counts;
    let what = "sectors zeroed, stale or misplaced in super file and images";
    evidence(
        "store-damage-sectors",
        &format!("{truncations} truncations and {sectors} {what}: {}", told(&counts)),
    );
}

#[test]
fn super_file_and_image_flipped_bits() {
    let mut counts = damage::Counts::default();
    passed(Subject::new(Kind::Memory, None).flips(effort() >= 8, &mut counts));
    let line = format!("{} flipped bits in super file and images: {}", counts.flips, told(&counts));
    evidence("store-damage-bits", &line);
}

#[test]
fn two_harmed_images_and_a_harmed_last_group_are_never_passed_over() {
    for kind in Kind::ALL {
        let subject = Subject::new(kind, None);
        assert!(passed(subject.both_images()) > 20);
        assert!(passed(subject.last_group_after_a_kill()) > 50);
    }
}

#[test]
fn grouped_commits_crash_points() {
    let states = Kind::ALL.map(|kind| passed(grouped::run(kind, false))).iter().sum::<u64>();
    let line =
        format!("{states} simulated crash states, 0 acknowledged commits lost, 0 wrong values");
    evidence("store-simulation-grouped", &line);
    let lags = grouped::run(Kind::Memory, true).expect_err("a publish that lags was not noticed");
    println!("publish that lags: {}", lags.lines().next().unwrap_or_default());
}

#[test]
fn an_index_that_fails_in_use_costs_nothing() {
    for fate in [IndexFate::FailsAtApply, IndexFate::PanicsAtApply] {
        passed(failing_index::in_use(fate));
    }
    passed(failing_index::stuck());
}
