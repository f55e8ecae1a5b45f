//! Every knob changes something, and every value that makes no sense is refused.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod list;
mod recorder;

use std::time::Duration;

use recorder::Remembering;
use resurge_breaker::{
    Breaker, BreakerConfig, BreakerEvent, BreakerRegistry, BuildError, DropPolicy, FailureKind,
    HalfOpenConfig, Mode, OnMaxWait, OpenConfig, Rate, Reason, RegistryOptions, State, Trip,
    Verdict, Window,
};
use resurge_store::{Clock, SeededEntropy, VirtualClock};
use tokio::task::yield_now;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn build(config: BreakerConfig) -> (Breaker, VirtualClock) {
    let clock = VirtualClock::new();
    let builder = Breaker::builder("knobs").config(config).clock(clock.clone());
    (builder.entropy(SeededEntropy::new(7)).build().unwrap(), clock)
}

fn fail(breaker: &Breaker) {
    breaker.acquire().unwrap().failure(FailureKind::Error);
}

fn succeed(breaker: &Breaker) {
    breaker.acquire().unwrap().success();
}

#[test]
fn the_defaults_are_the_documented_ones() {
    // 5 failures, 3 successes, 30 s, 10 requests, 100 calls, factor 1.5, 5 minutes, fail fast.
    let (breaker, clock) = build(BreakerConfig::default());
    (0..9).for_each(|_| fail(&breaker));
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker);
    assert_eq!(breaker.acquire().unwrap_err().retry_after, Some(secs(30)));
    clock.advance(secs(30));
    let probes: Vec<_> = (0..3).map(|_| breaker.acquire().unwrap()).collect();
    assert!(breaker.acquire().is_err());
    probes.into_iter().for_each(resurge_breaker::Permit::success);
    assert_eq!(breaker.state(), State::Closed);
    (0..10).for_each(|_| fail(&breaker));
    clock.advance(secs(30));
    fail(&breaker);
    assert_eq!(breaker.retry_after(), Some(secs(45)));
    // Rare failures among many successes never open.
    let (breaker, _) = build(BreakerConfig::default());
    (0..4).for_each(|_| fail(&breaker));
    (0..10_000).for_each(|_| succeed(&breaker));
    fail(&breaker);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn the_presets_differ() {
    for (config, failures) in [
        (BreakerConfig::standard(), 10),
        (BreakerConfig::fast(), 3),
        (BreakerConfig::tolerant(), 20),
    ] {
        let (breaker, _) = build(config);
        (1..failures).for_each(|_| fail(&breaker));
        assert_eq!(breaker.state(), State::Closed);
        fail(&breaker);
        assert_eq!(breaker.state(), State::Open);
    }
}

#[test]
fn any_rule_opens() {
    let trip = vec![
        Trip::ConsecutiveFailures { failures: 3 },
        Trip::FailureRate { rate: Rate::HALF, window: Window::Calls(10), min_calls: 4 },
        Trip::SlowRate { rate: Rate::HALF, window: Window::time(secs(10)), min_calls: 2 },
    ];
    let config = BreakerConfig { trip, slow_after: Some(secs(1)), ..BreakerConfig::default() };
    let reason = |play: &dyn Fn(&Breaker, &VirtualClock)| {
        let (breaker, clock) = build(config.clone());
        play(&breaker, &clock);
        breaker.metrics().reason.map(|reason| reason.as_str())
    };
    assert_eq!(reason(&|b, _| (0..3).for_each(|_| fail(b))), Some("consecutive_failures"));
    let mixed = |b: &Breaker| {
        fail(b);
        succeed(b);
        fail(b);
        succeed(b);
    };
    assert_eq!(reason(&|b, _| mixed(b)), Some("failure_rate"));
    let slow = |b: &Breaker, clock: &VirtualClock| {
        for _ in 0..2 {
            let permit = b.acquire().unwrap();
            clock.advance(secs(1));
            permit.success();
        }
    };
    assert_eq!(reason(&slow), Some("slow_rate"));
    assert_eq!(reason(&|b, _| succeed(b)), None);
}

#[test]
fn jitter_takes_off_up_to_its_part() {
    let times = |jitter: f64| {
        let mut config = BreakerConfig::fast();
        config.open = OpenConfig { jitter, factor: 1.0, ..OpenConfig::default() };
        let (breaker, _) = build(config);
        (0..100)
            .map(|_| {
                breaker.reset("");
                breaker.trip("");
                breaker.retry_after().unwrap()
            })
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(times(0.0).into_iter().collect::<Vec<_>>(), [secs(30)]);
    let times = times(0.5);
    assert!(times.len() > 90);
    assert!(*times.first().unwrap() >= secs(15) && *times.last().unwrap() <= secs(30));
    assert!(*times.first().unwrap() < secs(17) && *times.last().unwrap() > secs(28));
}

#[test]
fn decay_remembers_openings_for_a_while() {
    let open = OpenConfig {
        initial: secs(10),
        factor: 2.0,
        decay: Some(secs(60)),
        ..OpenConfig::default()
    };
    let mut config = BreakerConfig { open, ..BreakerConfig::fast() };
    let opens = |breaker: &Breaker, clock: &VirtualClock, closed_for: u64| {
        clock.advance(secs(closed_for));
        breaker.trip("");
        let open_for = breaker.retry_after().unwrap();
        clock.advance(open_for);
        succeed(breaker);
        open_for.as_secs()
    };
    let (breaker, clock) = build(config.clone());
    let times = [0, 59, 59, 60, 120, 1_000].map(|closed_for| opens(&breaker, &clock, closed_for));
    assert_eq!(times, [10, 20, 40, 40, 20, 10]);
    config.open.decay = None;
    let (breaker, clock) = build(config);
    assert_eq!([0, 59, 59].map(|closed_for| opens(&breaker, &clock, closed_for)), [10, 10, 10]);
}

#[test]
fn concurrent_bounds_probes_under_way() {
    let mut config = BreakerConfig::fast();
    config.half_open = HalfOpenConfig { concurrent: Some(1), ..HalfOpenConfig::default() };
    let (breaker, _) = build(config);
    breaker.trip("");
    breaker.half_open("").unwrap();
    for _ in 0..3 {
        let probe = breaker.acquire().unwrap();
        assert!(breaker.acquire().is_err());
        probe.success();
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test]
async fn automatic_needs_no_call() {
    for automatic in [false, true] {
        let mut config = BreakerConfig::fast();
        config.half_open.automatic = automatic;
        let (breaker, clock) = build(config);
        let mut events = breaker.subscribe();
        breaker.trip("");
        yield_now().await;
        assert_eq!(clock.sleepers(), usize::from(automatic));
        // Made longer while the timer runs.
        breaker.trip_for("", secs(60));
        yield_now().await;
        clock.advance(secs(5));
        yield_now().await;
        assert!(matches!(events.recv().await, Some(BreakerEvent::Transition(_))));
        assert!(matches!(events.recv().await, Some(BreakerEvent::Rearmed { .. })));
        assert!(events.try_recv().is_none());
        clock.advance(secs(55));
        yield_now().await;
        let told = match events.try_recv() {
            Some(BreakerEvent::Transition(transition)) => Some(transition.reason),
            _ => None,
        };
        assert_eq!(told, automatic.then_some(Reason::Elapsed));
        // Closed by hand meanwhile: the timer has nothing to do.
        breaker.reset("");
        breaker.trip("");
        breaker.reset("");
        clock.advance(secs(5));
        yield_now().await;
        assert_eq!((breaker.state(), clock.sleepers()), (State::Closed, 0));
    }
}

#[test]
fn automatic_without_a_runtime_is_refused() {
    let mut config = BreakerConfig::default();
    config.half_open.automatic = true;
    let error = Breaker::builder("sync").config(config.clone()).build().unwrap_err();
    assert_eq!(error.field(), "half_open.automatic");
    let error = Breaker::new("sync").reconfigure(config).unwrap_err();
    assert_eq!(error.field(), "half_open.automatic");
}

#[test]
fn a_repair_that_takes_too_long_is_given_up() {
    let config = BreakerConfig { repair_at_most: secs(60), ..BreakerConfig::fast() };
    let (breaker, clock) = build(config);
    let mut events = breaker.subscribe();
    breaker.trip("");
    let repair = breaker.begin_repair().unwrap();
    assert!(breaker.begin_repair().is_none());
    let rejected = breaker.acquire().unwrap_err();
    assert_eq!((rejected.state, rejected.retry_after), (State::Repairing, Some(secs(60))));
    clock.advance(Duration::from_millis(59_999));
    assert!(repair.is_current() && breaker.acquire().is_err());
    clock.advance(Duration::from_millis(1));
    assert_eq!(breaker.state(), State::HalfOpen);
    breaker.acquire().unwrap().success();
    assert_eq!(breaker.state(), State::Closed);
    // It comes too late to say anything.
    assert!(!repair.succeeded());
    let reasons: Vec<_> = std::iter::from_fn(|| events.try_recv())
        .filter_map(|event| match event {
            BreakerEvent::Transition(transition) => Some(transition.reason.as_str()),
            _ => None,
        })
        .collect();
    let expected = ["manual", "repair_started", "repair_hung", "elapsed", "probes_passed"];
    assert_eq!(reasons, expected);
}

#[test]
fn a_repair_of_before_ends_no_other_one() {
    let (breaker, _) = build(BreakerConfig::fast());
    let first = breaker.begin_repair().unwrap();
    breaker.reset("by hand");
    let second = breaker.begin_repair().unwrap();
    assert!(!first.is_current() && second.is_current());
    assert!(!first.closed());
    assert_eq!(breaker.state(), State::Repairing);
    assert!(second.closed());
}

#[test]
fn a_repair_ends_as_it_says() {
    type End = fn(resurge_breaker::Repair) -> bool;
    let ends: [(End, State, Option<Duration>); 5] = [
        (resurge_breaker::Repair::succeeded, State::HalfOpen, None),
        (resurge_breaker::Repair::closed, State::Closed, None),
        (resurge_breaker::Repair::failed, State::Open, Some(Duration::from_millis(7_500))),
        (|repair| repair.failed_for(secs(3)), State::Open, Some(secs(3))),
        (
            |repair| {
                drop(repair);
                true
            },
            State::Open,
            Some(Duration::from_millis(7_500)),
        ),
    ];
    for (end, state, retry_after) in ends {
        let (breaker, _) = build(BreakerConfig::fast());
        breaker.trip("");
        assert!(end(breaker.begin_repair().unwrap()));
        assert_eq!((breaker.state(), breaker.retry_after()), (state, retry_after));
    }
}

#[test]
fn timing_makes_the_last_success_exact_and_fills_the_histogram() {
    let recorder = Remembering::default();
    let breakers = metrics::with_local_recorder(&recorder, || {
        [false, true].map(|timing| build(BreakerConfig { timing, ..BreakerConfig::default() }))
    });
    let exact = breakers.map(|(breaker, clock)| {
        succeed(&breaker);
        for _ in 0..20 {
            clock.advance(secs(1));
            succeed(&breaker);
        }
        breaker.metrics().last_success == Some(clock.now())
    });
    assert_eq!(exact, [false, true]);
    assert!(recorder.seen().contains(&"resurge_breaker_call_seconds knobs 21".to_owned()));
}

#[test]
fn what_is_measured_is_labelled_and_bounded() {
    let recorder = Remembering::default();
    let clock = VirtualClock::new();
    let breaker = metrics::with_local_recorder(&recorder, || {
        let config = BreakerConfig { slow_after: Some(secs(1)), ..BreakerConfig::fast() };
        let builder = Breaker::builder("a/b/c").config(config).clock(clock.clone());
        builder.metrics_label("all").build().unwrap()
    });
    metrics::with_local_recorder(&recorder, || {
        succeed(&breaker);
        breaker.acquire().unwrap().ignore();
        drop(breaker.acquire().unwrap());
        let slow = breaker.acquire().unwrap();
        clock.advance(secs(1));
        slow.success();
        (0..3).for_each(|_| fail(&breaker));
        assert!(breaker.acquire().is_err());
    });
    let seen = recorder.seen();
    let expected = [
        "resurge_breaker_call_seconds all 5",
        "resurge_breaker_calls_total all cancelled 1",
        "resurge_breaker_calls_total all failure 3",
        "resurge_breaker_calls_total all ignored 1",
        "resurge_breaker_calls_total all rejected 1",
        "resurge_breaker_calls_total all success 2",
        "resurge_breaker_slow_calls_total all 1",
        "resurge_breaker_state all open 1",
        "resurge_breaker_transitions_total all closed open consecutive_failures 1",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn breakers_of_one_label_are_counted_by_state_and_have_labels_of_their_own_on_request() {
    let states = |options: RegistryOptions| {
        let recorder = Remembering::default();
        metrics::with_local_recorder(&recorder, || {
            let hosts =
                BreakerRegistry::<String>::new("hosts", options.config(BreakerConfig::fast()));
            let all = ["a", "b", "c"].map(|host| hosts.get(host).unwrap());
            all.iter().take(2).for_each(|breaker| breaker.trip("a test"));
            all[0].reset("a test");
            let seen = recorder.seen();
            drop((hosts, all));
            let is_state = |line: &String| line.starts_with("resurge_breaker_state");
            assert_eq!(recorder.seen().iter().filter(|line| is_state(line)).count(), 0, "gone");
            seen.into_iter().filter(is_state).collect::<Vec<_>>()
        })
    };
    let shared = ["resurge_breaker_state hosts closed 2", "resurge_breaker_state hosts open 1"];
    assert_eq!(states(RegistryOptions::default()), shared);
    let each = [
        "resurge_breaker_state hosts/a closed 1",
        "resurge_breaker_state hosts/b open 1",
        "resurge_breaker_state hosts/c closed 1",
    ];
    assert_eq!(states(RegistryOptions::default().label_each(true)), each);
}

#[test]
fn what_is_wrong_in_a_file_is_said_for_who_wrote_it() {
    let cases = [
        (r#"{ "open": { "initial": 20 } }"#, "expected a duration with its unit, like `30s`"),
        (r#"{ "open": { "initial": "20 bars" } }"#, "`20 bars` is no duration like `30s`"),
        (r#"{ "open": { "initial": "10m" } }"#, "open.max: 5m is less than `initial`, 10m"),
        (r#"{ "half_open": { "probes": 1 } }"#, "1 to `probes` (1) are allowed (default: 3 of 3)"),
        (r#"{ "trips": [] }"#, "unknown field `trips`"),
    ];
    for (file, expected) in cases {
        let said = match serde_json::from_str::<BreakerConfig>(file) {
            Err(error) => error.to_string(),
            Ok(config) => config.check().unwrap_err().to_string(),
        };
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn shown_for_people_moments_are_dates_and_durations_have_units() {
    let (breaker, clock) = build(BreakerConfig::fast());
    (0..3).for_each(|_| fail(&breaker));
    clock.advance(Duration::from_micros(1_500_700));
    let shown = serde_json::to_value(breaker.metrics()).unwrap();
    assert_eq!(shown["circuit_open_time"], "1s 500ms");
    assert_eq!(shown["down_for"], "1s 500ms");
    assert_eq!(shown["up_since"], serde_json::Value::Null);
    for moment in ["last_failure", "state_change_time", "next_retry_time", "down_since"] {
        let text = shown[moment].as_str().unwrap();
        assert!(text.len() == "2024-01-01T12:00:00.000Z".len() && text.ends_with('Z'), "{text}");
    }
}

#[test]
fn reconfiguring_keeps_what_can_be_kept() {
    let rate = |percent, window| Trip::FailureRate {
        rate: Rate::percent(percent).unwrap(),
        window,
        min_calls: 4,
    };
    let config = |trip| BreakerConfig { trip: vec![trip], ..BreakerConfig::fast() };
    let (breaker, clock) = build(config(rate(90, Window::Calls(10))));
    for _ in 0..3 {
        fail(&breaker);
        succeed(&breaker);
    }
    // Another threshold: the counts stay.
    breaker.reconfigure(config(rate(80, Window::Calls(10)))).unwrap();
    assert_eq!(breaker.metrics().window.calls, 6);
    assert_eq!(breaker.state(), State::Closed);
    // One that is reached already: it opens.
    breaker.reconfigure(config(rate(50, Window::Calls(10)))).unwrap();
    assert_eq!(breaker.state(), State::Open);
    // Open for as long as before.
    let mut longer = config(rate(50, Window::Calls(10)));
    longer.open.initial = secs(100);
    breaker.reconfigure(longer.clone()).unwrap();
    assert_eq!(breaker.retry_after(), Some(secs(5)));
    clock.advance(secs(5));
    succeed(&breaker);
    // Another window: it begins empty; what is under way counts in it.
    fail(&breaker);
    let under_way = breaker.acquire().unwrap();
    longer.trip = vec![rate(50, Window::time(secs(10)))];
    breaker.reconfigure(longer.clone()).unwrap();
    assert_eq!(breaker.metrics().window.calls, 0);
    under_way.failure(FailureKind::Error);
    assert_eq!(breaker.metrics().window.calls, 1);
    let metrics = breaker.metrics();
    assert_eq!((metrics.total_requests, metrics.total_failures), (9, 5));
    // Nonsense changes nothing.
    let mut wrong = longer.clone();
    wrong.open.factor = 0.5;
    assert_eq!(breaker.reconfigure(wrong).unwrap_err().field(), "open.factor");
    assert_eq!(*breaker.config(), longer);
    // Windows come and go, as many as there is room for.
    let results: Vec<_> = (1..=40)
        .map(|calls| breaker.reconfigure(config(rate(50, Window::Calls(calls)))).is_ok())
        .collect();
    assert_eq!(results.iter().filter(|ok| **ok).count(), 31);
    // One that was used before is there again, and empty.
    breaker.reconfigure(config(rate(50, Window::Calls(1)))).unwrap();
    assert_eq!(breaker.metrics().window.calls, 0);
    fail(&breaker);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn reconfiguring_while_half_open_decides_what_is_decided() {
    let mut config = BreakerConfig::fast();
    config.half_open = HalfOpenConfig::default();
    let (breaker, _) = build(config);
    breaker.trip("");
    breaker.half_open("").unwrap();
    succeed(&breaker);
    breaker.reconfigure(BreakerConfig::fast()).unwrap();
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_registry_forgets_only_what_is_idle_and_clean() {
    let clock = VirtualClock::new();
    let options =
        RegistryOptions::default().config(BreakerConfig::fast()).capacity(4).idle_ttl(secs(60));
    let hosts = BreakerRegistry::<String>::on_clock("hosts", options, clock.clone());
    hosts.get("open").unwrap().trip("");
    fail(&hosts.get("failed").unwrap());
    hosts.get("forced").unwrap().set_mode(Mode::ForcedOpen);
    let held = hosts.get("held").unwrap();
    clock.advance(secs(3_600));
    let full = hosts.get("one more").unwrap_err();
    assert!(matches!(full, BuildError::RegistryFull { capacity: 4, .. }), "{full}");
    // A call under way holds it, too.
    let permit = held.acquire().unwrap();
    drop(held);
    assert!(hosts.get("one more").is_err());
    permit.success();
    hosts.get("one more").unwrap();
    assert_eq!(hosts.len(), 4);
    assert_eq!(hosts.get("open").unwrap().state(), State::HalfOpen);
    assert_eq!(hosts.get("failed").unwrap().metrics().consecutive_failures, 1);
    // Idle for long enough, and not before.
    clock.advance(secs(59));
    assert_eq!(hosts.forget_idle(), 0);
    clock.advance(secs(1));
    assert_eq!((hosts.forget_idle(), hosts.len()), (1, 3));
    // The same breaker for everybody, with the configuration of who came first.
    let own = BreakerConfig::tolerant();
    let first = hosts.get_with("own", own.clone()).unwrap();
    assert_eq!(*hosts.get("own").unwrap().config(), own);
    first.trip("");
    assert_eq!(hosts.get("own").unwrap().state(), State::Open);
    assert_eq!(hosts.all().len(), 4);
}

#[test]
fn configuration_round_trips_and_reads_as_people_write_it() {
    let mut config = BreakerConfig::tolerant();
    config.slow_after = Some(Duration::from_millis(1_500));
    config.on_drop = DropPolicy::FailureAfter(secs(3));
    config.half_open.verdict = Verdict::Rate { failure: Rate::HALF, slow: None };
    config.half_open.on_max_wait = OnMaxWait::Close;
    config.open.decay = Some(secs(90));
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<BreakerConfig>(&text).unwrap(), config);
    assert!(text.contains(r#""slow_after":"1s 500ms""#), "{text}");
    assert_eq!(serde_json::from_str::<BreakerConfig>("{}").unwrap(), BreakerConfig::default());
    for (text, says) in [
        (r#"{ "slow": "1s" }"#, "unknown field"),
        (r#"{ "slow_after": 1 }"#, "duration with its unit"),
        (r#"{ "slow_after": "fast" }"#, "no duration"),
        (
            r#"{ "trip": [{ "failure_rate": { "rate": 50, "window": { "calls": 9 }, "min_calls": 1 } }] }"#,
            "fraction",
        ),
        (r#"{ "trip": [{ "failures": 3 }] }"#, "unknown variant"),
        (r#"{ "open": { "initial": "-1s" } }"#, "no duration"),
    ] {
        let error = serde_json::from_str::<BreakerConfig>(text).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}

type Change = Box<dyn Fn(&mut BreakerConfig)>;

#[test]
fn nonsense_is_refused_and_the_field_named() {
    let rate = |window, min_calls| Trip::FailureRate { rate: Rate::HALF, window, min_calls };
    let slow = Trip::SlowRate { rate: Rate::HALF, window: Window::Calls(9), min_calls: 1 };
    let trips = |rules: Vec<Trip>| -> Change { Box::new(move |c| c.trip.clone_from(&rules)) };
    let cases: Vec<(&str, Change)> = vec![
        ("trip", trips(vec![])),
        ("trip", trips((1..=17).map(|n| rate(Window::Calls(n), 1)).collect())),
        ("trip", trips(vec![Trip::ConsecutiveFailures { failures: 0 }])),
        ("trip", trips(vec![rate(Window::Calls(9), 0)])),
        ("window", trips(vec![rate(Window::Calls(0), 1)])),
        ("window", trips(vec![rate(Window::Calls(1_000_001), 1)])),
        ("window", trips(vec![rate(Window::time(Duration::ZERO), 1)])),
        ("window", trips(vec![rate(Window::time(Duration::MAX), 1)])),
        ("window", trips(vec![rate(Window::Time { length: secs(1), slices: 0 }, 1)])),
        ("window", trips(vec![rate(Window::Time { length: secs(1), slices: 61 }, 1)])),
        ("trip", trips(vec![rate(Window::Calls(9), 1), rate(Window::Calls(9), 2)])),
        ("trip", trips(vec![slow])),
        (
            "trip",
            trips(vec![Trip::FailureCount {
                failures: 10,
                window: Window::Calls(9),
                min_calls: 1,
            }]),
        ),
        ("open.initial", Box::new(|c| c.open.initial = Duration::ZERO)),
        ("open.factor", Box::new(|c| c.open.factor = 0.99)),
        ("open.factor", Box::new(|c| c.open.factor = f64::NAN)),
        ("open.max", Box::new(|c| c.open.max = secs(29))),
        ("open.jitter", Box::new(|c| c.open.jitter = 1.1)),
        ("open.jitter", Box::new(|c| c.open.jitter = f64::NAN)),
        ("open.decay", Box::new(|c| c.open.decay = Some(Duration::ZERO))),
        ("half_open.probes", Box::new(|c| c.half_open.probes = 0)),
        ("half_open.concurrent", Box::new(|c| c.half_open.concurrent = Some(4))),
        ("half_open.concurrent", Box::new(|c| c.half_open.concurrent = Some(0))),
        ("half_open.verdict", Box::new(|c| c.half_open.verdict = Verdict::AllOf { successes: 4 })),
        (
            "half_open.verdict",
            Box::new(|c| {
                c.half_open.verdict = Verdict::Rate { failure: Rate::HALF, slow: Some(Rate::HALF) };
            }),
        ),
        ("half_open.max_wait", Box::new(|c| c.half_open.max_wait = Some(Duration::ZERO))),
        ("slow_after", Box::new(|c| c.slow_after = Some(Duration::ZERO))),
        ("call_timeout", Box::new(|c| c.call_timeout = Some(Duration::ZERO))),
        ("wait_at_most", Box::new(|c| c.wait_at_most = Duration::ZERO)),
        ("repair_at_most", Box::new(|c| c.repair_at_most = Duration::ZERO)),
        ("on_drop", Box::new(|c| c.on_drop = DropPolicy::FailureAfter(Duration::ZERO))),
    ];
    for (i, (field, change)) in cases.iter().enumerate() {
        let mut config = BreakerConfig::default();
        change(&mut config);
        let error = Breaker::builder("wrong").config(config).build().unwrap_err();
        assert_eq!(error.field(), *field, "case {i}: {error}");
    }
    assert!(BreakerConfig::default().check().is_ok());
}

#[test]
fn metrics_say_everything_the_document_asks_for() {
    let (breaker, clock) = build(BreakerConfig::fast());
    let born = clock.now();
    (0..995).for_each(|_| succeed(&breaker));
    for _ in 0..5 {
        fail(&breaker);
        succeed(&breaker);
    }
    let metrics = breaker.metrics();
    assert_eq!((metrics.total_requests, metrics.total_failures), (1_005, 5));
    assert_eq!(metrics.total_successes, 1_000);
    assert!((metrics.failure_rate - 5.0 / 1_005.0).abs() < 1e-12);
    assert_eq!((metrics.up_since, metrics.down_since), (Some(born), None));
    assert_eq!((metrics.health_check_success, metrics.next_retry_time), (None, None));
    clock.advance(secs(10));
    (0..3).for_each(|_| fail(&breaker));
    breaker.note_health(false);
    let metrics = breaker.metrics();
    assert_eq!(metrics.last_failure, Some(clock.now()));
    assert_eq!(metrics.state_change_time, clock.now());
    assert_eq!(metrics.next_retry_time, Some(clock.now().saturating_add(secs(5))));
    assert_eq!((metrics.up_since, metrics.down_since), (None, Some(clock.now())));
    assert_eq!((metrics.health_check_success, metrics.state_changes), (Some(false), 1));
    clock.advance(secs(5));
    succeed(&breaker);
    clock.advance(secs(5));
    let metrics = breaker.metrics();
    assert_eq!(metrics.circuit_open_time, secs(5));
    assert_eq!(
        metrics.last_success,
        Some(clock.now())
            .map(|now| { resurge_store::Timestamp::from_millis(now.as_millis() - 5_000) })
    );
    let json = serde_json::to_value(&metrics).unwrap();
    assert_eq!((&json["name"], &json["state"]), (&"knobs".into(), &"closed".into()));
}

#[test]
fn events_come_in_order_and_a_hook_may_use_the_breaker() {
    let log = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let slot = std::sync::Arc::new(parking_lot::Mutex::new(None::<Breaker>));
    let (hook_log, hook_slot) = (log.clone(), slot.clone());
    let breaker = Breaker::builder("hook")
        .config(BreakerConfig::fast())
        .on_event(move |event| {
            if let BreakerEvent::Transition(transition) = event {
                hook_log.lock().push((transition.number, transition.to));
                let breaker = hook_slot.lock().clone();
                if let (State::Open, Some(breaker)) = (transition.to, breaker) {
                    breaker.half_open("from the hook").unwrap();
                }
            }
        })
        .build()
        .unwrap();
    *slot.lock() = Some(breaker.clone());
    let mut events = breaker.subscribe();
    breaker.trip("");
    *slot.lock() = None;
    assert_eq!(*log.lock(), [(1, State::Open), (2, State::HalfOpen)]);
    let mut numbers = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    breaker.trip("");
                    breaker.reset("");
                }
            });
        }
    });
    while let Some(event) = events.try_recv() {
        match event {
            BreakerEvent::Transition(transition) => numbers.push(transition.number),
            other => panic!("{other:?}"),
        }
    }
    let last = *numbers.last().unwrap();
    assert_eq!(numbers, (1..=last).collect::<Vec<_>>());
    // Who is too slow hears it.
    for _ in 0..200 {
        breaker.trip("");
        breaker.reset("");
    }
    assert!(matches!(events.try_recv(), Some(BreakerEvent::Lagged(144))));
}
