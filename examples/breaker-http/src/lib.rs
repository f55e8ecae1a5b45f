//! An axum service with a circuit breaker in front: while its backend fails, the breaker answers.

mod backend;
mod service;

pub use backend::{Backend, Down};
pub use service::{BACKEND, config, service};
