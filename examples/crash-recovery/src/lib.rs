//! A pipeline of three steps that is killed in the second one, and carries on.
//!
//! [`pipeline`] is what a user writes; [`Work`] are the steps' bodies, which count themselves outside
//! of the store.

mod work;

pub use work::{Mode, SimulatedCrash, Work};

use resurge::{Ctx, FlowResult};
use serde::{Deserialize, Serialize};

/// A word with what was found out about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enriched {
    /// The word, processed.
    pub word: String,
    /// How many letters it has.
    pub letters: usize,
}

/// Ingests a text, processes its words, enriches them. Each step's result is kept as soon as it is
/// there; after a crash only what had none runs again.
///
/// # Errors
/// Whatever a step fails with.
pub async fn pipeline(ctx: Ctx, source: String, work: Work) -> FlowResult<Vec<Enriched>> {
    let words = ctx.step("IngestData", || async { work.ingest(&source) }).await?;
    let processed = ctx.step("ProcessData", || work.process(&words)).await?;
    ctx.step("EnrichData", || async { work.enrich(&processed) }).await
}
