//! What version 1 looks like on disk, byte for byte, and that it is still read.
#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use resurge_store::{Batch, Durability, Entry, Key, SeededEntropy, Store};
use resurge_wal::Wal;
use support::{all, entries, open, options, records, store_of};

const FIXTURE: &str = include_str!("fixtures/v1/log.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, b| text + &format!("{b:02x}"))
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |i| u8::from_str_radix(&text[i..i + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

/// Two pages, a hole between them, a truncated beginning.
async fn write() -> Vec<Entry> {
    let store = Store::memory().with_entropy(SeededEntropy::new(7));
    let (wal, _) = Wal::<String>::open(&store, support::LOG, options()).await.unwrap();
    wal.append_all(&["a".to_owned(), "bc".to_owned()]).await.unwrap();
    let mut stage = wal.stage().await.unwrap();
    stage.push(&"never".to_owned()).unwrap();
    let staged = stage.write(&mut Batch::new()).unwrap();
    let behind = wal.append(&"d".to_owned());
    drop(staged);
    behind.await.unwrap();
    wal.truncate_before(resurge_wal::Lsn(2)).await.unwrap();
    let mut stage = wal.stage().await.unwrap();
    stage.push(&"e".to_owned()).unwrap();
    stage.commit(Batch::new(), Durability::Durable).unwrap().await.unwrap();
    entries(&store).await
}

#[tokio::test]
async fn the_same_records_make_the_same_bytes() {
    let lines = |entry: &Entry| [hex(entry.key.raw()), hex(&entry.value), String::new()];
    let made: Vec<_> = write().await.iter().flat_map(lines).collect();
    let made = made.join("\n");
    assert_eq!(made, FIXTURE, "the format changed: it needs a new version, and this one a reader");
}

#[tokio::test]
async fn version_1_is_read() {
    let mut stored = Vec::new();
    let mut lines = FIXTURE.lines();
    while let (Some(key), Some(value)) = (lines.next(), lines.next()) {
        let key = Key::from_raw(unhex(key).into()).unwrap();
        lines.next();
        stored.push(Entry { key, value: unhex(value).into() });
    }
    let wal = open(&store_of(&stored).await).await;
    assert_eq!(all(&wal).await, records(&[(2, "bc"), (4, "d"), (5, "e")]));
}
