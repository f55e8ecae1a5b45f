//! A pipeline of three steps that is killed in the second one, and carries on.
//!
//! `demo` runs both forms of the story in child processes; `attempt` is what runs in them.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to people")]

mod attempt;
mod demo;

use std::error::Error;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: resurge-crash-recovery-example demo
       resurge-crash-recovery-example attempt fail|hang|recover|resume|look DIR EFFECTS";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["demo"] => demo::run(),
        ["attempt", what, dir, effects] => attempt::run(what, dir, effects),
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
