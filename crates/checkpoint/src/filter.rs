//! Which checkpoints a listing or a purge is about.

use std::sync::Arc;
use std::time::Duration;

use resurge_store::{Key, KeyRange, Timestamp};

use crate::{CheckpointKey, Result, Scope, layout};

/// Which checkpoints [`list`](crate::Checkpoints::list) shows and [`purge`](crate::Checkpoints::purge)
/// removes: those for which everything said here holds.
///
/// ```
/// use std::time::Duration;
/// use resurge_checkpoint::{Filter, Scope};
/// let finished = Filter::scope(Scope::Workflow("order-42".into()));
/// let outdated = Filter::all().step("charge").version(1);
/// let old = Filter::all().older_than(Duration::from_secs(30 * 24 * 3600));
/// # drop((finished, outdated, old));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    scope: Option<Scope>,
    step: Option<Arc<str>>,
    version: Option<u32>,
    older_than: Option<Duration>,
    after: Option<Key>,
}

impl Filter {
    /// Every checkpoint.
    pub fn all() -> Self {
        Self::default()
    }

    /// Those of one scope: one range of keys.
    pub fn scope(scope: Scope) -> Self {
        Self { scope: Some(scope), ..Self::default() }
    }

    /// Those of one step. Without a scope every workflow's keys are looked at.
    #[must_use]
    pub fn step(mut self, step: impl Into<Arc<str>>) -> Self {
        self.step = Some(step.into());
        self
    }

    /// Those of one version of a step.
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.version = Some(version);
        self
    }

    /// Results that were stored longer ago than this, by wall time, and claims that were made so.
    #[must_use]
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// Those behind this key; see [`Listing::next`](crate::Listing::next).
    #[must_use]
    pub fn after(mut self, key: Key) -> Self {
        self.after = Some(key);
        self
    }

    /// The keys to look at.
    pub(crate) fn range(&self) -> Result<KeyRange> {
        let range = layout::range(self.scope.as_ref(), self.step.as_deref())?;
        Ok(match &self.after {
            Some(key) => range.after(key),
            None => range,
        })
    }

    /// Whether a key is meant; `None` for one that is no key of ours.
    pub(crate) fn is_about(&self, key: Option<&CheckpointKey>) -> bool {
        let Some(key) = key else {
            return self.scope.is_none() && self.step.is_none() && self.version.is_none();
        };
        self.scope.as_ref().is_none_or(|scope| key.scope() == scope)
            && self.step.as_ref().is_none_or(|step| key.step() == step.as_ref())
            && self.version.is_none_or(|version| key.version() == version)
    }

    /// Whether something of this time is meant; `None` for what is damaged.
    pub(crate) fn is_of_age(&self, at: Option<Timestamp>, now: Timestamp) -> bool {
        let Some(age) = self.older_than else { return true };
        at.is_some_and(|at| at.saturating_add(age) < now)
    }
}
