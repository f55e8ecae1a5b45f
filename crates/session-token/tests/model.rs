//! Random lives of sessions beside a model that is too simple to be wrong: every answer, every error, the clock also
//! backwards, restarts in between.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use proptest::prelude::*;
use resurge_session_token::{ReusePolicy, SessionError, SessionManager, Token};
use resurge_store::{Clock, MemoryStore, Store, Timestamp, VirtualClock};

const IDLE: u64 = 100_000;
const ABSOLUTE: u64 = 400_000;
const GRACE: u64 = 30_000;
const LEEWAY: u64 = 60_000;
const SUBJECTS: [&str; 3] = ["alice", "bob", "carol"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Until,
    Rotate,
    Single,
}

impl Policy {
    fn reuse(self) -> ReusePolicy {
        match self {
            Self::Until => ReusePolicy::UntilExpiry,
            Self::Rotate => ReusePolicy::RotateOnRecover { grace: Duration::from_millis(GRACE) },
            Self::Single => ReusePolicy::SingleUse,
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Create(usize),
    Save(usize, u32),
    /// Over the version that there is, or one beside it.
    SaveIf(usize, u32, u64),
    Recover(usize),
    Peek(usize),
    Touch(usize),
    Delete(usize),
    Revoke(usize),
    RevokeSubject(usize),
    RevokeBefore(u64),
    Cleanup,
    List(usize),
    Forward(u64),
    Back(u64),
    /// Another process, which knows tokens as texts only.
    Restart,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let token = 0..12_usize;
    let op = prop_oneof![
        3 => (0..3_usize).prop_map(Op::Create),
        6 => (token.clone(), 0..4_u32).prop_map(|(t, s)| Op::Save(t, s)),
        2 => (token.clone(), 0..4_u32, 0..3_u64).prop_map(|(t, s, v)| Op::SaveIf(t, s, v)),
        8 => token.clone().prop_map(Op::Recover),
        3 => token.clone().prop_map(Op::Peek),
        2 => token.clone().prop_map(Op::Touch),
        1 => token.clone().prop_map(Op::Delete),
        1 => token.prop_map(Op::Revoke),
        1 => (0..3_usize).prop_map(Op::RevokeSubject),
        1 => (0..100_000_u64).prop_map(Op::RevokeBefore),
        2 => Just(Op::Cleanup),
        2 => (0..3_usize).prop_map(Op::List),
        5 => prop_oneof![0..40_000_u64, Just(GRACE), Just(IDLE)].prop_map(Op::Forward),
        1 => (0..70_000_u64).prop_map(Op::Back),
        1 => Just(Op::Restart),
    ];
    proptest::collection::vec(op, 1..60)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Live,
    Revoked,
    Gone,
}

struct Session {
    fate: Fate,
    subject: usize,
    created: u64,
    deadline: u64,
    state: Option<u32>,
    version: u64,
    epoch: u64,
    generation: u64,
    /// When the token of each generation was issued.
    issued: Vec<u64>,
    grace_until: u64,
}

/// A token as a client holds it.
#[derive(Clone)]
struct Held {
    token: Token,
    session: usize,
    generation: u64,
    epoch: Option<u64>,
}

struct Model {
    policy: Policy,
    now: u64,
    cutoff: u64,
    sessions: Vec<Session>,
}

type Answer<T> = Result<T, &'static str>;

impl Model {
    /// What the token itself says: it is issued, and not over.
    fn verify(&self, held: &Held) -> Answer<()> {
        let session = &self.sessions[held.session];
        if session.issued[held.generation as usize] > self.now + LEEWAY {
            return Err("not_yet_valid");
        }
        if self.now >= session.created + ABSOLUTE { Err("expired") } else { Ok(()) }
    }

    /// How many generations behind.
    fn behind(&self, held: &Held) -> Answer<u64> {
        self.verify(held)?;
        let session = &self.sessions[held.session];
        match session.fate {
            Fate::Gone => return Err("not_found"),
            Fate::Revoked => return Err("revoked"),
            Fate::Live if session.created < self.cutoff => return Err("revoked"),
            Fate::Live if self.now >= session.deadline => return Err("expired"),
            Fate::Live => {}
        }
        Ok(session.generation - held.generation)
    }

    fn in_grace(&self, held: &Held, behind: u64) -> bool {
        let until = self.sessions[held.session].grace_until;
        self.policy == Policy::Rotate && behind == 1 && self.now < until
    }

    /// The token is current or in its grace time.
    fn usable(&self, held: &Held) -> Answer<bool> {
        let behind = self.behind(held)?;
        let current = behind == 0;
        if current || self.in_grace(held, behind) { Ok(current) } else { Err("replayed") }
    }

    fn later(&self, session: &Session) -> u64 {
        (self.now + IDLE).min(session.created + ABSOLUTE)
    }

    fn save(&mut self, held: &Held, state: u32, over: Option<u64>) -> Answer<(u64, bool)> {
        let behind = self.behind(held)?;
        let later = self.later(&self.sessions[held.session]);
        let session = &mut self.sessions[held.session];
        let fenced = held.epoch.is_some_and(|epoch| epoch != session.epoch);
        if behind > 0 || fenced || over.is_some_and(|version| version != session.version) {
            return Err("conflict");
        }
        if session.state == Some(state) && later < session.deadline + IDLE / 10 {
            return Ok((session.version, true));
        }
        session.state = Some(state);
        session.version += 1;
        session.deadline = later.max(session.deadline);
        Ok((session.version, false))
    }

    /// The state, the generation of the token from now on, whether that is another one.
    fn recover(&mut self, held: &Held) -> Answer<(u32, u64, bool)> {
        let current = match self.usable(held) {
            Err("replayed") if self.policy == Policy::Rotate => {
                self.sessions[held.session].fate = Fate::Revoked;
                return Err("replayed");
            }
            other => other?,
        };
        let (now, policy) = (self.now, self.policy);
        let later = self.later(&self.sessions[held.session]);
        let session = &mut self.sessions[held.session];
        let state = session.state.ok_or("not_found")?;
        session.deadline = later.max(session.deadline);
        if current {
            session.epoch += 1;
            if policy != Policy::Until {
                session.generation += 1;
                session.issued.push(now);
                session.grace_until = now + GRACE;
            }
        }
        Ok((state, session.generation, policy != Policy::Until))
    }

    fn touch(&mut self, held: &Held) -> Answer<()> {
        self.usable(held)?;
        let later = self.later(&self.sessions[held.session]);
        let session = &mut self.sessions[held.session];
        if later >= session.deadline + IDLE / 10 {
            session.deadline = later;
        }
        Ok(())
    }

    fn end(&mut self, held: &Held, fate: Fate) -> Answer<()> {
        self.verify(held)?;
        let session = &mut self.sessions[held.session];
        if session.fate == Fate::Live {
            session.fate = fate;
        }
        Ok(())
    }

    fn cleanup(&mut self) -> u64 {
        let now = self.now;
        let mut removed = 0;
        for session in &mut self.sessions {
            let over = match session.fate {
                Fate::Live => session.deadline <= now,
                Fate::Revoked => session.created + ABSOLUTE <= now,
                Fate::Gone => false,
            };
            if over {
                session.fate = Fate::Gone;
                removed += 1;
            }
        }
        removed
    }

    fn revoke_subject(&mut self, subject: usize) -> u64 {
        let mut revoked = 0;
        for session in &mut self.sessions {
            if session.fate == Fate::Live && session.subject == subject {
                session.fate = Fate::Revoked;
                revoked += 1;
            }
        }
        revoked
    }

    fn listed(&self, subject: usize) -> Vec<(u64, u64, u64, u64)> {
        let live = self.sessions.iter().filter(|session| {
            session.fate == Fate::Live
                && session.subject == subject
                && session.created >= self.cutoff
                && session.deadline > self.now
        });
        let mut listed: Vec<_> =
            live.map(|s| (s.created, s.deadline, s.version, s.epoch)).collect();
        listed.sort_unstable();
        listed
    }
}

fn class<T>(result: Result<T, SessionError>) -> Answer<T> {
    result.map_err(|error| error.class())
}

struct World {
    clock: VirtualClock,
    store: Store,
    policy: Policy,
}

impl World {
    fn manager(&self) -> SessionManager {
        let key: Vec<u8> = (0..32).collect();
        SessionManager::builder(self.store.clone())
            .key(1, &key)
            .reuse(self.policy.reuse())
            .idle_ttl(Duration::from_millis(IDLE))
            .absolute_ttl(Duration::from_millis(ABSOLUTE))
            .cleanup_interval(None)
            .build()
            .unwrap()
    }

    fn set(&self, now: u64) {
        self.clock.set_wall(Timestamp::from_millis(now));
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for each operation")]
async fn live(policy: Policy, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let clock = VirtualClock::new();
    let store = Store::new(MemoryStore::in_memory()).with_clock(clock.clone());
    let world = World { clock, store, policy };
    let now = world.clock.now().as_millis();
    let mut model = Model { policy, now, cutoff: 0, sessions: Vec::new() };
    let mut sessions = world.manager();
    let mut tokens: Vec<Held> = Vec::new();
    for (at, op) in ops.into_iter().enumerate() {
        let what = format!("operation {at}, {op:?}, {policy:?}");
        let held = |n: usize| tokens.get(n % tokens.len().max(1)).cloned();
        match op {
            Op::Create(subject) => {
                let token = sessions.create(SUBJECTS[subject]).await.unwrap();
                model.sessions.push(Session {
                    fate: Fate::Live,
                    subject,
                    created: model.now,
                    deadline: model.now + IDLE,
                    state: None,
                    version: 0,
                    epoch: 0,
                    generation: 0,
                    issued: vec![model.now],
                    grace_until: 0,
                });
                let session = model.sessions.len() - 1;
                tokens.push(Held { token, session, generation: 0, epoch: Some(0) });
            }
            Op::Save(token, state) => {
                let Some(held) = held(token) else { continue };
                let saved = class(sessions.save(&held.token, &state).await);
                let expected = model.save(&held, state, None);
                prop_assert_eq!(saved.map(|s| (s.version, s.skipped)), expected, "{}", what);
            }
            Op::SaveIf(token, state, beside) => {
                let Some(held) = held(token) else { continue };
                let over = (model.sessions[held.session].version + beside).saturating_sub(1);
                let saved = class(sessions.save_if(&held.token, over, &state).await);
                let expected = model.save(&held, state, Some(over));
                prop_assert_eq!(saved.map(|s| (s.version, s.skipped)), expected, "{}", what);
            }
            Op::Recover(token) => {
                let Some(held) = held(token) else { continue };
                let back = class(sessions.recover::<u32>(&held.token).await);
                let expected = model.recover(&held);
                let seen = back.as_ref().map(|back| (back.state, back.rotated));
                let wanted = expected.map(|(state, _, rotated)| (state, rotated));
                prop_assert_eq!(seen.map_err(|e| *e), wanted, "{}", what);
                if let (Ok(back), Ok((_, generation, _))) = (back, expected) {
                    let session = held.session;
                    let epoch = Some(model.sessions[session].epoch);
                    let same = |t: &&Held| (t.session, t.generation) == (session, generation);
                    if let Some(known) = tokens.iter().find(same) {
                        prop_assert_eq!(back.token.expose(), known.token.expose(), "{}", what);
                    }
                    tokens.push(Held { token: back.token, session, generation, epoch });
                }
            }
            Op::Peek(token) => {
                let Some(held) = held(token) else { continue };
                let seen = class(sessions.peek::<u32>(&held.token).await);
                let session = &model.sessions[held.session];
                let expected = model.usable(&held).and_then(|_| {
                    session.state.map(|state| (state, session.version)).ok_or("not_found")
                });
                prop_assert_eq!(seen.map(|seen| (seen.state, seen.version)), expected, "{}", what);
            }
            Op::Touch(token) => {
                let Some(held) = held(token) else { continue };
                let touched = class(sessions.touch(&held.token).await);
                prop_assert_eq!(touched, model.touch(&held), "{}", what);
            }
            Op::Delete(token) => {
                let Some(held) = held(token) else { continue };
                let ended = class(sessions.delete(&held.token).await);
                prop_assert_eq!(ended, model.end(&held, Fate::Gone), "{}", what);
            }
            Op::Revoke(token) => {
                let Some(held) = held(token) else { continue };
                let ended = class(sessions.revoke(&held.token).await);
                prop_assert_eq!(ended, model.end(&held, Fate::Revoked), "{}", what);
            }
            Op::RevokeSubject(subject) => {
                let revoked = class(sessions.revoke_subject(SUBJECTS[subject]).await);
                prop_assert_eq!(revoked, Ok(model.revoke_subject(subject)), "{}", what);
            }
            Op::RevokeBefore(ago) => {
                let before = model.now - ago;
                sessions.revoke_all_before(Timestamp::from_millis(before)).await.unwrap();
                model.cutoff = model.cutoff.max(before);
            }
            Op::Cleanup => {
                let report = sessions.cleanup_expired(1_000).await.unwrap();
                prop_assert_eq!(report.removed, model.cleanup(), "{}", what);
                prop_assert_eq!((report.failed, report.orphans, report.renewed), (0, 0, 0));
            }
            Op::List(subject) => {
                let listed = sessions.list(SUBJECTS[subject]).await.unwrap();
                let mut listed: Vec<_> = listed
                    .iter()
                    .map(|s| (s.created.as_millis(), s.deadline.as_millis(), s.version, s.epoch))
                    .collect();
                listed.sort_unstable();
                prop_assert_eq!(listed, model.listed(subject), "{}", what);
            }
            Op::Forward(by) => {
                model.now += by;
                world.set(model.now);
            }
            Op::Back(by) => {
                model.now -= by;
                world.set(model.now);
            }
            Op::Restart => {
                sessions.close().await.unwrap();
                sessions = world.manager();
                for held in &mut tokens {
                    held.token = Token::from(held.token.expose());
                    held.epoch = None;
                }
            }
        }
        let counted = sessions.live().await.unwrap();
        let expected = model.sessions.iter().filter(|s| s.fate == Fate::Live).count() as u64;
        prop_assert_eq!(counted, expected, "{}", what);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn every_answer_is_the_models(
        policy in prop_oneof![Just(Policy::Until), Just(Policy::Rotate), Just(Policy::Single)],
        ops in ops(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(live(policy, ops))?;
    }
}
