//! From an id to a driver: read the journal, make the flow's future.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use resurge_store::{ErrorKind, StoreError};
use resurge_wal::{Claim, Lsn, Wal, WalError, WalOptions};

use super::{Driver, Fresh, Identity, RunCore, Stop, blocked, sealed};
use crate::engine::{Engine, Resident};
use crate::inbox::{Message, Pending};
use crate::keys::journal_name;
use crate::machine::{Ending, Journal};
use crate::record::{Record, Started};
use crate::runs::{self, Live};
use crate::{BlockReason, Ctx, FlowError};

/// A run whose store failed is tried again after this long, then twice as long, up to a minute.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// The task of one run.
pub(crate) async fn run(engine: &Arc<Engine>, resident: Arc<Resident>, mut fresh: Option<Fresh>) {
    let mut wait = FIRST_RETRY;
    loop {
        match execute(engine, &resident, fresh.take()).await {
            Ok(()) | Err(Stop::Evicted) => return,
            Err(Stop::Closing) => {
                let run = resident.id.to_string();
                return engine.retire(&resident, Err(FlowError::Closed { run }));
            }
            Err(Stop::Blocked(reason)) => {
                if !Box::pin(blocked::block(engine, &resident, reason)).await {
                    return;
                }
            }
            Err(Stop::Failed(error)) => {
                engine.metrics.stopped.increment(1);
                tracing::error!(run = %resident.id, %error, "a run stopped where it is");
                if !may_pass(&error) || engine.is_closing() {
                    return engine.retire(&resident, Err(error));
                }
                pause(engine, &resident, wait).await;
                wait = wait.saturating_mul(2).min(LAST_RETRY);
            }
        }
    }
}

/// Waits, but not beyond a shutdown.
async fn pause(engine: &Engine, resident: &Resident, wait: Duration) {
    let mut sleep = engine.store.clock().sleep(wait);
    std::future::poll_fn(|cx| {
        resident.signal.register(cx.waker());
        if engine.is_closing() { std::task::Poll::Ready(()) } else { sleep.as_mut().poll(cx) }
    })
    .await;
}

/// Whether trying again later may help without anybody reopening the store.
fn may_pass(error: &FlowError) -> bool {
    match error {
        FlowError::Store { source, .. } => {
            matches!(source.kind(), ErrorKind::Full | ErrorKind::Unavailable)
        }
        FlowError::Journal { source: WalError::Backlog { .. }, .. } => true,
        FlowError::Journal { source: WalError::Predecessor(source), .. } => {
            matches!(source.kind(), ErrorKind::Full | ErrorKind::Unavailable)
        }
        _ => false,
    }
}

async fn execute(
    engine: &Arc<Engine>,
    resident: &Arc<Resident>,
    fresh: Option<Fresh>,
) -> Result<(), Stop> {
    let permit = Arc::clone(&engine.permits).acquire_owned().await;
    let Ok(permit) = permit else { return Err(Stop::Closing) };
    let unread = fresh.as_ref().is_none_or(|fresh| fresh.missed != engine.missed());
    let (wal, live, mut journal) = match fresh {
        Some(Fresh { wal, started, live, .. }) => (wal, live, Journal::new(started)),
        None => match Box::pin(read(engine, resident)).await? {
            Some(read) => read,
            None => return Ok(()),
        },
    };
    if journal.records > 1 {
        engine.metrics.replayed.increment(journal.records);
    }
    let Started { flow, input, seed, at, parent, .. } = journal.started.clone();
    let Some(registered) = engine.code(&flow) else {
        return Err(Stop::Blocked(BlockReason::Unregistered { flow }));
    };
    if let Err(error) = engine.values.sealer.ready().await {
        return Err(Stop::Blocked(BlockReason::Sealed(error.to_string())));
    }
    let identity = Identity {
        id: Arc::clone(&resident.id),
        flow: Arc::clone(&resident.flow),
        seed,
        started_at: at,
        parent,
        deadline: live.deadline,
    };
    let paused = journal.paused;
    let suspended = journal.suspended.clone();
    let given_back = std::mem::take(&mut journal.given_back);
    let mut machine = journal.into_machine();
    machine.paused = paused;
    let callbacks = registered.callbacks();
    let core = RunCore::new(identity, Arc::clone(engine), callbacks, machine, suspended);
    // ORDER: before the inbox is read: they were sent before what lies there.
    core.with(|state| {
        state.mail.extend(
            given_back.into_iter().map(|(name, value)| Pending {
                key: None,
                message: Message::Signal { name, value },
            }),
        );
    });
    if engine.is_parked(&resident.id) {
        core.set_parked();
    }
    let flow = registered.begin(Ctx::new(Arc::clone(&core)), &input).map_err(|e| {
        let input = || Stop::Blocked(BlockReason::Input(e.record().to_string()));
        if e.is_about_keys() { sealed(e.record()) } else { input() }
    })?;
    let mut driver = Driver {
        engine: Arc::clone(engine),
        resident: Arc::clone(resident),
        core,
        wal,
        flow: Some(flow),
        result: None,
        live,
        commits: VecDeque::new(),
        seen: HashSet::new(),
        sleeper: None,
        permit: Some(permit),
        idle_since: None,
        told: None,
        unread,
    };
    engine.metrics.resident.increment(1.0);
    let end = driver.drive().await;
    driver.drop_flow();
    engine.metrics.resident.decrement(1.0);
    let end = end?;
    drop(driver);
    engine.retire(resident, Ok(end));
    Ok(())
}

/// The run's record and journal. `None` when it ended meanwhile.
async fn read(
    engine: &Arc<Engine>,
    resident: &Arc<Resident>,
) -> Result<Option<(Wal<Record>, Live, Journal)>, Stop> {
    let run = &*resident.id;
    let store_failed = |e: StoreError| Stop::Failed(FlowError::store(run)(e));
    engine.check_owner(run).await.map_err(Stop::Failed)?;
    let key = engine.keys.live(run).map_err(Stop::Failed)?;
    let Some(stored) = engine.store.get(&key).await.map_err(store_failed)? else {
        let end = engine.ended(run).await;
        engine.retire(resident, end);
        return Ok(None);
    };
    let live: Live = runs::load(&key, &stored).map_err(store_failed)?;
    match read_journal(engine, run).await {
        Ok((wal, Some(journal))) if journal.ending.is_none() => Ok(Some((wal, live, journal))),
        Ok((_, Some(journal))) => {
            let ending = match journal.ending {
                Some(Ending::Succeeded(_)) => "succeeded",
                Some(Ending::Failed(_)) => "failed",
                _ => "was cancelled",
            };
            let message = format!("it says that the run {ending}; the run's record does not");
            Err(Stop::Blocked(BlockReason::Journal(message)))
        }
        Ok((_, None)) => Err(Stop::Blocked(BlockReason::Journal("it is empty".to_owned()))),
        Err(e @ (WalError::Corrupt(_) | WalError::Decode { .. } | WalError::Invalid(_))) => {
            Err(Stop::Blocked(BlockReason::Journal(e.to_string())))
        }
        Err(e) => Err(Stop::Failed(FlowError::journal(run)(e))),
    }
}

/// The journal of a run that is taken to be new.
pub(crate) fn new_wal(engine: &Engine, run: &str) -> Result<Wal<Record>, WalError> {
    Wal::create(&engine.store, &journal_name(run), WalOptions::default())
}

pub(crate) async fn open_wal(engine: &Engine, run: &str) -> Result<Wal<Record>, WalError> {
    let options = WalOptions { claim: Claim::AtFirstWrite, ..WalOptions::default() };
    Ok(Wal::open(&engine.store, &journal_name(run), options).await?.0)
}

pub(crate) async fn read_journal(
    engine: &Engine,
    run: &str,
) -> Result<(Wal<Record>, Option<Journal>), WalError> {
    let wal = open_wal(engine, run).await?;
    let mut replay = wal.replay(Lsn::START).await?;
    let mut journal: Option<Journal> = None;
    while let Some((_, record)) = replay.next().await? {
        match (&mut journal, record) {
            (None, Record::Started(started)) => journal = Some(Journal::new(started)),
            (Some(journal), record) => {
                journal.push(record).map_err(|e| WalError::Invalid(e.to_owned()))?;
            }
            (None, _) => {
                return Err(WalError::Invalid("it does not begin with a beginning".to_owned()));
            }
        }
    }
    Ok((wal, journal))
}
