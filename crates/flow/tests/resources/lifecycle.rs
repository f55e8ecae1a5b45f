//! From `init` to `release`, over failures, resumes and crashes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use resurge_flow::record::Record;
use resurge_flow::{
    Callback, CallbackInfo, Ctx, FlowError, FlowOptions, FlowRef, FlowResult, Flows, Resource,
    StepError, StepInfo,
};
use resurge_store::{Store, VirtualClock};

use crate::support::{flows, store};

#[derive(Clone, Default)]
struct World {
    trace: Arc<Mutex<Vec<String>>>,
    recover_fails: Arc<AtomicU32>,
    step_fails: Arc<AtomicU32>,
    keys: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn log(&self, what: impl Into<String>) {
        self.trace.lock().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.trace.lock())
    }

    fn callback(&self, name: &'static str) -> Callback {
        let world = self.clone();
        Callback::must(name, move |_: CallbackInfo| {
            let world = world.clone();
            async move {
                world.log(name);
                Ok::<_, StepError>(())
            }
        })
    }
}

/// A session with a user and a secret; only the user is kept.
struct Session(&'static str, World);

struct Live {
    user: String,
    secret: String,
}

/// Takes one from a counter; true while there was one.
fn fails(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl Resource for Session {
    type Live = Live;
    type State = String;

    async fn init(&self, run: StepInfo) -> FlowResult<Live> {
        self.1.log(format!("init {}", self.0));
        self.1.keys.lock().push(run.idempotency_key());
        Ok(Live { user: "john".to_owned(), secret: "CANARY-1".to_owned() })
    }

    async fn suspend(&self, live: &Live) -> FlowResult<String> {
        self.1.log(format!("suspend {}", self.0));
        Ok(live.user.clone())
    }

    async fn recover(&self, user: String, run: StepInfo) -> FlowResult<Live> {
        assert!(run.recovering());
        self.1.log(format!("recover {} for {user}", self.0));
        if fails(&self.1.recover_fails) {
            return Err(StepError::transient("no session to be had"));
        }
        Ok(Live { user, secret: "CANARY-2".to_owned() })
    }

    async fn release(&self, live: &Live) -> FlowResult<()> {
        self.1.log(format!("release {} with {}", self.0, live.secret));
        Ok(())
    }
}

async fn uses(ctx: Ctx, world: World) -> FlowResult<String> {
    let w = &world;
    ctx.process("work", |ctx| async move {
        let db = ctx.resource("db", Session("db", w.clone())).await?;
        let queue = ctx.resource("queue", Session("queue", w.clone())).await?;
        for name in ["one", "two"] {
            let used = ctx.step(name, || async {
                let (db, queue) = (db.live()?, queue.live()?);
                w.log(format!("{name} with {} {}", db.secret, queue.user));
                if name == "two" && fails(&w.step_fails) {
                    return Err(StepError::transient("not yet"));
                }
                Ok(())
            });
            used.await?;
        }
        Ok("done".to_owned())
    })
    .await
}

fn open(store: &Store, world: &World) -> (Flows, FlowRef<(), String>) {
    let flows = flows(store);
    let options = FlowOptions::default()
        .before_flow(world.callback("before flow"))
        .after_flow(world.callback("after flow"))
        .before_process(world.callback("before process"))
        .after_process(world.callback("after process"))
        .before_step(world.callback("before step"))
        .after_step(world.callback("after step"));
    let own = world.clone();
    let flow =
        flows.register_with("uses", options, move |ctx, (): ()| uses(ctx, own.clone())).unwrap();
    (flows, flow)
}

fn setup() -> (Store, VirtualClock, World) {
    let (store, clock) = store();
    (store, clock, World::default())
}

#[tokio::test]
async fn a_run_that_succeeds_releases_and_keeps_nothing() {
    let (store, _clock, world) = setup();
    let (flows, flow) = open(&store, &world);
    flows.start().await.unwrap();
    flow.start("r", ()).await.unwrap().result().await.unwrap();
    assert_eq!(
        world.take(),
        [
            "before flow",
            "before process",
            "init db",
            "init queue",
            "before step",
            "one with CANARY-1 john",
            "after step",
            "before step",
            "two with CANARY-1 john",
            "after step",
            "after process",
            "release queue with CANARY-1",
            "release db with CANARY-1",
            "after flow",
        ]
    );
    flows.shutdown().await;
}

#[tokio::test]
async fn a_failed_run_suspends_and_recovers_before_any_step() {
    let (store, _clock, world) = setup();
    world.step_fails.store(1, Ordering::SeqCst);
    let (first, flow) = open(&store, &world);
    first.start().await.unwrap();
    flow.start("r", ()).await.unwrap().result().await.unwrap_err();
    assert_eq!(
        world.take()[8..],
        [
            "two with CANARY-1 john",
            "after step",
            "after process",
            "suspend queue",
            "suspend db",
            "release queue with CANARY-1",
            "release db with CANARY-1",
            "after flow",
        ]
    );
    first.shutdown().await;
    let (second, flow) = open(&store, &world);
    second.start().await.unwrap();
    let run = flow.run("r").resume().await.unwrap();
    assert_eq!(run.result().await.unwrap(), "done");
    assert_eq!(
        world.take(),
        [
            "recover db for john",
            "recover queue for john",
            "two with CANARY-2 john",
            "after step",
            "after process",
            "release queue with CANARY-2",
            "release db with CANARY-2",
            "after flow",
        ]
    );
    // What was left out by `suspend` is nowhere in the journal.
    let history = second.history("r").await.unwrap();
    let failed = history.iter().find_map(|record| match record {
        Record::Failed(failed) => Some(failed.suspended.len()),
        _ => None,
    });
    assert_eq!(failed, Some(2));
    let stored = resurge_store::Codec::Cbor.encode(&history).unwrap();
    let holds = |text: &str| stored.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds("john") && !holds("CANARY"));
    second.shutdown().await;
}

#[tokio::test]
async fn a_failing_recover_fails_the_run_again_where_it_had_failed() {
    let (store, _clock, world) = setup();
    world.step_fails.store(1, Ordering::SeqCst);
    let (flows, flow) = open(&store, &world);
    flows.start().await.unwrap();
    let run = flow.start("r", ()).await.unwrap();
    run.result().await.unwrap_err();
    world.take();
    world.recover_fails.store(1, Ordering::SeqCst);
    let again = run.resume().await.unwrap().result().await.unwrap_err();
    assert!(again.to_string().contains("no session to be had"), "{again}");
    let FlowError::Failed { positions, .. } = &again else { panic!("{again}") };
    assert_eq!(positions[0].to_string(), "work/two");
    assert_eq!(world.take(), ["recover db for john", "after flow"]);
    // Both states were kept, and the step still knows that it is recovering.
    assert_eq!(run.resume().await.unwrap().result().await.unwrap(), "done");
    let trace = world.take();
    assert_eq!(trace[..2], ["recover db for john", "recover queue for john"], "{trace:?}");
    assert_eq!(trace[2], "two with CANARY-2 john");
    flows.shutdown().await;
}

#[tokio::test]
async fn after_a_crash_it_is_made_again_with_the_same_key() {
    let (store, _clock, world) = setup();
    let register = |flows: &Flows| {
        let own = world.clone();
        flows
            .register("waits", move |ctx: Ctx, (): ()| {
                let world = own.clone();
                async move {
                    let db = ctx.resource("db", Session("db", world.clone())).await?;
                    // Nothing is live while the journal is replayed.
                    world.log(format!("live: {}", db.live().is_ok()));
                    ctx.signal::<()>("go").await?;
                    ctx.step("use", || async { db.live().map(|live| live.user.clone()) }).await
                }
            })
            .unwrap()
    };
    let first = flows(&store);
    let flow = register(&first);
    first.start().await.unwrap();
    flow.start("r", ()).await.unwrap();
    while first.info("r").await.unwrap().state != resurge_flow::RunState::Waiting {
        tokio::task::yield_now().await;
    }
    first.shutdown().await;
    assert_eq!(world.take(), ["init db", "live: true"]);
    let second = flows(&store);
    let flow = register(&second);
    second.start().await.unwrap();
    let run = flow.run("r");
    run.signal("go", &()).await.unwrap();
    assert_eq!(run.result().await.unwrap(), "john");
    assert_eq!(world.take(), ["live: false", "init db", "release db with CANARY-1"]);
    let keys = world.keys.lock().clone();
    assert_eq!((keys.len(), &keys[0]), (2, &keys[1]));
    second.shutdown().await;
}

/// Fails to be made, at first.
struct Reluctant(Arc<AtomicU32>);

impl Resource for Reluctant {
    type Live = u32;
    type State = ();

    async fn init(&self, _: StepInfo) -> FlowResult<u32> {
        let tries = self.0.fetch_add(1, Ordering::SeqCst);
        assert!(tries > 0, "panics the first time");
        if tries == 1 { Err(StepError::transient("busy")) } else { Ok(tries) }
    }

    async fn suspend(&self, _: &u32) -> FlowResult<()> {
        Ok(())
    }

    async fn recover(&self, (): (), run: StepInfo) -> FlowResult<u32> {
        self.init(run).await
    }
}

#[tokio::test]
async fn a_failing_init_is_a_failure_point() {
    let (store, _clock, _) = setup();
    let flows = flows(&store);
    let tries = Arc::new(AtomicU32::new(0));
    let flow = flows
        .register("reluctant", move |ctx: Ctx, (): ()| {
            let tries = Arc::clone(&tries);
            async move {
                let made = ctx.resource("it", Reluctant(tries)).await?;
                ctx.step("use", || async { made.live().map(|live| *live) }).await
            }
        })
        .unwrap();
    flows.start().await.unwrap();
    let run = flow.start("r", ()).await.unwrap();
    let panicked = run.result().await.unwrap_err();
    assert!(panicked.to_string().contains("at step `it`"), "{panicked}");
    let busy = run.resume().await.unwrap().result().await.unwrap_err();
    assert!(busy.to_string().contains("could not be made"), "{busy}");
    assert_eq!(run.resume().await.unwrap().result().await.unwrap(), 2);
    flows.shutdown().await;
}
