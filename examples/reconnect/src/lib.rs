//! A page with a counter, over a WebSocket: its server may be killed at any point, the page comes back with its state.

mod connection;
mod hold;
mod service;

pub use connection::Counter;
pub use hold::{Hold, Point};
pub use service::service;
