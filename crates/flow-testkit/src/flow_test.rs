//! A test in virtual time, without crashes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use resurge_flow::{Flows, FlowsOptions, Result as FlowsResult};
use resurge_store::Store;
use resurge_testkit::Failure;
use resurge_testkit::sim::{Sim, Simulation};

use crate::life::Setup;
use crate::{Effects, Life};

/// Runs a test of flows in virtual time: deterministic, on one thread, on a store in memory.
///
/// ```
/// use std::time::Duration;
/// use resurge_flow::{Ctx, FlowResult, StepError};
/// use resurge_flow_testkit::FlowTest;
///
/// async fn remind(ctx: Ctx, who: String) -> FlowResult<String> {
///     ctx.sleep("a month", Duration::from_secs(30 * 24 * 3600)).await?;
///     ctx.step("mail", || async { Ok::<_, StepError>(format!("dear {who}")) }).await
/// }
///
/// let mail = FlowTest::new().run(|life| async move {
///     let reminders = life.flows().register("remind", remind)?;
///     life.start().await?;
///     let run = reminders.start("r-1", "bob".to_owned()).await?;
///     life.finish(&run).await // a month later, in a millisecond
/// });
/// assert_eq!(mail.unwrap(), "dear bob");
/// ```
///
/// It makes a runtime of its own: call it from a plain `#[test]`, not from `#[tokio::test]`.
#[derive(Clone, Debug, Default)]
pub struct FlowTest {
    simulation: Simulation,
    setup: Setup,
}

impl FlowTest {
    /// Seed 1, default options (nothing is swept), ten years of patience.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides run seeds, jitter, and how long the store takes.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.simulation = self.simulation.seed(seed);
        self
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

    /// Runs `test` and returns what it returned.
    ///
    /// # Errors
    /// What it failed with; a panic in it; when it hangs, in real time; when called inside a runtime.
    pub fn run<T, S, F>(&self, test: S) -> Result<T, Failure>
    where
        T: Send + 'static,
        S: Fn(Life) -> F,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        refuse_runtime()?;
        let output = Arc::new(Mutex::new(None));
        self.simulation.run_alone(|sim: Sim<()>| {
            let life =
                Life::new(&self.setup, sim.store(), sim.clock(), Effects::new(), Arc::default(), 0);
            let running = life.map(&test);
            let output = Arc::clone(&output);
            async move {
                let returned = running?.await?;
                *output.lock() = Some(returned);
                Ok(())
            }
        })?;
        let returned = output.lock().take();
        returned.ok_or_else(|| "the test did not return".into())
    }
}

pub(crate) fn refuse_runtime() -> Result<(), Failure> {
    if tokio::runtime::Handle::try_current().is_ok() {
        return Err("called inside a runtime; use a plain #[test], it makes its own".into());
    }
    Ok(())
}
