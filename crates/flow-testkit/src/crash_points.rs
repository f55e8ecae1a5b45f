//! Every place a script can crash at: the flows are started again and driven to their end.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use resurge_flow::{Flows, FlowsOptions, Result as FlowsResult};
use resurge_store::{Store, StoreError};
use resurge_testkit::Failure;
use resurge_testkit::sim::{Crash, Recovered, Sim, Simulation};

use crate::flow_test::refuse_runtime;
use crate::life::{Setup, Told};
use crate::report::{CrashFailure, CrashReport};
use crate::rules::{Baseline, Case, Histories};
use crate::{Effects, Life};

/// Crashes a script after every one of its commits, with everything each crash may take, and starts
/// the flows again on what is left.
///
/// The script registers flows, starts runs, sends signals, waits for results. In each later life it
/// runs again from its beginning, as a service does that is started again. At every crash point its
/// result must be the one without a crash, and of the effects counted by [`Effects::ran`] in bodies:
///
/// * a step whose result was found durable has no effect again;
/// * no other step has more than one effect more for each crash;
/// * a step begins only when what led to it is durable (unless it is deferred);
/// * the idempotency key of a step is the same in every life.
///
/// ```
/// use resurge_flow::{Ctx, FlowResult, StepError};
/// use resurge_flow_testkit::{CrashPoints, Effects};
///
/// async fn order(ctx: Ctx, effects: Effects) -> FlowResult<u32> {
///     let held = ctx.step("reserve", || async { Ok::<_, StepError>(effects.ran("reserve")) });
///     held.await?;
///     ctx.step("charge", || async {
///         effects.ran("charge");
///         Ok::<_, StepError>(7)
///     })
///     .await
/// }
///
/// let report = CrashPoints::new().run(|life| async move {
///     let effects = life.effects().clone();
///     let orders = life.flows().register("order", move |ctx, ()| order(ctx, effects.clone()))?;
///     life.start().await?;
///     let run = life.begin(&orders, "order-1", ()).await?;
///     life.finish(&run).await
/// });
/// assert!(report.unwrap().crash_points > 10);
/// ```
///
/// It makes runtimes of its own: call it from a plain `#[test]`.
#[derive(Clone, Debug)]
pub struct CrashPoints {
    simulation: Simulation,
    setup: Setup,
    seed: u64,
}

impl Default for CrashPoints {
    fn default() -> Self {
        Self { simulation: Simulation::new(), setup: Setup::default(), seed: 1 }
    }
}

/// What outlives a process.
#[derive(Clone, Default)]
struct Outside {
    effects: Effects,
    told: Arc<Mutex<Told>>,
    found: Arc<Mutex<Vec<Histories>>>,
}

impl Outside {
    fn fork(&self) -> Self {
        let found = self.found.lock().clone();
        Self {
            effects: self.effects.fork(found.len() + 1),
            told: Arc::new(Mutex::new(self.told.lock().clone())),
            found: Arc::new(Mutex::new(found)),
        }
    }

    /// Every run that anybody can know of.
    fn runs(&self) -> Vec<String> {
        let mut runs: Vec<String> = self.told.lock().started.iter().cloned().collect();
        runs.extend(self.effects.seen().into_iter().filter_map(|effect| Some(effect.spot?.run)));
        runs
    }
}

/// Which life a recovery goes on from.
#[derive(Default)]
struct Lives {
    crashed: Outside,
    /// A recovery; the next crash may be during it.
    recovery: Option<Outside>,
}

impl Lives {
    fn next(&mut self, crash: &Crash) -> Outside {
        if let (Some(_), Some(recovery)) = (&crash.again, &self.recovery) {
            // The recovery that crashed a second time was the one before.
            return recovery.fork();
        }
        let next = self.crashed.fork();
        self.recovery = Some(next.clone());
        next
    }
}

impl CrashPoints {
    /// Seed 1, at most 8 different losses for each crash, no second crashes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides the timing, the randomness and the choice among what crashes take.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self.simulation = self.simulation.seed(seed);
        self
    }

    /// At most so many different losses for one crash, at least 2.
    #[must_use]
    pub fn max_cuts(mut self, cuts: usize) -> Self {
        self.simulation = self.simulation.max_cuts(cuts);
        self
    }

    /// For each crash, up to so many second ones while the flows are recovering.
    #[must_use]
    pub fn second_crashes(mut self, per_crash: usize) -> Self {
        self.simulation = self.simulation.second_crashes(per_crash);
        self
    }

    /// Only the crash that a failure named.
    ///
    /// # Errors
    /// `Invalid` when the line is none.
    pub fn replay(mut self, line: &str) -> Result<Self, StoreError> {
        self.seed = line.parse::<Crash>()?.seed;
        self.simulation = self.simulation.replay(line)?;
        Ok(self)
    }

    /// Other options than the default ones.
    #[must_use]
    pub fn options(mut self, options: FlowsOptions) -> Self {
        self.setup.options(options);
        self
    }

    /// Opens the flows this way, for example with keys.
    #[must_use]
    pub fn open(
        mut self,
        open: impl Fn(&Store) -> FlowsResult<Flows> + Send + Sync + 'static,
    ) -> Self {
        self.setup.open(open);
        self
    }

    /// How long, in virtual time, [`Life::finish`] waits before it says that nothing will happen; ten
    /// years by default.
    #[must_use]
    pub fn horizon(mut self, horizon: Duration) -> Self {
        self.setup.horizon = horizon;
        self
    }

    /// Runs `script` once without a crash, and then with each.
    ///
    /// # Errors
    /// The first crash that was not survived, with the line that repeats it; a script that fails
    /// without a crash.
    pub fn run<T, S, F>(&self, script: S) -> Result<CrashReport, CrashFailure>
    where
        T: PartialEq + Debug + Send + Sync + 'static,
        S: Fn(Life) -> F,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        refuse_runtime().map_err(CrashFailure::without_crash)?;
        let (expected, baseline, effects) = self.baseline(&script)?;
        let (expected, baseline) = (Arc::new(expected), Arc::new(baseline));
        let lives = Mutex::new(Lives::default());
        let (checked, repeated) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let scenario = |sim: Sim<()>| {
            let outside = Outside::default();
            *lives.lock() = Lives { crashed: outside.clone(), recovery: None };
            let running = self.life(sim.store(), sim.clock(), &outside, 0).map(&script);
            let expected = Arc::clone(&expected);
            async move { same(&running?.await?, &expected) }
        };
        let check = |recovered: Recovered<()>| {
            let outside = lives.lock().next(recovered.crash());
            let number = outside.found.lock().len() + 1;
            let store = recovered.store().clone();
            let running = self.life(&store, recovered.clock(), &outside, number).map(&script);
            let (expected, baseline) = (Arc::clone(&expected), Arc::clone(&baseline));
            let (checked, repeated) = (Arc::clone(&checked), Arc::clone(&repeated));
            async move {
                let found = Histories::read(&store, outside.runs()).await?;
                outside.found.lock().push(found);
                same(&running?.await?, &expected)?;
                let end = Histories::read(&store, outside.runs()).await?;
                let (effects, found) = (outside.effects.seen(), outside.found.lock().clone());
                let case =
                    Case { baseline: &baseline, effects: &effects, found: &found, end: &end };
                repeated.fetch_add(case.check()?, Ordering::Relaxed);
                checked.fetch_add(effects.len(), Ordering::Relaxed);
                Ok(())
            }
        };
        let report = self.simulation.run(scenario, check)?;
        Ok(CrashReport {
            seed: self.seed,
            crash_points: report.crash_points,
            second_crashes: report.second_crashes,
            commits: report.commits,
            effects,
            checked_effects: checked.load(Ordering::Relaxed),
            repeated: repeated.load(Ordering::Relaxed),
            diverged: report.diverged,
        })
    }

    fn life(
        &self,
        store: &Store,
        clock: &resurge_store::VirtualClock,
        outside: &Outside,
        number: usize,
    ) -> Result<Life, Failure> {
        let told = Arc::clone(&outside.told);
        Ok(Life::new(&self.setup, store, clock, outside.effects.clone(), told, number)?)
    }

    /// The script without a crash: what it returns, in which order, and how many effects it has.
    fn baseline<T, S, F>(&self, script: &S) -> Result<(T, Baseline, usize), CrashFailure>
    where
        T: Send + 'static,
        S: Fn(Life) -> F,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let returned = Arc::new(Mutex::new(None));
        // The simulation is told of no crash here, whatever is to be replayed later.
        self.simulation.run_alone(|sim: Sim<()>| {
            let outside = Outside::default();
            let running = self.life(sim.store(), sim.clock(), &outside, 0).map(script);
            let returned = Arc::clone(&returned);
            async move {
                let output = running?.await?;
                let histories = Histories::read(sim.store(), outside.runs()).await?;
                let effects = outside.effects.seen();
                let baseline = Baseline::new(&effects, &histories);
                *returned.lock() = Some((output, baseline, effects.len()));
                Ok(())
            }
        })?;
        let returned = returned.lock().take();
        returned.ok_or_else(|| CrashFailure::without_crash("the script did not return"))
    }
}

fn same<T: PartialEq + Debug>(result: &T, expected: &T) -> Result<(), Failure> {
    if result == expected {
        return Ok(());
    }
    Err(format!("the result is {result:?}, without a crash it is {expected:?}").into())
}
