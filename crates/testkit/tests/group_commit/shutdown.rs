//! Closing and dropping: everything submitted is finished, nobody waits for ever.

use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use parking_lot::Mutex;
use resurge_store::{ErrorKind, GroupCommit, StateStore};

use crate::engine::{Event, Script, Scripted, Step, Trouble, buffered, durable, kind, put, wait};

/// Everything submitted was logged, synced and published before the engine was closed.
fn assert_drained(script: &Script, commits: u64) {
    let events = script.events();
    let close = events.iter().position(|e| *e == Event::Close).unwrap();
    assert_eq!(close, events.len() - 1, "{events:?}");
    let (mut logged, mut published) = (0, 0);
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Log(_, batches) => logged += *batches as u64,
            Event::Publish(_) => published = at,
            Event::Sync | Event::Close => {}
        }
    }
    assert_eq!(logged, commits);
    let last_log = events.iter().rposition(|e| matches!(e, Event::Log(..))).unwrap();
    assert!(events[last_log..].contains(&Event::Sync), "not synced: {events:?}");
    assert!(published > last_log, "not published: {events:?}");
}

#[test]
fn close_finishes_what_was_submitted() {
    let script = Script::default();
    let store = script.store();
    script.shut(Step::Log);
    let mut commits: Vec<_> = (0..5).map(|_| durable(&store, put("k", "v"))).collect();
    commits.extend((0..5).map(|_| buffered(&store, put("k", "w"))));
    let mut closed = store.close();
    assert!(crate::engine::now(&mut closed).is_none());
    assert_eq!(kind(wait(durable(&store, put("late", "v")))), ErrorKind::Closed);
    script.open(Step::Log);
    for commit in commits {
        wait(commit).unwrap();
    }
    wait(closed).unwrap();
    assert_drained(&script, 10);
    wait(store.close()).unwrap();
}

#[test]
fn drop_finishes_what_was_submitted() {
    let script = Script::default();
    let store = script.store();
    let mut commits: Vec<_> = (0..20).map(|_| durable(&store, put("k", "v"))).collect();
    commits.push(buffered(&store, put("k", "last")));
    drop(store);
    // Joined: all of it has happened by now.
    assert_drained(&script, 21);
    for mut commit in commits {
        assert!(matches!(crate::engine::now(&mut commit), Some(Ok(_))));
    }
}

#[test]
fn closing_and_dropping_make_buffered_commits_durable() {
    for close in [true, false] {
        let script = Script::default();
        let store = script.store();
        wait(buffered(&store, put("k", "v"))).unwrap();
        if close {
            wait(store.close()).unwrap();
        }
        drop(store);
        assert_eq!(script.events()[2..], [Event::Sync, Event::Close]);
    }
}

#[test]
fn dropping_an_idle_or_closed_store_is_quiet() {
    let script = Script::default();
    drop(script.store());
    assert_eq!(script.events(), [Event::Close]);
    let script = Script::default();
    let store = script.store();
    wait(store.close()).unwrap();
    drop(store);
    assert_eq!(script.events(), [Event::Close]);
}

#[test]
fn an_engine_that_cannot_close_is_reported() {
    let script = Script::default();
    let store = script.store();
    script.next(Step::Close, Trouble::Fail(ErrorKind::Corrupt));
    wait(durable(&store, put("k", "v"))).unwrap();
    assert_eq!(kind(wait(store.close())), ErrorKind::Corrupt);
    assert_eq!(kind(wait(store.close())), ErrorKind::Corrupt, "the second caller is told the same");
}

/// Drops the store it holds when it is woken.
struct DropsStore(Mutex<Option<Arc<GroupCommit<Scripted>>>>);

impl Wake for DropsStore {
    fn wake(self: Arc<Self>) {
        let last = self.0.lock().take();
        drop(last);
    }
}

#[test]
fn a_waker_may_drop_the_last_handle() {
    // On the committer's thread, then on the publisher's.
    for on_publisher in [false, true] {
        let script = Script::default();
        let store = Arc::new(script.store());
        script.shut(Step::Sync);
        let mut commit = durable(&*store, put("k", "v"));
        script.wait_at(Step::Sync);
        let behind = on_publisher.then(|| durable(&*store, put("k", "w")));
        let waker = Waker::from(Arc::new(DropsStore(Mutex::new(Some(store)))));
        assert!(commit.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        script.open(Step::Sync);
        script.wait_for(&Event::Close);
        wait(commit).unwrap();
        if let Some(behind) = behind {
            wait(behind).unwrap();
        }
    }
}

#[test]
fn a_store_can_be_dropped_from_async_code_while_commits_are_in_flight() {
    let script = Script::default();
    wait(async {
        for _ in 0..50 {
            let store = script.store();
            let commit = durable(&store, put("k", "v"));
            drop(store);
            commit.await.unwrap();
        }
    });
}
