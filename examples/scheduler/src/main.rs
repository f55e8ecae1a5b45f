//! A job scheduler as a journaled state machine that survives kill -9.
//!
//! `demo` runs every scenario against real child processes that are really killed; `serve` is what
//! runs in them; `status` shows what a directory holds.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to people")]

mod demo;
mod serve;

use std::error::Error;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: resurge-scheduler-example demo
       resurge-scheduler-example serve DIR [--workers N] [--effects FILE] [--block-from N]
       resurge-scheduler-example status DIR";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["demo"] => demo::run(),
        ["serve", dir, options @ ..] => serve::run(dir, options),
        ["status", dir] => serve::status(dir),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
