//! Signals with ids: sent as often as anybody likes, there once.

use resurge_flow::{Ctx, FlowError, FlowResult, FlowsOptions, StepError};
use resurge_store::{ErrorKind, ScanOptions};
use resurge_testkit::{Call, Fault};

use crate::world::{World, ms, ok, secs};

/// Takes words until nobody has sent one for a while.
async fn collects(ctx: Ctx, (): (), _w: World) -> FlowResult<Vec<String>> {
    let mut words = Vec::new();
    while let Some(word) = ctx.signal_within::<String>("word", secs(100)).await? {
        words.push(word);
    }
    Ok(words)
}

#[test]
fn a_signal_sent_again_is_there_once_also_when_it_was_taken_or_the_run_has_ended() {
    for evict_after in [ms(0), secs(5)] {
        let w = World::with(FlowsOptions { evict_after, ..FlowsOptions::default() });
        w.life(async |flows| {
            let flow = w.register(&flows, "collects", collects);
            flows.start().await.unwrap();
            let run = flow.start("r", ()).await.unwrap();
            run.signal_once("word", "1", "a").await.unwrap();
            run.signal_once("word", "1", "b").await.unwrap();
            w.pass(secs(10)).await;
            run.signal_once("word", "1", "c").await.unwrap();
            run.signal_once("word", "2", "d").await.unwrap();
        });
        w.life(async |flows| {
            let flow = w.register(&flows, "collects", collects);
            flows.start().await.unwrap();
            let run = flow.run("r");
            run.signal_once("word", "2", "e").await.unwrap();
            // Without an id it is another one each time.
            run.signal("word", "f").await.unwrap();
            run.signal("word", "f").await.unwrap();
            assert_eq!(w.run(run.result()).await.unwrap(), ["a", "d", "f", "f"]);
            run.signal_once("word", "1", "late").await.unwrap();
            let error = run.signal_once("word", "3", "late").await.unwrap_err();
            assert!(matches!(error, FlowError::Ended { .. }), "{error}");
            let error = flows.run::<()>("nobody").signal_once("word", "1", "a").await.unwrap_err();
            assert!(matches!(error, FlowError::NotFound { .. }), "{error}");
        });
    }
}

#[test]
fn a_sender_that_was_told_nothing_sends_again() {
    for fault in [Fault::after(ErrorKind::Indeterminate), Fault::before(ErrorKind::Indeterminate)] {
        let w = World::new();
        w.life(async |flows| {
            let flow = w.register(&flows, "collects", collects);
            flows.start().await.unwrap();
            let run = flow.start("r", ()).await.unwrap();
            w.quiet().await;
            w.faults.fail(Call::Commit, 1, fault);
            let error = run.signal_once("word", "1", "a").await.unwrap_err();
            assert!(matches!(error, FlowError::Store { .. }), "{error}");
            run.signal_once("word", "1", "a").await.unwrap();
            assert_eq!(w.run(run.result()).await.unwrap(), ["a"]);
        });
    }
}

#[test]
fn of_many_who_send_it_at_once_one_does() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "collects", collects);
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        // All of them have looked, and found nothing, before the first one writes.
        w.quiet().await;
        w.faults.hold();
        let senders = (0..8).map(|n| {
            let run = run.clone();
            tokio::spawn(async move { run.signal_once("word", "1", &n.to_string()).await })
        });
        let senders: Vec<_> = senders.collect();
        while w.faults.held() < senders.len() {
            tokio::task::yield_now().await;
        }
        w.faults.release();
        for sender in senders {
            sender.await.unwrap().unwrap();
        }
        assert_eq!(w.run(run.result()).await.unwrap().len(), 1);
    });
}

#[test]
fn an_id_belongs_to_a_name_and_to_a_run() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "collects", collects);
        flows.start().await.unwrap();
        let (one, two) = (flow.start("r", ()).await.unwrap(), flow.start("r2", ()).await.unwrap());
        one.signal_once("word", "1", "a").await.unwrap();
        let error = one.signal_once("other", "1", "a").await.unwrap_err().to_string();
        assert!(error.contains("`1` is the id of a signal `word`"), "{error}");
        two.signal_once("word", "1", "b").await.unwrap();
        for id in ["", "a\0b", &"x".repeat(201)] {
            let error = one.signal_once("word", id, "a").await.unwrap_err();
            assert!(matches!(error, FlowError::Invalid(_)), "{error}");
        }
        one.signal_once("word", &"x".repeat(200), "c").await.unwrap();
        assert_eq!(w.run(one.result()).await.unwrap(), ["a", "c"]);
        assert_eq!(w.run(two.result()).await.unwrap(), ["b"]);
    });
}

#[test]
fn ids_go_with_the_run() {
    let w = World::with(FlowsOptions { keep_finished: secs(1000), ..FlowsOptions::default() });
    let ids = async || {
        let signals = resurge_store::Namespace::new("resurge/flow/signals").unwrap();
        let page = w.plain().scan(signals.all(), ScanOptions::new().keys_only()).await.unwrap();
        page.entries.len()
    };
    w.life(async |flows| {
        let flow = w.register(&flows, "collects", collects);
        flows.start().await.unwrap();
        for (id, word) in [("r", "a"), ("r", "b"), ("r2", "c")] {
            let run = flow.start(id, ()).await.unwrap();
            run.signal_once("word", word, word).await.unwrap();
        }
        w.run(flow.run("r").result()).await.unwrap();
        w.run(flow.run("r2").result()).await.unwrap();
        assert_eq!(ids().await, 3);
        flows.delete("r").await.unwrap();
        assert_eq!(ids().await, 1, "those of the other run stay");
        w.clock.advance(secs(2000));
        flows.sweep().await.unwrap();
        assert_eq!(ids().await, 0);
    });
}

/// Within a millisecond many are sent; and a clock may be put back while the process is down.
#[test]
fn what_is_sent_after_a_restart_comes_after_what_was_sent_before() {
    let w = World::new();
    w.life(async |flows| {
        let flow = w.register(&flows, "collects", collects);
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        run.pause().await.unwrap();
        for word in ["1", "2", "3", "4"] {
            run.signal("word", word).await.unwrap();
        }
    });
    // Sent before anything is started, and after.
    w.life(async |flows| flows.run::<()>("r").signal("word", "5").await.unwrap());
    w.life(async |flows| {
        let flow = w.register(&flows, "collects", collects);
        flows.start().await.unwrap();
        let run = flow.run("r");
        run.signal("word", "6").await.unwrap();
        run.unpause().await.unwrap();
        assert_eq!(w.run(run.result()).await.unwrap(), ["1", "2", "3", "4", "5", "6"]);
    });
}

/// One fails until it is resumed; beside it, after that, two are taken.
async fn paid_beside(ctx: Ctx, (): (), w: World) -> FlowResult<(u32, u32, Option<u32>)> {
    let (failed, paid) = tokio::join!(
        ctx.step_with("fails", |step| async move {
            if step.recovering() { ok(()) } else { Err(StepError::permanent("no")) }
        })
        .into_future(),
        async {
            w.slow(&ctx, "beside", 1000).await?;
            let first = ctx.signal::<u32>("paid").await?;
            ok((first, ctx.signal::<u32>("paid").await?))
        },
    );
    failed?;
    let (first, second) = paid?;
    Ok((first, second, ctx.signal_within("paid", secs(100)).await?))
}

#[test]
fn a_signal_whose_taking_a_resume_voids_is_there_again_once() {
    let w = World::with(FlowsOptions { evict_after: ms(0), ..FlowsOptions::default() });
    w.life(async |flows| {
        let flow = w.register(&flows, "paid", paid_beside);
        flows.start().await.unwrap();
        let run = flow.start("r", ()).await.unwrap();
        run.signal_once("paid", "payment-17", &17_u32).await.unwrap();
        run.signal("paid", &18_u32).await.unwrap();
        let error = w.run(run.result()).await.unwrap_err();
        assert!(matches!(error, FlowError::Failed { .. }), "{error}");
    });
    w.life(async |flows| {
        w.register(&flows, "paid", paid_beside);
        flows.start().await.unwrap();
        let run = flows.run::<(u32, u32, Option<u32>)>("r").resume().await.unwrap();
        run.signal_once("paid", "payment-17", &17_u32).await.unwrap();
        w.pass(secs(10)).await;
        assert_eq!(w.effects.of("beside"), 1);
    });
    // Taken once more, and it waits for a third one: they are not given back again.
    w.life(async |flows| {
        let flow = w.register(&flows, "paid", paid_beside);
        flows.start().await.unwrap();
        let run = flow.run("r");
        run.signal_once("paid", "payment-17", &17_u32).await.unwrap();
        assert_eq!(w.run(run.result()).await.unwrap(), (17, 18, None));
        let report = flows.verify("r", &flows.history("r").await.unwrap()).await.unwrap();
        assert_eq!(report.same_end, Some(true));
    });
}
