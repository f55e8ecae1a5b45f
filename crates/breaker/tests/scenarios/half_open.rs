//! Half-open: C40 to C53.

use resurge_breaker::{OnMaxWait, State, Trip, Verdict, Window};

use crate::board::{Board, all_of, config, in_a_row, percent, rate_of, secs};

fn half_open(probes: resurge_breaker::HalfOpenConfig) -> Board {
    let mut config = config(in_a_row(1));
    config.half_open = probes;
    let mut board = Board::new(config);
    board.run("F OP +5s");
    board.went();
    board
}

#[test]
fn c40_a_released_permit_makes_room() {
    half_open(all_of(4)).run("acq acq acq acq acq! acq! rel acq acq!");
}

#[test]
fn c42_too_many_failed_probes_open() {
    let mut board = half_open(rate_of(4, 50));
    board.run("FFS HO F OP");
    assert_eq!(board.window(), (4, 3, 0));
    assert_eq!(board.rate(), Some(75));
}

#[test]
fn c43_few_failed_probes_close() {
    let mut board = half_open(rate_of(4, 50));
    board.run("FSS HO S CL");
    assert_eq!(board.window(), (0, 0, 0));
}

#[test]
fn c45_ignored_probes_do_not_count() {
    half_open(rate_of(4, 50)).run("SSSI HO F CL");
    half_open(rate_of(4, 50)).run("IIII HO SSS HO S CL");
}

#[test]
fn c48_hanging_probes_keep_others_out() {
    let mut board = half_open(all_of(3));
    board.run("acq acq acq np! np! np! np! np!");
    assert_eq!(board.rejected(), 5);
}

#[test]
fn c49_one_probe_others_rejected_until_it_fails() {
    let mut board = half_open(all_of(1));
    board.run("acq np! +3s np! okF OP np! +5s acq HO");
    assert_eq!(board.went(), [State::HalfOpen, State::Open, State::HalfOpen]);
}

#[test]
fn c50_a_cancelled_probe_is_never_stuck() {
    half_open(all_of(1)).run("acq rel +5s S CL");
    half_open(all_of(1)).run("acq rel S CL");
}

#[test]
fn c51_probes_that_hang_are_given_up() {
    let mut probes = all_of(2);
    probes.max_wait = Some(secs(1));
    let mut board = half_open(probes.clone());
    board.run("acq acq +999ms np! HO +1ms np! OP +5s S S CL");
    probes.on_max_wait = OnMaxWait::Close;
    half_open(probes).run("acq acq +999ms np! +1ms acq CL");
}

#[test]
fn a_slow_trickle_of_probes_does_not_hang() {
    let mut probes = all_of(3);
    probes.max_wait = Some(secs(1));
    half_open(probes).run("S +1h S +1h HO S CL");
}

#[test]
fn c53_late_results_do_not_decide() {
    let mut config = config(in_a_row(1));
    config.half_open = all_of(2);
    let mut board = Board::new(config);
    board.run("acq acq F OP +5s acq HO");
    let early = board.held.remove(0);
    early.success();
    assert_eq!(board.window(), (0, 0, 0));
    board.run("HO okF HO okS S CL");
}

#[test]
fn a_probe_of_an_earlier_cycle_gives_nothing_back() {
    let mut probes = all_of(1);
    probes.max_wait = Some(secs(1));
    // The hung probe of the first cycle comes back in the second one, whose place is taken.
    let mut board = half_open(probes);
    board.run("acq +1s np! OP +5s acq np!");
    drop(board.held.remove(0));
    board.run("np! okS CL");
}

#[test]
fn slow_probes_open_although_they_succeed() {
    let slow = Trip::SlowRate { rate: percent(50), window: Window::Calls(4), min_calls: 4 };
    let mut config = config(slow);
    config.slow_after = Some(secs(1));
    for (probes, verdict) in [
        (3, Verdict::AllOf { successes: 3 }),
        (3, Verdict::Rate { failure: percent(50), slow: Some(percent(50)) }),
    ] {
        config.half_open.probes = probes;
        config.half_open.verdict = verdict;
        let mut board = Board::new(config.clone());
        board.breaker.trip("slow");
        board.run("+5s S").takes('S', secs(1)).takes('S', secs(1)).run("OP");
        board.run("+5s SS").takes('S', secs(1)).run("CL");
    }
}
