//! HTTP: a layer that recovers the session of a request, hands it to the handler, saves it, and gives the client its
//! token.

mod carrier;
#[cfg(feature = "axum")]
mod extract;
mod layer;
mod recovery;

pub use carrier::{Cookie, SameSite};
pub use layer::{SessionLayer, SessionService};
pub use recovery::{Recovery, RecoveryStatus};
