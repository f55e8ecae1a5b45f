//! A live connection, the server's half: hostile frames, what errors mean to the client, sessions that are recovered or
//! fresh; and that the document, the client for browsers and this crate say the same.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use resurge_session_token::live::{
    self, CLIENT_JS, ClientFrame, FrameError, Join, JoinStatus, MAX_FRAME, Payload, RESERVED, close,
};
use resurge_session_token::{PublicError, SessionError, SessionManager, Token, TokenKind};
use resurge_store::{ErrorKind, MemoryStore, Store, StoreError, VirtualClock};
use resurge_testkit::{Call, Fault, FaultStore};
use serde::Deserialize;
use serde::de::IgnoredAny;

const DOCUMENT: &str = include_str!("../../../docs/live-protocol.md");
const TYPES: &str = include_str!("../client/resurge-session.d.ts");
const PACKAGE: &str = include_str!("../client/package.json");

fn join(text: &str) -> Result<Join<'_>, FrameError> {
    Join::read(text, MAX_FRAME)
}

fn frame(text: &str) -> Result<ClientFrame<'_>, FrameError> {
    ClientFrame::read(text, MAX_FRAME)
}

fn shown(text: &str) -> Option<String> {
    join(text).unwrap().token.map(|token| token.expose().to_owned())
}

#[derive(Deserialize)]
struct Params<'a> {
    view: u8,
    name: &'a str,
}

#[test]
fn a_join_brings_its_token_and_its_parameters() {
    assert_eq!(shown(r#"{"event":"join"}"#), None);
    assert_eq!(shown(r#"{"event":"join","payload":null,"v":1}"#), None);
    assert_eq!(shown(r#"{"event":"join","payload":{"_recovery":null}}"#), None);
    assert_eq!(shown(r#"{"event":"join","payload":{"_recovery":""}}"#), None);
    assert_eq!(
        shown(" {\"new\":[],\"payload\":{\"_recovery\":\"st1.a\"},\"event\":\"join\"}\n").unwrap(),
        "st1.a"
    );
    // Escapes are the same text.
    let escaped = "{\"event\":\"j\\u006fin\",\"payload\":{\"_recovery\":\"st1\\u002ea\"}}";
    assert_eq!(shown(escaped).unwrap(), "st1.a");
    let text = r#"{"event":"join","payload":{"view":7,"name":"a","_recovery":"st1.a"}}"#;
    let params: Params<'_> = join(text).unwrap().params.read().unwrap();
    assert_eq!((params.view, params.name), (7, "a"));
    assert_eq!(join(text).unwrap().params.read::<u8>().unwrap_err(), FrameError::Payload);
    assert!(join(r#"{"event":"join"}"#).unwrap().params.read::<Option<u8>>().unwrap().is_none());
}

#[test]
fn what_is_no_join_is_refused() {
    for (text, expected) in [
        ("", FrameError::Malformed),
        ("null", FrameError::Malformed),
        ("7", FrameError::Malformed),
        (r#""join""#, FrameError::Malformed),
        ("{}", FrameError::Malformed),
        // Serde takes an array for a struct.
        (r#"["join",1,{"_recovery":"st1.a"}]"#, FrameError::Malformed),
        (r#"{"event":7}"#, FrameError::Malformed),
        (r#"{"event":""}"#, FrameError::Malformed),
        (r#"{"event":null}"#, FrameError::Malformed),
        (r#"{"event":"join"} {"event":"join"}"#, FrameError::Malformed),
        // Two readers of a text that says two things may understand two things.
        (r#"{"event":"add","event":"join"}"#, FrameError::Malformed),
        (r#"{"event":"join","payload":{},"payload":{"_recovery":"st1.a"}}"#, FrameError::Malformed),
        (r#"{"event":"join","v":1,"v":1}"#, FrameError::Malformed),
        (
            r#"{"event":"join","payload":{"_recovery":"st1.a","_recovery":"st1.b"}}"#,
            FrameError::Payload,
        ),
        (r#"{"event":"join","payload":["st1.a"]}"#, FrameError::Payload),
        (r#"{"event":"join","payload":"st1.a"}"#, FrameError::Payload),
        (r#"{"event":"join","payload":7}"#, FrameError::Payload),
        (r#"{"event":"join","payload":{"_recovery":7}}"#, FrameError::Payload),
        (r#"{"event":"join","payload":{"_recovery":{"a":1}}}"#, FrameError::Payload),
        (r#"{"event":"join","v":2}"#, FrameError::Version { found: 2 }),
        (r#"{"event":"join","v":0}"#, FrameError::Version { found: 0 }),
        (r#"{"event":"join","v":"1"}"#, FrameError::Malformed),
        (r#"{"event":"join","v":-1}"#, FrameError::Malformed),
        (r#"{"event":"ping"}"#, FrameError::OutOfTurn),
        (r#"{"event":"add"}"#, FrameError::OutOfTurn),
    ] {
        let error = join(text).unwrap_err();
        assert_eq!(error, expected, "{text}");
        assert_eq!(error.close_code(), close::PROTOCOL);
    }
}

#[test]
fn later_frames_are_pings_goodbyes_and_the_applications() {
    assert!(matches!(frame(r#"{"event":"ping"}"#), Ok(ClientFrame::Ping)));
    assert!(matches!(frame(r#"{"event":"leave","payload":{}}"#), Ok(ClientFrame::Leave)));
    let text = r#"{"event":"add","payload":{"by":2},"more":true}"#;
    let Ok(ClientFrame::Event { name, payload }) = frame(text) else { panic!("{text}") };
    assert_eq!((&*name, payload.text()), ("add", r#"{"by":2}"#));
    assert_eq!(frame(r#"{"event":"join"}"#).unwrap_err(), FrameError::OutOfTurn);
    for name in ["joined", "pong", "state", "token"] {
        let text = format!(r#"{{"event":"{name}"}}"#);
        assert_eq!(frame(&text).unwrap_err(), FrameError::Malformed, "{name}");
    }
}

#[test]
fn what_is_too_long_is_not_looked_at() {
    let text = r#"{"event":"ping"}"#;
    assert!(ClientFrame::read(text, text.len()).is_ok());
    let expected = FrameError::TooLarge { len: text.len(), limit: text.len() - 1 };
    assert_eq!(ClientFrame::read(text, text.len() - 1).unwrap_err(), expected);
    let long = "[".repeat(MAX_FRAME + 1);
    let expected = FrameError::TooLarge { len: MAX_FRAME + 1, limit: MAX_FRAME };
    assert_eq!(join(&long).unwrap_err(), expected);
    // The longest token there may be fits, beside its frame.
    let token = "A".repeat(64 << 10);
    let text = format!(r#"{{"event":"join","v":1,"payload":{{"_recovery":"{token}"}}}}"#);
    assert_eq!(shown(&text).unwrap(), token);
}

#[test]
fn nesting_costs_no_stack() {
    for (open, end) in [("[", "]"), (r#"{"a":"#, "}")] {
        let depth = 20_000;
        let inner = if open == "[" { "" } else { "1" };
        let deep = format!("{}{inner}{}", open.repeat(depth), end.repeat(depth));
        let text = format!(r#"{{"event":"add","payload":{deep}}}"#);
        let Ok(ClientFrame::Event { payload, .. }) = ClientFrame::read(&text, 1 << 20) else {
            panic!("well formed, however deep")
        };
        let decoded = payload.read::<serde_json::Value>();
        assert_eq!(decoded.unwrap_err(), FrameError::Payload);
        let text = format!(r#"{{"event":"join","payload":{{"a":{deep},"_recovery":"st1.a"}}}}"#);
        // Taken or refused, but not with the stack gone.
        drop(Join::read(&text, 1 << 20));
    }
}

#[test]
fn no_error_and_no_debug_repeats_what_came() {
    let canary = "st1.canary";
    for text in [
        format!(r#"{{"event":"{canary}","event":"{canary}"}}"#),
        format!(r#"{{"event":7,"{canary}":"{canary}"}}"#),
        format!(r#"{{"event":"join","payload":"{canary}"}}"#),
        format!(r#"{{"event":"join","payload":{{"_recovery":["{canary}"]}}}}"#),
    ] {
        let error = join(&text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(canary), "{error:?}");
    }
    let text = format!(r#"{{"event":"join","payload":{{"_recovery":"{canary}"}}}}"#);
    assert!(!format!("{:?}", join(&text).unwrap()).contains(canary));
    let text = format!(r#"{{"event":"add","payload":"{canary}"}}"#);
    assert!(!format!("{:?}", frame(&text).unwrap()).contains(canary));
}

const FRAME: &str =
    r#"{"event":"join","v":1,"payload":{"view":7,"_recovery":"st1.AQEBAgMEoKGio6Slpqeo"}}"#;

#[test]
fn every_truncation_is_refused() {
    for end in 0..FRAME.len() {
        assert!(join(&FRAME[..end]).is_err(), "{end}");
        assert!(frame(&FRAME[..end]).is_err(), "{end}");
    }
}

proptest! {
    #[test]
    fn damaged_frames_are_errors_or_frames(seed: u64) {
        let damaged = resurge_testkit::mangle(FRAME.as_bytes(), seed);
        let text = String::from_utf8_lossy(&damaged);
        if let Ok(join) = join(&text) {
            // What is taken is JSON, whatever it says.
            prop_assert!(serde_json::from_str::<IgnoredAny>(&text).is_ok());
            drop(join.params.read::<serde_json::Value>());
        }
        if let Ok(ClientFrame::Event { name, payload }) = frame(&text) {
            prop_assert!(!RESERVED.contains(&&*name));
            drop(payload.read::<serde_json::Value>());
        }
        drop(live::join_token(&text));
    }

    #[test]
    fn any_text_is_an_error_or_a_frame(text in "[\\[\\]{}\":,a-z0-9_ \\\\]{0,40}") {
        drop((join(&text).is_ok(), frame(&text).is_ok(), live::join_token(&text)));
    }
}

#[test]
fn an_array_is_no_message_of_any_protocol() {
    assert!(live::join_token(r#"["st1.a"]"#).is_none());
    assert!(live::join_token(r#"[null,["st1.a"]]"#).is_none());
}

#[test]
fn each_error_leads_the_client_where_it_belongs() {
    let store = || SessionError::Store(StoreError::new(ErrorKind::Unavailable, "down"));
    for (error, code) in [
        (SessionError::Conflict { current: 1 }, close::SUPERSEDED),
        (SessionError::Capacity { limit: 1 }, close::TRY_AGAIN),
        (SessionError::Closed, close::TRY_AGAIN),
        (store(), close::TRY_AGAIN),
        (SessionError::NotYetValid, close::TRY_AGAIN),
        (SessionError::Revoked, close::RESTART),
        (SessionError::NotFound, close::RESTART),
        (SessionError::Replayed, close::RESTART),
        (SessionError::Expired { since: Duration::ZERO }, close::RESTART),
        (SessionError::KeyRevoked, close::RESTART),
        (SessionError::TooLarge { len: 2, limit: 1 }, close::FAILED),
        (SessionError::Encode, close::FAILED),
        (SessionError::Unsupported("it"), close::FAILED),
        (SessionError::Config(String::new()), close::FAILED),
    ] {
        assert_eq!(live::close_code(&error), code, "{error}");
        // A token that may still be good must not be left for a final close, but by who lost it.
        let is_final = close::FINAL.contains(&code) || code == close::NORMAL;
        assert_eq!(is_final, code == close::SUPERSEDED);
        if error.public() == PublicError::RecoveryUnavailable {
            assert_eq!(code, close::RESTART, "{error}");
        }
    }
}

#[test]
fn events_cannot_be_mistaken_for_the_protocols() {
    for name in RESERVED.into_iter().chain([""]) {
        let error = live::event(name, &1).unwrap_err();
        assert_eq!((&error, error.close_code()), (&FrameError::Reserved, close::FAILED), "{name}");
    }
    let strange = live::event("a\"},{", "\u{2028}").unwrap();
    let Ok(ClientFrame::Event { name, .. }) = frame(&strange) else { panic!("{strange}") };
    assert_eq!(name, "a\"},{");
    let unserialisable = BTreeMap::from([(vec![1], 1)]);
    assert_eq!(live::event("a", &unserialisable), Err(FrameError::Encode));
    let refused = live::joined(&Token::from("st1.a"), JoinStatus::Fresh, &unserialisable);
    assert!(matches!(refused, Err(SessionError::Encode)));
}

struct Server {
    store: Arc<FaultStore>,
    clock: VirtualClock,
    sessions: SessionManager,
}

fn server(kind: TokenKind) -> Server {
    let clock = VirtualClock::new();
    let store = Arc::new(FaultStore::new(MemoryStore::in_memory()));
    let shared = Store::from_arc(Arc::clone(&store) as _).with_clock(clock.clone());
    let key = [7, 1, 8, 2].repeat(8);
    let sessions = SessionManager::builder(shared)
        .key(1, &key)
        .token_kind(kind)
        .cleanup_interval(None)
        .build()
        .unwrap();
    Server { store, clock, sessions }
}

#[tokio::test]
async fn a_client_is_recovered_or_fresh() {
    let Server { sessions, clock, .. } = server(TokenKind::Reference);
    let first = live::mount(&sessions, "a", None, || 7_u32).await.unwrap();
    assert_eq!((first.status, first.state), (JoinStatus::Fresh, 7));
    assert!(first.refused.is_none());
    // It was never saved by its owner, and comes back all the same.
    let lost = live::mount(&sessions, "a", Some(first.token()), || 0).await.unwrap();
    assert_eq!((lost.status, lost.state), (JoinStatus::Recovered, 7));
    // The answer did not arrive: the same token again, the same successor.
    let again = live::mount(&sessions, "a", Some(first.token()), || 0_u32).await.unwrap();
    assert_eq!(again.joined(&7).unwrap(), lost.joined(&7).unwrap());

    clock.advance(Duration::from_secs(31));
    for token in [first.token().expose(), "st1.nonsense", "", &"A".repeat(9_999)] {
        let shown = Token::from(token);
        let fresh = live::mount(&sessions, "a", Some(&shown), || 1_u32).await.unwrap();
        assert_eq!((fresh.status, fresh.state), (JoinStatus::Fresh, 1));
        assert!(fresh.refused.is_some());
        assert_ne!(fresh.token(), &shown);
    }
}

#[tokio::test]
async fn a_server_that_fails_takes_no_token_away() {
    let Server { sessions, store, .. } = server(TokenKind::Reference);
    let first = live::mount(&sessions, "a", None, || 7_u32).await.unwrap();
    for call in [Call::Get, Call::Commit] {
        // The one that recovers, and no later one: a fresh session could be had, and would cost the old one.
        store.fail(call, 1, Fault::before(ErrorKind::Unavailable));
        let error = live::mount(&sessions, "a", Some(first.token()), || 0_u32).await.unwrap_err();
        assert_eq!(live::close_code(&error), close::TRY_AGAIN, "{call:?}");
    }
    assert_eq!(sessions.live().await.unwrap(), 1);
    let back = live::mount(&sessions, "a", Some(first.token()), || 0_u32).await.unwrap();
    assert_eq!((back.status, back.state), (JoinStatus::Recovered, 7));
}

/// The client comes back for ever after a first state that cannot be saved: it must not fill the store.
#[tokio::test]
async fn a_first_state_that_cannot_be_saved_leaves_no_session() {
    for (kind, len) in [
        (TokenKind::Reference, 2 << 20),
        // Small enough for a state, and too long for a token.
        (TokenKind::SealedState, 100 << 10),
    ] {
        let Server { sessions, store, .. } = server(kind);
        let kept = live::mount(&sessions, "a", None, || "a".to_owned()).await.unwrap();
        let before = store.calls(Call::Commit);
        for _ in 0..3 {
            let mounted = live::mount(&sessions, "a", None, || "b".repeat(len)).await;
            let error = mounted.unwrap_err();
            assert!(matches!(error, SessionError::TooLarge { .. }), "{kind:?}: {error}");
            assert_eq!(live::close_code(&error), close::FAILED);
        }
        store.fail(Call::Commit, 1, Fault::before(ErrorKind::Unavailable));
        live::mount(&sessions, "a", None, || "c".to_owned()).await.unwrap_err();
        // The session and its state are one commit: no other one could fail.
        assert_eq!(store.calls(Call::Commit), before + 1, "{kind:?}");
        assert_eq!(sessions.live().await.unwrap(), 1, "{kind:?}");
        let back = live::mount(&sessions, "a", Some(kept.token()), String::new).await.unwrap();
        assert_eq!((back.status, &*back.state), (JoinStatus::Recovered, "a"));
    }
}

#[tokio::test]
async fn who_was_superseded_is_told_at_the_next_save() {
    let Server { sessions, .. } = server(TokenKind::Reference);
    let mut old = live::mount(&sessions, "a", None, || 1_u32).await.unwrap();
    for state in 2..5 {
        old.state = state;
        assert_eq!(old.save(&sessions).await.unwrap(), None);
    }
    let mut new = live::mount(&sessions, "a", Some(old.token()), || 0_u32).await.unwrap();
    old.state = 99;
    let error = old.save(&sessions).await.unwrap_err();
    assert_eq!(live::close_code(&error), close::SUPERSEDED);
    assert_eq!(new.state, 4);
    new.state = 5;
    new.save(&sessions).await.unwrap();
    let token = new.token().clone();
    new.end(&sessions).await.unwrap();
    let fresh = live::mount(&sessions, "a", Some(&token), || 0_u32).await.unwrap();
    assert_eq!(fresh.status, JoinStatus::Fresh);
}

/// A tab that was duplicated and only pings: it learns in time that its token is old, and does not show it after the grace,
/// which would end the session for both.
#[tokio::test]
async fn who_was_superseded_is_told_at_the_next_ping() {
    for kind in [TokenKind::Reference, TokenKind::SealedState] {
        let Server { sessions, clock, store, .. } = server(kind);
        let first = live::mount(&sessions, "a", None, || 1_u32).await.unwrap();
        assert_eq!(first.ping(&sessions).await.unwrap(), live::pong());
        let second = live::mount(&sessions, "a", Some(first.token()), || 0_u32).await.unwrap();
        clock.advance(Duration::from_secs(25));
        let error = first.ping(&sessions).await.unwrap_err();
        assert_eq!(live::close_code(&error), close::SUPERSEDED);
        assert_eq!(second.ping(&sessions).await.unwrap(), live::pong());

        store.fail(Call::Get, 1, Fault::before(ErrorKind::Unavailable));
        let error = second.ping(&sessions).await.unwrap_err();
        assert_eq!(live::close_code(&error), close::TRY_AGAIN);
        sessions.revoke(second.token()).await.unwrap();
        for pinging in [first, second] {
            let error = pinging.ping(&sessions).await.unwrap_err();
            assert_eq!(live::close_code(&error), close::RESTART);
        }
    }
}

/// Who only looks is there all the same: its pings keep the session, and and not each of them writes.
#[tokio::test]
async fn pings_keep_a_session_alive_with_few_writes() {
    let Server { sessions, clock, store, .. } = server(TokenKind::Reference);
    let pinging = live::mount(&sessions, "a", None, || 7_u32).await.unwrap();
    let silent = live::mount(&sessions, "b", None, || 8_u32).await.unwrap();
    let (step, lifetime) = (Duration::from_secs(25), Duration::from_secs(2 * 60 * 60));
    let before = store.calls(Call::Commit);
    let mut pings = 0_u64;
    for _ in 0..lifetime.as_secs() / step.as_secs() {
        clock.advance(step);
        pinging.ping(&sessions).await.unwrap();
        pings += 1;
    }
    let writes = store.calls(Call::Commit) - before;
    assert!(writes > 0 && writes * 2 <= pings, "{writes} writes for {pings} pings");
    let back = live::mount(&sessions, "a", Some(pinging.token()), || 0_u32).await.unwrap();
    assert_eq!((back.status, back.state), (JoinStatus::Recovered, 7));
    let error = silent.ping(&sessions).await.unwrap_err();
    assert_eq!(live::close_code(&error), close::RESTART);
}

/// Two connections with the same token, as a duplicated tab has it, share an owner; not a version.
#[tokio::test]
async fn twins_do_not_save_over_each_other() {
    let Server { sessions, .. } = server(TokenKind::Reference);
    let first = live::mount(&sessions, "a", None, || 1_u32).await.unwrap();
    let mut one = live::mount(&sessions, "a", Some(first.token()), || 0_u32).await.unwrap();
    let mut other = live::mount(&sessions, "a", Some(first.token()), || 0_u32).await.unwrap();
    one.state = 2;
    one.save(&sessions).await.unwrap();
    other.state = 3;
    let error = other.save(&sessions).await.unwrap_err();
    assert_eq!(live::close_code(&error), close::SUPERSEDED);
}

#[tokio::test]
async fn a_token_that_carries_its_state_changes_with_each_save() {
    let Server { sessions, .. } = server(TokenKind::SealedState);
    let mut session = live::mount(&sessions, "a", None, || 1_u32).await.unwrap();
    session.state = 2;
    let news = session.save(&sessions).await.unwrap().unwrap();
    assert_eq!(news, live::token(session.token()).unwrap());
    let back = live::mount(&sessions, "a", Some(session.token()), || 0_u32).await.unwrap();
    assert_eq!((back.status, back.state), (JoinStatus::Recovered, 2));
    assert!(!format!("{back:?}").contains(back.token().expose()));
}

/// The text between two others.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split_once(start).unwrap().1.split_once(end).unwrap().0
}

/// The names and numbers of an object of the client's, or of its types.
fn codes(text: &str) -> BTreeMap<String, u16> {
    let pairs = text.split([',', ';', '\n']).filter_map(|pair| pair.trim().split_once(": "));
    pairs.map(|(name, code)| (name.to_owned(), code.parse().unwrap())).collect()
}

#[test]
fn the_document_the_client_and_this_crate_say_the_same() {
    let ours = BTreeMap::from(
        [
            ("normal", close::NORMAL),
            ("failed", close::FAILED),
            ("restart", close::RESTART),
            ("tryAgain", close::TRY_AGAIN),
            ("timeout", close::TIMEOUT),
            ("protocol", close::PROTOCOL),
            ("superseded", close::SUPERSEDED),
        ]
        .map(|(name, code)| (name.to_owned(), code)),
    );
    assert_eq!(codes(between(CLIENT_JS, "CLOSE = Object.freeze({", "});")), ours);
    assert_eq!(codes(between(TYPES, "CLOSE: Readonly<{", "}>;")), ours);
    let section = between(DOCUMENT, "## Close codes", "\n## ");
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let code = cells.next()?.parse().ok()?;
        Some((cells.next()?.trim_matches('`').to_owned(), code))
    });
    assert_eq!(rows.collect::<BTreeMap<String, u16>>(), ours);
    let range = format!("code >= {} && code <= {}", close::FINAL.start(), close::FINAL.end());
    assert!(CLIENT_JS.contains(&range));

    let reserved = between(CLIENT_JS, "RESERVED = Object.freeze([", "]);");
    let theirs: Vec<&str> = reserved.split(", ").map(|name| name.trim_matches('"')).collect();
    assert_eq!(theirs, RESERVED);
    let told = between(DOCUMENT, "Reserved, in both directions: ", ". (");
    let told: Vec<&str> = told.split(", ").map(|name| name.trim_matches('`')).collect();
    assert_eq!(told, RESERVED);

    assert!(CLIENT_JS.contains(&format!("PROTOCOL = {};", live::PROTOCOL)));
    assert!(TYPES.contains(&format!("PROTOCOL: {};", live::PROTOCOL)));
    assert!(DOCUMENT.starts_with(&format!("# The live protocol, version {}\n", live::PROTOCOL)));
    let package: BTreeMap<String, serde_json::Value> = serde_json::from_str(PACKAGE).unwrap();
    assert_eq!(package["version"], env!("CARGO_PKG_VERSION"));
    assert!(!package.contains_key("dependencies") && !CLIENT_JS.contains("import "));
}

#[test]
fn the_frames_of_the_document_are_read_and_written() {
    let frames = |side: &str| between(DOCUMENT, &format!("```json {side}\n"), "```").lines();
    let mut client = frames("client");
    let first = join(client.next().unwrap()).unwrap();
    assert_eq!(first.token.unwrap().expose(), "st1.one");
    let later: Vec<ClientFrame<'_>> = client.map(|text| frame(text).unwrap()).collect();
    assert!(matches!(
        &later[..],
        [ClientFrame::Ping, ClientFrame::Event { name, .. }, ClientFrame::Leave] if name == "add"
    ));
    let state = BTreeMap::from([("count", 3)]);
    let written = [
        live::joined(&Token::from("st1.two"), JoinStatus::Recovered, &state).unwrap(),
        live::token(&Token::from("st1.three")).unwrap(),
        live::pong(),
        live::event("count", &5).unwrap(),
    ];
    assert_eq!(frames("server").collect::<Vec<_>>(), written);
    let fresh = live::joined(&Token::from("st1.a"), JoinStatus::Fresh, &()).unwrap();
    assert!(fresh.contains(r#""status":"fresh""#) && CLIENT_JS.contains(r#"status === "fresh""#));
}

fn is_send<T: Send>(_: &T) {}

#[test]
fn frames_may_be_held_across_awaits() {
    let payload: Payload<'_> = join(FRAME).unwrap().params;
    is_send(&payload);
    is_send(&join(FRAME));
}
