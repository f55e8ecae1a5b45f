//! What concurrent callers see is what one caller at a time could have seen, also across crashes.
//!
//! Clients commit with guards, get and scan as they please; every call is noted when it begins and
//! when it returns. A checker then looks for one order of all calls that explains every answer. A
//! commit whose outcome nobody was told may have happened, but not after the store was opened again.
//! The number of histories is that of the table times `RESURGE_HISTORIES`, 1 when not set.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

#[path = "linearizable/checker.rs"]
mod checker;
#[path = "linearizable/clients.rs"]
mod clients;
#[path = "linearizable/history.rs"]
mod history;
#[path = "linearizable/planted.rs"]
mod planted;
#[path = "linearizable/subjects.rs"]
mod subjects;

use resurge_store_sled::IndexKind;
use resurge_testkit::evidence;

use history::{Answer, Operation};
use subjects::Subject;

/// Histories of one run over all stores, at least.
const WANTED: usize = 200;

#[derive(Debug, Default)]
struct Counted {
    histories: usize,
    crashes: usize,
    operations: usize,
    overlapping: usize,
    conflicts: usize,
    unknown: usize,
}

impl Counted {
    fn count(&mut self, history: &[Operation], crashes: usize) {
        self.histories += 1;
        self.crashes += crashes;
        self.operations += history.len();
        let answered = |answer: Answer| history.iter().filter(|op| op.answer == answer).count();
        self.conflicts += answered(Answer::Conflict);
        self.unknown += answered(Answer::Unknown);
        let overlaps =
            |op: &&Operation| history.iter().any(|o| o.begin < op.begin && op.begin < o.end);
        self.overlapping += history.iter().filter(overlaps).count();
    }
}

fn effort() -> usize {
    std::env::var("RESURGE_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

#[test]
fn every_history_is_linearizable() {
    let subjects = [
        (Subject::Memory, 50),
        (Subject::Simulated, 60),
        (Subject::Directory(IndexKind::Sled), 20),
        (Subject::Directory(IndexKind::Memory), 20),
        (Subject::Disk(IndexKind::Sled), 30),
        (Subject::Disk(IndexKind::Memory), 50),
    ];
    let mut all = Counted::default();
    for (subject, histories) in subjects {
        let mut counted = Counted::default();
        for seed in 0..(histories * effort()) as u64 {
            let (history, crashes) = subjects::run(&subject, seed);
            counted.count(&history, crashes);
            all.count(&history, crashes);
            if let Err(stuck) = checker::check(&history) {
                panic!("{subject:?}, seed {seed}: not linearizable\n{stuck}");
            }
        }
        // A harness that does nothing finds nothing.
        assert!(counted.overlapping > counted.operations / 10, "{subject:?}: {counted:?}");
        assert!(counted.conflicts > 0, "{subject:?}: {counted:?}");
        let crashing = !matches!(subject, Subject::Memory);
        assert_eq!(counted.unknown > 0, crashing, "{subject:?}: {counted:?}");
        println!("{subject:?}: {counted:?}");
    }
    assert!(all.histories >= WANTED);
    let Counted { histories, crashes, operations, overlapping, unknown, .. } = all;
    evidence(
        "linearizable-histories",
        &format!(
            "{histories} histories of {operations} calls ({overlapping} overlapping, {unknown} of \
             unknown outcome) over {crashes} crashes, 0 not linearizable"
        ),
    );
}

#[test]
fn every_planted_bug_is_found() {
    let mut found = Vec::new();
    for bug in planted::BUGS {
        let seed = (0..40).find(|seed| {
            let (history, _) = subjects::run(&Subject::Planted(bug), *seed);
            checker::check(&history).is_err()
        });
        let seed = seed.unwrap_or_else(|| panic!("{bug:?}: 40 histories, all linearizable"));
        println!("{bug:?}: found in history {seed}");
        found.push(bug);
    }
    let (found, all) = (found.len(), planted::BUGS.len());
    evidence("linearizable-planted", &format!("{found} of {all} planted bugs found"));
}
