//! Sessions that come and go at once: nobody waits for the disk of another, and limits are exact all the same.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use futures_util::FutureExt;
use resurge_session_token::{Eviction, SessionBuilder, SessionError, SessionManager, Token};
use resurge_store::{ErrorKind, MemoryStore, Store};
use resurge_testkit::{Call, Fault, FaultStore};
use tokio::task::JoinHandle;

type Created = JoinHandle<Result<Token, SessionError>>;

fn held() -> (FaultStore, Store) {
    let faults = FaultStore::new(MemoryStore::in_memory());
    (faults.clone(), Store::new(faults))
}

fn builder(store: &Store) -> SessionBuilder {
    let key: Vec<u8> = (0..32).collect();
    SessionManager::builder(store.clone()).key(1, &key).max_entries(None).cleanup_interval(None)
}

fn create(sessions: &SessionManager, subject: &str) -> Created {
    let (sessions, subject) = (sessions.clone(), subject.to_owned());
    tokio::spawn(async move { sessions.create(subject).await })
}

/// Until all that can go on without an answer of the store has gone on.
async fn quiet() {
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
}

/// Answers one commit after the other, until all are done.
async fn all(faults: &FaultStore, created: Vec<Created>) -> Vec<Result<Token, SessionError>> {
    while created.iter().any(|one| !one.is_finished()) {
        quiet().await;
        faults.release_next(1);
    }
    let mut answers = Vec::new();
    for one in created {
        answers.push(one.await.unwrap());
    }
    faults.release();
    answers
}

#[tokio::test]
async fn a_create_does_not_wait_until_another_one_is_durable() {
    let (faults, store) = held();
    let sessions = builder(&store).build().unwrap();
    faults.hold();
    let created: Vec<Created> = (0..16).map(|n| create(&sessions, &format!("user-{n}"))).collect();
    quiet().await;
    assert_eq!(faults.held(), 16);
    let answers = all(&faults, created).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 16);
    assert_eq!(faults.calls(Call::Commit), 16, "none had to begin anew");
    assert_eq!(sessions.live().await.unwrap(), 16);

    // And so those that go.
    faults.hold();
    let deleted: Vec<_> = answers
        .into_iter()
        .map(|token| {
            let sessions = sessions.clone();
            tokio::spawn(async move { sessions.delete(&token.unwrap()).await })
        })
        .collect();
    let late = create(&sessions, "late");
    quiet().await;
    assert_eq!(faults.held(), 17);
    faults.release();
    for one in deleted {
        one.await.unwrap().unwrap();
    }
    late.await.unwrap().unwrap();
    assert_eq!(sessions.live().await.unwrap(), 1);
}

#[tokio::test]
async fn limits_are_exact_for_those_that_come_at_once() {
    for eviction in [Eviction::SoonestExpiry, Eviction::Oldest, Eviction::Reject] {
        let (faults, store) = held();
        let sessions = builder(&store).max_entries(3).eviction(eviction).build().unwrap();
        faults.hold();
        let created: Vec<_> = (0..8).map(|n| create(&sessions, &format!("user-{n}"))).collect();
        while created.iter().any(|one| !one.is_finished()) {
            quiet().await;
            faults.release_next(1);
            assert!(sessions.live().await.unwrap() <= 3, "{eviction:?}");
        }
        let answers = all(&faults, created).await;
        let refused = |answer: &&Result<_, _>| matches!(answer, Err(SessionError::Capacity { .. }));
        let refused = answers.iter().filter(refused).count();
        assert_eq!(refused, if eviction == Eviction::Reject { 5 } else { 0 }, "{eviction:?}");
        assert_eq!(sessions.live().await.unwrap(), 3, "{eviction:?}");
        let mut alive = 0;
        for token in answers.into_iter().flatten() {
            alive += u32::from(sessions.touch(&token).await.is_ok());
        }
        assert_eq!(alive, 3, "{eviction:?}");
    }
}

#[tokio::test]
async fn limits_of_a_subject_are_exact_for_those_that_come_at_once() {
    let (faults, store) = held();
    let sessions = builder(&store).max_entries_per_subject(2).build().unwrap();
    faults.hold();
    let created = (0..12).map(|n| create(&sessions, ["a", "b", "c"][n % 3])).collect();
    assert!(all(&faults, created).await.iter().all(Result::is_ok));
    for subject in ["a", "b", "c"] {
        assert_eq!(sessions.list(subject).await.unwrap().len(), 2, "{subject}");
    }
    assert_eq!(sessions.live().await.unwrap(), 6);
}

#[tokio::test]
async fn a_create_that_fails_does_not_fail_those_behind_it() {
    for (fault, live) in [
        (Fault::before(ErrorKind::Unavailable), 7),
        (Fault::before(ErrorKind::Full), 7),
        (Fault::after(ErrorKind::Indeterminate), 8),
    ] {
        for nth in 1..=8 {
            let (faults, store) = held();
            let sessions = builder(&store).build().unwrap();
            faults.hold();
            faults.fail(Call::Commit, nth, fault);
            let created: Vec<_> = (0..8).map(|n| create(&sessions, &format!("user-{n}"))).collect();
            quiet().await;
            assert_eq!(faults.held(), 8);
            let answers = all(&faults, created).await;
            assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 1);
            assert_eq!(sessions.live().await.unwrap(), live);
        }
    }
}

#[tokio::test]
async fn nobody_waits_for_a_create_that_was_given_up() {
    let (faults, store) = held();
    let sessions = builder(&store).max_entries(4).build().unwrap();
    faults.hold();
    let created: Vec<_> = (0..3).map(|n| create(&sessions, &format!("user-{n}"))).collect();
    quiet().await;
    created[0].abort();
    created[1].abort();
    // Its limit may be reached: it has to see them all.
    let more: Vec<_> = (3..6).map(|n| create(&sessions, &format!("user-{n}"))).collect();
    quiet().await;
    assert!(all(&faults, more).await.iter().all(Result::is_ok));
    assert_eq!(sessions.live().await.unwrap(), 4);
}

#[tokio::test]
async fn two_managers_share_one_count() {
    let (faults, store) = held();
    let both = [builder(&store).build().unwrap(), builder(&store).build().unwrap()];
    faults.hold();
    let created = (0..16).map(|n| create(&both[n % 2], &format!("user-{n}"))).collect();
    assert!(all(&faults, created).await.iter().all(Result::is_ok));
    assert_eq!(both[0].live().await.unwrap(), 16);
    assert_eq!(both[1].live().await.unwrap(), 16);

    // One after the other, each reads what the other one wrote.
    let before = faults.calls(Call::Commit);
    for n in 0..6 {
        both[n % 2].create("one by one").await.unwrap();
    }
    assert_eq!(faults.calls(Call::Commit) - before, 6);
}

#[tokio::test]
async fn a_create_that_nobody_waits_for_counts_for_its_subject() {
    let (faults, store) = held();
    let sessions = builder(&store).max_entries_per_subject(1).build().unwrap();
    faults.hold();
    let dropped = create(&sessions, "y");
    quiet().await;
    let other = create(&sessions, "x");
    quiet().await;
    assert_eq!(faults.held(), 2);
    dropped.abort();
    quiet().await;
    let again = create(&sessions, "y");
    let more = create(&sessions, "z");
    assert!(all(&faults, vec![other, again, more]).await.iter().all(Result::is_ok));
    for subject in ["x", "y", "z"] {
        assert_eq!(sessions.list(subject).await.unwrap().len(), 1, "{subject}");
    }
    assert_eq!(sessions.live().await.unwrap(), 3);
}

#[tokio::test]
async fn what_another_manager_writes_at_the_same_time_is_not_taken_for_ones_own() {
    let (faults, store) = held();
    let one = || builder(&store).max_entries_per_subject(1).build().unwrap();
    let (here, there) = (one(), one());
    faults.hold();
    let first = create(&there, "y");
    quiet().await;
    // Begins with the same count, and fails; what is chained behind it would fit behind the other's.
    let second = create(&here, "x");
    quiet().await;
    let third = create(&here, "y");
    quiet().await;
    assert_eq!(faults.held(), 3);
    assert!(all(&faults, vec![first, second, third]).await.iter().all(Result::is_ok));
    for subject in ["x", "y"] {
        assert_eq!(here.list(subject).await.unwrap().len(), 1, "{subject}");
    }
    assert_eq!(here.live().await.unwrap(), 2);
}

#[tokio::test]
async fn what_is_not_polled_holds_nobody_up() {
    let (faults, store) = held();
    let sessions = builder(&store).max_entries(1).build().unwrap();
    faults.hold();
    let mut idle = Box::pin(sessions.create("a"));
    assert!(idle.as_mut().now_or_never().is_none());
    assert_eq!(faults.held(), 1);
    let busy = create(&sessions, "b");
    quiet().await;
    assert!(all(&faults, vec![busy]).await.iter().all(Result::is_ok));
    let first = idle.await.unwrap();
    assert!(matches!(sessions.touch(&first).await, Err(SessionError::NotFound)));
    assert_eq!(sessions.live().await.unwrap(), 1);
}

#[tokio::test]
async fn what_ends_sees_what_failed_though_nobody_waited_for_it() {
    let (faults, store) = held();
    let sessions = builder(&store).build().unwrap();
    let old = sessions.create("a").await.unwrap();
    faults.hold();
    faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Unavailable));
    let dropped = create(&sessions, "b");
    quiet().await;
    dropped.abort();
    quiet().await;
    faults.release();
    let before = faults.calls(Call::Commit);
    sessions.delete(&old).await.unwrap();
    assert_eq!(faults.calls(Call::Commit) - before, 1);
    assert_eq!(sessions.live().await.unwrap(), 0);
}
