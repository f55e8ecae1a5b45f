//! What runs in the child processes: one run, and then it waits to be killed.

use std::future::pending;

use resurge::Resurge;
use resurge_exactly_once_example::{Share, SignUp, sign_up};
use resurge_example_driver::Effects;

use crate::Result;

#[tokio::main]
pub(crate) async fn run(
    share: &str,
    name: &str,
    run: &str,
    dir: &str,
    accounts: &str,
) -> Result<()> {
    let share = match share {
        "global" => Share::Global,
        "workflow" => Share::Workflow,
        other => return Err(format!("nobody shares `{other}`").into()),
    };
    let app = Resurge::open(dir).await?;
    let accounts = Effects::at(accounts);
    let flow = app.register("sign-up", move |ctx, input| sign_up(ctx, input, accounts.clone()))?;
    app.start().await?;
    let run = flow.start(run, SignUp { name: name.to_owned(), share }).await?;
    println!("result: {}", run.result().await?);
    pending().await
}
