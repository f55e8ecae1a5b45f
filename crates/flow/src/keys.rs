//! Where runs live: every key of this crate.
//!
//! An unfinished run has a record in `live`, a finished one in `done`, so what a start must read
//! grows with unfinished runs only. `ended` orders finished runs by when they are to be swept.

use resurge_store::{Key, KeyRange, Namespace, Timestamp};

use crate::{FlowError, Result};

/// The longest run id, in bytes.
pub const MAX_RUN_ID_LEN: usize = 200;
/// The longest id of a signal, in bytes.
pub const MAX_SIGNAL_ID_LEN: usize = 200;
/// The longest name of a flow, in bytes.
pub const MAX_FLOW_NAME_LEN: usize = 100;

#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) live: Namespace,
    pub(crate) done: Namespace,
    pub(crate) ended: Namespace,
    pub(crate) inbox: Namespace,
    pub(crate) signals: Namespace,
    /// Which engine owns the runs.
    pub(crate) owner: Key,
}

impl Keys {
    pub(crate) fn new() -> Result<Self> {
        let namespace = |name| Namespace::new(name).map_err(FlowError::store(""));
        Ok(Self {
            live: namespace("resurge/flow/live")?,
            done: namespace("resurge/flow/done")?,
            ended: namespace("resurge/flow/ended")?,
            inbox: namespace("resurge/flow/inbox")?,
            signals: namespace("resurge/flow/signals")?,
            owner: namespace("resurge/flow")?.key("owner").map_err(FlowError::store(""))?,
        })
    }

    pub(crate) fn live(&self, run: &str) -> Result<Key> {
        self.live.key(run).map_err(FlowError::store(run))
    }

    pub(crate) fn done(&self, run: &str) -> Result<Key> {
        self.done.key(run).map_err(FlowError::store(run))
    }

    /// `[sweep at, ms, u64][run id]`
    pub(crate) fn ended(&self, at: Timestamp, run: &str) -> Result<Key> {
        let mut key = at.as_millis().to_be_bytes().to_vec();
        key.extend_from_slice(run.as_bytes());
        self.ended.key(key).map_err(FlowError::store(run))
    }

    /// What an `ended` key says.
    pub(crate) fn ended_of(key: &Key) -> Option<(Timestamp, &str)> {
        let (at, run) = key.bytes().split_at_checked(8)?;
        let at = u64::from_be_bytes(at.try_into().ok()?);
        Some((Timestamp::from_millis(at), std::str::from_utf8(run).ok()?))
    }

    /// `[run id][NUL][sent at, ms, u64][random u64]`
    pub(crate) fn message(&self, run: &str, at: Timestamp, random: u64) -> Result<Key> {
        let mut key = prefix_of(run);
        key.extend_from_slice(&at.as_millis().to_be_bytes());
        key.extend_from_slice(&random.to_be_bytes());
        self.inbox.key(key).map_err(FlowError::store(run))
    }

    /// When a message was sent.
    pub(crate) fn sent_at(key: &Key) -> Option<Timestamp> {
        let end = key.bytes().iter().position(|byte| *byte == 0)?;
        let at = key.bytes().get(end + 1..)?.first_chunk::<8>()?;
        Some(Timestamp::from_millis(u64::from_be_bytes(*at)))
    }

    /// The run a message is for.
    pub(crate) fn message_of(key: &Key) -> Option<&str> {
        let end = key.bytes().iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(key.bytes().get(..end)?).ok()
    }

    pub(crate) fn messages(&self, run: &str) -> KeyRange {
        self.inbox.prefix(prefix_of(run))
    }

    /// `[run id][NUL][the signal's id]`: it was sent.
    pub(crate) fn sent(&self, run: &str, id: &str) -> Result<Key> {
        let mut key = prefix_of(run);
        key.extend_from_slice(id.as_bytes());
        self.signals.key(key).map_err(FlowError::store(run))
    }

    pub(crate) fn all_sent(&self, run: &str) -> KeyRange {
        self.signals.prefix(prefix_of(run))
    }
}

fn prefix_of(run: &str) -> Vec<u8> {
    let mut prefix = run.as_bytes().to_vec();
    prefix.push(0);
    prefix
}

/// The name of a run's journal among the logs of the store.
pub(crate) fn journal_name(run: &str) -> String {
    format!("flow/{run}")
}

pub(crate) fn check_run_id(run: &str) -> Result<()> {
    check("run id", run, MAX_RUN_ID_LEN)
}

pub(crate) fn check_flow_name(name: &str) -> Result<()> {
    check("flow name", name, MAX_FLOW_NAME_LEN)
}

pub(crate) fn check_signal_id(id: &str) -> Result<()> {
    check("signal id", id, MAX_SIGNAL_ID_LEN)
}

fn check(what: &str, name: &str, max: usize) -> Result<()> {
    if name.is_empty() || name.len() > max || name.contains('\0') {
        let name = name.escape_debug().take(64).collect::<String>();
        return Err(FlowError::Invalid(format!(
            "`{name}` is no {what}: 1 to {max} bytes without NUL are"
        )));
    }
    Ok(())
}
