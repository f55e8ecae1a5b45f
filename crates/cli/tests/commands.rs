//! The command as users run it: what it prints, and its exit codes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use resurge_journal::{JournalOptions, Journaled, PlainMachine};
use resurge_store::{Batch, Durability, Namespace, StateStore, Store};
use resurge_store_sled::{SledOptions, SledStore};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Sum(u64);

impl PlainMachine for Sum {
    type Event = u64;
    fn apply(&mut self, event: &u64) {
        self.0 += event;
    }
}

fn options() -> SledOptions {
    SledOptions::new().segment_sizes(64 << 10, 256 << 10).ballast(0).free_space_reserve(0)
}

/// A store with an image, a journal with a snapshot, and two keys of a user.
async fn fill(path: &Path) -> Arc<SledStore> {
    let (backend, _) = SledStore::open(path, options()).await.unwrap();
    let backend = Arc::new(backend);
    let store = Store::from_arc(Arc::clone(&backend) as Arc<dyn StateStore>);
    let (sum, _) = Journaled::<Sum>::open(&store, "sum", JournalOptions::default()).await.unwrap();
    for n in 0..10 {
        sum.record(n).await.unwrap();
    }
    sum.snapshot_now().await.unwrap();
    let orders = Namespace::new("orders").unwrap();
    let mut batch = Batch::new();
    batch.put(orders.key("1").unwrap(), "paid").put(orders.key("2").unwrap(), "open");
    store.commit(batch, Durability::Durable).await.unwrap();
    backend.image_now().await.unwrap();
    backend
}

fn resurge(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_resurge")).args(arguments).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

#[track_caller]
fn expect(arguments: &[&str], expected: i32) -> String {
    let output = resurge(arguments);
    let (out, err) =
        (String::from_utf8(output.stdout.clone()), String::from_utf8(output.stderr.clone()));
    let (out, err) = (out.unwrap(), err.unwrap());
    assert_eq!(code(&output), expected, "{arguments:?}: {out}{err}");
    assert_eq!(out.is_empty(), expected > 1, "{out}");
    out + &err
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_slice(&resurge(arguments).stdout).unwrap()
}

fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

/// One test at a time: between fork and exec a child of one test holds the locks of the other's stores.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_verified_inspected_copied_and_restored() {
    let _alone = ALONE.lock().await;
    let tmp = tempfile::tempdir().unwrap();
    let path = |name: &str| tmp.path().join(name).to_str().unwrap().to_owned();
    let (state, backup, restored) = (path("state"), path("backup"), path("restored"));
    let store = fill(Path::new(&state)).await;
    for arguments in [&["verify", &state][..], &["inspect", &state], &["backup", &state, &backup]] {
        let said = expect(arguments, 3);
        assert!(said.contains("in use"), "{said}");
    }
    assert!(!Path::new(&backup).exists());
    store.close().await.unwrap();
    drop(store);

    let before = contents(Path::new(&state));
    let said = expect(&["verify", &state, "--index"], 0);
    assert!(said.contains("intact") && said.contains("index proved"), "{said}");
    let report = json(&["verify", "--json", &state]);
    assert_eq!((&report["clean"], &report["index"]), (&Value::from(true), &"not-checked".into()));
    let said = expect(&["inspect", &state], 0);
    for line in [
        "namespace orders: 2 keys",
        "log journal/sum: 10 records",
        "snapshot journal/sum 1: position 10",
        "segment log/0000000000000001.log",
        "image ",
        "closed in good order",
    ] {
        assert!(said.contains(line), "`{line}` is not in:\n{said}");
    }
    let shown = json(&["inspect", &state, "--json"]);
    assert_eq!(shown["contents"]["namespaces"]["orders"]["keys"], 2);
    assert_eq!(shown["contents"]["logs"][0]["records"], 10);
    assert_eq!(shown["contents"]["snapshots"][0]["position"], 10);
    assert!(contents(Path::new(&state)) == before, "something was changed");

    let taken = json(&["backup", &state, &backup, "--json"]);
    assert_eq!(taken["seq"], report["last_seq"]);
    expect(&["restore", &backup, &restored], 0);
    let said = expect(&["restore", &backup, &restored], 2);
    assert!(said.contains("not empty"), "{said}");
    expect(&["verify", &restored], 0);
    let again = json(&["inspect", "--json", &restored]);
    assert_eq!(again["contents"], shown["contents"]);
    let (opened, _) = SledStore::open(&restored, options()).await.unwrap();
    let key = Namespace::new("orders").unwrap().key("1").unwrap();
    assert_eq!(opened.get(&key).await.unwrap().unwrap(), "paid");
    opened.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_exit_code_one() {
    let _alone = ALONE.lock().await;
    let tmp = tempfile::tempdir().unwrap();
    let path = |name: &str| tmp.path().join(name).to_str().unwrap().to_owned();
    let (state, dest) = (path("state"), path("dest"));
    let store = fill(Path::new(&state)).await;
    store.close().await.unwrap();
    drop(store);
    let log = Path::new(&state).join("log/0000000000000001.log");
    let mut bytes = fs::read(&log).unwrap();
    bytes[4_200] ^= 1;
    fs::write(&log, bytes).unwrap();
    let said = expect(&["verify", &state], 1);
    assert!(said.contains("log/0000000000000001.log, offset"), "{said}");
    let said = expect(&["inspect", &state], 1);
    assert!(said.contains("not shown"), "{said}");
    for command in ["backup", "restore"] {
        let refused = resurge(&[command, &state, &dest]);
        assert_eq!(code(&refused), 1);
        assert!(refused.stdout.is_empty() && !Path::new(&dest).exists());
    }
    let report = json(&["verify", &state, "--json"]);
    assert_eq!(report["findings"][0]["severity"], "fatal");
}

#[test]
fn wrong_usage_is_exit_code_two() {
    let _alone = ALONE.blocking_lock();
    let tmp = tempfile::tempdir().unwrap();
    let empty = tmp.path().to_str().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    for arguments in [
        &[][..],
        &["mend", empty],
        &["verify"],
        &["verify", empty],
        &["verify", file],
        &["verify", "/does/not/exist"],
    ] {
        let said = expect(arguments, 2);
        assert!(said.starts_with("resurge: "), "{said}");
    }
    assert!(fs::read_dir(empty).unwrap().next().is_none(), "something was created");
    assert!(expect(&["--help"], 0).contains("exit code"));
}
