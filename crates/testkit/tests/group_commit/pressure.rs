//! Above the bytes that may be pending, commits are refused and nothing of them is written.

use resurge_store::{ErrorKind, GroupOptions};

use crate::engine::{Event, Script, Step, buffered, durable, kind, put, read, wait};

#[test]
fn above_the_limit_commits_are_unavailable_until_there_is_room() {
    let script = Script::default();
    let size = put("k", "v").size();
    let options = GroupOptions { max_pending_bytes: size * 2, ..Default::default() };
    let store = script.store_with(options);
    script.shut(Step::Log);
    let first = durable(&store, put("a", "v"));
    let second = durable(&store, put("b", "v"));
    let refused = wait(durable(&store, put("c", "v"))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.to_string().contains(&(size * 2).to_string()), "{refused}");
    assert_eq!(kind(wait(buffered(&store, put("c", "v")))), ErrorKind::Unavailable);
    script.open(Step::Log);
    wait(first).unwrap();
    wait(second).unwrap();
    assert_eq!(read(&store, "c"), None);
    wait(durable(&store, put("c", "v"))).unwrap();
}

#[test]
fn a_single_batch_over_the_limit_is_admitted_when_nothing_is_pending() {
    let script = Script::default();
    let store = script.store_with(GroupOptions { max_pending_bytes: 1, ..Default::default() });
    wait(durable(&store, put("a", "v"))).unwrap();
    script.shut(Step::Log);
    let first = durable(&store, put("b", "v"));
    assert_eq!(kind(wait(durable(&store, put("c", "v")))), ErrorKind::Unavailable);
    script.open(Step::Log);
    wait(first).unwrap();
    wait(durable(&store, put("c", "v"))).unwrap();
}

#[test]
fn a_refused_or_failed_commit_gives_its_bytes_back() {
    let script = Script::default();
    let size = put("k", "v").size();
    let store = script.store_with(GroupOptions { max_pending_bytes: size, ..Default::default() });
    for _ in 0..3 {
        script.next(Step::Log, crate::engine::Trouble::Fail(ErrorKind::Full));
        assert_eq!(kind(wait(durable(&store, put("k", "v")))), ErrorKind::Full);
    }
    for _ in 0..3 {
        let mut batch = put("k", "");
        batch.guard(crate::engine::key("k"), resurge_store::Guard::Present);
        assert_eq!(kind(wait(durable(&store, batch))), ErrorKind::Conflict);
    }
    wait(durable(&store, put("k", "v"))).unwrap();
    assert!(script.events().contains(&Event::Publish(1)));
}
