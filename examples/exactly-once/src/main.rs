//! A step runs once for each input, whatever runs and processes ask for it.
//!
//! `demo` runs everything in child processes; `sign-up` is what runs in them.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to people")]

mod child;
mod demo;

use std::error::Error;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: resurge-exactly-once-example demo
       resurge-exactly-once-example sign-up global|workflow NAME RUN DIR ACCOUNTS";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["demo"] => demo::run(),
        ["sign-up", share, name, run, dir, accounts] => child::run(share, name, run, dir, accounts),
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
