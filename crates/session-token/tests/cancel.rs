//! Futures dropped at every point where they wait, a close in the middle of everything, answers that are lost.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use resurge_session_token::{
    OnDuplicate, PublicError, RecoverEvent, ReusePolicy, SessionBuilder, SessionError,
    SessionHooks, SessionManager, Token, TokenKind,
};
use resurge_store::{
    Batch, BoxFuture, CommitSeq, Durability, ErrorKind, Key, KeyRange, MemoryStore, Namespace,
    Page, Result, ScanOptions, StateStore, Store, StoreInfo, VirtualClock, Watch,
};
use resurge_testkit::{Call, Fault, FaultStore, evidence};

/// A store that lets others run before and after everything it does.
#[derive(Debug)]
struct Yielding(MemoryStore);

impl StateStore for Yielding {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let found = self.0.get(key).await;
            tokio::task::yield_now().await;
            found
        })
    }

    fn scan(&self, range: KeyRange, options: ScanOptions) -> BoxFuture<'_, Result<Page>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.0.scan(range, options).await
        })
    }

    fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<CommitSeq>> {
        // Submitted when it is called, as by every store.
        let submitted = self.0.commit(batch, durability);
        Box::pin(async move {
            tokio::task::yield_now().await;
            let done = submitted.await;
            tokio::task::yield_now().await;
            done
        })
    }

    fn sync(&self) -> BoxFuture<'static, Result<()>> {
        self.0.sync()
    }

    fn watch(&self, namespace: &Namespace) -> Watch {
        self.0.watch(namespace)
    }

    fn info(&self) -> StoreInfo {
        self.0.info()
    }

    fn close(&self) -> BoxFuture<'static, Result<()>> {
        self.0.close()
    }
}

fn builder(store: Store) -> SessionBuilder {
    let key: Vec<u8> = (0..32).collect();
    SessionManager::builder(store).key(1, &key).cleanup_interval(None)
}

/// One operation, on a manager and a token with a saved state.
#[derive(Clone, Copy, Debug)]
enum Op {
    Create,
    Save,
    Recover,
    Copy,
    Touch,
    Delete,
    Revoke,
    RevokeSubject,
    RevokeBefore,
    Cleanup,
    List,
}

const OPS: [Op; 11] = [
    Op::Create,
    Op::Save,
    Op::Recover,
    Op::Copy,
    Op::Touch,
    Op::Delete,
    Op::Revoke,
    Op::RevokeSubject,
    Op::RevokeBefore,
    Op::Cleanup,
    Op::List,
];

async fn run(op: Op, sessions: SessionManager, token: Token, clock: VirtualClock) {
    use resurge_store::Clock;
    match op {
        Op::Create => drop(sessions.create("new").await.unwrap()),
        Op::Save => drop(sessions.save(&token, &2_u32).await.unwrap()),
        Op::Recover | Op::Copy => drop(sessions.recover::<u32>(&token).await.unwrap()),
        Op::Touch => sessions.touch(&token).await.unwrap(),
        Op::Delete => sessions.delete(&token).await.unwrap(),
        Op::Revoke => sessions.revoke(&token).await.unwrap(),
        Op::RevokeSubject => drop(sessions.revoke_subject("alice").await.unwrap()),
        Op::RevokeBefore => sessions.revoke_all_before(clock.now()).await.unwrap(),
        Op::Cleanup => drop(sessions.cleanup_expired(100).await.unwrap()),
        Op::List => drop(sessions.list("alice").await.unwrap()),
    }
}

/// Polls at most so often. True when it came to its end.
fn poll_for<F: Future>(future: &mut Pin<Box<F>>, times: usize) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    (0..times).any(|_| future.as_mut().poll(&mut context).is_ready())
}

/// Records, indexes and count agree.
async fn whole(sessions: &SessionManager, store: &Store) {
    let page = store.scan(Namespace::new("session/default").unwrap().all(), ScanOptions::new());
    let mut kinds: BTreeMap<u8, u64> = BTreeMap::new();
    for entry in page.await.unwrap().entries {
        *kinds.entry(entry.key.bytes()[0]).or_default() += 1;
    }
    let of = |kind: u8| kinds.get(&kind).copied().unwrap_or_default();
    let live = sessions.live().await.unwrap();
    assert_eq!((of(b'r'), of(b'o'), of(b's')), (of(b'x'), live, live), "{kinds:?}");
}

#[tokio::test]
async fn wherever_a_future_is_dropped_nothing_is_half_done_and_no_lock_is_held() {
    let mut drops = 0;
    for op in OPS {
        for polls in 1.. {
            let clock = VirtualClock::new();
            let store = Store::new(Yielding(MemoryStore::in_memory())).with_clock(clock.clone());
            let duplicate =
                if matches!(op, Op::Copy) { OnDuplicate::Fork } else { OnDuplicate::Share };
            let sessions = builder(store.clone()).max_entries(3).on_duplicate(duplicate);
            let sessions = sessions.build().unwrap();
            let mut token = sessions.create("alice").await.unwrap();
            sessions.save(&token, &1_u32).await.unwrap();
            for other in ["bob", "carol"] {
                sessions.create(other).await.unwrap();
            }
            clock.advance(Duration::from_secs(100));
            sessions.touch(&token).await.unwrap();
            if matches!(op, Op::Copy) {
                sessions.recover::<u32>(&token).await.unwrap();
            }
            clock.advance(if matches!(op, Op::Cleanup) {
                Duration::from_secs(250)
            } else {
                Duration::from_secs(29)
            });
            if matches!(op, Op::Touch) {
                clock.advance(Duration::from_secs(60));
            }
            let future = run(op, sessions.clone(), token.clone(), clock.clone());
            let finished = poll_for(&mut Box::pin(future), polls);
            drops += u64::from(!finished);
            // What was asked for comes to its end, heard or not.
            store.sync().await.unwrap();
            let what = format!("{op:?}, {polls} polls");

            let going_on = async {
                // What was dropped after it was submitted has happened now, not in the middle of what follows.
                store.sync().await.unwrap();
                whole(&sessions, &store).await;
                match sessions.peek::<u32>(&token).await {
                    Ok(found) => {
                        let allowed = match op {
                            Op::Save => 1..=2,
                            _ => 1..=1,
                        };
                        assert!(allowed.contains(&found.state), "{what}");
                        let back = sessions.recover::<u32>(&token).await.unwrap();
                        assert_eq!(back.state, found.state, "{what}");
                        token = back.token;
                        sessions.save(&token, &3_u32).await.unwrap();
                        assert_eq!(sessions.peek::<u32>(&token).await.unwrap().state, 3, "{what}");
                    }
                    Err(SessionError::NotFound) => {
                        assert!(matches!(op, Op::Delete | Op::Create | Op::Copy), "{what}");
                    }
                    Err(SessionError::Revoked) => assert!(
                        matches!(op, Op::Revoke | Op::RevokeSubject | Op::RevokeBefore),
                        "{what}"
                    ),
                    Err(e) => panic!("{what}: {e:?}"),
                }
                for n in 0..4 {
                    sessions.create(format!("later-{n}")).await.unwrap();
                }
                assert!(sessions.live().await.unwrap() <= 3, "{what}");
                whole(&sessions, &store).await;
                sessions.close().await.unwrap();
            };
            let patience = Duration::from_secs(30);
            tokio::time::timeout(patience, going_on).await.expect("a lock is still held");
            if finished {
                break;
            }
        }
    }
    assert!(drops > 60, "{drops}");
    evidence("session-drops", &format!("{drops} futures dropped, 0 half done"));
}

/// What a call that ended the session in the middle of another one means for that one.
#[derive(Clone, Copy, Debug)]
enum End {
    Delete,
    Revoke,
    RevokeSubject,
    RevokeBefore,
    Expire,
}

async fn end(end: End, sessions: &SessionManager, token: &Token, clock: &VirtualClock) {
    use resurge_store::Clock;
    match end {
        End::Delete => sessions.delete(token).await.unwrap(),
        End::Revoke => sessions.revoke(token).await.unwrap(),
        End::RevokeSubject => drop(sessions.revoke_subject("alice").await.unwrap()),
        End::RevokeBefore => {
            let all = clock.now().saturating_add(Duration::from_millis(1));
            sessions.revoke_all_before(all).await.unwrap();
        }
        End::Expire => {
            clock.advance(Duration::from_secs(301));
            sessions.cleanup_expired(100).await.unwrap();
        }
    }
}

/// One call, stopped at every point where it waits; there another one ends the session; then the first goes on. Unless it
/// had asked the store to write before, it must not succeed, and in no case is anything left to get in with.
#[tokio::test]
async fn what_ends_in_the_middle_of_a_call_has_ended() {
    let mut splits = 0;
    for (ending, op) in
        [End::Delete, End::Revoke, End::RevokeSubject, End::RevokeBefore, End::Expire]
            .into_iter()
            .flat_map(|end| [Op::Save, Op::Recover, Op::Copy, Op::Touch].map(|op| (end, op)))
    {
        for polls in 1.. {
            let clock = VirtualClock::new();
            let faults = FaultStore::new(Yielding(MemoryStore::in_memory()));
            let store = Store::new(faults.clone()).with_clock(clock.clone());
            let sessions = builder(store.clone()).on_duplicate(OnDuplicate::Fork).build().unwrap();
            let other = builder(store.clone()).build().unwrap();
            let token = sessions.create("alice").await.unwrap();
            sessions.save(&token, &1_u32).await.unwrap();
            let mut current = token.clone();
            if matches!(op, Op::Copy) {
                current = sessions.recover::<u32>(&token).await.unwrap().token;
            }
            clock.advance(Duration::from_secs(29));
            if matches!(op, Op::Touch) {
                clock.advance(Duration::from_secs(60));
            }
            let commits = faults.calls(Call::Commit);
            let calling = async {
                match op {
                    Op::Save => sessions.save(&token, &2_u32).await.map(|saved| saved.token),
                    Op::Touch => sessions.touch(&token).await.map(|()| token.clone()),
                    _ => sessions.recover::<u32>(&token).await.map(|back| back.token),
                }
            };
            let mut calling = Box::pin(calling);
            if poll_for(&mut calling, polls) {
                break;
            }
            splits += 1;
            let asked = faults.calls(Call::Commit) > commits;
            // From another process.
            end(ending, &other, &current, &clock).await;
            let called = calling.await;
            let what = format!("{op:?} in {ending:?} after {polls} polls");
            if !asked {
                assert!(called.as_ref().is_err_and(is_over), "{what}: {called:?}");
            }
            // A copy that was asked for before its original was deleted or revoked alone is a session of its own.
            let alone = matches!(ending, End::Delete | End::Revoke | End::Expire);
            if matches!(op, Op::Copy) && asked && alone {
                continue;
            }
            for token in [Some(&token), Some(&current), called.as_ref().ok()].into_iter().flatten()
            {
                let found = sessions.peek::<u32>(token).await;
                assert!(found.as_ref().is_err_and(is_over), "{what}: {found:?}");
            }
            assert!(sessions.list("alice").await.unwrap().is_empty(), "{what}");
            whole(&sessions, &store).await;
        }
    }
    assert!(splits > 100, "{splits}");
    evidence("session-splits", &format!("{splits} calls with an end in the middle, 0 went on"));
}

fn is_over(error: &SessionError) -> bool {
    matches!(error, SessionError::NotFound | SessionError::Revoked | SessionError::Expired { .. })
}

fn is_pending<F: Future>(future: &mut Pin<&mut F>) -> bool {
    matches!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending)
}

/// Fails instead of hanging.
async fn at_once<T>(call: impl Future<Output = T>) -> T {
    let waiting = tokio::time::timeout(Duration::from_secs(10), call);
    waiting.await.unwrap_or_else(|_| panic!("it waits for what is held"))
}

#[tokio::test]
async fn s26_a_close_waits_for_what_runs_and_holds_when_it_is_dropped() {
    let faults = FaultStore::new(MemoryStore::in_memory());
    let store = Store::new(faults.clone()).with_clock(VirtualClock::new());
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let sessions = builder(store).cleanup_interval(Duration::from_secs(60)).build().unwrap();
    assert_eq!(tasks(), before + 1, "no background");
    let token = sessions.create("alice").await.unwrap();
    faults.hold();
    let mut saving = pin!(sessions.save(&token, &7_u8));
    let mut recovering = pin!(sessions.create("bob"));
    assert!(is_pending(&mut saving) && is_pending(&mut recovering));
    {
        let mut closing = pin!(sessions.close());
        assert!(is_pending(&mut closing), "it did not wait");
        let refused = at_once(sessions.peek::<u8>(&token)).await.unwrap_err();
        assert!(matches!(refused, SessionError::Closed), "{refused:?}");
    }
    // Dropped, and closed all the same.
    let refused = at_once(sessions.create("carol")).await.unwrap_err();
    assert!(matches!(refused, SessionError::Closed), "{refused:?}");
    let (mut first, mut second) = (pin!(sessions.close()), pin!(sessions.close()));
    assert!(is_pending(&mut first) && is_pending(&mut second), "it did not wait");
    faults.release();
    assert_eq!(saving.await.unwrap().version, 1);
    recovering.await.unwrap();
    tokio::try_join!(first, second).unwrap();
    assert_eq!(tasks(), before, "a task is left");
}

/// The store fails under one cleanup: the next one does its work, and what cannot be read does not stop it.
#[tokio::test]
async fn s25_the_background_goes_on_after_a_failure() {
    let faults = FaultStore::new(MemoryStore::in_memory());
    let clock = VirtualClock::new();
    let store = Store::new(faults.clone()).with_clock(clock.clone());
    let interval = Duration::from_secs(600);
    let sessions = builder(store.clone()).cleanup_interval(interval).build().unwrap();
    for n in 0..3 {
        sessions.create(format!("socket-{n}")).await.unwrap();
    }
    let bad = sessions.list("socket-1").await.unwrap()[0].id;
    let key = Namespace::new("session/default").unwrap().key([&b"r"[..], bad.bytes()].concat());
    let mut batch = Batch::new();
    batch.put(key.unwrap(), "damaged");
    store.commit(batch, Durability::Durable).await.unwrap();
    for call in [Call::Scan, Call::Commit] {
        faults.fail(call, 1, Fault::before(ErrorKind::Unavailable));
        let seen = faults.calls(call);
        while clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        clock.advance(interval + interval / 5);
        faults.wait_for_calls(call, seen + 1).await;
    }
    while clock.sleepers() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(sessions.stats().cleaned, 0);
    clock.advance(interval + interval / 5);
    while sessions.stats().cleaned < 2 {
        tokio::task::yield_now().await;
    }
    sessions.close().await.unwrap();
}

#[tokio::test]
async fn s26_nothing_runs_when_the_store_is_synced_for_a_close() {
    let faults = FaultStore::new(MemoryStore::in_memory());
    let sessions = builder(Store::new(faults.clone())).build().unwrap();
    let token = sessions.create("alice").await.unwrap();
    faults.hold();
    let mut saving = pin!(sessions.save(&token, &7_u8));
    let mut closing = pin!(sessions.close());
    assert!(is_pending(&mut saving) && is_pending(&mut closing));
    assert_eq!((faults.held(), faults.calls(Call::Sync)), (1, 0));
    faults.release();
    saving.await.unwrap();
    closing.await.unwrap();
    assert_eq!(faults.calls(Call::Sync), 1);
}

/// Asks the manager it belongs to, and waits, while that one is being closed.
struct Asking(Arc<OnceLock<SessionManager>>, Arc<AtomicBool>);

impl SessionHooks for Asking {
    fn on_recover(&self, event: &RecoverEvent<'_>) {
        let sessions = self.0.get().unwrap().clone();
        let subject = event.subject().to_owned();
        tokio::task::block_in_place(|| {
            let runtime = tokio::runtime::Handle::current();
            let other = sessions.clone();
            runtime.spawn(async move { other.close().await });
            runtime.block_on(async {
                // Closed before long; with a bound, so that a wrong answer fails instead of hanging.
                for _ in 0..100_000 {
                    if sessions.list(&subject).await.is_err() {
                        self.1.store(true, Ordering::SeqCst);
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            });
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s30_a_hook_may_wait_for_its_manager_also_while_that_is_closed() {
    let (slot, seen) = (Arc::default(), Arc::default());
    let asking = Asking(Arc::clone(&slot), Arc::clone(&seen));
    let sessions = builder(Store::memory()).hooks(asking).build().unwrap();
    slot.set(sessions.clone()).unwrap();
    let token = sessions.create("alice").await.unwrap();
    sessions.save(&token, &7_u8).await.unwrap();
    let recovering = tokio::spawn(async move { sessions.recover::<u8>(&token).await });
    let recovered = tokio::time::timeout(Duration::from_secs(30), recovering).await;
    assert_eq!(recovered.expect("it waits for itself").unwrap().unwrap().state, 7);
    assert!(seen.load(Ordering::SeqCst), "it was not closed while the hook asked");
}

/// The store did it and nobody heard: what is asked again is answered as if the first answer had been lost on the wire.
#[tokio::test]
async fn s16_a_commit_of_unknown_outcome_can_be_asked_for_again() {
    let lost = || Fault::after(ErrorKind::Indeterminate);
    for kind in [TokenKind::Reference, TokenKind::SealedState] {
        let faults = FaultStore::new(MemoryStore::in_memory());
        let store = Store::new(faults.clone()).with_clock(VirtualClock::new());
        let sessions = builder(store).token_kind(kind).build().unwrap();
        let token = sessions.create("alice").await.unwrap();
        let token = sessions.save(&token, &7_u8).await.unwrap().token;
        faults.fail(Call::Commit, 1, lost());
        let unknown = sessions.recover::<u8>(&token).await.unwrap_err();
        assert!(matches!(unknown, SessionError::Store(_)), "{unknown:?}");
        assert_eq!(unknown.public(), PublicError::TryAgainLater);
        let back = sessions.recover::<u8>(&token.expose().into()).await.unwrap();
        assert!(back.state == 7 && back.rotated);
        let next = sessions.save(&back.token, &8_u8).await.unwrap().token;
        assert_eq!(sessions.peek::<u8>(&next).await.unwrap().state, 8);
    }
    let faults = FaultStore::new(MemoryStore::in_memory());
    let sessions = builder(Store::new(faults.clone())).reuse(ReusePolicy::SingleUse);
    let sessions = sessions.build().unwrap();
    let token = sessions.create("alice").await.unwrap();
    faults.fail(Call::Commit, 1, lost());
    sessions.save(&token, &7_u8).await.unwrap_err();
    assert!(sessions.save(&token, &7_u8).await.unwrap().skipped, "it was written");
    for (fault, again) in
        [(Fault::before(ErrorKind::Indeterminate), None), (lost(), Some("replayed"))]
    {
        faults.fail(Call::Commit, 1, fault);
        sessions.recover::<u8>(&token).await.unwrap_err();
        if let Some(class) = again {
            let refused = sessions.recover::<u8>(&token).await.unwrap_err();
            assert_eq!(refused.class(), class);
        }
    }
    faults.fail(Call::Commit, 1, Fault::before(ErrorKind::Unavailable));
    assert!(sessions.create("bob").await.unwrap_err().is_retryable());
    sessions.create("bob").await.unwrap();
}
