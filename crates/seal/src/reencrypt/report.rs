//! What the job found and did.

use std::collections::BTreeMap;
use std::fmt;

use resurge_store::Key;

use super::Unread;
use crate::references::Tally;
use crate::{KeyId, SealError};

/// At most so many failures are listed; all are counted.
const LISTED: usize = 100;

/// What [`Reencrypt::run`](crate::Reencrypt::run) found and did. After a resumed run, what an earlier one had
/// done is not in it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReencryptReport {
    /// The key everything is to be sealed with.
    pub target: KeyId,
    /// Whether it went on where an earlier run had stopped.
    pub resumed: bool,
    /// Records looked at.
    pub records: u64,
    /// Records replaced.
    pub rewritten: u64,
    /// Values that were sealed anew, or would be in a dry run.
    pub resealed: u64,
    /// Values found sealed, by key, before anything was done.
    pub by_key: BTreeMap<KeyId, Tally>,
    /// Times a record had changed since it was read; it was read again.
    pub conflicts: u64,
    /// Records that changed so often that they were left to the next run.
    pub left: u64,
    /// Values whose key is missing, revoked, destroyed or unavailable.
    pub missing_key: u64,
    /// Values and records that are damaged, or do not open where they are.
    pub corrupt: u64,
    /// Records that are something else.
    pub not_ours: u64,
    /// The first hundred failures.
    pub failures: Vec<ReencryptFailure>,
}

/// A value, or a record, that could not be sealed anew.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReencryptFailure {
    /// Which kind of place it is in.
    pub place: String,
    /// The record.
    pub key: Key,
    /// Why, roughly.
    pub class: FailureClass,
    /// Why.
    pub message: String,
}

/// Why a value could not be sealed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureClass {
    /// Its key is missing, revoked, destroyed or unavailable: supply it and run again.
    MissingKey,
    /// It is damaged, or was moved from another place.
    Corrupt,
}

/// What was found in one record.
#[derive(Default)]
pub(super) struct Found {
    pub(super) resealed: u64,
    by_key: BTreeMap<KeyId, Tally>,
    failures: Vec<SealError>,
}

impl Found {
    pub(super) fn saw(&mut self, key: KeyId, fixed: bool) {
        self.by_key.entry(key).or_default().add(fixed);
    }

    pub(super) fn fail(&mut self, e: SealError) {
        self.failures.push(e);
    }
}

impl ReencryptReport {
    pub(super) fn new(target: KeyId) -> Self {
        Self {
            target,
            resumed: false,
            records: 0,
            rewritten: 0,
            resealed: 0,
            by_key: BTreeMap::new(),
            conflicts: 0,
            left: 0,
            missing_key: 0,
            corrupt: 0,
            not_ours: 0,
            failures: Vec::new(),
        }
    }

    /// True when nothing is left to do: everything that can be replaced is sealed with the target.
    pub fn is_complete(&self) -> bool {
        self.left == 0 && self.missing_key == 0 && self.corrupt == 0
    }

    pub(super) fn add(&mut self, place: &str, key: &Key, found: Found, unread: Option<&Unread>) {
        self.records += 1;
        self.resealed += found.resealed;
        for (id, tally) in found.by_key {
            let all = self.by_key.entry(id).or_default();
            all.rewritable += tally.rewritable;
            all.fixed += tally.fixed;
        }
        for e in found.failures {
            self.fail(place, key, class_of(&e), e.to_string());
        }
        match unread {
            None => {}
            Some(Unread::NotOurs) => self.not_ours += 1,
            Some(Unread::Corrupt(what)) => {
                self.fail(place, key, FailureClass::Corrupt, what.clone());
            }
        }
    }

    fn fail(&mut self, place: &str, key: &Key, class: FailureClass, message: String) {
        match class {
            FailureClass::MissingKey => self.missing_key += 1,
            FailureClass::Corrupt => self.corrupt += 1,
        }
        if self.failures.len() < LISTED {
            let (place, key) = (place.to_owned(), key.clone());
            self.failures.push(ReencryptFailure { place, key, class, message });
        }
    }
}

fn class_of(e: &SealError) -> FailureClass {
    match e {
        SealError::NotAuthentic { .. } | SealError::Malformed { .. } => FailureClass::Corrupt,
        _ => FailureClass::MissingKey,
    }
}

impl fmt::Display for ReencryptReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} records rewritten, {} values sealed with key {}; {} without their key, {} damaged, {} not ours",
            self.rewritten,
            self.records,
            self.resealed,
            self.target,
            self.missing_key,
            self.corrupt,
            self.not_ours
        )
    }
}
