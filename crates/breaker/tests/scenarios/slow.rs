//! Slow calls: C31, C32.

use resurge_breaker::{Trip, Window};

use crate::board::{Board, config, in_a_row, ms, percent, secs};

fn board() -> Board {
    let trip = Trip::SlowRate { rate: percent(50), window: Window::Calls(5), min_calls: 5 };
    let mut config = config(trip);
    config.slow_after = Some(secs(4));
    Board::new(config)
}

#[test]
fn c31_too_many_slow_calls_open() {
    let mut board = board();
    board.takes('F', secs(5)).takes('S', secs(5));
    board.run("F").takes('S', secs(5)).run("CL");
    board.takes('S', secs(5)).run("OP");
    assert_eq!(board.window(), (5, 2, 4));
    let slow = board.breaker.metrics().window.slow_rate.unwrap();
    assert!((slow - 0.8).abs() < 1e-9);
}

#[test]
fn c32_slowness_is_measured_by_the_clock() {
    let mut board = board();
    for seconds in [5, 5, 1, 1] {
        board.takes('S', secs(seconds)).run("CL");
    }
    board.takes('S', secs(5)).run("OP");
    let slow = board.breaker.metrics().window.slow_rate.unwrap();
    assert!((slow - 0.6).abs() < 1e-9);
}

#[test]
fn exactly_the_limit_is_slow() {
    let mut board = board();
    board.takes('S', ms(3_999));
    assert_eq!(board.breaker.metrics().slow, 0);
    board.takes('S', secs(4));
    assert_eq!(board.breaker.metrics().slow, 1);
}

#[test]
fn a_slow_success_ends_a_streak() {
    let mut config = config(in_a_row(2));
    config.slow_after = Some(secs(1));
    let mut board = Board::new(config);
    board.run("F").takes('S', secs(2)).run("F CL F OP");
}
