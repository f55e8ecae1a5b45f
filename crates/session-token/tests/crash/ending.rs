//! Sessions that end: by their time, by subject, all before a time; and their removal.

use std::time::Duration;

use resurge_session_token::{Eviction, ReusePolicy, SessionError, SessionManager};
use resurge_store::{Store, VirtualClock};
use resurge_testkit::evidence;
use resurge_testkit::sim::{Failure, Recovered, Report, Sim, SimFailure, Simulation};

use crate::text;
use crate::whole::{entries, whole};

const NAME: &str = "ending";
const IDLE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3_600);

#[derive(Clone, Debug)]
pub(crate) enum Ack {
    Saved(String),
    /// What it is refused with, from now on.
    Refused(&'static [&'static str], Vec<String>),
}

const REVOKED: &[&str] = &["revoked"];
const EXPIRED: &[&str] = &["expired", "not_found"];
/// Revoked, and its record may be removed when its absolute time is over.
const GONE: &[&str] = &["not_found"];

fn manager(store: &Store) -> Result<SessionManager, SessionError> {
    let key: Vec<u8> = (0..32).collect();
    SessionManager::builder(store.clone())
        .name(NAME)
        .key(1, &key)
        .reuse(ReusePolicy::UntilExpiry)
        .max_entries_per_subject(3)
        .eviction(Eviction::Oldest)
        .idle_ttl(IDLE)
        .absolute_ttl(DAY)
        .cleanup_interval(None)
        .build()
}

pub(crate) async fn scenario(sim: Sim<Ack>, store: Store) -> Result<(), Failure> {
    let sessions = manager(&store)?;
    let make = async |subject: &str| -> Result<String, Failure> {
        let token = sessions.create(subject).await?;
        sessions.save(&token, &1_u32).await?;
        // Otherwise two of them are as old.
        sim.clock().advance(Duration::from_millis(1));
        Ok(text(&token))
    };
    let renew = async |token: &str| sessions.recover::<u32>(&token.into()).await;
    let kept = make("keeps").await?;
    sim.ack(Ack::Saved(kept.clone()));
    // A fourth one puts the first one out.
    let mut crowd = Vec::new();
    for _ in 0..4 {
        crowd.push(make("crowd").await?);
    }
    sim.ack(Ack::Refused(GONE, crowd.drain(..1).collect()));
    // All of a subject.
    let of_bob = vec![make("bob").await?, make("bob").await?];
    sessions.revoke_subject("bob").await?;
    sim.ack(Ack::Refused(REVOKED, of_bob));
    // Time passes; who comes back stays.
    sim.clock().advance(IDLE / 2);
    renew(&kept).await?;
    sim.clock().advance(IDLE / 2);
    sim.ack(Ack::Refused(EXPIRED, crowd));
    renew(&kept).await?;
    // In pieces, as the background does it.
    while sessions.cleanup_expired(2).await?.more {}
    sim.ack(Ack::Saved(kept.clone()));
    let old = vec![make("old").await?, make("older").await?];
    sessions.revoke_all_before(store.now()).await?;
    let all = old.into_iter().chain([kept]).collect();
    sim.ack(Ack::Refused(REVOKED, all));
    let new = make("new").await?;
    sim.ack(Ack::Saved(new));
    Ok(())
}

pub(crate) async fn check(recovered: Recovered<Ack>) -> Result<(), Failure> {
    let store = recovered.store();
    let sessions = manager(store)?;
    let acks = recovered.acks();
    for (nth, ack) in acks.iter().enumerate() {
        let survived = match ack {
            Ack::Saved(token) => match sessions.peek::<u32>(&token.as_str().into()).await {
                Ok(found) => found.state == 1,
                // The last thing the scenario does to it; told, or not told yet.
                Err(SessionError::Revoked) => nth < 5 && acks.len() >= 5,
                Err(e) => return Err(format!("ack {nth}: {e}").into()),
            },
            Ack::Refused(classes, tokens) => {
                let mut refused = true;
                for token in tokens {
                    let found = sessions.recover::<u32>(&token.as_str().into()).await;
                    refused &= found.is_err_and(|e| classes.contains(&e.class()));
                }
                refused
            }
        };
        recovered.survived(ack, survived)?;
    }
    whole(&sessions, store, NAME).await?;
    // When all time is over, nothing is left of any.
    recovered.clock().advance(2 * DAY);
    let report = sessions.cleanup_expired(u64::MAX).await?;
    let left = entries(store, NAME).await?;
    if report.failed + report.orphans + report.renewed > 0 || !left.is_empty() {
        return Err(format!("{report:?}, and left: {left:?}").into());
    }
    whole(&sessions, store, NAME).await?;
    Ok(())
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
fn what_ended_stays_over_and_is_removed_whatever_crashed() {
    let mut points = 0;
    for seed in 1..=3 {
        let report = run(&Simulation::new().seed(seed), |store, _| store.clone()).unwrap();
        points += report.crash_points;
    }
    assert!(points > 100, "{points}");
    let line = format!("{points} crash points, 0 lost acknowledgements");
    evidence("session-crash-points-ends", &line);
}
