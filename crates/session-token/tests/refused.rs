//! What is refused for its length costs nothing: a mebibyte and sixteen allocate as much as a few bytes too many.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use allocation_counter::measure;
use resurge_session_token::{ReusePolicy, SessionManager, Token, TokenKind, join_token};
use resurge_store::Store;
use resurge_testkit::evidence;

const MIB: usize = 1 << 20;

fn manager(kind: TokenKind) -> SessionManager {
    let key: Vec<u8> = (0..32).collect();
    let builder = SessionManager::builder(Store::memory()).key(1, &key).token_kind(kind);
    builder.reuse(ReusePolicy::UntilExpiry).cleanup_interval(None).build().unwrap()
}

/// Allocations, and their bytes, of refusing a text of this length in each of the ways it may come.
fn refusal(sessions: &SessionManager, prefix: &str, len: usize) -> (u64, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let text = format!("{prefix}{}", "A".repeat(len - prefix.len()));
    let owned = Token::from(text.clone());
    let mut allocated = (0, 0);
    for round in 0..2 {
        let info = measure(|| {
            runtime.block_on(async {
                sessions.recover::<u8>(&text.as_str().into()).await.unwrap_err();
                sessions.recover::<u8>(&owned).await.unwrap_err();
                sessions.peek::<u8>(&owned).await.unwrap_err();
                sessions.save(&owned, &7_u8).await.unwrap_err();
                sessions.delete(&owned).await.unwrap_err();
            });
        });
        // The first round may set up what stays.
        if round == 1 {
            allocated = (info.count_total, info.bytes_total);
        }
    }
    allocated
}

#[test]
fn s05_a_mebibyte_is_refused_without_allocating_for_it() {
    for (kind, prefix, longest) in [
        (TokenKind::Reference, "st1.", 256),
        (TokenKind::SealedState, "st1.", 64 << 10),
        (TokenKind::Compact48, "", 64),
    ] {
        let sessions = manager(kind);
        // Longer than what is even copied, so that both ways are the same for all lengths.
        let few = refusal(&sessions, prefix, (64 << 10) + 1);
        for len in [MIB, 16 * MIB] {
            assert_eq!(refusal(&sessions, prefix, len), few, "{kind:?}: {len}");
        }
        // Nothing but the name of the failure's class, in two metrics.
        let (times, bytes) = few;
        assert!(times <= 8 && bytes < 4096, "{kind:?}: {times} allocations of {bytes} bytes");
        if kind == TokenKind::Reference {
            let short = refusal(&sessions, prefix, longest + 44);
            assert!(short.1 >= bytes && short.1 < bytes + 1024, "{short:?}, {few:?}");
            let line =
                format!("refusing 16 MiB: {times} allocations, {bytes} bytes, as for 300 bytes");
            evidence("session-refusal", &line);
        }
    }
}

#[test]
fn a_join_message_that_is_too_long_is_not_parsed() {
    let long = format!(r#"{{"_recovery":"{}"}}"#, "A".repeat(16 * MIB));
    assert_eq!(measure(|| drop(join_token(&long))).count_total, 0);
}

/// The positive control: the counter counts.
#[test]
fn what_is_copied_is_counted() {
    let text = "A".repeat(60_000);
    let info = measure(|| drop(Token::from(text.as_str())));
    assert!(info.bytes_total >= 60_000);
}
