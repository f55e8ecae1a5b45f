//! Log, sync, publish, acknowledge: in this order, and never one commit ahead of an earlier one.

use resurge_store::{ErrorKind, Guard, Namespace, ScanOptions, StateStore};

use crate::engine::{
    Event, Script, Step, Trouble, buffered, durable, key, kind, now, put, read, wait,
};

#[test]
fn durable_is_invisible_and_unacknowledged_before_the_sync() {
    let script = Script::default();
    let store = script.store();
    let watch = store.watch(&Namespace::new("group").unwrap());
    script.shut(Step::Sync);
    let mut commit = durable(&store, put("k", "v"));
    script.wait_at(Step::Sync);
    assert!(now(&mut commit).is_none());
    assert_eq!(read(&store, "k"), None);
    let page = wait(store.scan(key("k").namespace().all(), ScanOptions::new())).unwrap();
    assert_eq!(page.entries.len(), 0);
    assert!(!watch.has_changed().unwrap());
    script.open(Step::Sync);
    wait(commit).unwrap();
    assert_eq!(read(&store, "k").as_deref(), Some(&b"v"[..]));
    assert!(watch.has_changed().unwrap());
    assert_eq!(script.events(), [Event::Log(1, 1), Event::Sync, Event::Publish(1)]);
}

#[test]
fn acknowledged_means_published() {
    let script = Script::default();
    let store = script.store();
    script.shut(Step::Publish);
    for submit in [durable, buffered] {
        let mut commit = submit(&store, put("k", "v"));
        script.wait_at(Step::Publish);
        assert!(now(&mut commit).is_none(), "acknowledged before it was visible");
        script.open(Step::Publish);
        wait(commit).unwrap();
        script.shut(Step::Publish);
    }
    script.open(Step::Publish);
}

#[test]
fn buffered_needs_no_sync() {
    let script = Script::default();
    let store = script.store();
    script.shut(Step::Sync);
    wait(buffered(&store, put("k", "v"))).unwrap();
    assert_eq!(read(&store, "k").as_deref(), Some(&b"v"[..]));
    script.open(Step::Sync);
}

#[test]
fn buffered_never_overtakes_an_earlier_publish() {
    let script = Script::default();
    let store = script.store();
    script.shut(Step::Publish);
    // Two groups wait, so the first one's publish leaves the committer.
    script.shut(Step::Sync);
    let mut first = durable(&store, put("k", "1"));
    script.wait_at(Step::Sync);
    let mut second = buffered(&store, put("k", "2"));
    script.open(Step::Sync);
    script.wait_at(Step::Publish);
    script.wait_for(&Event::Log(2, 1));
    assert!(now(&mut first).is_none() && now(&mut second).is_none());
    assert_eq!(read(&store, "k"), None);
    script.open(Step::Publish);
    wait(second).unwrap();
    assert!(now(&mut first).is_some(), "told after a later commit");
    assert_eq!(read(&store, "k").as_deref(), Some(&b"2"[..]));
    let published: Vec<_> =
        script.events().into_iter().filter(|e| matches!(e, Event::Publish(_))).collect();
    assert_eq!(published, [Event::Publish(1), Event::Publish(2)]);
}

#[test]
fn the_next_group_is_logged_and_synced_while_the_last_is_published() {
    let script = Script::default();
    let store = script.store();
    script.shut(Step::Sync);
    let first = durable(&store, put("a", "1"));
    script.wait_at(Step::Sync);
    let second = durable(&store, put("b", "2"));
    script.shut(Step::Publish);
    script.open(Step::Sync);
    script.wait_at(Step::Publish);
    // Nothing is published yet, and still the log goes on.
    script.wait_for(&Event::Log(2, 1));
    let events = || script.events().iter().filter(|e| **e == Event::Sync).count();
    script.wait_for(&Event::Sync);
    while events() < 2 {
        std::thread::yield_now();
    }
    assert!(!script.events().iter().any(|e| matches!(e, Event::Publish(_))));
    script.open(Step::Publish);
    wait(first).unwrap();
    wait(second).unwrap();
}

#[test]
fn guards_see_what_is_logged_and_not_published() {
    let script = Script::default();
    let store = script.store();
    script.shut(Step::Sync);
    let first = durable(&store, put("k", "1"));
    script.wait_at(Step::Sync);
    // Both are judged while "1" is unpublished: by another group, then within a group.
    let mut swap = put("k", "2");
    swap.guard(key("k"), Guard::Exact("1".into()));
    let swap = durable(&store, swap);
    let mut stale = put("k", "3");
    stale.guard(key("k"), Guard::Exact("1".into()));
    let stale = durable(&store, stale);
    script.shut(Step::Publish);
    script.open(Step::Sync);
    script.wait_for(&Event::Log(2, 1));
    script.open(Step::Publish);
    wait(first).unwrap();
    wait(swap).unwrap();
    assert_eq!(kind(wait(stale)), ErrorKind::Conflict);
    assert_eq!(read(&store, "k").as_deref(), Some(&b"2"[..]));
}

#[test]
fn a_conflict_waits_for_the_sync_of_what_it_conflicts_with() {
    let script = Script::default();
    let store = script.store();
    let create = || {
        let mut batch = put("k", "v");
        batch.guard(key("k"), Guard::Absent);
        batch
    };
    script.shut(Step::Log);
    let blocker = durable(&store, put("other", "v"));
    script.wait_at(Step::Log);
    let winner = buffered(&store, create());
    let mut loser = buffered(&store, create());
    script.open(Step::Log);
    wait(blocker).unwrap();
    script.shut(Step::Sync);
    // Whether the pair met the first sync or not, the loser is told only behind one that covers it.
    wait_or_sync(&script, &mut loser);
    wait(winner).unwrap();
    let loser = wait(loser);
    assert_eq!(loser.as_ref().unwrap_err().key(), Some(&key("k")));
    assert_eq!(kind(loser), ErrorKind::Conflict);
    let events = script.events();
    let logged = events.iter().position(|e| *e == Event::Log(2, 1)).unwrap();
    assert!(events[logged..].contains(&Event::Sync), "{events:?}");
}

fn wait_or_sync(script: &Script, loser: &mut crate::engine::Outcome) {
    let events = script.events();
    let logged = events.iter().position(|e| *e == Event::Log(2, 1));
    if logged.is_none_or(|at| !events[at..].contains(&Event::Sync)) {
        script.wait_at(Step::Sync);
        assert!(now(loser).is_none(), "a conflict with what is not durable");
    }
    script.open(Step::Sync);
}

#[test]
fn a_conflict_with_an_acknowledged_buffered_commit_syncs_it_first() {
    let script = Script::default();
    let store = script.store();
    script.shut(Step::Sync);
    wait(buffered(&store, put("k", "v"))).unwrap();
    let mut batch = put("k", "w");
    batch.guard(key("k"), Guard::Absent);
    let mut conflict = buffered(&store, batch);
    script.wait_at(Step::Sync);
    assert!(now(&mut conflict).is_none());
    script.open(Step::Sync);
    assert_eq!(kind(wait(conflict)), ErrorKind::Conflict);
}

#[test]
fn a_read_error_under_a_guard_fails_that_commit_alone() {
    let script = Script::default();
    let store = script.store();
    script.shut(Step::Log);
    let blocker = durable(&store, put("blocker", "v"));
    script.wait_at(Step::Log);
    script.next(Step::Get, Trouble::Fail(ErrorKind::Corrupt));
    let mut guarded = put("a", "v");
    guarded.guard(key("damaged"), Guard::Absent);
    let guarded = durable(&store, guarded);
    let plain = durable(&store, put("b", "v"));
    script.open(Step::Log);
    wait(blocker).unwrap();
    assert_eq!(kind(wait(guarded)), ErrorKind::Corrupt);
    wait(plain).unwrap();
    assert_eq!(read(&store, "a"), None);
    assert_eq!(read(&store, "b").as_deref(), Some(&b"v"[..]));
}

#[test]
fn numbers_go_on_from_the_engine_without_gaps() {
    let script = Script::starting_after(41);
    let store = script.store();
    let mut refused = put("k", "v");
    refused.guard(key("missing"), Guard::Present);
    assert_eq!(wait(durable(&store, put("k", "v"))).unwrap().0, 42);
    assert_eq!(kind(wait(durable(&store, refused))), ErrorKind::Conflict);
    assert_eq!(wait(buffered(&store, put("k", "v"))).unwrap().0, 43);
    assert!(script.events().contains(&Event::Log(43, 1)));
}
