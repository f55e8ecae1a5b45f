//! Time, cleanup, revocation, ends and restarts.

use std::sync::Arc;

use parking_lot::Mutex;
use resurge_store::{Batch, Clock, Durability, Namespace, Timestamp};

use super::{CaseFailure, CaseResult, MINUTE, SECOND, World};
use crate::{RecoverEvent, ReusePolicy, SessionError, SessionHooks};

pub(super) async fn sliding(world: World) -> CaseResult {
    let sessions = world
        .builder()
        .idle_ttl(MINUTE * 5)
        .absolute_ttl(MINUTE * 8)
        .reuse(ReusePolicy::UntilExpiry)
        .build()?;
    let token = sessions.create("socket-7").await?;
    sessions.save(&token, &7_u8).await?;
    world.clock.advance(MINUTE * 4);
    sessions.touch(&token).await?;
    world.clock.advance(MINUTE * 3);
    sessions.touch(&token).await?;
    world.clock.advance(SECOND * 59);
    sessions.recover::<u8>(&token).await?;
    world.clock.advance(SECOND);
    ensure_err!(sessions.recover::<u8>(&token).await, SessionError::Expired { .. });

    let idle = sessions.create("socket-8").await?;
    sessions.save(&idle, &7_u8).await?;
    world.clock.advance(MINUTE * 5);
    ensure_err!(sessions.recover::<u8>(&idle).await, SessionError::Expired { .. });
    ensure_err!(sessions.touch(&idle).await, SessionError::Expired { .. });
    Ok(())
}

fn record_of(name: &str, id: &[u8]) -> Result<resurge_store::Key, CaseFailure> {
    Ok(Namespace::new(&format!("session/{name}"))?.key([b"r", id].concat())?)
}

pub(super) async fn cleanup(world: World) -> CaseResult {
    let sessions = world.builder().build()?;
    for n in 0..5_u8 {
        let token = sessions.create(format!("socket-{n}")).await?;
        sessions.save(&token, &n).await?;
    }
    let bad = sessions.list("socket-2").await?;
    let Some(bad) = bad.first() else { return Err(CaseFailure::new("not listed")) };
    let key = record_of("default", bad.id.bytes())?;
    let mut batch = Batch::new();
    batch.put(key.clone(), "damaged");
    world.backend.commit(batch, Durability::Durable).await?;

    world.clock.advance(MINUTE * 4);
    let kept = sessions.create("socket-9").await?;
    sessions.save(&kept, &9_u8).await?;
    ensure!(sessions.cleanup_expired(100).await?.removed == 0, "too early");
    world.clock.advance(MINUTE);
    // The damaged one is looked at in one of the two calls.
    let first = sessions.cleanup_expired(3).await?;
    ensure!((first.removed + first.failed, first.more) == (3, true), "{first:?}");
    let report = sessions.cleanup_expired(100).await?;
    let both = (first.removed + report.removed, first.failed + report.failed);
    ensure!((both, report.more) == ((4, 1), false), "{first:?}, {report:?}");
    let report = sessions.cleanup_expired(100).await?;
    ensure!((report.removed, report.failed) == (0, 1), "{report:?}");
    sessions.recover::<u8>(&kept).await?;
    ensure!(world.backend.get(&key).await?.is_some(), "the damaged record is gone");
    Ok(())
}

/// Sessions that are used while they are cleaned up stay.
pub(super) async fn cleanup_race(world: World) -> CaseResult {
    let sessions = world.builder().reuse(ReusePolicy::UntilExpiry).build()?;
    for round in 0..20_u8 {
        let token = sessions.create("socket-7").await?;
        sessions.save(&token, &round).await?;
        world.clock.advance(SECOND * 299);
        let user = {
            let (sessions, token) = (sessions.clone(), token.clone());
            tokio::spawn(async move { sessions.touch(&token).await })
        };
        world.clock.advance(SECOND);
        let cleaned = sessions.cleanup_expired(100).await?;
        let touched = user.await.map_err(|e| CaseFailure::new(e.to_string()))?;
        let there = sessions.peek::<u8>(&token).await;
        match (touched, there) {
            (Ok(()), Ok(_)) => ensure!(cleaned.removed == 0, "{cleaned:?}"),
            (Err(SessionError::Expired { .. } | SessionError::NotFound), Err(_)) => {}
            other => ensure!(false, "{other:?}, {cleaned:?}"),
        }
        drop(sessions.delete(&token).await);
    }
    Ok(())
}

pub(super) async fn background(world: World) -> CaseResult {
    let sessions = world.builder().cleanup_interval(MINUTE).build()?;
    let token = sessions.create("socket-7").await?;
    sessions.save(&token, &7_u8).await?;
    for _ in 0..20 {
        world.clock.advance(MINUTE);
        until("the task sleeps again", || world.clock.sleepers() > 0).await?;
    }
    ensure!(sessions.stats().cleaned == 1, "{:?}", sessions.stats());
    sessions.close().await?;
    ensure!(world.clock.sleepers() == 0, "the task is still there");

    let dropped = world.builder().name("dropped").cleanup_interval(MINUTE).build()?;
    until("the task sleeps", || world.clock.sleepers() > 0).await?;
    drop(dropped);
    until("the task ends with its manager", || world.clock.sleepers() == 0).await
}

/// Waits for what other tasks do, as long as it takes on a busy machine.
async fn until(what: &str, done: impl Fn() -> bool) -> CaseResult {
    let waiting = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    let patience = std::time::Duration::from_secs(60);
    let waited = tokio::time::timeout(patience, waiting).await;
    waited.map_err(|_| CaseFailure::new(format!("{what}: it does not")))
}

pub(super) async fn close_and_reopen(mut world: World) -> CaseResult {
    let state = (3_u32, vec!["a".to_owned()]);
    let token = {
        let sessions = world.builder().build()?;
        let token = sessions.create("socket-7").await?;
        sessions.save(&token, &state).await?;
        sessions.close().await?;
        sessions.close().await?;
        ensure_err!(sessions.create("socket-8").await, SessionError::Closed);
        ensure_err!(sessions.recover::<u8>(&token).await, SessionError::Closed);
        ensure_err!(sessions.save(&token, &1_u8).await, SessionError::Closed);
        ensure_err!(sessions.cleanup_expired(1).await, SessionError::Closed);
        ensure_err!(sessions.list("socket-7").await, SessionError::Closed);
        token
    };
    world.restart().await?;
    let sessions = world.builder().build()?;
    let back = sessions.recover::<(u32, Vec<String>)>(&token.expose().into()).await?;
    ensure!(back.state == state, "another state came back");
    Ok(())
}

pub(super) async fn revoked_subjects(world: World) -> CaseResult {
    let sessions = world.builder().reuse(ReusePolicy::UntilExpiry).build()?;
    let mut tokens = Vec::new();
    for subject in ["alice", "alice", "bob"] {
        let token = sessions.create(subject).await?;
        sessions.save(&token, &7_u8).await?;
        tokens.push(token);
    }
    let [one, two, bob] = tokens.as_slice() else { return Ok(()) };
    ensure!(sessions.list("alice").await?.len() == 2, "not both are listed");
    ensure!(sessions.revoke_subject("alice").await? == 2, "not both are revoked");
    ensure!(sessions.revoke_subject("alice").await? == 0, "revoked twice");
    ensure!(sessions.list("alice").await?.is_empty(), "still listed");
    ensure_err!(sessions.recover::<u8>(one).await, SessionError::Revoked);
    ensure_err!(sessions.recover::<u8>(two).await, SessionError::Revoked);
    sessions.recover::<u8>(bob).await?;
    Ok(())
}

pub(super) async fn revoked_before(mut world: World) -> CaseResult {
    let build = |world: &World| world.builder().reuse(ReusePolicy::UntilExpiry).build();
    let sessions = build(&world)?;
    let old = sessions.create("alice").await?;
    sessions.save(&old, &7_u8).await?;
    world.clock.advance(SECOND);
    let cut = world.clock.now();
    let new = sessions.create("alice").await?;
    sessions.save(&new, &8_u8).await?;
    sessions.revoke_all_before(cut).await?;
    sessions.revoke_all_before(Timestamp::from_millis(0)).await?;
    sessions.close().await?;
    world.restart().await?;
    let sessions = build(&world)?;
    ensure_err!(sessions.recover::<u8>(&old).await, SessionError::Revoked);
    ensure_err!(sessions.save(&old, &9_u8).await, SessionError::Revoked);
    ensure!(sessions.list("alice").await?.len() == 1, "the revoked one is listed");
    sessions.recover::<u8>(&new).await?;
    Ok(())
}

#[derive(Default)]
struct Heard {
    recovered: Mutex<Vec<(String, u8)>>,
    failed: Mutex<Vec<(Option<String>, &'static str)>>,
    evicted: Mutex<u64>,
}

struct Listener(Arc<Heard>);

impl SessionHooks for Listener {
    fn on_recover(&self, event: &RecoverEvent<'_>) {
        let state = event.state::<u8>().unwrap_or(u8::MAX);
        self.0.recovered.lock().push((event.subject().to_owned(), state));
    }

    fn on_recover_error(&self, subject: Option<&str>, error: &SessionError) {
        self.0.failed.lock().push((subject.map(str::to_owned), error.class()));
    }

    fn on_evict(&self, sessions: u64) {
        *self.0.evicted.lock() += sessions;
    }
}

struct Broken;

impl SessionHooks for Broken {
    fn on_recover(&self, _: &RecoverEvent<'_>) {
        // A panic without a message on standard error.
        std::panic::resume_unwind(Box::new("a hook"));
    }
}

pub(super) async fn hooks(world: World) -> CaseResult {
    let heard = Arc::new(Heard::default());
    let builder = world.builder().hooks(Listener(Arc::clone(&heard))).max_entries(1);
    let sessions = builder.build()?;
    let token = sessions.create("alice").await?;
    sessions.save(&token, &7_u8).await?;
    sessions.recover::<u8>(&token).await?;
    ensure!(*heard.recovered.lock() == [("alice".to_owned(), 7)], "{:?}", heard.recovered.lock());
    drop(sessions.recover::<u8>(&"nonsense".into()).await);
    world.clock.advance(MINUTE);
    drop(sessions.recover::<u8>(&token).await);
    let expected = [(None, "malformed"), (Some("alice".to_owned()), "replayed")];
    ensure!(*heard.failed.lock() == expected, "{:?}", heard.failed.lock());
    sessions.create("bob").await?;
    sessions.create("carol").await?;
    ensure!(*heard.evicted.lock() == 1, "{} evicted", heard.evicted.lock());

    let broken = world.builder().name("broken").hooks(Broken).build()?;
    let token = broken.create("alice").await?;
    broken.save(&token, &7_u8).await?;
    let back = broken.recover::<u8>(&token).await?;
    broken.save(&back.token, &8_u8).await?;
    Ok(())
}
