//! Steps: where they may be asked for, how often their bodies run, what their errors say.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use resurge_flow::{
    Class, Ctx, FlowError, FlowResult, Flows, FlowsOptions, Retry, RunState, StepError,
    StepErrorKind, StepInfo,
};
use resurge_store::Clock;

use crate::world::{World, crash_everywhere, ms, ok, secs};

/// Runs a flow once, without crashes.
fn once<Fut>(
    flow: impl Fn(Ctx, (), World) -> Fut + Send + Sync + 'static,
) -> (World, Result<String, FlowError>)
where
    Fut: Future<Output = FlowResult<String>> + Send + 'static,
{
    let w = World::new();
    let outcome = w.life(async |flows| {
        let flow = w.register(&flows, "once", flow);
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        w.run(run.result()).await
    });
    (w, outcome)
}

fn kind_of<T>(result: Result<T, StepError>) -> StepErrorKind {
    result.err().unwrap().kind()
}

#[test]
fn a_step_inside_a_body_is_an_error_that_says_so() {
    let (w, outcome) = once(async |ctx: Ctx, (), w: World| {
        let inner = ctx.clone();
        ctx.step("outer", || async {
            let nested = inner.step("inner", || async { ok(w.effects.ran("inner")) }).await;
            assert_eq!(kind_of(inner.random()), StepErrorKind::Misplaced);
            assert_eq!(kind_of(inner.now().await), StepErrorKind::Misplaced);
            assert_eq!(kind_of(inner.scope("s")), StepErrorKind::Misplaced);
            assert_eq!(kind_of(inner.sleep("s", secs(1)).await), StepErrorKind::Misplaced);
            assert_eq!(kind_of(inner.patched("p")), StepErrorKind::Misplaced);
            nested.map(|_| String::new())
        })
        .await
    });
    let error = outcome.unwrap_err();
    assert!(error.to_string().contains("inside the body of step `outer`"), "{error}");
    let FlowError::Failed { error, .. } = error else { panic!() };
    assert_eq!((error.kind, error.class), (StepErrorKind::Misplaced, Class::Permanent));
    assert_eq!(w.effects.of("inner"), 0);
}

#[test]
fn a_step_from_another_task_is_an_error() {
    let (_, outcome) = once(async |ctx: Ctx, (), _| {
        let theirs = ctx.clone();
        let task = tokio::spawn(async move {
            assert_eq!(kind_of(theirs.set("x", &1)), StepErrorKind::Misplaced);
            theirs.step("elsewhere", || async { ok(1) }).await
        });
        let error = task.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("outside of the run's own task"), "{error}");
        assert_eq!(error.kind(), StepErrorKind::Misplaced);
        ctx.step("here", || async { ok(String::from("fine")) }).await
    });
    assert_eq!(outcome.unwrap(), "fine");
}

#[test]
fn a_step_of_another_run_is_an_error() {
    let w = World::new();
    w.life(async |flows| {
        let lent: Arc<Mutex<Option<Ctx>>> = Arc::default();
        let lender = Arc::clone(&lent);
        let generous = flows
            .register("lend", move |ctx: Ctx, (): ()| {
                *lender.lock() = Some(ctx.clone());
                async move { ctx.signal::<()>("done").await }
            })
            .unwrap();
        let borrow = flows
            .register("borrow", move |_: Ctx, (): ()| {
                let theirs = lent.lock().clone().unwrap();
                async move {
                    let error = theirs.step("x", || async { ok(()) }).await.unwrap_err();
                    Ok(error.kind() == StepErrorKind::Misplaced)
                }
            })
            .unwrap();
        flows.start().await.unwrap();
        let lends = generous.start("lends", ()).await.unwrap();
        w.quiet().await;
        assert!(borrow.start("borrows", ()).await.unwrap().result().await.unwrap());
        lends.signal("done", &()).await.unwrap();
        lends.result().await.unwrap();
    });
}

#[test]
fn a_step_that_is_not_awaited_is_not_journaled() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "drops", async |ctx: Ctx, (), w: World| {
            drop(ctx.step("dropped", || async { ok(w.effects.ran("dropped")) }));
            // The one after it has a position of its own.
            ctx.step_with(
                "dropped",
                |step: StepInfo| async move { ok(step.position().occurrence()) },
            )
            .await
        });
        flows.start().await.unwrap();
        assert_eq!(flow.start("r", ()).await.unwrap().result().await.unwrap(), 1);
        assert_eq!(w.effects.of("dropped"), 0);
        // Its beginning, one step, its end.
        assert_eq!(flows.history("r").await.unwrap().len(), 3);
    });
}

#[test]
fn names_are_checked() {
    let (_, outcome) = once(async |ctx: Ctx, (), _| {
        for name in ["", "@now", &"x".repeat(201)] {
            let error = ctx.step(name.to_owned(), || async { ok(1) }).await.unwrap_err();
            assert_eq!((error.kind(), error.class()), (StepErrorKind::Invalid, Class::Permanent));
        }
        ctx.step("x".repeat(200), || async { ok(String::from("long")) }).await
    });
    assert_eq!(outcome.unwrap(), "long");
}

/// When each attempt at a step that always fails was made, in seconds from the first.
fn attempts(retry: Retry, error: fn() -> StepError) -> Vec<u64> {
    let w = World::new();
    w.life(async |flows| {
        let flow = flows
            .register("fails", {
                let w = w.clone();
                move |ctx: Ctx, (): ()| {
                    let (w, retry) = (w.clone(), retry.clone());
                    async move {
                        ctx.step("fails", || async {
                            w.note(w.clock.now().as_millis().to_string());
                            Err::<(), _>(error())
                        })
                        .retry(retry)
                        .await
                    }
                }
            })
            .unwrap();
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        w.run(run.result()).await.unwrap_err();
    });
    let at: Vec<u64> = w.notes().iter().map(|at| at.parse().unwrap()).collect();
    at.iter().map(|time| (time - at[0]) / 1000).collect()
}

#[test]
fn attempts_are_made_when_the_policy_says() {
    let transient = || StepError::transient("again");
    assert_eq!(attempts(Retry::none(), transient), [0]);
    assert_eq!(attempts(Retry::fixed(secs(60)).max_attempts(4), transient), [0, 60, 120, 180]);
    let exponential = Retry::exponential(secs(1)).jitter(0.0).max_delay(secs(5)).max_attempts(5);
    assert_eq!(attempts(exponential, transient), [0, 1, 3, 7, 12]);
    let custom = Retry::custom(|failed| (failed < 3).then(|| secs(u64::from(failed) * 10)));
    assert_eq!(attempts(custom, transient), [0, 10, 30]);
    // Some errors are not tried again.
    let permanent = || StepError::permanent("no");
    assert_eq!(attempts(Retry::fixed(secs(1)).max_attempts(4), permanent), [0]);
    let only_busy = Retry::fixed(secs(1)).max_attempts(3).only_if(|e| e.code() == Some("busy"));
    assert_eq!(attempts(only_busy.clone(), transient), [0]);
    assert_eq!(attempts(only_busy, || StepError::transient("x").with_code("busy")), [0, 1, 2]);
}

#[test]
fn attempts_and_waits_are_counted_across_crashes() {
    async fn flow(ctx: Ctx, (): (), w: World) -> FlowResult<u32> {
        ctx.step_with("fails", |step| {
            w.note(format!("{} {}", step.attempt(), w.clock.now().as_millis()));
            async move { Err::<u32, _>(StepError::transient(format!("no {}", step.attempt()))) }
        })
        .retry(Retry::fixed(secs(60)).max_attempts(4))
        .await
    }
    let script = async |w: &World, flows: &Flows, _: bool| -> Result<String, FlowError> {
        let flow = w.register(flows, "fails", flow);
        flows.start().await?;
        let run = flow.start("r", ()).await?;
        match w.run(run.result()).await {
            Err(FlowError::Failed { error, .. }) => Ok(error.message),
            Err(other) => Err(other),
            Ok(_) => Ok("it succeeded".to_owned()),
        }
    };
    crash_everywhere(&FlowsOptions::default(), script, |w, nth, message| {
        assert_eq!(message, "no 4", "killed at commit {nth}");
        let notes = w.notes();
        // At most the attempt in flight is made again, under its number.
        assert!((4..=5).contains(&notes.len()), "killed at commit {nth}: {notes:?}");
        let mut first: Vec<u64> = Vec::new();
        for attempt in 1..=4 {
            let of = notes.iter().rfind(|note| note.starts_with(&attempt.to_string())).unwrap();
            first.push(of.split(' ').nth(1).unwrap().parse().unwrap());
        }
        let waits: Vec<u64> = first.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(waits, [60_000; 3], "killed at commit {nth}: {notes:?}");
    });
}

#[test]
fn each_attempt_has_a_time_limit() {
    let (w, outcome) = once(async |ctx: Ctx, (), w: World| {
        ctx.step("slow", || async {
            let n = w.effects.ran("slow");
            // Takes 30, 20, then 10 seconds.
            w.clock.sleep(secs(40 - u64::from(n) * 10)).await;
            w.effects.ran("done");
            ok(format!("attempt {n}"))
        })
        .timeout(secs(15))
        .retry(Retry::fixed(secs(1)).max_attempts(5))
        .await
    });
    assert_eq!(outcome.unwrap(), "attempt 3");
    assert_eq!((w.effects.of("slow"), w.effects.of("done")), (3, 1));

    let (w, outcome) = once(async |ctx: Ctx, (), w: World| {
        ctx.step("slow", || async {
            w.clock.sleep(secs(16)).await;
            ok(String::new())
        })
        .timeout(secs(15))
        .await
    });
    let FlowError::Failed { error, positions, .. } = outcome.unwrap_err() else { panic!() };
    assert_eq!((error.kind, error.class), (StepErrorKind::Timeout, Class::Transient));
    assert_eq!(positions[0].name(), "slow");
    assert_eq!(w.clock.sleepers(), 0, "nothing of it is left");
}

#[test]
fn a_panic_in_a_body_is_a_permanent_failure_of_the_step() {
    let (w, outcome) = once(async |ctx: Ctx, (), w: World| {
        ctx.step("bug", || async {
            w.effects.ran("bug");
            assert!(w.effects.of("never") > 0, "index {} out of range", 7);
            ok(String::new())
        })
        .retry(Retry::fixed(secs(1)))
        .await
    });
    let error = outcome.unwrap_err();
    assert_eq!(error.to_string(), "run `r` failed at step `bug`: panicked: index 7 out of range");
    assert_eq!(w.effects.of("bug"), 1);
}

#[test]
fn a_panic_in_the_flows_code_fails_the_run_wherever_it_happens() {
    let (w, outcome) = once(async |ctx: Ctx, (), w: World| {
        w.counted(&ctx, "before").await?;
        panic!("in the flow");
    });
    assert!(outcome.unwrap_err().to_string().contains("panicked: in the flow"));
    assert_eq!(w.effects.of("before"), 1);

    // Before the first await: the function itself, not its future.
    let w = World::new();
    w.life(async |flows| {
        let flow = flows
            .register("panics", |ctx: Ctx, fails: bool| {
                assert!(!fails, "in the function");
                // Asked for by the function itself, too.
                let step = ctx.clone();
                let step = async move { step.step("x", || async { ok(5) }).await };
                let number = ctx.random();
                async move { number.and(step.await) }
            })
            .unwrap();
        flows.start().await.unwrap();
        let run = flow.start("r", true).await.unwrap();
        let error = run.result().await.unwrap_err();
        assert!(error.to_string().contains("panicked: in the function"), "{error}");
        assert_eq!(flow.start("s", false).await.unwrap().result().await.unwrap(), 5);
    });
}

/// A value whose drop panics when its run is put away.
struct Rude;

impl Drop for Rude {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "rude");
    }
}

#[test]
fn a_drop_that_panics_takes_nothing_with_it() {
    let w = World::with(FlowsOptions { evict_after: ms(0), ..FlowsOptions::default() });
    w.life(async |flows| {
        let flow = w.register(&flows, "rude", async |ctx: Ctx, (), _| {
            let rude = Rude;
            ctx.signal::<()>("go").await?;
            std::mem::forget(rude);
            Ok(3)
        });
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        w.quiet().await;
        run.signal("go", &()).await.unwrap();
        assert_eq!(w.run(run.result()).await.unwrap(), 3);
        w.run(flows.shutdown()).await;
    });
}

#[derive(Debug, thiserror::Error)]
#[error("declined with {code}")]
struct Declined {
    code: u32,
    #[source]
    cause: std::io::Error,
}

#[test]
fn an_error_keeps_its_type_while_the_process_lives_and_its_text_after() {
    async fn flow(ctx: Ctx, (): (), w: World) -> FlowResult<String> {
        let error = ctx
            .step("declined", || async {
                let cause = std::io::Error::other("no funds");
                Err::<(), _>(Declined { code: 51, cause })
            })
            .await
            .unwrap_err();
        w.note(format!("{:?}", error.downcast_ref::<Declined>().map(|e| e.code)));
        assert_eq!(error.root_cause(), "no funds");
        assert_eq!(error.to_string(), "step `declined`: declined with 51: no funds");
        ctx.signal::<()>("go").await?;
        Ok(error.to_string())
    }
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "declined", flow);
        flows.start().await.unwrap();
        flow.start("r", ()).await.unwrap();
        w.quiet().await;
    });
    w.life(async |flows| {
        let flow = w.register(&flows, "declined", flow);
        flows.start().await.unwrap();
        let run = flow.run("r");
        run.signal("go", &()).await.unwrap();
        assert_eq!(
            w.run(run.result()).await.unwrap(),
            "step `declined`: declined with 51: no funds"
        );
    });
    assert_eq!(w.notes(), ["Some(51)", "None"]);
}

#[test]
fn a_users_own_writes_are_committed_with_the_step_or_not_at_all() {
    async fn flow(ctx: Ctx, (): (), w: World) -> FlowResult<u32> {
        let key = resurge_store::Namespace::new("app").unwrap().key("count").unwrap();
        ctx.step_with("writes", |step| {
            let (w, key) = (w.clone(), key.clone());
            async move {
                let n = w.effects.ran("writes");
                step.write(|batch| {
                    batch.put(key, n.to_string());
                });
                if n == 1 { Err(StepError::transient("not this time")) } else { Ok(n) }
            }
        })
        .retry(Retry::fixed(secs(1)))
        .await
    }
    let script = async |w: &World, flows: &Flows, _: bool| -> Result<_, FlowError> {
        let flow = w.register(flows, "writes", flow);
        flows.start().await?;
        let run = flow.start("r", ()).await?;
        let n = w.run(run.result()).await?;
        let key = resurge_store::Namespace::new("app").unwrap().key("count").unwrap();
        let stored = flows.store().get(&key).await.unwrap().unwrap();
        Ok((n, String::from_utf8(stored.to_vec()).unwrap()))
    };
    crash_everywhere(&FlowsOptions::default(), script, |_, nth, (n, stored)| {
        assert_eq!(stored, n.to_string(), "killed at commit {nth}");
    });
}

#[test]
fn a_users_own_writes_that_could_fail_the_commit_fail_the_step() {
    async fn flow(ctx: Ctx, large: bool, _: World) -> FlowResult<()> {
        let key = resurge_store::Namespace::new("app").unwrap().key("count").unwrap();
        ctx.step_with("writes", |step| {
            let key = key.clone();
            async move {
                step.write(|batch| {
                    if large {
                        batch.put(key, vec![7; 5 << 20]);
                    } else {
                        batch.guard(key, resurge_store::Guard::Present);
                    }
                });
                Ok::<_, StepError>(())
            }
        })
        .retry(Retry::fixed(secs(1)))
        .await
    }
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "writes", flow);
        flows.start().await.unwrap();
        for (id, large, says) in
            [("guard", false, "is conditional"), ("large", true, "the limit is")]
        {
            let run = flow.start(id, large).await.unwrap();
            let failed = w.run(run.result()).await.unwrap_err().to_string();
            assert!(failed.contains("step `writes`") && failed.contains(says), "{failed}");
        }
    });
}

#[test]
fn bodies_begin_only_when_what_led_to_them_is_durable_unless_deferred() {
    for deferred in [false, true] {
        let w = World::new();
        w.life(async |flows| {
            let flow = w.register(&flows, "two", move |ctx: Ctx, (): (), w: World| async move {
                let first = ctx.step("first", || async { ok(w.effects.ran("first")) });
                if deferred { first.deferred().await } else { first.await }?;
                let second = ctx.step("second", || async { ok(w.effects.ran("second")) });
                if deferred { second.deferred().await } else { second.await }?;
                ctx.step("third", || async { ok(w.effects.ran("third")) }).await
            });
            flows.start().await.unwrap();
            let run = flow.start("r", ()).await.unwrap();
            w.faults.hold();
            for _ in 0..400 {
                tokio::task::yield_now().await;
            }
            assert_eq!(w.effects.of("first"), 1);
            assert_eq!(w.effects.of("second"), u32::from(deferred));
            // A step that is not deferred waits for the deferred ones, too.
            assert_eq!(w.effects.of("third"), 0);
            w.faults.release();
            assert_eq!(w.run(run.result()).await.unwrap(), 1);
        });
    }
}

#[test]
fn state_and_duration_of_a_retry_are_told() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "retries", async |ctx: Ctx, (), w: World| {
            ctx.step("x", || async {
                if w.effects.ran("x") == 1 { Err(StepError::transient("no")) } else { Ok(2) }
            })
            .retry(Retry::fixed(Duration::from_secs(600)))
            .await
        });
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        w.quiet().await;
        assert_eq!(run.state().await.unwrap(), RunState::Retrying);
        assert_eq!(w.run(run.result()).await.unwrap(), 2);
    });
}
