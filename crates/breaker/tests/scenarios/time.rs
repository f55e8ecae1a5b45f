//! Windows of time: C19 to C29.

use resurge_breaker::{Mode, State, Trip, Window};

use crate::board::{Board, config, last, percent, secs, within};

#[test]
fn c19_the_rate_of_the_last_twenty_seconds() {
    let mut board = Board::new(config(within(20, 50, 5)));
    board.run("S +1s S +1s S +1s F +1s F CL +1s F OP");
    assert_eq!(board.window(), (6, 3, 0));
}

#[test]
fn c20_a_success_fills_min_calls_and_trips_once() {
    let mut board = Board::new(config(within(20, 50, 5)));
    board.run("FFFS CL");
    assert_eq!(board.rate(), None);
    board.run("S OP");
    assert_eq!(board.rate(), Some(60));
    board.run("acq!");
    assert_eq!((board.rejected(), board.went()), (1, vec![State::Open]));
}

#[test]
fn c21_slices_expire_and_the_idle_window_is_empty() {
    let mut config = config(within(5, 100, 1));
    config.slow_after = Some(secs(1));
    let mut board = Board::new(config);
    board.breaker.set_mode(Mode::Shadow);
    board.run("F +100ms S +700ms F");
    assert_eq!(board.window(), (3, 2, 0));
    board.run("+4s");
    assert_eq!(board.window(), (3, 2, 0));
    board.run("+1s");
    assert_eq!(board.window(), (0, 0, 0));
    board.run("+100ms S");
    assert_eq!(board.window(), (1, 0, 0));
    board.run("+5s S");
    assert_eq!(board.window(), (1, 0, 0));
    // Idle for hundreds of windows.
    board.run("+1h");
    assert_eq!(board.window(), (0, 0, 0));
}

#[test]
fn c25_a_call_is_gone_at_exactly_the_length() {
    let trip =
        Trip::FailureRate { rate: percent(100), window: Window::time(secs(10)), min_calls: 1 };
    let mut board = Board::new(config(trip));
    board.run("SS +9999ms");
    assert_eq!(board.window().0, 2);
    board.run("+1ms");
    assert_eq!(board.window().0, 0);
}

#[test]
fn c28_a_fixed_interval_forgets_at_once() {
    let trip = Trip::FailureCount { failures: 3, window: Window::interval(secs(30)), min_calls: 1 };
    let mut board = Board::new(config(trip));
    board.run("FF +29999ms");
    assert_eq!(board.window(), (2, 2, 0));
    board.run("+1ms");
    assert_eq!(board.window(), (0, 0, 0));
    board.run("FF CL F OP");
}

#[test]
fn c29_low_volume_never_trips() {
    let mut board = Board::new(config(within(10, 1, 5)));
    for _ in 0..50 {
        board.run("FF +5s FF +5s CL");
    }
    let mut board = Board::new(config(last(100, 1, 5)));
    board.run("FFFF CL");
}

#[test]
fn sparse_failures_never_meet_in_a_window() {
    let trip = Trip::FailureCount { failures: 3, window: Window::time(secs(5)), min_calls: 1 };
    let mut board = Board::new(config(trip));
    board.run("F +5s F +1s F CL +5s F CL +4s F CL +1s F CL +1s F OP");
}
