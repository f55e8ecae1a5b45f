//! What other breakers got wrong, each as a test: D those of today's crates, R those of the recovery manager
//! this one follows. D2, a window of time that looks at every call each time, is a matter of speed: see the
//! measurements. Others stand where their scenario is: C68 an open circuit that polls what is behind it, C69
//! a fresh state with every layer.

use std::sync::atomic::{AtomicU32, Ordering};

use resurge_breaker::{Breaker, BreakerConfig, Mode, State};
use resurge_store::VirtualClock;

use crate::board::{Board, all_of, config, in_a_row, last, within};

#[test]
fn d1_a_window_of_calls_forgets_the_oldest() {
    let mut board = Board::new(config(last(10, 50, 10)));
    for _ in 0..1_000 {
        board.run("SSSSSSFSSS CL");
    }
    assert_eq!(board.window(), (10, 1, 0));
}

#[test]
fn d3_a_late_success_closes_nothing() {
    let mut config = config(in_a_row(1));
    config.half_open = all_of(2);
    let mut board = Board::new(config);
    board.run("acq acq acq F OP okS OP +5s acq HO okS HO okS HO");
    assert_eq!(board.breaker.metrics().window.calls, 0);
}

#[test]
fn d4_panics_and_dropped_calls_are_recorded() {
    let mut config = config(in_a_row(50));
    config.on_drop = resurge_breaker::DropPolicy::FailureAfter(crate::board::ms(1));
    let mut board = Board::new(config);
    for _ in 0..25 {
        board.run("acq +1ms rel");
        let call = || board.breaker.call(|| -> Result<(), ()> { panic!("on purpose") });
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err());
    }
    board.run("OP");
    assert_eq!(board.breaker.metrics().total_failures, 50);
}

#[test]
fn d6_r4_of_a_hundred_at_once_half_open_admits_its_probes() {
    let mut config = config(in_a_row(1));
    config.half_open = all_of(3);
    let mut board = Board::new(config);
    for round in 1..=20 {
        board.run("F OP +5s");
        let (admitted, together) = (AtomicU32::new(0), std::sync::Barrier::new(100));
        std::thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    together.wait();
                    let permit = board.breaker.acquire();
                    together.wait();
                    if let Ok(permit) = permit {
                        admitted.fetch_add(1, Ordering::SeqCst);
                        permit.success();
                    }
                });
            }
        });
        assert_eq!(admitted.into_inner(), 3);
        board.run("CL");
        assert_eq!(board.rejected(), round * 97);
    }
}

#[test]
fn d7_forced_open_does_not_expire() {
    let mut board = Board::new(config(in_a_row(1)));
    board.run("F OP");
    board.breaker.set_mode(Mode::ForcedOpen);
    board.run("+10000h np! OP");
    assert_eq!(board.breaker.retry_after(), None);
}

#[test]
fn d9_time_is_the_clocks_one_was_given() {
    for trip in [in_a_row(2), last(2, 100, 2), within(10, 100, 2)] {
        let clock = VirtualClock::new();
        let mut config = config(trip);
        config.timing = true;
        let builder = Breaker::builder("clock").config(config).clock(clock.clone());
        let breaker = builder.build().unwrap();
        for _ in 0..2 {
            assert!(breaker.call(|| Err::<(), _>(())).is_err());
        }
        assert_eq!(breaker.retry_after(), Some(crate::board::secs(5)));
        clock.advance(crate::board::secs(5));
        assert_eq!(breaker.state(), State::HalfOpen);
    }
}

#[test]
fn r2_rare_failures_do_not_add_up_for_ever() {
    let mut board = Board::new(BreakerConfig::default());
    for _ in 0..200 {
        board.run("F");
        for _ in 0..50 {
            board.run("S");
        }
        board.run("CL");
    }
    assert_eq!(board.breaker.metrics().total_failures, 200);
}

#[test]
fn r3_totals_agree_after_closing_and_min_calls_protects_again() {
    let mut board = Board::new(BreakerConfig::default());
    for round in 1..=2 {
        board.run("FFFFFFFFF CL F OP np! +30s SSS CL");
        let metrics = board.breaker.metrics();
        let totals = (metrics.total_requests, metrics.total_failures, metrics.total_successes);
        assert_eq!(totals, (13 * round, 10 * round, 3 * round));
        assert_eq!(metrics.rejected, round);
    }
}
