//! Goes through all crashes of a scenario.

use std::error::Error;
use std::fmt::Debug;
use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use resurge_store::{Clock, Entropy, SeededEntropy, Store, StoreError, Timestamp, VirtualClock};

use super::executor::{Life, live};
use super::{Crash, Ending, Recovered, Report, Sim, SimFailure, SimStore};

/// Why a scenario or a check failed.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Runs `scenario` with a crash after every one of its commits, and `check` on whatever each crash
/// may have left: [`Simulation::run`] with the defaults.
///
/// # Errors
/// The first crash that was not survived.
pub fn enumerate<T, S, SF, C, CF>(scenario: S, check: C) -> Result<Report, SimFailure>
where
    T: Clone + Debug + Send + Sync + 'static,
    S: Fn(Sim<T>) -> SF,
    SF: Future<Output = Result<(), Failure>> + Send + 'static,
    C: Fn(Recovered<T>) -> CF,
    CF: Future<Output = Result<(), Failure>> + Send + 'static,
{
    Simulation::new().run(scenario, check)
}

/// How to go through the crashes of a scenario.
///
/// ```
/// use resurge_testkit::sim::{Recovered, Sim, Simulation};
/// let report = Simulation::new().seed(7).max_cuts(3).second_crashes(2).run(
///     |sim: Sim<()>| async move { Ok(sim.store().sync().await?) },
///     |recovered: Recovered<()>| async move { Ok(recovered.store().sync().await?) },
/// );
/// assert_eq!(report.unwrap().crash_points, 1); // no commit: only the end
/// ```
#[derive(Clone, Debug)]
pub struct Simulation {
    seed: u64,
    max_cuts: usize,
    second_crashes: usize,
    patience: Duration,
    only: Option<Crash>,
}

impl Default for Simulation {
    fn default() -> Self {
        Self {
            seed: 1,
            max_cuts: 8,
            second_crashes: 0,
            patience: Duration::from_secs(60),
            only: None,
        }
    }
}

/// What a scenario left behind.
struct Wreck<T> {
    store: SimStore,
    acks: Arc<[T]>,
    wall: Timestamp,
    crash: Crash,
}

impl Simulation {
    /// Seed 1, at most 8 cuts a crash, no second crashes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides the timing, the randomness and the choice among crashes.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// At most so many different losses for one crash, at least 2: keep all and lose all that may be
    /// lost are always among them, the others are chosen by the seed.
    #[must_use]
    pub fn max_cuts(mut self, cuts: usize) -> Self {
        self.max_cuts = cuts.max(2);
        self
    }

    /// For each crash, up to so many second ones while the check (the recovery) is writing.
    #[must_use]
    pub fn second_crashes(mut self, per_crash: usize) -> Self {
        self.second_crashes = per_crash;
        self
    }

    /// How long, in real time, one run may hang. 60 seconds by default.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Only the crash that a failure named.
    ///
    /// # Errors
    /// `Invalid` when the line is none.
    pub fn replay(mut self, line: &str) -> Result<Self, StoreError> {
        let crash: Crash = line.parse()?;
        self.seed = crash.seed;
        self.only = Some(crash);
        Ok(self)
    }

    /// Runs `scenario` with a crash after each of its commits, in both [`Ending`]s, and once to its
    /// end; for each, runs `check` on every state the crash may have left.
    ///
    /// # Errors
    /// The first crash for which `check` failed or panicked; or a scenario that fails, panics or
    /// hangs without a crash. After a crash the scenario's own error is expected, a panic is not.
    pub fn run<T, S, SF, C, CF>(&self, scenario: S, check: C) -> Result<Report, SimFailure>
    where
        T: Clone + Debug + Send + Sync + 'static,
        S: Fn(Sim<T>) -> SF,
        SF: Future<Output = Result<(), Failure>> + Send + 'static,
        C: Fn(Recovered<T>) -> CF,
        CF: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        if let Some(crash) = &self.only {
            return self.run_one(crash, &scenario, &check);
        }
        let whole = self.wreck(None, Ending::Kill, &scenario)?;
        let mut report = Report {
            commits: whole.store.commits(),
            acknowledged: whole.acks.len(),
            ..Report::default()
        };
        for commits in 1..=report.commits {
            for ending in [Ending::Kill, Ending::Poison] {
                let wreck = self.wreck(Some(commits), ending, &scenario)?;
                report.diverged += usize::from(wreck.crash.after.is_none());
                self.salvage(&wreck, &check, &mut report)?;
            }
        }
        self.salvage(&whole, &check, &mut report)?;
        Ok(report)
    }

    /// Runs `scenario` once, without a crash: deterministic, in virtual time, on one thread.
    ///
    /// # Errors
    /// When it fails, panics or hangs.
    pub fn run_alone<T, S, SF>(&self, scenario: S) -> Result<(), SimFailure>
    where
        T: Clone + Debug + Send + Sync + 'static,
        S: Fn(Sim<T>) -> SF,
        SF: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        self.wreck(None, Ending::Kill, &scenario).map(drop)
    }

    fn run_one<T, S, SF, C, CF>(
        &self,
        crash: &Crash,
        scenario: &S,
        check: &C,
    ) -> Result<Report, SimFailure>
    where
        T: Clone + Debug + Send + Sync + 'static,
        S: Fn(Sim<T>) -> SF,
        SF: Future<Output = Result<(), Failure>> + Send + 'static,
        C: Fn(Recovered<T>) -> CF,
        CF: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let wreck = self.wreck(crash.after, crash.ending, scenario)?;
        let mut report = Report { crash_points: 1, ..Report::default() };
        report.checked_acks = wreck.acks.len();
        let mut store = wreck.store.reopen_with(crash.keep);
        if let Some((after, keep)) = crash.again {
            store.crash_after(after, crash.ending);
            // What it reports after the crash is not evidence.
            drop(self.recover(&wreck, &store, crash, check));
            store = store.reopen_with(keep);
            report.second_crashes = 1;
        }
        self.recover(&wreck, &store, crash, check)?;
        Ok(report)
    }

    /// Runs the scenario up to its crash.
    fn wreck<T, S, SF>(
        &self,
        after: Option<usize>,
        ending: Ending,
        scenario: &S,
    ) -> Result<Wreck<T>, SimFailure>
    where
        T: Clone + Debug + Send + Sync + 'static,
        S: Fn(Sim<T>) -> SF,
        SF: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let disk = SimStore::new(self.seed);
        if let Some(commits) = after {
            disk.crash_after(commits, ending);
        }
        let clock = VirtualClock::new();
        let store = Store::new(disk.clone())
            .with_clock(clock.clone())
            .with_entropy(SeededEntropy::new(self.seed ^ 0x5ce7_a210));
        let acks = Arc::new(Mutex::new(Vec::new()));
        let sim = Sim { store, clock: clock.clone(), acks: Arc::clone(&acks) };
        let crash = Crash { seed: self.seed, after, ending, keep: disk.commits(), again: None };
        let life = live(&disk, &clock, self.patience, || scenario(sim));
        let reached = disk.reached_its_crash();
        let crash = Crash { after: after.filter(|_| reached), keep: disk.commits(), ..crash };
        match life {
            Err(cause) if reached => return Err(SimFailure::at(crash, cause)),
            Err(cause) => return Err(SimFailure::without_crash(cause)),
            Ok(Life::Returned(Err(cause))) if !reached => {
                return Err(SimFailure::without_crash(cause));
            }
            Ok(Life::Returned(_) | Life::Died) => {}
        }
        let acks = acks.lock().iter().cloned().collect();
        Ok(Wreck { store: disk, acks, wall: clock.now(), crash })
    }

    /// Checks every state the crash may have left.
    fn salvage<T, C, CF>(
        &self,
        wreck: &Wreck<T>,
        check: &C,
        report: &mut Report,
    ) -> Result<(), SimFailure>
    where
        T: Clone + Debug + Send + Sync + 'static,
        C: Fn(Recovered<T>) -> CF,
        CF: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let choice = SeededEntropy::new(self.seed ^ wreck.store.commits() as u64);
        for keep in chosen(wreck.store.cuts(), self.max_cuts, &choice) {
            let crash = Crash { keep, ..wreck.crash.clone() };
            let store = wreck.store.reopen_with(keep);
            self.recover(wreck, &store, &crash, check)?;
            report.crash_points += 1;
            report.checked_acks += wreck.acks.len();
            let commits = store.commits();
            if self.second_crashes == 0 || commits == 0 {
                continue;
            }
            for after in chosen(1..=commits, self.second_crashes, &choice) {
                let store = wreck.store.reopen_with(keep);
                store.crash_after(after, crash.ending);
                // What it reports after the crash is not evidence.
                drop(self.recover(wreck, &store, &crash, check));
                for again in chosen(store.cuts(), 2, &choice) {
                    let crash = Crash { again: Some((after, again)), ..crash.clone() };
                    self.recover(wreck, &store.reopen_with(again), &crash, check)?;
                    report.crash_points += 1;
                    report.second_crashes += 1;
                    report.checked_acks += wreck.acks.len();
                }
            }
        }
        Ok(())
    }

    /// Runs the check on one state.
    fn recover<T, C, CF>(
        &self,
        wreck: &Wreck<T>,
        disk: &SimStore,
        crash: &Crash,
        check: &C,
    ) -> Result<(), SimFailure>
    where
        T: Clone + Debug + Send + Sync + 'static,
        C: Fn(Recovered<T>) -> CF,
        CF: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let clock = VirtualClock::starting_at(wreck.wall);
        // Another process: the same randomness as before would hide collisions of ids.
        let seed = self.seed ^ (crash.keep as u64) << 32 ^ u64::from(crash.again.is_some());
        let store = Store::new(disk.clone())
            .with_clock(clock.clone())
            .with_entropy(SeededEntropy::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let recovered = Recovered {
            store,
            clock: clock.clone(),
            acks: Arc::clone(&wreck.acks),
            crash: crash.clone(),
        };
        let life = live(disk, &clock, self.patience, || check(recovered));
        match life {
            Ok(Life::Returned(Ok(()))) => Ok(()),
            Ok(Life::Returned(Err(cause))) | Err(cause) => {
                Err(SimFailure::at(crash.clone(), cause))
            }
            Ok(Life::Died) => Err(SimFailure::at(crash.clone(), "the recovery died".into())),
        }
    }
}

/// At most `max` numbers of the range, both ends first.
fn chosen(range: RangeInclusive<usize>, max: usize, choice: &SeededEntropy) -> Vec<usize> {
    let (low, high) = (*range.start(), *range.end());
    if range.clone().count() <= max {
        return range.rev().collect();
    }
    let mut chosen = vec![high, low];
    chosen.truncate(max);
    // Bounded: the range has more numbers than are wanted.
    while chosen.len() < max {
        let number = choice.next_u64().unwrap_or_default();
        let width = (high - low + 1) as u64;
        let candidate = low + usize::try_from(number % width).unwrap_or_default();
        if !chosen.contains(&candidate) {
            chosen.push(candidate);
        }
    }
    chosen
}
