//! What is kept of a resource with a sensitive name is sealed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use resurge_flow::record::Record;
use resurge_flow::{
    BlockReason, Ctx, FlowError, FlowResult, Flows, FlowsOptions, Resource, StepError, StepInfo,
};
use resurge_seal::{KeyRing, Sealer, SensitivePolicy};
use resurge_store::{Codec, Entropy, ErrorKind, SeededEntropy, Store, StoreError};

use crate::support::store;

const CANARY: &str = "canary-5b1e";

struct Token;

impl Resource for Token {
    type Live = String;
    type State = String;

    async fn init(&self, _: StepInfo) -> FlowResult<String> {
        Ok(format!("{CANARY} made"))
    }

    async fn suspend(&self, live: &String) -> FlowResult<String> {
        Ok(live.clone())
    }

    async fn recover(&self, state: String, _: StepInfo) -> FlowResult<String> {
        Ok(state.replace("made", "recovered"))
    }
}

async fn uses(ctx: Ctx, name: String) -> FlowResult<usize> {
    let token = ctx.resource(name, Token).await?;
    ctx.step("use", || async {
        let live = token.live()?;
        if live.ends_with("made") { Err(StepError::permanent("no")) } else { Ok(live.len()) }
    })
    .await
}

fn open(store: &Store, sealer: Sealer) -> (Flows, resurge_flow::FlowRef<String, usize>) {
    let flows = Flows::open(store, FlowsOptions { sealer, ..FlowsOptions::default() }).unwrap();
    let flow = flows.register("uses", uses).unwrap();
    (flows, flow)
}

fn sealer() -> Sealer {
    let policy = SensitivePolicy::new().names(["*_token"]).unwrap();
    let key: Vec<u8> = (0..32).map(|n: u8| n.wrapping_mul(37).wrapping_add(11)).collect();
    Sealer::new(KeyRing::from_bytes(1, &key).unwrap(), policy)
}

#[tokio::test]
async fn the_state_of_a_sensitive_resource_is_sealed_and_comes_back() {
    let (store, _clock) = store();
    let (flows, flow) = open(&store, sealer());
    flows.start().await.unwrap();
    for name in ["plain", "api_token"] {
        let run = flow.start(name, name.to_owned()).await.unwrap();
        run.result().await.unwrap_err();
        let stored = Codec::Cbor.encode(&flows.history(name).await.unwrap()).unwrap();
        let found = stored.windows(CANARY.len()).any(|part| part == CANARY.as_bytes());
        assert_eq!(found, name == "plain", "{name}");
    }
    flows.shutdown().await;

    // Without the key nothing is lost: the run is blocked until there is one.
    let (blind, flow) = open(&store, Sealer::plain());
    blind.start().await.unwrap();
    let blocked = flow.run("api_token").resume().await.unwrap().result().await.unwrap_err();
    let FlowError::Blocked { reason, .. } = &blocked else { panic!("{blocked}") };
    assert!(!matches!(reason, BlockReason::NonDeterminism { .. }), "{blocked}");
    blind.shutdown().await;

    let (flows, flow) = open(&store, sealer());
    flows.start().await.unwrap();
    let len = format!("{CANARY} recovered").len();
    assert_eq!(flow.run("api_token").result().await.unwrap(), len);
    assert_eq!(flow.run("plain").resume().await.unwrap().result().await.unwrap(), len);
    flows.shutdown().await;
}

/// Randomness that can be taken away.
#[derive(Debug)]
struct Failing {
    broken: Arc<AtomicBool>,
    good: SeededEntropy,
}

impl Entropy for Failing {
    fn fill(&self, out: &mut [u8]) -> Result<(), StoreError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(StoreError::new(ErrorKind::Unavailable, "no randomness"));
        }
        self.good.fill(out)
    }
}

/// As [`Token`]; how its methods end is said from outside.
#[derive(Clone, Default)]
struct Moody {
    broken: Arc<AtomicBool>,
    /// Nothing can be sealed from when it is suspended.
    breaks: Arc<AtomicBool>,
    panics: Arc<Mutex<&'static str>>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Moody {
    fn note(&self, call: &str, live: &str) {
        self.calls.lock().push(format!("{call} {live}"));
        assert_ne!(*self.panics.lock(), call, "it panics");
    }

    fn panics(&self, call: &'static str) {
        *self.panics.lock() = call;
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock())
    }

    fn sealer(&self) -> Sealer {
        let policy = SensitivePolicy::new().names(["*_token"]).unwrap();
        let entropy = Failing { broken: Arc::clone(&self.broken), good: SeededEntropy::new(3) };
        let ring = KeyRing::builder().key(1, &KEY).unwrap().entropy(entropy).build().unwrap();
        Sealer::new(ring, policy)
    }

    async fn flow(self, ctx: Ctx) -> FlowResult<String> {
        let token = ctx.resource("api_token", self).await?;
        ctx.step_with("use", |step| {
            let live = token.live();
            async move { if step.recovering() { live.map(|live| live.to_string()) } else { refused() } }
        })
        .await
    }
}

fn refused() -> FlowResult<String> {
    Err(StepError::permanent("no"))
}

const KEY: [u8; 32] = *b"0123456789abcdef0123456789abcdef";

impl Resource for Moody {
    type Live = String;
    type State = String;

    async fn init(&self, _: StepInfo) -> FlowResult<String> {
        self.note("init", "");
        Ok(format!("{CANARY} made"))
    }

    async fn suspend(&self, live: &String) -> FlowResult<String> {
        self.broken.store(self.breaks.load(Ordering::Relaxed), Ordering::Relaxed);
        self.note("suspend", live);
        Ok(live.replace("made", "kept"))
    }

    async fn recover(&self, state: String, _: StepInfo) -> FlowResult<String> {
        self.note("recover", &state);
        Ok(state)
    }
}

fn moody(store: &Store, moody: &Moody) -> (Flows, resurge_flow::FlowRef<(), String>) {
    let options = FlowsOptions { sealer: moody.sealer(), ..FlowsOptions::default() };
    let flows = Flows::open(store, options).unwrap();
    let moody = moody.clone();
    let flow = flows.register("moody", move |ctx, ()| moody.clone().flow(ctx)).unwrap();
    (flows, flow)
}

/// Ends of a journal, and whether anything in the store shows the secret.
async fn ends(flows: &Flows, run: &str) -> usize {
    let history = flows.history(run).await.unwrap();
    let stored = Codec::Cbor.encode(&history).unwrap();
    assert!(!stored.windows(CANARY.len()).any(|part| part == CANARY.as_bytes()));
    history.iter().filter(|record| matches!(record, Record::Failed(_))).count()
}

#[tokio::test]
async fn scenario_43_a_state_that_cannot_be_sealed_leaves_no_part_of_a_record() {
    let (store, _clock) = store();
    let resource = Moody::default();
    resource.breaks.store(true, Ordering::Relaxed);
    let (flows, flow) = moody(&store, &resource);
    flows.start().await.unwrap();
    let run = flow.start("r", ()).await.unwrap();
    let error = run.result().await.unwrap_err();
    let FlowError::Blocked { reason: BlockReason::Sealed(why), .. } = &error else {
        panic!("{error}")
    };
    assert!(why.contains("no randomness") && !why.contains(CANARY), "{why}");
    assert_eq!(ends(&flows, "r").await, 0, "it has not failed: it stands where it was");
    // The live value was what it was, to the end.
    let calls = resource.calls();
    assert_eq!(calls, ["init ".to_owned(), format!("suspend {CANARY} made")]);

    // Tried again it is no better, and no worse.
    assert_eq!(flows.retry_sealed(), 1);
    assert!(matches!(run.result().await.unwrap_err(), FlowError::Blocked { .. }));
    assert_eq!(ends(&flows, "r").await, 0);

    // With randomness again it fails as it should have. What was live is gone as after a crash, and
    // is made anew.
    resource.breaks.store(false, Ordering::Relaxed);
    resource.broken.store(false, Ordering::Relaxed);
    resource.calls();
    assert_eq!(flows.retry_sealed(), 1);
    let error = run.result().await.unwrap_err();
    assert!(error.to_string().contains("at step `use`: no"), "{error}");
    assert_eq!(ends(&flows, "r").await, 1);
    let resumed = run.resume().await.unwrap();
    assert_eq!(resumed.result().await.unwrap(), format!("{CANARY} made"));
    assert_eq!(resource.calls(), ["init "]);
    flows.shutdown().await;
}

#[tokio::test]
async fn scenario_43_a_panic_in_suspend_or_recover_loses_nothing_that_was_kept() {
    let (store, _clock) = store();
    let resource = Moody::default();
    let (flows, flow) = moody(&store, &resource);
    flows.start().await.unwrap();
    let run = flow.start("r", ()).await.unwrap();
    run.result().await.unwrap_err();
    assert_eq!(ends(&flows, "r").await, 1);

    // In recover; then there is nothing live to suspend, and what was kept stays.
    resource.panics("recover");
    resource.calls();
    for n in 2..4 {
        let error = run.resume().await.unwrap().result().await.unwrap_err();
        assert!(error.to_string().contains("panic"), "{error}");
        assert_eq!(ends(&flows, "r").await, n);
        assert_eq!(resource.calls(), [format!("recover {CANARY} kept")]);
    }
    resource.panics("");
    let resumed = run.resume().await.unwrap();
    assert_eq!(resumed.result().await.unwrap(), format!("{CANARY} kept"));

    // In suspend: the run fails of what it failed of, and what was not kept is made anew.
    resource.panics("suspend");
    let other = flow.start("r2", ()).await.unwrap();
    let error = other.result().await.unwrap_err();
    assert!(error.to_string().contains("at step `use`: no"), "{error}");
    assert_eq!(ends(&flows, "r2").await, 1);
    resource.panics("");
    let resumed = other.resume().await.unwrap();
    assert_eq!(resumed.result().await.unwrap(), format!("{CANARY} made"));
    flows.shutdown().await;
}
