//! Who shares a log write and a sync, and how long buffered commits may wait for one.

use std::sync::Arc;
use std::time::Duration;

use resurge_store::{ErrorKind, GroupCommit, GroupOptions, StateStore, VirtualClock};

use crate::engine::{Event, Script, Scripted, Step, buffered, durable, kind, put, wait};

#[test]
fn what_arrives_during_a_sync_shares_the_next_one() {
    let script = Script::default();
    let store = script.store();
    script.shut(Step::Sync);
    let first = durable(&store, put("k", "0"));
    script.wait_at(Step::Sync);
    let others: Vec<_> = (0..10).map(|_| durable(&store, put("k", "v"))).collect();
    script.open(Step::Sync);
    wait(first).unwrap();
    for commit in others {
        wait(commit).unwrap();
    }
    let events: Vec<_> =
        script.events().into_iter().filter(|e| !matches!(e, Event::Publish(_))).collect();
    assert_eq!(events, [Event::Log(1, 1), Event::Sync, Event::Log(2, 10), Event::Sync]);
}

#[test]
fn a_group_is_closed_at_its_size() {
    let logged = |max_group_bytes| {
        let script = Script::default();
        let store = script.store_with(GroupOptions { max_group_bytes, ..Default::default() });
        script.shut(Step::Log);
        let blocker = durable(&store, put("k", "0"));
        script.wait_at(Step::Log);
        let size = put("k", "1").size();
        let others: Vec<_> = (0..6).map(|_| durable(&store, put("k", "1"))).collect();
        script.open(Step::Log);
        for commit in std::iter::once(blocker).chain(others) {
            wait(commit).unwrap();
        }
        let count = |event: &Event| match event {
            Event::Log(_, batches) => Some(*batches),
            _ => None,
        };
        let groups: Vec<_> = script.events().iter().filter_map(count).collect();
        (groups, size)
    };
    let (one_group, size) = logged(1 << 20);
    assert_eq!(one_group, [1, 6]);
    assert_eq!(logged(size * 2).0, [1, 2, 2, 2]);
    // Smaller than one batch: each is a group of its own.
    assert_eq!(logged(1).0, [1, 1, 1, 1, 1, 1, 1]);
}

#[test]
fn buffered_is_synced_within_the_interval_by_itself() {
    let script = Script::default();
    let interval = Duration::from_millis(1);
    let store =
        script.store_with(GroupOptions { buffered_sync_interval: interval, ..Default::default() });
    wait(buffered(&store, put("k", "v"))).unwrap();
    script.wait_for(&Event::Sync);
}

#[test]
fn the_interval_is_that_of_the_injected_clock() {
    let script = Script::default();
    let clock = VirtualClock::new();
    let store = script.store_with(GroupOptions {
        buffered_sync_interval: Duration::from_secs(1),
        clock: Arc::new(clock.clone()),
        ..Default::default()
    });
    wait(buffered(&store, put("k", "1"))).unwrap();
    clock.advance(Duration::from_secs(1));
    // Overdue: this one brings the sync along, before its own publish.
    wait(buffered(&store, put("k", "2"))).unwrap();
    let events = script.events();
    let sync = events.iter().position(|e| *e == Event::Sync).unwrap();
    let publish = events.iter().position(|e| *e == Event::Publish(2)).unwrap();
    assert!(sync < publish, "{events:?}");
}

#[test]
fn an_interval_that_breaks_the_promise_is_refused() {
    let store = |ms| {
        let options = GroupOptions {
            buffered_sync_interval: Duration::from_millis(ms),
            ..Default::default()
        };
        GroupCommit::<Scripted>::new(crate::engine::engine(), options)
    };
    assert!(store(1_000).is_ok());
    assert_eq!(kind(store(1_001)), ErrorKind::Invalid);
}

#[test]
fn sync_covers_buffered_commits_and_costs_nothing_when_idle() {
    let script = Script::default();
    let store = script.store();
    wait(store.sync()).unwrap();
    assert_eq!(script.events(), []);
    wait(buffered(&store, put("k", "v"))).unwrap();
    wait(store.sync()).unwrap();
    assert_eq!(script.events(), [Event::Log(1, 1), Event::Publish(1), Event::Sync]);
}
