//! A service in a child process that breaks in every way, and what its supervisor needs to repair it.
//!
//! [`serve`] is the service: a process with a TCP port that crashes, hangs, gets slow and goes deaf when
//! it is told to. [`Plugin`] starts, ends and asks it, and is what is supervised. [`config`] says how.

mod config;
mod plugin;
mod service;

pub use config::{ACTS, NAME, OPEN_MS, calm_down, config};
pub use plugin::Plugin;
pub use service::{CANNOT_START, serve, traces};
