//! How the service is supervised. Each act of the demo differs in what it is about.

use std::sync::Arc;
use std::time::Duration;

use resurge::breaker::{FailureKind, HalfOpenConfig, OpenConfig, Rate, Trip, Verdict, Window};
use resurge::supervisor::{
    Builtin, CustomStrategy, Delay, Failure, HealthConfig, Intensity, RecoveryStrategy,
    StrategySettings,
};
use resurge::{BreakerConfig, SupervisorConfig};

use crate::plugin::Plugin;

/// The service's name.
pub const NAME: &str = "mailer";

/// The acts of the demo.
pub const ACTS: [&str; 7] =
    ["crash", "hang", "slow", "refused", "killed-open", "killed-repairing", "crash-loop"];

/// For how long the circuit is open when the supervising process is killed, in milliseconds.
pub const OPEN_MS: u64 = 3_000;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The configuration of one act.
pub fn config(act: &str) -> SupervisorConfig {
    let mut config = SupervisorConfig {
        breaker: breaker(),
        health_checking: false,
        // Both are short, so that the demo is.
        retry: Delay { initial: ms(200), factor: 1.0, max: ms(200) },
        relapse_window: ms(300),
        ..SupervisorConfig::default()
    };
    let restart = config.strategies.entry("restart".to_owned()).or_default();
    restart.pause = Duration::ZERO;
    match act {
        // Nobody calls: health checks notice.
        "hang" => {
            config.health_checking = true;
            config.health = HealthConfig {
                interval: ms(100),
                timeout: ms(1_000),
                max_failures: 2,
                ..HealthConfig::default()
            };
        }
        "refused" => {
            config.breaker.open.initial = ms(1_500);
            let suspend = Delay { initial: ms(500), ..Delay::default() };
            let backoff = StrategySettings { suspend, ..StrategySettings::default() };
            config.strategies.insert("backoff".to_owned(), backoff);
        }
        "killed-open" => config.breaker.open.initial = ms(OPEN_MS),
        "killed-repairing" => {
            config.breaker.open.initial = ms(OPEN_MS);
            restart.pause = Duration::from_secs(20);
            // Probes come first.
            config.retry = Delay { initial: Duration::from_secs(60), ..Delay::default() };
        }
        "crash-loop" => {
            config.breaker.open.initial = ms(OPEN_MS);
            config.max_attempts = 100;
            config.intensity = Intensity { repairs: 3, period: Duration::from_secs(600) };
            restart.pause = Duration::from_secs(20);
            for other in Builtin::ALL.into_iter().filter(|other| *other != Builtin::Restart) {
                config.strategies.entry(other.name().to_owned()).or_default().enabled = false;
            }
        }
        _ => {}
    }
    config
}

/// Three failures in a row open the circuit, and so do slow answers; two probes close it.
fn breaker() -> BreakerConfig {
    BreakerConfig {
        trip: vec![
            Trip::ConsecutiveFailures { failures: 3 },
            Trip::SlowRate { rate: Rate::HALF, window: Window::Calls(4), min_calls: 4 },
        ],
        open: OpenConfig { initial: ms(10_000), factor: 1.0, ..OpenConfig::default() },
        half_open: HalfOpenConfig {
            probes: 2,
            verdict: Verdict::AllOf { successes: 2 },
            ..HalfOpenConfig::default()
        },
        slow_after: Some(ms(800)),
        ..BreakerConfig::default()
    }
}

/// A strategy of our own, tried first for what takes too long: tells the service to calm down. It says
/// that it did.
pub fn calm_down(plugin: Arc<Plugin>) -> impl RecoveryStrategy {
    let ask = move |_| {
        let plugin = Arc::clone(&plugin);
        async move { Ok(plugin.ask("calm down").await.map(drop)?) }
    };
    let may_help = |failure: &Failure| failure.kind == FailureKind::Timeout && failure.recoverable;
    CustomStrategy::new("calm_down", 150, may_help, ask)
}
