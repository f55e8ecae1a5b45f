//! Developer commands: demo, test, ci, bench, crash, powercut, docs. `cargo xtask --help` lists them.
//!
//! CI calls nothing else, so what is green here is green there.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool talks to its user"
)]

mod ci;
mod cli;
mod demo;
mod evidence;
mod steps;
#[cfg(test)]
mod tidy;
mod transcript;
mod workspace;

use std::process::ExitCode;

use cli::{Command, Parsed};

/// What went wrong, for a person: developer commands have no caller that would match on it.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match cli::parse(&args) {
        Ok(Parsed::Help(text)) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Ok(Parsed::Run(command)) => match run(command) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("xtask: {error}");
                ExitCode::FAILURE
            }
        },
        Err(usage) => {
            eprintln!("xtask: {usage}\n\nRun `cargo xtask --help` for the commands.");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo { name, list, update, screenshots } => {
            demo::command(name.as_deref(), list, update, screenshots.as_deref())
        }
        Command::Test => ci::test(),
        Command::Ci { skip, keep_going } => ci::ci(&skip, keep_going),
        Command::Bench { args } => ci::bench(&args),
        Command::Crash { cycles, victim } => ci::crash(cycles, victim),
        Command::Powercut { cycles, sessions } => ci::powercut(cycles, sessions),
        Command::Docs { open } => ci::docs(open),
        Command::Fmt => ci::fmt(),
        Command::Lint => ci::lint(),
    }
}
