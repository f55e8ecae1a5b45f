//! A key that is missing or wrong: the run stands still, and goes on when the key is there.

use resurge_flow::{BlockReason, Ctx, FlowError, FlowResult, RunState, StepError, StepErrorKind};
use resurge_seal::{KdfParams, KeyRing, Passphrase, SealError, Sealer, Sensitive, SensitivePolicy};
use resurge_store::{Batch, Durability, Namespace, Record, Store};

use crate::support::{
    CANARY, Notes, expected, flows, key, login, policy, register, sealer, secret, until,
};

/// A run that waits for its signal, in a store nobody has open any more.
async fn waiting(notes: &Notes) -> Store {
    let store = Store::memory();
    let flows = flows(&store, sealer(1));
    let logins = register(&flows, notes, false);
    flows.start().await.unwrap();
    let run = logins.start("run-1", login()).await.unwrap();
    until(async || run.state().await.unwrap() == RunState::Waiting).await;
    flows.shutdown().await;
    store
}

async fn blocked(store: &Store, sealer: Sealer, notes: &Notes) -> String {
    let flows = flows(store, sealer);
    let logins = register(&flows, notes, false);
    flows.start().await.unwrap();
    let run = logins.run("run-1");
    // It may have been started by an earlier process, so its own input is not looked at by the signal.
    run.signal("wake", &0_u8).await.unwrap();
    let error = run.result().await.unwrap_err();
    let FlowError::Blocked { reason: BlockReason::Sealed(why), .. } = error else {
        panic!("{error}");
    };
    assert_eq!(run.state().await.unwrap(), RunState::Blocked);
    flows.shutdown().await;
    why
}

async fn goes_on(store: &Store, notes: &Notes) {
    let flows = flows(store, sealer(1));
    let logins = register(&flows, notes, false);
    flows.start().await.unwrap();
    let run = logins.run("run-1");
    run.signal("code", &secret()).await.unwrap();
    assert_eq!(run.result().await.unwrap(), expected());
    assert_eq!((notes.count("api_token"), notes.count("connect")), (1, 1));
    flows.shutdown().await;
}

#[tokio::test]
async fn scenario_39_without_a_key_a_run_stands_still_and_nothing_is_lost() {
    let notes = Notes::default();
    let store = waiting(&notes).await;
    for sealer in [Sealer::plain(), Sealer::without_ring(policy())] {
        let why = blocked(&store, sealer, &notes).await;
        assert_eq!(why, "no key for `input` in `input` of `run-1`, which is sealed with key 1");
    }
    goes_on(&store, &notes).await;
}

#[tokio::test]
async fn la7_with_a_wrong_key_a_run_stands_still_and_nothing_is_lost() {
    let notes = Notes::default();
    let store = waiting(&notes).await;
    let why = blocked(&store, sealer(2), &notes).await;
    assert!(why.starts_with("`input` in `input` of `run-1` does not open with key 1"), "{why}");
    let other = Sealer::new(KeyRing::from_bytes(2, &key(2)).unwrap(), policy());
    let why = blocked(&store, other, &notes).await;
    assert!(why.starts_with("`input` in `input` of `run-1`: key 1 is not at hand"), "{why}");
    goes_on(&store, &notes).await;
}

#[tokio::test]
async fn a_result_of_a_finished_run_needs_the_key_too() {
    let notes = Notes::default();
    let store = waiting(&notes).await;
    goes_on(&store, &notes).await;
    let flows = flows(&store, sealer(2));
    let logins = register(&flows, &notes, false);
    let error = logins.run("run-1").result().await.unwrap_err();
    let FlowError::Value { run, what, cause } = error else { panic!("{error}") };
    assert_eq!((&*run, &*what, cause.kind), ("run-1", "output", StepErrorKind::Sealed));
    // Whether it is the same input cannot be told either.
    let error = logins.start("run-1", login()).await.unwrap_err();
    assert!(
        matches!(&error, FlowError::Value { cause, .. } if cause.kind == StepErrorKind::Sealed),
        "{error}"
    );
}

#[tokio::test]
async fn scenario_40_a_wrong_passphrase_is_said_before_anything_is_read() {
    let store = Store::memory();
    let words = |text: &str| Passphrase::new(text).unwrap().params(KdfParams::insecure_for_tests());
    KeyRing::from_passphrase(&store, "main", 1, words("correct horse battery")).await.unwrap();
    let refused = KeyRing::from_passphrase(&store, "main", 1, words("correct horse butter")).await;
    assert!(matches!(refused, Err(SealError::WrongKey { .. })));
}

#[tokio::test]
async fn a_key_supplied_while_the_process_runs_lets_a_run_go_on() {
    let notes = Notes::default();
    let store = waiting(&notes).await;
    let ring = KeyRing::from_bytes(2, &key(2)).unwrap();
    let flows = flows(&store, Sealer::new(ring.clone(), policy()));
    let logins = register(&flows, &notes, false);
    flows.start().await.unwrap();
    let run = logins.run("run-1");
    run.signal("code", &secret()).await.unwrap();
    assert!(matches!(run.result().await, Err(FlowError::Blocked { .. })));
    ring.add(1, &key(1)).await.unwrap();
    assert_eq!(flows.retry_sealed(), 1);
    assert_eq!(run.result().await.unwrap(), expected());
    assert_eq!(notes.count("api_token"), 1);
    flows.shutdown().await;
}

/// A type that marks itself is sealed whatever its name, also without a policy.
#[tokio::test]
async fn a_value_marked_sensitive_is_sealed_without_a_policy() {
    async fn pin(ctx: Ctx, (): ()) -> FlowResult<u32> {
        let pin = ctx.step("pin", || async { Ok::<_, StepError>(Sensitive::new(4711_u32)) });
        Ok(pin.await?.into_inner())
    }
    let store = Store::memory();
    let ring = KeyRing::from_bytes(1, &key(1)).unwrap();
    let flows = flows(&store, Sealer::new(ring, SensitivePolicy::new()));
    let pins = flows.register("pin", pin).unwrap();
    flows.start().await.unwrap();
    assert_eq!(pins.start("run-1", ()).await.unwrap().result().await.unwrap(), 4711);
    let found = flows.reencrypt().unwrap().count().await.unwrap();
    assert_eq!(found.to_string(), "key 1: 0 and 1 fixed");
    flows.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_sealed_is_not_stored_and_not_a_failure() {
    async fn pin(ctx: Ctx, (): ()) -> FlowResult<u32> {
        let pin = ctx.step("pin", || async { Ok::<_, StepError>(4711_u32) }).await;
        // Whatever the code makes of it, the run stands still.
        Ok(pin.unwrap_or_default())
    }
    let named = || SensitivePolicy::new().name("pin").unwrap();
    let store = Store::memory();
    let blind = flows(&store, Sealer::without_ring(named()));
    let pins = blind.register("pin", pin).unwrap();
    blind.start().await.unwrap();
    let run = pins.start("run-1", ()).await.unwrap();
    let error = run.result().await.unwrap_err();
    assert_eq!(error.to_string(), "run `run-1` is blocked: no key for `pin` in `step` of `run-1`");
    assert_eq!(blind.retry_sealed(), 1);
    run.result().await.unwrap_err();
    blind.shutdown().await;

    let seeing = flows(&store, Sealer::new(KeyRing::from_bytes(1, &key(1)).unwrap(), named()));
    let pins = seeing.register("pin", pin).unwrap();
    seeing.start().await.unwrap();
    assert_eq!(pins.run("run-1").result().await.unwrap(), 4711);
    seeing.shutdown().await;
}

#[tokio::test]
async fn a_clear_value_in_place_of_a_sealed_one_is_refused() {
    async fn waits(ctx: Ctx, (): ()) -> FlowResult<String> {
        let token = ctx.step("api_token", || async { Ok::<_, StepError>("in clear".to_owned()) });
        let token = token.await?;
        ctx.signal::<()>("go").await?;
        Ok(token)
    }
    let store = Store::memory();
    let plain = flows(&store, Sealer::plain());
    let runs = plain.register("waits", waits).unwrap();
    plain.start().await.unwrap();
    let run = runs.start("run-1", ()).await.unwrap();
    until(async || run.state().await.unwrap() == RunState::Waiting).await;
    plain.shutdown().await;

    let sealed = flows(&store, sealer(1));
    let runs = sealed.register("waits", waits).unwrap();
    sealed.start().await.unwrap();
    runs.run("run-1").signal("go", &()).await.unwrap();
    let error = runs.run("run-1").result().await.unwrap_err().to_string();
    assert!(error.contains("`api_token` in `step` of `run-1` is stored in clear"), "{error}");
    sealed.shutdown().await;
}

#[tokio::test]
async fn what_must_never_be_stored_is_not_and_a_step_of_that_name_says_so() {
    async fn session(ctx: Ctx, step: bool) -> FlowResult<(Option<String>, Option<String>)> {
        ctx.set("own_session", "set by the code")?;
        ctx.step("open", || async {
            ctx.set("body_session", &format!("{CANARY}-never"))?;
            Ok::<_, StepError>(())
        })
        .await?;
        if step {
            ctx.step("x_session", || async { Ok::<_, StepError>(1) }).await?;
        }
        let before = ctx.get::<String>("body_session")?;
        ctx.signal::<()>("go").await?;
        ctx.step("note", || async { Ok::<_, StepError>(before.is_some()) }).await?;
        Ok((ctx.get("own_session")?, ctx.get("body_session")?))
    }
    let omitting = || {
        let policy = SensitivePolicy::new().omit("*_session").unwrap();
        Sealer::new(KeyRing::from_bytes(1, &key(1)).unwrap(), policy)
    };
    let store = Store::memory();
    let first = flows(&store, omitting());
    let runs = first.register("session", session).unwrap();
    first.start().await.unwrap();
    let run = runs.start("run-1", false).await.unwrap();
    until(async || run.state().await.unwrap() == RunState::Waiting).await;
    let other = runs.start("run-2", false).await.unwrap();
    until(async || other.state().await.unwrap() == RunState::Waiting).await;
    run.signal("go", &()).await.unwrap();
    let (own, body) = run.result().await.unwrap();
    assert_eq!(own.as_deref(), Some("set by the code"));
    assert_eq!(body, Some(format!("{CANARY}-never")));
    let refused = runs.start("run-3", true).await.unwrap().result().await.unwrap_err();
    let FlowError::Failed { error, .. } = &refused else { panic!("{refused}") };
    assert_eq!(error.kind, StepErrorKind::Sealed);
    assert_eq!(error.message, "the policy says never to store `x_session`, which is a step");
    first.shutdown().await;

    let second = flows(&store, omitting());
    let runs = second.register("session", session).unwrap();
    second.start().await.unwrap();
    let other = runs.run("run-2");
    other.signal("go", &()).await.unwrap();
    assert_eq!(other.result().await.unwrap(), (own, None));
    second.shutdown().await;
}

/// Scenario 44: sealed once, however often it is stored and read.
#[tokio::test]
async fn scenario_44_failing_twice_seals_once_and_opens_once() {
    let notes = Notes::default();
    let store = Store::memory();
    for turn in 0..3 {
        let flows = flows(&store, sealer(1));
        let logins = register(&flows, &notes, turn < 2);
        flows.start().await.unwrap();
        let run = logins.run("run-1");
        if turn == 0 {
            logins.start("run-1", login()).await.unwrap();
            run.signal("code", &secret()).await.unwrap();
        } else {
            run.resume().await.unwrap();
        }
        match run.result().await {
            Ok(seen) => assert_eq!((seen, turn), (expected(), 2)),
            Err(error) => assert!(turn < 2, "{error}"),
        }
        flows.shutdown().await;
    }
    // The live context shows what was set, every time.
    assert_eq!(*notes.seen.lock(), vec![expected(); 3]);
}

/// A record of somebody else's among the messages is not taken for one.
#[tokio::test]
async fn a_damaged_message_is_an_error_that_names_the_run() {
    let store = Store::memory();
    let key =
        Namespace::new("resurge/flow/inbox").unwrap().key(b"run-1\0xxxxxxxxyyyyyyyy").unwrap();
    let mut batch = Batch::new();
    batch.put(key.clone(), Record::new("no message").encode(&key));
    store.commit(batch, Durability::Durable).await.unwrap();
    let flows = flows(&store, sealer(1));
    let found = flows.reencrypt().unwrap().count().await.unwrap();
    assert_eq!(found.unreadable(), 1);
}

/// Code that goes on after the error journals nothing: with the key it would not have been there.
#[tokio::test]
async fn what_code_does_without_the_key_is_forgotten() {
    async fn sets(ctx: Ctx, (): ()) -> FlowResult<bool> {
        ctx.step("before", || async { Ok::<_, StepError>(()) }).await?;
        if ctx.set("pwd", CANARY).is_err() {
            ctx.set("failed", &true)?;
            ctx.step("undo", || async { Err::<(), _>(StepError::permanent("ran")) }).await?;
        }
        Ok(ctx.get::<bool>("failed")?.is_some())
    }
    let store = Store::memory();
    let blind = flows(&store, Sealer::without_ring(policy()));
    let runs = blind.register("sets", sets).unwrap();
    blind.start().await.unwrap();
    let error = runs.start("run-1", ()).await.unwrap().result().await.unwrap_err();
    assert_eq!(error.to_string(), "run `run-1` is blocked: no key for `pwd` in `ctx` of `run-1`");
    blind.shutdown().await;

    let seeing = flows(&store, sealer(1));
    let runs = seeing.register("sets", sets).unwrap();
    seeing.start().await.unwrap();
    assert!(!runs.run("run-1").result().await.unwrap());
    seeing.shutdown().await;
}
