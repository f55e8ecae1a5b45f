//! Keys: rotation, revocation, and what is no key.

use base64ct::{Base64UrlUnpadded, Encoding};
use resurge_seal::KeyRing;
use std::time::Duration;

use super::{CaseResult, World, key};
use crate::{ReusePolicy, SessionError, SessionManager, TokenKind};

pub(super) async fn rotation(world: World) -> CaseResult {
    let ring = &world.ring;
    let sessions = world.builder().reuse(ReusePolicy::UntilExpiry).build()?;
    let old = sessions.create("alice").await?;
    sessions.save(&old, &7_u8).await?;
    ring.add(2, &key(2)).await?;
    ring.promote(2).await?;
    sessions.recover::<u8>(&old).await?;
    ensure!(sessions.stats().old_key_used > 0, "{:?}", sessions.stats());
    let new = sessions.create("alice").await?;
    let body = Base64UrlUnpadded::decode_vec(new.expose().get(4..).unwrap_or_default());
    ensure!(
        body.is_ok_and(|body| body.get(2..6) == Some(&[0, 0, 0, 2])),
        "not signed with the new key"
    );
    sessions.save(&new, &8_u8).await?;
    ring.revoke(1, "leaked").await?;
    ensure_err!(sessions.recover::<u8>(&old).await, SessionError::KeyRevoked);
    ring.verify_only(1).await?;
    sessions.recover::<u8>(&old).await?;

    let without = KeyRing::from_bytes(2, &key(2))?;
    let sessions = world.builder().ring(without).reuse(ReusePolicy::UntilExpiry).build()?;
    ensure_err!(sessions.recover::<u8>(&old).await, SessionError::UnknownKey);
    sessions.recover::<u8>(&new).await?;
    Ok(())
}

pub(super) async fn spliced_key(world: World) -> CaseResult {
    world.ring.add(2, &key(2)).await?;
    let sessions = world.builder().build()?;
    let token = sessions.create("alice").await?;
    let body = Base64UrlUnpadded::decode_vec(token.expose().get(4..).unwrap_or_default());
    let mut body = body.unwrap_or_default();
    if let Some(last) = body.get_mut(5) {
        *last = 2;
    }
    let spliced = format!("st1.{}", Base64UrlUnpadded::encode_string(&body));
    ensure_err!(sessions.peek::<u8>(&spliced.into()).await, SessionError::InvalidSignature);
    Ok(())
}

pub(super) async fn settings(world: World) -> CaseResult {
    let bare = || SessionManager::builder(world.store()).cleanup_interval(None);
    ensure_err!(bare().build(), SessionError::Config(_));
    // The example of the document this crate goes back to: 31 bytes.
    let example = bare().key(1, b"your-32-byte-secret-key-here!!!").build();
    match example {
        Err(SessionError::Config(why)) => {
            ensure!(why.contains("31 bytes") && why.contains("32"), "{why}");
        }
        other => ensure!(false, "{other:?}"),
    }
    bare().key(1, b"your-32-byte-secret-key-here!!!!").build()?;
    ensure_err!(bare().key(1, &[0; 32]).build(), SessionError::Config(_));
    let day = Duration::from_secs(24 * 3600);
    for builder in [
        world.builder().ttl(Duration::ZERO),
        world.builder().idle_ttl(Duration::ZERO),
        world.builder().idle_ttl(Duration::from_micros(1)),
        world.builder().idle_ttl(day).absolute_ttl(Duration::from_secs(1)),
        world.builder().max_entries(0),
        world.builder().max_entries_per_subject(0),
        world.builder().max_entries(1).max_entries_per_subject(2),
        world.builder().cleanup_interval(Duration::ZERO),
        world.builder().max_state_bytes(0),
        world.builder().max_state_bytes(usize::MAX),
        world.builder().max_token_len(usize::MAX),
        world.builder().purpose(""),
        world.builder().name("Has Spaces"),
        world.builder().name("x".repeat(57)),
        world.builder().token_kind(TokenKind::Compact48),
        world.builder().metrics_alias(""),
    ] {
        ensure_err!(builder.build(), SessionError::Config(_));
    }
    let sessions = world.builder().ttl(Duration::MAX).leeway(Duration::MAX).build()?;
    let token = sessions.create("alice").await?;
    sessions.save(&token, &7_u8).await?;
    world.clock.advance(day * 365_000);
    sessions.recover::<u8>(&token).await?;
    sessions.cleanup_expired(10).await?;
    ensure_err!(sessions.create("").await, SessionError::Config(_));
    ensure_err!(sessions.create("x".repeat(1_025)).await, SessionError::Config(_));
    Ok(())
}
