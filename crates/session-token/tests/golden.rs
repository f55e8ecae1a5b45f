//! Tokens byte for byte, through the manager. The texts were made by another program, in another language, from
//! `docs/format.md`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use resurge_seal::KeyRing;
use resurge_session_token::{ReusePolicy, SessionBuilder, SessionManager, Token, TokenKind};
use resurge_store::{Entropy, Store, StoreError, Timestamp, VirtualClock};

const REFERENCE: &str = "st1.AQEBAgMEoKGio6SlpqeoqaqrrK2urw9vJF85Yv_XAAABofZAvAAAAAGh9kVP4AAAAACFaSLuhX5OqnDBXUZc-pv0d630ouNmSXHcFHWSJ7Ohbw";
const REFERENCE_BOUND: &str = "st1.AYEBAgMEoKGio6SlpqeoqaqrrK2urw9vJF85Yv_XAAABofZAvAAAAAGh9kVP4AAAAACjHUjk1EwoS4_SLSnX0SOdwcJMoyG0yybXmll4RhZ7QQ5UabJwZuzHwjCWk4BIKkY";
const SEALED: &str = "st1.AQMBAgMEoKGio6SlpqeoqaqrrK2urw9vJF85Yv_XAAABofZAvAAAAAGh9kVP4AAAAAEQERITFBUWFxgZGhscHR4fICEiIyQlJif5u4IzsUT9X4NA7uXHU_FRjgstEzPWvLw7vD4tGfF68-PC683rLsx0lWKkAwR8ObHH-tF4GJQ";
const SEALED_BOUND: &str = "st1.AYMBAgMEoKGio6SlpqeoqaqrrK2urw9vJF85Yv_XAAABofZAvAAAAAGh9kVP4AAAAAGjHUjk1EwoS4_SLSnX0SOdEBESExQVFhcYGRobHB0eHyAhIiMkJSYnjx6h4HFKrWd3JRiLF3O3xckx26Dpm59c_W3srL5O_ZpxdhPJr8dG_66gk1u6D2ZphMcw7Sgh";
const COMPACT: &str = "5hHhRsDmkS0Y6ZfFRKcAAPbci-Nc3ZuWAeg34EHig-e2_8Rya0kFKm3SgxptT2d-";

/// Counts upwards from the same byte at each call, or gives zeros.
#[derive(Debug)]
struct From(u8);

impl Entropy for From {
    fn fill(&self, out: &mut [u8]) -> Result<(), StoreError> {
        match self.0 {
            0 => out.fill(0),
            first => (first..).zip(out).for_each(|(n, byte)| *byte = n),
        }
        Ok(())
    }
}

fn builder(kind: TokenKind, entropy: u8) -> SessionBuilder {
    let clock = VirtualClock::new();
    clock.set_wall(Timestamp::from_millis(1_795_132_800_000));
    let store = Store::memory().with_clock(clock).with_entropy(From(entropy));
    let root: Vec<u8> = (0..32).collect();
    let ring = KeyRing::builder().entropy(From(0x10)).key(0x0102_0304, &root).unwrap();
    SessionManager::builder(store)
        .ring(ring.build().unwrap())
        .token_kind(kind)
        .reuse(ReusePolicy::UntilExpiry)
        .ttl(Duration::from_secs(300))
        .cleanup_interval(None)
}

#[tokio::test]
async fn references() {
    let sessions = builder(TokenKind::Reference, 0xa0).build().unwrap();
    let token = sessions.create("socket-7").await.unwrap();
    assert_eq!(token.expose(), REFERENCE);
    sessions.save(&token, &7_u8).await.unwrap();
    let back = sessions.recover::<u8>(&Token::from(REFERENCE)).await.unwrap();
    assert_eq!((back.state, back.token.expose()), (7, REFERENCE));
    let sessions = builder(TokenKind::Reference, 0xa0).build().unwrap().bound_to("cookie:abc");
    assert_eq!(sessions.create("socket-7").await.unwrap().expose(), REFERENCE_BOUND);
}

#[tokio::test]
async fn tokens_with_their_state() {
    let sessions = builder(TokenKind::SealedState, 0xa0).build().unwrap();
    for (sessions, golden) in
        [(sessions.clone(), SEALED), (sessions.bound_to("cookie:abc"), SEALED_BOUND)]
    {
        let token = sessions.create("socket-7").await.unwrap();
        let saved = sessions.save(&token, &7_u8).await.unwrap();
        assert_eq!(saved.token.expose(), golden);
        assert_eq!(sessions.recover::<u8>(&Token::from(golden)).await.unwrap().state, 7);
        sessions.delete(&saved.token).await.unwrap();
    }
}

#[tokio::test]
async fn compact_tokens() {
    let sessions = builder(TokenKind::Compact48, 0).build().unwrap();
    let token = sessions.create("socket-7").await.unwrap();
    assert_eq!(token.expose(), COMPACT);
    sessions.save(&token, &7_u8).await.unwrap();
    assert_eq!(sessions.recover::<u8>(&Token::from(COMPACT)).await.unwrap().state, 7);
}
