//! Sealed sessions move to a new key while they are used.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use resurge_seal::{KeyRing, Reencrypt};
use resurge_session_token::{SessionError, SessionManager};
use resurge_store::Store;

#[tokio::test]
async fn a_key_is_destroyed_once_no_session_needs_it() {
    let store = Store::memory();
    let key = |n: u8| (n..n + 32).collect::<Vec<u8>>();
    let ring = KeyRing::builder().key(1, &key(1)).unwrap().open(&store, "main").await.unwrap();
    let builder = SessionManager::builder(store.clone()).ring(ring.clone()).seal_states(true);
    let sessions = builder.cleanup_interval(None).build().unwrap();
    let mut tokens = Vec::new();
    for n in 0..10_u8 {
        let token = sessions.create(format!("socket-{n}")).await.unwrap();
        sessions.save(&token, &n).await.unwrap();
        tokens.push(token);
    }
    let empty = sessions.create("nothing saved").await.unwrap();
    ring.add(2, &key(2)).await.unwrap();
    ring.promote(2).await.unwrap();
    // Clients that come back hold tokens of the new key.
    for token in &mut tokens {
        *token = sessions.recover::<u8>(token).await.unwrap().token;
    }
    let job = Reencrypt::new(&store, &ring).over(sessions.sealed_sessions().unwrap());
    assert!(ring.destroy(1, "rotated", &job.count().await.unwrap()).await.is_err());
    assert_eq!(job.run().await.unwrap().resealed, 21);
    assert_eq!(job.run().await.unwrap().resealed, 0);
    ring.destroy(1, "rotated", &job.count().await.unwrap()).await.unwrap();
    for (n, token) in (0..).zip(&tokens) {
        let back = sessions.recover::<u8>(token).await.unwrap();
        assert_eq!((back.state, back.subject), (n, format!("socket-{n}")));
    }
    let refused = sessions.recover::<u8>(&empty).await.unwrap_err();
    assert!(matches!(refused, SessionError::KeyRevoked), "{refused:?}");
}
