//! Recorded histories: taken from production, kept in files, replayed by today's code.

use resurge_flow::record::Record;
use resurge_flow::replay::ReplayReport;
use resurge_flow::{FlowError, Flows};
use resurge_store::{Codec, StoreError};
use serde::{Deserialize, Serialize};

/// A run's journal, to be kept beside the tests. Values that are sealed stay sealed in it; all others
/// are in clear.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The run's id.
    pub run: String,
    /// Its records, oldest first.
    pub records: Vec<Record>,
}

impl History {
    /// The history of a run, ended or in flight.
    ///
    /// # Errors
    /// As [`Flows::history`].
    pub async fn of(flows: &Flows, run: &str) -> Result<Self, FlowError> {
        Ok(Self { run: run.to_owned(), records: flows.history(run).await? })
    }

    /// As JSON.
    ///
    /// # Errors
    /// `Invalid` when it cannot be encoded.
    pub fn to_json(&self) -> Result<String, StoreError> {
        let bytes = Codec::Json.encode(self)?;
        String::from_utf8(bytes).map_err(|e| StoreError::invalid(e.to_string()))
    }

    /// From JSON.
    ///
    /// # Errors
    /// When it is no history.
    pub fn from_json(json: &str) -> Result<Self, StoreError> {
        Codec::Json.decode(json.as_bytes())
    }
}

/// Whether today's code, as registered in `flows`, replays a recorded history. No body runs; neither
/// store nor time matters, and `flows` need not be started. See [`Flows::verify`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use resurge_flow::{Ctx, FlowResult, Flows, FlowsOptions, StepError};
/// use resurge_flow_testkit::{History, verify_replay};
/// use resurge_store::Store;
///
/// async fn greet(ctx: Ctx, name: String) -> FlowResult<String> {
///     ctx.step("greet", || async { Ok::<_, StepError>(format!("hello {name}")) }).await
/// }
/// async fn welcome(ctx: Ctx, name: String) -> FlowResult<String> {
///     ctx.step("welcome", || async { Ok::<_, StepError>(format!("welcome {name}")) }).await
/// }
///
/// let production = Flows::open(&Store::memory(), FlowsOptions::default())?;
/// let greetings = production.register("greet", greet)?;
/// production.start().await?;
/// greetings.start("g-1", "bob".to_owned()).await?.result().await?;
/// let json = History::of(&production, "g-1").await?.to_json()?;
///
/// let history = History::from_json(&json)?;
/// let today = Flows::open(&Store::memory(), FlowsOptions::default())?;
/// today.register("greet", greet)?;
/// assert_eq!(verify_replay(&today, &history).await?.same_end, Some(true));
///
/// let changed = Flows::open(&Store::memory(), FlowsOptions::default())?;
/// changed.register("greet", welcome)?;
/// let refused = verify_replay(&changed, &history).await.unwrap_err().to_string();
/// assert!(refused.contains("the journal holds step `greet`, the code asks for step `welcome`"));
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Blocked`](FlowError::Blocked), naming what the history holds and what the code asks for.
pub async fn verify_replay(flows: &Flows, history: &History) -> Result<ReplayReport, FlowError> {
    flows.verify(&history.run, &history.records).await
}
