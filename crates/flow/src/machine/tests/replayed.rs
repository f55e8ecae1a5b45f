//! A journal under the code that wrote it, and under other code.

use super::*;
use crate::record::{AttemptFailed, Parked};

#[test]
fn what_completed_is_revealed_again_in_the_same_order_and_nothing_begins_meanwhile() {
    let mut machine =
        replay(&[done(at("b"), 0, ok("b")), done(at("a"), 0, err("a")), done(at("c"), 2, ok("c"))]);
    let (a, b) = (machine.step("a"), machine.step("b"));
    assert!(!machine.is_live() && !machine.may(a) && !machine.may(b));
    assert!(machine.reveals());
    assert_eq!((machine.look(a), machine.look(b)), (None, Some(ok("b"))));
    let c = machine.step("c");
    assert!(machine.reveals());
    assert_eq!((machine.look(a), machine.look(c)), (Some(err("a")), None));
    assert!(!machine.go_live().unwrap(), "c is still to be revealed");
    assert!(machine.reveals());
    assert_eq!(machine.look(c), Some(ok("c")));
    let d = machine.step("d");
    assert!(!machine.may(d));
    assert!(machine.go_live().unwrap());
    assert!(machine.is_live() && machine.may(d));
    assert!(!machine.go_live().unwrap(), "it is live already");
    assert!(!machine.has_outbox(), "replay journals nothing");
    assert_eq!(machine.last(), 4);
}

#[test]
fn a_completion_nobody_asked_for_is_refused_naming_both_sides() {
    let mut machine = replay(&[done(at("a"), 0, ok("a"))]);
    machine.step("b");
    machine.of(Kind::Sleep, "nap");
    let mismatch = machine.refuses();
    assert_eq!(mismatch.position, at("a"));
    assert_eq!(mismatch.journal, "step `a`");
    assert_eq!(mismatch.code, "sleep `nap`, step `b`");
}

#[test]
fn a_completion_of_another_occurrence_scope_or_kind_is_refused() {
    for (kind, scope, name) in
        [(Kind::Step, "", "b"), (Kind::Step, "s", "a"), (Kind::Sleep, "", "a")]
    {
        let mut machine = replay(&[done(at("a"), 0, ok("a"))]);
        let id = machine.claim(&scope.into(), name.into(), kind, false);
        let mismatch = machine.refuses();
        assert_eq!(mismatch.code, format!("{kind} {:?}", machine.position(id).unwrap()));
    }
    let mut machine = replay(&[done(nth("a", 1), 0, ok("a"))]);
    machine.step("a");
    assert_eq!(machine.refuses().code, "step `a`");
    let mut machine = replay(&[done(at("a"), 0, ok("a"))]);
    assert_eq!(machine.refuses().code, "nothing more");
}

#[test]
fn an_error_lists_a_few_of_many() {
    let mut machine = replay(&[done(at("a"), 0, ok("a"))]);
    for _ in 0..20 {
        machine.step("b");
    }
    let code = machine.refuses().code;
    assert_eq!(code.matches("step `b").count(), 8, "{code}");
    assert!(code.ends_with(" and 12 more"), "{code}");
}

#[test]
fn what_the_code_gave_up_before_its_turn_is_passed_over_in_replay_too() {
    let mut machine = replay(&[done(at("a"), 0, ok("a")), done(at("b"), 0, ok("b"))]);
    let (a, b) = (machine.step("a"), machine.step("b"));
    machine.abandon(a);
    assert!(machine.reveals());
    assert_eq!(machine.look(b), Some(ok("b")));
    assert_eq!(machine.born(""), 3, "the ordinals are those of the journal");
    assert!(machine.go_live().unwrap());
}

#[test]
fn a_fact_must_be_claimed_by_something_of_its_kind() {
    let nap = || replay(&[opened(at("nap"), Kind::Sleep, 0)]);
    let mut machine = nap();
    assert!(!machine.is_live(), "what is known of a position has to be met first");
    let id = machine.of(Kind::Sleep, "nap");
    assert!(machine.fact(id).unwrap().opened);
    assert_eq!(machine.fact(id).unwrap().until, Some(AT));
    assert!(machine.go_live().unwrap());

    let mut machine = nap();
    machine.step("other");
    let mismatch = machine.go_live().unwrap_err();
    assert_eq!((mismatch.position, mismatch.code), (at("nap"), "step `other`".to_owned()));
    assert_eq!(mismatch.journal, "sleep `nap`");

    let mut machine = nap();
    machine.of(Kind::Signal, "nap");
    assert_eq!(machine.go_live().unwrap_err().code, "signal `nap`");

    let mut machine = nap();
    let id = machine.of(Kind::Sleep, "nap");
    machine.abandon(id);
    assert!(machine.go_live().unwrap(), "claimed and given up is claimed");
}

#[test]
fn attempts_and_parking_are_known_again_and_belong_to_what_has_a_body() {
    let Outcome::Err(error) = err("no") else { panic!("an error") };
    let tried = |attempt: u32, next_at| {
        let (position, born, error) = (at("a"), 0, error.clone());
        let sets = sets("tries", &attempt.to_string());
        Record::AttemptFailed(AttemptFailed { position, born, attempt, error, next_at, sets })
    };
    let later = Timestamp::from_millis(9_000);
    let parked = |gate: &str| {
        let gate = gate.to_owned();
        Record::Parked(Parked { position: at("a"), born: 0, gate, until: None, at: AT })
    };
    let records = [parked("early"), tried(1, AT), tried(2, later), parked("late")];
    let mut machine = replay(&records);
    let a = machine.step("a");
    let fact = machine.fact(a).unwrap();
    assert_eq!((fact.attempts, fact.next_at), (2, Some(later)));
    assert_eq!(fact.last_error.as_ref(), Some(&error));
    assert_eq!(fact.parked.as_ref().map(|parked| &*parked.gate), Some("late"));
    assert!(!machine.reveals());
    assert_eq!(machine.value("tries"), Some(&value("2")));
    assert!(machine.go_live().unwrap());

    let mut machine = replay(&records[..2]);
    let a = machine.step("a");
    assert_eq!(machine.fact(a).unwrap().parked, None, "an attempt ends parking");

    for kind in [Kind::Sleep, Kind::Signal, Kind::Child, Kind::Select, Kind::Now] {
        let mut machine = replay(&records);
        machine.of(kind, "a");
        machine.reveal();
        assert_eq!(machine.go_live().unwrap_err().code, format!("{kind} `a`"));
    }
}

#[test]
fn what_completed_has_no_facts_left() {
    let mut machine = replay(&[
        opened(at("nap"), Kind::Sleep, 0),
        Record::Completed(Completed {
            position: at("nap"),
            kind: Kind::Sleep,
            born: 0,
            outcome: Outcome::Ok(Payload::default()),
            attempts: 0,
            sets: sets("slept", "yes"),
        }),
    ]);
    let nap = machine.of(Kind::Sleep, "nap");
    assert!(machine.fact(nap).is_none());
    assert_eq!(machine.value("slept"), None);
    assert!(machine.reveals());
    assert_eq!(machine.value("slept"), Some(&value("yes")));
    assert!(machine.go_live().unwrap());
}

#[test]
fn in_replay_the_journals_context_value_wins() {
    let position = Position::new("", "@set:limit", 0);
    let set = |text: &str| Value { name: "limit".to_owned(), value: Some(value(text)) };
    let recorded = Record::Set(Set { position, born: 0, value: set("old") });
    let mut machine = replay(std::slice::from_ref(&recorded));
    assert_eq!(machine.value("limit"), None, "set where the code sets it");
    machine.set(&root(), "limit".to_owned(), Some(value("new")));
    assert_eq!(machine.value("limit"), Some(&value("old")));
    assert!(!machine.has_outbox());
    assert!(machine.go_live().unwrap());
    machine.set(&root(), "limit".to_owned(), Some(value("newer")));
    assert_eq!(machine.value("limit"), Some(&value("newer")));
    assert_eq!(machine.outbox_len(), 1);

    let mut machine = replay(&[recorded]);
    assert_eq!(
        machine.go_live().unwrap_err().journal,
        "set `@set:limit`",
        "it is not set any more"
    );
}

#[test]
fn changed_code_runs_where_the_journal_says_so_or_ends() {
    let mark = Mark { position: Position::new("", "@patch:new", 0), born: 0 };
    let marked = [Record::Patched(mark), done(at("a"), 0, ok("a"))];
    let mut machine = replay(&marked);
    assert!(machine.patched(&root(), "new"), "the journal says so");
    machine.step("a");
    assert!(machine.reveals() && machine.go_live().unwrap());
    assert!(!machine.has_outbox());

    let mut machine = replay(&marked);
    machine.step("a");
    machine.reveal();
    assert_eq!(machine.go_live().unwrap_err().journal, "patch `@patch:new`", "nobody asked");

    let mut machine = replay(&marked[1..]);
    assert!(!machine.patched(&root(), "new"), "the run went past it with the old code");
    let a = machine.step("a");
    machine.reveal();
    assert_eq!(machine.look(a), Some(ok("a")));
    assert!(machine.patched(&root(), "later"), "it gets here for the first time");
    assert_eq!(machine.outbox_len(), 1);

    let mut machine = replay(&[opened(at("nap"), Kind::Sleep, 0)]);
    assert!(
        !machine.patched(&root(), "new"),
        "a timer is known that the code has not asked for yet"
    );
    machine.of(Kind::Sleep, "nap");
    assert!(machine.patched(&root(), "then"));
    assert!(fresh().patched(&root(), "new"));
}

#[test]
fn a_cancellation_is_revealed_in_its_turn() {
    let mut machine = replay(&[
        done(at("a"), 0, ok("a")),
        cancel(),
        done(at("b"), 0, cancelled(CancelReason::Asked)),
    ]);
    let (a, b) = (machine.step("a"), machine.step("b"));
    machine.reveal();
    assert_eq!(machine.look(a), Some(ok("a")));
    assert_eq!(machine.cancelled(), None);
    let c = machine.step("c");
    assert_eq!(machine.look(c), None, "live it was not cancelled yet when this was claimed");
    machine.reveal();
    assert_eq!(machine.look(b), Some(cancelled(CancelReason::Asked)));
    assert_eq!(machine.cancelled(), Some(CancelReason::Asked));
    assert!(machine.go_live().unwrap());
    // A crash came between the cancellation and the record of what became of c.
    assert!(machine.reveals());
    assert_eq!(machine.look(c), Some(cancelled(CancelReason::Asked)));
    assert_eq!(machine.outbox_len(), 1);
}

#[test]
fn a_child_known_from_the_journal_is_given_up_with_the_run() {
    let what = Some("run-2".to_owned());
    let child = Opened { position: at("child"), kind: Kind::Child, born: 0, until: None, what };
    let mut machine = replay(&[Record::Opened(child), cancel()]);
    machine.of(Kind::Child, "child");
    machine.reveal();
    assert!(machine.take_orphans().is_empty(), "its result may be known still");
    assert!(machine.go_live().unwrap());
    assert_eq!(machine.take_orphans(), ["run-2"]);
}

#[test]
fn nothing_is_revealed_before_the_winner_of_a_decided_race_is_there() {
    let mut machine = replay(&[done(at("a"), 0, ok("a"))]);
    let (race, a) = (machine.of(Kind::Select, "race"), machine.step("a"));
    machine.set_awaited(race, true);
    assert!(!machine.reveals());
    assert!(!machine.go_live().unwrap());
    machine.set_awaited(race, false);
    assert!(machine.reveals());
    machine.set_awaited(race, true);
    assert!(!machine.go_live().unwrap());
    machine.abandon(race);
    assert!(machine.go_live().unwrap(), "a race that is given up waits for nobody");
    let race = machine.of(Kind::Select, "race");
    machine.set_awaited(race, true);
    machine.end(a, ok("again"));
    let b = machine.step("b");
    machine.end(b, ok("b"));
    assert!(machine.reveals(), "live, nothing is awaited");
}

#[test]
fn a_journal_knows_its_pause_its_ending_and_how_long_it_is() {
    let read =
        journal(&[Record::Paused(At { at: AT }), done(at("a"), 0, err("a")), failed(&[at("a")])]);
    assert!(read.paused && matches!(read.ending, Some(super::super::Ending::Failed(_))));
    assert_eq!(read.records, 4);
    let read = journal(&[Record::Paused(At { at: AT }), Record::Unpaused(At { at: AT })]);
    assert!(!read.paused && read.ending.is_none());
    assert!(journal(&[]).push(started()).is_err(), "it begins once");
}
