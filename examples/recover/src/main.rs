//! Failed runs are recovered: by another process, again and again, by one at a time.
//!
//! `demo` runs everything in child processes, which the other commands are.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to people")]

mod child;
mod demo;

use std::error::Error;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: resurge-recover-example demo
       resurge-recover-example run|recover|both DIR ID
       resurge-recover-example at-once DIR EFFECTS
       resurge-recover-example chain DIR EFFECTS PROCESS";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["demo"] => demo::run(),
        ["run", dir, id] => child::run(dir, id),
        ["recover", dir, id] => child::recover(dir, id),
        ["both", dir, id] => child::both(dir, id),
        ["at-once", dir, effects] => child::at_once(dir, effects),
        ["chain", dir, effects, process] => child::chain(dir, effects, process),
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
