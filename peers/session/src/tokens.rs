//! Tokens: the computing alone, no disk, no runtime, storage that costs as little as storage can.

use std::hint::black_box;
use std::sync::Arc;

use branca::Branca;
use fernet::Fernet;
use hmac::{Hmac, KeyInit, Mac};
use pasetors::keys::{AsymmetricKeyPair, Generate, SymmetricKey};
use pasetors::token::{Local, Public, UntrustedToken};
use pasetors::version4::{LocalToken, PublicToken, V4};
use resurge_session_token::{SessionError, SessionManager, Token, TokenKind, TokenStore};
use resurge_store::{Entropy, OsEntropy};
use sha2::Sha256;
use tower_sessions::session::Id;
use tower_sessions::{MemoryStore, Session};

use crate::measure::Case;
use crate::shelf::{Nothing, Shelf, drive};
use crate::state::{Result, State};

pub const KEY: [u8; 32] = [
    7, 1, 8, 2, 8, 1, 8, 2, 8, 4, 5, 9, 0, 4, 5, 2, 3, 5, 3, 6, 0, 2, 8, 7, 4, 7, 1, 3, 5, 2, 6, 6,
];
/// What a reference token says, without its MAC; the others get as much to carry.
const SAID: [u8; 50] = [0x5a; 50];
const GARBAGE: usize = 1 << 20;
pub const GARBAGE_TITLE: &str = "1 MiB of garbage";
/// base62 takes the square of the length: 1 MiB would be a minute.
const GARBAGE_BASE62: usize = 16 << 10;

/// The same call in every thread.
fn shared(name: &'static str, call: impl Fn() -> bool + Send + Sync + 'static) -> Case {
    let call = Arc::new(call);
    Case::new(name, move || {
        let call = Arc::clone(&call);
        move || assert!(black_box(call()), "a call did not do what is measured")
    })
}

/// A call with something of its own in every thread.
fn own<W: FnMut() -> bool>(name: &'static str, thread: impl Fn() -> W + Sync + 'static) -> Case {
    Case::new(name, move || {
        let mut call = thread();
        move || assert!(black_box(call()), "{name}: a call did not do what is measured")
    })
}

/// A state to be changed before each save.
fn turning() -> impl FnMut() -> State {
    let mut state = State::new(0);
    move || {
        state.turn += 1;
        state.clone()
    }
}

fn over(store: impl TokenStore, kind: TokenKind) -> Result<SessionManager> {
    Ok(SessionManager::builder_over(store).key(1, &KEY).token_kind(kind).build()?)
}

/// The last byte of its MAC or tag is another one.
fn spoiled(token: &str) -> String {
    let at = token.len() - 9;
    let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

/// What everything is compared with.
pub fn floor() -> Result<Vec<Case>> {
    let message = [0x5a_u8; 78];
    let keyed = Hmac::<Sha256>::new_from_slice(&KEY)?;
    Ok(vec![
        shared("HMAC of a header, keyed before", move || {
            let mut mac = keyed.clone();
            mac.update(black_box(&message));
            black_box(mac.finalize().into_bytes());
            true
        }),
        shared("HMAC of a header, keyed each", move || {
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(black_box(&KEY)) else { return false };
            mac.update(black_box(&message));
            black_box(mac.finalize().into_bytes());
            true
        }),
        shared("16 random bytes", || {
            let mut bytes = [0; 16];
            OsEntropy.fill(black_box(&mut bytes)).is_ok()
        }),
    ])
}

/// The peers, set up.
pub struct Peers {
    local: SymmetricKey<V4>,
    pair: AsymmetricKeyPair<V4>,
    branca: [u8; 32],
    fernet: Fernet,
}

const TTL: u32 = 3600;

impl Peers {
    pub fn new() -> Result<Self> {
        Ok(Self {
            local: SymmetricKey::from(&KEY)?,
            pair: AsymmetricKeyPair::generate()?,
            branca: KEY,
            fernet: Fernet::new(&Fernet::generate_key()).ok_or("a key of its own making")?,
        })
    }

    fn local(&self, message: &[u8]) -> Option<String> {
        LocalToken::encrypt(&self.local, message, None, None).ok()
    }

    fn open_local(&self, token: &str) -> Option<Vec<u8>> {
        let token = UntrustedToken::<Local, V4>::try_from(token).ok()?;
        let opened = LocalToken::decrypt(&self.local, &token, None, None).ok()?;
        Some(opened.payload().as_bytes().to_vec())
    }

    fn public(&self, message: &[u8]) -> Option<String> {
        PublicToken::sign(&self.pair.secret, message, None, None).ok()
    }

    fn open_public(&self, token: &str) -> bool {
        UntrustedToken::<Public, V4>::try_from(token)
            .and_then(|token| PublicToken::verify(&self.pair.public, &token, None, None))
            .is_ok()
    }

    fn branca(&self, message: &[u8]) -> Option<String> {
        Branca::new(&self.branca).ok()?.encode(message).ok()
    }

    fn open_branca(&self, token: &str) -> Option<Vec<u8>> {
        branca::decode(token, &self.branca, TTL).ok()
    }

    fn open_fernet(&self, token: &str) -> Option<Vec<u8>> {
        self.fernet.decrypt_with_ttl(token, u64::from(TTL)).ok()
    }
}

/// A token for somebody new: randomness, encoding, MAC.
pub fn mint(peers: &Arc<Peers>) -> Result<Vec<Case>> {
    let ours = over(Nothing, TokenKind::Reference)?;
    let [local, public, branca, fernet] = [(); 4].map(|()| Arc::clone(peers));
    Ok(vec![
        shared("resurge, create", move || drive(ours.create("user-4711")).is_ok()),
        shared("pasetors v4.local", move || local.local(&SAID).is_some()),
        shared("pasetors v4.public", move || public.public(&SAID).is_some()),
        shared("branca", move || branca.branca(&SAID).is_some()),
        shared("fernet", move || !fernet.fernet.encrypt(&SAID).is_empty()),
    ])
}

/// From the text to knowing that it is authentic and not over.
pub fn verify(peers: &Arc<Peers>) -> Result<[(&'static str, Vec<Case>); 3]> {
    let missing = "a token could not be made";
    let sessions = over(Nothing, TokenKind::Reference)?;
    let token = drive(sessions.create("user-4711"))?.expose().to_owned();
    let local = peers.local(&SAID).ok_or(missing)?;
    let public = peers.public(&SAID).ok_or(missing)?;
    let branca = peers.branca(&SAID).ok_or(missing)?;
    let fernet = peers.fernet.encrypt(&SAID);
    let long = "A".repeat(GARBAGE);
    let garbage = [
        format!("st1.{long}"),
        format!("v4.local.{long}"),
        format!("v4.public.{long}"),
        "A".repeat(GARBAGE_BASE62),
        format!("g{long}"),
    ];
    let good = [token, local, public, branca, fernet];
    let bad = good.each_ref().map(|token| spoiled(token));
    let names =
        |base62| ["resurge, check", "pasetors v4.local", "pasetors v4.public", base62, "fernet"];
    let cases = |tokens: [String; 5], accepted: bool, base62: &'static str| {
        let [a, b, c, d, e] = tokens;
        let sessions = sessions.clone();
        let [local, public, branca, fernet] = [(); 4].map(|()| Arc::clone(peers));
        let names = names(base62);
        vec![
            shared(names[0], move || {
                let checked = drive(sessions.check(&Token::from(a.as_str())));
                if accepted {
                    return checked.is_ok();
                }
                matches!(checked, Err(SessionError::InvalidSignature | SessionError::Malformed))
            }),
            shared(names[1], move || local.open_local(&b).is_some() == accepted),
            shared(names[2], move || public.open_public(&c) == accepted),
            shared(names[3], move || branca.open_branca(&d).is_some() == accepted),
            shared(names[4], move || fernet.open_fernet(&e).is_some() == accepted),
        ]
    };
    Ok([
        ("verify a good token", cases(good, true, "branca")),
        ("a token with a wrong MAC", cases(bad, false, "branca")),
        (GARBAGE_TITLE, cases(garbage, false, "branca, 16 KiB only")),
    ])
}

/// The state travels in the token: open it, type and all; and open the last one and seal the next.
pub fn sealed(peers: &Arc<Peers>) -> Result<[(&'static str, Vec<Case>); 2]> {
    let missing = "a token could not be made";
    let sessions = over(Shelf::default(), TokenKind::SealedState)?;
    let state = State::new(0);
    let token = drive(sessions.create("user-4711"))?;
    let text = drive(sessions.save(&token, &state))?.token.expose().to_owned();
    // Its payloads are text.
    let local = peers.local(&state.to_json()?).ok_or(missing)?;
    let bytes = state.encode()?;
    let branca = peers.branca(&bytes).ok_or(missing)?;
    let fernet = peers.fernet.encrypt(&bytes);
    let ours = sessions.clone();
    let (p1, p2, p3) = (Arc::clone(peers), Arc::clone(peers), Arc::clone(peers));
    let (l, b, f) = (local.clone(), branca.clone(), fernet.clone());
    let open = vec![
        shared("resurge, peek", move || {
            drive(ours.peek::<State>(&Token::from(text.as_str()))).is_ok()
        }),
        shared("pasetors v4.local, JSON", move || {
            p1.open_local(&l).is_some_and(|s| State::from_json(&s).is_ok())
        }),
        shared("branca", move || p2.open_branca(&b).is_some_and(|s| State::decode(&s).is_ok())),
        shared("fernet", move || p3.open_fernet(&f).is_some_and(|s| State::decode(&s).is_ok())),
    ];
    let (p1, p2, p3) = (Arc::clone(peers), Arc::clone(peers), Arc::clone(peers));
    let next = vec![
        own("resurge, save", move || {
            let (sessions, mut state) = (sessions.clone(), turning());
            let first = drive(sessions.create("user-4711"));
            let mut token =
                first.and_then(|token| Ok(drive(sessions.save(&token, &state()))?.token));
            move || {
                let text = token.as_ref().map(Token::expose).unwrap_or_default();
                token = drive(sessions.save(&Token::from(text), &state())).map(|saved| saved.token);
                token.is_ok()
            }
        }),
        own("pasetors v4.local, JSON", move || {
            let (peers, token, mut state) = (Arc::clone(&p1), local.clone(), turning());
            move || {
                let opened = peers.open_local(&token).is_some();
                opened && state().to_json().ok().and_then(|s| peers.local(&s)).is_some()
            }
        }),
        own("branca", move || {
            let (peers, token, mut state) = (Arc::clone(&p2), branca.clone(), turning());
            move || {
                let opened = peers.open_branca(&token).is_some();
                opened && state().encode().ok().and_then(|s| peers.branca(&s)).is_some()
            }
        }),
        own("fernet", move || {
            let (peers, token, mut state) = (Arc::clone(&p3), fernet.clone(), turning());
            move || {
                let opened = peers.open_fernet(&token).is_some();
                opened && state().encode().is_ok_and(|s| !peers.fernet.encrypt(&s).is_empty())
            }
        }),
    ];
    Ok([("open a token with its state", open), ("open the last, seal the next", next)])
}

/// A session in a map behind a lock, for both: the work around the storage, and no durability.
pub fn sessions() -> Result<[(&'static str, Vec<Case>); 3]> {
    let ours = over(Shelf::default(), TokenKind::Reference)?;
    let theirs = Arc::new(MemoryStore::default());
    let recover = vec![
        with_session("resurge, recover", &ours, |sessions, token, _| {
            let back = drive(sessions.recover::<State>(&Token::from(token.expose())));
            back.map(|back| *token = back.token).is_ok()
        }),
        with_session("resurge, peek", &ours, |sessions, token, _| {
            drive(sessions.peek::<State>(&Token::from(token.expose()))).is_ok()
        }),
        with_record("tower-sessions, get", &theirs, |session, _| {
            drive(session.get::<State>("state")).is_ok_and(|state| state.is_some())
        }),
    ];
    let save = vec![
        with_session("resurge", &ours, |sessions, token, state| {
            state.turn += 1;
            drive(sessions.save(&Token::from(token.expose()), state)).is_ok_and(|s| !s.skipped)
        }),
        with_record("tower-sessions", &theirs, |session, state| {
            state.turn += 1;
            drive(session.insert("state", state)).is_ok() && drive(session.save()).is_ok()
        }),
    ];
    // Its layer saves what was modified.
    let same = vec![
        with_session("resurge", &ours, |sessions, token, state| {
            drive(sessions.save(&Token::from(token.expose()), state)).is_ok_and(|s| s.skipped)
        }),
        with_record("tower-sessions", &theirs, |session, state| {
            drive(session.insert("state", state)).is_ok() && !session.is_modified()
        }),
    ];
    Ok([
        ("token to typed state, in a map", recover),
        ("save a changed state, in a map", save),
        ("save the same state, in a map", same),
    ])
}

/// Each thread has a session of its own.
fn with_session(
    name: &'static str,
    sessions: &SessionManager,
    call: impl Fn(&SessionManager, &mut Token, &mut State) -> bool + Send + Sync + 'static,
) -> Case {
    let (sessions, call) = (sessions.clone(), Arc::new(call));
    own(name, move || {
        let (sessions, call, mut state) = (sessions.clone(), Arc::clone(&call), State::new(0));
        let mut token = drive(async {
            let token = sessions.create("user-4711").await.ok()?;
            sessions.save(&token, &state).await.ok().map(|saved| saved.token)
        });
        move || token.as_mut().is_some_and(|token| call(&sessions, token, &mut state))
    })
}

/// From the text in the cookie on, as its layer does it.
fn with_record(
    name: &'static str,
    store: &Arc<MemoryStore>,
    call: impl Fn(Session, &mut State) -> bool + Send + Sync + 'static,
) -> Case {
    let (store, call) = (Arc::clone(store), Arc::new(call));
    own(name, move || {
        let (store, call, mut state) = (Arc::clone(&store), Arc::clone(&call), State::new(0));
        let session = Session::new(None, store.clone(), None);
        let made = drive(async {
            session.insert("state", &state).await.is_ok() && session.save().await.is_ok()
        });
        let id = session.id().filter(|_| made).as_ref().map(Id::to_string).unwrap_or_default();
        move || {
            let id = id.parse().ok();
            id.is_some() && call(Session::new(id, store.clone(), None), &mut state)
        }
    })
}
