//! What a token is worth, and what is none.

use base64ct::{Base64UrlUnpadded, Encoding};
use resurge_store::Clock;

use super::{CaseFailure, CaseResult, MINUTE, SECOND, World};
use crate::{ReusePolicy, SessionError, SessionManager, Token, TokenKind};

fn body(token: &Token) -> Result<Vec<u8>, CaseFailure> {
    let text = token.expose();
    let text = text.strip_prefix("st1.").unwrap_or(text);
    Base64UrlUnpadded::decode_vec(text).map_err(|_| CaseFailure::new("not base64url"))
}

fn from_body(body: &[u8], prefix: &str) -> Token {
    Token::from(format!("{prefix}{}", Base64UrlUnpadded::encode_string(body)))
}

fn managers(world: &World) -> Result<Vec<(SessionManager, &'static str)>, CaseFailure> {
    let until = ReusePolicy::UntilExpiry;
    let compact = world.builder().name("c").token_kind(TokenKind::Compact48).reuse(until);
    Ok(vec![
        (world.builder().name("r").build()?, "st1."),
        (world.builder().name("b").build()?.bound_to("cookie:abc"), "st1."),
        (world.builder().name("s").token_kind(TokenKind::SealedState).build()?, "st1."),
        (compact.build()?, ""),
    ])
}

pub(super) async fn round_trip(world: World) -> CaseResult {
    for (sessions, _) in managers(&world)? {
        let token = sessions.create("socket-7").await?;
        ensure_err!(sessions.recover::<(String, i64)>(&token).await, SessionError::NotFound);
        let state = ("caf\u{e9}".to_owned(), (1_i64 << 53) + 1);
        let saved = sessions.save(&token, &state).await?;
        ensure!(saved.version == 1, "the first version is {}", saved.version);
        let peeked = sessions.peek::<(String, i64)>(&saved.token).await?;
        ensure!(peeked.state == state, "a peek sees another state");
        world.clock.advance(SECOND);
        let back = sessions.recover::<(String, i64)>(&saved.token.expose().into()).await?;
        ensure!(back.state == state, "another state came back");
        ensure!(
            back.subject == "socket-7" && back.version == 1,
            "{} {}",
            back.subject,
            back.version
        );
        ensure!(back.age == SECOND, "the age is {:?}", back.age);
        ensure!(sessions.stats().recovered == 1, "{:?}", sessions.stats());
        let again = sessions.save(&back.token, &("x".to_owned(), 1)).await?;
        ensure!(again.version == 2, "the second version is {}", again.version);
    }
    Ok(())
}

pub(super) async fn changed_bits(world: World) -> CaseResult {
    for late in [false, true] {
        for (sessions, prefix) in managers(&world)? {
            let token = sessions.create("socket-7").await?;
            let token = sessions.save(&token, &7_u8).await?.token;
            let body = body(&token)?;
            if late {
                world.clock.advance(MINUTE * 60 * 25);
            }
            for bit in 0..body.len() * 8 {
                let mut changed = body.clone();
                if let Some(byte) = changed.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
                ensure_err!(
                    sessions.recover::<u8>(&from_body(&changed, prefix)).await,
                    SessionError::Malformed
                        | SessionError::UnsupportedVersion
                        | SessionError::UnknownKey
                        | SessionError::InvalidSignature
                );
            }
            match sessions.recover::<u8>(&token).await {
                Ok(back) => ensure!(!late && back.state == 7, "an expired token was taken"),
                Err(e) => ensure!(late && matches!(e, SessionError::Expired { .. }), "{e:?}"),
            }
        }
    }
    Ok(())
}

pub(super) async fn cut_and_extended(world: World) -> CaseResult {
    for (sessions, _) in managers(&world)? {
        let token = sessions.create("socket-7").await?;
        let token = sessions.save(&token, &7_u8).await?.token;
        let text = token.expose().to_owned();
        let sealed = text.len() > 135;
        for end in 0..text.len() {
            let cut = text.get(..end).unwrap_or_default();
            let refused = sessions.recover::<u8>(&cut.into()).await;
            if sealed {
                // Its length is not fixed; the seal tells.
                ensure_err!(refused, SessionError::Malformed | SessionError::InvalidSignature);
            } else {
                ensure_err!(refused, SessionError::Malformed);
            }
        }
        for last in ["A", "=", " ", "\n", "\u{e9}", "AA"] {
            let longer = sessions.recover::<u8>(&format!("{text}{last}").into()).await;
            ensure_err!(longer, SessionError::Malformed | SessionError::InvalidSignature);
        }
        sessions.recover::<u8>(&token).await?;
    }
    Ok(())
}

/// One token has one text.
pub(super) async fn unique_text(world: World) -> CaseResult {
    let sessions = world.builder().build()?;
    let mut swapped = 0;
    for _ in 0..40 {
        let text = sessions.create("socket-7").await?.expose().to_owned();
        let other = format!(
            "st1.{}",
            text.get(4..).unwrap_or_default().replace('-', "+").replace('_', "/")
        );
        if other != text {
            swapped += 1;
            ensure_err!(sessions.peek::<u8>(&other.into()).await, SessionError::Malformed);
        }
        // Of the last symbol only two bits are used; the other four must be 0.
        let (head, last) = text.split_at(text.len() - 1);
        let mut refused = 0;
        for symbol in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars() {
            let other = format!("{head}{symbol}");
            match sessions.peek::<u8>(&other.into()).await {
                Err(SessionError::Malformed) => refused += 1,
                Err(SessionError::InvalidSignature) => {}
                Err(SessionError::NotFound) if last == symbol.to_string() => {}
                other => ensure!(false, "{symbol} instead of {last}: {other:?}"),
            }
        }
        ensure!(refused == 60, "{refused} symbols with bits left over are refused");
        let upper = sessions.peek::<u8>(&text.to_uppercase().into()).await;
        ensure!(upper.is_err(), "upper case is the same");
    }
    ensure!(swapped > 10, "nothing was tried");
    Ok(())
}

pub(super) async fn oversized(world: World) -> CaseResult {
    for (sessions, prefix) in managers(&world)? {
        for filler in ["A", "\u{e9}", " "] {
            let huge = format!("{prefix}{}", filler.repeat(1 << 20));
            ensure_err!(
                sessions.recover::<u8>(&huge.as_str().into()).await,
                SessionError::Malformed
            );
            ensure_err!(sessions.recover::<u8>(&huge.into()).await, SessionError::Malformed);
        }
        for foreign in ["", "st1.", "st2.AQEB", "v4.local.AAAA", "ST1.AQEBAgME"] {
            ensure_err!(sessions.recover::<u8>(&foreign.into()).await, SessionError::Malformed);
        }
    }
    Ok(())
}

pub(super) async fn expiry(world: World) -> CaseResult {
    let ttl = MINUTE * 5;
    let sessions = world.builder().ttl(ttl).reuse(ReusePolicy::UntilExpiry).build()?;
    let token = sessions.create("socket-7").await?;
    sessions.save(&token, &7_u8).await?;
    // Of these only the token knows when they are over.
    let (revoked, deleted) = (sessions.create("bob").await?, sessions.create("carol").await?);
    sessions.revoke(&revoked).await?;
    sessions.delete(&deleted).await?;
    let millisecond = std::time::Duration::from_millis(1);
    world.clock.advance(millisecond * 299_999);
    sessions.recover::<u8>(&token).await?;
    ensure_err!(sessions.peek::<u8>(&revoked).await, SessionError::Revoked);
    ensure_err!(sessions.peek::<u8>(&deleted).await, SessionError::NotFound);
    world.clock.advance(millisecond);
    for over in [&revoked, &deleted] {
        ensure_err!(sessions.peek::<u8>(over).await, SessionError::Expired { .. });
    }
    ensure_err!(
        sessions.recover::<u8>(&token).await,
        SessionError::Expired { since: std::time::Duration::ZERO }
    );
    let mut forged = body(&token)?;
    if let Some(last) = forged.last_mut() {
        *last ^= 1;
    }
    let forged = from_body(&forged, "st1.");
    ensure_err!(sessions.recover::<u8>(&forged).await, SessionError::InvalidSignature);
    ensure_err!(sessions.save(&token, &8_u8).await, SessionError::Expired { .. });
    ensure!(sessions.stats().expired == 1, "{:?}", sessions.stats());
    Ok(())
}

pub(super) async fn clock_skew(world: World) -> CaseResult {
    let sessions = world.builder().build()?;
    let token = sessions.create("socket-7").await?;
    sessions.save(&token, &7_u8).await?;
    let issued = world.clock.now().as_millis();
    for (ahead, valid) in [(59, true), (60, true), (61, false)] {
        world.clock.set_wall(resurge_store::Timestamp::from_millis(issued - ahead * 1_000));
        match sessions.peek::<u8>(&token).await {
            Ok(_) => ensure!(valid, "{ahead} s ahead was taken"),
            Err(e) => {
                ensure!(!valid && matches!(e, SessionError::NotYetValid), "{ahead} s: {e:?}");
                // Nobody loses a session because a server's clock is wrong.
                ensure!(e.public() == crate::PublicError::TryAgainLater, "it is given up");
            }
        }
    }
    let strict = world.builder().leeway(std::time::Duration::ZERO).build()?;
    world.clock.set_wall(resurge_store::Timestamp::from_millis(issued - 1));
    ensure_err!(strict.peek::<u8>(&token).await, SessionError::NotYetValid);
    Ok(())
}

pub(super) async fn purposes(world: World) -> CaseResult {
    let a = world.builder().purpose("a").build()?;
    let b = world.builder().purpose("b").build()?;
    let token = a.create("socket-7").await?;
    a.save(&token, &7_u8).await?;
    ensure_err!(b.recover::<u8>(&token).await, SessionError::WrongPurpose);
    ensure_err!(b.save(&token, &8_u8).await, SessionError::WrongPurpose);
    ensure_err!(b.delete(&token).await, SessionError::WrongPurpose);
    a.recover::<u8>(&token).await?;
    // Where the purpose is in the seal or the MAC and not beside it, it does not fit.
    for kind in [TokenKind::SealedState, TokenKind::Compact48] {
        let build = |purpose: &str| {
            let builder = world.builder().name(format!("k{}", kind as u8)).token_kind(kind);
            builder.purpose(purpose).reuse(ReusePolicy::UntilExpiry).build()
        };
        let (a, b) = (build("a")?, build("b")?);
        let token = a.create("socket-7").await?;
        let token = a.save(&token, &7_u8).await?.token;
        ensure_err!(b.recover::<u8>(&token).await, SessionError::InvalidSignature);
        a.recover::<u8>(&token).await?;
    }
    // And none is the beginning of another.
    let (ab, c) = (world.builder().purpose("ab").build()?, world.builder().purpose("abc").build()?);
    let token = ab.create("socket-7").await?;
    ensure_err!(c.peek::<u8>(&token).await, SessionError::WrongPurpose);
    Ok(())
}

pub(super) async fn bindings(world: World) -> CaseResult {
    let sessions = world.builder().reuse(ReusePolicy::UntilExpiry).build()?;
    let abc = sessions.bound_to("cookie:abc");
    let token = abc.create("socket-7").await?;
    abc.save(&token, &7_u8).await?;
    ensure!(token.expose().len() == 135, "{} characters", token.expose().len());
    ensure_err!(sessions.recover::<u8>(&token).await, SessionError::WrongBinding);
    let xyz = sessions.bound_to("cookie:xyz");
    ensure_err!(xyz.recover::<u8>(&token).await, SessionError::WrongBinding);
    ensure_err!(xyz.save(&token, &8_u8).await, SessionError::WrongBinding);
    abc.recover::<u8>(&token).await?;

    let unbound = sessions.create("socket-7").await?;
    ensure_err!(abc.peek::<u8>(&unbound).await, SessionError::WrongBinding);
    let strict = world.builder().require_binding().build()?;
    ensure_err!(strict.peek::<u8>(&unbound).await, SessionError::WrongBinding);
    ensure_err!(strict.create("socket-7").await, SessionError::WrongBinding);
    Ok(())
}

pub(super) async fn all_distinct(world: World) -> CaseResult {
    const AT_ONCE: usize = 500;
    let build = |name: String, kind| {
        let builder = world.builder().name(name).token_kind(kind).max_entries(None);
        builder.reuse(ReusePolicy::UntilExpiry).build()
    };
    // Twenty managers, so that a disk is not waited for ten thousand times; the keys are the same.
    let managers = (0..20).map(|n| build(format!("r{n}"), TokenKind::Reference));
    let managers = managers.collect::<Result<Vec<_>, _>>()?;
    let compact = build("compact".to_owned(), TokenKind::Compact48)?;
    // What these are told apart by is the nanosecond: one manager sees to it.
    let compacts = vec![compact; 4];
    for (managers, wanted) in [(managers, 10_000), (compacts, 2_000)] {
        let creators: Vec<_> = managers
            .iter()
            .map(|sessions| {
                let sessions = sessions.clone();
                tokio::spawn(async move {
                    let mut tokens = Vec::new();
                    for _ in 0..AT_ONCE {
                        tokens.push(sessions.create("socket-7").await?.expose().to_owned());
                    }
                    Ok::<_, SessionError>(tokens)
                })
            })
            .collect();
        let mut seen = std::collections::HashSet::new();
        for creator in creators {
            seen.extend(creator.await.map_err(|e| CaseFailure::new(e.to_string()))??);
        }
        ensure!(seen.len() == wanted, "{} of {wanted} are distinct", seen.len());
        let last = managers.last().ok_or_else(|| CaseFailure::new("no manager"))?;
        let live = last.live().await?;
        ensure!(live >= AT_ONCE as u64, "{live} live");
    }
    Ok(())
}

pub(super) async fn compact(world: World) -> CaseResult {
    let build = |ring| {
        world
            .builder()
            .ring(ring)
            .token_kind(TokenKind::Compact48)
            .reuse(ReusePolicy::UntilExpiry)
            .build()
    };
    let sessions = build(world.ring.clone())?;
    let token = sessions.create("socket-7").await?;
    ensure!(token.expose().len() == 64, "{} characters", token.expose().len());
    sessions.save(&token, &7_u8).await?;
    for _ in 0..3 {
        let back = sessions.recover::<u8>(&token.expose().into()).await?;
        ensure!(back.token == token, "it was replaced");
    }
    // Every key of the ring is tried.
    world.ring.add(2, &super::key(2)).await?;
    world.ring.promote(2).await?;
    sessions.recover::<u8>(&token).await?;
    ensure!(sessions.stats().old_key_used == 1, "{:?}", sessions.stats());
    world.ring.revoke(1, "test").await?;
    ensure_err!(sessions.recover::<u8>(&token).await, SessionError::InvalidSignature);
    Ok(())
}

/// A token spliced from two others.
pub(super) async fn spliced(world: World) -> CaseResult {
    for (sessions, prefix) in managers(&world)? {
        let one = sessions.create("socket-7").await?;
        let one = body(&sessions.save(&one, &1_u8).await?.token)?;
        world.clock.advance(SECOND);
        let two = sessions.create("socket-8").await?;
        let two = body(&sessions.save(&two, &2_u8).await?.token)?;
        ensure!(one.len() == two.len(), "{} and {}", one.len(), two.len());
        for cut in 0..=one.len() {
            let spliced = [one.get(..cut), two.get(cut..)].map(Option::unwrap_or_default).concat();
            if spliced == one || spliced == two {
                continue;
            }
            ensure_err!(
                sessions.recover::<u8>(&from_body(&spliced, prefix)).await,
                SessionError::InvalidSignature
            );
        }
    }
    Ok(())
}
