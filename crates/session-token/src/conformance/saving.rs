//! Saves: versions, owners, limits, and what ended stays ended.

use super::{CaseResult, MINUTE, SECOND, World};
use crate::{ReusePolicy, SessionError, TokenKind};

pub(super) async fn versions(world: World) -> CaseResult {
    let sessions = world.builder().build()?;
    let token = sessions.create("socket-7").await?;
    ensure!(sessions.save_if(&token, 0, &1_u8).await?.version == 1, "not the first");
    ensure!(sessions.save_if(&token, 1, &2_u8).await?.version == 2, "not the second");
    ensure_err!(sessions.save_if(&token, 1, &3_u8).await, SessionError::Conflict { current: 2 });
    ensure_err!(sessions.save_if(&token, 3, &3_u8).await, SessionError::Conflict { current: 2 });
    ensure!(sessions.peek::<u8>(&token).await?.state == 2, "a refused save was written");
    ensure!(sessions.stats().conflicts == 2, "{:?}", sessions.stats());
    Ok(())
}

pub(super) async fn fencing(world: World) -> CaseResult {
    for reuse in [ReusePolicy::UntilExpiry, ReusePolicy::default(), ReusePolicy::SingleUse] {
        let name = format!(
            "n{}",
            u8::from(reuse == ReusePolicy::UntilExpiry)
                + u8::from(reuse == ReusePolicy::SingleUse) * 2
        );
        let a = world.builder().name(name.clone()).reuse(reuse).build()?;
        let b = world.builder().name(name).reuse(reuse).build()?;
        let token = a.create("socket-7").await?;
        a.save(&token, &1_u8).await?;
        let back = b.recover::<u8>(&token.expose().into()).await?;
        ensure_err!(a.save(&token, &2_u8).await, SessionError::Conflict { .. });
        b.save(&back.token, &3_u8).await?;
        ensure_err!(a.save(&token, &4_u8).await, SessionError::Conflict { .. });
        ensure!(b.peek::<u8>(&back.token).await?.state == 3, "the zombie wrote");
    }
    Ok(())
}

pub(super) async fn no_resurrection(world: World) -> CaseResult {
    let build = || world.builder().ttl(MINUTE * 5).reuse(ReusePolicy::UntilExpiry).build();
    let sessions = build()?;
    let begin = || async {
        let token = sessions.create("socket-7").await?;
        sessions.save(&token, &7_u8).await?;
        Ok::<_, SessionError>(token)
    };
    let deleted = begin().await?;
    sessions.delete(&deleted).await?;
    sessions.delete(&deleted).await?;
    ensure_err!(sessions.save(&deleted, &8_u8).await, SessionError::NotFound);
    ensure_err!(sessions.recover::<u8>(&deleted).await, SessionError::NotFound);
    let revoked = begin().await?;
    sessions.revoke(&revoked).await?;
    sessions.revoke(&revoked).await?;
    ensure_err!(sessions.save(&revoked, &8_u8).await, SessionError::Revoked);
    ensure_err!(sessions.recover::<u8>(&revoked).await, SessionError::Revoked);
    ensure_err!(sessions.touch(&revoked).await, SessionError::Revoked);
    let expired = begin().await?;
    world.clock.advance(MINUTE * 5);
    ensure_err!(sessions.save(&expired, &8_u8).await, SessionError::Expired { .. });
    ensure!(sessions.cleanup_expired(100).await?.removed == 2, "not cleaned up");
    ensure!(sessions.live().await? == 0, "{} live", sessions.live().await?);
    // The clock goes back: what was removed stays removed.
    let before = resurge_store::Clock::now(&world.clock).as_millis() - 120_000;
    world.clock.set_wall(resurge_store::Timestamp::from_millis(before));
    ensure_err!(sessions.recover::<u8>(&expired).await, SessionError::NotFound);
    ensure_err!(sessions.save(&expired, &8_u8).await, SessionError::NotFound);
    Ok(())
}

pub(super) async fn unchanged(world: World) -> CaseResult {
    let sessions = world.builder().build()?;
    let token = sessions.create("socket-7").await?;
    ensure!(!sessions.save(&token, &"same").await?.skipped, "the first save was skipped");
    let before = snapshot(&world).await?;
    let again = sessions.save(&token, &"same").await?;
    ensure!(again.skipped && again.version == 1, "{again:?}");
    ensure!(snapshot(&world).await? == before, "something was written");
    ensure!(sessions.stats().save_skipped == 1, "{:?}", sessions.stats());
    // After a tenth of the idle lifetime the deadline is worth a write.
    world.clock.advance(SECOND * 30);
    ensure!(!sessions.save(&token, &"same").await?.skipped, "the deadline was not moved");
    ensure!(!sessions.save(&token, &"other").await?.skipped, "another state was skipped");
    Ok(())
}

async fn snapshot(world: &World) -> Result<Vec<resurge_store::Entry>, super::CaseFailure> {
    let everything = resurge_store::KeyRange::everything();
    Ok(world.backend.scan(everything, resurge_store::ScanOptions::new()).await?.entries)
}

pub(super) async fn sizes(world: World) -> CaseResult {
    let sessions = world.builder().max_state_bytes(102).build()?;
    let token = sessions.create("socket-7").await?;
    let fits = "x".repeat(100);
    let too_large = "x".repeat(101);
    sessions.save(&token, &fits).await?;
    let refused = sessions.save(&token, &too_large).await;
    ensure_err!(refused, SessionError::TooLarge { len: 103, limit: 102 });
    ensure!(sessions.peek::<String>(&token).await?.state == fits, "the state is gone");

    // Where the state travels in the token, the token is limited too.
    let carried = world.builder().name("carried").token_kind(TokenKind::SealedState);
    let carried = carried.max_token_len(300).build()?;
    let token = carried.create("socket-7").await?;
    let token = carried.save(&token, &"x".repeat(20)).await?.token;
    let refused = carried.save(&token, &fits).await;
    ensure_err!(refused, SessionError::TooLarge { limit: 300, .. });
    ensure!(carried.recover::<String>(&token).await?.state.len() == 20, "the state is gone");
    Ok(())
}

pub(super) async fn concurrent_saves(world: World) -> CaseResult {
    let sessions = world.builder().build()?;
    let token = sessions.create("socket-7").await?;
    sessions.save(&token, &0_u64).await?;
    let savers: Vec<_> = (0..8_u64)
        .map(|_| {
            let (sessions, token) = (sessions.clone(), token.clone());
            tokio::spawn(async move {
                let mut added = 0;
                while added < 8 {
                    let seen = sessions.peek::<u64>(&token).await?;
                    match sessions.save_if(&token, seen.version, &(seen.state + 1)).await {
                        Ok(_) => added += 1,
                        Err(SessionError::Conflict { .. }) => {}
                        Err(e) => return Err(e),
                    }
                }
                Ok(())
            })
        })
        .collect();
    for saver in savers {
        saver.await.map_err(|e| super::CaseFailure::new(e.to_string()))??;
    }
    let end = sessions.peek::<u64>(&token).await?;
    ensure!((end.state, end.version) == (64, 65), "{} after {} saves", end.state, end.version);
    Ok(())
}
