//! A long log and a large state come back, a page at a time.

use std::collections::BTreeMap;

use resurge_journal::{JournalOptions, Journaled, PlainMachine};
use resurge_store::Store;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Jobs(BTreeMap<u64, String>);

impl PlainMachine for Jobs {
    type Event = (u64, String);

    fn apply(&mut self, (job, status): &(u64, String)) {
        self.0.insert(*job, status.clone());
    }
}

#[tokio::test]
async fn ten_thousand_jobs_and_a_hundred_thousand_events() {
    const JOBS: u64 = 10_000;
    const EVENTS: u64 = 100_000;
    let store = Store::memory();
    let options = JournalOptions { snapshot_events: None, ..JournalOptions::default() };
    let open = || Journaled::<Jobs>::open(&store, "jobs", options.clone());
    let (journal, _) = open().await.unwrap();
    let event = |n: u64| (n % JOBS, format!("status {n}"));
    journal.record_all((0..JOBS).map(event)).await.unwrap();
    journal.snapshot_now().await.unwrap();
    for start in (0..EVENTS).step_by(1_000) {
        journal.record_all((start..start + 1_000).map(event)).await.unwrap();
    }
    let before = journal.read(Jobs::clone).await.unwrap();
    drop(journal);
    let (journal, report) = open().await.unwrap();
    assert_eq!((report.snapshot_lsn.0, report.replayed), (JOBS, EVENTS));
    assert_eq!(journal.read(Jobs::clone).await.unwrap(), before);
    let line = format!("{JOBS} jobs and {EVENTS} events recovered in {:?}", report.duration);
    resurge_testkit::evidence("journal-recovery", &line);
}
