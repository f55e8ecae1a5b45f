//! Keys that come and go while sessions live: made by a peer, wrapped by a service, not supplied here.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use resurge_seal::{KeyRing, KeyWrap, WrapContext, WrapError};
use resurge_session_token::{
    PublicError, ReusePolicy, SessionBuilder, SessionError, SessionManager, Token, TokenKind,
};
use resurge_store::{BoxFuture, MemoryStore, Store, VirtualClock};
use resurge_testkit::{Call, FaultStore};
use zeroize::Zeroizing;

const MAX_AGE: Duration = Duration::from_secs(600);

/// A key service that can be down, and counts.
#[derive(Clone, Debug, Default)]
struct Kms {
    down: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
}

impl KeyWrap for Kms {
    fn wrap<'a>(
        &'a self,
        key: &'a [u8; 32],
        _: WrapContext<'a>,
    ) -> BoxFuture<'a, Result<Vec<u8>, WrapError>> {
        Box::pin(async move { Ok(key.iter().map(|byte| byte ^ 0x55).collect()) })
    }

    fn unwrap<'a>(
        &'a self,
        wrapped: &'a [u8],
        _: WrapContext<'a>,
    ) -> BoxFuture<'a, Result<Zeroizing<Vec<u8>>, WrapError>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.down.load(Ordering::SeqCst) {
                return Err("the service is down".into());
            }
            Ok(Zeroizing::new(wrapped.iter().map(|byte| byte ^ 0x55).collect()))
        })
    }
}

fn key(n: u8) -> Vec<u8> {
    (n..n + 32).collect()
}

/// Two processes: a ring each, the ring's store and the sessions' store shared.
struct World {
    clock: VirtualClock,
    rings: FaultStore,
    ring_store: Store,
    sessions: Store,
}

fn world() -> World {
    let clock = VirtualClock::new();
    let rings = FaultStore::new(MemoryStore::in_memory());
    World {
        ring_store: Store::new(rings.clone()).with_clock(clock.clone()),
        sessions: Store::memory().with_clock(clock.clone()),
        rings,
        clock,
    }
}

impl World {
    async fn wrapped(&self, kms: &Kms) -> KeyRing {
        let builder = KeyRing::builder().key_wrap(kms.clone(), MAX_AGE);
        builder.open(&self.ring_store, "main").await.unwrap()
    }

    fn builder(&self, ring: &KeyRing) -> SessionBuilder {
        let builder = SessionManager::builder(self.sessions.clone()).ring(ring.clone());
        builder.reuse(ReusePolicy::UntilExpiry).ttl(MAX_AGE * 100).cleanup_interval(None)
    }
}

/// The same token with another key id, and with another MAC.
fn naming(token: &Token, key: u32) -> Token {
    let mut body = Base64UrlUnpadded::decode_vec(&token.expose()[4..]).unwrap();
    body[2..6].copy_from_slice(&key.to_be_bytes());
    Token::from(format!("st1.{}", Base64UrlUnpadded::encode_string(&body)))
}

#[tokio::test]
async fn s10_an_unknown_key_is_looked_for_once() {
    let (world, kms) = (world(), Kms::default());
    let ours = world.wrapped(&kms).await;
    ours.add_wrapped(1).await.unwrap();
    let here = world.builder(&ours).build().unwrap();
    // The peer started when there was one key.
    let theirs = world.wrapped(&kms).await;
    let there = world.builder(&theirs).build().unwrap();
    ours.add_wrapped(2).await.unwrap();
    ours.promote(2).await.unwrap();
    let token = here.create("alice").await.unwrap();
    here.save(&token, &7_u8).await.unwrap();
    let text = Token::from(token.expose());
    assert_eq!(there.recover::<u8>(&text).await.unwrap().state, 7, "just rotated");

    // Whoever makes up key ids does not make it read all the time.
    let reads = world.rings.calls(Call::Get);
    for id in 100..200 {
        let refused = there.recover::<u8>(&naming(&token, id)).await.unwrap_err();
        assert!(matches!(refused, SessionError::UnknownKey), "{refused:?}");
    }
    assert_eq!(world.rings.calls(Call::Get), reads);
    world.clock.advance(Duration::from_secs(10));
    for id in 100..200 {
        there.recover::<u8>(&naming(&token, id)).await.unwrap_err();
    }
    assert_eq!(world.rings.calls(Call::Get), reads + 1);
    let forged = there.recover::<u8>(&naming(&token, 1)).await.unwrap_err();
    assert!(matches!(forged, SessionError::InvalidSignature), "{forged:?}");
}

/// Keys have a maximal age; sessions that do nothing for longer go on all the same.
#[tokio::test]
async fn keys_are_unwrapped_again_when_they_are_needed() {
    for kind in [TokenKind::Reference, TokenKind::SealedState] {
        let (world, kms) = (world(), Kms::default());
        let ring = world.wrapped(&kms).await;
        ring.add_wrapped(1).await.unwrap();
        let builder = world.builder(&ring).token_kind(kind).seal_states(true);
        let sessions = builder.build().unwrap();
        let mut token = sessions.create("alice").await.unwrap();
        for round in 0..3_u8 {
            world.clock.advance(MAX_AGE * 2);
            token = sessions.save(&token, &round).await.unwrap().token;
            world.clock.advance(MAX_AGE * 2);
            sessions.create("bob").await.unwrap();
            world.clock.advance(MAX_AGE * 2);
            assert_eq!(sessions.peek::<u8>(&token).await.unwrap().state, round);
            world.clock.advance(MAX_AGE * 2);
            token = sessions.recover::<u8>(&token).await.unwrap().token;
        }
        // The service is down: nobody's token is dead for that, and the service is left alone.
        world.clock.advance(MAX_AGE * 2);
        kms.down.store(true, Ordering::SeqCst);
        let asked = kms.asked.load(Ordering::SeqCst);
        for _ in 0..100 {
            for refused in [
                sessions.create("bob").await.unwrap_err(),
                sessions.recover::<u8>(&token).await.unwrap_err(),
                sessions.save(&token, &1_u8).await.unwrap_err(),
            ] {
                assert!(refused.is_retryable(), "{refused:?}");
                assert_eq!(refused.public(), PublicError::TryAgainLater);
            }
        }
        assert_eq!(kms.asked.load(Ordering::SeqCst), asked + 1);
        kms.down.store(false, Ordering::SeqCst);
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(sessions.recover::<u8>(&token).await.unwrap().state, 2);
    }
}

async fn supplied(world: &World, keys: &[u8]) -> KeyRing {
    let mut builder = KeyRing::builder();
    for n in keys {
        builder = builder.key(u32::from(*n), &key(*n)).unwrap();
    }
    builder.open(&world.ring_store, "main").await.unwrap()
}

/// A key that is in the ring and was not given to this process does not keep the others from being tried.
#[tokio::test]
async fn compact_tokens_are_checked_with_the_keys_at_hand() {
    let world = world();
    let all = supplied(&world, &[1, 2, 3]).await;
    let compact = |ring| world.builder(ring).token_kind(TokenKind::Compact48).build().unwrap();
    let mut tokens = Vec::new();
    for id in [1_u32, 3, 2] {
        all.promote(id).await.unwrap();
        let sessions = compact(&all);
        let token = sessions.create(format!("key-{id}")).await.unwrap();
        sessions.save(&token, &id).await.unwrap();
        tokens.push((id, token));
    }
    let some = compact(&supplied(&world, &[2, 3]).await);
    for (id, token) in &tokens {
        let found = some.recover::<u32>(token).await.map(|back| back.state);
        match found {
            Ok(state) => assert!(state == *id && *id != 1),
            Err(SessionError::InvalidSignature) => assert_eq!(*id, 1),
            Err(e) => unreachable!("{e:?}"),
        }
    }
}

/// The active key was promoted by another process, and this one was not given it.
#[tokio::test]
async fn an_active_key_that_is_elsewhere_is_our_trouble() {
    let world = world();
    let both = supplied(&world, &[1, 2]).await;
    both.promote(2).await.unwrap();
    both.promote(1).await.unwrap();
    let one = supplied(&world, &[1]).await;
    let builder = world.builder(&one).reuse(ReusePolicy::default());
    let sessions = builder.idle_ttl(MAX_AGE).build().unwrap();
    let token = sessions.create("alice").await.unwrap();
    sessions.save(&token, &7_u8).await.unwrap();
    both.promote(2).await.unwrap();
    one.reload().await.unwrap();
    for refused in [
        sessions.create("bob").await.unwrap_err(),
        sessions.recover::<u8>(&token).await.unwrap_err(),
    ] {
        assert_eq!(refused.public(), PublicError::TryAgainLater, "{refused:?}");
    }
    both.promote(1).await.unwrap();
    one.reload().await.unwrap();
    assert_eq!(sessions.recover::<u8>(&token).await.unwrap().state, 7);
}
