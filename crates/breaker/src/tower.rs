//! The breaker as a tower layer.

mod future;
mod layer;
mod refused;
mod service;

pub use future::BreakerFuture;
pub use layer::BreakerLayer;
pub use refused::{AsError, AsResponse, OnRefused, Refused};
pub use service::BreakerService;
