//! Modes and commands: C56 to C60.

use resurge_breaker::{BreakerEvent, FailureKind, Mode, Reason, State};

use crate::board::{Board, config, in_a_row, last, secs};

#[test]
fn c56_forced_open_does_not_expire() {
    let mut board = Board::new(config(in_a_row(1)));
    board.breaker.set_mode(Mode::ForcedOpen);
    board.run("OP acq! +6s acq!");
    assert_eq!(board.rejected(), 2);
    board.run("+1000h acq!");
    board.breaker.set_mode(Mode::Active);
    board.run("CL S");
}

#[test]
fn c58_disabled_admits_all_and_counts_nothing() {
    let mut board = Board::new(config(in_a_row(1)));
    board.breaker.set_mode(Mode::Disabled);
    board.run("FFFFSSFF CL");
    assert!(board.went().is_empty());
    let metrics = board.breaker.metrics();
    assert_eq!((metrics.total_requests, metrics.total_failures), (0, 0));
    assert_eq!((metrics.window.calls, metrics.last_failure), (0, None));
}

#[test]
fn c59_shadow_counts_and_says_once() {
    let mut board = Board::new(config(last(5, 50, 5)));
    board.breaker.set_mode(Mode::Shadow);
    board.run("FFFSS CL");
    assert_eq!((board.window(), board.rate()), ((5, 3, 0), Some(60)));
    assert_eq!(board.would_trip().len(), 1);
    board.run("F F F CL");
    assert_eq!(board.would_trip().len(), 0);
    // When it was over, it is said again.
    board.run("SSSSS FFFFF CL");
    assert_eq!(board.would_trip().len(), 1);
}

#[test]
fn c60_illegal_and_idempotent_commands() {
    let mut board = Board::new(config(in_a_row(1)));
    let illegal = board.breaker.half_open("now").unwrap_err();
    assert_eq!((illegal.from, illegal.to), (State::Closed, State::HalfOpen));
    board.run("CL");
    board.breaker.reset("twice");
    board.breaker.set_mode(Mode::Active);
    assert!(board.went().is_empty());
    board.breaker.trip("a");
    board.breaker.trip("b");
    assert_eq!(board.went(), [State::Open]);
    board.breaker.half_open("c").unwrap();
    board.breaker.half_open("d").unwrap();
    assert_eq!(board.went(), [State::HalfOpen]);
    board.breaker.reset("e");
    board.breaker.reset("f");
    assert_eq!(board.went(), [State::Closed]);
}

#[test]
fn shadow_admits_also_what_people_would_reject() {
    let mut board = Board::new(config(in_a_row(1)));
    board.breaker.set_mode(Mode::Shadow);
    board.went();
    board.breaker.trip("by hand");
    board.breaker.trip_for("by hand", secs(5));
    assert!(board.breaker.begin_repair().is_none());
    board.run("CL S F");
    assert_eq!(board.rejected(), 0);
    let said = board.would_trip();
    assert!(matches!(&*said, [Reason::Manual { .. }]), "{said:?}");
}

#[test]
fn what_opened_it_says_how_the_last_call_failed() {
    let mut board = Board::new(config(in_a_row(2)));
    let opened = |board: &mut Board| loop {
        match board.events.try_recv().unwrap() {
            BreakerEvent::Transition(transition) if transition.to == State::Open => {
                return transition.failure;
            }
            _ => {}
        }
    };
    for (kind, probe) in [
        (FailureKind::Timeout, FailureKind::Panic),
        (FailureKind::ResourceLimit, FailureKind::Initialization),
    ] {
        board.run("F");
        board.breaker.acquire().unwrap().failure(kind);
        assert_eq!(opened(&mut board), Some(kind));
        board.run("+5s");
        board.breaker.acquire().unwrap().failure(probe);
        assert_eq!(opened(&mut board), Some(probe));
        board.breaker.reset("");
        // People are no failure.
        board.breaker.trip("");
        assert_eq!(opened(&mut board), None);
        board.breaker.reset("");
    }
}
