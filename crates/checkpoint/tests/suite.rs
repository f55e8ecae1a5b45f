//! What checkpoints must do, on every store: in memory and on disk, with both kinds of index.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use resurge_store_sled::IndexKind;
use support::World;
use support::checks::{Check, check};
use support::planted::Bug;

macro_rules! suite {
    ($($name:ident: $check:ident,)+) => {
        mod memory {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                let mut world = World::memory(Bug::None).await;
                check(Check::$check, &mut world).await.unwrap();
            })+
        }
        mod sled {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                for index in [IndexKind::Memory, IndexKind::Sled] {
                    let mut world = World::sled(index).await;
                    check(Check::$check, &mut world).await.unwrap();
                }
            })+
        }
    };
}

suite! {
    da2_once_per_input: OncePerInput,
    da3_scopes: Scopes,
    da4_two_hundred_callers: Concurrent,
    da4_eight_handles: ConcurrentHandles,
    da5_ttl: Ttl,
    da5_ttl_across_restart: TtlAcrossRestart,
    da5_purged: Purged,
    da6_version: Version,
    a_failure_is_not_stored: FailureIsNotStored,
    a_failed_run_is_taken_over: TakenOverFromFailed,
    a_dropped_run_is_taken_over: TakenOverFromDropped,
    in_doubt_is_refused: InDoubtRefused,
    in_doubt_runs_again: InDoubtAgain,
    a_late_result_does_not_count: LateResult,
}
