//! One life of a process that runs flows, and the client that lives through its crashes.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use resurge_flow::{
    FlowError, FlowRef, Flows, FlowsOptions, Result as FlowsResult, RunHandle, StartReport,
};
use resurge_store::{Clock, Store, VirtualClock};
use resurge_testkit::Failure;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Effects;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

type Open = dyn Fn(&Store) -> FlowsResult<Flows> + Send + Sync;

/// How a life's flows are opened, and how long it waits.
#[derive(Clone)]
pub(crate) struct Setup {
    open: Arc<Open>,
    pub(crate) horizon: Duration,
}

impl Setup {
    pub(crate) fn open(
        &mut self,
        open: impl Fn(&Store) -> FlowsResult<Flows> + Send + Sync + 'static,
    ) {
        self.open = Arc::new(open);
    }

    pub(crate) fn options(&mut self, options: FlowsOptions) {
        self.open(move |store| Flows::open(store, options.clone()));
    }
}

impl Default for Setup {
    fn default() -> Self {
        // Nothing of the tests is old enough to be swept, and time that stands still says so.
        let options = FlowsOptions { sweep_every: YEAR * 100, ..FlowsOptions::default() };
        Self {
            open: Arc::new(move |store| Flows::open(store, options.clone())),
            horizon: YEAR * 10,
        }
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("horizon", &self.horizon).finish_non_exhaustive()
    }
}

/// What the client was told; it forgets nothing when the process dies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) started: HashSet<String>,
    signals: HashSet<(String, String, usize)>,
}

/// A process that runs flows, from its start to its end or crash: flows on a store, in virtual time.
///
/// **Time passes only when nothing else can happen**: then it jumps to the next timer. So a test
/// that awaits a result, or [`advance`](Self::advance), sees a month go by at once, and between two
/// such calls time stands still. Bodies must not wait for anything real, such as the network: time
/// would go on past them.
///
/// After a crash the same script runs again in the next life. [`begin`](Self::begin) and
/// [`signal`](Self::signal) do what a client does who remembers what it was told, so scripts can be
/// written as if there were no crashes.
#[derive(Clone)]
pub struct Life {
    flows: Flows,
    clock: VirtualClock,
    effects: Effects,
    told: Arc<Mutex<Told>>,
    /// How often each signal was sent in this life.
    sent: Arc<Mutex<HashMap<(String, String), usize>>>,
    horizon: Duration,
    number: usize,
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Life {
    pub(crate) fn new(
        setup: &Setup,
        store: &Store,
        clock: &VirtualClock,
        effects: Effects,
        told: Arc<Mutex<Told>>,
        number: usize,
    ) -> FlowsResult<Self> {
        Ok(Self {
            flows: (setup.open)(store)?,
            clock: clock.clone(),
            effects,
            told,
            sent: Arc::default(),
            horizon: setup.horizon,
            number,
        })
    }

    /// The flows, opened and not started: register yours, then [`start`](Self::start).
    pub fn flows(&self) -> &Flows {
        &self.flows
    }

    /// [`Flows::start`].
    ///
    /// # Errors
    /// As there.
    pub async fn start(&self) -> FlowsResult<StartReport> {
        self.flows.start().await
    }

    /// The store below.
    pub fn store(&self) -> &Store {
        self.flows.store()
    }

    /// The clock.
    pub fn clock(&self) -> &VirtualClock {
        &self.clock
    }

    /// What the bodies did, over all lives.
    pub fn effects(&self) -> &Effects {
        &self.effects
    }

    /// How many crashes came before.
    pub fn crashes(&self) -> usize {
        self.number
    }

    /// Lets this much time pass, with everything that happens in it.
    pub async fn advance(&self, by: Duration) {
        self.clock.sleep(by).await;
    }

    /// Starts a run, as a client does that tries again until it is told. A run that was acknowledged
    /// in an earlier life must be there.
    ///
    /// # Errors
    /// Those of [`FlowRef::start`]; an acknowledged start that was lost.
    pub async fn begin<I, O>(
        &self,
        flow: &FlowRef<I, O>,
        id: &str,
        input: I,
    ) -> Result<RunHandle<O>, Failure>
    where
        I: Serialize + DeserializeOwned + Send + 'static,
        O: Serialize + DeserializeOwned + Send + 'static,
    {
        if self.told.lock().started.contains(id) {
            match flow.run(id).state().await {
                Err(FlowError::NotFound { .. }) => {
                    return Err(format!("acknowledged and lost: the start of run `{id}`").into());
                }
                other => drop(other?),
            }
        }
        let run = flow.start(id, input).await?;
        self.told.lock().started.insert(id.to_owned());
        Ok(run)
    }

    /// Sends a signal, as a client does that tries again until it is told: what was acknowledged in
    /// an earlier life is not sent again, so a lost one leaves the run waiting. A run that has ended
    /// needs none.
    ///
    /// # Errors
    /// Those of [`RunHandle::signal`], except `Ended`.
    pub async fn signal<O, T: Serialize + ?Sized>(
        &self,
        run: &RunHandle<O>,
        name: &str,
        value: &T,
    ) -> FlowsResult<()> {
        let nth = {
            let mut sent = self.sent.lock();
            let sent = sent.entry((run.id().to_owned(), name.to_owned())).or_default();
            *sent += 1;
            *sent
        };
        let signal = (run.id().to_owned(), name.to_owned(), nth);
        if self.told.lock().signals.contains(&signal) {
            return Ok(());
        }
        match run.signal(name, value).await {
            Ok(()) | Err(FlowError::Ended { .. }) => {}
            Err(error) => return Err(error),
        }
        self.told.lock().signals.insert(signal);
        Ok(())
    }

    /// Sends a signal with an id, in every life anew, as a client does that forgets what it was told:
    /// it arrives once all the same.
    ///
    /// # Errors
    /// Those of [`RunHandle::signal_once`]. `Ended`, too: that a run has taken it is not forgotten.
    pub async fn signal_once<O, T: Serialize + ?Sized>(
        &self,
        run: &RunHandle<O>,
        name: &str,
        id: &str,
        value: &T,
    ) -> FlowsResult<()> {
        run.signal_once(name, id, value).await
    }

    /// Waits for a run's result, however far away in time.
    ///
    /// # Errors
    /// As [`RunHandle::result`]; and when nothing will ever happen to the run by itself, saying why it
    /// waits.
    pub async fn finish<O: Serialize + DeserializeOwned>(
        &self,
        run: &RunHandle<O>,
    ) -> Result<O, Failure> {
        tokio::select! {
            biased;
            result = run.result() => Ok(result?),
            () = self.clock.sleep(self.horizon) => Err(self.stuck(run.id()).await),
        }
    }

    /// [`finish`](Self::finish), resuming the run up to `resumes` times when it has failed.
    ///
    /// # Errors
    /// As [`finish`](Self::finish), and as [`RunHandle::resume`].
    pub async fn finish_resuming<O: Serialize + DeserializeOwned>(
        &self,
        run: &RunHandle<O>,
        mut resumes: usize,
    ) -> Result<O, Failure> {
        let mut run = run.clone();
        loop {
            let result = tokio::select! {
                biased;
                result = run.result() => result,
                () = self.clock.sleep(self.horizon) => return Err(self.stuck(run.id()).await),
            };
            match result {
                Err(FlowError::Failed { .. }) if resumes > 0 => {
                    resumes -= 1;
                    run = run.resume().await?;
                }
                result => return Ok(result?),
            }
        }
    }

    async fn stuck(&self, run: &str) -> Failure {
        let after = self.horizon;
        match self.flows.info(run).await {
            Ok(info) => match info.waiting {
                Some(waiting) => format!(
                    "run `{run}` would wait for ever: {after:?} went by and it is {waiting:?}"
                ),
                None => format!("run `{run}` is {}, and its handle was not told", info.state),
            },
            Err(error) => format!("run `{run}` would wait for ever: {error}"),
        }
        .into()
    }
}
