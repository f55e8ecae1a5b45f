//! Changing the key: everything that can be is sealed anew, and a key that is needed is not destroyed.

use std::time::Duration;

use resurge_flow::{Ctx, FlowResult, Flows, FlowsOptions, RunState, Scope, StepError};
use resurge_seal::{KeyRing, SealError, Sealer};
use resurge_store::{Store, VirtualClock};

use crate::support::{Notes, expected, key, login, policy, register, secret, until};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn memo(ctx: Ctx, (): ()) -> FlowResult<String> {
    let token = ctx.step("memo_token", || async { Ok::<_, StepError>("shared".to_owned()) });
    token.memoize(Scope::Global, Duration::ZERO).keyed_by("one").await
}

fn open(store: &Store, ring: &KeyRing) -> Flows {
    let sealer = Sealer::new(ring.clone(), policy());
    let options = FlowsOptions { sealer, keep_finished: DAY, ..FlowsOptions::default() };
    Flows::open(store, options).unwrap()
}

#[tokio::test]
async fn a_key_is_destroyed_only_when_no_journal_needs_it_any_more() {
    let clock = VirtualClock::new();
    let store = Store::memory().with_clock(clock.clone());
    let ring = KeyRing::builder().key(1, &key(1)).unwrap().open(&store, "main").await.unwrap();
    let notes = Notes::default();
    let flows = open(&store, &ring);
    let logins = register(&flows, &notes, false);
    let memos = flows.register("memo", memo).unwrap();
    flows.start().await.unwrap();
    let done = logins.start("done", login()).await.unwrap();
    done.signal("code", &secret()).await.unwrap();
    done.result().await.unwrap();
    assert_eq!(memos.start("memo", ()).await.unwrap().result().await.unwrap(), "shared");
    let waits = logins.start("waits", login()).await.unwrap();
    until(async || waits.state().await.unwrap() == RunState::Waiting).await;
    waits.signal("other", &secret()).await.unwrap();
    flows.shutdown().await;

    ring.add(2, &key(2)).await.unwrap();
    ring.promote(2).await.unwrap();
    let flows = open(&store, &ring);
    let job = flows.reencrypt().unwrap();
    let before = job.count().await.unwrap();
    let tally = before.by_key()[&1.into()];
    // Salts of both inputs, output and checkpoint, a message; everything in three journals.
    assert!(tally.rewritable >= 5, "{before}");
    assert!(tally.fixed >= 10, "{before}");
    let refused = ring.destroy(1, "rotated", &before).await.unwrap_err();
    assert!(matches!(refused, SealError::InUse { .. }), "{refused}");

    let report = job.run().await.unwrap();
    assert!(report.is_complete(), "{report}");
    assert_eq!(report.resealed, tally.rewritable);
    let after = job.count().await.unwrap();
    assert_eq!(after.by_key()[&1.into()].rewritable, 0, "{after}");
    assert_eq!(after.by_key()[&2.into()].rewritable, tally.rewritable, "{after}");
    // Journals cannot be rewritten: the key stays until they are gone.
    let refused = ring.destroy(1, "rotated", &after).await.unwrap_err();
    assert!(matches!(refused, SealError::InUse { .. }), "{refused}");

    // What was sealed anew opens, and what was not does, too.
    let logins = register(&flows, &notes, false);
    let memos = flows.register("memo", memo).unwrap();
    flows.start().await.unwrap();
    assert_eq!(logins.run("done").result().await.unwrap(), expected());
    assert_eq!(logins.start("done", login()).await.unwrap().result().await.unwrap(), expected());
    let waits = logins.run("waits");
    waits.signal("code", &secret()).await.unwrap();
    assert_eq!(waits.result().await.unwrap(), expected());
    assert_eq!(memos.start("memo-2", ()).await.unwrap().result().await.unwrap(), "shared");

    clock.advance(DAY + DAY);
    assert_eq!(flows.sweep().await.unwrap(), 4);
    let swept = job.count().await.unwrap();
    assert_eq!(swept.of(1), 0, "{swept}");
    ring.destroy(1, "rotated", &swept).await.unwrap();
    assert_eq!(memos.start("memo-3", ()).await.unwrap().result().await.unwrap(), "shared");
    flows.shutdown().await;
}
