//! What somebody who means harm tries: tokens with several faults, copies, damage, code that panics.

use std::panic::resume_unwind;

use base64ct::{Base64UrlUnpadded, Encoding};
use resurge_seal::KeyRing;
use resurge_store::{Batch, Durability, ErrorKind, Namespace, ScanOptions, Timestamp};

use super::schema::{put, record};
use super::{CaseFailure, CaseResult, MINUTE, SECOND, World, key};
use crate::record_id::RecordId;
use crate::stored::StoredSession;
use crate::token::{Header, KIND_REFERENCE, purpose_tag, sign};
use crate::{
    Eviction, Format, OnDuplicate, ReusePolicy, Serializer, SessionError, StateValue, Token,
    TokenKind,
};

/// A token with a MAC that is wrong is forged, whatever else is wrong with it; an authentic one has its first fault.
pub(super) async fn check_order(world: World) -> CaseResult {
    let build = |purpose: &str| world.builder().purpose(purpose).build();
    let (ours, others) = (build("ours")?.bound_to("abc"), build("others")?.bound_to("xyz"));
    let token = ours.create("alice").await?;
    ours.save(&token, &7_u8).await?;
    let gone = ours.create("bob").await?;
    ours.delete(&gone).await?;
    let begun = resurge_store::Clock::now(&world.clock);
    let times = [0, -25 * 3600, 25 * 3600_i64].map(|seconds| {
        Timestamp::from_millis(begun.as_millis().saturating_add_signed(seconds * 1_000))
    });
    for now in times {
        world.clock.set_wall(now);
        for token in [&token, &gone] {
            let text = token.expose().get(4..).unwrap_or_default();
            let body = Base64UrlUnpadded::decode_vec(text);
            let body = body.map_err(|_| CaseFailure::new("not base64url"))?;
            // In the record id, purpose, both times, generation, binding, MAC; and a purpose that would fit.
            for at in [6, 22, 30, 38, 46, 50, body.len() - 1] {
                let mut forged = body.clone();
                if let Some(byte) = forged.get_mut(at) {
                    *byte ^= 0x40;
                }
                if let (22, Some(purpose)) = (at, forged.get_mut(22..30)) {
                    purpose.copy_from_slice(&purpose_tag("others"));
                }
                let forged = format!("st1.{}", Base64UrlUnpadded::encode_string(&forged));
                let forged = Token::from(forged);
                for sessions in [&ours, &others] {
                    ensure_err!(
                        sessions.recover::<u8>(&forged).await,
                        SessionError::InvalidSignature
                    );
                    ensure_err!(
                        sessions.save(&forged, &8_u8).await,
                        SessionError::InvalidSignature
                    );
                    ensure_err!(sessions.delete(&forged).await, SessionError::InvalidSignature);
                }
            }
        }
    }
    // Authentic, over, of another purpose, of another client: in this order.
    ensure_err!(others.recover::<u8>(&token).await, SessionError::WrongPurpose);
    let elsewhere = build("ours")?.bound_to("xyz");
    ensure_err!(elsewhere.recover::<u8>(&token).await, SessionError::WrongBinding);
    ensure_err!(ours.recover::<u8>(&token).await, SessionError::Expired { .. });
    world.clock.set_wall(begun);
    ensure!(ours.recover::<u8>(&token).await?.state == 7, "another state");
    Ok(())
}

/// A copy has the age, the version and the end of what it is a copy of.
pub(super) async fn copies(world: World) -> CaseResult {
    let build = || {
        let builder = world.builder().on_duplicate(OnDuplicate::Fork);
        builder.idle_ttl(MINUTE * 5).absolute_ttl(MINUTE * 8).build()
    };
    let sessions = build()?;
    let t0 = sessions.create("alice").await?;
    for state in 1..=3_u8 {
        sessions.save(&t0, &state).await?;
    }
    world.clock.advance(MINUTE * 4);
    sessions.recover::<u8>(&t0).await?;
    let copy = sessions.recover::<u8>(&t0).await?;
    ensure!(copy.version == 3, "version {}", copy.version);
    let saved = sessions.save_if(&copy.token, copy.version, &4_u8).await?;
    ensure!(saved.version == 4, "version {}", saved.version);
    world.clock.advance(MINUTE * 2);
    // Copies of copies.
    let next = sessions.recover::<u8>(&copy.token).await?;
    let copy = sessions.recover::<u8>(&copy.token).await?;
    ensure!(copy.age == MINUTE * 6 && copy.state == 4, "{:?}", copy.age);
    world.clock.advance(MINUTE * 2);
    for token in [&next.token, &copy.token] {
        ensure_err!(sessions.peek::<u8>(token).await, SessionError::Expired { .. });
    }
    // What was created before a time is revoked with its copies.
    let t0 = sessions.create("bob").await?;
    sessions.save(&t0, &1_u8).await?;
    world.clock.advance(SECOND);
    let before = resurge_store::Clock::now(&world.clock);
    world.clock.advance(SECOND);
    sessions.recover::<u8>(&t0).await?;
    let copy = sessions.recover::<u8>(&t0).await?;
    sessions.revoke_all_before(before).await?;
    ensure_err!(sessions.peek::<u8>(&copy.token).await, SessionError::Revoked);
    Ok(())
}

/// Whoever copies a session while its subject is revoked has either nothing, or what is revoked too.
pub(super) async fn copies_race(world: World) -> CaseResult {
    let sessions = world.builder().on_duplicate(OnDuplicate::Fork).build()?;
    for round in 0..30 {
        let subject = format!("socket-{round}");
        let t0 = sessions.create(&subject).await?;
        sessions.save(&t0, &7_u8).await?;
        sessions.recover::<u8>(&t0).await?;
        let copiers: Vec<_> = (0..3)
            .map(|_| {
                let (sessions, t0) = (sessions.clone(), t0.clone());
                tokio::spawn(async move { sessions.recover::<u8>(&t0).await })
            })
            .collect();
        sessions.revoke_subject(&subject).await?;
        for copier in copiers {
            match copier.await.map_err(|e| CaseFailure::new(e.to_string()))? {
                Ok(copy) => {
                    ensure_err!(sessions.peek::<u8>(&copy.token).await, SessionError::Revoked);
                }
                Err(e) => ensure!(matches!(e, SessionError::Revoked), "{e:?}"),
            }
        }
        ensure!(sessions.list(&subject).await?.is_empty(), "round {round}: one is left");
    }
    Ok(())
}

/// A session that cannot be read does not keep the others of its subject alive.
pub(super) async fn revoked_beside_damage(world: World) -> CaseResult {
    let sessions = world.builder().reuse(ReusePolicy::UntilExpiry).build()?;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let token = sessions.create("alice").await?;
        sessions.save(&token, &7_u8).await?;
        tokens.push(token);
        world.clock.advance(SECOND);
    }
    let first = sessions.list("alice").await?;
    let first = first.first().ok_or_else(|| CaseFailure::new("not listed"))?;
    damage(&world, "default", first.id).await?;
    ensure!(sessions.revoke_subject("alice").await? == 2, "not both are revoked");
    let mut refused = Vec::new();
    for token in &tokens {
        refused.push(sessions.recover::<u8>(token).await.map_err(|e| e.class()).err());
    }
    let expected = [Some("corrupt"), Some("revoked"), Some("revoked")];
    ensure!(refused == expected, "{refused:?}");
    Ok(())
}

async fn damage(world: &World, name: &str, id: RecordId) -> CaseResult {
    let key = Namespace::new(&format!("session/{name}"))?.key([b"r".as_slice(), &id.0].concat())?;
    let mut batch = Batch::new();
    batch.put(key, "damaged");
    world.backend.commit(batch, Durability::Durable).await?;
    Ok(())
}

/// One of a subject's sessions is damaged: it goes first, and leaves nothing behind that counts as a session.
pub(super) async fn evicted_damage(world: World) -> CaseResult {
    for (name, eviction) in [("soonest", Eviction::SoonestExpiry), ("oldest", Eviction::Oldest)] {
        let builder = world.builder().name(name).eviction(eviction);
        let sessions = builder.max_entries(4).max_entries_per_subject(2).build()?;
        sessions.create("alice").await?;
        let damaged = sessions.list("alice").await?;
        let damaged = damaged.first().ok_or_else(|| CaseFailure::new("not listed"))?;
        damage(&world, name, damaged.id).await?;
        for n in 0..4_usize {
            world.clock.advance(SECOND);
            sessions.create("alice").await?;
            let listed = sessions.list("alice").await?.len();
            ensure!(listed == (n + 1).min(2), "{listed} after {n} more");
        }
        for n in 0..4 {
            world.clock.advance(SECOND);
            sessions.create(format!("other-{n}")).await?;
        }
        ensure!(sessions.live().await? == 4, "{} live", sessions.live().await?);
        world.clock.advance(MINUTE * 60);
        let cleaned = sessions.cleanup_expired(100).await?;
        ensure!(cleaned.removed == 4 && cleaned.failed == 0, "{cleaned:?}");
        let again = sessions.cleanup_expired(100).await?;
        ensure!(again == crate::CleanupReport::default(), "{again:?}");
        ensure!(sessions.live().await? == 0, "{} live", sessions.live().await?);
        sessions.create("alice").await?;
    }
    Ok(())
}

/// Index entries that are damaged, lead nowhere or to the wrong time: nothing is removed that should stay.
pub(super) async fn damaged_indexes(world: World) -> CaseResult {
    let sessions = world.builder().max_entries(10).max_entries_per_subject(5).build()?;
    let token = sessions.create("alice").await?;
    sessions.save(&token, &7_u8).await?;
    let id = sessions.list("alice").await?;
    let id = id.first().ok_or_else(|| CaseFailure::new("not listed"))?.id;
    let space = Namespace::new("session/default")?;
    let mut batch = Batch::new();
    for kind in [b'x', b'o', b's'] {
        for rest in [&[][..], &[0; 7], &[0; 8], &[&[0; 8][..], &[9; 16]].concat()] {
            batch.put(space.key([&[kind], rest].concat())?, "damaged");
        }
        // To a session that is there, at a time that it does not have.
        batch.put(space.key([&[kind][..], &1_u64.to_be_bytes(), &id.0].concat())?, "l");
    }
    world.backend.commit(batch, Durability::Durable).await?;
    for _ in 0..2 {
        let cleaned = sessions.cleanup_expired(100).await?;
        ensure!(cleaned.removed == 0, "{cleaned:?}");
    }
    let range = space.prefix([&b"x"[..], &1_u64.to_be_bytes()].concat());
    let left = world.backend.scan(range, ScanOptions::new()).await?.entries.len();
    ensure!(left == 0, "the entry at another time is still there");
    for n in 0..12 {
        sessions.create(format!("other-{n}")).await?;
    }
    ensure!(sessions.live().await? == 10, "{} live", sessions.live().await?);
    let token = sessions.create("alice").await?;
    sessions.save(&token, &8_u8).await?;
    ensure!(sessions.revoke_subject("alice").await? > 0, "nothing is revoked");
    ensure_err!(sessions.recover::<u8>(&token).await, SessionError::Revoked);
    Ok(())
}

/// The active key is revoked and none is promoted: our trouble, and no client loses a token of another key for it.
pub(super) async fn no_active_key(world: World) -> CaseResult {
    for kind in [TokenKind::Reference, TokenKind::SealedState] {
        let ring = KeyRing::from_bytes(1, &key(1))?;
        let name = format!("{kind:?}").to_ascii_lowercase().replace("state", "");
        let builder = world.builder().ring(ring.clone()).name(name);
        let builder = builder.token_kind(kind).seal_states(true);
        let sessions = builder.build()?;
        let token = sessions.create("alice").await?;
        let token = sessions.save(&token, &7_u8).await?.token;
        ring.add(2, &key(2)).await?;
        ring.promote(2).await?;
        ring.revoke(2, "leaked").await?;
        let ours =
            |e: &SessionError| e.is_retryable() && e.public() == crate::PublicError::TryAgainLater;
        for refused in [
            sessions.create("bob").await.err(),
            sessions.save(&token, &8_u8).await.err(),
            sessions.recover::<u8>(&token).await.err(),
        ] {
            ensure!(refused.as_ref().is_some_and(ours), "{kind:?}: {refused:?}");
        }
        let unusable = world.builder().ring(ring.clone()).build();
        ensure_err!(unusable, SessionError::Config(_));
        ring.promote(1).await?;
        let back = sessions.recover::<u8>(&token).await?;
        ensure!(back.state == 7, "another state");
    }
    Ok(())
}

#[derive(Debug)]
struct Panics;

impl Serializer for Panics {
    fn id(&self) -> u8 {
        222
    }

    fn encode(&self, value: &StateValue) -> Result<Vec<u8>, String> {
        if value.is_text() {
            resume_unwind(Box::new("a serializer"));
        }
        Ok(vec![1, 2, 3])
    }

    fn decode(&self, _: &[u8]) -> Result<StateValue, String> {
        resume_unwind(Box::new("a serializer"))
    }
}

/// Code that is not ours panics: an error, and the session is as it was.
pub(super) async fn panics(world: World) -> CaseResult {
    let first = world.builder().build()?;
    let token = first.create("alice").await?;
    first.save(&token, &7_u8).await?;
    let second = world.builder().schema(2);
    let second = second.migrate(1, |_| resume_unwind(Box::new("a migration"))).build()?;
    let refused = second.recover::<u8>(&token).await;
    ensure_err!(refused, SessionError::SchemaMismatch { found: 1, want: 2 });
    let back = first.recover::<u8>(&token).await?;
    ensure!(back.state == 7, "another state");

    let own = world.builder().format(Format::Custom(std::sync::Arc::new(Panics))).build()?;
    ensure_err!(own.save(&back.token, &"text").await, SessionError::Encode);
    ensure!(first.peek::<u8>(&back.token).await?.state == 7, "another state");
    own.save(&back.token, &8_u8).await?;
    ensure_err!(own.recover::<u8>(&back.token).await, SessionError::Corrupt(_));
    first.save(&back.token, &9_u8).await?;
    ensure!(first.recover::<u8>(&back.token).await?.state == 9, "another state");
    own.close().await?;
    Ok(())
}

/// Counters at their ends, and times at theirs: an error, never a panic and never a smaller number.
pub(super) async fn extremes(world: World) -> CaseResult {
    let sessions = world.builder().build()?;
    let token = sessions.create("alice").await?;
    sessions.save(&token, &7_u8).await?;
    let (at, payload) = record(&world, "default", 0).await?;
    let stored = StoredSession::decode(payload.into())?;
    let id = sessions.list("alice").await?.first().map(|info| info.id);
    let id = id.ok_or_else(|| CaseFailure::new("not listed"))?;
    let mac = world.ring.prepared(1, crate::keys::MAC, crate::keys::keyed)?;
    for (generation, version, epoch, class) in [
        (u32::MAX, 1, 1, "revoked"),
        (1, 1, u64::MAX, "corrupt"),
        (u32::MAX - 1, u64::MAX, u64::MAX - 1, "recovered"),
    ] {
        let edited = StoredSession { version, epoch, generation, ..stored.clone() };
        put(&world, at.clone(), edited.encode().to_vec()).await?;
        let header = Header {
            kind: KIND_REFERENCE,
            key_id: 1,
            id,
            purpose: stored.purpose,
            issued_at: stored.generation_issued,
            expires_at: stored.absolute,
            generation,
            binding: None,
        };
        let token = Token::from(sign(&header, &mac)?);
        let found = sessions.recover::<u8>(&token).await;
        let found_class = found.as_ref().map_or_else(SessionError::class, |_| "recovered");
        ensure!(found_class == class, "{found_class} instead of {class}");
        if let Ok(back) = found {
            ensure_err!(sessions.save(&back.token, &8_u8).await, SessionError::Corrupt(_));
            // The last generation there is, asked for again.
            ensure!(sessions.recover::<u8>(&token).await?.token == back.token, "another one");
        }
    }
    // The last millisecond there is.
    world.clock.set_wall(Timestamp::from_millis(u64::MAX - 1));
    ensure_err!(sessions.recover::<u8>(&token).await, SessionError::Expired { .. });
    sessions.cleanup_expired(10).await?;
    let token = sessions.create("alice").await?;
    sessions.save(&token, &7_u8).await?;
    ensure!(sessions.recover::<u8>(&token).await?.state == 7, "another state");
    world.clock.set_wall(Timestamp::from_millis(u64::MAX));
    ensure_err!(sessions.recover::<u8>(&token).await, SessionError::Expired { .. });
    drop(sessions.create("bob").await);
    sessions.cleanup_expired(10).await?;
    Ok(())
}

/// A subject is any text of 1 to 1,024 bytes.
pub(super) async fn subjects(world: World) -> CaseResult {
    let sessions = world.builder().build()?;
    for refused in [String::new(), "x".repeat(1_025), "x".repeat(1 << 20)] {
        ensure_err!(sessions.create(&refused).await, SessionError::Config(_));
        ensure!(sessions.list(&refused).await?.is_empty(), "listed");
        ensure!(sessions.revoke_subject(&refused).await? == 0, "revoked");
    }
    let longest = "\u{e9}".repeat(512);
    for subject in ["\0", "a\0b", "a", " ", "../..", &longest] {
        let token = sessions.create(subject).await?;
        sessions.save(&token, &subject).await?;
        let back = sessions.recover::<String>(&token).await?;
        ensure!(back.subject == subject && back.state == subject, "{subject:?}: {back:?}");
        ensure!(sessions.list(subject).await?.len() == 1, "{subject:?} is not listed alone");
    }
    ensure!(sessions.revoke_subject("a\0b").await? == 1, "not revoked");
    ensure!(sessions.list("a").await?.len() == 1, "another one is revoked");
    Ok(())
}

/// The count of sessions is damaged: it is counted anew. The time of revocation is: nobody gets in, and nobody's token is dead.
pub(super) async fn damaged_numbers(world: World) -> CaseResult {
    let sessions = world.builder().max_entries(3).build()?;
    let mut tokens = Vec::new();
    for n in 0..3_u8 {
        let token = sessions.create(format!("socket-{n}")).await?;
        sessions.save(&token, &n).await?;
        tokens.push(token);
        world.clock.advance(SECOND);
    }
    let space = Namespace::new("session/default")?;
    for damage in ["damaged", ""] {
        let mut batch = Batch::new();
        batch.put(space.key("n")?, damage);
        world.backend.commit(batch, Durability::Durable).await?;
        ensure!(sessions.live().await? == 3, "{} live", sessions.live().await?);
        sessions.create("one more").await?;
        ensure!(sessions.live().await? == 3, "{} live", sessions.live().await?);
    }
    let mut last = tokens.pop().ok_or_else(|| CaseFailure::new("no token"))?;
    last = sessions.recover::<u8>(&last).await?.token;
    let mut batch = Batch::new();
    batch.put(space.key("b")?, "damaged");
    world.backend.commit(batch, Durability::Durable).await?;
    match sessions.recover::<u8>(&last).await {
        Err(e @ SessionError::Store(_)) => {
            ensure!(e.public() == crate::PublicError::TryAgainLater, "{e:?}");
        }
        other => ensure!(false, "{other:?}"),
    }
    Ok(())
}

/// Two sessions with the same state have nothing in common in a sealed store but what is not secret.
pub(super) async fn same_states(world: World) -> CaseResult {
    let sessions = world.builder().seal_states(true).build()?;
    for subject in ["alice", "bob"] {
        let token = sessions.create(subject).await?;
        sessions.save(&token, &"the same").await?;
        ensure!(sessions.save(&token, &"the same").await?.skipped, "written again");
    }
    let (_, one) = record(&world, "default", 0).await?;
    let (_, two) = record(&world, "default", 1).await?;
    let (one, two) = (StoredSession::decode(one.into())?, StoredSession::decode(two.into())?);
    ensure!(one.hash != two.hash, "their hashes are the same");
    ensure!(one.state != two.state, "they are sealed alike");
    Ok(())
}

/// A token and a store whose errors differ: the store's trouble is never the token's.
pub(super) async fn closed_store(world: World) -> CaseResult {
    let sessions = world.builder().build()?;
    let token = sessions.create("alice").await?;
    sessions.save(&token, &7_u8).await?;
    world.backend.close().await?;
    match sessions.recover::<u8>(&token).await {
        Err(e @ SessionError::Closed) => {
            ensure!(e.public() == crate::PublicError::TryAgainLater, "{e:?}");
        }
        Err(SessionError::Store(e)) => ensure!(e.kind() != ErrorKind::Corrupt, "{e:?}"),
        other => ensure!(false, "{other:?}"),
    }
    ensure_err!(sessions.recover::<u8>(&"st1.AQEB".into()).await, SessionError::Malformed);
    Ok(())
}
