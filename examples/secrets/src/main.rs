//! A flow full of secrets: killed, met with a wrong key, finished; and no file holds one of them.
//!
//! `demo` runs everything in child processes, which the other commands are. KEYS are `none`, `right`,
//! `wrong`, `both` or `new`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to people")]

mod child;
mod demo;

use std::error::Error;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: resurge-secrets-example demo
       resurge-secrets-example fail|hang|finish|rotate|again DIR EFFECTS KEYS";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["demo"] => demo::run(),
        ["fail", dir, effects, keys] => child::fail(dir, effects, keys),
        ["hang", dir, effects, keys] => child::hang(dir, effects, keys),
        ["finish", dir, effects, keys] => child::finish(dir, effects, keys),
        ["rotate", dir, effects, keys] => child::rotate(dir, effects, keys),
        ["again", dir, effects, keys] => child::again(dir, effects, keys),
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
