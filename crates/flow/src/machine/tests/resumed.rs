//! What a resume voids, and what it leaves.

use super::*;

/// The positions whose completions still count.
fn standing(records: &[Record]) -> Vec<String> {
    journal(records).standing().into_iter().map(|(_, position)| position.to_string()).collect()
}

#[test]
fn the_failure_and_what_was_claimed_after_it_was_seen_are_void() {
    let records = [
        done(at("before"), 0, ok("1")), // 2
        done(at("fails"), 2, err("2")), // 3
        done(at("beside"), 2, ok("3")), // 4: claimed before the failure was revealed
        done(at("after"), 3, ok("4")),  // 5: the code had seen it
        done(at("later"), 4, ok("5")),  // 6
        failed(&[at("fails")]),
    ];
    assert_eq!(standing(&records), ["before", "fails", "beside", "after", "later"]);
    let resumed = [&records[..], &[resume(&[at("fails")])]].concat();
    assert_eq!(standing(&resumed), ["before", "beside"]);
    assert!(journal(&resumed).ending.is_none());
    assert_eq!(journal(&resumed).resumed_at, Some(AT));
    assert_eq!(journal(&resumed).records, 8, "void records keep their numbers");
}

#[test]
fn what_a_failure_was_revealed_as_decides_not_where_it_stands() {
    // `early` was journaled before the failure; nobody can have claimed it because of that.
    let records = [
        done(at("early"), 0, ok("1")),
        done(at("fails"), 0, err("2")),
        done(at("last"), 2, ok("3")),
        resume(&[at("fails")]),
    ];
    assert_eq!(standing(&records), ["early", "last"]);
}

#[test]
fn a_failure_the_flow_caught_stays_unless_it_is_named() {
    let records = [
        done(at("caught"), 0, err("1")),
        done(at("instead"), 2, ok("2")),
        done(at("b"), 3, err("3")),
    ];
    let of = |positions: &[Position]| standing(&[&records[..], &[resume(positions)]].concat());
    assert_eq!(of(&[at("b")]), ["caught", "instead"]);
    assert_eq!(of(&[at("caught")]), Vec::<String>::new());
    assert_eq!(
        of(&[]),
        ["caught", "instead", "b"],
        "only the code after the last of them runs again"
    );
    assert_eq!(
        of(&[at("instead")]),
        ["caught", "instead", "b"],
        "what succeeded is no failure point"
    );
}

#[test]
fn the_attempts_of_what_failed_are_spent_with_it_and_its_values_remain() {
    let Outcome::Err(error) = err("no") else { panic!("an error") };
    let tried = crate::record::AttemptFailed {
        position: at("a"),
        born: 0,
        attempt: 1,
        error,
        next_at: AT,
        sets: sets("tries", "1"),
    };
    let mut last = Completed {
        position: at("a"),
        kind: Kind::Step,
        born: 0,
        outcome: err("at last"),
        attempts: 2,
        sets: sets("tries", "2"),
    };
    let mut records = vec![Record::AttemptFailed(tried), Record::Completed(last.clone())];
    records.push(resume(&[at("a")]));
    let mut machine = replay(&records);
    let a = machine.step("a");
    assert!(machine.fact(a).is_none(), "it has all its attempts again");
    assert!(machine.resumed_at(&at("a")) && !machine.resumed_at(&at("b")));
    assert!(machine.was_resumed());
    assert!(!machine.reveals(), "nothing is left to be told");
    assert_eq!(machine.value("tries"), Some(&value("2")), "what its body had set is set");
    assert!(machine.go_live().unwrap() && machine.may(a));

    // It fails again, and is resumed again.
    last.born = 0;
    records.push(Record::Completed(last));
    assert_eq!(standing(&records), ["a"]);
    records.push(resume(&[at("a")]));
    assert!(standing(&records).is_empty());
}

#[test]
fn facts_claimed_after_the_failure_are_void_others_stay() {
    let records = [
        opened(at("nap"), Kind::Sleep, 0),
        done(at("fails"), 0, err("1")), // 3
        opened(at("undo-nap"), Kind::Sleep, 3),
        resume(&[at("fails")]),
    ];
    let mut machine = replay(&records);
    machine.of(Kind::Sleep, "nap");
    machine.step("fails");
    assert!(!machine.reveals());
    assert!(machine.go_live().unwrap(), "undo-nap need not be claimed");
    let mut machine = replay(&records);
    machine.step("fails");
    assert_eq!(machine.go_live().unwrap_err().position, at("nap"));
}

#[test]
fn a_branch_sees_its_own_failures_only() {
    let mut machine = fresh();
    let (p, q) = (machine.step_in("p", "a"), machine.step_in("q", "a"));
    machine.begin_branch("p".into(), 0);
    machine.begin_branch("q".into(), 0);
    machine.end(p, err("p"));
    machine.end(q, ok("q"));
    while machine.reveals() {}
    assert_eq!(machine.born("p"), 2, "its own failure");
    assert_eq!(machine.born("p/deeper"), 2);
    assert_eq!(machine.born("q"), 0, "neither the other's nor a success");
    assert_eq!(machine.born("p-like"), 3, "outside everything revealed counts");
    machine.end_branch("q");
    assert_eq!(machine.born("q"), 3);

    let resumed = |born| {
        let next = done(inside("q", "b"), born, ok("b"));
        standing(&[
            done(inside("p", "a"), 0, err("p")),
            done(inside("q", "a"), 0, ok("q")),
            next,
            resume(&[inside("p", "a")]),
        ])
    };
    assert_eq!(resumed(0), ["q/a", "q/b"], "as a branch that is claimed it");
    assert_eq!(resumed(3), ["q/a"], "as the flow's own code");
}

#[test]
fn where_the_run_was_resumed_is_known_by_path() {
    let point = inside("p/inner", "a");
    let machine = replay(&[done(point.clone(), 0, err("1")), resume(std::slice::from_ref(&point))]);
    assert_eq!(machine.resumed(), [point]);
    for (path, within) in [
        ("p", true),
        ("p/inner", true),
        ("p/inner/a", true),
        ("p/in", false),
        ("q", false),
        ("p/inner/a/b", false),
    ] {
        assert_eq!(machine.resumed_within(path), within, "{path}");
    }
}

#[test]
fn a_run_that_failed_of_its_cancellation_goes_on_without_it() {
    let reason = CancelReason::Deadline;
    let begun = [
        done(at("a"), 0, ok("a")),                                   // 2
        Record::CancelRequested(CancelRequested { reason, at: AT }), // 3
        done(at("b"), 2, cancelled(reason)),                         // 4
    ];
    let resumed = [&begun[..], &[failed(&[at("b")]), resume(&[at("b")])]].concat();
    assert_eq!(standing(&resumed), ["a"]);
    let mut machine = replay(&resumed);
    machine.step("a");
    assert!(machine.reveals());
    let b = machine.step("b");
    assert!(!machine.reveals() && machine.go_live().unwrap());
    assert!(machine.may(b) && machine.cancelled().is_none());

    // It failed in what it did after it: it goes on with that, and stays cancelled.
    let undo = done(at("undo"), 4, err("undo"));
    let resumed = [&begun[..], &[undo, failed(&[at("undo")]), resume(&[at("undo")])]].concat();
    assert_eq!(standing(&resumed), ["a", "b"]);
    let mut machine = replay(&resumed);
    let (_, b) = (machine.step("a"), machine.step("b"));
    assert!(machine.reveals() && machine.reveals());
    assert_eq!(machine.look(b), Some(cancelled(reason)));
    assert_eq!(machine.cancelled(), Some(reason));
}

#[test]
fn callbacks_after_the_flow_and_after_a_resumed_process_run_again() {
    let callback = |scope: &str| {
        let (kind, attempts) = (Kind::Callback, 1);
        let position = inside(scope, "audit");
        let sets = Vec::new();
        Record::Completed(Completed { position, kind, born: 0, outcome: ok(""), attempts, sets })
    };
    let records = [
        callback("@before-flow"),
        callback("p/@before-process"),
        done(inside("p", "a"), 0, err("a")),
        callback("p/a/@after-step"),
        callback("p/@after-process"),
        callback("q/@after-process"),
        callback("@after-flow"),
        resume(&[inside("p", "a")]),
    ];
    assert_eq!(
        standing(&records),
        [
            "@before-flow/audit",
            "p/@before-process/audit",
            "p/a/@after-step/audit",
            "q/@after-process/audit"
        ]
    );
}

/// The deadline passed while a body was at work. What its code asked for next was refused without a
/// record, and it cleaned up: all of that was because of the cancellation.
#[test]
fn what_was_done_because_of_a_cancellation_that_nothing_waited_for_is_void_with_it() {
    let mut machine = fresh();
    let a = machine.step_in("p", "a");
    machine.begin_branch("p".into(), 0);
    machine.set_busy(a, true);
    machine.cancel(CancelReason::Deadline, AT);
    assert!(!machine.reveals());
    machine.end(a, ok("a"));
    assert!(machine.reveals());
    let b = machine.step_in("p", "b");
    assert_eq!(machine.look(b), Some(cancelled(CancelReason::Deadline)), "refused, no record");
    for scope in ["", "p"] {
        let undo = machine.claim(&scope.into(), "undo".into(), Kind::Step, true);
        machine.end(undo, ok("undone"));
        assert!(machine.reveals());
    }
    let mut records = machine.take_outbox();
    assert_eq!(standing(&records), ["p/a", "undo", "p/undo"]);
    records.extend([failed(&[inside("p", "b")]), resume(&[inside("p", "b")])]);
    assert_eq!(standing(&records), ["p/a"], "it goes on with b, and undoes nothing");
}
