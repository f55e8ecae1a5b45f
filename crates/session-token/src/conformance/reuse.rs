//! What becomes of a token that was used: rotation, replays, races, restarts.

use super::{CaseResult, MINUTE, SECOND, World};
use crate::{OnDuplicate, ReusePolicy, SessionError, TokenKind};

const GRACE: ReusePolicy = ReusePolicy::RotateOnRecover { grace: ReusePolicy::DEFAULT_GRACE };

pub(super) async fn until_expiry(world: World) -> CaseResult {
    let sessions = world.builder().reuse(ReusePolicy::UntilExpiry).build()?;
    let token = sessions.create("socket-7").await?;
    sessions.save(&token, &7_u8).await?;
    for _ in 0..5 {
        let back = sessions.recover::<u8>(&token).await?;
        ensure!(!back.rotated && back.token == token, "it was replaced");
    }
    Ok(())
}

pub(super) async fn rotation(world: World) -> CaseResult {
    let sessions = world.builder().reuse(GRACE).build()?;
    let t0 = sessions.create("socket-7").await?;
    sessions.save(&t0, &7_u8).await?;
    let first = sessions.recover::<u8>(&t0).await?;
    ensure!(first.rotated && first.token != t0, "it was not replaced");
    world.clock.advance(SECOND * 29);
    let again = sessions.recover::<u8>(&t0).await?;
    ensure!(again.token == first.token, "another successor within the grace time");
    ensure!(again.state == 7, "another state");
    world.clock.advance(SECOND);
    ensure_err!(sessions.recover::<u8>(&t0).await, SessionError::Replayed);
    ensure!(sessions.stats().replayed == 1, "{:?}", sessions.stats());
    ensure_err!(sessions.recover::<u8>(&first.token).await, SessionError::Revoked);
    ensure_err!(sessions.save(&first.token, &8_u8).await, SessionError::Revoked);
    ensure!(sessions.live().await? == 0, "{} live", sessions.live().await?);
    Ok(())
}

/// The grace time ends early once the successor is used: the answer had arrived.
pub(super) async fn used_successor(world: World) -> CaseResult {
    let sessions = world.builder().reuse(GRACE).build()?;
    let t0 = sessions.create("socket-7").await?;
    sessions.save(&t0, &7_u8).await?;
    let t1 = sessions.recover::<u8>(&t0).await?.token;
    let t2 = sessions.recover::<u8>(&t1).await?.token;
    ensure!(sessions.recover::<u8>(&t1).await?.token == t2, "another successor");
    ensure_err!(sessions.recover::<u8>(&t0).await, SessionError::Replayed);
    ensure_err!(sessions.recover::<u8>(&t2).await, SessionError::Revoked);
    Ok(())
}

pub(super) async fn lost_answer(mut world: World) -> CaseResult {
    let t0 = {
        let sessions = world.builder().reuse(GRACE).build()?;
        let t0 = sessions.create("socket-7").await?;
        sessions.save(&t0, &7_u8).await?;
        // The answer never reaches the client: the process ends between the two.
        drop(sessions.recover::<u8>(&t0).await?);
        sessions.close().await?;
        t0
    };
    world.restart().await?;
    let sessions = world.builder().reuse(GRACE).build()?;
    world.clock.advance(SECOND * 10);
    let back = sessions.recover::<u8>(&t0.expose().into()).await?;
    ensure!(back.state == 7 && back.rotated, "another state");
    sessions.save(&back.token, &8_u8).await?;
    Ok(())
}

pub(super) async fn single_use_race(mut world: World) -> CaseResult {
    let reuse = ReusePolicy::SingleUse;
    let token = {
        let sessions = world.builder().reuse(reuse).build()?;
        let token = sessions.create("socket-7").await?;
        sessions.save(&token, &7_u8).await?;
        let mut racers = Vec::new();
        for n in 0..16 {
            // Half of them through a manager of their own, as another process would.
            let racer =
                if n % 2 == 0 { sessions.clone() } else { world.builder().reuse(reuse).build()? };
            let token = token.clone();
            racers.push(tokio::spawn(async move { racer.recover::<u8>(&token).await }));
        }
        let mut won = Vec::new();
        for racer in racers {
            match racer.await {
                Ok(Ok(back)) => won.push(back),
                Ok(Err(SessionError::Replayed)) => {}
                other => ensure!(false, "{other:?}"),
            }
        }
        ensure!(won.len() == 1, "{} of 16 won", won.len());
        // Losing a race is no theft: the winner goes on.
        for winner in &won {
            sessions.save(&winner.token, &8_u8).await?;
        }
        sessions.close().await?;
        token
    };
    world.restart().await?;
    let sessions = world.builder().reuse(reuse).build()?;
    ensure_err!(sessions.recover::<u8>(&token).await, SessionError::Replayed);
    Ok(())
}

pub(super) async fn rotation_race(world: World) -> CaseResult {
    let sessions = world.builder().reuse(GRACE).build()?;
    let token = sessions.create("socket-7").await?;
    sessions.save(&token, &7_u8).await?;
    let racers: Vec<_> = (0..16)
        .map(|_| {
            let (sessions, token) = (sessions.clone(), token.clone());
            tokio::spawn(async move { sessions.recover::<u8>(&token).await })
        })
        .collect();
    let mut successors = std::collections::HashSet::new();
    for racer in racers {
        match racer.await {
            Ok(Ok(back)) => successors.insert(back.token.expose().to_owned()),
            other => return Err(super::CaseFailure::new(format!("{other:?}"))),
        };
    }
    ensure!(successors.len() == 1, "{} successors of one token", successors.len());
    Ok(())
}

pub(super) async fn duplicates(world: World) -> CaseResult {
    for duplicate in [OnDuplicate::Share, OnDuplicate::Fork, OnDuplicate::Reject] {
        let name = format!("{duplicate:?}").to_ascii_lowercase();
        let sessions = world.builder().name(name).on_duplicate(duplicate).build()?;
        let t0 = sessions.create("socket-7").await?;
        sessions.save(&t0, &7_u8).await?;
        let first = sessions.recover::<u8>(&t0).await?;
        let second = sessions.recover::<u8>(&t0).await;
        match duplicate {
            OnDuplicate::Share => {
                let second = second?;
                sessions.save(&first.token, &8_u8).await?;
                sessions.save(&second.token, &9_u8).await?;
                ensure!(sessions.peek::<u8>(&first.token).await?.state == 9, "not shared");
                let stale = sessions.save_if(&first.token, 2, &10_u8).await;
                ensure_err!(stale, SessionError::Conflict { current: 3 });
            }
            OnDuplicate::Fork => {
                let second = second?;
                ensure!(second.state == 7 && second.token != first.token, "not forked");
                sessions.save(&second.token, &9_u8).await?;
                ensure!(sessions.peek::<u8>(&first.token).await?.state == 7, "shared");
                ensure!(sessions.list("socket-7").await?.len() == 2, "not two sessions");
            }
            OnDuplicate::Reject => {
                ensure_err!(second, SessionError::Replayed);
                sessions.save(&first.token, &8_u8).await?;
            }
        }
    }
    Ok(())
}

pub(super) async fn old_token_looks(world: World) -> CaseResult {
    let sessions = world.builder().reuse(GRACE).build()?;
    let t0 = sessions.create("socket-7").await?;
    sessions.save(&t0, &7_u8).await?;
    let t1 = sessions.recover::<u8>(&t0).await?.token;
    ensure!(sessions.peek::<u8>(&t0).await?.state == 7, "another state");
    world.clock.advance(MINUTE);
    ensure_err!(sessions.peek::<u8>(&t0).await, SessionError::Replayed);
    ensure_err!(sessions.touch(&t0).await, SessionError::Replayed);
    // Looking with an old token revokes nothing.
    sessions.recover::<u8>(&t1).await?;
    Ok(())
}

/// A state that travels in the token: an older one never comes back.
pub(super) async fn sealed_rollback(world: World) -> CaseResult {
    for reuse in [GRACE, ReusePolicy::UntilExpiry, ReusePolicy::SingleUse] {
        let name = match reuse {
            ReusePolicy::UntilExpiry => "until",
            ReusePolicy::SingleUse => "single",
            ReusePolicy::RotateOnRecover { .. } => "rotate",
        };
        let sessions =
            world.builder().name(name).token_kind(TokenKind::SealedState).reuse(reuse).build()?;
        let t0 = sessions.create("socket-7").await?;
        ensure_err!(sessions.recover::<u8>(&t0).await, SessionError::NotFound);
        let t1 = sessions.save(&t0, &1_u8).await?.token;
        let t2 = sessions.save(&t1, &2_u8).await?.token;
        ensure_err!(sessions.recover::<u8>(&t1).await, SessionError::Replayed);
        ensure_err!(sessions.save(&t1, &3_u8).await, SessionError::Conflict { .. });
        let back = sessions.recover::<u8>(&t2).await?;
        ensure!(back.state == 2, "state {} came back", back.state);
        match (reuse, sessions.recover::<u8>(&t2).await) {
            (ReusePolicy::SingleUse, Err(SessionError::Replayed)) => {}
            (ReusePolicy::UntilExpiry | ReusePolicy::RotateOnRecover { .. }, Ok(again)) => {
                ensure!(again.state == 2, "state {} came back", again.state);
                sessions.save(&again.token, &3_u8).await?;
            }
            (_, other) => ensure!(false, "{name}: {other:?}"),
        }
    }
    Ok(())
}
