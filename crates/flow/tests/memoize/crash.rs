//! The process dies after any commit, while a memoised step is under way.

use resurge_flow::{FlowError, InDoubt, RunHandle, StepErrorKind, StepPolicy};
use resurge_store::Store;
use resurge_testkit::sim::Ending;
use resurge_testkit::{SimStore, evidence};

use crate::support::{Count, How, flows, register};

/// The result, or that the step is in doubt.
async fn ended(run: &RunHandle<u32>) -> Result<u32, StepErrorKind> {
    match run.result().await {
        Ok(made) => Ok(made),
        Err(FlowError::Failed { error, .. }) => Err(error.kind),
        Err(error) => panic!("{error}"),
    }
}

/// Starts a run, and kills the store with the process after so many commits. False when the run had ended by then.
async fn first_life(sim: &SimStore, count: &Count, how: How, commits: usize) -> bool {
    sim.crash_after(commits, Ending::Poison);
    let flows = flows(&Store::new(sim.clone()));
    let memos = register(&flows, count, how);
    if flows.start().await.is_ok()
        && let Ok(run) = memos.start("a", (1, false)).await
    {
        drop(run.result().await);
    }
    sim.has_crashed()
}

async fn every_crash(policy: StepPolicy) -> (u32, u32) {
    let (mut points, mut doubtful) = (0, 0);
    for commits in 1.. {
        let how = How { policy, ..How::default() };
        let (sim, before) = (SimStore::new(3), Count::default());
        if !first_life(&sim, &before, how.clone(), commits).await {
            break;
        }
        for keep in sim.cuts() {
            points += 1;
            let store = Store::new(sim.reopen_with(keep));
            let count = Count::default();
            for _ in 0..before.get() {
                count.up();
            }
            let flows = flows(&store);
            let memos = register(&flows, &count, how.clone());
            flows.start().await.unwrap();
            let at = format!("{commits} commits, {keep} kept");
            let a = ended(&memos.start("a", (1, false)).await.unwrap()).await;
            let b = ended(&memos.start("b", (1, false)).await.unwrap()).await;
            // One commit: what is in a journal is in the checkpoint.
            assert_eq!(a, b, "{at}");
            match a {
                Ok(made) => assert_eq!(made, count.get(), "{at}: the last execution counts"),
                Err(kind) => {
                    doubtful += 1;
                    assert_eq!(kind, StepErrorKind::Checkpoint, "{at}");
                    assert_eq!(policy.in_doubt_for(&how.scope), InDoubt::Fail, "{at}");
                }
            }
            let most = if policy.in_doubt_for(&how.scope) == InDoubt::Fail { 1 } else { 2 };
            assert!(count.get() <= most, "{at}: {} executions", count.get());
            flows.shutdown().await;
        }
    }
    (points, doubtful)
}

#[tokio::test]
async fn a_crash_anywhere_costs_at_most_one_more_execution() {
    let (points, doubtful) = every_crash(StepPolicy::new()).await;
    assert!(points > 5 && doubtful == 0, "{points} {doubtful}");
    let (strict, doubtful) = every_crash(StepPolicy::new().side_effects()).await;
    assert!(strict > 5 && doubtful > 0, "{strict} {doubtful}");
    let points = points + strict;
    evidence(
        "flow-memo-crash-points",
        &format!("{points} crash points, {doubtful} of them in doubt and refused"),
    );
}
