//! After a failure nothing is claimed that cannot be known, and nothing is tried again.

use resurge_store::{ErrorKind, GroupCommit, Namespace, ScanOptions, StateStore};

use crate::engine::{
    Event, Script, Scripted, Step, Trouble, buffered, durable, key, kind, put, read, wait,
};

/// Every call is refused, and the refusal says why.
fn assert_poisoned(store: &GroupCommit<Scripted>) {
    assert!(store.poisoned().is_some());
    assert_eq!(kind(wait(store.get(&key("k")))), ErrorKind::Closed);
    let scan = wait(store.scan(key("k").namespace().all(), ScanOptions::new()));
    assert_eq!(kind(scan), ErrorKind::Closed);
    assert_eq!(kind(wait(buffered(store, put("k", "late")))), ErrorKind::Closed);
    let late = wait(durable(store, put("k", "late"))).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
    assert!(late.to_string().contains("poisoned"), "{late}");
    assert_eq!(kind(wait(store.sync())), ErrorKind::Closed);
    assert_eq!(kind(wait(store.close())), ErrorKind::Closed);
    let mut watch = store.watch(&Namespace::new("group").unwrap());
    assert_eq!(kind(wait(watch.changed())), ErrorKind::Closed);
}

fn count(script: &Script, event: &Event) -> usize {
    script.events().iter().filter(|e| *e == event).count()
}

/// One commit meets `trouble` in `step` while another is queued behind it.
fn strike(step: Step, trouble: Trouble) -> (Script, ErrorKind, ErrorKind) {
    let script = Script::default();
    let store = script.store();
    let mut watch = store.watch(&Namespace::new("group").unwrap());
    script.shut(step);
    script.next(step, trouble);
    let in_flight = durable(&store, put("k", "v"));
    script.wait_at(step);
    let queued = durable(&store, put("queued", "v"));
    script.open(step);
    let outcomes = (kind(wait(in_flight)), kind(wait(queued)));
    assert_eq!(kind(wait(watch.changed())), ErrorKind::Closed);
    assert_poisoned(&store);
    drop(store);
    (script, outcomes.0, outcomes.1)
}

#[test]
fn a_failed_log_poisons() {
    let (script, in_flight, queued) = strike(Step::Log, Trouble::Fail(ErrorKind::Corrupt));
    assert_eq!((in_flight, queued), (ErrorKind::Indeterminate, ErrorKind::Closed));
    // Neither synced nor published, neither then nor by closing.
    assert!(!script.events().iter().any(|e| matches!(e, Event::Sync | Event::Publish(_))));
    assert_eq!(count(&script, &Event::Log(1, 1)), 1);
    assert!(!script.events().iter().any(|e| matches!(e, Event::Log(2, _))));
}

#[test]
fn a_failed_sync_poisons_and_is_never_tried_again() {
    // Even kinds that a log may report and go on with.
    for kind in [ErrorKind::Unavailable, ErrorKind::Full, ErrorKind::Corrupt] {
        let (script, in_flight, queued) = strike(Step::Sync, Trouble::Fail(kind));
        assert_eq!((in_flight, queued), (ErrorKind::Indeterminate, ErrorKind::Closed));
        assert_eq!(count(&script, &Event::Sync), 1, "{:?}", script.events());
        assert!(!script.events().iter().any(|e| matches!(e, Event::Publish(_))));
    }
}

#[test]
fn a_failed_publish_is_indeterminate_and_poisons() {
    // On the committer's own thread: nothing else waits.
    let script = Script::default();
    let store = script.store();
    script.next(Step::Publish, Trouble::Fail(ErrorKind::Unavailable));
    assert_eq!(kind(wait(durable(&store, put("k", "v")))), ErrorKind::Indeterminate);
    assert_poisoned(&store);
}

#[test]
fn nothing_is_published_after_a_failed_publish() {
    // On the publisher's thread: the next group is logged already, and must not appear alone.
    let script = Script::default();
    let store = script.store();
    script.shut(Step::Sync);
    let first = durable(&store, put("a", "1"));
    script.wait_at(Step::Sync);
    let second = durable(&store, put("b", "2"));
    script.shut(Step::Publish);
    script.next(Step::Publish, Trouble::Fail(ErrorKind::Corrupt));
    script.open(Step::Sync);
    script.wait_at(Step::Publish);
    script.wait_for(&Event::Log(2, 1));
    script.open(Step::Publish);
    assert_eq!(kind(wait(first)), ErrorKind::Indeterminate);
    assert_eq!(kind(wait(second)), ErrorKind::Indeterminate);
    assert_poisoned(&store);
    drop(store);
    assert_eq!(count(&script, &Event::Publish(2)), 0, "{:?}", script.events());
}

#[test]
fn what_was_durable_before_a_failed_sync_is_still_acknowledged() {
    let script = Script::default();
    let store = script.store();
    script.shut(Step::Sync);
    let first = durable(&store, put("a", "1"));
    script.wait_at(Step::Sync);
    let second = durable(&store, put("b", "2"));
    script.pass(Step::Sync);
    script.next(Step::Sync, Trouble::Fail(ErrorKind::Corrupt));
    script.shut(Step::Publish);
    script.open(Step::Sync);
    assert_eq!(kind(wait(second)), ErrorKind::Indeterminate);
    script.open(Step::Publish);
    wait(first).unwrap();
}

#[test]
fn a_log_that_wrote_nothing_leaves_the_store_usable() {
    for harmless in [ErrorKind::Full, ErrorKind::Unavailable, ErrorKind::Invalid] {
        let script = Script::default();
        let store = script.store();
        script.next(Step::Log, Trouble::Fail(harmless));
        assert_eq!(kind(wait(durable(&store, put("k", "1")))), harmless);
        assert_eq!(read(&store, "k"), None);
        assert!(store.poisoned().is_none());
        // The number was not used up, and a guard does not see the commit that was not.
        let mut create = put("k", "2");
        create.guard(key("k"), resurge_store::Guard::Absent);
        assert_eq!(wait(durable(&store, create)).unwrap().0, 1);
        assert_eq!(read(&store, "k").as_deref(), Some(&b"2"[..]));
        wait(store.close()).unwrap();
    }
}

#[test]
fn a_conflict_with_a_commit_that_was_not_written_is_none() {
    let script = Script::default();
    let store = script.store();
    script.shut(Step::Log);
    let blocker = durable(&store, put("blocker", "v"));
    script.wait_at(Step::Log);
    let create = || {
        let mut batch = put("k", "v");
        batch.guard(key("k"), resurge_store::Guard::Absent);
        batch
    };
    let first = durable(&store, create());
    let second = durable(&store, create());
    script.pass(Step::Log);
    script.next(Step::Log, Trouble::Fail(ErrorKind::Full));
    script.open(Step::Log);
    wait(blocker).unwrap();
    assert_eq!(kind(wait(first)), ErrorKind::Full);
    assert_eq!(kind(wait(second)), ErrorKind::Full, "it lost to a commit that never was");
    wait(durable(&store, create())).unwrap();
}

#[test]
fn a_panic_anywhere_in_the_engine_poisons_and_tells_everybody() {
    for step in [Step::Log, Step::Sync, Step::Publish] {
        let (_, in_flight, queued) = strike(step, Trouble::Panic);
        assert_eq!(in_flight, ErrorKind::Indeterminate, "{step:?}");
        let known = [ErrorKind::Closed, ErrorKind::Indeterminate];
        assert!(known.contains(&queued), "{step:?}: {queued}");
    }
}

#[test]
fn a_panic_on_the_publisher_thread_tells_everybody() {
    let script = Script::default();
    let store = script.store();
    script.shut(Step::Sync);
    let first = durable(&store, put("a", "1"));
    script.wait_at(Step::Sync);
    let second = durable(&store, put("b", "2"));
    script.shut(Step::Publish);
    script.next(Step::Publish, Trouble::Panic);
    script.open(Step::Sync);
    script.wait_at(Step::Publish);
    script.wait_for(&Event::Log(2, 1));
    script.open(Step::Publish);
    assert_eq!(kind(wait(first)), ErrorKind::Indeterminate);
    assert_eq!(kind(wait(second)), ErrorKind::Indeterminate);
    assert_poisoned(&store);
    drop(store);
    assert_eq!(count(&script, &Event::Publish(2)), 0);
}

#[test]
fn a_failed_background_sync_poisons() {
    let script = Script::default();
    let options = resurge_store::GroupOptions {
        buffered_sync_interval: std::time::Duration::from_millis(1),
        ..Default::default()
    };
    let store = script.store_with(options);
    script.next(Step::Sync, Trouble::Fail(ErrorKind::Unavailable));
    wait(buffered(&store, put("k", "v"))).unwrap();
    let mut watch = store.watch(&Namespace::new("group").unwrap());
    // It may have fired for the commit; what ends it is the poisoning.
    while wait(watch.changed()).is_ok() {}
    assert_poisoned(&store);
    drop(store);
    assert_eq!(count(&script, &Event::Sync), 1);
}
