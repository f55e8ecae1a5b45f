//! Steps behind a gate that follows a script.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use resurge_flow::record::Record;
use resurge_flow::{
    Admission, Attempt, Ctx, FlowError, FlowResult, Flows, FlowsOptions, Gate, Permit, Retry,
    RunState, Settled, StepError,
};
use resurge_store::{Batch, BoxFuture, Guard, Key, Namespace, Store, Timestamp};
use tokio::sync::Notify;

use crate::world::{World, crash_everywhere, ms, ok, secs};

/// Opens and closes as told; counts what it is told.
#[derive(Clone, Debug)]
struct Scripted(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    state: Mutex<Script>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Script {
    /// How many may begin; `None` for any number.
    room: Option<usize>,
    asked: Vec<String>,
    outcomes: Vec<bool>,
    settled: Vec<bool>,
    /// Guards of what the next outcomes stage; a wrong one conflicts.
    guards: VecDeque<Guard>,
    released: usize,
}

impl Scripted {
    fn closed(name: &str) -> Self {
        let state = Script { room: Some(0), ..Script::default() };
        Self(Arc::new(Inner {
            name: name.to_owned(),
            state: Mutex::new(state),
            changed: Notify::new(),
        }))
    }

    fn open(name: &str) -> Self {
        let gate = Self::closed(name);
        gate.0.state.lock().room = None;
        gate
    }

    /// Lets so many begin from now on.
    fn admit_next(&self, room: Option<usize>) {
        self.0.state.lock().room = room;
        self.0.changed.notify_waiters();
    }

    fn with<R>(&self, f: impl FnOnce(&mut Script) -> R) -> R {
        f(&mut self.0.state.lock())
    }
}

fn changes() -> Key {
    Namespace::new("app").unwrap().key("gate").unwrap()
}

impl Gate for Scripted {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn admit(&self, _now: Timestamp) -> Admission {
        let mut state = self.0.state.lock();
        state.asked.push("asked".to_owned());
        match &mut state.room {
            Some(0) => return Admission::Refused { until: None },
            Some(room) => *room -= 1,
            None => {}
        }
        Admission::Admitted(Box::new(Admitted(self.clone())))
    }

    fn released(&self) -> BoxFuture<'static, ()> {
        let gate = self.clone();
        Box::pin(async move {
            loop {
                let changed = gate.0.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if gate.0.state.lock().room != Some(0) {
                    gate.0.state.lock().released += 1;
                    return;
                }
                changed.await;
            }
        })
    }
}

#[derive(Debug)]
struct Admitted(Scripted);

impl Permit for Admitted {
    fn outcome(
        self: Box<Self>,
        outcome: Attempt<'_>,
        _: &Store,
        batch: &mut Batch,
    ) -> Option<Settled> {
        let gate = self.0;
        let succeeded = matches!(outcome, Attempt::Succeeded);
        let guard = gate.with(|state| {
            state.outcomes.push(succeeded);
            state.guards.pop_front()
        });
        if let Some(guard) = guard {
            batch.guard(changes(), guard);
        }
        batch.put(changes(), if succeeded { "succeeded" } else { "failed" });
        Some(Box::new(move |settled| gate.with(|state| state.settled.push(settled))))
    }
}

fn register(w: &World, flows: &Flows, gate: &Scripted) -> resurge_flow::FlowRef<(), u32> {
    let gate = gate.clone();
    w.register(flows, "guarded", move |ctx: Ctx, (): (), w: World| {
        let gate = gate.clone();
        async move { guarded(ctx, gate, w).await }
    })
}

async fn guarded(ctx: Ctx, gate: Scripted, w: World) -> FlowResult<u32> {
    ctx.step_with("call", |step| {
        w.note(format!("{} {}", step.run_id(), step.attempt()));
        let n = w.effects.ran("call");
        let w = w.clone();
        async move {
            w.clock_sleep(ms(10)).await;
            ok(n)
        }
    })
    .through(&gate)
    .await
}

fn parked(history: &[Record]) -> usize {
    history.iter().filter(|record| matches!(record, Record::Parked(_))).count()
}

#[test]
fn a_refused_step_is_parked_durably_and_no_attempt_is_spent() {
    for evict_after in [ms(0), secs(5)] {
        let w = World::with(FlowsOptions { evict_after, ..FlowsOptions::default() });
        let gate = Scripted::closed("payments");
        w.life(async |flows| {
            let flow = register(&w, &flows, &gate);
            flows.start().await.unwrap();
            let run = flow.start("r", ()).await.unwrap();
            w.pass(secs(20)).await;
            assert_eq!(run.state().await.unwrap(), RunState::Parked);
            assert_eq!(parked(&flows.history("r").await.unwrap()), 1);
            assert_eq!(w.effects.of("call"), 0);
        });
        // It is parked still after a crash, and let go when the gate opens.
        w.life(async |flows| {
            let flow = register(&w, &flows, &gate);
            flows.start().await.unwrap();
            w.pass(secs(20)).await;
            assert_eq!(flow.run("r").state().await.unwrap(), RunState::Parked);
            assert_eq!(parked(&flows.history("r").await.unwrap()), 1);
            gate.admit_next(None);
            assert_eq!(w.run(flow.run("r").result()).await.unwrap(), 1);
        });
        assert_eq!(w.notes(), ["r 1"]);
        assert_eq!(
            gate.with(|state| (state.outcomes.clone(), state.settled.clone())),
            (vec![true], vec![true])
        );
    }
}

#[test]
fn parked_runs_are_let_go_one_probe_at_a_time_oldest_first_then_the_others() {
    for (evict_after, crash) in [(ms(0), false), (secs(5), false), (ms(0), true), (secs(5), true)] {
        let w = World::with(FlowsOptions { evict_after, ..FlowsOptions::default() });
        let gate = Scripted::closed("payments");
        // The ids are in another order than the runs.
        let ids = ["d", "b", "e", "a", "c"];
        let start = async |flows: &Flows| {
            let flow = register(&w, flows, &gate);
            flows.start().await.unwrap();
            for id in ids {
                flow.start(id, ()).await.unwrap();
                w.pass(ms(100)).await;
            }
        };
        let let_go = async |flows: &Flows| {
            w.pass(secs(10)).await;
            let asked = gate.with(|state| state.asked.len());
            // Room for one probe: one run is let go, the others are not asked.
            gate.admit_next(Some(1));
            w.pass(ms(5)).await;
            assert_eq!(w.notes(), ["d 1"], "{evict_after:?} {crash}");
            assert_eq!(gate.with(|state| state.asked.len()) - asked, 1);
            // It got through, but there is no room: nobody else is let go.
            w.pass(secs(5)).await;
            assert_eq!(w.notes(), [""; 0]);
            gate.admit_next(None);
            for id in ids {
                w.run(flows.run::<u32>(id).result()).await.unwrap();
            }
            assert_eq!(w.notes(), ["b 1", "e 1", "a 1", "c 1"], "{evict_after:?} {crash}");
        };
        if crash {
            w.life(async |flows| start(&flows).await);
            w.life(async |flows| {
                register(&w, &flows, &gate);
                flows.start().await.unwrap();
                let_go(&flows).await;
            });
        } else {
            w.life(async |flows| {
                start(&flows).await;
                let_go(&flows).await;
            });
        }
    }
}

#[test]
fn a_probe_that_is_refused_again_keeps_its_turn() {
    let w = World::new();
    let gate = Scripted::closed("payments");
    w.life(async |flows| {
        let flow = register(&w, &flows, &gate);
        flows.start().await.unwrap();
        for id in ["first", "second"] {
            flow.start(id, ()).await.unwrap();
            w.pass(ms(100)).await;
        }
        // The gate opens for a moment: too short for the probe.
        gate.0.changed.notify_waiters();
        gate.with(|state| state.room = Some(1));
        gate.0.changed.notify_waiters();
        gate.with(|state| state.room = Some(0));
        w.pass(secs(1)).await;
        assert_eq!(w.effects.of("call"), 0);
        gate.admit_next(Some(1));
        w.pass(secs(1)).await;
        assert_eq!(w.notes(), ["first 1"]);
        assert_eq!(parked(&flows.history("first").await.unwrap()), 1, "it was parked once");
    });
}

#[test]
fn a_run_that_no_longer_waits_behind_a_gate_holds_nobody_up() {
    for evict_after in [ms(0), secs(5)] {
        for how in ["cancel", "select", "pause"] {
            let w = World::with(FlowsOptions { evict_after, ..FlowsOptions::default() });
            let gate = Scripted::closed("payments");
            w.life(async |flows| {
                let flow = register(&w, &flows, &gate);
                let through = gate.clone();
                let gives_up = w.register(&flows, "gives up", move |ctx: Ctx, (): (), w: World| {
                    let gate = through.clone();
                    async move {
                        let call = guarded(ctx.clone(), gate, w);
                        ctx.timeout("limit", secs(10), call).await?;
                        // It goes on for long, without the gate.
                        ctx.signal::<()>("never").await
                    }
                });
                flows.start().await.unwrap();
                let oldest = match how {
                    "select" => {
                        gives_up.start("oldest", ()).await.unwrap();
                        None
                    }
                    _ => Some(flow.start("oldest", ()).await.unwrap()),
                };
                w.pass(secs(1)).await;
                let next = flow.start("next", ()).await.unwrap();
                w.pass(secs(1)).await;
                if let Some(oldest) = oldest {
                    match how {
                        "cancel" => oldest.cancel().await.unwrap(),
                        _ => oldest.pause().await.unwrap(),
                    }
                }
                w.pass(secs(20)).await;
                gate.admit_next(None);
                w.pass(secs(20)).await;
                assert_eq!(
                    next.state().await.unwrap(),
                    RunState::Succeeded,
                    "{how} {evict_after:?}"
                );
            });
        }
    }
}

#[test]
fn two_steps_of_one_run_behind_one_gate_both_get_through() {
    let w = World::new();
    let gate = Scripted::closed("payments");
    w.life(async |flows| {
        let through = gate.clone();
        let flow = w.register(&flows, "two", move |ctx: Ctx, (): (), w: World| {
            let gate = through.clone();
            async move {
                let call = || {
                    ctx.step("call", || async {
                        w.effects.ran("call");
                        w.clock_sleep(secs(100)).await;
                        ok(())
                    })
                    .through(&gate)
                    .into_future()
                };
                tokio::try_join!(call(), call()).map(|_| ())
            }
        });
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        w.pass(secs(1)).await;
        gate.admit_next(Some(1));
        w.pass(secs(2)).await;
        assert_eq!(w.effects.of("call"), 1);
        // The first is at work; the second gets through beside it.
        gate.admit_next(Some(1));
        w.pass(secs(2)).await;
        assert_eq!(w.effects.of("call"), 2);
        w.run(run.result()).await.unwrap();
    });
}

#[test]
fn what_the_gate_stages_is_committed_with_the_steps_record_or_dropped_on_a_conflict() {
    for fits in [true, false] {
        let w = World::new();
        let gate = Scripted::open("payments");
        gate.with(|state| {
            state.guards.push_back(if fits { Guard::Absent } else { Guard::Present });
        });
        w.life(async |flows| {
            let flow = register(&w, &flows, &gate);
            flows.start().await.unwrap();
            let run = flow.start("r", ()).await.unwrap();
            assert_eq!(w.run(run.result()).await.unwrap(), 1);
            // The step's own record stands in either case.
            assert_eq!(gate.with(|state| state.settled.clone()), [fits]);
            let staged = flows.store().get(&changes()).await.unwrap();
            assert_eq!(staged.is_some(), fits);
            assert_eq!(w.effects.of("call"), 1);
        });
    }
}

#[test]
fn failed_attempts_are_told_and_the_next_one_asks_again() {
    let w = World::new();
    let gate = Scripted::open("payments");
    w.life(async |flows| {
        let through = gate.clone();
        let flow = w.register(&flows, "fails", move |ctx: Ctx, (): (), w: World| {
            let gate = through.clone();
            async move {
                ctx.step("call", || async {
                    if w.effects.ran("call") < 3 { Err(StepError::transient("no")) } else { Ok(()) }
                })
                .through(&gate)
                .retry(Retry::fixed(secs(1)))
                .await
            }
        });
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        w.run(run.result()).await.unwrap();
        assert_eq!(gate.with(|state| state.outcomes.clone()), [false, false, true]);
        assert_eq!(gate.with(|state| state.settled.clone()), [true, true, true]);
        assert_eq!(gate.with(|state| state.asked.len()), 3);
    });
}

#[test]
fn all_gates_of_a_step_must_admit_it() {
    let w = World::new();
    let (first, second) = (Scripted::open("first"), Scripted::closed("second"));
    w.life(async |flows| {
        let gates = (first.clone(), second.clone());
        let flow = w.register(&flows, "two", move |ctx: Ctx, (): (), w: World| {
            let (first, second) = gates.clone();
            async move {
                ctx.step("call", || async { ok(w.effects.ran("call")) })
                    .through(&first)
                    .through(&second)
                    .await
            }
        });
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        w.pass(secs(1)).await;
        assert_eq!(run.state().await.unwrap(), RunState::Parked);
        // The permit of the first was given back unused.
        assert_eq!(first.with(|state| state.outcomes.len()), 0);
        second.admit_next(None);
        assert_eq!(w.run(run.result()).await.unwrap(), 1);
        assert_eq!(first.with(|state| state.outcomes.clone()), [true]);
        assert_eq!(second.with(|state| state.outcomes.clone()), [true]);
    });
}

#[test]
fn a_crash_while_parked_loses_nothing() {
    let script = async |w: &World, flows: &Flows, _: bool| -> Result<u32, FlowError> {
        let gate = Scripted::closed("payments");
        let flow = register(w, flows, &gate);
        flows.start().await?;
        let run = flow.start("r", ()).await?;
        w.pass(secs(1)).await;
        gate.admit_next(None);
        w.run(run.result()).await
    };
    for evict_after in [ms(0), secs(5)] {
        let options = FlowsOptions { evict_after, ..FlowsOptions::default() };
        crash_everywhere(&options, script, |w, nth, _| {
            let notes = w.notes();
            assert!((1..=2).contains(&notes.len()), "killed at commit {nth}: {notes:?}");
            assert!(notes.iter().all(|note| note == "r 1"), "killed at commit {nth}: {notes:?}");
        });
    }
}

#[test]
fn what_the_gate_stages_shares_the_steps_commit_also_when_a_child_begins_with_it() {
    async fn child(_: Ctx, (): (), _: World) -> FlowResult<()> {
        Ok(())
    }
    let script = async |w: &World, flows: &Flows, again: bool| -> Result<_, FlowError> {
        if again {
            let staged = flows.store().get(&changes()).await.unwrap().is_some();
            let recorded = flows.history("r").await.is_ok_and(|records| {
                records.iter().any(|record| match record {
                    Record::Completed(done) => done.position.name() == "call",
                    _ => false,
                })
            });
            assert_eq!(staged, recorded, "one without the other");
        }
        let gate = Scripted::open("payments");
        let child = w.register(flows, "child", child);
        let flow = w.register(flows, "both", move |ctx: Ctx, (): (), w: World| {
            let (gate, child) = (gate.clone(), child.clone());
            async move {
                let step = ctx.step("call", || async { ok(w.effects.ran("call")) }).through(&gate);
                let (step, child) = tokio::join!(step.into_future(), ctx.child("c", &child, &()));
                child?;
                step.map(drop)
            }
        });
        flows.start().await?;
        let run = flow.start("r", ()).await?;
        w.run(run.result()).await
    };
    let crashes = crash_everywhere(&FlowsOptions::default(), script, |_, _, ()| {});
    assert!(crashes >= 3, "{crashes}");
}
