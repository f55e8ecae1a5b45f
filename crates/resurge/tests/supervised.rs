//! Breakers and supervisor of the app, on its store.
#![cfg(all(feature = "sled", feature = "supervisor"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use resurge::breaker::{RegistryOptions, State};
use resurge::store::BoxFuture;
use resurge::supervisor::{BoxError, CustomStrategy, Health, Repairable};
use resurge::{BreakerConfig, Error, Resurge, SupervisorConfig};

struct Plugin;

impl Repairable for Plugin {
    fn shutdown(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async { Ok(()) })
    }
    fn load(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async { Ok(()) })
    }
    fn health(&self) -> BoxFuture<'_, Result<Health, BoxError>> {
        Box::pin(async { Ok(Health::healthy()) })
    }
}

#[tokio::test]
async fn a_breaker_is_one_for_all_who_ask_and_open_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let app = Resurge::open(dir.path().join("state")).await.unwrap();
    let one = app.breaker("payments").await.unwrap();
    let same = app.breaker_with("payments", BreakerConfig::fast()).await.unwrap();
    one.trip("down");
    assert_eq!(same.state(), State::Open);
    app.shutdown().await.unwrap();
    assert!(matches!(app.breaker("payments").await, Err(Error::ShutDown)));

    let app = Resurge::open(dir.path().join("state")).await.unwrap();
    app.breakers().await.unwrap();
    let status = serde_json::to_value(app.status()).unwrap();
    assert_eq!(status["parts"][0]["kind"], "breakers");
    assert_eq!(status["parts"][0]["breakers"][0]["name"], "app/payments");
    assert_eq!(status["parts"][0]["breakers"][0]["state"], "open");
    assert_eq!(app.breaker("payments").await.unwrap().state(), State::Open);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_was_open_before_a_restart_is_configured_as_its_user_says() {
    let breaker =
        BreakerConfig { repair_at_most: Duration::from_secs(99), ..BreakerConfig::fast() };
    let config = SupervisorConfig { breaker: breaker.clone(), ..SupervisorConfig::default() };
    let dir = tempfile::tempdir().unwrap();
    let app = Resurge::open(dir.path().join("state")).await.unwrap();
    for name in ["mailer", "payments"] {
        app.breaker(name).await.unwrap().trip("down");
    }
    app.shutdown().await.unwrap();

    let app = Resurge::builder().supervisor(config).open(dir.path().join("state")).await.unwrap();
    let mailer = app.supervisor().await.unwrap().register("mailer", Plugin).unwrap();
    assert_eq!(*mailer.config(), breaker);
    let payments = app.breaker_with("payments", BreakerConfig::tolerant()).await.unwrap();
    assert_eq!(*payments.config(), BreakerConfig::tolerant());
    assert_eq!(payments.state(), State::Open);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_options_of_breakers_are_those_of_the_builder() {
    let options = RegistryOptions::default().config(BreakerConfig::fast());
    let app = Resurge::builder().breakers(options).in_memory();
    let breaker = app.breaker("x").await.unwrap();
    assert_eq!(*breaker.config(), BreakerConfig::fast());
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_supervisor_runs_over_the_apps_breakers_and_ends_with_the_app() {
    let config = SupervisorConfig { auto_recovery: false, ..SupervisorConfig::default() };
    let app = Resurge::builder().supervisor(config).in_memory();
    let breaker = app.breaker("mailer").await.unwrap();
    let manager = app.supervisor().await.unwrap();
    manager.register("mailer", Plugin).unwrap();
    breaker.trip("down");
    assert_eq!(manager.breaker("mailer").unwrap().state(), State::Open, "the same circuit");
    let again = app.supervisor().await.unwrap();
    assert!(again.breaker("mailer").is_some(), "the same supervisor");
    let status = serde_json::to_value(app.status()).unwrap();
    let parts = status["parts"].as_array().unwrap();
    let part = parts.iter().find(|part| part["kind"] == "supervisor").unwrap();
    assert_eq!((&part["running"], &part["auto_recovery"]), (&true.into(), &false.into()));
    assert_eq!(part["plugins"]["mailer"]["circuit_breaker"]["state"], "open");
    app.shutdown().await.unwrap();
    assert!(!manager.status().running);
    assert!(matches!(app.supervisor().await, Err(Error::ShutDown)));
}

#[tokio::test]
async fn a_strategy_of_ones_own_is_known_before_the_configuration_names_it() {
    let own = || CustomStrategy::new("own", 1, |_| true, |_| async { Ok(()) });
    let default_strategy = Some("own".to_owned());
    let config = SupervisorConfig { default_strategy, ..SupervisorConfig::default() };
    let app = Resurge::builder().supervisor(config.clone()).strategy(own()).in_memory();
    assert!(app.supervisor().await.is_ok());
    app.shutdown().await.unwrap();
    let app = Resurge::builder().supervisor(config).in_memory();
    assert!(matches!(app.supervisor().await, Err(Error::Supervisor(_))));
    app.shutdown().await.unwrap();
}
