//! A secret in a real directory: found in no file of it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::Path;

use resurge_seal::{Context, KdfParams, KeyRing, Passphrase, SealError, Sealer, SensitivePolicy};
use resurge_store::{Batch, Codec, Durability, Namespace, Record, Store};
use resurge_store_sled::{SledOptions, SledStore};
use resurge_testkit::evidence;
use serde_json::json;
use support::{contains, key};

const CANARY: &str = "canary-7f3a91c2";
const WORDS: &str = "correct horse battery staple";

/// Every file below `dir`, with its content.
fn files(dir: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

async fn ring(store: &Store, words: &str) -> Result<KeyRing, SealError> {
    let passphrase = Passphrase::new(words)?.params(KdfParams::insecure_for_tests());
    KeyRing::builder().passphrase(1, passphrase).key(2, &key(2))?.open(store, "main").await
}

fn values() -> Vec<(&'static str, serde_json::Value)> {
    vec![
        ("user", json!("visible-user")),
        ("pwd", json!(CANARY)),
        ("password", json!({ "old": CANARY, "new": [CANARY] })),
        ("settings", json!({ "db": { "password": CANARY, "host": "h" } })),
        ("n", json!({ "api_token": 7, "note": CANARY })),
    ]
}

#[tokio::test]
async fn scenario_36_no_file_holds_the_secret() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let policy = SensitivePolicy::new().names(["pwd", "password", "*_token"]).unwrap();
    let ns = Namespace::new("app").unwrap();
    {
        let (backend, _) = SledStore::open(&path, SledOptions::new()).await.unwrap();
        let store = Store::new(backend);
        let sealer = Sealer::new(ring(&store, WORDS).await.unwrap(), policy.clone());
        for (name, value) in values() {
            let context = Context::new("wf-1", "ctx", name);
            let stored = sealer.encode(&context, Codec::Json, &value).unwrap();
            let key = ns.key(name).unwrap();
            let mut batch = Batch::new();
            batch.put(key.clone(), Record::new(stored).encode(&key));
            store.commit(batch, Durability::Durable).await.unwrap();
        }
        let text = format!("login failed for {CANARY}");
        let context = Context::new("wf-1", "error", "login");
        let stored = sealer.protect(&context, sealer.decide_errors(), text.as_bytes()).unwrap();
        let mut batch = Batch::new();
        batch.put(ns.key("error").unwrap(), stored);
        store.commit(batch, Durability::Durable).await.unwrap();
        store.close().await.unwrap();
    }
    let mut found = Vec::new();
    files(&path, &mut found);
    // The search finds what is there in clear.
    assert!(found.iter().any(|(_, content)| contains(content, b"visible-user")));
    for (file, content) in &found {
        for secret in [CANARY.as_bytes(), WORDS.as_bytes(), &key(2)[..8]] {
            assert!(!contains(content, secret), "{file}");
        }
    }
    let bytes: usize = found.iter().map(|(_, content)| content.len()).sum();
    evidence("seal-canary", &format!("0 finds in {} files, {bytes} bytes", found.len()));

    let (backend, _) = SledStore::open(&path, SledOptions::new()).await.unwrap();
    let store = Store::new(backend);
    // The wrong words: said before anything is read, and everything is still there for the right ones.
    let refused = ring(&store, "correct horse battery stable").await.unwrap_err();
    assert!(matches!(refused, SealError::WrongKey { .. }), "{refused}");
    let sealer = Sealer::new(ring(&store, WORDS).await.unwrap(), policy);
    for (name, value) in values() {
        let context = Context::new("wf-1", "ctx", name);
        let stored = store.read(&ns.key(name).unwrap()).await.unwrap().into_payload().unwrap();
        let back: serde_json::Value = sealer.decode(&context, Codec::Json, &stored).unwrap();
        assert_eq!(back, value);
    }
    store.close().await.unwrap();
}
