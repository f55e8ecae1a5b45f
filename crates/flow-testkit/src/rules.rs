//! What must hold of effects, whatever crashed: each step's effect happens once, or once more only
//! where it was in flight or its result not yet durable.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use resurge_flow::record::{Completed, Record};
use resurge_flow::replay::standing;
use resurge_flow::{FlowError, Flows, FlowsOptions, Position};
use resurge_store::Store;
use resurge_testkit::Failure;

use crate::effects::{Effect, Spot};

type Place = (String, Position);

/// The histories of all runs that had effects or were started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histories(BTreeMap<String, Vec<Record>>);

impl Histories {
    /// Read from a store; nothing is written and nothing runs.
    pub(crate) async fn read(
        store: &Store,
        runs: impl IntoIterator<Item = String>,
    ) -> Result<Self, Failure> {
        let flows = Flows::open(store, FlowsOptions::default())?;
        let mut histories = BTreeMap::new();
        for run in runs.into_iter().collect::<BTreeSet<_>>() {
            match flows.history(&run).await {
                Ok(records) => drop(histories.insert(run, records)),
                Err(FlowError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self(histories))
    }

    fn of(&self, run: &str) -> &[Record] {
        self.0.get(run).map(Vec::as_slice).unwrap_or_default()
    }

    /// Completions that count, with the number of their record.
    fn standing(&self) -> HashSet<(String, u64, Position)> {
        let mut all = HashSet::new();
        for (run, records) in &self.0 {
            for (ordinal, position) in standing(records) {
                all.insert((run.clone(), ordinal, position));
            }
        }
        all
    }

    /// Everything that has completed, voided or not.
    fn completed(&self) -> HashSet<Place> {
        let mut all = HashSet::new();
        for (run, records) in &self.0 {
            for record in records {
                if let Record::Completed(done) = record {
                    all.insert((run.clone(), done.position.clone()));
                }
            }
        }
        all
    }

    fn resumes(&self, run: &str) -> usize {
        self.of(run).iter().filter(|record| matches!(record, Record::Resumed(_))).count()
    }

    /// The last attempt that is known to have failed, of each position since the last resume.
    fn attempts(&self, run: &str) -> HashMap<&Position, u32> {
        let mut attempts = HashMap::new();
        for record in self.of(run) {
            match record {
                Record::AttemptFailed(failed) => {
                    attempts.insert(&failed.position, failed.attempt);
                }
                Record::Resumed(_) => attempts.clear(),
                _ => {}
            }
        }
        attempts
    }
}

/// What a script does when nothing crashes.
#[derive(Debug)]
pub(crate) struct Baseline {
    runs: HashSet<String>,
    effects: HashMap<Place, usize>,
    /// What a step's body counts.
    names: HashMap<Place, String>,
    /// By name, what was counted outside of any step.
    outside: HashMap<String, usize>,
    /// When each position completed, and what was the last completion before it was asked for.
    /// Without those that completed more than once.
    order: HashMap<Place, (u64, u64)>,
}

impl Baseline {
    pub(crate) fn new(effects: &[Effect], histories: &Histories) -> Self {
        let mut order: HashMap<Place, Option<(u64, u64)>> = HashMap::new();
        for (run, records) in &histories.0 {
            for (ordinal, record) in (1..).zip(records) {
                if let Record::Completed(Completed { position, born, .. }) = record {
                    let place = (run.clone(), position.clone());
                    let first = order.entry(place).or_insert(Some((ordinal, *born)));
                    if *first != Some((ordinal, *born)) {
                        *first = None;
                    }
                }
            }
        }
        let order = order.into_iter().filter_map(|(place, at)| Some((place, at?))).collect();
        let runs = histories.0.keys().cloned().collect();
        let named = |effect: &Effect| Some((effect.spot.as_ref()?.place(), effect.name.clone()));
        Self {
            runs,
            effects: executions(spots(effects)),
            names: effects.iter().filter_map(named).collect(),
            outside: outside(effects),
            order,
        }
    }
}

fn spots(effects: &[Effect]) -> impl Iterator<Item = &Spot> {
    effects.iter().filter_map(|effect| effect.spot.as_ref())
}

fn outside(effects: &[Effect]) -> HashMap<String, usize> {
    let mut times = HashMap::new();
    for effect in effects.iter().filter(|effect| effect.spot.is_none()) {
        *times.entry(effect.name.clone()).or_default() += 1;
    }
    times
}

fn executions<'a>(spots: impl Iterator<Item = &'a Spot>) -> HashMap<Place, usize> {
    let mut times = HashMap::new();
    for spot in spots {
        *times.entry(spot.place()).or_default() += 1;
    }
    times
}

/// Everything that is known of one crash and what came after it.
#[derive(Debug)]
pub(crate) struct Case<'a> {
    pub(crate) baseline: &'a Baseline,
    pub(crate) effects: &'a [Effect],
    /// What was found at the beginning of life 1, 2, and so on.
    pub(crate) found: &'a [Histories],
    pub(crate) end: &'a Histories,
}

impl Case<'_> {
    /// How many effects happened once more than without a crash.
    pub(crate) fn check(&self) -> Result<usize, Failure> {
        self.nothing_durable_again()?;
        self.nothing_before_its_causes()?;
        self.same_keys()?;
        self.once_or_once_more()
    }

    /// A result that a life found durable is not made again by it or a later one; nor is an attempt
    /// that was recorded as failed.
    fn nothing_durable_again(&self) -> Result<(), Failure> {
        let end = self.end.standing();
        for (number, found) in (1..).zip(self.found) {
            let kept: HashSet<Place> = found
                .standing()
                .into_iter()
                .filter(|standing| end.contains(standing))
                .map(|(run, _, position)| (run, position))
                .collect();
            for effect in self.effects.iter().filter(|effect| effect.life >= number) {
                let Some(spot) = &effect.spot else { continue };
                let Spot { run, position, attempt, .. } = spot;
                let again =
                    || format!("effect `{}` of step {position} of run `{run}`", effect.name);
                if kept.contains(&spot.place()) {
                    let what = "happened again although the step's result was durable";
                    return Err(format!("{} {what}", again()).into());
                }
                let failed = found.attempts(run).get(position).copied().unwrap_or(0);
                if found.resumes(run) == self.end.resumes(run) && failed >= *attempt {
                    let what = "happened again although that attempt was recorded as failed";
                    return Err(format!("{} (attempt {attempt}) {what}", again()).into());
                }
            }
        }
        Ok(())
    }

    /// A body that is not deferred began only when everything that led to it was durable: so when a
    /// crash lost a step's result, nothing that came after that step had an effect.
    fn nothing_before_its_causes(&self) -> Result<(), Failure> {
        let Some(found) = self.found.first() else { return Ok(()) };
        // Also what a resume voided meanwhile: it was durable.
        let kept = found.completed();
        let first: Vec<&Spot> = self
            .effects
            .iter()
            .filter(|effect| effect.life == 0)
            .filter_map(|effect| effect.spot.as_ref())
            .collect();
        for lost in first.iter().filter(|spot| !kept.contains(&spot.place())) {
            let Some((completed, _)) = self.baseline.order.get(&lost.place()) else { continue };
            for later in first.iter().filter(|spot| spot.run == lost.run && !spot.deferred) {
                let born = self.baseline.order.get(&later.place()).map(|(_, born)| *born);
                if born.is_some_and(|born| born >= *completed) {
                    return Err(format!(
                        "step {} of run `{}` began before the result of step {} was durable: the crash lost it",
                        later.position, later.run, lost.position
                    )
                    .into());
                }
            }
        }
        Ok(())
    }

    fn same_keys(&self) -> Result<(), Failure> {
        let mut keys: HashMap<Place, &str> = HashMap::new();
        for spot in spots(self.effects) {
            let known = *keys.entry(spot.place()).or_insert(&spot.idempotency_key);
            if known != spot.idempotency_key {
                let (position, run) = (&spot.position, &spot.run);
                return Err(
                    format!("step {position} of run `{run}` has two idempotency keys").into()
                );
            }
        }
        Ok(())
    }

    fn once_or_once_more(&self) -> Result<usize, Failure> {
        let crashes = self.found.len();
        if let Some(run) = self.end.0.keys().find(|run| !self.baseline.runs.contains(*run)) {
            return Err(format!("there is a run `{run}`, and no such run without a crash").into());
        }
        for (name, times) in outside(self.effects) {
            if times > self.baseline.outside.get(&name).copied().unwrap_or(0) {
                return Err(format!(
                    "effect `{name}` happened again: it is outside of a step's body, where every execution repeats it"
                )
                .into());
            }
        }
        let times = executions(spots(self.effects));
        let mut repeated = 0;
        for (place, times) in &times {
            let usual = self.baseline.effects.get(place).copied().unwrap_or(1);
            let (run, position) = place;
            if *times > usual + crashes {
                return Err(format!(
                    "step {position} of run `{run}` had {times} effects; without a crash it has {usual}, and there were {crashes}"
                )
                .into());
            }
            repeated += times.saturating_sub(usual);
        }
        for (run, _, position) in self.end.standing() {
            let place = (run, position);
            // A memoised result may be another run's work.
            let elsewhere = |name: &String| self.effects.iter().any(|effect| effect.name == *name);
            let missing = self.baseline.names.get(&place).is_some_and(|name| !elsewhere(name));
            if missing && !times.contains_key(&place) {
                let (run, position) = place;
                return Err(
                    format!("step {position} of run `{run}` has a result and no effect").into()
                );
            }
        }
        Ok(repeated)
    }
}
