//! Storage of the user's own: what it can do, and what the builder says it cannot.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use resurge_session_token::{
    OnDuplicate, ReusePolicy, SessionBuilder, SessionError, SessionManager, StoredState, TokenStore,
};
use resurge_store::{BoxFuture, ErrorKind, StoreError, Timestamp, VirtualClock};

type States = Arc<Mutex<HashMap<String, (Bytes, u64, Duration)>>>;

#[derive(Clone, Debug, Default)]
struct Shelf {
    compares: bool,
    broken: bool,
    /// At the next new name, everything else is removed.
    meddled: Arc<AtomicBool>,
    states: States,
}

impl TokenStore for Shelf {
    fn compares_and_swaps(&self) -> bool {
        self.compares
    }

    fn load<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<StoredState>, StoreError>> {
        Box::pin(async move {
            if self.broken {
                return Err(StoreError::new(ErrorKind::Unavailable, "away"));
            }
            let found = self.states.lock().get(id).cloned();
            Ok(found.map(|(state, version, _)| StoredState { state, version }))
        })
    }

    fn save<'a>(
        &'a self,
        id: &'a str,
        state: Bytes,
        expected: Option<u64>,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut states = self.states.lock();
            if expected.is_none() && self.meddled.swap(false, Ordering::SeqCst) {
                states.clear();
            }
            let found = states.get(id).map(|(_, version, _)| *version);
            if self.compares && found != expected {
                return Err(StoreError::new(ErrorKind::Conflict, "changed"));
            }
            states.insert(id.to_owned(), (state, found.unwrap_or(0) + 1, ttl));
            Ok(())
        })
    }

    fn delete<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.states.lock().remove(id);
            Ok(())
        })
    }
}

fn over(shelf: &Shelf) -> SessionBuilder {
    let key: Vec<u8> = (0..32).collect();
    SessionManager::builder_over(shelf.clone()).key(1, &key).clock(VirtualClock::new())
}

#[tokio::test]
async fn save_load_delete_are_enough() {
    let shelf = Shelf::default();
    let sessions = over(&shelf).reuse(ReusePolicy::UntilExpiry).build().unwrap();
    let token = sessions.create("alice").await.unwrap();
    sessions.save(&token, &7_u8).await.unwrap();
    assert_eq!(sessions.recover::<u8>(&token).await.unwrap().state, 7);
    let ttl = shelf.states.lock().values().next().unwrap().2;
    assert_eq!(ttl, Duration::from_secs(300));
    let name = shelf.states.lock().keys().next().unwrap().clone();
    assert!(name.len() == 32 && !token.expose().contains(&name));
    sessions.delete(&token).await.unwrap();
    assert!(shelf.states.lock().is_empty());
    let gone = sessions.recover::<u8>(&token).await.unwrap_err();
    assert!(matches!(gone, SessionError::NotFound));
    sessions.close().await.unwrap();
}

#[tokio::test]
async fn a_failure_is_not_a_missing_session() {
    let shelf = Shelf::default();
    let sessions = over(&shelf).reuse(ReusePolicy::UntilExpiry).build().unwrap();
    let token = sessions.create("alice").await.unwrap();
    let broken = Shelf { broken: true, ..shelf };
    let sessions = over(&broken).reuse(ReusePolicy::UntilExpiry).build().unwrap();
    let failed = sessions.recover::<u8>(&token).await.unwrap_err();
    assert!(matches!(failed, SessionError::Store(_)) && failed.is_retryable());
}

#[test]
fn without_compare_and_swap_nothing_is_replaced() {
    let shelf = Shelf::default();
    for reuse in [ReusePolicy::default(), ReusePolicy::SingleUse] {
        let refused = over(&shelf).reuse(reuse).build().unwrap_err().to_string();
        assert!(refused.contains("compare-and-swap"), "{refused}");
    }
    let able = Shelf { compares: true, ..Shelf::default() };
    over(&able).reuse(ReusePolicy::SingleUse).build().unwrap();
    for limited in [over(&able).max_entries(10), over(&able).max_entries_per_subject(2)] {
        let refused = limited.build().unwrap_err().to_string();
        assert!(refused.contains("cannot count"), "{refused}");
    }
}

#[tokio::test]
async fn a_copy_of_what_ended_meanwhile_ends_too() {
    let able = Shelf { compares: true, ..Shelf::default() };
    let sessions = over(&able).on_duplicate(OnDuplicate::Fork).build().unwrap();
    let token = sessions.create("alice").await.unwrap();
    sessions.save(&token, &7_u8).await.unwrap();
    sessions.recover::<u8>(&token).await.unwrap();
    let copy = sessions.recover::<u8>(&token).await.unwrap();
    assert_eq!(sessions.peek::<u8>(&copy.token).await.unwrap().state, 7);
    assert_eq!(able.states.lock().len(), 2);
    able.meddled.store(true, Ordering::SeqCst);
    let refused = sessions.recover::<u8>(&token).await.unwrap_err();
    assert!(matches!(refused, SessionError::NotFound), "{refused:?}");
    assert!(able.states.lock().is_empty(), "the copy is left");
}

#[tokio::test]
async fn what_it_cannot_do_is_said() {
    let able = Shelf { compares: true, ..Shelf::default() };
    let sessions = over(&able).build().unwrap();
    let unsupported = |e: &SessionError| matches!(e, SessionError::Unsupported(_));
    assert!(unsupported(&sessions.list("alice").await.unwrap_err()));
    assert!(unsupported(&sessions.revoke_subject("alice").await.unwrap_err()));
    assert!(unsupported(&sessions.cleanup_expired(1).await.unwrap_err()));
    assert!(unsupported(&sessions.live().await.unwrap_err()));
    let before = Timestamp::from_millis(1);
    assert!(unsupported(&sessions.revoke_all_before(before).await.unwrap_err()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_compare_and_swap_one_of_sixteen_wins() {
    let able = Shelf { compares: true, ..Shelf::default() };
    let sessions = over(&able).reuse(ReusePolicy::SingleUse).build().unwrap();
    let token = sessions.create("alice").await.unwrap();
    sessions.save(&token, &7_u8).await.unwrap();
    let race = || {
        let (sessions, token) = (sessions.clone(), token.clone());
        tokio::spawn(async move { sessions.recover::<u8>(&token).await })
    };
    let racers: Vec<_> = (0..16).map(|_| race()).collect();
    let mut won = 0;
    for racer in racers {
        match racer.await.unwrap() {
            Ok(_) => won += 1,
            Err(e) => assert!(matches!(e, SessionError::Replayed), "{e:?}"),
        }
    }
    assert_eq!(won, 1);
}
