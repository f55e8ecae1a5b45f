//! Nothing secret is printed, logged or stored where it must not be.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fmt::{Debug, Write as _};
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;
use resurge_session_token::{SessionManager, Token, TokenKind};
use resurge_store::{Store, VirtualClock};
use resurge_store_sled::{SledOptions, SledStore};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn say(out: &mut String, what: &dyn Debug) {
    writeln!(out, "{what:?} {what:#?}").unwrap();
}

/// Everything sessions say of themselves while things go well and wrong; and their secrets.
async fn printed(canary: &str, kind: TokenKind, seal: bool) -> (String, Vec<String>) {
    let out = &mut String::new();
    let (subject, state) = (format!("subject-{canary}"), format!("state-{canary}"));
    let key = format!("key-{canary}-{canary}-{canary}-{canary}");
    let clock = VirtualClock::new();
    let store = Store::memory().with_clock(clock.clone());
    let builder = SessionManager::builder(store).key(1, key.as_bytes()).token_kind(kind);
    let builder = builder.seal_states(seal).cleanup_interval(None);
    say(out, &builder);
    let sessions = builder.build().unwrap().bound_to(format!("context-{canary}"));
    say(out, &sessions);
    let first = sessions.create(&subject).await.unwrap();
    let saved = sessions.save(&first, &state).await.unwrap();
    say(out, &saved);
    say(out, &sessions.peek::<String>(&saved.token).await.unwrap());
    let back = sessions.recover::<String>(&saved.token).await.unwrap();
    say(out, &back);
    say(out, &sessions.list(&subject).await.unwrap());
    let mut secrets = vec![canary.to_owned()];
    secrets.extend([&first, &saved.token, &back.token].map(|token| token.expose().to_owned()));
    let changed = back.token.expose().replace('A', "B");
    let other = sessions.bound_to("other");
    let mut errors = vec![
        sessions.recover::<u64>(&back.token).await.unwrap_err(),
        sessions.recover::<String>(&changed.as_str().into()).await.unwrap_err(),
        sessions.recover::<String>(&canary.into()).await.unwrap_err(),
        other.recover::<String>(&back.token).await.unwrap_err(),
        sessions.create(canary.repeat(200)).await.unwrap_err(),
    ];
    clock.advance(std::time::Duration::from_secs(60));
    errors.push(sessions.recover::<String>(&saved.token).await.unwrap_err());
    errors.extend(sessions.recover::<String>(&back.token).await.map(drop).err());
    for error in &errors {
        say(out, error);
        say(out, &(error.to_string(), error.public().to_string()));
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            say(out, &cause.to_string());
            source = cause.source();
        }
    }
    for token in [&first, &back.token, &Token::from(canary)] {
        say(out, token);
        say(out, &token.to_string());
    }
    (std::mem::take(out), secrets)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn s32_no_debug_no_error_and_no_log_line_shows_a_secret(canary in "[a-zA-Z0-9]{12,20}") {
        for (kind, seal) in [
            (TokenKind::Reference, false),
            (TokenKind::Reference, true),
            (TokenKind::SealedState, false),
        ] {
            let log = Log::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_writer(move || writer.clone())
                .finish();
            let (printed, secrets) = tracing::subscriber::with_default(subscriber, || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(printed(&canary, kind, seal))
            });
            let logged = String::from_utf8_lossy(&log.0.lock()).into_owned();
            // The log is there; what it says is harmless.
            prop_assert!(logged.contains("not recovered"), "{logged}");
            for secret in &secrets {
                prop_assert!(!printed.contains(secret.as_str()), "{secret} in {printed}");
                prop_assert!(!logged.contains(secret.as_str()), "{secret} in {logged}");
            }
        }
    }
}

fn files(dir: &Path, out: &mut Vec<u8>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else {
            let bytes = std::fs::read(path).unwrap();
            // Prepared space is all zeros; the search is slow enough without.
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            out.extend_from_slice(&bytes[..end]);
        }
    }
}

/// The directory after a life of sessions, and the tokens clients hold.
async fn directory(seal: bool) -> (Vec<u8>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let (sled, _) = SledStore::open(&path, SledOptions::new()).await.unwrap();
    let key: Vec<u8> = (0..32).collect();
    let builder = SessionManager::builder(Store::new(sled)).key(1, &key).seal_states(seal);
    let sessions = builder.cleanup_interval(None).build().unwrap();
    let mut tokens = Vec::new();
    for n in 0..20 {
        let token = sessions.create("CANARY-SUBJECT").await.unwrap();
        sessions.save(&token, &format!("CANARY-STATE-{n}")).await.unwrap();
        tokens.push(token.expose().to_owned());
        let back = sessions.recover::<String>(&token).await.unwrap();
        tokens.push(back.token.expose().to_owned());
    }
    sessions.close().await.unwrap();
    drop(sessions);
    let mut bytes = Vec::new();
    files(&path, &mut bytes);
    (bytes, tokens)
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test]
async fn s32_the_directory_holds_no_token_and_sealed_no_state() {
    use base64ct::{Base64UrlUnpadded, Encoding};
    for seal in [false, true] {
        let (bytes, tokens) = directory(seal).await;
        // The positive control: in clear, it is there to be found.
        assert_eq!(holds(&bytes, b"CANARY-STATE"), !seal);
        assert_eq!(holds(&bytes, b"CANARY-SUBJECT"), !seal);
        assert!(!holds(&bytes, b"st1."));
        for token in &tokens[..4] {
            let body = Base64UrlUnpadded::decode_vec(&token[4..]).unwrap();
            assert!(!holds(&bytes, &body[50..]), "the signature of a token is stored");
            assert!(!holds(&bytes, token.as_bytes()), "a token is stored");
        }
    }
}
