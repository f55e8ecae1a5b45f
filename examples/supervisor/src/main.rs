//! A service breaks in every way, its supervisor repairs it, and is killed while it does.
//!
//! `demo` starts, tells and kills the other processes: `supervise` is the supervising one, which starts
//! `service`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to people")]

mod audit;
mod demo;
mod life;
mod supervise;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: resurge-supervisor-example demo
       resurge-supervisor-example supervise DIR ACT
       resurge-supervisor-example service DIR";

#[tokio::main(flavor = "current_thread")]
async fn service(dir: &Path) -> Result<()> {
    Ok(resurge_supervisor_example::serve(dir).await?)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["demo"] => demo::run(),
        ["supervise", dir, act] => supervise::run(Path::new(dir), act),
        ["service", dir] => service(Path::new(dir)),
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
