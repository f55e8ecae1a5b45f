//! The service: one route that needs the backend, behind the breaker, and one that does not.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use resurge_breaker::{
    Breaker, BreakerConfig, BreakerLayer, FailureKind, HalfOpenConfig, OpenConfig, Outcome,
    Refused, Trip, Verdict,
};

use crate::backend::Backend;

/// The breaker's name.
pub const BACKEND: &str = "payment-gateway";

/// Open after three failures in a row, for 30 s, then 60 s, ...; two probes must succeed to close it.
pub fn config() -> BreakerConfig {
    BreakerConfig {
        trip: vec![Trip::ConsecutiveFailures { failures: 3 }],
        open: OpenConfig { initial: Duration::from_secs(30), factor: 2.0, ..OpenConfig::default() },
        half_open: HalfOpenConfig {
            probes: 2,
            verdict: Verdict::AllOf { successes: 2 },
            ..HalfOpenConfig::default()
        },
        ..BreakerConfig::default()
    }
}

/// `/charge` calls the backend, behind the breaker; `/health` is answered whatever the circuit does.
pub fn service(breaker: Breaker, backend: Arc<Backend>) -> Router {
    let breaker = BreakerLayer::new(breaker).classify(classify).on_refused(refuse);
    let charge = Router::new().route("/charge", get(charge)).layer(breaker).with_state(backend);
    charge.route("/health", get(|| async { "alive\n" }))
}

async fn charge(State(backend): State<Arc<Backend>>) -> Response {
    match backend.charge().await {
        Ok(()) => "charged\n".into_response(),
        Err(down) => (StatusCode::BAD_GATEWAY, format!("{down}\n")).into_response(),
    }
}

/// An axum service never fails; its failures are responses.
fn classify(result: &Result<Response, Infallible>) -> Outcome {
    match result {
        Ok(response) if response.status().is_server_error() => Outcome::Failure(FailureKind::Error),
        _ => Outcome::Success,
    }
}

/// What is answered instead of calling: when to come back, in whole seconds, never too early.
#[expect(clippy::needless_pass_by_value, reason = "as the breaker calls it")]
fn refuse(why: Refused) -> Response {
    if let Refused::TimedOut(_) = why {
        return (StatusCode::GATEWAY_TIMEOUT, "the gateway does not answer\n").into_response();
    }
    let body = "not now\n";
    match why.retry_after() {
        Some(after) => {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, seconds.to_string())], body)
                .into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, body).into_response(),
    }
}
