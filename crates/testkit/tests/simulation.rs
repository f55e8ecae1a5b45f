//! The simulator finds what crashes break, names it so that it can be repeated, and lets sound code pass.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::sync::Arc;
use std::time::Duration;

use resurge_store::{
    Batch, Clock, Durability, ErrorKind, Guard, Key, Namespace, Result, StateStore, Store,
};
use resurge_testkit::sim::{Crash, Ending, Failure, Recovered, Sim, SimFailure, Simulation};
use resurge_testkit::{SimStore, enumerate, evidence};

fn key(name: &str) -> Result<Key> {
    Namespace::new("sim")?.key(name)
}

fn put(name: &str, value: u64) -> Result<Batch> {
    let mut batch = Batch::new();
    batch.put(key(name)?, value.to_be_bytes().to_vec());
    Ok(batch)
}

async fn number(store: &Store, name: &str) -> Result<u64> {
    let value = store.get(&key(name)?).await?;
    Ok(value.and_then(|v| v.as_ref().try_into().ok()).map_or(0, u64::from_be_bytes))
}

/// What is acknowledged is the number last written.
async fn newest_is_there(recovered: Recovered<u64>) -> Result<(), Failure> {
    let found = number(recovered.store(), "n").await?;
    for ack in recovered.acks() {
        recovered.survived(ack, found >= *ack)?;
    }
    Ok(())
}

/// A failure must come back when its line is replayed.
fn fails<S, SF, C, CF>(simulation: &Simulation, scenario: S, check: C) -> SimFailure
where
    S: Fn(Sim<u64>) -> SF,
    SF: Future<Output = Result<(), Failure>> + Send + 'static,
    C: Fn(Recovered<u64>) -> CF,
    CF: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let failure = simulation.run(&scenario, &check).unwrap_err();
    let crash = failure.crash().unwrap_or_else(|| panic!("{failure}")).clone();
    let text = failure.to_string();
    assert!(text.contains(&format!("replay(\"{crash}\")")), "{text}");
    let replayed = Simulation::new().replay(&crash.to_string()).unwrap().run(scenario, check);
    assert_eq!(replayed.unwrap_err().to_string(), text);
    failure
}

#[test]
fn sound_code_survives_everything() {
    let report = enumerate(
        |sim: Sim<u64>| async move {
            for i in 1..=20 {
                sim.store().commit(put("n", i)?, Durability::Durable).await?;
                sim.ack(i);
            }
            Ok(())
        },
        newest_is_there,
    )
    .unwrap();
    assert_eq!((report.commits, report.acknowledged, report.diverged), (20, 20, 0));
    // Killed and poisoned after each of 20 commits, the last one kept and lost; and the end.
    assert_eq!(report.crash_points, 20 * 2 * 2 + 1);
    assert_eq!(report.checked_acks, (0..20).map(|n| n * 4).sum::<usize>() + 20);
    evidence("testkit-sim-durable", &report.to_string());
}

#[test]
fn acknowledging_before_the_commit_is_caught() {
    let early = |sim: Sim<u64>| async move {
        for i in 1..=5 {
            let commit = sim.store().commit(put("n", i)?, Durability::Durable);
            sim.ack(i);
            commit.await?;
        }
        Ok(())
    };
    let failure = fails(&Simulation::new(), early, newest_is_there);
    assert!(failure.to_string().contains("acknowledged and lost: 1"), "{failure}");
}

#[test]
fn acknowledging_what_is_only_buffered_is_caught() {
    let buffered = |sim: Sim<u64>| async move {
        for i in 1..=5 {
            sim.store().commit(put("n", i)?, Durability::Buffered).await?;
            sim.ack(i);
        }
        Ok(())
    };
    fails(&Simulation::new(), buffered, newest_is_there);
}

#[test]
fn buffered_and_then_synced_survives() {
    let synced = |sim: Sim<u64>| async move {
        for i in 1..=5 {
            sim.store().commit(put("n", i)?, Durability::Buffered).await?;
            if i % 2 == 0 {
                sim.store().sync().await?;
                sim.ack(i);
            }
        }
        sim.store().commit(put("other", 1)?, Durability::Durable).await?;
        sim.ack(5); // Durable covers what came before.
        Ok(())
    };
    let report = enumerate(synced, newest_is_there).unwrap();
    assert!(report.crash_points > 2 * 2 * 6, "{report}");
}

#[test]
fn two_commits_where_one_is_needed_are_caught() {
    let halves = |sim: Sim<u64>| async move {
        for i in 1..=5 {
            sim.store().commit(put("left", i)?, Durability::Durable).await?;
            sim.store().commit(put("right", i)?, Durability::Durable).await?;
        }
        Ok(())
    };
    let equal = |recovered: Recovered<u64>| async move {
        let store = recovered.store();
        let (left, right) = (number(store, "left").await?, number(store, "right").await?);
        if left == right { Ok(()) } else { Err(format!("{left} and {right}").into()) }
    };
    fails(&Simulation::new(), halves, equal);
}

#[test]
fn taking_an_unknown_outcome_for_success_is_caught() {
    let optimist = |sim: Sim<u64>| async move {
        for i in 1..=5 {
            match sim.store().commit(put("n", i)?, Durability::Durable).await {
                Ok(_) => sim.ack(i),
                Err(e) if e.kind() == ErrorKind::Indeterminate => sim.ack(i),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    };
    let failure = fails(&Simulation::new(), optimist, newest_is_there);
    assert_eq!(failure.crash().map(|c| c.ending), Some(Ending::Poison));
}

#[test]
fn a_lost_update_between_two_tasks_is_caught() {
    async fn increment(store: Store, guarded: bool) -> Result<(), Failure> {
        loop {
            let stored = store.get(&key("n")?).await?;
            let next = number(&store, "n").await? + 1;
            let mut batch = put("n", next)?;
            if guarded {
                batch.guard(key("n")?, Guard::of(stored));
            }
            match store.commit(batch, Durability::Durable).await {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Conflict => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    let scenario = |guarded: bool| {
        move |sim: Sim<u64>| async move {
            let tasks: Vec<_> =
                (0..4).map(|_| tokio::spawn(increment(sim.store().clone(), guarded))).collect();
            for (done, task) in (1..).zip(tasks) {
                task.await??;
                sim.ack(done);
            }
            Ok(())
        }
    };
    enumerate(scenario(true), newest_is_there).unwrap();
    fails(&Simulation::new(), scenario(false), newest_is_there);
}

/// Applies a journaled intent and removes it: in one commit, or (wrong) in two.
async fn recover(store: &Store, in_one_commit: bool) -> Result<(), Failure> {
    if store.get(&key("intent")?).await?.is_none() {
        return Ok(());
    }
    let applied = put("n", number(store, "n").await? + 1)?;
    let mut done = Batch::new();
    done.delete(key("intent")?);
    if in_one_commit {
        done.merge(applied);
        store.commit(done, Durability::Durable).await?;
    } else {
        store.commit(applied, Durability::Durable).await?;
        store.commit(done, Durability::Durable).await?;
    }
    Ok(())
}

#[test]
fn a_second_crash_finds_a_recovery_that_may_not_be_repeated() {
    let scenario = |sim: Sim<u64>| async move {
        sim.store().commit(put("intent", 1)?, Durability::Durable).await?;
        Ok(())
    };
    let check = |in_one_commit: bool| {
        move |recovered: Recovered<u64>| async move {
            recover(recovered.store(), in_one_commit).await?;
            match number(recovered.store(), "n").await? {
                0 | 1 => Ok(()),
                n => Err(format!("applied {n} times").into()),
            }
        }
    };
    let twice = Simulation::new().second_crashes(4);
    let report = twice.run(scenario, check(true)).unwrap();
    assert!(report.second_crashes > 0, "{report:?}");
    // One crash alone does not show it.
    enumerate(scenario, check(false)).unwrap();
    let failure = fails(&twice, scenario, check(false));
    assert!(failure.crash().unwrap().again.is_some());
}

#[test]
fn scenarios_that_fail_by_themselves_are_reported_as_such() {
    let check = |_: Recovered<u64>| async { Ok(()) };
    let failing = |_: Sim<u64>| async { Err("broken".into()) };
    let failure = enumerate(failing, check).unwrap_err();
    assert!(failure.crash().is_none() && failure.to_string().contains("broken"), "{failure}");
    let panicking = |_: Sim<u64>| async { panic!("planted") };
    let failure = enumerate(panicking, check).unwrap_err();
    assert!(failure.to_string().contains("panic"), "{failure}");
    let hanging = |_: Sim<u64>| async {
        std::future::pending::<()>().await;
        Ok(())
    };
    let patience = Simulation::new().patience(Duration::from_millis(50));
    let failure = patience.run(hanging, check).unwrap_err();
    assert!(failure.to_string().contains("hangs"), "{failure}");
}

#[test]
fn a_panic_in_the_check_is_a_failure() {
    let scenario = |sim: Sim<u64>| async move {
        sim.store().commit(put("n", 1)?, Durability::Durable).await?;
        Ok(())
    };
    let check = |recovered: Recovered<u64>| async move {
        assert_eq!(number(recovered.store(), "n").await?, 1, "planted");
        Ok(())
    };
    fails(&Simulation::new(), scenario, check);
}

#[test]
fn virtual_time_goes_on_by_itself_and_survives() {
    let month = Duration::from_secs(30 * 24 * 3600);
    let scenario = move |sim: Sim<u64>| async move {
        let before = sim.clock().now();
        sim.clock().sleep(month).await;
        sim.store().commit(put("n", before.as_millis())?, Durability::Durable).await?;
        sim.ack(before.as_millis());
        Ok(())
    };
    let check = move |recovered: Recovered<u64>| async move {
        for before in recovered.acks() {
            let slept = recovered.store().now().as_millis() - before;
            assert_eq!(u128::from(slept), month.as_millis());
        }
        newest_is_there(recovered).await
    };
    assert_eq!(enumerate(scenario, check).unwrap().acknowledged, 1);
}

#[test]
fn dropped_and_background_commits_come_to_an_end() {
    let scenario = |sim: Sim<u64>| async move {
        let store = sim.store().clone();
        let mut watch = store.watch(&Namespace::new("sim")?);
        drop(store.commit(put("n", 1)?, Durability::Durable));
        watch.changed().await?;
        assert_eq!(number(&store, "n").await?, 1);
        sim.ack(1); // A reader saw it: Durable is visible only once it is.
        let unpolled = store.commit(put("n", 2)?, Durability::Durable);
        watch.changed().await?;
        sim.ack(2);
        unpolled.await?;
        Ok(())
    };
    enumerate(scenario, newest_is_there).unwrap();
}

#[test]
fn one_seed_is_one_run_and_another_seed_another() {
    let scenario = |sim: Sim<u64>| async move {
        let mut tasks = Vec::new();
        for i in 1..=10 {
            let store = sim.store().clone();
            let buffered = if i % 3 == 0 { Durability::Durable } else { Durability::Buffered };
            tasks.push(tokio::spawn(async move { store.commit(put("n", i)?, buffered).await }));
        }
        for task in tasks {
            task.await??;
        }
        Ok(())
    };
    let check = |_: Recovered<u64>| async { Ok(()) };
    let run = |seed| Simulation::new().seed(seed).run(scenario, check).unwrap();
    assert_eq!(run(1), run(1));
    assert!((2..10).any(|seed| run(seed) != run(1)));
    // More cuts, more crashes.
    let few = Simulation::new().max_cuts(2).run(scenario, check).unwrap();
    assert!(few.crash_points < run(1).crash_points);
}

#[test]
fn a_crash_line_is_read_back_and_nonsense_is_not() {
    for line in
        ["seed=1 after=end ending=kill keep=0", "seed=9 after=4 ending=poison keep=3 again=2/1"]
    {
        assert_eq!(line.parse::<Crash>().unwrap().to_string(), line);
    }
    for line in [
        "",
        "seed=1",
        "seed=x after=1 ending=kill keep=0",
        "after=1 keep=0 ending=kill",
        "seed=1 after=1 ending=gone keep=0",
        "seed=1 after=1 ending=kill keep=0 again=1",
    ] {
        assert_eq!(
            Simulation::new().replay(line).unwrap_err().kind(),
            ErrorKind::Invalid,
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_killed_store_never_answers_and_a_poisoned_one_refuses() {
    let store = Arc::new(SimStore::new(1));
    store.crash_after(2, Ending::Kill);
    store.commit(put("n", 1).unwrap(), Durability::Durable).await.unwrap();
    let in_flight = tokio::spawn(store.commit(put("n", 2).unwrap(), Durability::Durable));
    let later = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.get(&key("n").unwrap()).await })
    };
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(store.has_crashed() && !in_flight.is_finished() && !later.is_finished());
    assert_eq!(store.cuts(), 1..=2);

    let store = SimStore::new(1);
    store.crash_after(1, Ending::Poison);
    let in_flight = store.commit(put("n", 1).unwrap(), Durability::Durable);
    assert_eq!(in_flight.await.unwrap_err().kind(), ErrorKind::Indeterminate);
    assert_eq!(store.get(&key("n").unwrap()).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(store.sync().await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(store.close().await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(store.cuts(), 0..=1);
}

#[tokio::test]
async fn a_conflict_is_told_when_what_it_conflicts_with_is_durable() {
    let store = SimStore::new(1);
    store.commit(put("n", 1).unwrap(), Durability::Buffered).await.unwrap();
    assert_eq!(store.cuts(), 0..=1);
    let mut create = put("n", 2).unwrap();
    create.guard(key("n").unwrap(), Guard::Absent);
    let conflict = store.commit(create, Durability::Buffered).await.unwrap_err();
    assert_eq!(conflict.kind(), ErrorKind::Conflict);
    assert_eq!(store.cuts(), 1..=1);
}
