//! Flows by name: user code behind one object-safe door.

use std::any::type_name;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use resurge_store::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::payload::Payload;
use crate::values::Of;
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
}

impl fmt::Debug for dyn FlowCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlowCode")
    }
}

pub(crate) struct Code<F, I, O> {
    flow: Arc<F>,
    options: FlowOptions,
    types: PhantomData<fn(I) -> O>,
}

impl<F, I, O> Code<F, I, O> {
    pub(crate) fn new(flow: F, options: FlowOptions) -> Self {
        Self { flow: Arc::new(flow), options, types: PhantomData }
    }
}

impl<F, Fut, I, O> FlowCode for Code<F, I, O>
where
    F: Fn(Ctx, I) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = FlowResult<O>> + Send + 'static,
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
{
    fn begin(
        &self,
        ctx: Ctx,
        input: &Payload,
    ) -> Result<BoxFuture<'static, FlowResult<Payload>>, StepError> {
        let core = ctx.core().clone();
        let input = core.engine.values.decode(&core.id, Of::Input, type_name::<I>(), input)?;
        let flow = Arc::clone(&self.flow);
        Ok(Box::pin(async move {
            // Called when first polled: what it asks for at once is asked for by the run's own task.
            let output = flow(ctx, input).await?;
            core.engine.values.encode(&core.id, Of::Output, type_name::<O>(), &output)
        }))
    }

    fn options(&self) -> &FlowOptions {
        &self.options
    }
}
