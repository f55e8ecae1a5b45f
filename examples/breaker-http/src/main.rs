//! A breaker in front of an axum service: `demo` runs the service on a port of its own and asks it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to people")]

mod client;
mod demo;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: resurge-breaker-http-example demo";

/// Longer than the demo takes on any machine.
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args != ["demo"] {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    match tokio::time::timeout(LIMIT, demo::run()).await {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!("error: still running after {LIMIT:?}");
            ExitCode::FAILURE
        }
    }
}
