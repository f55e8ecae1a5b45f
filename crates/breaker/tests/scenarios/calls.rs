//! Windows of calls and streaks: C01 to C18.

use resurge_breaker::{Mode, State, Trip, Window};

use crate::board::{Board, all_of, config, in_a_row, last, secs};

#[test]
fn c01_the_call_that_fills_the_window_opens() {
    // The window is F S S F when the fifth came.
    let mut board = Board::new(config(last(4, 50, 4)));
    board.run("SFSS CL F OP np!");
    assert_eq!(board.executions, 5);
}

#[test]
fn c02_a_success_trips() {
    let mut board = Board::new(config(last(4, 50, 4)));
    board.run("SFF CL S OP");
}

#[test]
fn c03_a_late_success_trips() {
    let mut board = Board::new(config(last(4, 75, 4)));
    board.run("FFF CL S OP np!");
}

#[test]
fn c05_closing_empties_the_window() {
    let mut board = Board::new(config(last(4, 75, 4)));
    board.run("FFFF OP np! +5s S CL");
    assert_eq!(board.window(), (0, 0, 0));
    board.run("FFF CL F OP");
    assert_eq!(board.executions, 9);
    assert_eq!(board.went(), [State::Open, State::HalfOpen, State::Closed, State::Open]);
}

#[test]
fn c06_one_failed_probe_of_three_opens() {
    let mut config = config(last(4, 75, 4));
    config.half_open = all_of(3);
    let mut board = Board::new(config);
    board.run("FFFF OP +5s SSF OP np!");
    assert_eq!(board.executions, 7);
}

#[test]
fn c08_two_of_three() {
    let trip = Trip::FailureCount { failures: 2, window: Window::Calls(3), min_calls: 1 };
    let mut board = Board::new(config(trip));
    board.run("FS CL F OP");
}

#[test]
fn c10_three_in_a_row() {
    let mut board = Board::new(config(in_a_row(3)));
    board.run("FSFF CL F OP");
}

#[test]
fn c11_more_than_five_in_a_row() {
    let mut board = Board::new(config(in_a_row(6)));
    board.run("FFFFF CL S F CL");
    assert_eq!(board.breaker.metrics().consecutive_failures, 1);
    board.run("FFFF CL F OP +5s S CL");
    assert_eq!(board.breaker.metrics().consecutive_failures, 0);
}

#[test]
fn c12_the_window_counts_the_last_ten() {
    let mut board = Board::new(config(last(10, 50, 10)));
    board.breaker.set_mode(Mode::Shadow);
    board.run("SSFF");
    assert_eq!((board.rate(), board.window()), (None, (4, 2, 0)));
    board.run("FFFFSSSS");
    assert_eq!((board.rate(), board.window()), (Some(60), (10, 6, 0)));
    board.run("SSS");
    assert_eq!(board.rate(), Some(30));
}

#[test]
fn c13_the_oldest_call_is_taken_out() {
    let mut board = Board::new(config(last(4, 100, 1)));
    board.breaker.set_mode(Mode::Shadow);
    for (call, rate) in [("F", 100), ("S", 50), ("S", 33), ("S", 25), ("S", 0)] {
        board.run(call);
        assert_eq!(board.rate(), Some(rate));
    }
    assert_eq!(board.window().0, 4);
}

#[test]
fn c14_slow_calls_are_taken_out_too() {
    let mut config = config(last(2, 100, 2));
    config.slow_after = Some(secs(1));
    let mut board = Board::new(config);
    board.breaker.set_mode(Mode::Shadow);
    board.takes('F', secs(1)).takes('S', secs(1));
    assert_eq!(board.window(), (2, 1, 2));
    board.run("S");
    assert_eq!(board.window(), (2, 0, 1));
    board.run("S");
    assert_eq!(board.window(), (2, 0, 0));
}

#[test]
fn c15_failures_and_successes_of_the_last_ten() {
    let mut board = Board::new(config(last(10, 100, 1)));
    board.breaker.set_mode(Mode::Shadow);
    board.run("SFSFSFS");
    assert_eq!((board.window(), board.rate()), ((7, 3, 0), Some(42)));
    for i in 0..15 {
        board.run(if i % 4 == 0 { "F" } else { "S" });
    }
    assert_eq!(board.window(), (10, 2, 0));
}

#[test]
fn c17_successes_before_the_window_do_not_count() {
    for successes in [10, 11, 99, 1_000, 10_000] {
        let mut board = Board::new(config(last(10, 50, 10)));
        for _ in 0..successes {
            board.run("S");
        }
        board.run("FFFF CL F OP");
    }
}

#[test]
fn c18_min_calls_above_the_window_is_the_window() {
    let mut board = Board::new(config(last(10, 50, 20)));
    board.run("FFFFFFFFF CL F OP");
}

#[test]
fn what_was_reset_very_often_counts_as_before() {
    // Slots of the window remember in which of 65,535 numbered periods they were written.
    for resets in [32_770, 49_200, 65_534, 65_535, 65_536] {
        let mut board = Board::new(config(last(8, 50, 8)));
        board.run("SSFFSS");
        for _ in 0..resets {
            board.breaker.reset("again");
        }
        board.run("SSFFSSS CL F CL F OP");
        assert_eq!(board.window(), (8, 4, 0), "after {resets} resets");
    }
}
