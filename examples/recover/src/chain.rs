//! A step in a process in a flow, with callbacks around each: seventeen places to fail at.

use std::future::ready;
use std::io;

use resurge::flow::Callback;
use resurge::{Ctx, FlowOptions, FlowRef, FlowResult, Resurge};
use resurge_example_driver::Effects;

/// Where the chain can fail, in the order in which it gets there.
pub const POINTS: [&str; 17] = [
    "BeforeFlow1",
    "BeforeFlow2",
    "BeforeProcess1",
    "BeforeProcess2",
    "BeforeProcess3",
    "BeforeStep1",
    "BeforeStep2",
    "BeforeStep3",
    "Step",
    "AfterStep1",
    "AfterStep2",
    "AfterStep3",
    "AfterProcess1",
    "AfterProcess2",
    "AfterProcess3",
    "AfterFlow1",
    "AfterFlow2",
];

/// Callbacks that are not called again where a run was resumed.
pub const ONCE: [&str; 3] = ["AfterStepOnce", "AfterProcessOnce", "AfterFlowOnce"];

/// What happens at the points: a trace, and a failure at one of them.
#[derive(Clone, Debug)]
pub struct Chain {
    effects: Effects,
    fails_at: Option<&'static str>,
}

impl Chain {
    /// Fails at one point, or at none.
    pub fn new(effects: Effects, fails_at: Option<&'static str>) -> Self {
        Self { effects, fails_at }
    }

    fn reach(&self, point: &str) -> io::Result<()> {
        self.effects.leave(point)?;
        if self.fails_at == Some(point) { Err(io::Error::other(point.to_owned())) } else { Ok(()) }
    }

    fn callback(&self, point: &'static str) -> Callback {
        let chain = self.clone();
        let callback = Callback::must(point, move |_| ready(chain.reach(point)));
        if ONCE.contains(&point) { callback.exclude_recovering() } else { callback }
    }

    /// Makes the flow known, with all its callbacks.
    ///
    /// # Errors
    /// As [`Resurge::register_with`].
    pub fn register(self, app: &Resurge) -> resurge::Result<FlowRef<(), ()>> {
        let mut options = FlowOptions::default();
        for point in ONCE.into_iter().chain(POINTS) {
            let add = match point.trim_end_matches("Once").trim_end_matches(char::is_numeric) {
                "BeforeFlow" => FlowOptions::before_flow,
                "BeforeProcess" => FlowOptions::before_process,
                "BeforeStep" => FlowOptions::before_step,
                "AfterStep" => FlowOptions::after_step,
                "AfterProcess" => FlowOptions::after_process,
                "AfterFlow" => FlowOptions::after_flow,
                _ => continue,
            };
            options = add(options, self.callback(point));
        }
        app.register_with("chain", options, move |ctx, ()| chain(ctx, self.clone()))
    }
}

async fn chain(ctx: Ctx, chain: Chain) -> FlowResult<()> {
    let process = |ctx: Ctx| async move { ctx.step("Step", || ready(chain.reach("Step"))).await };
    ctx.process("Process", process).await
}
