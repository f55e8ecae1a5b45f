//! How many sessions there may be, and who goes.

use super::{CaseResult, MINUTE, SECOND, World};
use crate::{Eviction, ReusePolicy, SessionError, SessionManager, Token};

async fn filled(
    sessions: &SessionManager,
    world: &World,
    n: u8,
) -> Result<Vec<Token>, SessionError> {
    let mut tokens = Vec::new();
    for at in 0..n {
        let token = sessions.create(format!("socket-{at}")).await?;
        sessions.save(&token, &at).await?;
        tokens.push(token);
        world.clock.advance(SECOND);
    }
    Ok(tokens)
}

pub(super) async fn eviction(world: World) -> CaseResult {
    let build = |policy: Eviction| {
        let name = policy.label().replace('_', "-");
        world.builder().name(name).max_entries(3).eviction(policy).build()
    };
    let sessions = build(Eviction::SoonestExpiry)?;
    let tokens = filled(&sessions, &world, 3).await?;
    world.clock.advance(MINUTE);
    let [first, second, third] = tokens.as_slice() else { return Ok(()) };
    sessions.touch(first).await?; // the second is now the first to expire
    sessions.create("socket-9").await?;
    ensure_err!(sessions.recover::<u8>(second).await, SessionError::NotFound);
    sessions.peek::<u8>(first).await?;
    sessions.peek::<u8>(third).await?;
    ensure!(sessions.stats().evicted == 1, "{:?}", sessions.stats());
    ensure!(sessions.live().await? == 3, "{} live", sessions.live().await?);

    let sessions = build(Eviction::Oldest)?;
    let tokens = filled(&sessions, &world, 3).await?;
    world.clock.advance(MINUTE);
    let [first, second, _] = tokens.as_slice() else { return Ok(()) };
    sessions.touch(first).await?;
    sessions.create("socket-9").await?;
    ensure_err!(sessions.recover::<u8>(first).await, SessionError::NotFound);
    sessions.peek::<u8>(second).await?;

    let sessions = build(Eviction::Reject)?;
    let tokens = filled(&sessions, &world, 3).await?;
    ensure_err!(sessions.create("socket-9").await, SessionError::Capacity { limit: 3 });
    for token in &tokens {
        sessions.peek::<u8>(token).await?;
    }
    // Who is dead already makes room.
    world.clock.advance(MINUTE * 10);
    sessions.create("socket-9").await?;
    ensure!(sessions.live().await? == 3, "{} live", sessions.live().await?);
    Ok(())
}

/// That a family was revoked is not forgotten to make room.
pub(super) async fn revocations_stay(world: World) -> CaseResult {
    // With one lifetime, what is left of a revoked session would be the first to go.
    let one_lifetime = world.builder().name("one").ttl(MINUTE * 60 * 24);
    for builder in [world.builder(), one_lifetime] {
        let sessions = builder.max_entries(3).build()?;
        let token = sessions.create("socket-7").await?;
        sessions.save(&token, &7_u8).await?;
        sessions.revoke(&token).await?;
        for n in 0..20 {
            world.clock.advance(SECOND);
            sessions.create(format!("other-{n}")).await?;
        }
        ensure_err!(sessions.recover::<u8>(&token).await, SessionError::Revoked);
        world.clock.advance(MINUTE * 60);
        sessions.cleanup_expired(1_000).await?;
        ensure_err!(sessions.recover::<u8>(&token).await, SessionError::Revoked);
    }
    Ok(())
}

pub(super) async fn per_subject(world: World) -> CaseResult {
    let sessions = world.builder().max_entries(50).max_entries_per_subject(2).build()?;
    let victims = filled(&sessions, &world, 5).await?;
    for _ in 0..1_000 {
        sessions.create("attacker").await?;
    }
    ensure!(sessions.list("attacker").await?.len() == 2, "more than two");
    for token in &victims {
        sessions.peek::<u8>(token).await?;
    }
    ensure!(sessions.live().await? == 7, "{} live", sessions.live().await?);
    let strict =
        world.builder().name("strict").eviction(Eviction::Reject).max_entries_per_subject(2);
    let strict = strict.build()?;
    strict.create("attacker").await?;
    strict.create("attacker").await?;
    ensure_err!(strict.create("attacker").await, SessionError::Capacity { limit: 2 });
    strict.create("other").await?;
    Ok(())
}

/// Two managers on one store keep one limit.
pub(super) async fn exact_under_concurrency(world: World) -> CaseResult {
    let build = || world.builder().max_entries(10).reuse(ReusePolicy::UntilExpiry).build();
    let creators: Vec<_> = [build()?, build()?, build()?]
        .into_iter()
        .enumerate()
        .map(|(who, sessions)| {
            tokio::spawn(async move {
                for n in 0..20 {
                    let token = sessions.create(format!("socket-{who}-{n}")).await?;
                    if n % 5 == 0 {
                        sessions.delete(&token).await?;
                    }
                }
                Ok::<_, SessionError>(())
            })
        })
        .collect();
    for creator in creators {
        creator.await.map_err(|e| super::CaseFailure::new(e.to_string()))??;
    }
    let sessions = build()?;
    let mut found = 0;
    for (who, n) in (0..3).flat_map(|who| (0..20).map(move |n| (who, n))) {
        found += sessions.list(format!("socket-{who}-{n}")).await?.len();
    }
    let live = sessions.live().await?;
    ensure!(live <= 10 && live == found as u64, "{found} sessions, counted {live}");
    Ok(())
}
