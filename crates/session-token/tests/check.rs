//! `check` asks the token and nobody else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use resurge_session_token::{SessionError, SessionManager, Token};
use resurge_store::{Store, VirtualClock};

#[tokio::test]
async fn what_the_token_says_is_checked_and_the_store_is_not_asked() {
    let clock = VirtualClock::new();
    let key: Vec<u8> = (0..32).collect();
    let over = |store: Store, clock: &VirtualClock| {
        let store = store.with_clock(clock.clone());
        SessionManager::builder(store).key(1, &key).cleanup_interval(None).build().unwrap()
    };
    let sessions = over(Store::memory(), &clock);
    let token = sessions.create("alice").await.unwrap();
    let id = sessions.list("alice").await.unwrap().first().unwrap().id;
    assert_eq!(sessions.check(&token).await.unwrap(), id);

    // Another store, without any session; the same one, without this session.
    let elsewhere = over(Store::memory(), &clock);
    assert_eq!(elsewhere.check(&token).await.unwrap(), id);
    sessions.revoke(&token).await.unwrap();
    assert_eq!(sessions.check(&token).await.unwrap(), id);
    assert!(matches!(sessions.peek::<u8>(&token).await, Err(SessionError::Revoked)));

    let other = if token.expose().ends_with('A') { "E" } else { "A" };
    let text = token.expose();
    let forged = Token::from(format!("{}{other}", text.get(..text.len() - 1).unwrap()));
    let refused = sessions.check(&forged).await.unwrap_err();
    assert!(matches!(refused, SessionError::InvalidSignature | SessionError::Malformed));
    let bound = sessions.bound_to("cookie:abc").check(&token).await;
    assert!(matches!(bound, Err(SessionError::WrongBinding)));

    clock.advance(Duration::from_secs(24 * 3600));
    assert!(matches!(sessions.check(&token).await, Err(SessionError::Expired { .. })));
    sessions.close().await.unwrap();
    assert!(matches!(sessions.check(&token).await, Err(SessionError::Closed)));
}
