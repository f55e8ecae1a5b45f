//! Flows by name: user code behind one object-safe door.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use resurge_store::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::callback::{Callbacks, around_flow};
use crate::payload::Payload;
use crate::resource::with_resources;
use crate::values::{INPUT, OUTPUT, Of};
use crate::{Ctx, FlowOptions, FlowResult, StepError};

/// A registered flow's code.
pub(crate) trait FlowCode: Send + Sync + 'static {
    /// Decodes the input and makes the flow's future, which encodes the output.
    fn begin(
        &self,
        ctx: Ctx,
        input: &Payload,
    ) -> Result<BoxFuture<'static, FlowResult<Payload>>, StepError>;

    fn options(&self) -> &FlowOptions;

    fn callbacks(&self) -> Arc<Callbacks>;
}

impl fmt::Debug for dyn FlowCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlowCode")
    }
}

pub(crate) struct Code<F, I, O> {
    flow: Arc<F>,
    options: FlowOptions,
    callbacks: Arc<Callbacks>,
    types: PhantomData<fn(I) -> O>,
}

impl<F, I, O> Code<F, I, O> {
    pub(crate) fn new(flow: F, options: FlowOptions) -> Self {
        let callbacks = Arc::new(options.callbacks.clone());
        Self { flow: Arc::new(flow), options, callbacks, types: PhantomData }
    }
}

impl<F, Fut, I, O> FlowCode for Code<F, I, O>
where
    F: Fn(Ctx, I) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = FlowResult<O>> + Send + 'static,
    I: Serialize + DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
{
    fn begin(
        &self,
        ctx: Ctx,
        input: &Payload,
    ) -> Result<BoxFuture<'static, FlowResult<Payload>>, StepError> {
        let core = ctx.core().clone();
        let input = core.engine.values.decode(&core.id, Of::Input, INPUT, input)?;
        let flow = Arc::clone(&self.flow);
        Ok(Box::pin(async move {
            let own = ctx.clone();
            let work = async move {
                // Called when first polled: what it asks for at once is asked for by the run's own
                // task.
                let output = flow(own, input).await?;
                core.checked(core.engine.values.encode(&core.id, Of::Output, OUTPUT, &output))
            };
            around_flow(&ctx, with_resources(&ctx, work)).await
        }))
    }

    fn callbacks(&self) -> Arc<Callbacks> {
        Arc::clone(&self.callbacks)
    }

    fn options(&self) -> &FlowOptions {
        &self.options
    }
}
