//! What is kept of a resource with a sensitive name is sealed.

use resurge_flow::{
    BlockReason, Ctx, FlowError, FlowResult, Flows, FlowsOptions, Resource, StepError, StepInfo,
};
use resurge_seal::{KeyRing, Sealer, SensitivePolicy};
use resurge_store::{Codec, Store};

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
