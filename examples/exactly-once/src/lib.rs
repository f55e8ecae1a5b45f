//! A step runs once for each input, whatever runs and processes ask for it.
//!
//! [`sign_up`] creates an account in a memoised step. Who shares its result is the [`Share`].

use std::future::ready;
use std::io;
use std::time::Duration;

use resurge::flow::Scope;
use resurge::{Ctx, FlowResult};
use resurge_example_driver::Effects;
use serde::{Deserialize, Serialize};

/// How long a result counts.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// Who shares the result of the memoised step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// All runs.
    Global,
    /// One run.
    Workflow,
}

/// What a run is started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignUp {
    /// Who signs up.
    pub name: String,
    /// Who shares the account.
    pub share: Share,
}

/// Creates an account for a name, unless there is one, and asks for it again.
///
/// # Errors
/// Whatever a step fails with.
pub async fn sign_up(ctx: Ctx, input: SignUp, accounts: Effects) -> FlowResult<String> {
    let scope = match input.share {
        Share::Global => Scope::Global,
        Share::Workflow => Scope::Workflow(ctx.run_id().into()),
    };
    let create = || ready(create_account(&input.name, &accounts));
    let memoised = || {
        let step = ctx.step("CreateAccount", create);
        step.memoize(scope.clone(), TTL).keyed_by(&input.name)
    };
    let (first, again) = (memoised().await?, memoised().await?);
    Ok(if first == again { first } else { format!("{first}, and {again}") })
}

/// The effect: a new account outside of the store, with a number of its own.
fn create_account(name: &str, accounts: &Effects) -> io::Result<String> {
    accounts.leave(name)?;
    let number: u64 = accounts.counts()?.values().sum();
    Ok(format!("account {number} of {name}"))
}
