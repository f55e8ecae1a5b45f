//! Flows of the app: registered, started and ended with it.

use std::future::Future;

use parking_lot::Mutex;
use resurge_flow::{
    Ctx, FlowOptions, FlowRef, FlowResult, Flows, FlowsOptions, RunHandle, StartReport,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::{Part, Resurge};
use crate::error::Result;
use crate::status::PartStatus;

/// The app's flows, once somebody asked for them.
pub(crate) struct Slot {
    options: FlowsOptions,
    flows: Mutex<Option<Flows>>,
}

impl Slot {
    pub(crate) fn new(options: FlowsOptions) -> Self {
        Self { options, flows: Mutex::default() }
    }
}

impl Resurge {
    /// The app's flows: to list runs, read histories and more. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`Flow`](crate::Error::Flow) for an option out of range; [`ShutDown`](crate::Error::ShutDown).
    pub fn flows(&self) -> Result<Flows> {
        let slot = &self.inner.flows;
        let mut opened = slot.flows.lock();
        if let Some(flows) = &*opened {
            return Ok(flows.clone());
        }
        let claim = self.claim("flows", "flows")?;
        let flows = Flows::open(self.store(), slot.options.clone())?;
        let (closing, shown) = (flows.clone(), flows.clone());
        let part = Part {
            kind: "flows",
            name: "flows".to_owned(),
            order: 0,
            close: Box::new(move || {
                Box::pin(async move {
                    closing.shutdown().await;
                    Ok(())
                })
            }),
            status: Box::new(move || PartStatus::Flows(shown.status())),
        };
        // Shut down meanwhile: nothing runs in them yet, so there is nothing to end.
        claim.keep(part).map_err(|_| crate::Error::ShutDown)?;
        *opened = Some(flows.clone());
        Ok(flows)
    }

    /// Makes a flow known under a name, which the store keeps. Register every flow before
    /// [`start`](Self::start).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use resurge::{Ctx, FlowResult, Resurge, StepError};
    ///
    /// async fn place_order(ctx: Ctx, item: String) -> FlowResult<String> {
    ///     let shelf = ctx.step("reserve", || async { Ok::<_, StepError>(7) }).await?;
    ///     ctx.step("ship", || async { Ok::<_, StepError>(format!("{item} from {shelf}")) }).await
    /// }
    ///
    /// let app = Resurge::in_memory(); // `Resurge::open("./state").await?` survives crashes
    /// let orders = app.register("place-order", place_order)?;
    /// app.start().await?; // recovers what a crash interrupted
    /// let run = orders.start("order-42", "book".to_owned()).await?; // durable
    /// assert_eq!(run.result().await?, "book from 7");
    /// app.shutdown().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Flows::register`].
    pub fn register<F, Fut, I, O>(&self, name: &str, flow: F) -> Result<FlowRef<I, O>>
    where
        F: Fn(Ctx, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = FlowResult<O>> + Send + 'static,
        I: Serialize + DeserializeOwned + Send + 'static,
        O: Serialize + DeserializeOwned + Send + 'static,
    {
        Ok(self.flows()?.register(name, flow)?)
    }

    /// [`register`](Self::register) with options.
    ///
    /// # Errors
    /// As [`Flows::register`].
    pub fn register_with<F, Fut, I, O>(
        &self,
        name: &str,
        options: FlowOptions,
        flow: F,
    ) -> Result<FlowRef<I, O>>
    where
        F: Fn(Ctx, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = FlowResult<O>> + Send + 'static,
        I: Serialize + DeserializeOwned + Send + 'static,
        O: Serialize + DeserializeOwned + Send + 'static,
    {
        Ok(self.flows()?.register_with(name, options, flow)?)
    }

    /// Lets flows run, and recovers what a crash interrupted. As [`Flows::start`].
    ///
    /// # Errors
    /// As [`Flows::start`].
    pub async fn start(&self) -> Result<StartReport> {
        let flows = self.flows()?;
        // One set of checkpoints on a store: theirs are the app's. Set once; later starts change nothing.
        let _ = flows.use_checkpoints(self.checkpoints().await?);
        Ok(flows.start().await?)
    }

    /// A handle to a run, by id.
    ///
    /// # Errors
    /// As [`flows`](Self::flows).
    pub fn run<O>(&self, id: impl AsRef<str>) -> Result<RunHandle<O>> {
        Ok(self.flows()?.run(id))
    }
}
