//! Tokens that rotate, with a grace time; answers that are lost; forks; tokens that carry their state; two
//! managers that want the same session.

use std::time::Duration;

use resurge_session_token::{
    OnDuplicate, ReusePolicy, SessionError, SessionManager, Token, TokenKind,
};
use resurge_store::{Store, VirtualClock};
use resurge_testkit::evidence;
use resurge_testkit::sim::{Failure, Recovered, Report, Sim, SimFailure, Simulation};

use crate::text;
use crate::whole::whole;

const GRACE: Duration = Duration::from_secs(30);
const NAMES: [&str; 3] = ["share", "fork", "carry"];

#[derive(Clone, Debug)]
pub(crate) enum Ack {
    /// In manager `name`, this token leads to this state or a later one.
    Saved { name: &'static str, token: String, state: u32 },
    /// And nothing is done with it any more.
    Stays { name: &'static str, token: String, state: u32 },
    /// And the old one to the same, by the very same successor, or to nothing any more.
    Replaced { name: &'static str, old: String, new: String, state: u32 },
    /// This one leads nowhere any more.
    Over { name: &'static str, token: String },
    /// Somebody replayed a token of this family.
    Stolen(Vec<String>),
}

fn manager(store: &Store, name: &str) -> Result<SessionManager, SessionError> {
    let key: Vec<u8> = (0..32).collect();
    let carries = name == "carry";
    let fork = name == "fork";
    SessionManager::builder(store.clone())
        .name(name)
        .key(1, &key)
        .reuse(ReusePolicy::RotateOnRecover { grace: GRACE })
        .on_duplicate(if fork { OnDuplicate::Fork } else { OnDuplicate::Share })
        .token_kind(if carries { TokenKind::SealedState } else { TokenKind::Reference })
        .absolute_ttl(Duration::from_secs(3_600))
        .cleanup_interval(None)
        .build()
}

/// Saves, and says so; the token from now on.
async fn save(
    sim: &Sim<Ack>,
    sessions: &SessionManager,
    name: &'static str,
    token: &Token,
    state: u32,
) -> Result<Token, Failure> {
    let saved = sessions.save(token, &state).await?.token;
    if saved != *token {
        sim.ack(Ack::Over { name, token: text(token) });
    }
    sim.ack(Ack::Saved { name, token: text(&saved), state });
    Ok(saved)
}

async fn recover(
    sim: &Sim<Ack>,
    sessions: &SessionManager,
    name: &'static str,
    token: &Token,
) -> Result<Token, Failure> {
    let back = sessions.recover::<u32>(token).await?;
    let (old, new) = (text(token), text(&back.token));
    sim.ack(Ack::Replaced { name, old, new, state: back.state });
    Ok(back.token)
}

pub(crate) async fn scenario(sim: Sim<Ack>, store: Store) -> Result<(), Failure> {
    for name in NAMES {
        let sessions = manager(&store, name)?;
        let mut token = sessions.create("alice").await?;
        for state in 0..3 {
            token = save(&sim, &sessions, name, &token, state).await?;
            let before = token.clone();
            token = recover(&sim, &sessions, name, &before).await?;
            if name == "fork" {
                let other = sessions.recover::<u32>(&before).await?;
                sim.ack(Ack::Saved { name, token: text(&other.token), state });
            }
            if state == 1 {
                // Moved in the index, and not durable by itself.
                sim.clock().advance(Duration::from_secs(40));
                sessions.touch(&token).await?;
            }
        }
        sim.ack(Ack::Stays { name, token: text(&token), state: 2 });
    }
    let (here, there) = (manager(&store, "share")?, manager(&store, "share")?);
    let mut family = vec![here.create("mallory").await?];
    save(&sim, &here, "share", &family[0], 1).await?;
    for generation in 0..2 {
        family.push(here.recover::<u32>(&family[generation]).await?.token);
    }
    match here.recover::<u32>(&family[0]).await {
        Err(SessionError::Replayed) => {
            sim.ack(Ack::Stolen(family.iter().map(text).collect()));
        }
        other => return Err(format!("a replay: {other:?}").into()),
    }
    // Whoever is first: nothing acknowledged is overwritten.
    let token = here.create("bob").await?;
    let mut newest = save(&sim, &here, "share", &token, 1).await?;
    for state in 2..5 {
        let (saved, back) = tokio::join!(here.save(&newest, &state), there.recover(&newest));
        let back = back?;
        match saved {
            Ok(_) => {
                let token = text(&newest);
                sim.ack(Ack::Saved { name: "share", token, state });
            }
            Err(SessionError::Conflict { .. }) => {}
            Err(e) => return Err(e.into()),
        }
        let (old, new) = (text(&newest), text(&back.token));
        sim.ack(Ack::Replaced { name: "share", old, new, state: back.state });
        newest = back.token;
    }
    let state = here.peek::<u32>(&newest).await?.state;
    sim.ack(Ack::Stays { name: "share", token: text(&newest), state });
    Ok(())
}

pub(crate) async fn check(recovered: Recovered<Ack>) -> Result<(), Failure> {
    let store = recovered.store().clone();
    for ack in recovered.acks() {
        let survived = match ack {
            Ack::Saved { name, token, state } => {
                leads_to(&manager(&store, name)?, token, *state).await?
            }
            Ack::Replaced { name, old, new, state } => {
                let sessions = manager(&store, name)?;
                leads_to(&sessions, new, *state).await? && same(&sessions, name, old, new).await?
            }
            Ack::Stays { name, token, state } => {
                let found = manager(&store, name)?.peek::<u32>(&token.as_str().into()).await;
                found.is_ok_and(|found| found.state == *state)
            }
            Ack::Over { name, token } => {
                let found = manager(&store, name)?.peek::<u32>(&token.as_str().into()).await;
                matches!(found, Err(SessionError::Replayed))
            }
            Ack::Stolen(family) => {
                let mut revoked = true;
                for token in family {
                    let sessions = manager(&store, "share")?;
                    let found = sessions.recover::<u32>(&token.as_str().into()).await;
                    revoked &= matches!(found, Err(SessionError::Revoked));
                }
                revoked
            }
        };
        recovered.survived(ack, survived)?;
    }
    for name in NAMES {
        whole(&manager(&store, name)?, &store, name).await?;
    }
    Ok(())
}

/// To at least this state, or it was replaced or revoked since.
async fn leads_to(
    sessions: &SessionManager,
    token: &str,
    state: u32,
) -> Result<bool, SessionError> {
    match sessions.peek::<u32>(&token.into()).await {
        Ok(found) => Ok(found.state >= state),
        Err(SessionError::Replayed | SessionError::Revoked) => Ok(true),
        Err(SessionError::NotFound) => Ok(false),
        Err(e) => Err(e),
    }
}

/// A retry gets the very same successor, as long as there is no newer one and no other session for it. One that
/// carries its state is sealed again, and says the same in other words.
async fn same(
    sessions: &SessionManager,
    name: &str,
    old: &str,
    new: &str,
) -> Result<bool, SessionError> {
    let old = old.into();
    match sessions.peek::<u32>(&old).await {
        // A peek takes nothing over, so this one was not used up by a look.
        Ok(_) if name == "fork" => Ok(true),
        Ok(_) => {
            let again = sessions.recover::<u32>(&old).await?;
            let state = sessions.peek::<u32>(&new.into()).await?.state;
            Ok(again.state == state && (name == "carry" || again.token.expose() == new))
        }
        Err(SessionError::Replayed | SessionError::Revoked) => Ok(true),
        Err(e) => Err(e),
    }
}

pub(crate) fn run(
    simulation: &Simulation,
    wrap: impl Fn(&Store, &VirtualClock) -> Store,
) -> Result<Report, SimFailure> {
    simulation.run(
        |sim: Sim<Ack>| {
            let store = wrap(sim.store(), sim.clock());
            scenario(sim, store)
        },
        check,
    )
}

#[test]
fn a_retry_gets_the_same_successor_whatever_crashed() {
    let simulation = Simulation::new().max_cuts(4).second_crashes(1);
    let report = run(&simulation, |store, _| store.clone()).unwrap();
    assert!(report.crash_points > 100, "{report}");
    evidence("session-crash-points-rotation", &report.to_string());
}
