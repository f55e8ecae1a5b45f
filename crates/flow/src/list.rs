//! Which runs there are, what they do, and why they wait.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

use resurge_store::{Entry, KeyRange, Namespace, ScanOptions, Timestamp};
use serde::Serialize;

use crate::engine::Phase;
use crate::record::Parent;
use crate::runs::{self, Done, End, Live, Waiting};
use crate::{ErrorRecord, FlowError, Flows, Position, Result, RunState};

/// Blocked runs named in a status.
const NAMED: usize = 100;
/// Runs read from the store at a time.
const STEP: usize = 256;

/// A run, as it is listed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RunInfo {
    /// Its id.
    pub id: String,
    /// Its flow.
    pub flow: String,
    /// Its state.
    pub state: RunState,
    /// Why it waits, and until when, while it has not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// When it was started.
    pub created: Timestamp,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// When it is cancelled if it has not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The run that started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Why it failed or was cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorRecord>,
    /// The steps it failed at; where `resume` begins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub positions: Vec<Position>,
}

/// Which runs [`Flows::list`] gives; all of them unless told otherwise.
///
/// ```
/// use resurge_flow::{RunFilter, RunState};
/// let stuck = RunFilter::new().flow("place-order").state(RunState::Blocked).state(RunState::Failed);
/// # let _ = stuck;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    flow: Option<String>,
    states: Vec<RunState>,
    prefix: String,
    created: Option<(Timestamp, Timestamp)>,
    after: Option<String>,
}

impl RunFilter {
    /// All runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only runs of this flow.
    #[must_use]
    pub fn flow(mut self, flow: impl Into<String>) -> Self {
        self.flow = Some(flow.into());
        self
    }

    /// Only runs in this state, or in another one that was asked for.
    #[must_use]
    pub fn state(mut self, state: RunState) -> Self {
        self.states.push(state);
        self
    }

    /// Only runs whose id begins with this.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Only runs started from `from` on and before `until`.
    #[must_use]
    pub fn created(mut self, from: Timestamp, until: Timestamp) -> Self {
        self.created = Some((from, until));
        self
    }

    /// Only runs whose id comes after this one: to go on behind a list's last run.
    #[must_use]
    pub fn after(mut self, id: impl Into<String>) -> Self {
        self.after = Some(id.into());
        self
    }

    fn accepts(&self, info: &RunInfo) -> bool {
        self.flow.as_ref().is_none_or(|flow| *flow == info.flow)
            && (self.states.is_empty() || self.states.contains(&info.state))
            && self.created.is_none_or(|(from, until)| from <= info.created && info.created < until)
    }

    fn wants(&self, live: bool) -> bool {
        self.states.is_empty() || self.states.iter().any(|state| state.is_ended() != live)
    }

    /// The keys to look at; `None` when there are none.
    fn range(&self, namespace: &Namespace) -> Option<KeyRange> {
        let prefix = self.prefix.as_bytes();
        // The first key that is past the prefix; UTF-8 holds no byte that would overflow.
        let mut past = prefix.to_vec();
        if let Some(last) = past.last_mut() {
            *last = last.saturating_add(1);
        }
        let until = if past.is_empty() { Unbounded } else { Excluded(past.as_slice()) };
        let from = match &self.after {
            Some(after) if after.as_bytes() >= prefix => Excluded(after.as_bytes()),
            _ => Included(prefix),
        };
        match (from, until) {
            (Excluded(from), Excluded(until)) if from >= until => None,
            bounds => Some(namespace.range(bounds)),
        }
    }
}

/// Unfinished runs, for a status page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FlowsStatus {
    /// Registered flows.
    pub flows: Vec<String>,
    /// Unfinished runs by state.
    pub unfinished: BTreeMap<RunState, u64>,
    /// The runs that are blocked, with the reason; at most a hundred.
    pub blocked: BTreeMap<String, String>,
    /// Runs that execute now; the others that run wait for a place.
    pub executing: usize,
}

impl Flows {
    /// Runs in order of their ids, at most `limit`. To go on, ask for those
    /// [`after`](RunFilter::after) the last one. Runs that end meanwhile may be missed or listed in
    /// either state.
    ///
    /// # Errors
    /// [`Store`](FlowError::Store).
    pub async fn list(&self, filter: &RunFilter, limit: usize) -> Result<Vec<RunInfo>> {
        let engine = self.engine();
        let mut found = BTreeMap::new();
        if filter.wants(true) {
            let live = self.scan(filter, filter.range(&engine.keys.live), limit, live_info).await?;
            found.extend(live);
        }
        if filter.wants(false) {
            let done = self.scan(filter, filter.range(&engine.keys.done), limit, done_info).await?;
            for (id, info) in done {
                found.entry(id).or_insert(info);
            }
        }
        Ok(found.into_values().take(limit).collect())
    }

    async fn scan(
        &self,
        filter: &RunFilter,
        mut range: Option<KeyRange>,
        limit: usize,
        info: fn(&Entry) -> Result<RunInfo, resurge_store::StoreError>,
    ) -> Result<Vec<(String, RunInfo)>> {
        let mut found = Vec::new();
        while let Some(next) = range.filter(|_| found.len() < limit) {
            let options = ScanOptions::new().max_entries(STEP);
            let page =
                self.engine().store.scan(next, options).await.map_err(FlowError::store(""))?;
            for entry in &page.entries {
                let info = info(entry).map_err(FlowError::store(""))?;
                if filter.accepts(&info) {
                    found.push((info.id.clone(), self.shown(info)));
                }
            }
            range = page.next;
        }
        Ok(found)
    }

    /// One run, as it is listed.
    ///
    /// # Errors
    /// [`NotFound`](FlowError::NotFound), [`Store`](FlowError::Store).
    pub async fn info(&self, run: &str) -> Result<RunInfo> {
        let engine = self.engine();
        for _ in 0..2 {
            if let Some((live, _)) = engine.load_live(run).await? {
                return Ok(of_live(run.to_owned(), live));
            }
            if let Some((done, _)) = engine.load_done(run).await? {
                return Ok(self.shown(of_done(run.to_owned(), done)));
            }
        }
        Err(FlowError::NotFound { run: run.to_owned() })
    }

    /// With the text of its error, where that is sealed and the key is there.
    fn shown(&self, info: RunInfo) -> RunInfo {
        let show = |error| self.engine().values.shown(&info.id, error);
        RunInfo { error: info.error.clone().map(show), ..info }
    }

    /// Unfinished runs by state, from memory.
    pub fn status(&self) -> FlowsStatus {
        let engine = self.engine();
        let mut status = FlowsStatus {
            flows: engine.flow_names().iter().map(ToString::to_string).collect(),
            executing: engine
                .options
                .max_running
                .saturating_sub(engine.permits.available_permits()),
            ..FlowsStatus::default()
        };
        for resident in engine.residents() {
            let state = match &*resident.phase.lock() {
                Phase::Active | Phase::Withheld => RunState::Running,
                Phase::Dormant { why, .. } => {
                    if let (Waiting::Blocked(reason), true) = (why, status.blocked.len() < NAMED) {
                        status.blocked.insert(resident.id.to_string(), reason.to_string());
                    }
                    RunState::from(why)
                }
                Phase::Over => continue,
            };
            *status.unfinished.entry(state).or_default() += 1;
        }
        status
    }
}

fn id_of(entry: &Entry) -> String {
    String::from_utf8_lossy(entry.key.bytes()).into_owned()
}

fn live_info(entry: &Entry) -> Result<RunInfo, resurge_store::StoreError> {
    Ok(of_live(id_of(entry), runs::load(&entry.key, &entry.value)?))
}

fn done_info(entry: &Entry) -> Result<RunInfo, resurge_store::StoreError> {
    Ok(of_done(id_of(entry), runs::load(&entry.key, &entry.value)?))
}

fn of_live(id: String, live: Live) -> RunInfo {
    RunInfo {
        id,
        flow: live.flow,
        state: RunState::from(&live.state),
        waiting: Some(live.state),
        created: live.created,
        since: live.since,
        deadline: live.deadline,
        parent: live.parent,
        error: None,
        positions: Vec::new(),
    }
}

fn of_done(id: String, done: Done) -> RunInfo {
    let state = done.end.state();
    let (error, positions) = match done.end {
        End::Failed { error, positions, .. } => (Some(error), positions),
        End::Cancelled(error) => (Some(error), Vec::new()),
        End::Succeeded(_) | End::Swept => (None, Vec::new()),
    };
    RunInfo {
        id,
        flow: done.flow,
        state,
        waiting: None,
        created: done.created,
        since: done.ended,
        deadline: None,
        parent: done.parent,
        error,
        positions,
    }
}
