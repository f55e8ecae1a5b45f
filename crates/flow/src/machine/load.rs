//! From a journal's records to a machine that replays them.

use std::collections::{HashSet, VecDeque};

use resurge_store::Timestamp;

use super::branches::is_within;
use super::{Entry, Machine, What};
use crate::callback::{AFTER_FLOW, AFTER_PROCESS};
use crate::payload::Payload;
use crate::record::{
    CancelReason, Completed, Failed, Ordinal, Outcome, Record, Resumed, Started, Succeeded, Value,
};
use crate::step_error::StepErrorKind;
use crate::{Kind, Position};

/// A journal, read.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) started: Started,
    pub(crate) ending: Option<Ending>,
    pub(crate) paused: bool,
    /// What the resources of the last failure left behind.
    pub(crate) suspended: Vec<Value>,
    /// When it was resumed last.
    pub(crate) resumed_at: Option<Timestamp>,
    pub(crate) records: Ordinal,
    /// Name and value of the signals whose taking a resume voided and that nobody has taken since,
    /// in the order they were sent in.
    pub(crate) given_back: VecDeque<(String, Payload)>,
    items: Vec<Item>,
    resumed: Option<HashSet<Position>>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ending {
    Succeeded(Succeeded),
    Failed(Failed),
    Cancelled(Failed),
}

#[derive(Debug)]
struct Item {
    ordinal: Ordinal,
    what: ItemKind,
}

#[derive(Debug)]
enum ItemKind {
    Completed(Completed),
    Fact(Position, Ordinal, Record),
    /// Voided by a resume: only the context values it set remain.
    Sets(Vec<Value>),
    Cancel(CancelReason),
    Voided,
}

impl Item {
    /// The position it belongs to and when that was claimed.
    fn claimed(&self) -> Option<(&Position, Ordinal)> {
        match &self.what {
            ItemKind::Completed(done) => Some((&done.position, done.born)),
            ItemKind::Fact(position, born, _) => Some((position, *born)),
            ItemKind::Sets(_) | ItemKind::Cancel(_) | ItemKind::Voided => None,
        }
    }

    fn void(&mut self) {
        let what = std::mem::replace(&mut self.what, ItemKind::Voided);
        let sets = match what {
            ItemKind::Completed(done) => done.sets,
            ItemKind::Fact(_, _, Record::AttemptFailed(failed)) => failed.sets,
            ItemKind::Sets(sets) => sets,
            _ => Vec::new(),
        };
        if !sets.is_empty() {
            self.what = ItemKind::Sets(sets);
        }
    }
}

impl Journal {
    /// The journal that begins with `started`.
    pub(crate) fn new(started: Started) -> Self {
        Self {
            started,
            ending: None,
            paused: false,
            suspended: Vec::new(),
            resumed_at: None,
            records: 1,
            given_back: VecDeque::new(),
            items: Vec::new(),
            resumed: None,
        }
    }

    /// Adds the next record. A second beginning is refused.
    pub(crate) fn push(&mut self, record: Record) -> Result<(), &'static str> {
        self.records += 1;
        let ordinal = self.records;
        let fact = |position: &Position, born, record: &Record| {
            ItemKind::Fact(position.clone(), born, record.clone())
        };
        let what = match record {
            Record::Started(_) => return Err("it begins twice"),
            Record::Completed(done) => {
                self.take_back(&done);
                ItemKind::Completed(done)
            }
            Record::CancelRequested(cancel) => ItemKind::Cancel(cancel.reason),
            Record::Paused(_) | Record::Unpaused(_) => {
                self.paused = matches!(record, Record::Paused(_));
                return Ok(());
            }
            Record::Resumed(resumed) => {
                self.resume(&resumed);
                return Ok(());
            }
            Record::Succeeded(ending) => {
                self.ending = Some(Ending::Succeeded(ending));
                return Ok(());
            }
            Record::Failed(ending) => {
                self.suspended.clone_from(&ending.suspended);
                self.ending = Some(Ending::Failed(ending));
                return Ok(());
            }
            Record::Cancelled(ending) => {
                self.ending = Some(Ending::Cancelled(ending));
                return Ok(());
            }
            ref known @ Record::Opened(ref r) => fact(&r.position, r.born, known),
            ref known @ Record::AttemptFailed(ref r) => fact(&r.position, r.born, known),
            ref known @ Record::Parked(ref r) => fact(&r.position, r.born, known),
            ref known @ Record::Set(ref r) => fact(&r.position, r.born, known),
            ref known @ Record::Patched(ref r) => fact(&r.position, r.born, known),
        };
        self.items.push(Item { ordinal, what });
        Ok(())
    }

    /// Voids the failures it names, and every later record whose position was claimed only after
    /// one of them was revealed; and the callbacks after the flow and after the processes that failed.
    /// A cancellation that the run goes on without is such a failure.
    fn resume(&mut self, resumed: &Resumed) {
        self.ending = None;
        self.resumed_at = Some(resumed.at);
        let points: HashSet<Position> = resumed.positions.iter().cloned().collect();
        let undone = self.cancellation_undone(&points);
        let failures: Vec<Ordinal> = self
            .items
            .iter()
            .filter(|item| match &item.what {
                ItemKind::Completed(done) => {
                    (matches!(done.outcome, Outcome::Err(_)) && points.contains(&done.position))
                        || (undone.is_some_and(|at| at < item.ordinal) && was_cancelled(done))
                }
                // What is refused because of it has no record: the code may have reacted to that.
                ItemKind::Cancel(_) => undone == Some(item.ordinal),
                _ => false,
            })
            .map(|item| item.ordinal)
            .collect();
        let mut given_back = VecDeque::new();
        for item in &mut self.items {
            let after = |born: Ordinal| {
                failures.iter().any(|failure| item.ordinal > *failure && born >= *failure)
            };
            let void = match &item.what {
                ItemKind::Cancel(_) => undone.is_some(),
                ItemKind::Completed(done)
                    if done.kind == Kind::Callback && runs_again(&done.position, &points) =>
                {
                    true
                }
                _ => item.claimed().is_some_and(|(position, born)| {
                    // Attempts of a failed step are spent with it.
                    failures.contains(&item.ordinal)
                        || (points.contains(position)
                            && !matches!(item.what, ItemKind::Completed(_)))
                        || after(born)
                }),
            };
            if void {
                if let ItemKind::Completed(done) = &item.what
                    && let Some(value) = taken_signal(done)
                {
                    given_back.push_back((done.position.name().to_owned(), value.clone()));
                }
                item.void();
            }
        }
        // Whoever takes one takes the oldest: what is still there was sent after these.
        given_back.append(&mut self.given_back);
        self.given_back = given_back;
        self.resumed = Some(points);
    }

    /// If a signal is taken here, and one of its name was given back, then it is that.
    fn take_back(&mut self, done: &Completed) {
        // INVARIANT: those that were given back are asked before the inbox. Values are not compared:
        // what is sealed may have been sealed again.
        let at = taken_signal(done).and_then(|_| {
            self.given_back.iter().position(|(name, _)| name == done.position.name())
        });
        if let Some(at) = at {
            self.given_back.remove(at);
        }
    }

    /// The completions that no resume voided.
    pub(crate) fn standing(&self) -> Vec<(Ordinal, Position)> {
        let completed = |item: &Item| match &item.what {
            ItemKind::Completed(done) => Some((item.ordinal, done.position.clone())),
            _ => None,
        };
        self.items.iter().filter_map(completed).collect()
    }

    /// The cancellation, if the run failed of it and goes on without. If it failed in what it did
    /// after it, such as undoing steps, it goes on with that.
    fn cancellation_undone(&self, points: &HashSet<Position>) -> Option<Ordinal> {
        let cancelled = self.items.iter().find(|item| matches!(item.what, ItemKind::Cancel(_)))?;
        let own = |point: &Position| {
            self.items.iter().any(|item| match &item.what {
                ItemKind::Completed(done) => done.position == *point && !was_cancelled(done),
                _ => false,
            })
        };
        let goes_on = !points.is_empty() && points.iter().all(own);
        (!goes_on).then_some(cancelled.ordinal)
    }

    /// The machine that replays it.
    pub(crate) fn into_machine(self) -> Machine {
        let mut machine =
            Machine { last: self.records, resumed: self.resumed, ..Machine::default() };
        for Item { ordinal, what } in self.items {
            let what = match what {
                ItemKind::Voided => continue,
                ItemKind::Sets(sets) => What::Sets(sets),
                ItemKind::Cancel(reason) => {
                    machine.cancel_asked = true;
                    What::Cancel(reason)
                }
                ItemKind::Completed(done) => {
                    // What is complete needs no facts.
                    machine.facts.remove(&done.position);
                    let Completed { position, kind, outcome, sets, .. } = done;
                    What::Completion { position: Some(position), slot: None, kind, outcome, sets }
                }
                ItemKind::Fact(position, _, record) => {
                    if let Some(sets) = machine.learn(position, record) {
                        What::Sets(sets)
                    } else {
                        continue;
                    }
                }
            };
            machine.queue.push_back(Entry { ordinal, what });
        }
        machine.live = machine.queue.is_empty() && machine.facts.is_empty();
        machine
    }
}

/// The value of the signal that was taken, if it is one: a wait for one can end without.
fn taken_signal(done: &Completed) -> Option<&Payload> {
    match &done.outcome {
        Outcome::Ok(value) if done.kind == Kind::Signal && !value.is_empty() => Some(value),
        _ => None,
    }
}

fn was_cancelled(done: &Completed) -> bool {
    match &done.outcome {
        Outcome::Err(error) => {
            matches!(error.kind, StepErrorKind::Cancelled | StepErrorKind::DeadlineExceeded)
        }
        Outcome::Ok(_) => false,
    }
}

impl Machine {
    /// Notes a fact; returns context values that become visible with it.
    fn learn(&mut self, position: Position, record: Record) -> Option<Vec<Value>> {
        let fact = self.facts.entry(position).or_default();
        match record {
            Record::Opened(opened) => {
                fact.opened = true;
                fact.kind = Some(opened.kind);
                fact.until = opened.until;
                fact.what = opened.what;
            }
            Record::AttemptFailed(failed) => {
                fact.attempts = failed.attempt;
                fact.next_at = Some(failed.next_at);
                fact.last_error = Some(failed.error);
                fact.parked = None;
                return Some(failed.sets).filter(|sets| !sets.is_empty());
            }
            Record::Parked(parked) => fact.parked = Some(parked),
            Record::Set(set) => {
                fact.kind = Some(Kind::Set);
                fact.set = Some(set.value);
            }
            Record::Patched(_) => fact.kind = Some(Kind::Patch),
            _ => {}
        }
        None
    }
}

/// Whether it is a callback after the flow, or after a process that one of these points lies in.
fn runs_again(callback: &Position, points: &HashSet<Position>) -> bool {
    let scope = callback.scope();
    if scope == AFTER_FLOW {
        return true;
    }
    let process = scope.strip_suffix(AFTER_PROCESS).and_then(|rest| rest.strip_suffix('/'));
    process.is_some_and(|process| points.iter().any(|point| is_within(point, process)))
}
