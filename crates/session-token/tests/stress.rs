//! Everybody at once: who recovers, saves, touches, deletes, revokes and cleans up the same few sessions. What was
//! acknowledged is compared afterwards with what one caller at a time could have seen.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use resurge_session_token::{OnDuplicate, ReusePolicy, SessionError, SessionManager, Token};
use resurge_store::{MemoryStore, Store, VirtualClock};
use resurge_store_sled::{SledOptions, SledStore};
use resurge_testkit::evidence;

const WORKERS: u64 = 8;
const SESSIONS: u64 = 6;

/// What one call did, and when: the ticks before it began and after it ended.
#[derive(Debug)]
struct Event {
    began: u64,
    ended: u64,
    did: Did,
}

#[derive(Debug)]
enum Did {
    /// Took it over; in the order of `ended` of `took` at saving time.
    Took,
    /// Saved this version; `took` is when the taking over it relies on ended.
    Saved { version: u64, took: u64 },
    /// Refused: it is over.
    Over,
    /// Deleted or revoked.
    Ended,
}

#[derive(Default)]
struct History {
    tick: AtomicU64,
    events: Mutex<HashMap<u64, Vec<Event>>>,
}

impl History {
    fn tick(&self) -> u64 {
        self.tick.fetch_add(1, Ordering::SeqCst)
    }

    fn note(&self, session: u64, began: u64, did: Did) -> u64 {
        let ended = self.tick();
        self.events.lock().entry(session).or_default().push(Event { began, ended, did });
        ended
    }
}

fn manager(store: &Store, reuse: ReusePolicy) -> SessionManager {
    let key: Vec<u8> = (0..32).collect();
    SessionManager::builder(store.clone())
        .key(1, &key)
        .reuse(reuse)
        .on_duplicate(OnDuplicate::Reject)
        .cleanup_interval(None)
        .build()
        .unwrap()
}

fn is_over(error: &SessionError) -> bool {
    matches!(error, SessionError::NotFound | SessionError::Revoked | SessionError::Expired { .. })
}

/// A random number, the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// The newest token of each session that anybody holds: a client has one, whoever serves it.
type Tokens = Arc<Vec<Mutex<String>>>;

async fn work(
    seed: u64,
    sessions: SessionManager,
    clock: VirtualClock,
    tokens: Tokens,
    history: Arc<History>,
    rounds: u64,
) {
    let mut dice = Dice(seed);
    // What this worker owns, and since when.
    let mut owned: HashMap<u64, (Token, u64)> = HashMap::new();
    for _ in 0..rounds {
        let session = dice.below(SESSIONS);
        let text = tokens[usize::try_from(session).unwrap()].lock().clone();
        let began = history.tick();
        match dice.below(40) {
            0..12 => match sessions.recover::<u64>(&text.as_str().into()).await {
                Ok(back) => {
                    let ended = history.note(session, began, Did::Took);
                    let mut newest = tokens[usize::try_from(session).unwrap()].lock();
                    back.token.expose().clone_into(&mut newest);
                    drop(newest);
                    owned.insert(session, (back.token, ended));
                }
                Err(e) if is_over(&e) => drop(history.note(session, began, Did::Over)),
                Err(SessionError::Replayed) => {}
                Err(e) => panic!("{e:?}"),
            },
            12..30 => {
                let Some((token, took)) = owned.get(&session) else { continue };
                match sessions.save(token, &dice.below(u64::MAX)).await {
                    Ok(saved) => {
                        let did = Did::Saved { version: saved.version, took: *took };
                        history.note(session, began, did);
                    }
                    Err(e) if is_over(&e) => drop(history.note(session, began, Did::Over)),
                    Err(SessionError::Conflict { .. }) => drop(owned.remove(&session)),
                    Err(e) => panic!("{e:?}"),
                }
            }
            30..34 => match sessions.touch(&text.into()).await {
                Ok(()) | Err(SessionError::Replayed) => {}
                Err(e) => assert!(is_over(&e), "{e:?}"),
            },
            34 => {
                let ended = if dice.below(2) == 0 {
                    sessions.delete(&text.into()).await
                } else {
                    sessions.revoke(&text.into()).await
                };
                match ended {
                    Ok(()) => drop(history.note(session, began, Did::Ended)),
                    Err(e) => assert!(is_over(&e), "{e:?}"),
                }
            }
            35 => {
                sessions.revoke_subject(format!("socket-{session}")).await.unwrap();
                history.note(session, began, Did::Ended);
            }
            36..38 => {
                let report = sessions.cleanup_expired(100).await.unwrap();
                assert_eq!(report.failed, 0);
            }
            38 => {
                clock.advance(Duration::from_secs(dice.below(40)));
            }
            _ => drop(sessions.list(format!("socket-{session}")).await.unwrap()),
        }
    }
}

/// What nobody may have seen.
fn judge(session: u64, events: &[Event]) -> (u64, u64) {
    let mut versions = Vec::new();
    let first_end = events.iter().filter(|e| matches!(e.did, Did::Ended)).map(|e| e.ended).min();
    for event in events {
        let alive = matches!(event.did, Did::Took | Did::Saved { .. });
        if let Some(end) = first_end.filter(|_| alive) {
            assert!(event.began < end, "session {session}: {event:?} after its end at {end}");
        }
        if let Did::Over = event.did {
            let later = events.iter().find(|later| {
                later.began > event.ended && matches!(later.did, Did::Took | Did::Saved { .. })
            });
            assert!(later.is_none(), "session {session}: {event:?}, and then {later:?}");
        }
        let Did::Saved { version, took } = event.did else { continue };
        versions.push((version, event.began, event.ended));
        // Somebody else took it over in between, all of it after us and before this save.
        let between = events.iter().find(|other| {
            matches!(other.did, Did::Took) && other.began > took && other.ended < event.began
        });
        assert!(between.is_none(), "session {session}: {event:?} in spite of {between:?}");
    }
    versions.sort_unstable();
    for pair in versions.windows(2) {
        assert_ne!(pair[0].0, pair[1].0, "session {session}: one version saved twice");
        assert!(pair[0].1 < pair[1].2, "session {session}: versions against the order of time");
    }
    let taken = events.iter().filter(|e| matches!(e.did, Did::Took)).count();
    (taken as u64, versions.len() as u64)
}

async fn everybody(
    store: Store,
    clock: VirtualClock,
    reuse: ReusePolicy,
    rounds: u64,
) -> (u64, u64) {
    // As two processes would: a manager each.
    let managers = [manager(&store, reuse), manager(&store, reuse)];
    let mut tokens = Vec::new();
    for session in 0..SESSIONS {
        let token = managers[0].create(format!("socket-{session}")).await.unwrap();
        managers[0].save(&token, &session).await.unwrap();
        tokens.push(Mutex::new(token.expose().to_owned()));
    }
    let (tokens, history) = (Arc::new(tokens), Arc::new(History::default()));
    let workers: Vec<_> = (0..WORKERS)
        .map(|seed| {
            let sessions = managers[usize::try_from(seed % 2).unwrap()].clone();
            let (tokens, history) = (Arc::clone(&tokens), Arc::clone(&history));
            tokio::spawn(work(seed + 1, sessions, clock.clone(), tokens, history, rounds))
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let (mut taken, mut saved) = (0, 0);
    let events = std::mem::take(&mut *history.events.lock());
    for (session, events) in &events {
        let (t, s) = judge(*session, events);
        taken += t;
        saved += s;
        // Every taking over was one epoch, every save one version, and nothing else was.
        let listed = managers[1].list(format!("socket-{session}")).await.unwrap();
        if let Some(info) = listed.first() {
            assert_eq!((info.epoch, info.version), (t, s + 1), "session {session}");
        }
    }
    clock.advance(Duration::from_secs(48 * 3600));
    managers[0].cleanup_expired(1_000).await.unwrap();
    assert_eq!(managers[0].live().await.unwrap(), 0);
    (taken, saved)
}

async fn all_policies(
    mut open: impl AsyncFnMut() -> (Store, VirtualClock),
    repeats: u64,
) -> (u64, u64) {
    let grace = Duration::from_secs(30);
    let policies =
        [ReusePolicy::UntilExpiry, ReusePolicy::RotateOnRecover { grace }, ReusePolicy::SingleUse];
    let (mut taken, mut saved) = (0, 0);
    for _ in 0..repeats {
        for reuse in policies {
            let (store, clock) = open().await;
            let (t, s) = everybody(store, clock, reuse, 60).await;
            taken += t;
            saved += s;
        }
    }
    (taken, saved)
}

/// Repeated until there was more than `enough` of both: who wins is for the scheduler to say.
async fn until(
    mut open: impl AsyncFnMut() -> (Store, VirtualClock),
    repeats: u64,
    enough: u64,
) -> (u64, u64) {
    let (mut taken, mut saved, mut done) = (0, 0, 0);
    while done < repeats || taken <= enough || saved <= enough {
        let (t, s) = all_policies(&mut open, 1).await;
        (taken, saved, done) = (taken + t, saved + s, done + 1);
        assert!(done < 25 * repeats, "{taken} taken over, {saved} saved");
    }
    (taken, saved)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_saves_over_a_new_owner_and_nothing_comes_back() {
    let open = async || {
        let clock = VirtualClock::new();
        (Store::new(MemoryStore::in_memory()).with_clock(clock.clone()), clock)
    };
    let (taken, saved) = until(open, 40, 500).await;
    evidence(
        "session-stress",
        &format!("{taken} recoveries and {saved} saves at once, 0 impossible"),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut n = 0;
    let open = async || {
        n += 1;
        let clock = VirtualClock::new();
        let path = dir.path().join(n.to_string());
        let (sled, _) = SledStore::open(path, SledOptions::new()).await.unwrap();
        (Store::new(sled).with_clock(clock.clone()), clock)
    };
    until(open, 2, 20).await;
}
