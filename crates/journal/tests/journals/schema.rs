//! Types change; stored states and events stay.

use std::error::Error;

use resurge_journal::{
    JournalError, JournalOptions, Journaled, OldState, PlainMachine, StateMachine,
};
use resurge_store::{Codec, ErrorKind, Store};
use serde::{Deserialize, Serialize};

use super::{ledger, open, options, record};

/// What became of `Ledger`: only the sum is wanted.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Sum {
    total: u64,
}

impl PlainMachine for Sum {
    type Event = u64;
    const SCHEMA_VERSION: u32 = 2;

    fn apply(&mut self, event: &u64) {
        self.total += event;
    }

    fn migrate(from: u32, old: OldState) -> Result<Self, Box<dyn Error + Send + Sync>> {
        if from != 1 {
            return Err("only version 1 was released".into());
        }
        let old: super::Ledger = old.decode()?;
        Ok(Self { total: old.events.iter().sum() })
    }
}

#[tokio::test]
async fn an_older_state_is_migrated_and_a_newer_one_refused() {
    let store = Store::memory();
    let (journal, _) = open(&store).await;
    record(&journal, 1..=4).await;
    journal.snapshot_now().await.unwrap();
    record(&journal, [5]).await;
    drop(journal);

    let (journal, report) = Journaled::<Sum>::open(&store, "test", options()).await.unwrap();
    assert_eq!((report.snapshot_lsn.0, report.replayed), (4, 1));
    assert_eq!(journal.read(|sum| sum.total).await.unwrap(), 15);
    journal.close().await.unwrap();

    let error = super::open_as(&store, options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("schema version 2; this build reads up to 1"), "{error}");
    let (journal, _) = Journaled::<Sum>::open(&store, "test", options()).await.unwrap();
    assert_eq!(journal.read(|sum| sum.total).await.unwrap(), 15, "refusing changed nothing");
}

/// Frozen is something else than the machine, and there is no migration.
struct Shared {
    events: std::sync::Arc<Vec<u64>>,
}

impl StateMachine for Shared {
    type Event = u64;
    type Frozen = Vec<u64>;
    const SCHEMA_VERSION: u32 = 3;

    fn apply(&mut self, event: &u64) {
        std::sync::Arc::make_mut(&mut self.events).push(*event);
    }

    fn freeze(&self) -> Vec<u64> {
        self.events.to_vec()
    }

    fn thaw(frozen: Vec<u64>) -> Self {
        Self { events: std::sync::Arc::new(frozen) }
    }
}

#[tokio::test]
async fn a_machine_may_freeze_as_something_else() {
    let store = Store::memory();
    let begin = || Shared::thaw(Vec::new());
    let open = || Journaled::open_with(&store, "shared", begin, options());
    let (journal, _) = open().await.unwrap();
    journal.record_all(1..=5).await.unwrap();
    journal.close().await.unwrap();
    let (journal, report) = open().await.unwrap();
    assert_eq!(report.replayed, 0);
    let events = journal.read(|shared| std::sync::Arc::clone(&shared.events)).await.unwrap();
    assert_eq!(*events, [1, 2, 3, 4, 5]);

    let (ledger, _) = super::open(&store).await;
    record(&ledger, [1]).await;
    ledger.close().await.unwrap();
    let error = Journaled::open_with(&store, "test", begin, options()).await.unwrap_err();
    assert!(error.to_string().contains("no migration from schema version 1"), "{error}");
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Words(Vec<String>);
impl PlainMachine for Words {
    type Event = String;
    fn apply(&mut self, event: &String) {
        self.0.push(event.clone());
    }
}

#[tokio::test]
async fn an_event_of_another_type_is_no_event() {
    let store = Store::memory();
    let (journal, _) = open(&store).await;
    record(&journal, [1]).await;
    drop(journal);

    let error = Journaled::<Words>::open(&store, "test", options()).await.unwrap_err();
    assert!(matches!(error, JournalError::Log(_)), "{error}");
    assert!(error.to_string().contains("cannot decode record 1"), "{error}");
}

#[tokio::test]
async fn the_codec_is_the_options() {
    let store = Store::memory();
    let json = JournalOptions { codec: Codec::Json, ..options() };
    let (journal, _) = super::open_as(&store, json.clone()).await.unwrap();
    record(&journal, [123_456_789]).await;
    journal.close().await.unwrap();
    let text = b"123456789";
    let readable = super::entries(&store).await.into_iter();
    let readable = readable.filter(|e| e.value.windows(text.len()).any(|part| part == text));
    assert!(readable.count() >= 1, "the event is there as text");
    let (journal, _) = super::open_as(&store, json).await.unwrap();
    assert_eq!(super::state(&journal).await, ledger([123_456_789]));
}
