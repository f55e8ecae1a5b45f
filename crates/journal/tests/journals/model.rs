//! Any sequence of calls, crashes and damage, compared with a list.

use proptest::collection::vec;
use proptest::prelude::*;
use resurge_journal::{JournalError, JournalOptions};
use resurge_store::Store;

use super::{chunks, damage, ledger, open_as, options, state};

#[derive(Clone, Debug)]
enum Step {
    Record(u64),
    RecordAll(Vec<u64>),
    /// Doubles the last event, if there is one.
    Decide,
    Snapshot,
    Crash,
    Close,
    /// A crash, and the newest snapshot is damaged.
    Damage,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<u64>().prop_map(Step::Record),
        2 => vec(any::<u64>(), 0..5).prop_map(Step::RecordAll),
        2 => Just(Step::Decide),
        3 => Just(Step::Snapshot),
        2 => Just(Step::Crash),
        1 => Just(Step::Close),
        1 => Just(Step::Damage),
    ]
}

async fn run(steps: Vec<Step>, options: JournalOptions) {
    let store = Store::memory();
    let (mut journal, _) = open_as(&store, options.clone()).await.unwrap();
    let mut model: Vec<u64> = Vec::new();
    let mut damaged = 0;
    for step in steps {
        let mut reopen = false;
        match step {
            Step::Record(event) => {
                model.push(event);
                assert_eq!(journal.record(event).await.unwrap().0, model.len() as u64);
            }
            Step::RecordAll(events) => {
                model.extend(&events);
                journal.record_all(events).await.unwrap();
            }
            Step::Decide => {
                let doubled = journal
                    .decide(|ledger| {
                        let doubled = ledger.events.last().map(|last| last.wrapping_mul(2));
                        Ok::<_, JournalError>((doubled, doubled))
                    })
                    .await
                    .unwrap();
                assert_eq!(doubled, model.last().map(|last| last.wrapping_mul(2)));
                model.extend(doubled);
            }
            Step::Snapshot => {
                let taken = journal.snapshot_now().await.unwrap();
                let position = taken.map_or(0, |info| info.position);
                assert_eq!(position, model.len() as u64);
            }
            Step::Crash => reopen = true,
            Step::Close => {
                journal.close().await.unwrap();
                reopen = true;
            }
            // One at a time, so that there is always a way back.
            Step::Damage => {
                reopen = true;
                if damaged == 0
                    && let Some(newest) = chunks(&store).await.values().next_back()
                {
                    damage(&store, &newest[0]).await;
                    damaged += 1;
                }
            }
        }
        if reopen {
            drop(journal);
            let report;
            (journal, report) = open_as(&store, options.clone()).await.unwrap();
            assert_eq!(report.last_lsn.0, model.len() as u64);
            assert_eq!(report.snapshot_lsn.0 + report.replayed, report.last_lsn.0);
        }
        assert_eq!(state(&journal).await, ledger(model.iter().copied()));
        let first = journal.stats().unwrap().first_lsn.0;
        assert!(first <= model.len() as u64 + 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_sequence_gives_what_a_list_gives(steps in vec(step(), 0..40), retain in 2_usize..4) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(steps, JournalOptions { retain, ..options() }));
    }
}
