//! Open, and how it ends: C33 to C39.

use std::time::Duration;

use resurge_breaker::{FailureKind, Mode, OpenConfig, Outcome, State};
use resurge_store::Clock;

use crate::board::{Board, config, in_a_row, ms, secs};

#[test]
fn c33_half_open_after_the_open_time_with_fresh_counts() {
    let mut board = Board::new(config(in_a_row(1)));
    board.run("F OP acq! +3s acq!");
    assert_eq!(board.rejected(), 2);
    board.run("+3s acq HO");
    assert_eq!(board.window(), (0, 0, 0));
    assert_eq!(board.went(), [State::Open, State::HalfOpen]);
}

#[test]
fn c34_open_for_and_until() {
    let mut board = Board::new(config(in_a_row(1)));
    board.breaker.trip_for("maintenance", secs(7_200));
    board.run("+1h acq! +1h +1s acq HO okS CL");
    let until = board.clock.now().saturating_add(secs(1_800));
    board.breaker.trip_until("maintenance", until);
    board.run("+15m acq! +15m acq HO");
}

#[test]
fn c34_open_for_from_a_result() {
    let mut board = Board::new(config(in_a_row(100)));
    let busy = Outcome::OpenFor(FailureKind::ResourceLimit, secs(3_600));
    board.breaker.acquire().unwrap().settle(busy);
    board.run("OP +59m acq! +1m acq HO");
    // From a probe, too.
    board.held.remove(0).settle(busy);
    board.run("OP +59m acq! +1m S CL");
}

#[test]
fn c35_the_second_time_is_longer() {
    let mut config = config(in_a_row(1));
    config.open = OpenConfig { initial: secs(5), factor: 1.5, ..OpenConfig::default() };
    let mut board = Board::new(config);
    board.run("F OP +5s F OP +6s acq! +1499ms acq! +1ms acq HO");
}

#[test]
fn c35_the_attempts_grow_and_closing_forgets_them() {
    let mut board = Board::new(config(in_a_row(1)));
    let mut attempts = Vec::new();
    for steps in ["F", "+5s F", "+5s F", "+5s F", "+5s F", "+5s S F", "+5s F", "+5s F"] {
        board.run(steps);
        attempts.push(board.breaker.metrics().attempt);
    }
    assert_eq!(attempts, [0, 1, 2, 3, 4, 0, 1, 2]);
}

#[test]
fn c37_the_end_of_time_saturates() {
    let mut board = Board::new(config(in_a_row(1)));
    board.clock.advance(Duration::from_nanos(u64::MAX - 1_000));
    board.run("F OP acq!");
    board.breaker.trip_for("for ever", Duration::MAX);
    board.run("OP acq!");
    assert!(board.breaker.retry_after().is_some());
}

#[test]
fn c37_the_growth_saturates() {
    let mut config = config(in_a_row(1));
    config.open = OpenConfig { factor: 1e300, max: secs(60), ..config.open };
    let mut board = Board::new(config);
    board.run("F +5s F");
    for _ in 0..5 {
        board.run("+59999ms acq! +1ms F OP");
    }
}

#[test]
fn c38_the_rejection_says_when_to_come_back() {
    let mut board = Board::new(config(in_a_row(1)));
    board.run("F +1ms");
    let rejected = board.breaker.acquire().unwrap_err();
    assert_eq!(rejected.retry_after, Some(ms(4_999)));
    assert_eq!((rejected.state, rejected.mode), (State::Open, Mode::Active));
    board.breaker.set_mode(Mode::ForcedOpen);
    let rejected = board.breaker.acquire().unwrap_err();
    assert_eq!((rejected.retry_after, rejected.mode), (None, Mode::ForcedOpen));
}

#[test]
fn c39_at_exactly_the_end_a_call_is_admitted() {
    let mut board = Board::new(config(in_a_row(1)));
    board.run("F +4999ms acq! +1ms acq");
}

#[test]
fn late_results_of_an_open_circuit_change_nothing() {
    let mut board = Board::new(config(in_a_row(1)));
    board.run("acq acq acq F OP +3s okF okS okF OP +2s acq HO");
    assert_eq!(board.went(), [State::Open, State::HalfOpen]);
    let metrics = board.breaker.metrics();
    assert_eq!((metrics.total_requests, metrics.total_failures), (4, 3));
}
