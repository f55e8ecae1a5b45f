//! A run that goes on: claims, completions in their turn, giving up, cancelling.

use std::task::Wake;

use super::*;
use crate::machine::outbox::ROOM;
use crate::machine::waits::COUNTED;
use crate::machine::{Frozen, Wait};
use crate::record::Parked;

#[test]
fn a_name_used_again_in_the_same_scope_is_another_position() {
    let mut machine = fresh();
    let ids = [machine.step("a"), machine.step("a"), machine.step("b"), machine.step_in("s", "a")];
    let taken: Vec<Position> =
        ids.iter().map(|id| machine.position(*id).unwrap().clone()).collect();
    assert_eq!(taken, [at("a"), nth("a", 1), at("b"), inside("s", "a")]);
    // Also when the first was given up: what was counted stays counted.
    machine.abandon(ids[0]);
    let next = machine.step("a");
    assert_eq!(machine.position(next), Some(&nth("a", 2)));
    assert_eq!(machine.position(ids[0]), None, "whoever has the place now, it is not the old one");
}

#[test]
fn completions_are_revealed_one_at_a_time_in_the_order_they_were_journaled() {
    let mut machine = fresh();
    let (a, b, c) = (machine.step("a"), machine.step("b"), machine.step("c"));
    machine.end(c, ok("c"));
    machine.end(a, err("a"));
    machine.end(b, ok("b"));
    assert_eq!([a, b, c].map(|id| machine.look(id)), [None, None, None], "journaled, not revealed");
    let mut seen = Vec::new();
    while machine.reveals() {
        let now: Vec<_> = [a, b, c].into_iter().filter_map(|id| machine.look(id)).collect();
        assert_eq!(now.len(), 1, "one at a time");
        seen.extend(now);
    }
    assert_eq!(seen, [ok("c"), err("a"), ok("b")]);
    let order: Vec<Position> = machine.take_outbox().into_iter().map(position).collect();
    assert_eq!(order, [at("c"), at("a"), at("b")], "and journaled in that order");
}

fn position(record: Record) -> Position {
    match record {
        Record::Completed(done) => done.position,
        Record::Opened(opened) => opened.position,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_outcome_is_taken_once_and_a_second_completion_is_none() {
    let mut machine = fresh();
    let a = machine.step("a");
    machine.end(a, ok("first"));
    machine.end(a, ok("second"));
    assert_eq!(machine.outbox_len(), 1);
    assert!(machine.reveals());
    assert_eq!((machine.look(a), machine.look(a)), (Some(ok("first")), None));
    assert!(!machine.reveals());
}

#[test]
fn born_is_the_completion_revealed_last_not_the_one_journaled_last() {
    let mut machine = fresh();
    let (a, b) = (machine.step("a"), machine.step("b"));
    machine.end(a, ok("a"));
    machine.end(b, ok("b"));
    let before = machine.born("");
    machine.reveal();
    let between = machine.born("");
    machine.reveal();
    // The run's beginning is the first record.
    assert_eq!((before, between, machine.born("")), (0, 2, 3));
    let c = machine.step("c");
    machine.open(c, None, None);
    let Some(Record::Opened(opened)) = machine.take_outbox().pop() else { panic!("c is open") };
    assert_eq!((opened.position, opened.born), (at("c"), 3));
}

#[test]
fn what_was_given_up_after_it_completed_is_passed_over() {
    let mut machine = fresh();
    let (a, b) = (machine.step("a"), machine.step("b"));
    machine.end(a, ok("a"));
    machine.end(b, ok("b"));
    machine.abandon(a);
    assert!(machine.reveals());
    assert_eq!(machine.look(b), Some(ok("b")), "one reveal came to b");
    assert_eq!(machine.outbox_len(), 2, "the record of a stays");
    // Its place is free, and what takes it is not mistaken for it.
    let c = machine.step("c");
    machine.end(a, ok("late"));
    assert_eq!((machine.outbox_len(), machine.look(c)), (2, None));
}

#[test]
fn who_completes_what_was_given_up_journals_nothing() {
    let mut machine = fresh();
    let a = machine.step("a");
    machine.abandon(a);
    machine.end(a, ok("a"));
    machine.open(a, None, None);
    machine.park(a, "gate", None, AT);
    assert!(!machine.has_outbox() && !machine.has_queue());
}

#[test]
fn body_values_are_seen_with_the_completion_and_code_values_at_once() {
    let mut machine = fresh();
    let a = machine.step("a");
    machine.complete(a, ok("a"), 1, sets("of-body", "1"));
    machine.set(&root(), "of-code".to_owned(), Some(value("2")));
    assert_eq!(machine.value("of-body"), None);
    assert_eq!(machine.value("of-code"), Some(&value("2")));
    machine.reveal();
    assert_eq!(machine.value("of-body"), Some(&value("1")));
    machine.set(&root(), "of-body".to_owned(), None);
    assert_eq!(machine.value("of-body"), None);
}

#[test]
fn values_of_a_failed_attempt_and_of_a_dropped_step_are_seen_in_their_turn() {
    let mut machine = fresh();
    let (a, b) = (machine.step("a"), machine.step("b"));
    let Outcome::Err(error) = err("again") else { panic!("an error") };
    machine.attempt_failed(a, 1, error, AT, sets("tries", "1"));
    machine.complete(b, ok("b"), 1, sets("b", "2"));
    machine.abandon(b);
    assert_eq!((machine.value("tries"), machine.value("b")), (None, None));
    assert!(!machine.reveals(), "nobody is told");
    assert_eq!(
        (machine.value("tries"), machine.value("b")),
        (Some(&value("1")), Some(&value("2")))
    );
}

#[test]
fn a_body_begins_only_while_its_position_waits_and_nothing_holds_the_run() {
    let mut machine = fresh();
    let a = machine.step("a");
    assert!(machine.may(a));
    machine.held = true;
    assert!(!machine.may(a), "the engine shuts down");
    machine.held = false;
    machine.paused = true;
    assert!(!machine.may(a), "paused");
    machine.paused = false;
    machine.set_busy(a, true);
    assert!(!machine.may(a), "it is at work");
    machine.set_busy(a, false);
    assert!(machine.may(a));
    machine.end(a, ok("a"));
    assert!(!machine.may(a), "it is complete");
    assert_eq!(machine.take_waiting().len(), 4, "who was refused is woken");
}

#[test]
fn cancelling_completes_what_waits_and_leaves_what_is_busy_or_shielded() {
    let mut machine = fresh();
    let (waits, busy) = (machine.step("waits"), machine.step("busy"));
    let shielded = machine.claim(&root(), "shielded".into(), Kind::Step, true);
    machine.set_busy(busy, true);
    machine.cancel(CancelReason::Asked, AT);
    machine.cancel(CancelReason::Deadline, AT);
    assert!(!machine.may(busy) && machine.may(shielded));
    assert_eq!(machine.cancelled(), None, "asked for; the flow has not seen it");
    assert!(machine.reveals());
    assert_eq!(machine.look(waits), Some(cancelled(CancelReason::Asked)));
    assert_eq!(machine.cancelled(), Some(CancelReason::Asked), "the first reason counts");
    assert!(!machine.reveals());
    // What comes after is cancelled without a record, unless it is shielded.
    let (late, kept) =
        (machine.step("late"), machine.claim(&root(), "kept".into(), Kind::Step, true));
    assert_eq!(machine.look(late), Some(cancelled(CancelReason::Asked)));
    assert_eq!(machine.look(kept), None);
    assert!(machine.may(kept));
    machine.end(busy, ok("in time"));
    assert!(machine.reveals());
    assert_eq!(machine.look(busy), Some(ok("in time")), "the body's own result counts");
    let shown: Vec<&str> = machine
        .take_outbox()
        .iter()
        .map(|record| match record {
            Record::CancelRequested(_) => "cancel",
            Record::Completed(done) if done.position == at("waits") => "waits",
            Record::Completed(done) if done.position == at("busy") => "busy",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(shown, ["cancel", "waits", "busy"]);
}

#[test]
fn between_attempts_a_cancelled_step_is_over() {
    let mut machine = fresh();
    let a = machine.step("a");
    machine.set_busy(a, true);
    machine.cancel(CancelReason::Asked, AT);
    let Outcome::Err(error) = err("again") else { panic!("an error") };
    machine.set_busy(a, false);
    machine.attempt_failed(a, 1, error, AT, Vec::new());
    assert!(machine.reveals());
    assert_eq!(machine.look(a), Some(cancelled(CancelReason::Asked)));
}

#[test]
fn a_cancelled_parent_gives_its_children_up_by_name() {
    let mut machine = fresh();
    let (child, step) = (machine.of(Kind::Child, "child"), machine.step("step"));
    machine.set_wait(child, Some(Wait::Child("run-2".to_owned())));
    machine.set_wait(step, Some(Wait::Timer(AT)));
    machine.cancel(CancelReason::Asked, AT);
    assert_eq!(machine.take_orphans(), ["run-2"]);
    assert!(machine.take_orphans().is_empty());
}

#[test]
fn a_failed_attempt_ends_parking() {
    let mut machine = fresh();
    let a = machine.step("a");
    machine.park(a, "gate", None, AT);
    let parked = |machine: &Machine| machine.fact(a).and_then(|fact| fact.parked.clone());
    let known: Option<Parked> = parked(&machine);
    assert_eq!(known.map(|parked| parked.gate), Some("gate".to_owned()));
    let Outcome::Err(error) = err("again") else { panic!("an error") };
    machine.attempt_failed(a, 1, error, AT, Vec::new());
    assert_eq!(parked(&machine), None);
}

#[test]
fn the_run_says_what_it_waits_for_only_when_nothing_can_begin() {
    let mut machine = fresh();
    let (a, b) = (machine.step("a"), machine.step("b"));
    machine.set_wait(a, Some(Wait::Timer(AT)));
    assert_eq!(machine.waits(), Some(Vec::new()), "nobody looked yet");
    assert_eq!((machine.look(a), machine.look(b)), (None, None));
    assert_eq!(machine.waits(), None, "b can begin");
    machine.abandon(b);
    assert_eq!(machine.waits(), Some(vec![(&at("a"), &Wait::Timer(AT))]));
    machine.set_busy(a, true);
    assert!(machine.waits().is_none() && machine.is_busy());
    machine.set_busy(a, false);
    machine.end(a, ok("a"));
    assert_eq!(machine.waits(), Some(Vec::new()));
    assert_eq!(machine.waiters().count(), 0, "what completed waits for nothing");
}

#[test]
fn a_frozen_run_journals_nothing_until_it_is_thawed() {
    let mut machine = fresh();
    let a = machine.step("a");
    machine.freeze(Frozen::Sealed("no key".to_owned()));
    machine.freeze(Frozen::Sealed("later".to_owned()));
    machine.open(a, None, None);
    assert!(!machine.has_outbox() && !machine.may(a));
    assert!(matches!(machine.thaw(), Some(Frozen::Sealed(why)) if why == "no key"));
    assert!(machine.thaw().is_none());
}

#[test]
fn a_commit_takes_so_many_bytes_and_one_record_of_any_size() {
    let mut machine = fresh();
    let (a, b) = (machine.step("a"), machine.step("b"));
    assert!(machine.has_room(ROOM + 1, Waker::noop()), "alone, anything fits");
    let half = Payload::new(Bytes::from(vec![0; ROOM / 2]));
    machine.end(a, Outcome::Ok(half));
    assert!(machine.has_room(ROOM / 2, Waker::noop()) && !machine.is_crowded());
    assert!(!machine.has_room(ROOM / 2 + 1, Waker::noop()));
    assert_eq!(machine.take_crowded().len(), 1);
    machine.end(b, Outcome::Ok(Payload::new(Bytes::from(vec![0; ROOM / 2 + 1]))));
    assert!(machine.is_crowded());
    assert_eq!(machine.take_outbox().len(), 2);
    assert!(!machine.is_crowded() && machine.has_room(ROOM + 1, Waker::noop()));
}

struct Quiet;

impl Wake for Quiet {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_waker_is_kept_once_for_each_position() {
    let (waker, other) = (Waker::from(Arc::new(Quiet)), Waker::from(Arc::new(Quiet)));
    let mut machine = fresh();
    let a = machine.step("a");
    let before = machine.pended();
    for waker in [&other, &waker, &waker] {
        assert_eq!(machine.take_revealed(a, waker), None);
    }
    assert_eq!(machine.pended(), before + 3);
    assert_eq!((machine.wakers_like(&waker), machine.wakers_like(&other)), (Some(1), Some(0)));
    machine.wait(&waker);
    assert_eq!(machine.wakers_like(&waker), Some(2));
    for _ in 0..COUNTED {
        machine.wait(&waker);
    }
    assert_eq!(machine.wakers_like(&waker), None, "too many to count");
}
