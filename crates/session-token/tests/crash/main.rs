//! A crash after every commit, with everything it may take.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod ending;
mod planted;
mod rotating;
mod whole;

use resurge_session_token::{ReusePolicy, SessionError, SessionManager, Token};
use resurge_store::{Store, VirtualClock};
use resurge_testkit::evidence;
use resurge_testkit::sim::{Failure, Recovered, Report, Sim, SimFailure, Simulation};
use whole::whole;

#[derive(Clone, Debug)]
enum Ack {
    Saved {
        token: String,
        state: u32,
    },
    /// And nothing is done with it any more.
    Stays {
        token: String,
        state: u32,
    },
    Replaced {
        old: String,
        new: String,
        state: u32,
    },
    Revoked(String),
    Deleted(String),
}

/// Few enough that new ones evict others.
const FEW: u64 = 2;

fn sessions(store: Store, name: &str) -> Result<SessionManager, SessionError> {
    let key: Vec<u8> = (0..32).collect();
    SessionManager::builder(store)
        .name(name)
        .key(1, &key)
        .reuse(ReusePolicy::SingleUse)
        .max_entries(if name == "few" { FEW } else { 100 })
        .seal_states(true)
        .cleanup_interval(None)
        .build()
}

fn text(token: &Token) -> String {
    token.expose().to_owned()
}

async fn scenario(sim: Sim<Ack>, store: Store) -> Result<(), Failure> {
    let few = sessions(store.clone(), "few")?;
    let sessions = sessions(store, "many")?;
    let mut token = sessions.create("alice").await?;
    for state in 0..4 {
        sessions.save(&token, &state).await?;
        sim.ack(Ack::Saved { token: text(&token), state });
        let back = sessions.recover::<u32>(&token).await?;
        sim.ack(Ack::Replaced { old: text(&token), new: text(&back.token), state });
        token = back.token;
    }
    let revoked = sessions.create("bob").await?;
    sessions.save(&revoked, &1_u32).await?;
    sessions.revoke(&revoked).await?;
    sim.ack(Ack::Revoked(text(&revoked)));
    let deleted = sessions.create("bob").await?;
    sessions.save(&deleted, &1_u32).await?;
    sessions.delete(&deleted).await?;
    sim.ack(Ack::Deleted(text(&deleted)));
    for state in 10..14 {
        sessions.save(&token, &state).await?;
        sim.ack(Ack::Saved { token: text(&token), state });
    }
    sim.ack(Ack::Stays { token: text(&token), state: 13 });
    for subject in ["carol", "dave", "erin", "frank"] {
        few.create(subject).await?;
    }
    Ok(())
}

async fn check(recovered: Recovered<Ack>) -> Result<(), Failure> {
    let store = recovered.store().clone();
    let few = sessions(store.clone(), "few")?;
    let sessions = sessions(store.clone(), "many")?;
    for ack in recovered.acks() {
        let survived = match ack {
            // `None`: replaced since, told or not.
            Ack::Saved { token, state } => at_least(&sessions, token, *state).await? != Some(false),
            Ack::Stays { token, state } => {
                let found = sessions.peek::<u32>(&token.as_str().into()).await;
                found.is_ok_and(|found| found.state == *state)
            }
            Ack::Replaced { old, new, state } => {
                let old = sessions.peek::<u32>(&old.as_str().into()).await;
                matches!(old, Err(SessionError::Replayed))
                    && at_least(&sessions, new, *state).await? != Some(false)
            }
            Ack::Revoked(token) => {
                let found = sessions.recover::<u32>(&token.as_str().into()).await;
                matches!(found, Err(SessionError::Revoked))
            }
            Ack::Deleted(token) => {
                let found = sessions.recover::<u32>(&token.as_str().into()).await;
                matches!(found, Err(SessionError::NotFound))
            }
        };
        recovered.survived(ack, survived)?;
    }
    whole(&sessions, &store, "many").await?;
    at_most_few(&few, &store).await?;
    // And it goes on.
    for sessions in [&sessions, &few] {
        let token = sessions.create("grace").await?;
        sessions.save(&token, &9_u32).await?;
        assert_eq!(sessions.recover::<u32>(&token).await?.state, 9);
    }
    whole(&sessions, &store, "many").await?;
    at_most_few(&few, &store).await
}

async fn at_most_few(few: &SessionManager, store: &Store) -> Result<(), Failure> {
    let live = whole(few, store, "few").await?;
    if live > FEW { Err(format!("{live} sessions live").into()) } else { Ok(()) }
}

async fn at_least(
    sessions: &SessionManager,
    token: &str,
    state: u32,
) -> Result<Option<bool>, SessionError> {
    match sessions.peek::<u32>(&token.into()).await {
        Ok(found) => Ok(Some(found.state >= state)),
        Err(SessionError::Replayed) => Ok(None),
        Err(SessionError::NotFound) => Ok(Some(false)),
        Err(e) => Err(e),
    }
}

/// All crash points of it, on the store that is given to the scenario.
fn run(
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
fn nothing_acknowledged_is_lost_and_nothing_comes_back() {
    let mut points = 0;
    for seed in 1..=3 {
        let simulation = Simulation::new().seed(seed).max_cuts(4).second_crashes(1);
        let report = run(&simulation, |store, _| store.clone()).unwrap();
        assert_eq!(report.lost_acks, 0);
        points += report.crash_points;
    }
    assert!(points > 100, "{points}");
    let line = format!("{points} crash points, 0 lost acknowledgements");
    evidence("session-crash-points", &line);
}
