//! Failed runs are recovered: by another process, again and again, by one at a time.
//!
//! [`example`] sets a context value and fails; recovered, it reads the value. It prints what it does.
//! [`Chain`] fails at seventeen places.

mod chain;

pub use chain::{Chain, ONCE, POINTS};

use std::fmt;
use std::future::ready;

use resurge::{Ctx, FlowResult, StepError};
use serde::{Deserialize, Serialize};

/// A value that lives in the run's context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct YourStruct {
    /// A number.
    pub id: u32,
    /// A name.
    pub name: String,
}

impl fmt::Display for YourStruct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{} {}}}", self.id, self.name)
    }
}

/// Two steps: the first one fails unless it is recovered, and leaves a value to the second one.
///
/// # Errors
/// When `Step1` runs for the first time.
pub async fn example(ctx: Ctx, (): ()) -> FlowResult<()> {
    ctx.step("Step1", || ready(step1(&ctx))).await?;
    ctx.step("Step2", || ready(step2(&ctx))).await
}

/// Simulates a step that fails: only when it is recovered it succeeds.
fn step1(ctx: &Ctx) -> FlowResult<()> {
    say("[Step: Step1] start");
    if ctx.recovering() {
        say("[Step: Step1] success");
        return Ok(());
    }
    // Durable with the attempt, although that fails.
    ctx.set("key", &YourStruct { id: 1, name: "John".to_owned() })?;
    say("[Step: Step1] failed");
    Err(StepError::transient("something went wrong"))
}

/// Retrieves what the first step has set, maybe in another process.
fn step2(ctx: &Ctx) -> FlowResult<()> {
    say("[Step: Step2] start");
    let value: Option<YourStruct> = ctx.get("key")?;
    let value = value.ok_or_else(|| StepError::permanent("nothing is set"))?;
    say(&format!("[Step: Step2] get value: {value}"));
    say("[Step: Step2] success");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the demo shows what runs")]
fn say(line: &str) {
    println!("{line}");
}
